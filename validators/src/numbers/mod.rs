//! `numbers`: numbers and dates of the answer are in the sources, and sums that it states are right.

mod arithmetic;
mod known;
mod tables;

use crate::check::{Input, Reference};
use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem, kind};
use crate::sources::{Origin, Source};
use crate::text::blocks::{Kind as Block, Outline, outline};
use crate::text::dates::{Date, dates};
use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use crate::text::{MAX_BYTES, marks, sentences};
use crate::{About, Check, Entry, Kind};
use known::Known;
use regex::Regex;
use serde_json::Value;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use types::Report;
use types::chat::Role;
use types::run::Severity;

const NAME: &str = "numbers";
/// Most comparisons of a number of the answer with one of the sources.
const MAX_WORK: usize = 20_000_000;
/// Most numbers of one sentence of which sums and differences are tried.
const MAX_DERIVED: usize = 12;
/// Words for numbers below this are often articles and figures of speech.
const MIN_SPELLED: f64 = 13.0;
/// Highest number of a step, a figure or an option that counts the answer's own parts.
const MAX_LABEL: f64 = 30.0;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "numbers and dates of the answer are in the sources, and sums that it states are right",
    kind: Kind::Semantic,
    stream: "end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Numbers {
    severity: Severity,
    origin: Origin,
    tolerance: f64,
}

/// Parameters: `sources` (path of a value; without it what the request brings; where that is nothing, sums
/// are checked, and numbers that the question does not hold are unverified) and `tolerance` (default 0: the share by which a number may differ from its source).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["sources", "tolerance"])?;
    let tolerance = match params.get("tolerance") {
        None => 0.0,
        Some(v) => v.as_f64().filter(|t| (0.0..=1.0).contains(t)).ok_or_else(|| {
            Problem::new("tolerance", format!("is {}", kind(v)), "a share from 0 to 1, such as 0.01")
        })?,
    };
    Ok(Arc::new(Numbers { severity, origin: Origin::new(&params)?, tolerance }))
}

impl Check for Numbers {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        self.origin.references()
    }

    fn check(&self, input: &Input<'_>) -> Report {
        // Without sources the question is all that numbers can be taken from: what it does not hold is not known.
        let (sources, doubt) = match self.origin.read(input) {
            Ok(sources) => (sources, None),
            Err(why) if !self.origin.references().is_empty() => return unverified(why),
            Err(why) => (Vec::new(), Some(why)),
        };
        let known = known(&sources, input);
        let choices = &input.completion.choices;
        let (mut findings, mut looked, mut unknown) = (Vec::new(), 0_usize, false);
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > MAX_BYTES {
                return unverified("the answer is too long to be looked at");
            }
            match self.text(&choice.text, &known, doubt.is_none()) {
                Ok(Looked { count, notes, unsure }) => {
                    looked = looked.saturating_add(count);
                    unknown |= unsure;
                    findings
                        .extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
                }
                Err(why) => return unverified(why),
            }
        }
        match doubt.filter(|_| unknown && findings.is_empty()) {
            Some(why) => unverified(why),
            None if looked == 0 => nothing(),
            None => decided(findings),
        }
    }
}

/// What was seen in a text.
struct Looked {
    /// How many numbers and sums were looked at.
    count: usize,
    notes: Vec<Note>,
    /// It holds numbers of which nothing is known.
    unsure: bool,
}

/// What the sources say, and what the user said: an answer may repeat the question.
fn known(sources: &[Source], input: &Input<'_>) -> Known {
    let mut known = Known::default();
    for s in sources {
        known.add(&s.head);
        known.add(&s.text);
    }
    let users = input.request.messages.iter().filter(|m| m.role == Role::User);
    users.for_each(|m| known.add(&m.content.text()));
    known.finish();
    known
}

