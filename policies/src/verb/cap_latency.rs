//! `cap_latency: duration` — a ceiling on the latency of the whole answer; the lowest wins.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use std::time::Duration;

pub(super) const VERB: Verb = Verb {
    name: "cap_latency",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["duration"],
    read: |r, node, field, _| {
        let duration = r.duration(node, field)?;
        if duration.is_zero() {
            let d = r.error("104", node.span, format!("`{field}` is zero"));
            d.expected = Some("a duration above zero".to_owned());
            return None;
        }
        Some(Arc::new(CapLatency(duration)))
    },
};

#[derive(Debug)]
struct CapLatency(Duration);

impl Action for CapLatency {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.offer(|m| &mut m.cap_latency, self.0, at, |new, held| new < held);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;
    use std::time::Duration;

    #[test]
    fn the_lowest_ceiling_wins() {
        let d = check_verb(&["cap_latency: 2s", "cap_latency: 5s"], &["applied", "overridden by r0"]);
        assert_eq!(d.cap_latency.unwrap().value, Duration::from_secs(2));
    }
}
