//! What people are shown of whatever a rule asks them about: all of it, or how much is missing.

use std::fmt::Write as _;
use types::chat::{ChatRequest, Content, Message};
use types::completion::{Choice, Completion};

/// Most bytes that are shown of one thing.
const MOST: usize = 16_384;

/// The beginning of a text, with how much of it is left out.
pub(crate) fn beginning(text: &str) -> String {
    if text.len() <= MOST {
        return text.to_owned();
    }
    let shown = text.get(..text.floor_char_boundary(MOST)).unwrap_or_default();
    format!("{shown}\n… ({} more bytes are not shown)", text.len().saturating_sub(shown.len()))
}

/// The end of a text, with how much of it is left out.
fn end(text: &str) -> String {
    if text.len() <= MOST {
        return text.to_owned();
    }
    let from = text.ceil_char_boundary(text.len().saturating_sub(MOST));
    format!("… ({from} bytes before this are not shown)\n{}", text.get(from..).unwrap_or_default())
}

/// A request: its conversation, of which the last words count most, and what they may be answered with.
pub(crate) fn of_request(request: &ChatRequest) -> String {
    if let ([only], true) = (request.messages.as_slice(), request.tools.is_empty()) {
        return beginning(&message(only));
    }
    let mut all = String::new();
    for m in &request.messages {
        // Writing to a string does not fail.
        let _ = writeln!(all, "{}: {}", m.role.as_str(), message(m));
    }
    if !request.tools.is_empty() {
        let names: Vec<&str> = request.tools.iter().map(|t| t.name.as_str()).collect();
        let _ = writeln!(all, "(tools: {})", names.join(", "));
    }
    end(all.trim_end())
}

fn message(m: &Message) -> String {
    let mut said = m.content.text().into_owned();
    for call in &m.tool_calls {
        let _ = write!(said, "\n{}({})", call.name, call.arguments);
    }
    let parts = if let Content::Parts(parts) = &m.content { parts.len() } else { 0 };
    match parts.saturating_sub(m.content.texts().count()) {
        0 => said,
        n => format!("{said}\n({n} parts that are no text)").trim_start().to_owned(),
    }
}

/// An answer: whatever the client would read of it.
pub(crate) fn of_answer(completion: &Completion) -> String {
    let all = match completion.choices.as_slice() {
        [only] => choice(only),
        several => {
            let each = several.iter().map(|c| format!("choice {}: {}", c.index, choice(c)));
            each.collect::<Vec<_>>().join("\n")
        }
    };
    beginning(&all)
}

fn choice(c: &Choice) -> String {
    let mut lines = Vec::new();
    if !c.text.is_empty() {
        lines.push(c.text.clone());
    }
    lines.extend(c.refusal.iter().map(|text| format!("(refusal) {text}")));
    lines.extend(c.tool_calls.iter().map(|call| format!("{}({})", call.name, call.arguments)));
    if !c.reasoning.is_empty() {
        lines.push(format!("(reasoning) {}", c.reasoning));
    }
    lines.extend(c.beside.iter().map(|members| format!("(beside) {members}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use types::chat::ToolCall;

    #[test]
    fn nothing_that_goes_out_is_kept_from_those_who_are_asked() {
        let call = ToolCall { name: "pay".into(), arguments: "{}".into(), ..ToolCall::default() };
        let first = Choice { text: "fine".into(), reasoning: "why".into(), ..Choice::default() };
        let second = Choice {
            index: 1,
            text: "unseen".into(),
            tool_calls: vec![call],
            beside: Some(json!({"annotations": [1]})),
            ..Choice::default()
        };
        let plain = Completion {
            choices: vec![Choice { reasoning: String::new(), ..first.clone() }],
            ..Completion::default()
        };
        assert_eq!(of_answer(&plain), "fine");
        let both = of_answer(&Completion { choices: vec![first, second], ..Completion::default() });
        for part in ["choice 0: fine", "(reasoning) why", "choice 1: unseen", "pay({})", "annotations"] {
            assert!(both.contains(part), "{both}");
        }
    }

    #[test]
    fn the_conversation_is_shown_not_its_last_word_alone() {
        let request = |messages: serde_json::Value| {
            of_request(&ChatRequest::from_value(&json!({"model": "auto", "messages": messages})).unwrap())
        };
        assert_eq!(request(json!([{"role": "user", "content": "pay the invoice"}])), "pay the invoice");
        let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
        let talk = json!([
            {"role": "user", "content": "wipe all"},
            {"role": "assistant", "content": "sure?"},
            {"role": "user", "content": [{"type": "text", "text": "yes"}, image]},
        ]);
        let want = "user: wipe all\nassistant: sure?\nuser: yes\n(1 parts that are no text)";
        assert_eq!(request(talk), want);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let long = "ä".repeat(MOST);
        for (shown, says) in [
            (beginning(&long), "… (16384 more bytes are not shown)"),
            (end(&long), "… (16384 bytes before this are not shown)"),
        ] {
            assert!(shown.contains(says) && shown.len() < MOST + 100, "{}", shown.len());
        }
    }
}
