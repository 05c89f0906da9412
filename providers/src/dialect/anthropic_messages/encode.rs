//! The canonical request as a messages body.

use super::super::ids::Ids;
use super::super::turns::{NO_RESULT, Step, steps};
use super::super::{
    Encoded, arguments, data_url, dropped, eligible, form_in_words, messages, nothing_said, response_format,
    to_body, tools, unsayable,
};
use super::ANSWER_TOOL;
use super::thinking::{Thinking, limit, thoughts};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashSet;
use types::adjustment::Adjustment;
use types::chat::{Content, Message, Part, PartKind, ResponseFormat, Role, ToolChoice};
use types::provider::{Call, Error};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Image {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a Value>,
    },
    Document {
        source: Source<'a>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Cow<'a, RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
    },
    /// A thought as the vendor gave it.
    #[serde(untagged)]
    Thought(&'a Value),
}

impl Block<'_> {
    fn text<'a>(text: impl Into<Cow<'a, str>>) -> Block<'a> {
        Block::Text { text: text.into(), cache_control: None }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Source<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

#[derive(Serialize)]
struct ToolOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, Value>,
}

/// The call as the vendor reads it.
///
/// # Errors
/// [`types::provider::ErrorKind::BadRequest`] for what the dialect cannot say.
pub(in super::super) fn encode(call: &Call) -> Result<Encoded, Error> {
    let request = &call.request;
    if request.params.n > 1 {
        return Err(unsayable(call, "n", "`n` above 1"));
    }
    let thinking = Thinking::of(call);
    let (mut system, mut turns) = conversation(call, thinking.on())?;
    if let Some(instruction) = instruction(call) {
        system.push(Block::text(instruction));
    }
    if turns.is_empty() {
        // The vendor wants at least one turn; instructions alone are the question then.
        turns.push(Turn { role: "user", content: std::mem::take(&mut system) });
        if turns.iter().all(|t| t.content.is_empty()) {
            return Err(nothing_said(call));
        }
    }
    if let Some(prefill) = &call.edits.prefill {
        // An assistant's turn at the end is the beginning of the answer (platform.claude.com, "Prefill Claude's
        // response"); models from 4.6 on refuse it, so they have not the ability.
        let begun = Block::text(&**prefill);
        match turns.last_mut() {
            Some(last) if last.role == "assistant" => last.content.push(begun),
            _ => turns.push(Turn { role: "assistant", content: vec![begun] }),
        }
    }
    let (tools, tool_choice) = offered(call)?;
    let body = Body {
        model: &call.model.upstream_name,
        max_tokens: limit(call),
        system,
        messages: turns,
        tools,
        tool_choice,
        stop_sequences: stops(call).collect(),
        temperature: thinking.temperature,
        top_p: thinking.top_p,
        top_k: thinking.top_k,
        thinking: thinking.thinking,
        output_config: thinking.output_config,
        metadata: request
            .user
            .as_deref()
            .filter(|_| !dropped(call, "user"))
            .map(|user_id| Metadata { user_id }),
        stream: call.stream,
    };
    Ok(Encoded { path: super::PATH.into(), query: None, body: to_body(call, &body)? })
}

/// Sequences of white space alone are refused.
fn stops(call: &Call) -> impl Iterator<Item = &str> {
    call.stop().iter().map(String::as_str).filter(|s| !s.trim().is_empty())
}

/// What has words here, and goes out otherwise than it was asked for.
pub(in super::super) fn adjust(call: &Call, all: &mut Vec<Adjustment>) {
    Thinking::of(call).adjust(call, all);
    let (asked, kept) = (call.stop().len(), stops(call).count());
    if kept < asked {
        all.push(Adjustment::changed("stop", asked, kept));
    }
}

/// Whether the answer is asked for as the arguments of [`ANSWER_TOOL`].
pub(in super::super) fn uses_answer_tool(call: &Call) -> bool {
    let object = |schema: &Value| schema.get("type").is_some_and(|t| t == "object");
    matches!(response_format(call), ResponseFormat::JsonSchema { schema, .. } if object(schema))
        && tools(call).is_empty()
        && !has_tool_calls(messages(call))
        && call.request.raw("thinking").is_none()
        // A call that is forced cannot go on from a text.
        && call.edits.prefill.is_none()
}

fn has_tool_calls(messages: &[Message]) -> bool {
    messages.iter().any(|m| !m.tool_calls.is_empty() || m.role == Role::Tool)
}

fn instruction(call: &Call) -> Option<String> {
    form_in_words(response_format(call)).filter(|_| !uses_answer_tool(call))
}

/// System blocks, and turns in which no role follows itself. Earlier thoughts go to a model that thinks now.
fn conversation(call: &Call, thinks: bool) -> Result<(Vec<Block<'_>>, Vec<Turn<'_>>), Error> {
    let (mut system, mut turns): (Vec<Block<'_>>, Vec<Turn<'_>>) = (Vec::new(), Vec::new());
    let ids = Ids::of(call);
    for step in steps(messages(call)) {
        let (role, blocks) = match step {
            Step::Result(made, told) => ("user", vec![result(call, ids.get(&made.id), told)?]),
            Step::Says(message) => match message.role {
                Role::System | Role::Developer => {
                    system.extend(contents(call, &message.content)?);
                    continue;
                }
                Role::Tool => {
                    let id = message.tool_call_id.as_deref().unwrap_or_default();
                    ("user", vec![result(call, ids.get(id), Some(message))?])
                }
                Role::Assistant => {
                    let thoughts = thoughts(message).filter(|_| thinks).map(Block::Thought);
                    ("assistant", thoughts.chain(assistant(call, message, &ids)?).collect())
                }
                Role::User | Role::Function => ("user", contents(call, &message.content)?),
            },
        };
        match turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(blocks),
            // A turn without content is refused.
            _ if blocks.is_empty() => {}
            _ => turns.push(Turn { role, content: blocks }),
        }
    }
    if let Some(Turn { role: "assistant", content }) = turns.last_mut()
        && let Some(Block::Text { text, .. }) = content.last_mut()
    {
        // White space at the end of a prefilled answer is refused.
        *text = Cow::Owned(text.trim_end().to_owned());
    }
    Ok((system, turns))
}

