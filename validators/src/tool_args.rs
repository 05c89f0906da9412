//! `tool_args`: calls name tools that were offered, with arguments that fit, as many as were asked for.

use crate::finding::{Note, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::schema::compiled;
use crate::{About, Check, Entry, Input, Kind, MAX_FINDINGS, Promise};
use serde_json::Value;
use std::sync::Arc;
use types::chat::{Tool, ToolCall, ToolChoice};
use types::completion::Choice;
use types::run::Severity;
use types::{ChatRequest, Finding, Report};

const NAME: &str = "tool_args";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "tool calls name offered tools, with arguments that fit, as many as asked",
    kind: Kind::Structural,
    stream: "calls; end where one is required",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct ToolArgs {
    severity: Severity,
}

/// No parameters: the tools of the request say everything.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    Params::new(with, &[])?;
    Ok(of_request(severity))
}

/// The check of the request's own tools.
pub(crate) fn of_request(severity: Severity) -> Arc<dyn Check> {
    Arc::new(ToolArgs { severity })
}

impl Check for ToolArgs {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn applies(&self, request: &ChatRequest) -> bool {
        !request.tools.is_empty()
    }

    /// That a call is missing shows only at the end, and then the text should not have been said either.
    fn promise(&self, request: &ChatRequest) -> Promise {
        if request.tool_choice.demands() { Promise::End } else { Promise::Calls }
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        if !self.applies(input.request) && choices.iter().all(|c| c.tool_calls.is_empty()) {
            return nothing();
        }
        let mut notes = Vec::new();
        let mut unchecked = None;
        for (position, choice) in choices.iter().enumerate() {
            let mut here = self.counts(choice, input.request);
            for (i, call) in choice.tool_calls.iter().enumerate() {
                match self.call(call, i, input.request) {
                    Ok(found) => here.extend(found),
                    Err(why) => unchecked = Some(why),
                }
            }
            notes.extend(here.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
        }
        let called = choices.iter().any(|c| !c.tool_calls.is_empty());
        if notes.is_empty() && !called {
            // Whoever may do without a tool and does has shown nothing by it.
            return nothing();
        }
        match unchecked {
            Some(why) if notes.is_empty() => unverified(why),
            _ => decided(notes),
        }
    }
}

impl ToolArgs {
    fn note(&self, code: &str, message: &str) -> Note {
        Note::new(NAME, self.severity, code, message)
    }

    fn counts(&self, choice: &Choice, request: &ChatRequest) -> Vec<Note> {
        let calls = choice.tool_calls.len();
        let mut notes = Vec::new();
        match &request.tool_choice {
            ToolChoice::None if calls > 0 => {
                notes.push(self.note("unexpected_call", "a tool is called although `tool_choice` is none"));
            }
            ToolChoice::Required | ToolChoice::Allowed { required: true, .. } if calls == 0 => {
                notes.push(self.note("missing_call", "no tool is called although one is required"));
            }
            ToolChoice::Function(name) if !choice.tool_calls.iter().any(|c| c.name == *name) => {
                let message = format!("the tool `{name}` is not called although it is required");
                notes.push(self.note("missing_call", &message).expected(name.as_str()));
            }
            _ => {}
        }
        if request.params.parallel_tool_calls == Some(false) && calls > 1 {
            let message = format!("{calls} calls at once although `parallel_tool_calls` is false");
            notes.push(self.note("too_many_calls", &message).expected(1));
        }
        notes
    }

    fn call(&self, call: &ToolCall, i: usize, request: &ChatRequest) -> Result<Vec<Note>, String> {
        let path = format!("/tool_calls/{i}");
        if request.tool_choice.excludes(&call.name) {
            return Ok(vec![self.unknown(call, &path, request)]);
        }
        let called = |t: &&Tool| t.called().is_some_and(|name| name == call.name);
        let Some(tool) = request.tools.iter().find(|t| t.name.is_empty() == call.custom && called(t)) else {
            // Of types that nobody here knows, calls cannot be compared.
            if request.tools.iter().any(|t| t.called().is_none()) {
                return Err("a tool that is no function cannot be checked".to_owned());
            }
            return Ok(vec![self.unknown(call, &path, request)]);
        };
        if call.custom {
            // Its input may be anything.
            return Ok(Vec::new());
        }
        let args: Value = match serde_json::from_str(&call.arguments) {
            Ok(v @ Value::Object(_)) => v,
            _ => {
                let message = format!("the arguments of `{}` are not a JSON object", tool.name);
                let actual: String = call.arguments.chars().take(80).collect();
                return Ok(vec![self.note("bad_arguments", &message).path(&path).actual(actual)]);
            }
        };
        self.fits(tool, &args, &path)
    }

    fn unknown(&self, call: &ToolCall, path: &str, request: &ChatRequest) -> Note {
        let names = request.tools.iter().filter_map(Tool::called);
        let names = names.filter(|name| !request.tool_choice.excludes(name));
        let names: Vec<Value> = names.map(|name| Value::from(name.as_ref())).collect();
        let shown: String = call.name.chars().take(64).collect();
        // Whoever offered none does not expect a call, and may do with it whatever comes to mind.
        let severity = if request.tools.is_empty() { Severity::Block } else { self.severity };
        let message = format!("`{shown}` is not a tool that was offered");
        Note::new(NAME, severity, "unknown_tool", &message).path(path).expected(names).actual(shown)
    }

