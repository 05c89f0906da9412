//! `contract`: whatever form the request asks the answer to have.

use crate::finding::nothing;
use crate::params::{Params, Problem};
use crate::{
    About, Check, Entry, Growing, Input, Kind, Promise, finish_reason, json, json_schema, tool_args,
};
use serde_json::Value;
use std::sync::Arc;
use types::chat::{ResponseFormat, ToolChoice};
use types::run::Severity;
use types::{ChatRequest, Report};

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: "contract",
    about: "the checks that the request implies: json, json_schema, tool_args, not_truncated; nothing for prose",
    kind: Kind::Structural,
    stream: "early; calls beside prose",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Contract {
    severity: Severity,
}

/// No parameters: the request says everything.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    Params::new(with, &[])?;
    Ok(Arc::new(Contract { severity }))
}

/// The checks that the request implies. An answer that calls tools has to fit them even where none was offered,
/// which [`Check::check`] sees when it is there.
pub(crate) fn checks(request: &ChatRequest, severity: Severity) -> Vec<Arc<dyn Check>> {
    let mut list = Vec::new();
    match request.response_format {
        ResponseFormat::Text => {}
        ResponseFormat::JsonObject => list.push(json::object(severity)),
        ResponseFormat::JsonSchema { .. } => list.push(json_schema::of_request(severity)),
    }
    // Prose that the client's own `max_tokens` cuts short is what was asked for; cut JSON never is.
    if !list.is_empty() {
        list.push(finish_reason::not_truncated(severity));
    }
    if !request.tools.is_empty() {
        list.push(tool_args::of_request(severity));
    }
    list
}

impl Contract {
    /// The part that can be decided while the text grows.
    fn form(&self, request: &ChatRequest) -> Option<Arc<dyn Check>> {
        checks(request, self.severity).into_iter().find(|c| c.promise(request) == Promise::Early)
    }
}

impl Check for Contract {
    fn about(&self) -> About {
        About::structural("contract", self.severity)
    }

    fn applies(&self, request: &ChatRequest) -> bool {
        request.response_format != ResponseFormat::Text
            || !request.tools.is_empty() && request.tool_choice != ToolChoice::None
    }

    fn promise(&self, request: &ChatRequest) -> Promise {
        match self.form(request) {
            Some(_) => Promise::Early,
            // Prose may be anything: what is left to look at are the calls.
            None if self.applies(request) => tool_args::of_request(self.severity).promise(request),
            None => Promise::End,
        }
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        self.form(request)?.open(request)
    }

    fn schema(&self, request: &ChatRequest) -> Option<Arc<Value>> {
        json_schema::asked(request).cloned()
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let mut list = checks(input.request, self.severity);
        let calls = input.completion.choices.iter().any(|c| !c.tool_calls.is_empty());
        if calls && input.request.tools.is_empty() {
            list.push(tool_args::of_request(self.severity));
        }
        if list.is_empty() {
            return nothing();
        }
        crate::run(&list, input).report
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use crate::{Promise, build, contract};
    use serde_json::{Value, json};
    use types::chat::ToolCall;

    fn check(extra: Value, want: &[&str]) {
        let r = request(extra);
        let names: Vec<_> = contract(&r).iter().map(|c| c.name()).collect();
        assert_eq!(names, want);
        assert_eq!(build("contract", &Value::Null, None).unwrap().applies(&r), !want.is_empty());
    }

    #[test]
    fn the_request_implies_its_checks() {
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        check(json!({}), &[]);
        check(json!({"response_format": {"type": "text"}}), &[]);
        check(json!({"response_format": {"type": "json_object"}}), &["json", "not_truncated"]);
        check(json!({"response_format": schema}), &["json_schema", "not_truncated"]);
        check(json!({"tools": tools}), &["tool_args"]);
    }

    /// What has to wait of an answer: nothing, its calls, or all of it.
    #[test]
    fn the_request_says_what_has_to_wait() {
        let check = |extra: Value, want: Promise| {
            let r = request(extra);
            assert_eq!(build("contract", &Value::Null, None).unwrap().promise(&r), want, "{r:?}");
        };
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        check(json!({"tools": tools}), Promise::Calls);
        check(json!({"tools": tools, "tool_choice": "auto"}), Promise::Calls);
        check(json!({"tools": tools, "parallel_tool_calls": false}), Promise::Calls);
        for choice in [json!("required"), json!({"type": "function", "function": {"name": "f"}})] {
            check(json!({"tools": tools, "tool_choice": choice}), Promise::End);
        }
        check(json!({"tools": tools, "response_format": {"type": "json_object"}}), Promise::Early);
        check(json!({"response_format": {"type": "json_object"}}), Promise::Early);
    }

    /// A call that nobody declared is no answer, whatever form was asked for.
    #[test]
    fn calls_of_tools_are_checked_whether_or_not_any_was_offered() {
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}}}}]);
        let call = |extra: Value, name: &str, arguments: &str, want: &[&str]| {
            let mut c = answer("");
            c.choices[0].tool_calls.push(ToolCall {
                id: "1".into(),
                name: name.into(),
                arguments: arguments.into(),
                ..ToolCall::default()
            });
            assert_eq!(codes("contract", &Value::Null, &request(extra), &c), want, "{name} {arguments}");
        };
        // Whoever offers no tool expects no call of one: that weighs most.
        let none: &[&str] = &["unknown_tool", "unexpected_call"];
        call(json!({"response_format": schema}), "g", "{}", none);
        call(json!({"response_format": {"type": "json_object"}}), "g", "{}", none);
        call(json!({}), "g", "{}", &["unknown_tool"]);
        let both = json!({"response_format": schema, "tools": tools});
        call(both.clone(), "g", "{}", &["unknown_tool"]);
        call(both.clone(), "f", "{\"a\": \"1\"}", &["type"]);
        call(both, "f", "{\"a\": 1}", &[]);
    }

    #[test]
    fn fenced_json_breaks_a_client_that_asked_for_json() {
        let r = request(json!({"response_format": {"type": "json_object"}}));
        assert_eq!(codes("contract", &Value::Null, &r, &answer("```json\n{}\n```")), ["not_json"]);
        assert_eq!(codes("contract", &Value::Null, &r, &answer("{}")), Vec::<String>::new());
        for other in ["5", "null", "\"x\"", "true", "[1]", "[{}]"] {
            assert_eq!(codes("contract", &Value::Null, &r, &answer(other)), ["type"], "{other}: no object");
        }
        assert_eq!(codes("contract", &Value::Null, &request(json!({})), &answer("hi")), ["none"]);
    }
}
