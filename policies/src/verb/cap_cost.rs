//! `cap_cost: usd` — a ceiling on the cost of the request tree; the lowest wins.

use super::{Kind, REQUEST_TOOL, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use types::units::Usd;

pub(super) const VERB: Verb = Verb {
    name: "cap_cost",
    kind: Kind::Hard,
    phases: REQUEST_TOOL,
    single: Single::No,
    arguments: &["usd"],
    read: |r, node, field, _| Some(Arc::new(CapCost(r.usd(node, field)?))),
};

#[derive(Debug)]
struct CapCost(Usd);

impl Action for CapCost {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.offer(|m| &mut m.cap_cost, self.0, at, |new, held| new < held);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;
    use types::units::Usd;

    #[test]
    fn the_lowest_ceiling_wins() {
        let d = check_verb(&["cap_cost: 0.05", "cap_cost: 0.02"], &["overridden by r1", "applied"]);
        let cap = d.cap_cost.unwrap();
        assert_eq!((cap.value, cap.rule.as_ref()), (Usd::from_dollars(0.02), "r1"));
    }
}
