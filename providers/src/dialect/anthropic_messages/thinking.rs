//! `thinking`, and the sampling beside it, as the vendor takes them (platform.claude.com, "Extended thinking").
//!
//! It refuses thinking where a tool must be called, where an answer has been begun, within a loop of tools whose turn
//! did not begin with its signed thoughts (which no chat-completions client keeps), and with a budget that reaches the
//! limit of the answer. Beside thinking it refuses a temperature, `top_k`, and a `top_p` below 0.95.

use super::super::{dropped, max_tokens, messages, temperature, tools, top_p};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use types::adjustment::Adjustment;
use types::chat::Role;
use types::provider::Call;

/// The highest temperature there is.
const HOTTEST: f64 = 1.0;
/// The lowest `top_p` beside thinking.
const WIDEST: f64 = 0.95;
/// The smallest budget.
const LEAST: u64 = 1024;

/// How a call asks its model to think and to choose its words.
#[derive(Debug)]
pub(super) struct Thinking<'a> {
    pub(super) thinking: Option<Cow<'a, RawValue>>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<&'a RawValue>,
    /// Budget asked for and given, where they differ; the second is `None` where thinking is left out.
    budget: Option<(Option<u64>, Option<u64>)>,
}

/// A member that only this vendor knows, as the request has it.
pub(super) fn own<'a>(call: &'a Call, name: &str) -> Option<&'a RawValue> {
    let raw = call.request.raw(name).filter(|raw| *raw != "null" && !dropped(call, name))?;
    serde_json::from_str(raw).ok()
}

/// The most tokens that the answer may have.
pub(super) fn limit(call: &Call) -> u32 {
    max_tokens(call).unwrap_or(call.model.max_output_tokens).max(1)
}

impl<'a> Thinking<'a> {
    pub(super) fn of(call: &'a Call) -> Thinking<'a> {
        let asked = own(call, "thinking");
        let (thinking, budget) = asked.map_or((None, None), |raw| fitted(call, raw));
        let on = asked.is_some_and(thinks) && thinking.is_some();
        let temperature = temperature(call).map(|t| t.clamp(0.0, HOTTEST)).filter(|_| !on);
        let narrow = |p: &f64| if on { *p >= WIDEST } else { temperature.is_none() };
        let top_k = own(call, "top_k").filter(|_| !on);
        Thinking { thinking, temperature, top_p: top_p(call).filter(narrow), top_k, budget }
    }

    /// What goes out otherwise than it was asked for.
    pub(super) fn adjust(&self, call: &Call, all: &mut Vec<Adjustment>) {
        match temperature(call) {
            // It is the vendor's own, beside thinking too.
            Some(asked) if self.temperature.is_none() && asked < HOTTEST => {
                all.push(Adjustment::dropped("temperature", asked));
            }
            Some(asked) if asked > HOTTEST => all.push(Adjustment::changed("temperature", asked, HOTTEST)),
            _ => {}
        }
        if let (Some(asked), None) = (top_p(call), self.top_p) {
            all.push(Adjustment::dropped("top_p", asked));
        }
        if let (Some(asked), None) = (own(call, "top_k"), self.top_k) {
            let number = serde_json::from_str(asked.get()).ok().filter(Value::is_number);
            all.push(Adjustment::dropped("top_k", number.unwrap_or_default()));
        }
        match self.budget {
            Some((Some(asked), Some(given))) => all.push(Adjustment::changed("thinking", asked, given)),
            Some((asked, _)) => all.push(Adjustment::dropped("thinking", asked)),
            None => {}
        }
    }
}

fn thinks(thinking: &RawValue) -> bool {
    serde_json::from_str::<Value>(thinking.get()).is_ok_and(|v| v.get("type").is_none_or(|t| t != "disabled"))
}

/// Budget asked for and given, where they differ.
type Changed = Option<(Option<u64>, Option<u64>)>;

/// `thinking` as it may go out, and what became of its budget.
fn fitted<'a>(call: &Call, asked: &'a RawValue) -> (Option<Cow<'a, RawValue>>, Changed) {
    let as_it_is = (Some(Cow::Borrowed(asked)), None);
    let Ok(mut value) = serde_json::from_str::<Value>(asked.get()) else { return as_it_is };
    let budget = value.get("budget_tokens").and_then(Value::as_u64);
    if !thinks(asked) {
        return as_it_is;
    }
    let forced = !tools(call).is_empty() && call.tool_choice().demands();
    if forced || within_loop(call) || call.edits.prefill.is_some() {
        return (None, Some((budget, None)));
    }
    // The limit is what may be spent: half of it is left for the answer.
    let limit = u64::from(limit(call));
    let Some(wish) = budget.filter(|budget| *budget >= limit) else { return as_it_is };
    let half = limit / 2;
    if half < LEAST {
        return (None, Some((budget, None)));
    }
    if let Some(members) = value.as_object_mut() {
        members.insert("budget_tokens".to_owned(), half.into());
    }
    match serde_json::value::to_raw_value(&value) {
        Ok(raw) => (Some(Cow::Owned(raw)), Some((Some(wish), Some(half)))),
        Err(_) => as_it_is,
    }
}

