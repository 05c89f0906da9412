//! `priority: interactive`, `normal` or `batch` — how much of the places a request may take, and whether it waits for
//! one.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::Priority;

pub(super) const VERB: Verb = Verb {
    name: "priority",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["class"],
    read: |r, node, field, _| {
        let class = match r.one_of(node, field, &["interactive", "normal", "batch"])? {
            "interactive" => Priority::Interactive,
            "batch" => Priority::Batch,
            _ => Priority::Normal,
        };
        put(class, |m, v, at| m.single(|m| &mut m.further().priority, v, at))
    },
};
