//! `header: {name: value}` — headers of the answer; single-valued per name.

use super::{Kind, RESPONSE, Single, Verb, put};

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
        let members = r.map(node, field)?;
        if members.is_empty() {
            r.wrong_type(node, field, "a map of strings with at least one member");
            return None;
        }
        let each: Vec<Option<(String, String)>> = members
            .iter()
            .map(|(key, value)| {
                let at = format!("{field}.{}", key.name);
                let text = r.string(value, &at)?;
                let name = key.name.to_ascii_lowercase();
                let problem = if !is_name(&name) {
                    Some("a header's name: letters, digits, `-`")
                } else if RESERVED.contains(&name.as_str()) || name.starts_with("x-turnout-") {
                    Some("a header that is not the wire's own and not x-turnout-*")
                } else if text.len() > MAX_VALUE || text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
                    Some("at most 1024 visible ASCII characters")
                } else {
                    None
                };
                if let Some(expected) = problem {
                    let d = r.error("104", key.span, format!("`{}` cannot be set", key.name));
                    d.expected = Some(expected.to_owned());
                    d.field = at;
                    return None;
                }
                Some((name, text))
            })
            .collect();
        put(each.into_iter().collect::<Option<Vec<_>>>()?, |m, each, at| {
            for (name, value) in each {
                m.single_of(|m| &mut m.further().headers, name, value, at);
            }
        })
    },
};

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
