//! What form a call asks its answer to have, with the edits taken into account.

use serde_json::Value;
use std::sync::Arc;
use types::axis::TaskFamily;
use types::chat::{Message, ResponseFormat, Role, Tool, ToolChoice};
use types::provider::Call;

/// The form of an answer.
#[derive(Clone, Debug)]
pub(super) enum Contract {
    /// Free text.
    Prose,
    /// Any JSON object.
    Json,
    /// JSON that fits a schema.
    Schema(Arc<Value>),
    /// A call of the tool at this place.
    Tool(usize),
}

impl Contract {
    /// Whether broken JSON breaks it.
    pub(super) const fn is_json(&self) -> bool {
        !matches!(self, Contract::Prose)
    }
}

/// The conversation as it is sent.
pub(super) fn messages(call: &Call) -> &[Message] {
    call.edits.messages.as_deref().unwrap_or(&call.request.messages)
}

/// Text of the last message of role user, else of the last message.
pub(crate) fn question(call: &Call) -> String {
    let messages = messages(call);
    let last = messages.iter().rev().find(|m| m.role == Role::User).or(messages.last());
    last.map(|m| m.content.text().into_owned()).unwrap_or_default()
}

/// The form that is asked for. A tool is called when one must be, or when the work is of a kind that calls
/// tools and the last word is not already a tool's result.
pub(super) fn of(call: &Call) -> Contract {
    if let Some(place) = tool(call) {
        return Contract::Tool(place);
    }
    match call.edits.response_format.as_ref().unwrap_or(&call.request.response_format) {
        ResponseFormat::Text => Contract::Prose,
        ResponseFormat::JsonObject => Contract::Json,
        ResponseFormat::JsonSchema { schema, .. } => Contract::Schema(Arc::clone(schema)),
    }
}

fn tool(call: &Call) -> Option<usize> {
    let tools = call.tools();
    if call.edits.without_tools || tools.is_empty() {
        return None;
    }
    let answered = messages(call).last().is_some_and(|m| m.role == Role::Tool);
    let suits = matches!(call.family, TaskFamily::ToolUse | TaskFamily::AgentLoop) && !answered;
    let choice = call.tool_choice();
    match choice {
        ToolChoice::None => None,
        ToolChoice::Function(name) => tools.iter().position(|t| t.name == *name),
        _ if choice.demands() || suits => best(tools, choice, &question(call)),
        _ => None,
    }
}

/// The function whose name and description share most words with the question; the first of equals.
fn best(tools: &[Tool], choice: &ToolChoice, question: &str) -> Option<usize> {
    let question = question.to_lowercase();
    let score = |t: &Tool| {
        let text = format!("{} {}", t.name.replace('_', " "), t.description.as_deref().unwrap_or(""));
        let text = text.to_lowercase();
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 2 && question.contains(w)).count()
    };
    let open = |t: &Tool| !t.name.is_empty() && !choice.excludes(&t.name);
    let named = tools.iter().enumerate().filter(|(_, t)| open(t));
    named.max_by_key(|(i, t)| (score(t), std::cmp::Reverse(*i))).map(|(i, _)| i)
}
