//! `stream: mode` — how much of an answer may reach the client unchecked; the most protective mode counts.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::StreamMode;

pub(super) const VERB: Verb = Verb {
    name: "stream",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["mode"],
    read: |r, node, field, _| {
        let mode = match r.one_of(node, field, &["passthrough", "optimistic", "windowed", "buffered"])? {
            "optimistic" => StreamMode::Optimistic,
            "windowed" => StreamMode::Windowed,
            "buffered" => StreamMode::Buffered,
            _ => StreamMode::Passthrough,
        };
        put(mode, |m, v, at| m.raise(|m| &mut m.further().stream, v, at))
    },
};
