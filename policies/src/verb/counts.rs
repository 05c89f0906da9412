//! `fanout`, `cap_tokens`, `cap_calls`, `cap_attempts`, `cap_fanout`: whole numbers; of caps the lowest counts.

use super::{Kind, REQUEST, Single, Verb, count, put};

/// Most samples of a node.
const MAX_FANOUT: u32 = 16;

/// Samples of the primary generate node.
pub(super) const FANOUT: Verb = Verb {
    name: "fanout",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["samples"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, MAX_FANOUT)?, |m, n, at| m.single(|m| &mut m.further().fanout, n, at))
    },
};

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

/// Samples of any generate node.
pub(super) const CAP_FANOUT: Verb = Verb {
    name: "cap_fanout",
    arguments: &["samples"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, MAX_FANOUT)?, |m, n, at| m.lower(|m| &mut m.further().cap_fanout, n, at))
    },
    ..CAP_TOKENS
};

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn fanout_and_hedges_give_way_to_caps() {
        let d = check_verb(&["fanout: 5", "cap_fanout: 3"], &["overridden by r1", "applied"]);
        assert_eq!(d.further.unwrap().fanout.unwrap().value, 3);
        let d = check_verb(
            &["fanout: 5", "cap_calls: 1", "hedge: { after: p95 }"],
            &["overridden by r1", "applied", "overridden by r1"],
        );
        let further = d.further.unwrap();
        assert!(further.fanout.is_none() && further.hedge.is_none());
    }
}
