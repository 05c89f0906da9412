//! `cap_temperature: float` — a ceiling on the sampling temperature; the lowest wins.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;

pub(super) const VERB: Verb = Verb {
    name: "cap_temperature",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["temperature"],
    read: |r, node, field, _| Some(Arc::new(CapTemperature(r.number(node, field, 0.0, 2.0)?))),
};

#[derive(Debug)]
struct CapTemperature(f64);

impl Action for CapTemperature {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.offer(|m| &mut m.cap_temperature, self.0, at, |new, held| new < held);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn the_lowest_ceiling_wins() {
        let d = check_verb(&["cap_temperature: 0.7", "cap_temperature: 0"], &["overridden by r1", "applied"]);
        assert_eq!(d.cap_temperature.unwrap().value, 0.0);
    }
}
