//! `thinking`, and the sampling beside it, as the vendor takes them (platform.claude.com, "Extended thinking").
//!
//! It refuses thinking where a tool must be called, where an answer has been begun, within a loop of tools whose turn
//! did not begin with its signed thoughts (a client that keeps `thinking_blocks` in its messages has them), and with a
//! budget that reaches the limit of the answer. Beside thinking it refuses a temperature, `top_k`, and a `top_p` below 0.95.
//!
//! `reasoning_effort` is said in the words of the model's generation, which a tag of its row names: `adaptive_thinking`
//! (with an effort in `output_config`) or `thinking_budget`.

use super::super::{dropped, max_tokens, messages, temperature, tools, top_p};
use super::uses_answer_tool;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use types::adjustment::Adjustment;
use types::chat::{Message, Role};
use types::provider::Call;

/// Member of a message with its signed thoughts: `LiteLLM`'s name, which clients know.
const BLOCKS: &str = "thinking_blocks";
/// The highest temperature there is.
const HOTTEST: f64 = 1.0;
/// The lowest `top_p` beside thinking.
const WIDEST: f64 = 0.95;
/// The smallest budget, which is what little effort gets; others are our choice.
const LEAST: u64 = 1024;
const MEDIUM: u64 = 8_192;
const HIGH: u64 = 24_576;

/// Models with this tag think as much as they find right, and know words for the effort (from Claude 4.6 on).
const ADAPTIVE: &str = "adaptive_thinking";
/// Models with this tag think within a number of tokens.
const BUDGET: &str = "thinking_budget";

/// How a call asks its model to think and to choose its words.
#[derive(Debug)]
pub(super) struct Thinking<'a> {
    pub(super) thinking: Option<Cow<'a, RawValue>>,
    /// Where the effort stands that the answer is worth.
    pub(super) output_config: Option<Cow<'a, RawValue>>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<&'a RawValue>,
    /// What became of the wish to think.
    told: Vec<Adjustment>,
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
        let mut told = Vec::new();
        let effort = call.reasoning_effort();
        let effort = effort.filter(|_| !dropped(call, "reasoning_effort"));
        // What a body says in the vendor's own words goes before.
        let (thinking, output_config) = match (own(call, "thinking"), own(call, "output_config"), effort) {
            (None, None, Some(effort)) => by_effort(call, effort, &mut told),
            (asked, config, effort) => {
                told.extend(effort.map(|effort| Adjustment::dropped("reasoning_effort", effort)));
                (asked.and_then(|raw| fitted(call, raw, &mut told)), config.map(Cow::Borrowed))
            }
        };
        let on = thinking.as_deref().is_some_and(thinks);
        let temperature = temperature(call).map(|t| t.clamp(0.0, HOTTEST)).filter(|_| !on);
        let narrow = |p: &f64| if on { *p >= WIDEST } else { temperature.is_none() };
        let top_k = own(call, "top_k").filter(|_| !on);
        let top_p = top_p(call).filter(narrow);
        Thinking { thinking, output_config, temperature, top_p, top_k, told }
    }

    /// Whether the model thinks.
    pub(super) fn on(&self) -> bool {
        self.thinking.as_deref().is_some_and(thinks)
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
        all.extend_from_slice(&self.told);
    }
}

/// A thought with its signature as a message has it; one without has not ended, and the vendor would refuse it.
pub(super) fn thought(text: &str, signature: &str) -> Option<Value> {
    (!signature.is_empty()).then(|| json!({"type": "thinking", "thinking": text, "signature": signature}))
}

/// A thought that only the vendor can read.
pub(super) fn redacted(data: &str) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}

/// What a message has of thoughts beside their text.
pub(super) fn signed(thoughts: Vec<Value>) -> Value {
    Value::Object(Map::from_iter([(BLOCKS.to_owned(), Value::Array(thoughts))]))
}

