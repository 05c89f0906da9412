//! Whether two sentences about the same thing say different things about it.

use super::lexicon::{denies, opposites};
use crate::text::dates::{Date, dates};
use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use crate::text::terms::{self, Kind, Term, stem, terms};
use std::collections::{BTreeMap, HashMap, HashSet};
use unicode_segmentation::UnicodeSegmentation;

/// Fewest terms that both sentences must have in common.
const MIN_SHARED: usize = 3;
/// Least share of the terms of the shorter sentence that both must have in common.
const MIN_OVERLAP: f64 = 0.6;
/// The same where only a negation or a pair of opposites tells them apart.
const MIN_TURNED: f64 = 0.7;
/// Least share of the terms of the longer sentence in that case: what it says beyond the shorter one may be
/// what is denied.
const MIN_BOTH: f64 = 0.4;
/// Words that make a statement depend on something.
const CONDITIONS: &[&str] =
    &["if", "unless", "whether", "may", "might", "could", "when", "wenn", "falls", "si", "except"];
/// How many content words a negation reaches.
const REACH: usize = 3;

/// A sentence, taken apart for comparing.
#[derive(Debug)]
pub(super) struct Said {
    terms: Vec<Term>,
    /// How each key is written here.
    written: HashMap<String, String>,
    keys: HashSet<String>,
    /// Stems of all words, stop words included, since opposites may be such; each with its word.
    stems: BTreeMap<String, String>,
    /// Keys within the reach of a negation.
    denied: HashSet<String>,
    negations: usize,
    conditions: bool,
    unspaced: bool,
    numbers: Vec<(Number, Option<String>)>,
    dates: Vec<Date>,
}

/// How two sentences clash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    /// `number`, `date`, `negation` or `opposite`.
    pub(super) code: &'static str,
    /// What the first says.
    pub(super) mine: String,
    /// What the other says.
    pub(super) other: String,
}

impl Said {
    /// Takes a sentence apart.
    pub(super) fn new(sentence: &str) -> Self {
        let terms = terms(sentence);
        let dates = dates(sentence);
        let spans: Vec<_> = dates.iter().map(|d| d.span.clone()).collect();
        let numbers = numbers(sentence, &spans)
            .into_iter()
            .filter(|n| n.literal.is_none() && (!n.spelled || n.value > 1.0))
            .map(|n| {
                let what = behind(sentence, n.span.end);
                (n, what)
            })
            .collect();
        let (denied, negations) = denied(sentence, &terms);
        let stems = sentence.unicode_words().map(|w| (stem(&w.to_lowercase()), w.to_owned())).collect();
        let word = |t: &Term| Some((t.key.clone(), sentence.get(t.span.clone())?.to_owned()));
        let written = terms.iter().filter_map(word).collect();
        let keys = terms.iter().filter(|t| t.kind != Kind::Number).map(|t| t.key.clone()).collect();
        let conditions = sentence.unicode_words().any(|w| CONDITIONS.contains(&w.to_lowercase().as_str()));
        let unspaced = sentence.chars().any(crate::text::unspaced);
        Said { terms, written, keys, stems, denied, negations, conditions, unspaced, numbers, dates }
    }

    fn year(&self, n: &Number) -> bool {
        n.unit == Unit::None && n.step == 1.0 && (1000.0..2200.0).contains(&n.value) && !n.spelled
    }
}

/// The content word behind a number: what it counts.
fn behind(sentence: &str, end: usize) -> Option<String> {
    let rest = sentence.get(end..)?;
    let stop = rest.find([',', ';', '.', ':', '(', ')']).unwrap_or(rest.len());
    let next = terms::terms(rest.get(..stop)?).into_iter().find(|t| t.kind != Kind::Number)?;
    Some(next.key)
}

