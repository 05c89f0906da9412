//! What of a foreign file must not be repeated: found by the names of its members and in addresses, and looked for in
//! all that is told and written.

use serde_json::Value;

/// Parts of the names of members that hold secrets.
const NAMES: &[&str] =
    &["key", "secret", "token", "password", "passwd", "credential", "authorization", "master"];
/// Names that only look like it.
const HARMLESS: &[&str] =
    &["tokens", "token_limit", "cost_per_token", "keys_", "virtual_key", "credential_", "mock"];
/// Shorter texts are in other words, too.
const LEAST: usize = 6;
/// A shorter text of letters is a word, such as `Bearer`, or the `ollama` that stands where a host asks for no key.
const WORD: usize = 12;
/// What stands in the place of one.
const GONE: &str = "…";

/// Every secret of a document, the longest first.
pub(super) fn of(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(document, false, &mut found);
    found.sort_by_key(|s: &String| std::cmp::Reverse(s.len()));
    found.dedup();
    found
}

fn collect(value: &Value, secret: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.to_ascii_lowercase();
                let looks =
                    NAMES.iter().any(|n| name.contains(n)) && !HARMLESS.iter().any(|n| name.contains(n));
                collect(value, secret || looks, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|v| collect(v, secret, found)),
        Value::String(text) => {
            found.extend(in_address(text).filter(|s| telling(s)).map(str::to_owned));
            let reference = text.starts_with("os.environ/") || text.starts_with("${");
            if secret && !reference {
                let words = text.split_whitespace().chain([text.as_str()]);
                found.extend(words.filter(|w| telling(w)).map(str::to_owned));
            }
        }
        _ => {}
    }
}

/// Whether a text is so much its own that it can be looked for.
fn telling(text: &str) -> bool {
    let word = text.len() < WORD && text.bytes().all(|b| b.is_ascii_alphabetic());
    text.len() >= LEAST && !word
}

/// The password of an address, and what stands behind its `?`.
fn in_address(text: &str) -> impl Iterator<Item = &str> {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    let user = rest.and_then(|r| r.split('/').next()?.rsplit_once('@')).map(|(user, _)| user);
    let password = user.map(|u| u.split_once(':').map_or(u, |(_, password)| password));
    let query = rest.and_then(|r| r.split_once('?')).map(|(_, query)| query);
    let values =
        query.into_iter().flat_map(|q| q.split('&')).filter_map(|p| p.split_once('=')).map(|(_, v)| v);
    password.into_iter().chain(values)
}

/// An address without a user, a password and what stands behind its `?`; whether anything was taken off.
pub(super) fn without(address: &str) -> (String, bool) {
    let Some((scheme, rest)) = address.split_once("://") else { return (address.to_owned(), false) };
    let bare = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = bare.split_once('/').map_or((bare, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let made = match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    };
    let less = made.len() < address.len();
    (made, less)
}

/// The text without any of the secrets.
pub(super) fn taken_out(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), GONE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_known_by_where_they_stand() {
        let found = of(&json!({
            "api_key": "sk-clear-text", "key": "os.environ/NAME", "max_tokens": "unlimited",
            "api_base": "http://user:pa55word@10.0.0.1/v1?sig=abcd-efgh",
            "extra_headers": {"Authorization": "Bearer abc-def-ghi"}, "model": "gpt-4", "keys": "ollama",
        }));
        for secret in ["sk-clear-text", "pa55word", "abcd-efgh", "abc-def-ghi"] {
            assert!(found.iter().any(|s| s == secret), "{secret} is not in {found:?}");
        }
        assert!(
            !found.iter().any(|s| ["unlimited", "gpt-4", "ollama", "os.environ/NAME"].contains(&s.as_str())),
            "{found:?}"
        );
        assert_eq!(taken_out(&found, "the key sk-clear-text"), "the key …");
    }

    #[test]
    fn addresses_lose_what_is_nobodys_business() {
        for (given, want, less) in [
            ("http://user:pa55@host:80/v1", "http://host:80/v1", true),
            ("https://host/v1?key=x#y", "https://host/v1", true),
            ("https://host/a@b", "https://host/a@b", false),
            ("${ENV:BASE}/v1", "${ENV:BASE}/v1", false),
        ] {
            assert_eq!(without(given), (want.to_owned(), less), "{given}");
        }
    }
}