impl Numbers {
    /// What is wrong with the numbers and sums of a text. `sure`: there are sources, so that a number that is not
    /// known is wrong.
    fn text(&self, text: &str, known: &Known, sure: bool) -> Result<Looked, String> {
        let outline = outline(text);
        let skip = skipped(text, &outline);
        let sums = arithmetic::sums(text, &skip);
        let (totals, wrong_totals) = tables::totals(text, &outline);
        let mut looked = sums.len().saturating_add(totals);
        let mut notes: Vec<Note> = sums.iter().filter_map(|s| self.wrong_sum(text, s)).collect();
        notes.extend(wrong_totals.iter().map(|w| self.wrong_total(w)));
        let answer = Answer::read(text, &outline, skip, &sums);
        let numbers = answer.numbers.len().saturating_add(answer.dates.len());
        if numbers.saturating_mul(known.len()) > MAX_WORK {
            return Err(format!("{numbers} numbers are too many to be looked up"));
        }
        let unknown = self.unknown(text, &answer, known);
        if sure {
            looked = looked.saturating_add(numbers);
            notes.extend(unknown.into_iter().map(|(_, note)| note));
            return Ok(Looked { count: looked, notes, unsure: false });
        }
        let summed =
            |at: &Range<usize>| sums.iter().any(|s| s.span.start <= at.start && at.end <= s.span.end);
        let unsure = unknown.iter().any(|(at, _)| !summed(at));
        Ok(Looked { count: looked, notes, unsure })
    }

    fn wrong_sum(&self, text: &str, sum: &arithmetic::Sum) -> Option<Note> {
        let right = rounded(sum.wrong?);
        let what =
            format!("this does not add up: {}", cut(text.get(sum.span.clone()).unwrap_or("").trim(), 120));
        let said = text.get(sum.result.clone()).unwrap_or("");
        let note = Note::new(NAME, self.severity, "arithmetic", &what).span(sum.span.start, sum.span.end);
        Some(
            note.expected(right)
                .actual(said)
                .hint("work the sum out again and correct it and all that follows from it"),
        )
    }

    fn wrong_total(&self, w: &tables::WrongTotal) -> Note {
        let column = cut(&w.column, 60);
        let what =
            format!("the total of `{column}` is given as {}, its rows sum up to {}", w.said, rounded(w.sum));
        Note::new(NAME, self.severity, "table_total", &what)
            .span(w.row.start, w.row.end)
            .expected(rounded(w.sum))
            .actual(w.said)
    }

    /// The numbers and dates that are not known, and what is said of each.
    fn unknown(&self, text: &str, answer: &Answer, known: &Known) -> Vec<(Range<usize>, Note)> {
        let mut notes = Vec::new();
        let note = |span: &Range<usize>, what: &str| {
            let shown = cut(text.get(span.clone()).unwrap_or(""), 60);
            let note = Note::new(NAME, self.severity, "unknown_number", &format!("{what} `{shown}` is in no source"))
                .span(span.start, span.end)
                .actual(shown)
                .hint("give only numbers and dates that the sources give, or that follow from them by a sum you state");
            (span.clone(), note)
        };
        for d in answer.dates.iter().filter(|d| !known.has_date(d)) {
            notes.push(note(&d.span, "the date"));
        }
        let supported: Vec<bool> = answer.numbers.iter().map(|(n, _)| known.has(n, self.tolerance)).collect();
        for ((n, sentence), fine) in answer.numbers.iter().zip(&supported) {
            if *fine || answer.follows(n, *sentence, &supported) {
                continue;
            }
            notes.push(note(&n.span, "the number"));
        }
        notes
    }
}

#[expect(clippy::cast_possible_truncation, reason = "shown only if it fits")]
fn rounded(x: f64) -> Value {
    let r = (x * 10_000.0).round() / 10_000.0;
    if r.fract() == 0.0 && r.abs() < 9e15 { Value::from(r as i64) } else { Value::from(r) }
}

struct Patterns {
    label: Regex,
    opening: Regex,
    counted: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        label: Regex::new(r"(?i)\b(?:step|figure|fig\.|table|option|example|point|phase|part|item|source|document|doc|passage|question|case|reason|note|method|approach|scenario|schritt|abbildung|tabelle|étape|paso)s?\s+#?(?P<n>\d{1,3})\b").ok()?,
        opening: Regex::new(r"(?m)^[ \t>]*(?:#{1,6}[ \t]+|[*_]{1,2}|[-*+][ \t]+)*(?P<n>\d{1,3}(?:\.\d{1,2})*)[.):](?:[ \t]|$)").ok()?,
        counted: Regex::new(r"(?:^|\s|\()(?P<n>\d{1,2})[.)]\s").ok()?,
    })
});

