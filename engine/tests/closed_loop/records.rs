//! What becomes of requests whose record finds no room.

use super::house::{RULES, house, model, prose, whole};
use std::sync::atomic::Ordering;

#[tokio::test(start_paused = true)]
async fn t09_only_audited_requests_fail_where_there_is_no_room_for_records() {
    let audited =
        "rules:\n- { id: kept, owner: o, when: request.user == \"kept\", actions: { audit: required } }\n";
    let h = house(vec![model("a", 1.0)], &format!("{RULES}{audited}"), |c| Ok(whole(c, "x")));
    let mut kept = prose();
    kept["user"] = "kept".into();
    for full in [false, true, false] {
        h.full.store(full, Ordering::Relaxed);
        let (id, answer) = h.ask(prose()).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(h.engine.stored(&id).await.unwrap().is_none(), full);
        let (_, answer) = h.ask(kept.clone()).await;
        let refused = answer.err().map(|e| e.code().to_owned());
        assert_eq!(refused.as_deref(), full.then_some("unrecorded"));
    }
}
