//! The ten axes, one file each: from what was counted to a score per value.

pub(crate) mod context_topology;
pub(crate) mod determinism_needs;
pub(crate) mod economic_policy;
pub(crate) mod latency_class;
pub(crate) mod output_contract;
pub(crate) mod precision_sensitivity;
pub(crate) mod required_depth;
pub(crate) mod safety_posture;
pub(crate) mod task_family;
pub(crate) mod tool_dependence;

use types::axis::{AxisValue, TaskFamily};
use types::profile::{Scored, SubLabel};

/// What kind of work, as decided: the other axes lean on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Family.
    pub(crate) family: TaskFamily,
    /// Its refinement.
    pub(crate) sub: Option<SubLabel>,
}

/// Scores from log odds: p_i = exp(x_i / t) / Σ exp(x_j / t); `t` above 1 makes the confidence humbler.
fn softmax<V: AxisValue, const N: usize>(log_odds: [f32; N], temperature: f32) -> Scored<V> {
    // The greatest is raised to 1, so nothing overflows.
    let top = log_odds.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Scored::from_weights(&log_odds.map(|x| ((x - top) / temperature).exp()))
}

/// The explicit value if there is one, else what `infer` says.
fn explicit_or<V: AxisValue>(explicit: Option<V>, infer: impl FnOnce() -> Scored<V>) -> Scored<V> {
    explicit.map_or_else(infer, Scored::explicit)
}

#[cfg(test)]
pub(crate) mod testing {
    //! Requests in short form, for the tables at the end of each axis.

    use serde_json::{Value, json};
    use types::axis::AxisValue;
    use types::{ChatRequest, WorkloadProfile};

    /// Profile of a body; `model` is `auto` unless given.
    pub(crate) fn body(mut body: Value) -> WorkloadProfile {
        if body.get("model").is_none() {
            body["model"] = json!("auto");
        }
        crate::profile(&ChatRequest::from_value(&body).expect("a valid request"))
    }

    /// Profile of one user message.
    pub(crate) fn text(text: &str) -> WorkloadProfile {
        body(json!({"messages": [{"role": "user", "content": text}]}))
    }

    /// Asserts that every text gets that value, and tells all that do not.
    pub(crate) fn all<V: AxisValue>(texts: &[&str], expected: V, value: fn(&WorkloadProfile) -> V) {
        let others: Vec<_> =
            texts.iter().map(|t| (*t, value(&text(t)))).filter(|(_, v)| *v != expected).collect();
        assert!(others.is_empty(), "instead of {expected:?}: {others:#?}");
    }

    /// One offered tool.
    pub(crate) fn tool() -> Value {
        json!({"type": "function", "function": {"name": "get_weather", "description": "Weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}})
    }

    /// A trajectory that holds one tool result.
    pub(crate) fn trajectory() -> Value {
        json!([
            {"role": "user", "content": "Is it warm in Rome?"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "get_weather", "arguments": "{\"city\":\"Rome\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "{\"celsius\": 31}"},
        ])
    }
}
