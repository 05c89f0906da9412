//! A run as clients see it.

use super::failed;
use crate::clock;
use crate::openai::egress;
use engine::runs::for_clients;
use engine::{Head as AnswerHead, Tail, Whole};
use serde_json::{Map, Value, json};
use types::runs::{Entry, Head, Record, Row};
use types::{Completion, Usage, Usd, Verdict};

/// A run without its contents.
pub(crate) fn of_head(head: &Head) -> Map<String, Value> {
    let base = format!("/v1/runs/{}", head.id);
    let object = json!({
        "id": head.id,
        "object": "run",
        "status": head.state.as_str(),
        "workflow": (!head.workflow.is_empty()).then_some(&head.workflow),
        "plan_hash": head.plan,
        // The workflow says when it is written, and it is chosen when the run starts.
        "durability": head.plan.is_some().then_some(head.durability.as_str()),
        "revision": head.authored.revision,
        "labels": head.authored.labels,
        "metadata": head.labels,
        "created_ms": head.created_ms,
        "updated_ms": head.updated_ms,
        "started_ms": head.started_ms,
        "ended_ms": head.ended_ms,
        "expires_ms": head.expires_ms,
        "wake_ms": head.wake_ms,
        "spent": {"usd": head.spent.usd, "tokens": head.spent.tokens, "calls": head.spent.calls},
        "records": head.records,
        "owners": head.epoch,
        "cancel_requested": head.cancel,
        "parent": head.parent.as_ref().map(|p| json!({"run": p.run, "records": p.up_to})),
        "urls": {
            "self": base, "events": format!("{base}/events"), "trace": format!("{base}/trace"),
            "cancel": format!("{base}/cancel"), "resume": format!("{base}/resume"),
        },
    });
    match object {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A run with what it waits for and what it came to.
pub(crate) fn of_row(row: &Row) -> Map<String, Value> {
    let mut object = of_head(&row.head);
    object.insert("waiting".to_owned(), row.waiting.as_ref().map_or(Value::Null, for_clients));
    let result = row.result.as_ref();
    object.insert("result".to_owned(), result.and_then(|r| answer(&row.head, r)).unwrap_or(Value::Null));
    object
        .insert("verdict".to_owned(), result.and_then(|r| r.get("verdict")).cloned().unwrap_or(Value::Null));
    object.insert("error".to_owned(), result.and_then(failed::object).unwrap_or(Value::Null));
    object
}

/// The answer in the form of a chat completion.
fn answer(head: &Head, result: &Value) -> Option<Value> {
    let completion: Completion = serde_json::from_value(result.get("completion")?.clone()).ok()?;
    let usage = result.get("usage").and_then(|u| serde_json::from_value::<Usage>(u.clone()).ok());
    let whole = Whole {
        head: AnswerHead {
            request_id: head.id.clone(),
            workflow: head.workflow.as_str().into(),
            model: result.get("model")?.as_str()?.into(),
            simulated: false,
            bundle: "".into(),
            overhead_ms: 0.0,
            headers: Vec::new(),
        },
        tail: Tail {
            usage: usage.unwrap_or(completion.usage),
            cost: Usd::ZERO,
            cost_known: true,
            verdict: Verdict::None,
            calls: head.spent.calls,
            explain: None,
        },
        completion,
    };
    let created = head.ended_ms.unwrap_or_else(clock::unix_ms) / 1_000;
    serde_json::from_slice(&egress::body(&whole, created)).ok()
}

/// How far a run has come: nodes that have resolved, and those that run.
pub(crate) fn progress(entries: &[Entry]) -> Value {
    let mut running: Vec<&str> = Vec::new();
    let mut resolved = 0_u64;
    for entry in entries {
        match &entry.record {
            Record::Resumed { anew: true, .. } => (running, resolved) = (Vec::new(), 0),
            Record::NodeStarted { frame, .. } if !running.contains(&frame.as_str()) => running.push(frame),
            Record::NodeResolved { frame, .. } => {
                running.retain(|f| f != frame);
                resolved = resolved.saturating_add(1);
            }
            _ => {}
        }
    }
    json!({"resolved": resolved, "running": running})
}

/// A record as an event; `None` = of no use to anybody outside. `judged`: rules may keep the answer from whoever reads it,
/// and with it what was said on the way there.
pub(crate) fn event(entry: &Entry, judged: bool) -> Option<Value> {
    let mut object = match serde_json::to_value(&entry.record) {
        Ok(Value::Object(object)) => object,
        _ => return None,
    };
    match &entry.record {
        Record::Time { .. } => return None,
        // What the run was given is long, and of the house.
        Record::RunStarted { .. } => drop(object.remove("input")),
        Record::CallResult { .. } if judged => withhold(&mut object, "result"),
        // Both may quote it.
        Record::ValidatorResult { .. } if judged => withhold(&mut object, "findings"),
        Record::NodeResolved { note: Some(_), .. } if judged => withhold(&mut object, "note"),
        Record::Suspended { waiting, .. } => {
            object.insert("waiting".to_owned(), for_clients(waiting));
        }
        Record::RunFinished { result, .. } => {
            if let (Some(error), Some(told)) = (failed::object(result), object.get_mut("result")) {
                *told = json!({ "error": error });
            }
        }
        _ => {}
    }
    object.insert("seq".to_owned(), entry.seq.into());
    object.insert("ts_ms".to_owned(), entry.ts_ms.into());
    Some(Value::Object(object))
}

fn withhold(object: &mut Map<String, Value>, member: &str) {
    object.shift_remove(member);
    object.insert("withheld".to_owned(), true.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::runs::PlanChoice;

    fn entry(seq: u64, record: Value) -> Entry {
        Entry { seq, ts_ms: 5, epoch: 1, record: serde_json::from_value(record).unwrap() }
    }

    #[test]
    fn progress_is_what_started_and_has_not_resolved() {
        let node =
            |kind: &str, frame: &str| json!({"kind": kind, "frame": frame, "node": "set", "outcome": "ok"});
        let entries = [
            entry(1, node("node_started", "a")),
            entry(2, node("node_started", "b")),
            entry(3, node("node_resolved", "a")),
        ];
        assert_eq!(progress(&entries), json!({"resolved": 1, "running": ["b"]}));
        let anew = Record::Resumed {
            why: "asked".into(),
            plan: PlanChoice::Latest,
            posts: vec![],
            anew: true,
            retry: vec![],
        };
        let all: Vec<Entry> =
            entries.into_iter().chain([Entry { seq: 4, ts_ms: 5, epoch: 2, record: anew }]).collect();
        assert_eq!(progress(&all), json!({"resolved": 0, "running": []}));
    }

    /// A section of the page of the API.
    fn section(title: &str) -> &'static str {
        let page = include_str!("../../../../docs/api.md");
        let (_, rest) = page.split_once(&format!("\n### {title}\n")).unwrap();
        rest.split("\n#").next().unwrap()
    }

    #[test]
    fn the_page_of_the_api_tells_every_member_of_a_run_and_every_event() {
        let head = json!({"id": "run_1", "tenant": "t", "principal": "p", "workflow": "w", "plan": "h", "state": "failed",
            "durability": "sync", "labels": {}, "created_ms": 1, "updated_ms": 1, "started_ms": 1, "ended_ms": 1,
            "expires_ms": 1, "wake_ms": 1, "epoch": 1, "holder": null, "records": 1, "posts": 0, "cancel": "x",
            "spent": {"usd": 0, "tokens": 0, "calls": 0}, "parent": null, "callback_url": null});
        let head: Head = serde_json::from_value(head).unwrap();
        let (members, events) = (section("Members of a run"), section("Events of a run"));
        for member in of_head(&head)
            .keys()
            .map(String::as_str)
            .chain(["waiting", "result", "verdict", "error", "progress"])
        {
            assert!(members.contains(&format!("`{member}`")), "`{member}` of a run is told nowhere");
        }
        // The time as the run was told it is of no use to anybody outside.
        for kind in Record::KINDS.iter().filter(|kind| **kind != "time") {
            assert!(events.contains(&format!("\n| `{kind}` | ")), "the event `{kind}` is told nowhere");
        }
        for sample in types::runs::Record::KINDS.iter().zip(MEMBERS) {
            let (kind, names) = sample;
            let row = events.lines().find(|l| l.starts_with(&format!("| `{kind}` | "))).unwrap_or_default();
            assert!(
                names.iter().all(|name| row.contains(&format!("`{name}"))),
                "{row} is not whole: {names:?}"
            );
        }
    }

    /// Members of each of [`Record::KINDS`].
    const MEMBERS: &[&[&str]] = &[
        &["plan", "workflow", "bundle", "seed", "at_ms", "variant", "journal", "version"],
        &["decision"],
        &["frame", "node"],
        &["effect", "purpose", "digest", "reservation", "side_effect", "maybe_billed_twice"],
        &["effect", "result", "cost", "tokens"],
        &[],
        &["frame", "verdict", "findings"],
        &["from", "to", "live"],
        &["frame", "node", "outcome", "note"],
        &["state", "waiting"],
        &["why", "plan", "posts", "anew", "retry"],
        &["budget"],
        &["offset", "text"],
        &["state", "result"],
    ];

    #[test]
    fn events_name_their_place_and_keep_the_house_to_itself() {
        let time =
            json!({"kind": "time", "frame": "", "what": "begin", "index": 0, "attempt": 1, "nanos": 1});
        assert!(event(&entry(1, time), false).is_none());
        let started = json!({"kind": "run_started", "plan": "p", "workflow": "w", "bundle": "b", "seed": 1, "at_ms": 2, "input": {"scope": []}});
        let event = event(&entry(2, started), false).unwrap();
        assert_eq!(
            (&event["kind"], &event["seq"], &event["ts_ms"]),
            (&json!("run_started"), &json!(2), &json!(5))
        );
        assert!(event.get("input").is_none());
    }

    #[test]
    fn what_was_said_on_the_way_to_an_answer_that_rules_look_at_is_not_told() {
        let said = json!({"kind": "call_result", "effect": "a#0.1:model", "result": {"completion": "evil"}});
        assert!(event(&entry(1, said.clone()), false).unwrap().to_string().contains("evil"));
        let told = event(&entry(1, said), true).unwrap();
        assert_eq!((&told["withheld"], &told["effect"]), (&json!(true), &json!("a#0.1:model")));
        assert!(!told.to_string().contains("evil"), "{told}");
        let found =
            json!({"kind": "validator_result", "frame": "c", "verdict": "failed", "findings": ["evil"]});
        let noted = json!({"kind": "node_resolved", "frame": "a", "node": "generate", "outcome": "ok", "note": "evil"});
        for quoted in [found, noted] {
            let told = event(&entry(2, quoted), true).unwrap().to_string();
            assert!(told.contains("withheld") && !told.contains("evil"), "{told}");
        }
    }

    #[test]
    fn an_end_tells_its_error_in_the_words_of_requests() {
        let kept = json!({"code": "plan_missing", "message": "gone", "blame": "internal", "status": null,
            "findings": [], "attempts": []});
        let end = json!({"kind": "run_finished", "state": "failed", "result": {"error": kept}});
        let told = event(&entry(3, end), false).unwrap();
        let want = json!({"message": "gone", "type": "server_error", "param": null, "code": "plan_missing"});
        assert_eq!(told["result"], json!({"error": want}));
    }
}
