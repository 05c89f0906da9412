//! Finding numbers in text with what they measure, in the ways people write them.

use super::quantities::{self, Unit};
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

/// Words before a number that say that it is not exact.
const HEDGES: &[&str] = &[
    "about",
    "around",
    "approximately",
    "approx.",
    "roughly",
    "nearly",
    "almost",
    "over",
    "under",
    "more",
    "less",
    "some",
    "circa",
    "ca.",
    "etwa",
    "rund",
    "fast",
    "environ",
    "casi",
    "unos",
    "~",
    "≈",
    ">",
    "<",
    "than",
];

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

/// Length of the digits and separators at the beginning of the text; a separator counts only between digits.
fn run(rest: &str) -> usize {
    let mut end = 0_usize;
    let mut chars = rest.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let digit = ascii_digit(c).is_ascii_digit();
        let joins = separator(c) && chars.peek().is_some_and(|(_, n)| ascii_digit(*n).is_ascii_digit());
        if !digit && !joins {
            break;
        }
        end = i.saturating_add(c.len_utf8());
    }
    end
}

fn separator(c: char) -> bool {
    matches!(c, ',' | '.' | '\'' | '’' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '٬' | '٫' | '，')
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

/// The parts of a run: `1,2,3` lists three numbers, `1,234` is one.
fn pieces(body: &str) -> Vec<(String, usize)> {
    let groups: Vec<&str> = body.split(',').collect();
    let thousands =
        groups.iter().skip(1).all(|g| g.split('.').next().is_some_and(|g| g.chars().count() == 3));
    if groups.len() > 2 && !thousands {
        let mut at = 0_usize;
        let mut out = Vec::new();
        for g in groups {
            out.push((g.to_owned(), at));
            at = at.saturating_add(g.len()).saturating_add(1);
        }
        return out;
    }
    vec![(body.to_owned(), 0)]
}

/// Value, other reading and digits behind the decimal sign.
fn read(body: &str) -> Option<(f64, Option<f64>, i32)> {
    let plain: String = body
        .chars()
        .filter(|c| !matches!(c, '\'' | '’' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '٬'))
        .map(|c| match c {
            '٫' => '.',
            '，' => ',',
            c => ascii_digit(c),
        })
        .collect();
    let commas = plain.matches(',').count();
    let dots = plain.matches('.').count();
    let last = plain.rfind([',', '.']);
    let behind = last.map_or(0, |i| plain.len().saturating_sub(i).saturating_sub(1));
    let lead = plain.find([',', '.']).unwrap_or(0);
    let groups = |s: &str| s.split([',', '.']).skip(1).all(|g| g.len() == 3);
    let decimal_at_last = |s: &str| {
        let (whole, part) = s.split_at(last.unwrap_or(s.len()));
        let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
        format!("{whole}.{}", part.trim_start_matches([',', '.']))
    };
    let joined: String = plain.chars().filter(char::is_ascii_digit).collect();
    let digits = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let parse = |s: &str| s.parse::<f64>().ok();
    match (commas, dots) {
        (0, 0) => Some((parse(&joined)?, None, 0)),
        (1, 0) | (0, 1) => {
            let could_group = behind == 3 && (1..=3).contains(&lead) && !plain.starts_with('0');
            let decimal = parse(&decimal_at_last(&plain))?;
            match (could_group, commas) {
                (true, 1) => Some((parse(&joined)?, Some(decimal), 0)),
                (true, _) => Some((decimal, Some(parse(&joined)?), digits(behind))),
                _ => Some((decimal, None, digits(behind))),
            }
        }
        (_, 0) | (0, _) if groups(&plain) => Some((parse(&joined)?, None, 0)),
        (_, 0) | (0, _) => None,
        _ => Some((parse(&decimal_at_last(&plain))?, None, digits(behind))),
    }
}

/// Takes in a sign or a currency before the digits, but nothing of the number before.
fn before_number(text: &str, floor: usize, n: &mut Number) {
    let mut start = n.span.start;
    let head = |at: usize| text.get(floor.min(at)..at).unwrap_or("");
    let near = head(start).trim_end_matches(' ');
    if let Some(c) = near.chars().next_back()
        && let Some(code) = quantities::currency(c.to_string().as_str())
    {
        n.unit = Unit::Money(code);
        start = floor.min(start).saturating_add(near.len()).saturating_sub(c.len_utf8());
    } else if let Some(word) = near.rsplit(|c: char| !c.is_ascii_uppercase()).next()
        && word.len() == 3
        && let Some(code) = quantities::currency(&word.to_lowercase())
    {
        n.unit = Unit::Money(code);
    }
    if let Some(c @ ('-' | '−')) = head(start).chars().next_back() {
        let before = text.get(..start.saturating_sub(c.len_utf8())).unwrap_or("").chars().next_back();
        // A hyphen behind a digit or letter joins.
        if before.is_none_or(|b| b.is_whitespace() || matches!(b, '(' | '=' | ':' | '[' | '|')) {
            n.value = -n.value;
            n.other = n.other.map(|o| -o);
            start = start.saturating_sub(c.len_utf8());
        }
    }
    n.span.start = start;
}

/// Takes in scale and unit behind the digits. False if what follows makes it a name such as `3D`.
fn after(text: &str, n: &mut Number) -> bool {
    let scaled = scale(text, n);
    let (gap, word) = word_behind(text.get(n.span.end..).unwrap_or(""));
    let end = n.span.end.saturating_add(gap).saturating_add(word.len());
    let lower = word.to_lowercase();
    if quantities::is_percent(&lower) {
        (n.unit, n.span.end) = (Unit::Percent, end);
    } else if lower == "per" && text.get(end..).is_some_and(|r| r.starts_with(" cent")) {
        (n.unit, n.span.end) = (Unit::Percent, end.saturating_add(" cent".len()));
    } else if let Some(code) = quantities::currency(&lower) {
        (n.unit, n.span.end) = (Unit::Money(code), end);
    } else if gap == 0 && matches!(lower.as_str(), "st" | "nd" | "rd" | "th") {
        (n.unit, n.span.end) = (Unit::Ordinal, end);
    } else if gap == 0 && word == "s" && n.value >= 20.0 && n.value % 10.0 == 0.0 {
        // The 1990s are years.
        n.span.end = end;
    } else if let Some(unit) = quantities::measure(&lower).filter(|_| is_unit(word)) {
        n.span.end = end;
        if n.unit == Unit::None {
            n.unit = unit;
        }
    } else {
        // Letters that hang on to the digits make a name, unless the script does not part words.
        let joined =
            gap == 0 && word.chars().next().is_some_and(|c| c.is_alphabetic() && !super::unspaced(c));
        return scaled || !joined;
    }
    true
}

/// Single letters are units in one case only: `5 m` measures, `5M` counts, `5G` is a name.
fn is_unit(word: &str) -> bool {
    word.len() > 1 || matches!(word, "m" | "g" | "l" | "L" | "h" | "s" | "W" | "V")
}

/// Takes in a word such as `million`, or a letter such as `k`, that multiplies the number.
fn scale(text: &str, n: &mut Number) -> bool {
    let (gap, word) = word_behind(text.get(n.span.end..).unwrap_or(""));
    let factor = match (gap, word) {
        (0, "M") => Some(1e6),
        (0, "B") => Some(1e9),
        (0, "T") => Some(1e12),
        (0, "K" | "k") => Some(1e3),
        (_, w) if w.len() == 1 => None,
        (_, w) => quantities::scale(&w.to_lowercase()),
    };
    let Some(f) = factor else { return false };
    n.span.end = n.span.end.saturating_add(gap).saturating_add(word.len());
    n.value *= f;
    n.other = n.other.map(|o| o * f);
    n.step *= f;
    true
}

/// The gap and the word or sign behind a number: at most one blank or hyphen lies between.
fn word_behind(rest: &str) -> (usize, &str) {
    let gap = match rest.chars().next() {
        Some(c @ (' ' | '-' | '\u{a0}' | '\u{202f}')) => c.len_utf8(),
        _ => 0,
    };
    let word = rest.get(gap..).unwrap_or("");
    let Some(first) = word.chars().next() else { return (gap, "") };
    let len = if super::unspaced(first) || matches!(first, '%' | '％' | '$' | '€' | '£' | '¥' | '₹') {
        first.len_utf8()
    } else if first == '°' {
        word.char_indices().nth(2).map_or(word.len(), |(i, _)| i)
    } else {
        word.find(|c: char| !c.is_alphabetic() && c != '/').unwrap_or(word.len())
    };
    (gap, word.get(..len).unwrap_or(""))
}

fn hedged(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or("").trim_end_matches([' ', '$', '€', '£']);
    let word = before.rsplit(char::is_whitespace).next().unwrap_or("").trim_start_matches('(').to_lowercase();
    let sign = before.chars().next_back().is_some_and(|c| matches!(c, '~' | '≈' | '>' | '<'));
    sign || HEDGES.contains(&word.as_str())
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