/// The keys within the reach of a negation, and how many negations there are.
fn denied(sentence: &str, terms: &[Term]) -> (HashSet<String>, usize) {
    let mut keys = HashSet::new();
    let mut n = 0_usize;
    for (at, word) in sentence.unicode_word_indices() {
        let lower = word.to_lowercase();
        // "not only" adds, "or not" leaves open, and "no-load" names.
        let behind = sentence.get(at.saturating_add(word.len())..).unwrap_or("");
        let before = sentence.get(..at).unwrap_or("");
        let idle = [" only", " necessarily", " just", "-"].iter().any(|w| behind.starts_with(w))
            || before.ends_with("or ");
        if !denies(&lower) || idle {
            continue;
        }
        n = n.saturating_add(1);
        let clause = sentence
            .get(at..)
            .and_then(|r| r.find([',', ';', ':']))
            .map_or(sentence.len(), |i| at.saturating_add(i));
        let reached = terms.iter().filter(|t| t.span.start > at && t.span.end <= clause).take(REACH);
        keys.extend(reached.map(|t| t.key.clone()));
    }
    for sign in ["不", "没", "沒", "無", "无", "未"] {
        n = n.saturating_add(sentence.matches(sign).count());
    }
    (keys, n)
}

/// Share of the smaller set that both have, and how many terms that are.
pub(super) fn overlap(a: &Said, b: &Said) -> (f64, usize) {
    let shared = a.keys.intersection(&b.keys).count();
    let least = a.keys.len().min(b.keys.len());
    (ratio(shared, least), shared)
}

#[expect(clippy::cast_precision_loss, reason = "counts of words are far below 2^52")]
fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

/// How the first clashes with the other, if they are about the same and do.
pub(super) fn clash(mine: &Said, other: &Said) -> Option<Clash> {
    let (share, shared) = overlap(mine, other);
    if shared < MIN_SHARED || share < MIN_OVERLAP {
        return None;
    }
    dates_clash(mine, other).or_else(|| numbers_clash(mine, other)).or_else(|| turned(mine, other, share))
}

fn dates_clash(mine: &Said, other: &Said) -> Option<Clash> {
    let show = |d: &Date| {
        let part = |n: Option<u8>| n.map_or_else(String::new, |n| format!("-{n:02}"));
        format!(
            "{}{}{}",
            d.year.map_or_else(|| "----".to_owned(), |y| y.to_string()),
            part(Some(d.month)),
            part(d.day)
        )
    };
    let odd =
        |of: &Said, from: &Said| of.dates.iter().find(|d| !from.dates.iter().any(|o| o.agrees(d))).map(show);
    if let ([_], [_]) = (mine.dates.as_slice(), other.dates.as_slice())
        && let (Some(m), Some(o)) = (odd(mine, other), odd(other, mine))
    {
        return Some(Clash { code: "date", mine: m, other: o });
    }
    let years = |s: &Said| -> HashSet<u16> {
        let plain = s.numbers.iter().filter(|(n, _)| s.year(n)).filter_map(|(n, _)| short(n.value));
        plain.chain(s.dates.iter().filter_map(|d| d.year)).collect()
    };
    let (a, b) = (years(mine), years(other));
    let (more, less): (Vec<_>, Vec<_>) = (a.difference(&b).collect(), b.difference(&a).collect());
    match (more.as_slice(), less.as_slice()) {
        ([m], [o]) => Some(Clash { code: "date", mine: m.to_string(), other: o.to_string() }),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "years were checked to lie within 1000 to 2200"
)]
fn short(year: f64) -> Option<u16> {
    (1000.0..2200.0).contains(&year).then_some(year as u16)
}

fn numbers_clash(mine: &Said, other: &Said) -> Option<Clash> {
    let in_other = |n: &Number| other.numbers.iter().any(|(o, _)| equal(n, o));
    let in_mine = |n: &Number| mine.numbers.iter().any(|(o, _)| equal(n, o));
    for (n, what) in mine.numbers.iter().filter(|(n, _)| !mine.year(n) && !in_other(n)) {
        let rival = other.numbers.iter().find(|(o, counts)| {
            !other.year(o)
                && !in_mine(o)
                && (o.unit == n.unit && n.unit != Unit::None || what.is_some() && what == counts)
        });
        // With more than one rival nobody can say which of them is meant.
        let rivals =
            other.numbers.iter().filter(|(o, _)| !other.year(o) && !in_mine(o) && o.unit == n.unit).count();
        if let Some((o, counts)) = rival
            && (rivals == 1 || what == counts)
        {
            return Some(Clash { code: "number", mine: shown(n), other: shown(o) });
        }
    }
    None
}

fn shown(n: &Number) -> String {
    match n.unit {
        Unit::Percent => format!("{} %", n.value),
        _ => n.value.to_string(),
    }
}