/// What holds no numbers of the answer: code, citations, addresses, the numbering of its own parts. In order.
fn skipped(text: &str, outline: &Outline) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> =
        outline.code.iter().map(|c| c.span.clone()).chain(outline.inline.iter().cloned()).collect();
    out.extend(marks::marks(text));
    if let Some(p) = PATTERNS.as_ref() {
        let small = |m: &regex::Match<'_>| m.as_str().parse::<f64>().is_ok_and(|n| n <= MAX_LABEL);
        out.extend(p.label.captures_iter(text).filter_map(|c| c.name("n")).filter(small).map(|m| m.range()));
        out.extend(p.opening.captures_iter(text).filter_map(|c| c.name("n")).map(|m| m.range()));
        // Within a line, numbers with a dot or bracket behind them count its parts if they count on from 1.
        let mut next = 1_u32;
        for m in p.counted.captures_iter(text).filter_map(|c| c.name("n")) {
            match m.as_str().parse::<u32>() {
                Ok(n) if n == next || n == 1 => {
                    next = n.saturating_add(1);
                    out.push(m.range());
                }
                _ => {}
            }
        }
    }
    out.sort_by_key(|s| s.start);
    out
}

/// The numbers of an answer that sources must hold.
struct Answer {
    dates: Vec<Date>,
    /// Each with the number of its sentence.
    numbers: Vec<(Number, usize)>,
    /// Results of sums that the answer states and that are right.
    results: Vec<Range<usize>>,
    /// What its own lists, sections and rows count.
    counts: Vec<usize>,
}

impl Answer {
    fn read(text: &str, outline: &Outline, skip: Vec<Range<usize>>, sums: &[arithmetic::Sum]) -> Self {
        let mut dates = dates(text);
        dates.retain(|d| !overlaps(&skip, &d.span));
        let mut all: Vec<Range<usize>> = skip;
        all.extend(dates.iter().map(|d| d.span.clone()));
        all.sort_by_key(|s| s.start);
        let sentences = sentences::of(text, outline);
        let place = |n: &Number| sentences.partition_point(|s| s.span.end <= n.span.start);
        let worth =
            |n: &Number| !n.spelled || n.value >= MIN_SPELLED || n.unit != Unit::None && n.value > 2.0;
        let numbers: Vec<(Number, usize)> =
            numbers(text, &all).into_iter().filter(worth).map(|n| (n.clone(), place(&n))).collect();
        let is = |k: fn(&Block) -> bool| outline.blocks.iter().filter(|b| k(&b.kind)).count();
        let mut counts = outline.lists.clone();
        counts.push(outline.lists.iter().sum());
        counts.push(is(|k| matches!(k, Block::Heading(_))));
        counts.push(is(|k| *k == Block::Row));
        // A list of words within a sentence is counted by its commas.
        counts.extend(sentences.iter().filter_map(|s| {
            let words = text.get(s.span.clone())?;
            let commas = words.matches([',', '、', ';']).count();
            (1..=12).contains(&commas).then(|| commas.saturating_add(1))
        }));
        counts.sort_unstable();
        counts.dedup();
        let results = sums.iter().filter(|s| s.wrong.is_none()).map(|s| s.result.clone()).collect();
        Answer { dates, numbers, results, counts }
    }

    /// Whether a number follows from the answer itself: it is the result of a right sum, counts the answer's own
    /// parts, or is the sum, the difference, the ratio or the change of numbers of its sentence or the one before
    /// that sources hold.
    fn follows(&self, n: &Number, sentence: usize, supported: &[bool]) -> bool {
        if self.results.iter().any(|r| r.start < n.span.end && n.span.start < r.end) {
            return true;
        }
        let plain = n.unit == Unit::None && n.value.fract() == 0.0;
        if plain
            && self
                .counts
                .iter()
                .any(|c| f64::from(u32::try_from(*c).unwrap_or(u32::MAX)) == n.value && *c >= 2)
        {
            return true;
        }
        let near: Vec<f64> = self
            .numbers
            .iter()
            .zip(supported)
            .filter(|((m, s), fine)| {
                **fine && (*s == sentence || s.saturating_add(1) == sentence) && m.literal.is_none()
            })
            .map(|((m, _), _)| m.value)
            .collect();
        if near.len() > MAX_DERIVED {
            return false;
        }
        let fits = |x: f64| (x.abs() - n.value.abs()).abs() <= n.step / 2.0 + 1e-9 * x.abs();
        let share = n.unit == Unit::Percent;
        let total: f64 = near.iter().sum();
        let pair = |a: f64, b: f64| {
            let ratio =
                b != 0.0 && (fits(a / b * 100.0) || fits((a - b) / b * 100.0) || fits((1.0 - a / b) * 100.0));
            if share {
                ratio
            } else {
                fits(a - b) || fits(a + b) || fits(a * b) && a > 1.0 && b > 1.0 || b != 0.0 && fits(a / b)
            }
        };
        !share && near.len() > 2 && fits(total)
            || share && near.iter().any(|a| fits(100.0 - a))
            || near
                .iter()
                .enumerate()
                .any(|(i, a)| near.iter().enumerate().any(|(j, b)| i != j && pair(*a, *b)))
    }
}

