//! `length`: characters, words, sentences or tokens of the text within bounds.

use crate::finding::Note;
use crate::json::each_text;
use crate::params::{Params, Problem};
use crate::text::sentences::{Dot, dot};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise, Step};
use serde_json::Value;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Report};

const NAME: &str = "length";
const UNITS: &[&str] = &["chars", "words", "sentences", "tokens"];

#[derive(Clone, Copy, Debug)]
struct Bound {
    unit: &'static str,
    min: usize,
    max: usize,
}

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "characters, words, sentences or tokens within bounds",
    kind: Kind::Structural,
    stream: "early",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Length {
    severity: Severity,
    bounds: Vec<Bound>,
}

/// Parameters: `chars`, `words`, `sentences`, `tokens` (estimated at four bytes each), each a map with
/// `min` and/or `max`.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, UNITS)?;
    let mut bounds = Vec::new();
    for unit in UNITS.iter().copied() {
        let Some(bound) = params.nested(unit, &["min", "max"])? else { continue };
        let (min, max) = (bound.count("min")?, bound.count("max")?);
        let (min, max) = match (min, max) {
            (None, None) => return Err(Problem::new(unit, "has no bound", "`min`, `max` or both")),
            (min, max) => (min.unwrap_or(0), max.unwrap_or(usize::MAX)),
        };
        if min > max {
            return Err(Problem::new(unit, format!("min {min} is above max {max}"), "min at most max"));
        }
        bounds.push(Bound { unit, min, max });
    }
    if bounds.is_empty() {
        return Err(Problem::new("", "no bound is given", format!("at least one of {}", UNITS.join(", "))));
    }
    Ok(Arc::new(Length { severity, bounds }))
}

/// Counts everything at once, piece by piece. No count falls when text is added.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    bytes: usize,
    chars: usize,
    words: usize,
    in_word: bool,
    /// Sentences that have ended, whether one has begun since, and whether the last character may end it.
    sentences: usize,
    open: bool,
    /// What the last character says of the end of the sentence.
    ending: Option<Dot>,
    /// A sentence has ended if the next word begins with a capital.
    pending: bool,
    word: Word,
}

/// The beginning of the word that is being read: as much of it as abbreviations have.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    letters: [u8; 8],
    /// Letters so far; more than there is room for where it is no abbreviation.
    len: usize,
    capital: bool,
    /// No other stands before it in its sentence.
    first: bool,
}

impl Word {
    fn push(&mut self, c: char) {
        if self.len == 0 {
            self.capital = c.is_uppercase();
        }
        match (self.letters.get_mut(self.len), u8::try_from(c)) {
            (Some(letter), Ok(byte)) if byte.is_ascii() => {
                *letter = byte.to_ascii_lowercase();
                self.len = self.len.saturating_add(1);
            }
            _ => self.len = usize::MAX,
        }
    }

    /// What a dot behind it means.
    fn dot(&self) -> Dot {
        let word = self.letters.get(..self.len).and_then(|l| std::str::from_utf8(l).ok()).unwrap_or("");
        let numbers = self.first && (1..=3).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
        let initial = self.capital && word.len() == 1 && word != "i";
        if numbers || initial { Dot::NeverEnds } else { dot(word) }
    }
}

impl Counter {
    fn push(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        for c in text.chars() {
            self.chars = self.chars.saturating_add(1);
            let white = c.is_whitespace();
            if !white && !self.in_word {
                self.words = self.words.saturating_add(1);
            }
            self.in_word = !white;
            self.sentence(c, white);
        }
    }

    /// A run of text ends as a sentence with `.`, `!` or `?` before a space or the end, or with their
    /// full-width forms, unless the dot belongs to an abbreviation, an initial or a number that opens the line; text
    /// after the last such end counts as one more.
    fn sentence(&mut self, c: char, white: bool) {
        let wide = matches!(c, '。' | '！' | '？');
        let ends = wide || white && self.ending == Some(Dot::Ends);
        if ends && self.open {
            self.sentences = self.sentences.saturating_add(1);
            self.open = false;
        }
        self.pending = self.pending && !ends || white && self.ending == Some(Dot::SeldomEnds);
        if c.is_alphanumeric() {
            if std::mem::take(&mut self.pending) && c.is_uppercase() && self.open {
                self.sentences = self.sentences.saturating_add(1);
                self.word.first = true;
            }
            if !self.open {
                self.word.first = true;
            }
            self.open = true;
        }
        self.ending = match c {
            '!' | '?' => Some(Dot::Ends),
            '.' => Some(self.word.dot()),
            _ => None,
        };
        if white || matches!(c, '(' | '[' | '"' | '“') {
            // What follows is no first word any more, unless nothing has begun yet.
            self.word = Word::default();
        } else {
            self.word.push(c);
        }
    }

    fn get(&self, unit: &str) -> usize {
        match unit {
            "chars" => self.chars,
            "words" => self.words,
            "sentences" => self.sentences.saturating_add(usize::from(self.open)),
            _ => self.bytes.div_ceil(4),
        }
    }
}

