//! Taking a text apart for the checks of meaning: blocks, sentences, words, numbers, dates.
//!
//! Everything here works on byte ranges of the text it was given and is linear in its length.

pub(crate) mod blocks;
pub(crate) mod claims;
pub(crate) mod dates;
pub(crate) mod marks;
pub(crate) mod numbers;
pub(crate) mod quantities;
pub(crate) mod sentences;
pub(crate) mod stop;
pub(crate) mod terms;

/// Longest answer or source that is looked at, in bytes; beyond it a check says that it could not check.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Whether the character belongs to a script that writes words without spaces between them.
pub(crate) fn unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0x0E00..=0x0EFF      // Thai, Lao
        | 0x1000..=0x109F    // Myanmar
        | 0x1780..=0x17FF    // Khmer
        | 0x3005..=0x3007 | 0x3021..=0x3029
        | 0x3040..=0x30FF    // Hiragana, Katakana
        | 0x31F0..=0x31FF
        | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0xFF66..=0xFF9D
        | 0x20000..=0x323AF)
}

/// Line and column of a byte offset, both from 1; the column counts characters.
pub(crate) fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let start = before.rfind('\n').map_or(0, |i| i.saturating_add(1));
    let column = before.get(start..).unwrap_or("").chars().count().saturating_add(1);
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        for (text, at, want) in [
            ("", 0, (1, 1)),
            ("ab", 1, (1, 2)),
            ("ä\nöü", "ä\nö".len(), (2, 2)),
            ("a\r\nb", 3, (2, 1)),
            ("a\n", 2, (2, 1)),
            ("a", 99, (1, 2)),
        ] {
            assert_eq!(line_column(text, at), want, "{text:?} {at}");
        }
    }
}
