//! Finding numbers in text with what they measure, in the ways people write them.

mod around;
mod notation;

use super::quantities::{self, Unit};
use around::{after, before_number, hedged};
use notation::{pieces, read, run};
use std::ops::Range;

/// A number of a text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    /// What it says.
    pub(crate) value: f64,
    /// What it says if its one separator means the other thing, as in `1.234`.
    pub(crate) other: Option<f64>,
    /// The worth of its last digit: what rounding may have taken away is at most half of it.
    pub(crate) step: f64,
    /// What it measures.
    pub(crate) unit: Unit,
    /// It is written as a word.
    pub(crate) spelled: bool,
    /// It says itself that it is not exact: `about`, `~`, `over`.
    pub(crate) hedged: bool,
    /// Digits that are a name rather than a number, such as a version or a telephone number, without what
    /// parts them. Such a thing has no value.
    pub(crate) literal: Option<String>,
    /// Bytes of the text, with sign, currency, scale and unit.
    pub(crate) span: Range<usize>,
    /// Bytes of the digits alone.
    pub(crate) digits: Range<usize>,
}

/// The digit in ASCII, for the scripts that have digits of their own; other characters as they are.
pub(crate) fn ascii_digit(c: char) -> char {
    let zero = match u32::from(c) {
        0x0660..=0x0669 => 0x0660,
        0x06F0..=0x06F9 => 0x06F0,
        0x0966..=0x096F => 0x0966,
        0x09E6..=0x09EF => 0x09E6,
        0x0E50..=0x0E59 => 0x0E50,
        0xFF10..=0xFF19 => 0xFF10,
        _ => return c,
    };
    u32::from(c).checked_sub(zero).and_then(|d| char::from_digit(d, 10)).unwrap_or(c)
}

/// The numbers of a text in their order; those that begin within a range to skip are left out. The ranges
/// come in order.
pub(crate) fn numbers(text: &str, skip: &[Range<usize>]) -> Vec<Number> {
    let mut out = Vec::new();
    let mut at = 0_usize;
    let mut skip = skip.iter().peekable();
    while let Some((start, word)) = next_token(text, at) {
        at = start.saturating_add(word.len());
        while skip.next_if(|s| s.end <= start).is_some() {}
        if skip.peek().is_some_and(|s| s.contains(&start)) {
            continue;
        }
        if word.chars().next().is_some_and(|c| ascii_digit(c).is_ascii_digit()) {
            at = digits(text, start, &mut out);
        } else if let Some((n, end)) = words(text, start, word) {
            at = end;
            out.push(n);
        }
    }
    out
}

/// The next run of letters and digits from here; a run ends where digits begin after a letter only if the
/// script has no such words.
fn next_token(text: &str, from: usize) -> Option<(usize, &str)> {
    let rest = text.get(from..)?;
    let begin = rest.find(|c: char| c.is_alphanumeric())?;
    let run = rest.get(begin..)?;
    let first = run.chars().next()?;
    let wide = super::unspaced(first);
    let end = run
        .char_indices()
        .find(|(_, c)| !(c.is_alphanumeric() || *c == '_') || super::unspaced(*c) != wide)
        .map_or(run.len(), |(i, _)| i);
    Some((from.saturating_add(begin), run.get(..end.max(first.len_utf8()))?))
}

/// A number in words from here, with its end.
fn words(text: &str, start: usize, first: &str) -> Option<(Number, usize)> {
    let rest = text.get(start..)?;
    let first = first.to_lowercase();
    if quantities::spelled(&first).is_none() && quantities::place(&first).is_none() {
        return None;
    }
    let mut places = Vec::new();
    let mut at = 0_usize;
    while let Some((i, w)) = next_token(rest, at).filter(|_| places.len() < 10) {
        let gap = rest.get(at..i).unwrap_or("");
        if !places.is_empty() && !matches!(gap, " " | "-") {
            break;
        }
        places.push((i, w));
        at = i.saturating_add(w.len());
    }
    let list: Vec<&str> = places.iter().map(|(_, w)| *w).collect();
    let (value, used) = match quantities::sequence(&list) {
        Some(found) => found,
        None => (quantities::place(&first)?, 1),
    };
    let (i, w) = places.get(used.saturating_sub(1))?;
    let end = start.saturating_add(i.saturating_add(w.len()));
    let mut n = Number {
        value,
        other: None,
        step: 1.0,
        unit: Unit::None,
        spelled: true,
        hedged: hedged(text, start),
        literal: None,
        span: start..end,
        digits: start..end,
    };
    after(text, &mut n);
    let end = n.span.end;
    Some((n, end))
}

