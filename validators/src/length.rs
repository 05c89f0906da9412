//! `length`: characters, words, sentences or tokens of the text within bounds.

use crate::finding::Note;
use crate::json::each_text;
use crate::params::{Params, Problem};
use crate::{Check, Entry, Input, Kind};
use serde_json::Value;
use std::sync::Arc;
use types::Report;
use types::run::Severity;

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

fn count(text: &str, unit: &str) -> usize {
    match unit {
        "chars" => text.chars().count(),
        "words" => text.split_whitespace().count(),
        "sentences" => sentences(text),
        _ => text.len().div_ceil(4),
    }
}

/// Runs of text that end in `.`, `!`, `?` or their full-width forms before a space or the end; text after
/// the last such end counts as one more.
fn sentences(text: &str) -> usize {
    let mut n = 0_usize;
    let mut open = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let wide = matches!(c, '。' | '！' | '？');
        let ends = wide || matches!(c, '.' | '!' | '?') && chars.peek().is_none_or(|c| c.is_whitespace());
        if ends && open {
            n = n.saturating_add(1);
            open = false;
        } else if c.is_alphanumeric() {
            open = true;
        }
    }
    n.saturating_add(usize::from(open))
}

impl Check for Length {
    fn name(&self) -> &'static str {
        NAME
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn kind(&self) -> Kind {
        Kind::Structural
    }

    fn check(&self, input: &Input<'_>) -> Report {
        each_text(input, |choice, position, of| {
            let outside = self.bounds.iter().filter_map(|b| {
                let n = count(&choice.text, b.unit);
                let (code, want) = if n < b.min {
                    ("too_short", format!("at least {}", b.min))
                } else if n > b.max {
                    ("too_long", format!("at most {}", b.max))
                } else {
                    return None;
                };
                let message = format!("the answer has {n} {}, {want} are asked for", b.unit);
                let note = Note::new(NAME, self.severity, code, &message).expected(want).actual(n);
                Some(note.choice(position, of).into_finding())
            });
            outside.collect()
        })
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::sentences;
    use crate::testing::*;
    use serde_json::{Value, json};

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
        for (text, n) in
            [("", 0), ("Hi", 1), ("Hi. You!", 2), ("v1.2 is out. Try it", 2), ("好。好。", 2), ("...", 0)]
        {
            assert_eq!(sentences(text), n, "{text}");
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
}
