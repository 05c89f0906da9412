//! Calls of tools that nobody offered, seen as they come: a client that is shown one may carry it out.

use types::chat::{Tool, ToolChoice};
use types::provider::Edits;
use types::{ChatRequest, Chunk, Finding};

/// What is wrong with the calls that begin in a chunk of an answer to `request`, asked for with these `edits`.
pub(super) fn called(chunk: &Chunk, request: &ChatRequest, edits: &Edits) -> Option<Finding> {
    let calls = chunk.choices.iter().flat_map(|d| &d.tool_calls);
    let mut names = calls.filter_map(|c| c.name.as_deref()).filter(|name| !name.is_empty()).peekable();
    names.peek()?;
    let none = edits.without_tools || edits.tools.is_none() && request.tool_choice == ToolChoice::None;
    let offered: Vec<&Tool> = match &edits.tools {
        _ if none => Vec::new(),
        Some(own) => own.iter().collect(),
        None => request.tools.iter().collect(),
    };
    let allowed = |t: &&Tool| t.called().is_none_or(|name| !request.tool_choice.excludes(&name));
    let offered: Vec<&Tool> = match edits.tools {
        Some(_) => offered,
        None => offered.into_iter().filter(allowed).collect(),
    };
    names.find_map(|name| validators::stranger(name, &offered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use types::completion::{Delta, ToolCallDelta};

    fn check(more: &Value, edits: &Edits, name: &str, wrong: bool) {
        let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = ChatRequest::from_value(&body).unwrap();
        let delta = |name: Option<&str>| ToolCallDelta {
            index: 0,
            id: None,
            name: name.map(Into::into),
            arguments: "{}".into(),
            ..ToolCallDelta::default()
        };
        let chunk = |name| {
            let deltas = vec![Delta { tool_calls: vec![delta(name)], ..Delta::default() }];
            Chunk { choices: deltas, ..Chunk::default() }
        };
        assert_eq!(called(&chunk(Some(name)), &request, edits).is_some(), wrong, "{name} {more}");
        assert!(called(&chunk(None), &request, edits).is_none(), "a further piece says no name");
    }

    #[test]
    fn only_what_was_offered_may_be_called() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let (free, without) = (Edits::default(), Edits { without_tools: true, ..Edits::default() });
        check(&json!({}), &free, "rm", true);
        let two = json!({"tools": [tool("a"), tool("b")]});
        check(&two, &free, "a", false);
        check(&two, &free, "rm", true);
        check(&two, &without, "a", true);
        check(&json!({"tools": [tool("a")], "tool_choice": "none"}), &free, "a", true);
        check(&json!({"tools": [{"type": "made_up"}]}), &free, "rm", false);
        let chosen = json!({"tools": [tool("a"), tool("b")], "tool_choice": {"type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "b"}}]}}});
        check(&chosen, &free, "b", false);
        check(&chosen, &free, "a", true);
    }
}