impl Bound {
    fn judge(self, n: usize, severity: Severity, ended: bool) -> Option<Note> {
        let (code, want) = if n > self.max {
            ("too_long", format!("at most {}", self.max))
        } else if n < self.min && ended {
            ("too_short", format!("at least {}", self.min))
        } else {
            return None;
        };
        let message = format!("the answer has {n} {}, {want} are asked for", self.unit);
        Some(Note::new(NAME, severity, code, &message).expected(want).actual(n))
    }
}

/// The counts of a growing text. Too much of it is certain early, enough of it only at the end.
struct Growth {
    severity: Severity,
    bounds: Vec<Bound>,
    counter: Counter,
}

impl Growing for Growth {
    fn push(&mut self, delta: &str) -> Step {
        self.counter.push(delta);
        let long = self.bounds.iter().find_map(|b| b.judge(self.counter.get(b.unit), self.severity, false));
        match long {
            Some(note) => Step::Reject(Box::new(note.into_finding())),
            None => Step::Continue { safe_up_to: 0 },
        }
    }
}

impl Check for Length {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        Promise::Early
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        let (severity, bounds) = (self.severity, self.bounds.clone());
        Some(Box::new(Growth { severity, bounds, counter: Counter::default() }))
    }

    fn check(&self, input: &Input<'_>) -> Report {
        each_text(input, |choice, position, of| {
            let mut counter = Counter::default();
            counter.push(&choice.text);
            let outside =
                self.bounds.iter().filter_map(|b| b.judge(counter.get(b.unit), self.severity, true));
            outside.map(|note| note.choice(position, of).into_finding()).collect()
        })
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Watch, build};
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes("length", &with, &request(json!({})), &answer(text)), want, "{text:?} {with}");
    }

    #[test]
    fn bounds_hold() {
        check("äöü", json!({"chars": {"min": 3, "max": 3}}), &[]);
        check("äöü", json!({"chars": {"max": 2}}), &["too_long"]);
        check("one two", json!({"words": {"min": 3}}), &["too_short"]);
        check("a b. c d", json!({"words": {"max": 1}, "sentences": {"max": 1}}), &["too_long", "too_long"]);
        check("12345", json!({"tokens": {"max": 1}}), &["too_long"]);
    }

    #[test]
    fn sentences_are_counted() {
        for (text, n) in [
            ("", 0),
            ("Hi", 1),
            ("Hi. You!", 2),
            ("v1.2 is out. Try it", 2),
            ("好。好。", 2),
            ("...", 0),
            ("Dr. Smith came.", 1),
            ("See e.g. this one.", 1),
            ("The U.S. economy grew.", 1),
            ("It ended at 5 p.m. Then we left.", 2),
            ("J. K. Rowling wrote it. So I. Then you.", 3),
            ("1. First. 2. Second.", 2),
            ("It costs 5. Then 6.", 2),
            ("Herr Maier, z.B. hier, usw. und dort. Ende.", 2),
        ] {
            let mut counter = Counter::default();
            counter.push(text);
            assert_eq!(counter.get("sentences"), n, "{text}");
        }
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused("length", &Value::Null).message, "no bound is given");
        assert_eq!(refused("length", &json!({"chars": {"min": 2, "max": 1}})).field, "chars");
        assert_eq!(refused("length", &json!({"chars": {"mx": 1}})).field, "chars.mx");
        assert_eq!(refused("length", &json!({"chars": {"max": -1}})).field, "chars.max");
        assert_eq!(refused("length", &json!({"chars": {}})).field, "chars");
    }

    #[test]
    fn too_much_is_certain_early() {
        let check = build(NAME, &json!({"words": {"min": 9, "max": 2}}), None).err();
        assert!(check.is_some());
        let check = build(NAME, &json!({"words": {"min": 2, "max": 2}}), None).unwrap();
        let mut watch = Watch::open(&[check], &request(json!({})));
        assert!(watch.push("one tw").is_none() && watch.push("o ").is_none());
        assert_eq!(watch.safe_up_to(), 0);
        assert_eq!(watch.push("t").unwrap().code, "too_long");
    }

    proptest! {
        #[test]
        fn counts_never_fall_and_do_not_depend_on_the_pieces(pieces in proptest::collection::vec("[a.!? 。é1\n]{0,6}", 0..9)) {
            let mut grown = Counter::default();
            let mut last = [0; 4];
            for piece in &pieces {
                grown.push(piece);
                let now = [0, 1, 2, 3].map(|i| grown.get(UNITS[i]));
                prop_assert!(now.iter().zip(&last).all(|(n, l)| n >= l), "{pieces:?}");
                last = now;
            }
            let mut whole = Counter::default();
            whole.push(&pieces.concat());
            prop_assert_eq!(last, [0, 1, 2, 3].map(|i| whole.get(UNITS[i])));
            prop_assert_eq!(whole.words, pieces.concat().split_whitespace().count());
        }
    }
}
