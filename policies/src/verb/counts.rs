//! `cap_tokens`, `cap_calls`, `cap_attempts`: whole numbers, of which the lowest counts.

use super::{Kind, REQUEST, Single, Verb, count, put};

/// Tokens of the request tree, input and output.
pub(super) const CAP_TOKENS: Verb = Verb {
    name: "cap_tokens",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["tokens"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, u32::MAX)?, |m, n, at| m.lower(|m| &mut m.further().cap_tokens, n, at))
    },
};

/// Calls of the request tree.
pub(super) const CAP_CALLS: Verb = Verb {
    name: "cap_calls",
    arguments: &["calls"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, 1_000)?, |m, n, at| m.lower(|m| &mut m.further().cap_calls, n, at))
    },
    ..CAP_TOKENS
};

/// Attempts of one call, other candidates included.
pub(super) const CAP_ATTEMPTS: Verb = Verb {
    name: "cap_attempts",
    arguments: &["attempts"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, 100)?, |m, n, at| m.lower(|m| &mut m.further().cap_attempts, n, at))
    },
    ..CAP_TOKENS
};