/// The number whose digits begin here, and where to go on.
fn digits(text: &str, start: usize, out: &mut Vec<Number>) -> usize {
    let rest = text.get(start..).unwrap_or("");
    let body_len = run(rest);
    let end = start.saturating_add(body_len);
    let body = rest.get(..body_len).unwrap_or("");
    let before = text.get(..start).unwrap_or("").chars().next_back();
    // Digits behind a letter, `_`, `^` or `#` belong to a name, and so do those of `F-16` and `v2.1`.
    let earlier = text.get(..start).unwrap_or("").chars().rev().nth(1);
    let named = match before {
        Some('_' | '^' | '#') => true,
        Some('-') => earlier.is_some_and(char::is_uppercase),
        Some('.') => earlier.is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphabetic() && !super::unspaced(c),
        None => false,
    };
    // And those of `401(k)`.
    let lettered = {
        let mut next = text.get(end..).unwrap_or("").chars();
        next.next() == Some('(')
            && next.next().is_some_and(|c| c.is_ascii_lowercase())
            && next.next() == Some(')')
    };
    if named || lettered {
        return tail(text, end);
    }
    if let Some(literal) = grouped(text, start, end) {
        let stop = literal.span.end;
        out.push(literal);
        return stop;
    }
    if let Some(clock) = clock(text, start, body) {
        let stop = clock.span.end;
        out.push(clock);
        return stop;
    }
    for (piece, offset) in pieces(body) {
        let from = start.saturating_add(offset);
        let Some((value, other, decimals)) = read(&piece) else { continue };
        let span = from..from.saturating_add(piece.len());
        let mut n = Number {
            value,
            other,
            step: 0.1_f64.powi(decimals),
            unit: Unit::None,
            spelled: false,
            hedged: hedged(text, from),
            literal: None,
            digits: span.clone(),
            span,
        };
        let floor = out.last().map_or(0, |l: &Number| l.span.end);
        before_number(text, floor, &mut n);
        if n.span.end == end && !after(text, &mut n) {
            return tail(text, end);
        }
        let stop = n.span.end;
        out.push(n);
        if stop > end {
            return stop;
        }
    }
    end
}

/// Past the letters that hang on to a name such as `3D` or `1080p`.
fn tail(text: &str, end: usize) -> usize {
    let rest = text.get(end..).unwrap_or("");
    end.saturating_add(rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()))
}

/// Three or more groups of digits with hyphens, or dots that do not group thousands: telephone numbers,
/// versions, addresses.
fn grouped(text: &str, start: usize, end: usize) -> Option<Number> {
    let rest = text.get(start..)?;
    let stop = rest
        .find(|c: char| !(ascii_digit(c).is_ascii_digit() || matches!(c, '-' | '.' | ')' | '(')))
        .unwrap_or(rest.len());
    let whole = rest.get(..stop)?.trim_end_matches(['-', '.', ')', '(']);
    let hyphens = whole.matches('-').count();
    let dots = whole.matches('.').count();
    let thousands = whole.split('.').skip(1).all(|g| g.len() == 3);
    if hyphens < 2 && (dots < 2 || thousands) {
        return None;
    }
    let literal: String = whole.chars().map(ascii_digit).filter(char::is_ascii_digit).collect();
    let span = start..start.saturating_add(whole.len()).max(end);
    Some(Number {
        value: f64::NAN,
        other: None,
        step: 0.0,
        unit: Unit::None,
        spelled: false,
        hedged: false,
        literal: Some(literal),
        digits: span.clone(),
        span,
    })
}

