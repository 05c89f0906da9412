//! Results of tools and the calls that they answer.

use super::Error;
use crate::chat::{Message, Role};
use std::collections::HashSet;

/// Gives each result that does not say which call it answers the first one before it that is still open: there are vendors
/// who tell by the place, and clients of theirs; others want the name.
pub(super) fn place(messages: &mut [Message]) {
    if !messages.iter().any(is_unnamed) {
        return;
    }
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        open.extend(message.tool_calls.iter().map(|c| c.id.clone()));
        if let Some(id) = &message.tool_call_id {
            open.retain(|one| one != id);
        } else if is_unnamed(message) && !open.is_empty() {
            message.tool_call_id = Some(open.remove(0));
        }
    }
}

fn is_unnamed(message: &Message) -> bool {
    message.role == Role::Tool && message.tool_call_id.is_none()
}

/// Every result stands behind the call that it answers: vendors refuse others, each in its own words. The order of
/// several results is left to the client, and calls without a result are no fault of this kind.
pub(in crate::chat) fn check(messages: &[Message]) -> Result<(), Error> {
    let mut made: HashSet<&str> = HashSet::new();
    for (i, message) in messages.iter().enumerate() {
        made.extend(message.tool_calls.iter().map(|c| c.id.as_str()));
        if message.role != Role::Tool {
            continue;
        }
        let (known, text) = match &message.tool_call_id {
            Some(id) => (made.contains(id.as_str()), "no message before it makes the call that it answers"),
            // Had one been open, the result would have it by its place.
            None => {
                (false, "it does not say which call it answers (`tool_call_id`), and none before it is open")
            }
        };
        if !known {
            let hint = "send the assistant's message with its `tool_calls` as well, or leave the result out";
            let place = format!("/messages/{i}/tool_call_id");
            return Err(Error::new(
                "orphan_result",
                place,
                format!("`messages.{i}` is the result of a tool, and {text}; {hint}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolCall;

    #[test]
    fn a_result_without_a_name_answers_the_first_call_that_is_open() {
        let ask = |id: &str| {
            format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#)
        };
        let body = format!(
            r#"{{"model":"auto","messages":[{{"role":"user","content":"x"}},
            {{"role":"assistant","tool_calls":[{},{},{}]}},{{"role":"tool","tool_call_id":"b","content":"2"}},
            {{"role":"tool","content":"1"}},{{"role":"tool","content":"3"}}]}}"#,
            ask("a"),
            ask("b"),
            ask("c"),
        );
        let request = crate::ChatRequest::from_value(&serde_json::from_str(&body).unwrap()).unwrap();
        let named: Vec<_> = request.messages.iter().filter_map(|m| m.tool_call_id.as_deref()).collect();
        assert_eq!(named, ["b", "a", "c"]);
        assert!(request.check_results().is_ok());
    }

    #[test]
    fn results_stand_behind_their_calls() {
        let call = |id: &str| Message {
            tool_calls: vec![ToolCall { id: id.to_owned(), ..ToolCall::default() }],
            ..Message::silent(Role::Assistant)
        };
        let result = |id: Option<&str>| Message {
            tool_call_id: id.map(str::to_owned),
            ..Message::text(Role::Tool, "42")
        };
        let user = || Message::text(Role::User, "x");
        let check = |messages: &[Message], want: Option<&str>| {
            let mut messages = messages.to_vec();
            place(&mut messages);
            let got = check(&messages).err().map(|e| e.pointer);
            assert_eq!(got.as_deref(), want, "{messages:?}");
        };
        check(
            &[user(), call("a"), user(), result(Some("a")), result(None)],
            Some("/messages/4/tool_call_id"),
        );
        check(&[call("a"), call("b"), result(None), result(None)], None);
        check(&[call("a"), result(None), result(None)], Some("/messages/2/tool_call_id"));
        check(&[call("a"), call("b"), result(Some("b")), result(Some("a"))], None);
        check(&[user(), call("a")], None);
        check(&[user(), result(Some("a"))], Some("/messages/1/tool_call_id"));
        check(&[result(None), call("a")], Some("/messages/0/tool_call_id"));
        check(&[call("a"), result(Some("b"))], Some("/messages/1/tool_call_id"));
        check(&[result(Some("a")), call("a")], Some("/messages/0/tool_call_id"));
    }
}