fn equal(a: &Number, b: &Number) -> bool {
    let near = |x: f64, y: f64| {
        (x.abs() - y.abs()).abs()
            <= a.step.max(b.step) / 2.0 * f64::from(u8::from(a.step != b.step || a.hedged || b.hedged))
                + 1e-9 * y.abs()
    };
    let scaled = match (a.unit, b.unit) {
        (Unit::Measure(x, f), Unit::Measure(y, g)) if x == y => near(a.value, b.value * g / f),
        (Unit::Percent, Unit::None) => near(a.value, b.value * 100.0),
        (Unit::None, Unit::Percent) => near(a.value * 100.0, b.value),
        _ => false,
    };
    scaled
        || near(a.value, b.value)
        || a.other.is_some_and(|v| near(v, b.value))
        || b.other.is_some_and(|v| near(a.value, v))
}

/// One denies what the other says, or says its opposite; both together say the same again.
fn turned(mine: &Said, other: &Said, share: f64) -> Option<Clash> {
    let shared = mine.keys.intersection(&other.keys).count();
    let both = ratio(shared, mine.keys.len().max(other.keys.len()));
    if share < MIN_TURNED || both < MIN_BOTH || mine.conditions != other.conditions {
        return None;
    }
    let odd = mine.negations % 2 != other.negations % 2;
    let opposite = mine.stems.iter().filter(|(s, _)| !other.stems.contains_key(*s)).find_map(|(s, word)| {
        let mut against = opposites(s).iter().filter(|o| !mine.stems.contains_key(*o));
        Some((word.clone(), against.find_map(|o| other.stems.get(o))?.clone()))
    });
    match (odd, opposite) {
        (false, Some((m, o))) => Some(Clash { code: "opposite", mine: m, other: o }),
        (true, None) => {
            // What is denied must be said by the other without a denial.
            let (denier, plain) =
                if mine.negations > other.negations { (mine, other) } else { (other, mine) };
            let key = denier.terms.iter().map(|t| &t.key).find(|k| {
                denier.denied.contains(*k) && plain.keys.contains(*k) && !plain.denied.contains(*k)
            });
            let unspaced = denier.denied.is_empty() && denier.unspaced;
            (key.is_some() || unspaced).then(|| {
                let what = key.and_then(|k| denier.written.get(k)).cloned().unwrap_or_default();
                let (not, yes) = (format!("not {what}").trim().to_owned(), what);
                let denies = mine.negations > other.negations;
                let (m, o) = if denies { (not, yes) } else { (yes, not) };
                Clash { code: "negation", mine: m, other: o }
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, want: Option<&str>) {
        let got = clash(&Said::new(a), &Said::new(b));
        assert_eq!(got.as_ref().map(|c| c.code), want, "{a} / {b}: {got:?}");
    }

    const A: &str = "The court must accept the petition within 30 days of the judgment.";

    #[test]
    fn clashes_are_seen() {
        check("The court must accept the petition within 20 days of the judgment.", A, Some("number"));
        check("The court must not accept the petition within 30 days of the judgment.", A, Some("negation"));
        check("The court must reject the petition within 30 days of the judgment.", A, Some("opposite"));
        check(
            "The bridge in Sydney was opened in 1932.",
            "The bridge in Sydney was opened in 1936 by the premier.",
            Some("date"),
        );
        check(
            "The bridge in Sydney opened on 3 May 1932.",
            "The bridge in Sydney opened on 4 May 1932.",
            Some("date"),
        );
        check(
            "Unemployment in Spain rose to 12 % in spring.",
            "Unemployment in Spain rose to 15 % in spring.",
            Some("number"),
        );
        check(
            "Sales never increased in northern Italy last spring.",
            "Sales increased in northern Italy last spring.",
            Some("negation"),
        );
    }

    #[test]
    fn agreement_is_no_clash() {
        check(A, A, None);
        check("The court must accept the petition within thirty days of the judgment.", A, None);
        check("The court accepts the petition.", A, None);
        check("Bananas are not grown in Iceland.", A, None);
        check(
            "Sales did not decrease in northern Italy last spring.",
            "Sales increased in northern Italy last spring.",
            None,
        );
        check("The court must not only accept the petition within 30 days of the judgment.", A, None);
        check("The fund paid 5 % in 2019 and 6 % in 2020.", "In 2020 the fund paid 6 %.", None);
    }
}
