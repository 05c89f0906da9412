//! What a drawing of a workflow tells of a run of it.

use engine::rehearse::Seen;
use serde_json::Value;
use std::collections::BTreeMap;
use types::Usd;
use workflows::{Mark, Marks, Resolution};

/// What is told of one node, over all instances of it.
#[derive(Default)]
struct Sum {
    outcome: String,
    instances: u32,
    ms: i64,
    cost: Usd,
}

/// How each node of a run ended, the last instance of it counting, with time and cost of all.
pub(crate) fn marks(trace: &Value) -> Marks {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for node in trace.get("nodes").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| node.get(key).and_then(Value::as_str).unwrap_or_default();
        let ms = |key: &str| node.get(key).and_then(Value::as_i64);
        if text("outcome").is_empty() {
            continue;
        }
        let sum = sums.entry(Seen::plain(text("frame"))).or_default();
        text("outcome").clone_into(&mut sum.outcome);
        sum.instances = sum.instances.saturating_add(1);
        if let (Some(from), Some(to)) = (ms("started_ms"), ms("ended_ms")) {
            sum.ms = sum.ms.saturating_add(to.saturating_sub(from));
        }
        for effect in node.get("effects").and_then(Value::as_array).into_iter().flatten() {
            let cost = effect.get("cost").and_then(Value::as_f64).map(Usd::from_dollars);
            sum.cost = sum.cost.plus(cost.unwrap_or_default());
        }
    }
    let mark = |sum: Sum| {
        let mut note = Vec::new();
        if sum.instances > 1 {
            note.push(format!("×{}", sum.instances));
        }
        if Resolution::of(&sum.outcome) != Resolution::NotRun {
            note.push(format!("{} ms", sum.ms));
        }
        if sum.cost > Usd::ZERO {
            note.push(format!("{} USD", sum.cost));
        }
        Mark { outcome: sum.outcome, note: note.join(" ") }
    };
    sums.into_iter().map(|(path, sum)| (path, mark(sum))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_marks_its_nodes_with_outcome_time_and_cost() {
        let node = |frame: &str, outcome: &str, ms: (i64, i64), cost: f64| {
            json!({"frame": frame, "outcome": outcome, "started_ms": ms.0, "ended_ms": ms.1,
                "effects": [{"kind": "call_result", "cost": cost}]})
        };
        let trace = json!({"nodes": [
            node("ask", "ok", (10, 25), 0.5),
            node("work[0]/act", "ok", (0, 5), 0.25),
            node("work[1]/act", "error", (5, 12), 0.25),
            {"frame": "fix", "outcome": "skipped", "effects": []},
            {"frame": "still", "effects": []},
        ]});
        let marks = marks(&trace);
        let told = |path: &str| marks.get(path).map(|m| format!("{} {}", m.outcome, m.note));
        assert_eq!(told("ask").as_deref(), Some("ok 15 ms 0.5 USD"));
        assert_eq!(told("work/act").as_deref(), Some("error ×2 12 ms 0.5 USD"));
        assert_eq!(told("fix").as_deref(), Some("skipped "));
        assert_eq!(told("still"), None);
    }
}
