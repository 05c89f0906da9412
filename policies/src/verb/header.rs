//! `header: {name: value}` — headers of the answer; single-valued per name.

use super::{Kind, RESPONSE, Single, Verb, put, strings};

/// Most bytes of a value.
const MAX_VALUE: usize = 1024;
/// Headers that are not for policies to set: the wire's own, and those that the server sets itself, which would have
/// the last word or be believed. One that ends in `*` stands for all that begin so.
const RESERVED: &[&str] = &[
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "idempotent-replayed",
    "keep-alive",
    "openai-organization",
    "openai-processing-ms",
    "openai-version",
    "preference-applied",
    "retry-after",
    "retry-after-ms",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-accel-buffering",
    "x-content-type-options",
    "x-ratelimit-*",
    "x-request-id",
    "x-should-retry",
    "x-turnout-*",
];

pub(super) const VERB: Verb = Verb {
    name: "header",
    kind: Kind::Soft,
    phases: RESPONSE,
    single: Single::PerName,
    arguments: &["headers"],
    read: |r, node, field, _| {
        let headers = strings(r, node, field, |r, key, (value, text), at| {
            let name = key.name.to_ascii_lowercase();
            let (span, message, expected) = if !is_name(&name) {
                let expected = "a header's name of at most 64 letters, digits and `-`".to_owned();
                (key.span, format!("`{}` is no name of a header", key.name), expected)
            } else if is_reserved(&name) {
                let expected = format!("a header that is none of {}", RESERVED.join(", "));
                (key.span, format!("`{name}` cannot be set: it is the server's own"), expected)
            } else if !is_value(&text) {
                let expected = format!("at most {MAX_VALUE} visible ASCII characters");
                (value.span, format!("the value of `{name}` cannot be sent as a header"), expected)
            } else {
                return Some((name, text));
            };
            let d = r.error("104", span, message);
            d.expected = Some(expected);
            d.field = at;
            None
        })?;
        put(headers, |m, each, at| {
            for (name, value) in each {
                m.single_of(|m| &mut m.further().headers, name, value, at);
            }
        })
    },
};

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|r| r.strip_suffix('*').map_or(name == *r, |start| name.starts_with(start)))
}

fn is_value(text: &str) -> bool {
    text.len() <= MAX_VALUE && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
