//! `fanout: 1..16` — samples of the workflow's primary `generate` node; `cap_fanout` bounds those of every node.

use super::{Kind, REQUEST, Single, Verb, count, put};

/// Most samples that a node may take.
const MOST: u32 = 16;

pub(super) const VERB: Verb = Verb {
    name: "fanout",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["samples"],
    read: |r, node, field, _| {
        put(count(r, node, field, 1, MOST)?, |m, n, at| m.single(|m| &mut m.further().fanout, n, at))
    },
};

/// The ceiling.
pub(super) const CAP: Verb = Verb {
    name: "cap_fanout",
    kind: Kind::Hard,
    single: Single::No,
    read: |r, node, field, _| {
        put(count(r, node, field, 1, MOST)?, |m, n, at| m.lower(|m| &mut m.further().cap_fanout, n, at))
    },
    ..VERB
};

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;
    use types::directives::Directives;

    fn samples(d: &Directives) -> (Option<u32>, Option<u32>) {
        let further = d.further.as_ref().unwrap();
        let value = |s: &Option<types::directives::Set<u32>>| s.as_ref().map(|s| s.value);
        (value(&further.fanout), value(&further.cap_fanout))
    }

    #[test]
    fn no_more_samples_than_the_ceiling_and_the_calls_allow() {
        let d = check_verb(&["fanout: 3", "cap_fanout: 4"], &["applied", "applied"]);
        assert_eq!(samples(&d), (Some(3), Some(4)));
        let d = check_verb(
            &["fanout: 3", "cap_fanout: 4", "cap_fanout: 2"],
            &["overridden by r2", "overridden by r2", "applied"],
        );
        assert_eq!(samples(&d), (Some(2), Some(2)));
        let d = check_verb(
            &["cap_calls: 2", "fanout: 3"],
            &["applied", "no effect: `cap_calls` allows fewer calls"],
        );
        assert_eq!(samples(&d), (None, None));
        // What the ceiling leaves is what the calls have to allow.
        let effects = ["applied", "overridden by r2", "applied"];
        let d = check_verb(&["cap_calls: 2", "fanout: 3", "cap_fanout: 2"], &effects);
        assert_eq!(samples(&d), (Some(2), Some(2)));
    }
}