fn overlaps(skip: &[Range<usize>], span: &Range<usize>) -> bool {
    let next = skip.partition_point(|s| s.end <= span.start);
    skip.get(next).is_some_and(|s| s.start < span.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    const SOURCE: &str = "The bridge was opened on 27 May 1937 after four years of work. It is 2,737 metres long, cost \
        $35 million, and carried 112,000 cars a day in 2019, of which 25% were trucks and 40 were buses.";

    fn check(text: &str, want: &[&str]) {
        check_with(text, json!({}), want);
    }

    fn check_with(text: &str, with: Value, want: &[&str]) {
        let mut with = with;
        with["sources"] = json!("s");
        assert_eq!(codes_with(NAME, with, &[("s", json!(SOURCE))], text), want, "{text}");
    }

    #[test]
    fn numbers_must_be_known() {
        check("It is 2737 m long and cost 35 million dollars.", &[]);
        check("It is 2.737 km long.", &[]);
        check("It is 2,773 metres long.", &["unknown_number"]);
        check("It opened in May 1937.", &[]);
        check("It opened on May 28, 1937.", &["unknown_number"]);
        check("About 110,000 cars crossed it each day.", &[]);
        check("110,000 cars crossed it each day.", &["unknown_number"]);
        check_with("110,000 cars crossed it each day.", json!({"tolerance": 0.02}), &[]);
        check("A quarter were trucks, 25 percent.", &[]);
        check("It cost 36 million dollars.", &["unknown_number"]);
        check("No numbers here.", &["none"]);
    }

    #[test]
    fn the_numbers_of_the_answer_itself_are_its_own() {
        check("1. It is long.\n2. It is old.\n\nThese 2 facts come from [1] and [14].", &[]);
        check("Facts: 1. It is long. 2. It is old. 3. It is red.", &["none"]);
        check("Step 3: cross it. See `x = 99` and https://a.b/123.", &["none"]);
        check("# 4. Length\n\nIt is 2,737 metres long.", &[]);
        check("25% were trucks, so 75% were not.", &[]);
        check("It opened in 1937 and carried 112,000 cars in 2019, 82 years later.", &[]);
        check("With 25% trucks of 112,000 cars, 25% × 112,000 = 28,000 are trucks.", &[]);
    }

    #[test]
    fn sums_are_checked_with_and_without_sources() {
        check("112,000 + 40 = 112,050", &["arithmetic", "unknown_number"]);
        let plain = |text: &str| codes(NAME, &Value::Null, &request(json!({})), &answer(text));
        assert_eq!(plain("3 + 4 = 8"), ["arithmetic"]);
        assert_eq!(plain("3 + 4 = 7"), Vec::<String>::new());
        assert_eq!(plain("There are 99 ways."), ["unverified"]);
        assert_eq!(plain("It costs 9.99 euros in 2031."), ["unverified"]);
        assert_eq!(plain("So 3 + 4 = 7, and it costs 9.99 euros."), ["unverified"]);
        assert_eq!(plain("So 3 + 4 = 8, and it costs 9.99 euros."), ["arithmetic"]);
        let asked = request(json!({"messages": [{"role": "user", "content": "Name 99 ways."}]}));
        assert_eq!(codes(NAME, &Value::Null, &asked, &answer("There are 99 ways.")), ["none"]);
        assert_eq!(plain("| a | b |\n|---|---|\n| x | 1 |\n| y | 2 |\n| Total | 4 |"), ["table_total"]);
    }

    #[test]
    fn findings_say_what_would_be_right() {
        let check = build(&Value::Null, Severity::Repair).unwrap();
        let report = check.check(&Input::new(&answer("So 3 + 4 = 8."), &request(json!({}))));
        let f = &report.findings[0];
        assert_eq!((f.expected.clone(), f.actual.clone()), (Some(json!(7)), Some(json!("8"))));
        assert_eq!(f.message, "this does not add up: 3 + 4 = 8");
        assert_eq!(refused(NAME, &json!({"tolerance": 3})).field, "tolerance");
    }
}
