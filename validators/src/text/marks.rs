//! Marks in a text that point elsewhere and say nothing themselves: citations and addresses.

use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"\[\^[\w.-]{1,40}\]|\[\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*\]|【[^】\n]{1,80}】|",
        r"https?://[^\s<>()\[\]]+|www\.[^\s<>()\[\]]+|[\w.+-]+@[\w-]+\.\w+",
    ))
    .ok()
});

/// Where `[1]`, `[^a]`, `【1†x】` and addresses stand, in order.
pub(crate) fn marks(text: &str) -> Vec<Range<usize>> {
    MARKS.as_ref().map(|m| m.find_iter(text).map(|f| f.range()).collect()).unwrap_or_default()
}

/// The text with blanks of the same length in their place.
pub(crate) fn without_marks(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0_usize;
    for span in marks(text) {
        out.push_str(text.get(at..span.start).unwrap_or(""));
        out.push_str(&" ".repeat(span.len()));
        at = span.end;
    }
    out.push_str(text.get(at..).unwrap_or(""));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_blanks() {
        for (text, want) in [
            ("a [1] b", "a     b"),
            ("a[2, 3-4].", "a        ."),
            ("ä[^n]", "ä    "),
            ("see https://a.b/1 now", "see               now"),
            ("[link](x) [a] 5", "[link](x) [a] 5"),
        ] {
            assert_eq!(without_marks(text), want, "{text}");
        }
    }
}
