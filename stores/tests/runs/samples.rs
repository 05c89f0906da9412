//! Sample runs and records.

use serde_json::json;
use std::future::Future;
use std::time::Duration;
use types::Usd;
use types::runs::{Advance, Authored, Durability, NewRun, Record, SideEffect, State, To};

pub(crate) const TENANT: &str = "acme";

/// A wish for a run that lives an hour.
pub(crate) fn wish(id: &str) -> NewRun {
    NewRun {
        id: id.to_owned(),
        tenant: TENANT.to_owned(),
        principal: "alice".to_owned(),
        workflow: "default".to_owned(),
        durability: Durability::Sync,
        authored: Authored::default(),
        labels: [("team".to_owned(), "größe \u{1}".to_owned())].into(),
        submission: json!({"request": {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}}),
        callback_url: None,
        lifetime: Duration::from_secs(3_600),
        key: None,
        fork: None,
        records: Vec::new(),
        room: None,
    }
}

/// Records of a small run, in order.
pub(crate) fn records() -> Vec<Record> {
    let intent = |effect: &str| Record::CallIntent {
        effect: effect.to_owned(),
        purpose: "primary".to_owned(),
        digest: "d".repeat(64),
        reservation: Usd::from_nanos(1_234_567),
        side_effect: SideEffect::None,
        maybe_billed_twice: false,
    };
    let result = |effect: &str| Record::CallResult {
        effect: effect.to_owned(),
        result: json!({"text": "an answer", "score": 0.1, "n": u64::MAX}),
        cost: Some(Usd::from_nanos(7)),
        tokens: 12,
    };
    let time = |what: &str, nanos| Record::Time {
        frame: "a".to_owned(),
        what: what.to_owned(),
        index: 0,
        attempt: 1,
        nanos,
    };
    vec![
        Record::RunStarted {
            plan: "p1".to_owned(),
            workflow: "default".to_owned(),
            bundle: "b".to_owned(),
            seed: u64::MAX,
            at_ms: 1_700_000_000_000,
            input: json!({"z": 1, "a": [1.5, null]}),
            variant: None,
            journal: 1,
            version: "0.1.0".to_owned(),
        },
        Record::NodeStarted { frame: "a".to_owned(), node: "generate".to_owned() },
        time("begin", 12),
        intent("a#0.1:model"),
        result("a#0.1:model"),
        Record::Edge { from: "a".to_owned(), to: "b".to_owned(), live: true },
        Record::NodeResolved {
            frame: "a".to_owned(),
            node: "generate".to_owned(),
            outcome: "ok".to_owned(),
            note: None,
        },
        intent("b#0.1:model"),
        result("b#0.1:model"),
        Record::Stream { offset: 0, text: "an answer".to_owned() },
    ]
}

pub(crate) fn wrote(records: &[Record]) -> Advance {
    Advance { records: records.to_vec(), ..Advance::default() }
}

pub(crate) fn ended(state: State) -> Advance {
    let result = json!({"text": "an answer"});
    let record = Record::RunFinished { state, result: result.clone() };
    Advance { records: vec![record], to: Some(To::Ended { state, result }), ..Advance::default() }
}

pub(crate) fn waits(state: State, wake_ms: Option<i64>, seen: u64) -> Advance {
    let waiting = json!({"gate": "g"});
    Advance { to: Some(To::Waiting { state, waiting, wake_ms, seen }), ..Advance::default() }
}

/// Waits for a future, on a runtime of its own.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
