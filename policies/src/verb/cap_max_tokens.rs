//! `cap_max_tokens: int` — a ceiling on the output tokens of a call; the lowest wins.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "cap_max_tokens",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["tokens"],
    read: |r, node, field, _| {
        let tokens = r.integer(node, field, 1, 10_000_000)?;
        Some(Arc::new(CapMaxTokens(u32::try_from(tokens).ok()?)))
    },
};

#[derive(Debug)]
struct CapMaxTokens(u32);

impl Action for CapMaxTokens {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.offer(|m| &mut m.cap_max_tokens, self.0, at, |new, held| new < held);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn the_lowest_ceiling_wins() {
        let d = check_verb(&["cap_max_tokens: 900", "cap_max_tokens: 100"], &["overridden by r1", "applied"]);
        assert_eq!(d.cap_max_tokens.unwrap().value, 100);
    }
}
