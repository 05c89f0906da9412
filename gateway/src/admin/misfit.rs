//! Tells of a body that is not what a route takes: which member, and what is expected there, never what stood there. What
//! stands in the wrong place may be a key.

use crate::error::Failure;
use serde::de::DeserializeOwned;
use types::diagnostic::suggestion;

/// Longest name or place that is told, characters: what nobody reads is named by whoever sent it.
const LONGEST: usize = 128;

/// A body as what a route takes.
///
/// # Errors
/// 400 `invalid_body`: the member at fault and what is expected of it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let place = e.path().to_string();
        told(if place == "." { "" } else { &place }, &e.into_inner().to_string())
    })
}

/// The failure for a place (`limits[0].amount`; empty = the body itself) and what the reader of JSON said of it.
fn told(place: &str, said: &str) -> Failure {
    let said = said.rsplit_once(" at line ").map_or(said, |(said, _)| said);
    let place = shown(place);
    let quoted = |s: &str| s.split('`').nth(1).map(shown).unwrap_or_default();
    let (place, text) = if said.starts_with("missing field") {
        let member = quoted(said);
        let place = if place.is_empty() { member } else { format!("{place}.{member}") };
        let text = format!("`{place}` is missing");
        (place, text)
    } else if said.starts_with("unknown field") {
        // The last part that the place has, where the reader of JSON gave it.
        let known = said.rsplit_once(", expected ").map_or("", |(_, known)| known);
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let name = place.rsplit('.').next().unwrap_or_default();
        let text = match known.as_slice() {
            [] => format!("`{place}` is read by nobody; no members are taken here"),
            known => {
                let hint = suggestion(name, known.iter().copied());
                format!("`{place}` is read by nobody; the members are {}; {hint}", known.join(", "))
            }
        };
        (place, text)
    } else {
        let subject = if place.is_empty() { "the body".to_owned() } else { format!("`{place}`") };
        let text = match said.rsplit_once(", expected ") {
            Some((_, expected)) => format!("{subject} is not what this takes: expected {}", plain(expected)),
            // What names are read from is looked at by its first byte alone.
            None if said == "expected value" => {
                format!("{subject} is not what this takes: expected a text")
            }
            None => format!("{subject} is not what this takes"),
        };
        (place, text)
    };
    let failure = Failure::bad_request("invalid_body", text);
    if place.is_empty() { failure } else { failure.param(place) }
}

/// What is expected, in words of JSON instead of Rust's.
fn plain(expected: &str) -> &str {
    match expected {
        "a string" | "string" | "string or map" => "a text",
        "a boolean" => "`true` or `false`",
        "f64" | "f32" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more, in its bounds",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number, in its bounds",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// On one line, within bounds.
fn shown(name: &str) -> String {
    name.escape_debug().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{keys, provider_keys, tenants};

    fn check<T: DeserializeOwned>(body: &str, param: Option<&str>, text: &str) {
        let Err(failure) = read::<T>(body.as_bytes()) else { panic!("{body} was taken") };
        assert_eq!((failure.code.as_str(), failure.param.as_deref()), ("invalid_body", param), "{body}");
        assert!(failure.message.contains(text), "{body}: {}", failure.message);
        assert!(!failure.message.contains("1234567890"), "{body}: {}", failure.message);
        assert!(failure.message.len() < 600, "{body}: {}", failure.message);
    }

    #[test]
    fn a_member_is_named_with_what_is_expected_and_never_with_its_value() {
        for key in [
            "1234567890123456789",
            "-1234567890.5",
            "[\"sk-1234567890\"]",
            "{\"sk-1234567890\":1}",
            "null",
            "true",
        ] {
            let body = format!(r#"{{"provider":"ok","name":"n1","key":{key}}}"#);
            check::<provider_keys::Spec>(&body, Some("key"), "`key` is not what this takes: expected a text");
        }
        check::<provider_keys::Spec>(r#"{"provider":"ok"}"#, Some("key"), "`key` is missing");
        check::<provider_keys::Spec>(
            r#"{"provider":"ok","kye":"sk-1234567890"}"#,
            Some("kye"),
            "did you mean `key`",
        );
        let expires = r#"{"tenant":"acme","expires_ms":"1234567890, expected 1234567890"}"#;
        check::<keys::Spec>(expires, Some("expires_ms"), "expected a whole number");
        check::<keys::Spec>(r#"{"tenant":"acme","scopes":null}"#, Some("scopes"), "expected an object");
        check::<keys::Spec>(r#"{"scopes":["1234567890"]}"#, Some("scopes"), "expected an object");
        check::<keys::Spec>(r#"{"scopes":{"models":[1234567890]}}"#, Some("scopes.models[0]"), "a text");
        check::<keys::Spec>(
            r#"{"role":"1234567890"}"#,
            Some("role"),
            "expected one of `inference`, `viewer`",
        );
        check::<keys::Spec>(r#"{"suspended":1234567890}"#, Some("suspended"), "`true` or `false`");
        check::<tenants::Spec>(r#"{"tier":null}"#, Some("tier"), "`tier` is not what this takes: expected a");
        let amount = r#"{"limits":[{"metric":"usd","amount":"1234567890","per":"day"}]}"#;
        check::<tenants::Spec>(amount, Some("limits[0].amount"), "expected a number");
        check::<keys::Change>(amount, Some("limits[0].amount"), "expected a number");
        check::<keys::Change>(r#"{"limits":[{"metric":"usd"}]}"#, Some("limits[0].amount"), "is missing");
        check::<keys::Change>(r#"{"limits":[["usd",1234567890]]}"#, Some("limits[0]"), "expected an object");
        let long = format!(r#"{{"{}\n":1}}"#, "x".repeat(4_000));
        check::<provider_keys::Spec>(&long, Some(&"x".repeat(LONGEST)), "is read by nobody");
    }
}
