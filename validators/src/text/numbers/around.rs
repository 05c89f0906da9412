//! What stands before and behind the digits: signs, currencies, scales, units, words that say "about".

use super::Number;
use crate::text::quantities::{self, Unit};
use crate::text::unspaced;

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

/// Takes in a sign or a currency before the digits, but nothing of the number before.
pub(super) fn before_number(text: &str, floor: usize, n: &mut Number) {
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
pub(super) fn after(text: &str, n: &mut Number) -> bool {
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
        let joined = gap == 0 && word.chars().next().is_some_and(|c| c.is_alphabetic() && !unspaced(c));
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
    let len = if unspaced(first) || matches!(first, '%' | '％' | '$' | '€' | '£' | '¥' | '₹') {
        first.len_utf8()
    } else if first == '°' {
        word.char_indices().nth(2).map_or(word.len(), |(i, _)| i)
    } else {
        word.find(|c: char| !c.is_alphabetic() && c != '/').unwrap_or(word.len())
    };
    (gap, word.get(..len).unwrap_or(""))
}

pub(super) fn hedged(text: &str, start: usize) -> bool {
    let before = text.get(..start).unwrap_or("").trim_end_matches([' ', '$', '€', '£']);
    let word = before.rsplit(char::is_whitespace).next().unwrap_or("").trim_start_matches('(').to_lowercase();
    let sign = before.chars().next_back().is_some_and(|c| matches!(c, '~' | '≈' | '>' | '<'));
    sign || HEDGES.contains(&word.as_str())
}
