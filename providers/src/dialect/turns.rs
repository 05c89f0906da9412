//! Conversations in the order of vendors that hold calls of tools and their results together.
//!
//! Behind what the model said stand the results of all of its calls, each once and in the order of the calls: vendors
//! pair them by their place, or refuse calls without a result. Chat completions pair by identifier alone, in any order.

use types::chat::{Message, Role, ToolCall};

/// A step of a conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step<'a> {
    /// A message as it stands.
    Says(&'a Message),
    /// A call and the message that is its result, if there is one.
    Result(&'a ToolCall, Option<&'a Message>),
}

/// What is told of a call that has no result.
pub(super) const NO_RESULT: &str = "there is no result of this call";

/// The steps of a conversation. Results of calls that nobody made stay where they are.
pub(super) fn steps(messages: &[Message]) -> Vec<Step<'_>> {
    let mut steps = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while !rest.is_empty() {
        let said = rest.iter().take_while(|m| m.role == Role::Assistant).count();
        let (said, after) = rest.split_at(said);
        let until = after.iter().take_while(|m| m.role != Role::Assistant).count();
        let (between, next) = after.split_at(until);
        let mut taken = vec![false; between.len()];
        steps.extend(said.iter().map(Step::Says));
        for call in said.iter().flat_map(|m| &m.tool_calls) {
            let mut free = between.iter().zip(&mut taken).filter(|(_, taken)| !**taken);
            let found = free.find(|(m, _)| m.role == Role::Tool && m.tool_call_id.as_ref() == Some(&call.id));
            let result = found.map(|(message, taken)| {
                *taken = true;
                message
            });
            steps.push(Step::Result(call, result));
        }
        let others = between.iter().zip(&taken).filter(|(_, taken)| !**taken);
        steps.extend(others.map(|(message, _)| Step::Says(message)));
        rest = next;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a message: `u`ser, `s`ystem, `a` and the calls it makes, `=` and the call it is the result of.
    fn messages(written: &str) -> Vec<Message> {
        let one = |word: &str| {
            let (kind, ids) = word.split_at(1);
            let call = |id: char| ToolCall { id: id.into(), ..ToolCall::default() };
            match kind {
                "u" => Message::text(Role::User, "x"),
                "s" => Message::text(Role::System, "x"),
                "=" => Message { tool_call_id: Some(ids.to_owned()), ..Message::silent(Role::Tool) },
                _ => Message {
                    tool_calls: ids.chars().map(call).collect(),
                    ..Message::silent(Role::Assistant)
                },
            }
        };
        written.split(' ').map(one).collect()
    }

    fn check(written: &str, want: &str) {
        let messages = messages(written);
        let word = |step: &Step<'_>| match step {
            Step::Result(call, Some(m)) => {
                assert_eq!(m.tool_call_id.as_ref(), Some(&call.id));
                format!("={}", call.id)
            }
            Step::Result(call, None) => format!("-{}", call.id),
            Step::Says(m) => match m.role {
                Role::Assistant => "a".to_owned(),
                Role::Tool => "?".to_owned(),
                role => role.as_str().chars().take(1).collect(),
            },
        };
        let got: Vec<String> = steps(&messages).iter().map(word).collect();
        assert_eq!(got.join(" "), want, "{written}");
    }

    #[test]
    fn results_follow_their_calls_in_the_order_of_the_calls() {
        check("s u a u", "s u a u");
        check("u a12 =1 =2 u", "u a =1 =2 u");
        check("u a12 =2 =1", "u a =1 =2");
        check("u a12 u =2 s =1 a", "u a =1 =2 u s a");
        check("u a1 a2 =2 =1 a", "u a a =1 =2 a");
        check("u a1 =1 a1 =1", "u a =1 a =1");
    }

    #[test]
    fn every_call_has_one_result_and_results_without_a_call_stay() {
        check("u a12 =2 a", "u a -1 =2 a");
        check("u a1 u", "u a -1 u");
        check("u a1", "u a -1");
        check("u =9 a1 =1 =1", "u ? a =1 ?");
    }
}