/// The signed thoughts that a message of a history begins with.
pub(super) fn thoughts(message: &Message) -> impl Iterator<Item = &Value> {
    let blocks = message.extra.get(BLOCKS).and_then(Value::as_array);
    blocks.into_iter().flatten().filter(|b| {
        let full = |name: &str| b.get(name).and_then(Value::as_str).is_some_and(|s| !s.is_empty());
        match b.get("type").and_then(Value::as_str) {
            Some("thinking") => full("signature"),
            Some("redacted_thinking") => full("data"),
            _ => false,
        }
    })
}

fn thinks(thinking: &RawValue) -> bool {
    serde_json::from_str::<Value>(thinking.get()).is_ok_and(|v| v.get("type").is_none_or(|t| t != "disabled"))
}

/// `thinking` as it may go out.
fn fitted<'a>(call: &Call, asked: &'a RawValue, told: &mut Vec<Adjustment>) -> Option<Cow<'a, RawValue>> {
    let as_it_is = Some(Cow::Borrowed(asked));
    let Ok(mut value) = serde_json::from_str::<Value>(asked.get()) else { return as_it_is };
    if !thinks(asked) {
        return as_it_is;
    }
    let wish = value.get("budget_tokens").and_then(Value::as_u64);
    let given = wish.map(|wish| within_limit(call, wish));
    if given == Some(None) || !may_think(call) {
        told.push(Adjustment::dropped("thinking", wish));
        return None;
    }
    let (Some(wish), Some(given)) = (wish, given.flatten().filter(|given| Some(*given) != wish)) else {
        return as_it_is;
    };
    if let Some(members) = value.as_object_mut() {
        members.insert("budget_tokens".to_owned(), given.into());
    }
    told.push(Adjustment::changed("thinking", wish, given));
    written(&value)
}

/// `reasoning_effort` in the words of the model's generation: `thinking`, and `output_config`.
fn by_effort<'a>(
    call: &Call,
    effort: &str,
    told: &mut Vec<Adjustment>,
) -> (Option<Cow<'a, RawValue>>, Option<Cow<'a, RawValue>>) {
    let tagged = |tag: &str| call.model.tags.iter().any(|t| t == tag);
    let known = match effort {
        "none" => return (None, None),
        "minimal" | "low" => Some(("low", LEAST)),
        "medium" => Some(("medium", MEDIUM)),
        "high" | "xhigh" => Some(("high", HIGH)),
        _ => None,
    };
    // The form of the answer goes before: a tool that must be called leaves no room for thoughts.
    let may = may_think(call) && !uses_answer_tool(call);
    match known {
        Some((word, _)) if tagged(ADAPTIVE) => {
            if word != effort {
                told.push(Adjustment::changed("reasoning_effort", effort, word));
            }
            let thinking = may.then(|| written(&json!({"type": "adaptive"}))).flatten();
            return (thinking, written(&json!({"effort": word})));
        }
        Some((_, budget)) if tagged(BUDGET) && may => {
            if let Some(budget) = within_limit(call, budget) {
                return (written(&json!({"type": "enabled", "budget_tokens": budget})), None);
            }
        }
        _ => {}
    }
    told.push(Adjustment::dropped("reasoning_effort", effort));
    (None, None)
}

fn written<'a>(value: &Value) -> Option<Cow<'a, RawValue>> {
    serde_json::value::to_raw_value(value).ok().map(Cow::Owned)
}

/// Whether the vendor takes thinking beside what else it is asked.
fn may_think(call: &Call) -> bool {
    let forced = !tools(call).is_empty() && call.tool_choice().demands();
    !forced && !within_loop(call) && call.edits.prefill.is_none()
}

/// A budget below the limit of the answer, which is what may be spent: half of it is left for the answer. `None` where
/// too little remains.
fn within_limit(call: &Call, wish: u64) -> Option<u64> {
    let limit = u64::from(limit(call));
    match wish < limit {
        true => Some(wish),
        false => Some(limit / 2).filter(|half| *half >= LEAST),
    }
}

