//! Values of `nodes` and `vars` for conditions.

use super::{Host, Row, RowId, State};
use crate::node::{Node, Tag};
use crate::outcome::Outcome;
use serde_json::{Map, Value, json};
use types::Verdict;
use types::completion::FinishReason;
use types::expr::Scope;

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Progress {
    Pending,
    Running,
    Resolved { outcome: Outcome, duration_ms: f64 },
}

/// The request's variables with `nodes` and `vars` added. Built only when a condition is evaluated.
pub(crate) fn build(host: &Host<'_>, state: &State, progress: &[Progress]) -> Scope {
    let mut nodes = Map::new();
    for (i, n) in host.workflow.nodes.iter().enumerate() {
        let p = progress.get(i).copied().unwrap_or(Progress::Pending);
        nodes.insert(n.id.to_string(), node(n, i, state, p));
    }
    let variables =
        vec![("nodes".to_owned(), Value::Object(nodes)), ("vars".to_owned(), host.workflow.vars.clone())];
    host.input.language.scope(Some(&host.input.scope), variables)
}

fn node(n: &Node, position: usize, state: &State, progress: Progress) -> Value {
    let (status, outcome, duration) = match progress {
        Progress::Pending => ("pending", Value::Null, Value::Null),
        Progress::Running => ("running", Value::Null, Value::Null),
        Progress::Resolved { outcome, duration_ms } => {
            ("resolved", Value::from(outcome.as_str()), Value::from(duration_ms))
        }
    };
    let mut v = json!({"status": status, "outcome": outcome, "duration_ms": duration});
    let Some(o) = state.output(position) else { return v };
    let list =
        |ids: &[RowId]| Value::Array(ids.iter().filter_map(|i| state.row(*i)).map(completion).collect());
    let one = |id: Option<RowId>| id.and_then(|i| state.row(i)).map_or(Value::Null, completion);
    let passed =
        |id: &RowId| state.row(*id).is_some_and(|r| matches!(r.verdict, Verdict::Passed | Verdict::None));
    let more = match n.tag {
        Tag::Generate => json!({
            "completions": list(&o.completions), "completion": one(o.completions.first().copied()),
            "ok_count": o.facts.count,
        }),
        Tag::Validate => json!({
            "completions": list(&o.completions), "passing": list(&o.passing), "usable": list(&o.usable),
            "failing": list(&o.failing), "best": one(o.best), "passed": !o.passing.is_empty(),
            "all_passed": !o.completions.is_empty() && o.completions.iter().all(passed),
            "score": o.facts.score, "unverified": o.facts.unverified,
        }),
        Tag::Repair => json!({
            "completion": one(o.completions.first().copied()), "attempts": o.facts.count,
            "strategy": o.facts.strategy,
        }),
        Tag::Judge => json!({
            "best": one(o.best), "best_score": o.facts.score,
            "abstained": matches!(progress, Progress::Resolved { outcome: Outcome::Abstained, .. }),
        }),
        Tag::Select => json!({
            "completion": one(o.completions.first().copied()), "runner_up": one(o.runner_up),
            "agreement": o.facts.agreement, "considered": o.facts.count,
        }),
        Tag::Stream | Tag::Fail => Value::Null,
    };
    if let (Value::Object(v), Value::Object(more)) = (&mut v, more) {
        v.extend(more);
    }
    v
}

fn completion(r: &Row) -> Value {
    let c = &r.completion;
    json!({
        "text": c.text(),
        "finish_reason": c.finish_reason().map(FinishReason::as_str),
        "provider": r.model.id.split('/').next().unwrap_or_default(),
        "model": &*r.model.id,
        "family": r.model.family,
        "cost_usd": r.model.price.map(|p| p.cost(&c.usage).dollars()),
        "refused": c.refused(),
        "truncated": c.finish_reason() == Some(&FinishReason::Length),
        "quality": r.quality(),
        "validation": {"verdict": r.verdict.as_str(), "score": r.score},
        "judge": {"score": r.judge},
        "usage": {"input": c.usage.input, "output": c.usage.output},
    })
}
