//! `script`: a function of a policy file says what is wrong with an answer.

use policies::PolicySet;
use serde_json::{Value, json};
use types::completion::FinishReason;
use types::{Completion, Report};
use workflows::CheckAsk;

/// Calls the function with the answer and the variables of the request.
pub(crate) async fn check(policies: &PolicySet, ask: &CheckAsk) -> Report {
    policies.look_at(name(ask), answer(&ask.completion), &ask.scope).await
}

/// The same on the caller's thread, where time is simulated.
pub(crate) fn check_now(policies: &PolicySet, ask: &CheckAsk) -> Report {
    policies.look_at_now(name(ask), &answer(&ask.completion), &ask.scope)
}

fn name(ask: &CheckAsk) -> &str {
    ask.with.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// What the function reads as `answer`.
fn answer(completion: &Completion) -> Value {
    let text = completion.text();
    let value: Option<Value> = serde_json::from_str(text.trim()).ok();
    let call = |c: &types::chat::ToolCall| json!({"name": c.name, "arguments": c.arguments});
    json!({
        "text": text, "json": value,
        "finish_reason": completion.finish_reason().map(FinishReason::as_str),
        "tool_calls": completion.tool_calls().iter().map(call).collect::<Vec<_>>(),
    })
}