/// Whether the model's last turn called tools: the answer goes on with it.
fn within_loop(call: &Call) -> bool {
    let back = messages(call).iter().rev().skip_while(|m| m.role != Role::Assistant);
    back.take_while(|m| m.role == Role::Assistant).any(|m| !m.tool_calls.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;
    use std::sync::Arc;

    /// What goes out of `thinking`, `temperature`, `top_p` and `top_k`, and what is told of it, for members beside a
    /// budget of 2000.
    #[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
    fn check(more: Value, want: Value, told: Value) {
        let mut body = json!({
            "model": "m", "messages": [{"role": "user", "content": "x"}],
            "thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let call = crate::dialect::tests::call(
            &Bytes::from(body.to_string()),
            types::matrix::Dialect::AnthropicMessages,
        );
        let sent = Thinking::of(&call);
        let value = |raw: Option<&RawValue>| raw.map(|r| serde_json::from_str::<Value>(r.get()).unwrap());
        let got = json!([value(sent.thinking.as_deref()), sent.temperature, sent.top_p, value(sent.top_k)]);
        assert_eq!(got, want, "{more}");
        let mut all = Vec::new();
        sent.adjust(&call, &mut all);
        assert_eq!(serde_json::to_value(all).unwrap(), told, "{more}");
    }

    fn budget(n: u32) -> Value {
        json!({"type": "enabled", "budget_tokens": n})
    }

    #[test]
    fn sampling_beside_thinking_is_left_out() {
        check(json!({}), json!([budget(2000), null, null, null]), json!([]));
        check(
            json!({"temperature": 0, "top_p": 0.5, "top_k": 4}),
            json!([budget(2000), null, null, null]),
            json!([{"name": "temperature", "from": 0.0}, {"name": "top_p", "from": 0.5}, {"name": "top_k", "from": 4}]),
        );
        check(json!({"temperature": 1, "top_p": 0.97}), json!([budget(2000), null, 0.97, null]), json!([]));
        let off = json!({"type": "disabled"});
        check(
            json!({"thinking": off, "temperature": 0.5, "top_k": 4}),
            json!([off, 0.5, null, 4]),
            json!([]),
        );
    }

    #[test]
    fn a_budget_stays_below_the_limit_of_the_answer() {
        check(
            json!({"max_tokens": 2000}),
            json!([null, null, null, null]),
            json!([{"name": "thinking", "from": 2000}]),
        );
        check(
            json!({"max_tokens": 3000, "thinking": budget(3000)}),
            json!([budget(1500), null, null, null]),
            json!([{"name": "thinking", "from": 3000, "to": 1500}]),
        );
        let adaptive = json!({"type": "adaptive"});
        check(
            json!({"max_tokens": 10, "thinking": adaptive}),
            json!([adaptive, null, null, null]),
            json!([]),
        );
    }

    #[test]
    fn where_a_tool_is_demanded_or_its_result_told_nobody_thinks() {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let without = json!([null, 0.0, null, null]);
        let told = json!([{"name": "thinking", "from": 2000}]);
        check(
            json!({"tools": tools, "tool_choice": "required", "temperature": 0}),
            without.clone(),
            told.clone(),
        );
        check(
            json!({"tools": tools, "tool_choice": "auto"}),
            json!([budget(2000), null, null, null]),
            json!([]),
        );
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let mut history = vec![
            json!({"role": "user", "content": "x"}),
            json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            json!({"role": "tool", "tool_call_id": "c", "content": "1"}),
        ];
        check(json!({"messages": history, "tools": tools, "temperature": 0}), without, told);
        // That loop is over: what comes is another turn.
        history.push(json!({"role": "assistant", "content": "one"}));
        history.push(json!({"role": "user", "content": "x"}));
        check(
            json!({"messages": history, "tools": tools}),
            json!([budget(2000), null, null, null]),
            json!([]),
        );
    }

    #[test]
    fn thinking_does_not_go_on_from_a_beginning() {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "thinking": budget(2000)});
        let mut call = crate::dialect::tests::call(
            &Bytes::from(body.to_string()),
            types::matrix::Dialect::AnthropicMessages,
        );
        assert!(Thinking::of(&call).thinking.is_some());
        call.edits.prefill = Some(Arc::from("{"));
        assert!(Thinking::of(&call).thinking.is_none());
    }
}