/// A time of day such as `10:30`, with `pm` behind it or not.
fn clock(text: &str, start: usize, body: &str) -> Option<Number> {
    let hours: f64 = body.parse().ok().filter(|h| (0.0..24.0).contains(h))?;
    let colon = start.saturating_add(body.len());
    let minutes = text.get(colon..)?.strip_prefix(':')?.get(..2)?;
    if !minutes.chars().all(|c| c.is_ascii_digit()) || body.len() > 2 {
        return None;
    }
    let end = colon.saturating_add(3);
    if text.get(end..)?.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let m: f64 = minutes.parse().ok().filter(|m| *m < 60.0)?;
    let half: String = text.get(end..)?.trim_start().chars().take(4).flat_map(char::to_lowercase).collect();
    let pm = half.starts_with("pm") || half.starts_with("p.m");
    let am = half.starts_with("am") || half.starts_with("a.m");
    let hours = match (pm, am, hours >= 12.0) {
        (true, _, false) => hours + 12.0,
        (_, true, true) => hours - 12.0,
        _ => hours,
    };
    let span = start..end;
    Some(Number {
        value: hours * 60.0 + m,
        // Without `am` or `pm` both halves of the day may be meant.
        other: (!pm && !am && hours < 12.0).then_some((hours + 12.0) * 60.0 + m),
        step: 1.0,
        unit: Unit::Clock,
        spelled: false,
        hedged: false,
        literal: None,
        digits: span.clone(),
        span,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: &[(f64, Unit)]) {
        let got: Vec<(f64, Unit)> = numbers(text, &[])
            .into_iter()
            .filter(|n| n.literal.is_none())
            .map(|n| (n.value, n.unit))
            .collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn separators_of_many_countries() {
        use Unit::None;
        check("1,234.56 and 1.234,56", &[(1234.56, None), (1234.56, None)]);
        check("1\u{a0}234 and 1'234'567", &[(1234.0, None), (1_234_567.0, None)]);
        check("3,75 or 3.75", &[(3.75, None), (3.75, None)]);
        check("1,2,3", &[(1.0, None), (2.0, None), (3.0, None)]);
        check("in 1985.", &[(1985.0, None)]);
        check("１２３ and ٤٥", &[(123.0, None), (45.0, None)]);
        check("10-20 or 1844–1846", &[(10.0, None), (20.0, None), (1844.0, None), (1846.0, None)]);
        check("it is -5, or −3", &[(-5.0, None), (-3.0, None)]);
        let n = &numbers("1.234", &[])[0];
        assert_eq!((n.value, n.other), (1.234, Some(1234.0)));
        let n = &numbers("1,234", &[])[0];
        assert_eq!((n.value, n.other), (1234.0, Some(1.234)));
    }

    #[test]
    fn units_and_scales_belong_to_the_number() {
        use Unit::{Measure, Money, None, Ordinal, Percent};
        check(
            "12% of 3 percent, 4 per cent, 5 Prozent",
            &[(12.0, Percent), (3.0, Percent), (4.0, Percent), (5.0, Percent)],
        );
        check(
            "$1.2 million, 3M, 10k, 2 billion people",
            &[(1.2e6, Money("usd")), (3e6, None), (1e4, None), (2e9, None)],
        );
        check("EUR 5, 6 €, 7 dollars", &[(5.0, Money("eur")), (6.0, Money("eur")), (7.0, Money("usd"))]);
        check(
            "5km, 6 kilometers, 7 years",
            &[
                (5.0, Measure("length", 1000.0)),
                (6.0, Measure("length", 1000.0)),
                (7.0, Measure("calendar", 12.0)),
            ],
        );
        check("the 2nd and 3 times", &[(2.0, Ordinal), (3.0, None)]);
        check("3万人 1.5亿元", &[(3e4, None), (1.5e8, Money("cny"))]);
        check("a 30-day plan", &[(30.0, Measure("time", 86_400.0))]);
        check("10:30 and 3:05 pm", &[(630.0, Unit::Clock), (905.0, Unit::Clock)]);
    }

    #[test]
    fn words_are_numbers_too() {
        use Unit::{None, Percent};
        check("twenty-one of two hundred and five", &[(21.0, None), (205.0, None)]);
        check("seventy-five percent and three million", &[(75.0, Percent), (3e6, None)]);
        check("someone, often, tent", &[]);
    }

    #[test]
    fn names_with_digits_are_no_numbers() {
        check("401(k), COVID-19, B12, H2O, 3D, 1080p, v2.1, x^2, a_1, #5", &[]);
        let literals = |text: &str, want: &[&str]| {
            let got: Vec<String> = numbers(text, &[]).into_iter().filter_map(|n| n.literal).collect();
            assert_eq!(got, want, "{text}");
        };
        literals("call 1-888-407-4747 or use 1.2.3 at 127.0.0.1.", &["18884074747", "123", "127001"]);
        literals("1.234.567", &[]);
    }

    #[test]
    fn inexact_numbers_say_so() {
        for (text, want) in
            [("about 5", true), ("~5", true), ("more than 5", true), ("exactly 5", false), ("over $5", true)]
        {
            assert_eq!(numbers(text, &[])[0].hedged, want, "{text}");
        }
        assert_eq!(numbers("1.2 million", &[])[0].step, 1e5);
    }

    proptest! {
        #[test]
        fn any_text_gives_ordered_spans(text in "[0-9a-zA-Z ,.:$€%°万'\u{a0}()-]{0,60}") {
            let mut last = 0;
            for n in numbers(&text, &[]) {
                prop_assert!(n.digits.start >= last && text.get(n.span.clone()).is_some(), "{:?}", n);
                last = n.digits.end;
            }
        }

        #[test]
        fn every_whole_number_is_read_back(n in 0_u32..4_000_000_000) {
            let got = numbers(&format!("x {n} y"), &[]);
            prop_assert_eq!(got.first().map(|g| g.value), Some(f64::from(n)));
        }
    }
}
