//! Finding dates in text, in the forms people write them.

use std::ops::Range;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// A date, as far as it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    /// The year.
    pub(crate) year: Option<u16>,
    /// The month, 1..=12.
    pub(crate) month: u8,
    /// The day, 1..=31.
    pub(crate) day: Option<u8>,
    /// The same digits read with day and month exchanged, where that is possible too.
    pub(crate) swapped: bool,
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
}

impl Date {
    /// Whether both may be the same date: no part that both give differs.
    pub(crate) fn agrees(&self, other: &Date) -> bool {
        let same = |m: u8, d: Option<u8>| m == other.month && both(d, other.day);
        let turned = |d: &Date| d.swapped.then(|| d.day.map(|day| (day, Some(d.month)))).flatten();
        let days = same(self.month, self.day)
            || turned(self).is_some_and(|(m, d)| same(m, d))
            || turned(other).is_some_and(|(m, d)| m == self.month && both(d, self.day));
        days && both(self.year, other.year)
    }
}

fn both<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

/// Names of the months; the position gives the number.
const MONTHS: &[(&str, u8)] = &[
    ("jan", 1),
    ("feb", 2),
    ("mar", 3),
    ("mär", 3),
    ("apr", 4),
    ("avr", 4),
    ("abr", 4),
    ("may", 5),
    ("mai", 5),
    ("jun", 6),
    ("juin", 6),
    ("jul", 7),
    ("juil", 7),
    ("aug", 8),
    ("août", 8),
    ("ago", 8),
    ("sep", 9),
    ("oct", 10),
    ("okt", 10),
    ("nov", 11),
    ("dec", 12),
    ("dez", 12),
    ("déc", 12),
    ("dic", 12),
    ("ene", 1),
    ("fév", 2),
];

/// Whole names and usual abbreviations, so that "march on" and "decide" are none.
const NAMES: &str = "january|february|march|april|may|june|july|august|september|october|november|december|\
    jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|januar|februar|märz|mai|juni|juli|oktober|dezember|\
    janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|\
    enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre";

struct Patterns {
    iso: Regex,
    slashed: Regex,
    day_first: Regex,
    month_first: Regex,
    cjk: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    let day = r"(?P<d>\d{1,2})(?:st|nd|rd|th|\.|er|º)?";
    let year = r"(?P<y>1\d{3}|20\d{2}|21\d{2})";
    Some(Patterns {
        iso: Regex::new(r"\b(?P<y>1\d{3}|2[01]\d{2})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b").ok()?,
        slashed: Regex::new(r"\b(?P<a>\d{1,2})(?P<s>[/.])(?P<b>\d{1,2})(?P<t>[/.])(?P<y>\d{4})\b").ok()?,
        day_first: Regex::new(&format!(
            r"(?i)\b{day}\s*(?:of |de )?(?P<m>{NAMES})\b\.?(?:,?\s*(?:de |del )?{year}\b)?"
        ))
        .ok()?,
        month_first: Regex::new(&format!(
            r"(?i)\b(?P<m>{NAMES})\b\.?\s+(?:(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+{year}\b)?|(?P<only>1\d{{3}}|20\d{{2}}|21\d{{2}})\b)"
        ))
        .ok()?,
        cjk: Regex::new(r"(?P<y>\d{4})\s*年\s*(?P<m>\d{1,2})\s*月(?:\s*(?P<d>\d{1,2})\s*日)?").ok()?,
    })
});