/// The result of the call with that identifier. One without a result is refused.
fn result<'a>(call: &Call, id: &str, told: Option<&'a Message>) -> Result<Block<'a>, Error> {
    let content = match told {
        Some(message) => contents(call, &message.content)?,
        None => vec![Block::text(NO_RESULT)],
    };
    Ok(Block::ToolResult { tool_use_id: id.to_owned().into(), content, is_error: told.is_none() })
}

fn assistant<'a>(call: &Call, message: &'a Message, ids: &Ids<'_>) -> Result<Vec<Block<'a>>, Error> {
    let mut blocks = contents(call, &message.content)?;
    if let Some(refusal) = message.refusal.as_deref().filter(|r| !r.is_empty()) {
        blocks.push(Block::text(refusal));
    }
    for call in &message.tool_calls {
        let id = ids.get(&call.id).to_owned().into();
        blocks.push(Block::ToolUse { id, name: &call.name, input: arguments(call) });
    }
    Ok(blocks)
}

fn contents<'a>(call: &Call, content: &'a Content) -> Result<Vec<Block<'a>>, Error> {
    match content {
        Content::None => Ok(Vec::new()),
        // Text blocks without anything but white space are refused.
        Content::Text(t) if t.trim().is_empty() => Ok(Vec::new()),
        Content::Text(t) => Ok(vec![Block::text(t.as_str())]),
        Content::Parts(parts) => parts.iter().filter_map(|p| block(call, p).transpose()).collect(),
    }
}

fn block<'a>(call: &Call, part: &'a Part) -> Result<Option<Block<'a>>, Error> {
    let cache_control = part.extra.get("cache_control");
    Ok(Some(match &part.kind {
        PartKind::Text(t) | PartKind::Refusal(t) if t.trim().is_empty() => return Ok(None),
        PartKind::Text(t) | PartKind::Refusal(t) => Block::Text { text: t.as_str().into(), cache_control },
        PartKind::Image { url, .. } => Block::Image { source: source(url), cache_control },
        PartKind::Other(kind, whole) => {
            let file = whole.get("file").and_then(|f| f.get("file_data")).and_then(Value::as_str);
            match file.and_then(data_url) {
                Some((media_type, data)) if kind == "file" => {
                    Block::Document { source: Source::Base64 { media_type, data } }
                }
                _ => return Err(unsayable(call, "messages", "this type of content part")),
            }
        }
    }))
}

fn source(url: &str) -> Source<'_> {
    match data_url(url) {
        Some((media_type, data)) => Source::Base64 { media_type, data },
        None => Source::Url { url },
    }
}

/// Tools and which of them must be used.
fn offered(call: &Call) -> Result<(Vec<ToolOut<'_>>, Option<Value>), Error> {
    if let (true, ResponseFormat::JsonSchema { schema, .. }) = (uses_answer_tool(call), response_format(call))
    {
        let tool = ToolOut {
            name: ANSWER_TOOL,
            description: Some("Gives the answer. Call it exactly once."),
            input_schema: Cow::Borrowed(&**schema),
        };
        return Ok((vec![tool], Some(json!({"type": "tool", "name": ANSWER_TOOL}))));
    }
    let mut out = Vec::new();
    for tool in eligible(call) {
        if tool.name.is_empty() {
            return Err(unsayable(call, "tools", "tools of another type than function"));
        }
        let schema = match &tool.parameters {
            Some(p) => Cow::Borrowed(&**p),
            None => Cow::Owned(json!({"type": "object", "properties": {}})),
        };
        out.push(ToolOut {
            name: &tool.name,
            description: tool.description.as_deref(),
            input_schema: schema,
        });
    }
    if call.edits.without_tools || out.is_empty() {
        return Ok(not_offered(call, out));
    }
    Ok((out, choice(call.tool_choice(), call.request.params.parallel_tool_calls)))
}

/// A conversation that tells of tool calls must define tools, even where none may be used now.
fn not_offered<'a>(call: &'a Call, mut defined: Vec<ToolOut<'a>>) -> (Vec<ToolOut<'a>>, Option<Value>) {
    if !has_tool_calls(messages(call)) {
        return (Vec::new(), None);
    }
    let mut known: HashSet<&str> = defined.iter().map(|t| t.name).collect();
    for name in messages(call).iter().flat_map(|m| &m.tool_calls).map(|c| c.name.as_str()) {
        if known.insert(name) {
            let input_schema = Cow::Owned(json!({"type": "object", "properties": {}}));
            defined.push(ToolOut { name, description: None, input_schema });
        }
    }
    let choice = (!defined.is_empty()).then(|| json!({"type": "none"}));
    (defined, choice)
}

fn choice(choice: &ToolChoice, parallel: Option<bool>) -> Option<Value> {
    let mut value = match choice {
        ToolChoice::Unset if parallel == Some(false) => json!({"type": "auto"}),
        ToolChoice::Unset => return None,
        ToolChoice::None => return Some(json!({"type": "none"})),
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => json!({"type": "auto"}),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => json!({"type": "any"}),
        ToolChoice::Function(name) => json!({"type": "tool", "name": name}),
    };
    if parallel == Some(false)
        && let Some(o) = value.as_object_mut()
    {
        o.insert("disable_parallel_tool_use".to_owned(), Value::Bool(true));
    }
    Some(value)
}