    fn fits(&self, tool: &Tool, args: &Value, path: &str) -> Result<Vec<Note>, String> {
        let Some(schema) = &tool.parameters else { return Ok(Vec::new()) };
        let of_tool = |why: &str| format!("the parameters of tool `{}`: {why}", tool.name);
        let schema = compiled(schema).map_err(|why| of_tool(&why))?;
        let notes =
            schema.violations(args, NAME, self.severity, MAX_FINDINGS).map_err(|why| of_tool(&why))?;
        Ok(notes.into_iter().map(|n| under(n, path)).collect())
    }
}

/// What is wrong with a call of that name in an answer that is still growing; `None` = nothing, or nothing that anybody
/// could tell. `offered` are the tools that its model knew of.
#[must_use]
pub fn stranger(name: &str, offered: &[&Tool]) -> Option<Finding> {
    let mut all = offered.iter().map(|t| t.called());
    // Of types that nobody here knows, calls cannot be compared.
    if all.any(|called| called.is_none_or(|called| called == name)) {
        return None;
    }
    let shown: String = name.chars().take(64).collect();
    let message = format!("`{shown}` is not a tool that was offered");
    let names: Vec<Value> =
        offered.iter().filter_map(|t| t.called()).map(|n| Value::from(n.as_ref())).collect();
    let note = Note::new(NAME, Severity::Repair, "unknown_tool", &message);
    Some(note.path("/tool_calls/0").expected(names).actual(shown).into_finding())
}

/// The same note, its place counted from the whole answer.
fn under(note: Note, path: &str) -> Note {
    let inner = note.into_finding();
    let place = format!("{path}/arguments{}", inner.path.as_deref().unwrap_or(""));
    let again = Note::new(NAME, inner.severity, &inner.code, &format!("in the arguments, {}", inner.message))
        .path(&place);
    let again = match inner.expected {
        Some(x) => again.expected(x),
        None => again,
    };
    match inner.actual {
        Some(x) => again.actual(x),
        None => again,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};
    use types::chat::ToolCall;

    fn check(extra: Value, calls: &[(&str, &str)], want: &[&str]) {
        let mut body = json!({"tools": [{"type": "function", "function": {"name": "add", "parameters": {
            "type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}}}}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let mut c = answer("");
        c.choices[0].tool_calls = calls
            .iter()
            .map(|(n, a)| ToolCall {
                id: "1".into(),
                name: (*n).into(),
                arguments: (*a).into(),
                custom: a.starts_with('#'),
                ..ToolCall::default()
            })
            .collect();
        assert_eq!(codes("tool_args", &Value::Null, &request(body), &c), want, "{calls:?}");
    }

    #[test]
    fn calls_fit_their_tools() {
        check(json!({}), &[], &["none"]);
        check(json!({}), &[("add", "{\"a\": 1}")], &[]);
        check(json!({}), &[("add", "{\"a\": \"1\"}")], &["type"]);
        check(json!({}), &[("add", "{}")], &["required"]);
        check(json!({}), &[("add", "")], &["bad_arguments"]);
        check(json!({}), &[("sub", "{}")], &["unknown_tool"]);
        check(json!({"tool_choice": "required"}), &[], &["missing_call"]);
        check(json!({"tool_choice": "none"}), &[("add", "{\"a\": 1}")], &["unexpected_call"]);
        check(
            json!({"tool_choice": {"type": "function", "function": {"name": "add"}}}),
            &[],
            &["missing_call"],
        );
        let two = [("add", "{\"a\": 1}"), ("add", "{\"a\": 2}")];
        check(json!({"parallel_tool_calls": false}), &two, &["too_many_calls"]);
    }

    #[test]
    fn tools_that_are_not_allowed_this_time_are_unknown() {
        let function = |name: &str| json!({"type": "function", "function": {"name": name}});
        let allowed = |mode: &str| {
            json!({"tools": [function("add"), function("drop")], "tool_choice": {"type": "allowed_tools",
                   "allowed_tools": {"mode": mode, "tools": [function("add")]}}})
        };
        check(allowed("auto"), &[("add", "{}")], &[]);
        check(allowed("auto"), &[("drop", "{}")], &["unknown_tool"]);
        check(allowed("auto"), &[], &["none"]);
        check(allowed("required"), &[], &["missing_call"]);
    }

    #[test]
    fn custom_tools_are_known_by_name_and_take_anything() {
        let tools = json!({"tools": [{"type": "custom", "custom": {"name": "sh"}},
                                     {"type": "function", "function": {"name": "add"}}]});
        check(tools.clone(), &[("sh", "# ls -l")], &[]);
        check(tools.clone(), &[("rm", "# ls -l")], &["unknown_tool"]);
        check(tools.clone(), &[("sh", "{}")], &["unknown_tool"]);
        check(tools.clone(), &[("add", "{}")], &[]);
        check(tools, &[("add", "# 1")], &["unknown_tool"]);
        let odd = json!({"tools": [{"type": "odd"}]});
        check(odd, &[("sh", "# ls -l")], &["unverified"]);
    }

    #[test]
    fn without_tools_there_is_nothing_to_check() {
        assert_eq!(codes("tool_args", &Value::Null, &request(json!({})), &answer("hi")), ["none"]);
    }
}