/// The dates of a text, in order, none within another.
pub(crate) fn dates(text: &str) -> Vec<Date> {
    let Some(p) = PATTERNS.as_ref() else { return Vec::new() };
    let mut found = Vec::new();
    for c in p.iso.captures_iter(text).chain(p.cjk.captures_iter(text)) {
        found.extend(build(&c, number(&c, "y"), small(&c, "m"), small(&c, "d"), false));
    }
    for c in p.slashed.captures_iter(text) {
        // `1.2.2024` has the day first; `1/2/2024` may be read both ways.
        let (a, b) = (small(&c, "a"), small(&c, "b"));
        let slash = c.name("s").is_some_and(|s| s.as_str() == "/");
        let month_first = slash && a.is_some_and(|m| m <= 12);
        let (month, day) = if month_first { (a, b) } else { (b, a) };
        let swapped = slash && a.is_some_and(|n| n <= 12) && b.is_some_and(|n| n <= 12);
        found.extend(build(&c, number(&c, "y"), month, day, swapped));
    }
    for c in p.day_first.captures_iter(text) {
        found.extend(build(&c, number(&c, "y"), named(&c), small(&c, "d"), false));
    }
    for c in p.month_first.captures_iter(text) {
        found.extend(build(&c, number(&c, "y").or(number(&c, "only")), named(&c), small(&c, "d"), false));
    }
    found.sort_by_key(|d: &Date| (d.span.start, std::cmp::Reverse(d.span.end)));
    let mut end = 0;
    found.retain(|d| {
        let free = d.span.start >= end;
        if free {
            end = d.span.end;
        }
        free
    });
    found
}

fn build(
    c: &Captures<'_>,
    year: Option<u16>,
    month: Option<u8>,
    day: Option<u8>,
    swapped: bool,
) -> Option<Date> {
    let month = month.filter(|m| (1..=12).contains(m))?;
    let day = match day {
        Some(d) if !(1..=31).contains(&d) => return None,
        d => d,
    };
    let m = c.get(0)?;
    Some(Date { year, month, day, swapped, span: m.start()..m.end() })
}

fn number(c: &Captures<'_>, name: &str) -> Option<u16> {
    c.name(name)?.as_str().parse().ok()
}

fn small(c: &Captures<'_>, name: &str) -> Option<u8> {
    c.name(name)?.as_str().parse().ok()
}

fn named(c: &Captures<'_>) -> Option<u8> {
    let name = c.name("m")?.as_str();
    // In small letters these are verbs of English.
    if matches!(name, "march" | "may" | "mar") {
        return None;
    }
    let name = name.to_lowercase();
    // The longest beginning wins: `juin` is June although `jui` could open July too.
    MONTHS.iter().filter(|(b, _)| name.starts_with(b)).max_by_key(|(b, _)| b.len()).map(|(_, n)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(Option<u16>, u8, Option<u8>)]) {
        let got: Vec<_> = dates(text).into_iter().map(|d| (d.year, d.month, d.day)).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn forms_of_dates_are_read() {
        check("on 2024-05-15.", &[(Some(2024), 5, Some(15))]);
        check("15/05/2024 and 15.5.2024", &[(Some(2024), 5, Some(15)), (Some(2024), 5, Some(15))]);
        check(
            "May 15, 2024; 15 May 2024; 15th of May",
            &[(Some(2024), 5, Some(15)), (Some(2024), 5, Some(15)), (None, 5, Some(15))],
        );
        check("in July 1969", &[(Some(1969), 7, None)]);
        check(
            "am 3. Oktober 1990, le 1er juin 1999, 4 de julio de 2001",
            &[(Some(1990), 10, Some(3)), (Some(1999), 6, Some(1)), (Some(2001), 7, Some(4))],
        );
        check("2024年5月15日", &[(Some(2024), 5, Some(15))]);
        check("we may decide to march 3 times; 1/2; 2024-13-01; version 1.2.3", &[]);
    }

    #[test]
    fn agreement_is_of_the_parts_that_both_give() {
        let agree = |a: &str, b: &str, want: bool| {
            assert_eq!(dates(a)[0].agrees(&dates(b)[0]), want, "{a} {b}");
            assert_eq!(dates(b)[0].agrees(&dates(a)[0]), want, "{b} {a}");
        };
        agree("May 15, 2024", "2024-05-15", true);
        agree("May 2024", "2024-05-15", true);
        agree("May 15", "2024-05-15", true);
        agree("May 16", "2024-05-15", false);
        agree("May 15, 2023", "2024-05-15", false);
        agree("04/05/2024", "May 4, 2024", true);
        agree("04/05/2024", "April 5, 2024", true);
        agree("04/05/2024", "June 5, 2024", false);
    }
}
