//! What the hash of a plan is made of: what a file says, as data. It must not change with how types are written in Rust,
//! for runs that wait are pinned to it.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use types::chat::{ResponseFormat, ToolChoice};
use types::provider::{Edits, Enforce};
use validators::Keys;

/// A value as data. `null` = it cannot be data, which is of none that files state.
pub(crate) fn written(value: &impl Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// What of a value is not as usual. What stands in it as it does by default is left out, so that no hash changes where a
/// new key has a default that leaves things as they were.
pub(crate) fn unusual<T: Serialize + Default>(value: &T) -> Json {
    match (written(value), written(&T::default())) {
        (Json::Object(mut members), Json::Object(usual)) => {
            members.retain(|name, v| usual.get(name) != Some(v));
            Json::Object(members)
        }
        (other, _) => other,
    }
}

/// The same value with the members of every object in order of their keys.
pub(crate) fn sorted(v: &Json) -> Json {
    match v {
        Json::Object(m) => {
            let mut members: Vec<(&String, &Json)> = m.iter().collect();
            members.sort_by_key(|(k, _)| *k);
            Json::Object(members.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect::<Map<_, _>>())
        }
        Json::Array(l) => Json::Array(l.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// What a node changes in the request, as far as its file says so: messages and tools stand elsewhere in its node.
pub(crate) fn edits(edits: &Edits) -> Json {
    // Every member by name: the compiler asks of a new one where it belongs.
    let Edits {
        messages: _,
        tools: _,
        prefill: _,
        response_format,
        temperature,
        top_p,
        max_tokens,
        seed,
        without_tools,
        stop,
        presence_penalty,
        frequency_penalty,
        reasoning_effort,
        logprobs,
        tool_choice,
        enforce: held,
    } = edits;
    let all = json!({
        "response_format": response_format.as_ref().map(form), "temperature": temperature, "top_p": top_p,
        "max_tokens": max_tokens, "seed": seed, "without_tools": without_tools.then_some(true), "stop": stop,
        "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty,
        "reasoning_effort": reasoning_effort.as_deref(), "logprobs": logprobs,
        "tool_choice": tool_choice.as_ref().map(choice),
        "enforce": (*held != Enforce::Auto).then(|| enforce(*held)),
    });
    match all {
        Json::Object(members) => members.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        other => other,
    }
}

/// The form of an answer.
pub(crate) fn form(form: &ResponseFormat) -> Json {
    match form {
        ResponseFormat::Text | ResponseFormat::JsonObject => json!(form.kind()),
        ResponseFormat::JsonSchema { name, schema, strict } => json!([form.kind(), name, schema, strict]),
    }
}

/// How a model is held to it, as files say it.
pub(crate) const fn enforce(enforce: Enforce) -> &'static str {
    match enforce {
        Enforce::Auto => "auto",
        Enforce::Strict => "strict",
        Enforce::JsonMode => "json_mode",
        Enforce::Prompt => "prompt",
    }
}

/// The keys that a list of checks has at an entry, but for those that are as usual.
pub(crate) fn keys(keys: &Keys) -> Json {
    let Keys { weight, needed, on_fail, label } = keys;
    let usual = Keys::default();
    let all = [
        ("weight", (*weight != usual.weight).then(|| json!(weight))),
        ("needed", needed.then(|| json!(true))),
        ("on_fail", (*on_fail != usual.on_fail).then(|| json!(on_fail.as_str()))),
        ("label", label.as_ref().map(|l| json!(l))),
    ];
    all.into_iter().filter_map(|(name, v)| Some((name.to_owned(), v?))).collect()
}

fn choice(choice: &ToolChoice) -> Json {
    match choice {
        ToolChoice::Unset => Json::Null,
        ToolChoice::None => json!("none"),
        ToolChoice::Auto => json!("auto"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Function(name) => json!({ "function": name }),
        ToolChoice::Allowed { names, required } => json!({ "allowed": names, "required": required }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retry;

    #[test]
    fn what_is_as_usual_is_left_out() {
        assert_eq!(unusual(&Retry::default()), json!({}));
        assert_eq!(unusual(&Retry { max_attempts: Some(2), ..Retry::default() }), json!({"max_attempts": 2}));
        assert_eq!(super::edits(&Edits::default()), json!({}));
        let edits = Edits { seed: Some(3), tool_choice: Some(ToolChoice::Required), ..Edits::default() };
        assert_eq!(super::edits(&edits), json!({"seed": 3, "tool_choice": "required"}));
    }
}
