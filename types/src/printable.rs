//! Text of others as a terminal or a log may show it: on one line, and without commands to the terminal.

use std::borrow::Cow;

/// Not a control character (C0, C1) and not one that turns the direction of text.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with everything escaped that is not plain (`\u{1b}`); after `most` bytes it ends in `…`.
#[must_use]
pub fn printable(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(most).saturating_add(1));
    for c in text.chars() {
        if out.len() >= most {
            out.push('…');
            break;
        }
        if is_plain(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_plain() {
        for (from, want) in [
            ("ok ä", "ok ä"),
            ("a\nb", "a\\u{a}b"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("\u{85}\r", "\\u{85}\\u{d}"),
        ] {
            assert_eq!(printable(from, 1_000), want);
        }
        assert_eq!(printable("abcdef", 3), "abc…");
        assert_eq!(printable("äöü", 3), "äö…");
    }
}
