//! Results of tools and the calls that they answer.

use super::Error;
use crate::chat::{Message, Role};
use std::collections::HashSet;

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
            // Some vendors tell which one by its place.
            None => (!made.is_empty(), "no message before it makes a call"),
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
            let got = check(messages).err().map(|e| e.pointer);
            assert_eq!(got.as_deref(), want, "{messages:?}");
        };
        check(&[user(), call("a"), user(), result(Some("a")), result(None)], None);
        check(&[call("a"), call("b"), result(Some("b")), result(Some("a"))], None);
        check(&[user(), call("a")], None);
        check(&[user(), result(Some("a"))], Some("/messages/1/tool_call_id"));
        check(&[result(None), call("a")], Some("/messages/0/tool_call_id"));
        check(&[call("a"), result(Some("b"))], Some("/messages/1/tool_call_id"));
        check(&[result(Some("a")), call("a")], Some("/messages/0/tool_call_id"));
    }
}
