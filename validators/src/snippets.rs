//! The code within a text: its fenced blocks with their languages.

use crate::text::MAX_BYTES;
use crate::text::blocks::outline;

/// A block of code in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The first word behind the opening fence, in lower case; `None` if there is none.
    pub language: Option<String>,
    /// The code.
    pub text: String,
}

/// The blocks of code of a text, in their order; none of a text that is too long to be looked at (1 MiB).
#[must_use]
pub fn snippets(text: &str) -> Vec<Snippet> {
    if text.len() > MAX_BYTES {
        return Vec::new();
    }
    let fenced = outline(text).code.into_iter().filter_map(|c| Some((c.info?, c.text)));
    fenced
        .map(|(info, text)| {
            let word = info.split([' ', ',', '{', ':']).next().unwrap_or("").trim_start_matches('.');
            Snippet { language: (!word.is_empty()).then(|| word.to_lowercase()), text }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_with_their_languages() {
        let check = |text: &str, want: &[(Option<&str>, &str)]| {
            let got = snippets(text);
            let got: Vec<_> = got.iter().map(|s| (s.language.as_deref(), s.text.as_str())).collect();
            assert_eq!(got, want, "{text}");
        };
        check("no code", &[]);
        check(
            "a\n```Python title=x\nx = 1\n```\nb\n```\ny\n```",
            &[(Some("python"), "x = 1\n"), (None, "y\n")],
        );
        check("```rust,ignore\nfn f() {}\n", &[(Some("rust"), "fn f() {}\n")]);
        check("    indented\n", &[]);
    }
}
