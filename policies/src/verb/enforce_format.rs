//! `enforce_format: json` or `json_schema` — the form that the answer must have; the stricter one counts.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::Format;

pub(super) const VERB: Verb = Verb {
    name: "enforce_format",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["format"],
    read: |r, node, field, _| {
        let format = match r.one_of(node, field, &["json", "json_schema"])? {
            "json_schema" => Format::JsonSchema,
            _ => Format::Json,
        };
        put(format, |m, v, at| m.raise(|m| &mut m.further().format, v, at))
    },
};
