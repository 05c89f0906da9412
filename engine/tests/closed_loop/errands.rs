//! Errands: what takes the processor and no model. Few are done at once.

use super::house::{RULES, house, model, whole};
use engine::{Kind, Who};

#[tokio::test(start_paused = true)]
async fn few_errands_are_done_at_once() {
    let h = house(vec![model("a", 1.0)], RULES, |c| Ok(whole(c, "x")));
    let who = Who::open();
    let first = h.engine.errand(&who).await.unwrap();
    let second = h.engine.errand(&who).await.unwrap();
    assert_eq!(h.engine.health().in_flight, 2, "each has a place like a request");
    let refused = h.engine.errand(&who).await.err().unwrap();
    assert!(matches!(refused.kind, Kind::Overloaded) && refused.retry_after.is_some());
    assert_eq!(h.engine.health().in_flight, 2, "who waited in vain has none");
    drop(first);
    let third = h.engine.errand(&who).await.unwrap();
    drop((second, third));
    assert_eq!(h.engine.health().in_flight, 0);
}