/// Whether the answer goes on with a turn that called tools and did not begin with thoughts.
fn within_loop(call: &Call) -> bool {
    let turn = messages(call).rsplit(|m| m.role == Role::User).next().unwrap_or_default();
    let mut said = turn.iter().filter(|m| m.role == Role::Assistant);
    let signed = said.clone().next().is_some_and(|m| thoughts(m).next().is_some());
    !signed && said.any(|m| !m.tool_calls.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
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

    /// What goes out of `thinking` and `output_config` for an effort, and what is told of it.
    #[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
    fn check_effort(tag: &str, more: Value, want: Value, told: Value) {
        let mut body =
            json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 30_000});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let bytes = Bytes::from(body.to_string());
        let mut call = crate::dialect::tests::call(&bytes, types::matrix::Dialect::AnthropicMessages);
        let model = std::sync::Arc::make_mut(&mut call.model);
        (model.tags, model.max_output_tokens) = (vec![tag.to_owned()], 64_000);
        let sent = Thinking::of(&call);
        let value = |raw: &Option<Cow<'_, RawValue>>| {
            raw.as_ref().map(|r| serde_json::from_str::<Value>(r.get()).unwrap())
        };
        assert_eq!(json!([value(&sent.thinking), value(&sent.output_config)]), want, "{tag} {more}");
        let mut all = Vec::new();
        sent.adjust(&call, &mut all);
        assert_eq!(serde_json::to_value(all).unwrap(), told, "{tag} {more}");
    }

    #[test]
    fn an_effort_is_said_in_the_words_of_the_models_generation() {
        let effort = |word: &str| json!({"reasoning_effort": word});
        let lost = |word: &str| json!([{"name": "reasoning_effort", "from": word}]);
        check_effort(BUDGET, effort("low"), json!([budget(1024), null]), json!([]));
        check_effort(BUDGET, effort("high"), json!([budget(24_576), null]), json!([]));
        check_effort(
            BUDGET,
            json!({"reasoning_effort": "high", "max_tokens": 4000}),
            json!([budget(2000), null]),
            json!([]),
        );
        check_effort(
            BUDGET,
            json!({"reasoning_effort": "low", "max_tokens": 900}),
            json!([null, null]),
            lost("low"),
        );
        let adaptive = |word: &str| json!([{"type": "adaptive"}, {"effort": word}]);
        check_effort(ADAPTIVE, effort("medium"), adaptive("medium"), json!([]));
        let told = json!([{"name": "reasoning_effort", "from": "minimal", "to": "low"}]);
        check_effort(ADAPTIVE, effort("minimal"), adaptive("low"), told);
        for tag in [BUDGET, ADAPTIVE] {
            check_effort(tag, effort("none"), json!([null, null]), json!([]));
            check_effort(tag, effort("odd"), json!([null, null]), lost("odd"));
        }
        check_effort("house", effort("high"), json!([null, null]), lost("high"));
        // The vendor's own words go before, and so does a form of the answer that is held by a call.
        let more = json!({"reasoning_effort": "high", "thinking": budget(2000)});
        check_effort(ADAPTIVE, more, json!([budget(2000), null]), lost("high"));
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
        let more = json!({"reasoning_effort": "high", "response_format": schema});
        check_effort(ADAPTIVE, more.clone(), json!([null, {"effort": "high"}]), json!([]));
        check_effort(BUDGET, more, json!([null, null]), lost("high"));
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
        let more = json!({"messages": history, "tools": tools, "temperature": 0});
        check(more, without.clone(), told.clone());
        // Without its signature a thought counts for nothing.
        let mut unsigned = history.clone();
        unsigned[1]["thinking_blocks"] = json!([{"type": "thinking", "thinking": "hm"}]);
        check(json!({"messages": unsigned, "tools": tools, "temperature": 0}), without, told);
        // It began with signed thoughts: they go on.
        let mut signed = history.clone();
        signed[1]["thinking_blocks"] = json!([{"type": "thinking", "thinking": "hm", "signature": "c2ln"}]);
        check(
            json!({"messages": signed, "tools": tools}),
            json!([budget(2000), null, null, null]),
            json!([]),
        );
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
