//! Credentials that somebody wrote into a file where none belongs, known by what stands before them and by how they
//! begin, so that nothing that is told of the file repeats them.

use std::borrow::Cow;

/// How keys of known makers begin.
const BEGINNINGS: &[&str] = &[
    "sk-",
    "gsk_",
    "xai-",
    "AIza",
    "nvapi-",
    "pplx-",
    "csk-",
    "hf_",
    "r8_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "eyJ",
];
/// Parts of names that say what is behind them.
const NAMES: &[&str] = &[
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "auth",
    "authorization",
    "cookie",
];
/// Least length of what begins like a key; shorter texts are examples.
const LEAST: usize = 10;
/// Least length of what a name says to be one.
const LEAST_NAMED: usize = 4;
/// What stands in the place of each of its characters.
const GONE: &str = "*";

/// Whether a value of that name, such as `api_key` or `authorization`, is a credential. `api_key_env` names a variable.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut parts = lower.split(['-', '_']);
    !lower.ends_with("env") && parts.any(|p| NAMES.contains(&p))
}

/// The text with everything in it masked that looks like a credential; as long as it was, so that places in it stay.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0_usize;
    for (start, word) in words(text) {
        let before = text.get(..start).unwrap_or_default();
        let begins = word.len() >= LEAST && BEGINNINGS.iter().any(|b| word.starts_with(b));
        if begins || behind_scheme(before, word) || behind_name(before, word) {
            out.push_str(text.get(copied..start).unwrap_or_default());
            out.push_str(&GONE.repeat(word.len()));
            copied = start.saturating_add(word.len());
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The runs of characters that keys are made of, each with its place.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '~');
    let mut at = 0_usize;
    text.split(move |c: char| !of_key(c)).filter_map(move |word| {
        let start = text.get(at..)?.find(word)?.saturating_add(at);
        at = start.saturating_add(word.len());
        (!word.is_empty()).then_some((start, word))
    })
}

/// `Bearer` or `Basic` and a blank stand before it.
fn behind_scheme(before: &str, word: &str) -> bool {
    let scheme = before.trim_end_matches(' ');
    let ends = |s: &str| {
        let tail = scheme.len().checked_sub(s.len()).and_then(|at| scheme.get(at..));
        tail.is_some_and(|t| t.eq_ignore_ascii_case(s))
    };
    scheme.len() < before.len() && word.len() >= LEAST_NAMED && (ends("bearer") || ends("basic"))
}

/// Its name stands before it, and it is neither the name of a variable nor a scheme.
fn behind_name(before: &str, word: &str) -> bool {
    let joined = before.trim_end_matches([' ', '"', '\'']);
    let Some(named) = joined.strip_suffix([':', '=']) else { return false };
    let named = named.trim_end_matches([' ', '"', '\'']);
    let name = named.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next();
    let variable = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let scheme = ["bearer", "basic"].iter().any(|s| word.eq_ignore_ascii_case(s));
    // `key` by itself names many other things.
    let says = name.is_some_and(|n| n != "key" && is_name(n));
    says && word.len() >= LEAST_NAMED && !variable && !scheme
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_credential_is_masked_and_nothing_moves() {
        for (line, secret) in [
            ("    api_key: sk-proj-aB3dE5fG7hJ9", "sk-proj-aB3dE5fG7hJ9"),
            ("api_key: hunter", "hunter"),
            ("keys: [gsk_aB3dE5fG7hJ9]", "gsk_aB3dE5fG7hJ9"),
            ("headers: { authorization: \"Bearer abcdef\" }", "abcdef"),
            ("headers: { Authorization: \"basic dXNlcjpwYXNz\" }", "dXNlcjpwYXNz"),
            ("'x-api-key': 'näher sk-ant-aB3dE5fG7hJ9'", "sk-ant-aB3dE5fG7hJ9"),
            ("\"password\" = \"let-me-in\"", "let-me-in"),
        ] {
            assert_eq!(masked(line), line.replace(secret, &"*".repeat(secret.len())), "{line}");
        }
    }

    #[test]
    fn what_is_none_stays() {
        for line in [
            "api_key_env: GROQ_API_KEY",
            "api_key: GROQ_API_KEY",
            "headers: { authorization: \"Bearer ${ENV:TOKEN}\" }",
            "max_tokens: many",
            "key: tenant",
            "model: claude-sonnet-4-5-20250929",
            "auth: { header: x, prefix: \"Bearer \", env: A }",
            "sk-short",
            "",
        ] {
            assert_eq!(masked(line), line);
        }
    }
}
