//! `header: {name: value}` — headers of the answer; single-valued per name.

use super::{Kind, RESPONSE, Single, Verb, put, strings};

/// Most bytes of a value.
const MAX_VALUE: usize = 1024;
/// Headers that are not for policies to set: the wire's own, and those by which the house is known.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) const VERB: Verb = Verb {
    name: "header",
    kind: Kind::Soft,
    phases: RESPONSE,
    single: Single::PerName,
    arguments: &["headers"],
    read: |r, node, field, _| {
        let headers = strings(r, node, field, |r, key, (_, text), at| {
            let name = key.name.to_ascii_lowercase();
            let Some(expected) = problem(&name, &text) else { return Some((name, text)) };
            let d = r.error("104", key.span, format!("`{}` cannot be set", key.name));
            d.expected = Some(expected.to_owned());
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

/// What is expected in the place of a header that cannot be set; `None` = it can.
fn problem(name: &str, text: &str) -> Option<&'static str> {
    if !is_name(name) {
        Some("a header's name: letters, digits, `-`")
    } else if RESERVED.contains(&name) || name.starts_with("x-turnout-") {
        Some("a header that is not the wire's own and not x-turnout-*")
    } else if text.len() > MAX_VALUE || text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        Some("at most 1024 visible ASCII characters")
    } else {
        None
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
