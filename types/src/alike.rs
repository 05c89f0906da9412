//! Texts that say the same, however they are written.

use unicode_normalization::UnicodeNormalization as _;

/// The text as it is compared: compatible characters as one (NFKC: full-width and composed forms, ligatures), without case,
/// and any run of white space as one blank. Texts that are equal in this form count as one vote.
#[must_use]
pub fn normalised(text: &str) -> String {
    let folded: String = text.nfkc().flat_map(char::to_lowercase).collect();
    // What has become small may be written in two ways again.
    let folded: String = folded.nfkc().collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_however_they_are_written() {
        let check = |a: &str, b: &str, want: bool| {
            assert_eq!(normalised(a) == normalised(b), want, "{a:?} {b:?}");
        };
        check("\u{fb01}ve", "five", true);
        check("caf\u{e9}", "cafe\u{301}", true);
        check("\u{ff14}\u{ff12}", "42", true);
        check("  YES\n", "yes", true);
        check("a\u{3000}b", "A b", true);
        check("\u{212a}elvin", "kelvin", true);
        check("cafe", "caf\u{e9}", false);
        check("four two", "42", false);
        assert_eq!(normalised(""), "");
    }
}
