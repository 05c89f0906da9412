//! Text of others as a terminal or a log may show it: on one line, and without commands to the terminal.

use std::borrow::Cow;

/// Not a control character (C0, C1) and not one that turns the direction of text.
#[must_use]
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// No control character (C0, C1) is in it.
#[must_use]
pub fn has_no_controls(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Lines of a table or a list with everything escaped that is not plain, but for tabs and the ends of the lines.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    let stays = |c: char| is_plain(c) || matches!(c, '\n' | '\t');
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if stays(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    Cow::Owned(out)
}

/// As [`printable_lines`], of text in which some things stand out: sequences that set colours and weights (SGR,
/// ECMA-48 8.3.117) stay.
#[must_use]
pub fn styled_lines(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return printable_lines(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}") {
        out.push_str(&printable_lines(before));
        let style = after.strip_prefix('[').and_then(|s| {
            let (codes, left) = s.split_once('m')?;
            codes.chars().all(|c| c.is_ascii_digit() || c == ';').then_some((codes, left))
        });
        rest = match style {
            Some((codes, left)) => {
                out.extend(["\u{1b}[", codes, "m"]);
                left
            }
            None => {
                out.extend('\u{1b}'.escape_unicode());
                after
            }
        };
    }
    out.push_str(&printable_lines(rest));
    Cow::Owned(out)
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
    fn lines_keep_their_ends_and_nothing_else() {
        assert_eq!(printable_lines("a\tb\n\u{1b}[2Jc\r\u{202e}"), "a\tb\n\\u{1b}[2Jc\\u{d}\\u{202e}");
        assert!(matches!(printable_lines("│ ok │\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn of_sequences_only_colours_stay() {
        let styled = "\u{1b}[1m\u{1b}[91merror\u{1b}[0m: \u{1b}[38;5;9mx\u{1b}[m\n";
        assert_eq!(styled_lines(styled), styled);
        let wild = "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[1m\u{202e}\u{1b}[31";
        assert_eq!(styled_lines(wild), "\\u{1b}]0;title\\u{7}\\u{1b}[2J\u{1b}[1m\\u{202e}\\u{1b}[31");
        assert!(matches!(styled_lines("│ ok │\n"), Cow::Borrowed(_)));
    }

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
