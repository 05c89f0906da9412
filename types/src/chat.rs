//! The canonical request: an OpenAI chat-completions body, every unknown field kept.
//!
//! The body stays as it came ([`ChatRequest::body`]); what the house acts on is parsed once, here, and
//! the byte range of every top-level member is remembered so that a dialect equal to ours can splice a
//! few members and forward the rest untouched.

use crate::options::Options;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

mod decode;
mod surcharge;
mod unique;
mod wire;

pub use decode::{Error, Limits, document};
pub use wire::WireCalls;

use unique::{UniqueMap, UniqueValue};

/// Members by which vendors are asked to run tools of their own, and the name by which rules know what each does.
pub const VENDOR_TOOLS: &[(&str, &str)] = &[
    ("web_search_options", "web_search"),
    ("search_parameters", "web_search"),
    ("search_settings", "web_search"),
    ("enable_search", "web_search"),
    ("web_search", "web_search"),
    ("plugins", "plugins"),
    ("mcp_servers", "mcp"),
    ("container", "code_interpreter"),
    ("compound_custom", "compound_custom"),
];

/// A chat request in canonical form.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    body: Bytes,
    members: Vec<Member>,
    /// The model asked for: `auto`, `auto:cheapest`, `workflow/<name>`, `<provider>/<model>` or an alias.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Answer as server-sent events.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Tools offered.
    pub tools: Vec<Tool>,
    /// Which of them must be used.
    pub tool_choice: ToolChoice,
    /// Form the answer must have.
    pub response_format: ResponseFormat,
    /// Sampling parameters the house acts on.
    pub params: Params,
    /// End-user identifier.
    pub user: Option<String>,
    /// Router options.
    pub options: Options,
}

/// A top-level member of the body and where its value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unescaped key.
    pub key: String,
    /// Byte range of the value in the body.
    pub value: Range<usize>,
}

/// Sampling parameters the house acts on; `None` = not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// 0..=2.
    pub temperature: Option<f64>,
    /// 0..=1.
    pub top_p: Option<f64>,
    /// `max_completion_tokens`, else `max_tokens`.
    pub max_tokens: Option<u32>,
    /// Choices asked for; 1 if absent.
    pub n: u32,
    /// Sampling seed.
    pub seed: Option<i64>,
    /// Stop sequences.
    pub stop: Vec<String>,
    /// `reasoning_effort` as written.
    pub reasoning_effort: Option<String>,
    /// `parallel_tool_calls`.
    pub parallel_tool_calls: Option<bool>,
    /// `logprobs: true`.
    pub logprobs: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions (older name).
    System,
    /// Instructions (newer name).
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// The result of a function call (deprecated form).
    Function,
}

impl Role {
    /// Every role, as written.
    pub const NAMES: &'static [&'static str] =
        &["system", "developer", "user", "assistant", "tool", "function"];

    /// As written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Function => "function",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Role> {
        Some(match s {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            "function" => Role::Function,
            _ => return None,
        })
    }

    /// `system` or `developer`.
    #[must_use]
    pub const fn is_instruction(self) -> bool {
        matches!(self, Role::System | Role::Developer)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Content,
    /// Name of the speaker.
    pub name: Option<String>,
    /// Calls the model made (role assistant).
    pub tool_calls: Vec<ToolCall>,
    /// The call this is the result of (role tool).
    pub tool_call_id: Option<String>,
    /// Text of a refusal (role assistant).
    pub refusal: Option<String>,
    /// Members this house does not know, kept.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A plain text message.
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Message { content: Content::Text(text.into()), ..Message::silent(role) }
    }

    /// A message that says nothing yet.
    #[must_use]
    pub fn silent(role: Role) -> Self {
        Message {
            role,
            content: Content::None,
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            refusal: None,
            extra: Map::new(),
        }
    }
}

/// Content of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Absent or `null`.
    None,
    /// A plain string.
    Text(String),
    /// A list of parts.
    Parts(Vec<Part>),
}

impl Content {
    /// The text pieces, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (one, many): (Option<&str>, &[Part]) = match self {
            Content::None => (None, &[]),
            Content::Text(t) => (Some(t), &[]),
            Content::Parts(p) => (None, p),
        };
        one.into_iter().chain(many.iter().filter_map(|p| match &p.kind {
            PartKind::Text(t) | PartKind::Refusal(t) => Some(t.as_str()),
            _ => None,
        }))
    }

    /// All text in one string, pieces joined by a line feed; borrowed when there is one piece.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Content::None => "".into(),
            Content::Text(t) => t.into(),
            Content::Parts(_) => {
                let mut pieces = self.texts();
                let first = pieces.next().unwrap_or("");
                match pieces.next() {
                    None => first.into(),
                    Some(second) => {
                        let mut all = format!("{first}\n{second}");
                        for p in pieces {
                            all.push('\n');
                            all.push_str(p);
                        }
                        all.into()
                    }
                }
            }
        }
    }
}

/// One part of a content list.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Members this house does not know (such as `cache_control`), kept.
    pub extra: Map<String, Value>,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum PartKind {
    /// `text`.
    Text(String),
    /// `refusal`.
    Refusal(String),
    /// `image_url`; the address may be a `data:` URL.
    Image {
        /// Address, passed on as text and never fetched.
        url: String,
        /// `low`, `high`, `auto`.
        detail: Option<String>,
    },
    /// Any other type, such as `input_audio` or `file`: the type and the whole part as written.
    Other(String, Map<String, Value>),
}

/// A call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Identifier that the result names.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments as the text the model wrote; meant to be a JSON object, not checked here.
    pub arguments: String,
    /// It calls a tool of the type `custom`: the arguments are its `input`, a text of any form.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub custom: bool,
    /// What the vendor wants back with the call in the next turn, as an object: Google's signature of the thoughts before
    /// it, under `google.thought_signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<Value>,
}

/// A tool that is offered.
#[derive(Clone, Debug)]
pub struct Tool {
    /// Function name; empty for tool types other than `function`.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of the arguments.
    pub parameters: Option<Arc<Value>>,
    /// `strict`.
    pub strict: Option<bool>,
    /// What rules know a tool by that is no function: the name of one of the type `custom`, the `type` of any other.
    pub other: String,
    /// The tool as written.
    pub raw: Box<RawValue>,
}

impl Tool {
    /// The name by which rules know it: that of a function or of a tool of the type `custom`, else the `type`.
    #[must_use]
    pub fn known_as(&self) -> &str {
        if self.name.is_empty() { &self.other } else { &self.name }
    }

    /// The name that calls say: of a function, or of a tool of the type `custom`; `None` for other types, whose calls
    /// nobody here knows.
    #[must_use]
    pub fn called(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Custom<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            custom: Named<'a>,
        }
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            name: Cow<'a, str>,
        }
        if !self.name.is_empty() {
            return Some(Cow::Borrowed(&self.name));
        }
        let read = serde_json::from_str::<Custom<'_>>(self.raw.get()).ok();
        read.filter(|c| c.kind == "custom").map(|c| c.custom.name)
    }
}

impl PartialEq for Tool {
    /// Whether they are written alike.
    fn eq(&self, other: &Self) -> bool {
        self.raw.get() == other.raw.get()
    }
}

/// Which tools must be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Not given: the provider's default.
    #[default]
    Unset,
    /// `none`.
    None,
    /// `auto`.
    Auto,
    /// `required`.
    Required,
    /// One function, or custom tool, by name.
    Function(String),
    /// `allowed_tools`: these alone, by name; whether one must be used.
    Allowed {
        /// Their names.
        names: Vec<String>,
        /// `mode: required`.
        required: bool,
    },
}

impl ToolChoice {
    /// Whether the tool of that name, though offered, is not to be had this time.
    #[must_use]
    pub fn excludes(&self, name: &str) -> bool {
        matches!(self, ToolChoice::Allowed { names, .. } if !names.iter().any(|n| n == name))
    }

    /// Whether a tool must be called.
    #[must_use]
    pub const fn demands(&self) -> bool {
        match self {
            ToolChoice::Required | ToolChoice::Function(_) => true,
            ToolChoice::Allowed { required, .. } => *required,
            ToolChoice::Unset | ToolChoice::None | ToolChoice::Auto => false,
        }
    }
}

/// Form the answer must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ResponseFormat {
    /// Free text, or not given.
    #[default]
    Text,
    /// Any JSON value.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The name given to it.
        name: String,
        /// The schema.
        schema: Arc<Value>,
        /// `strict: true`.
        strict: bool,
    },
}

impl ResponseFormat {
    /// The string of its `type`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            ResponseFormat::Text => "text",
            ResponseFormat::JsonObject => "json_object",
            ResponseFormat::JsonSchema { .. } => "json_schema",
        }
    }

    /// The ability, by its name in the capability matrix, with which a vendor holds a model to it; `None` = it takes none.
    #[must_use]
    pub const fn ability(&self) -> Option<&'static str> {
        match self {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some("json"),
            ResponseFormat::JsonSchema { .. } => Some("json_schema"),
        }
    }
}

impl ChatRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// The first problem, with the place as a JSON pointer; never the offending value.
    pub fn decode(body: Bytes, limits: &Limits) -> Result<Self, Error> {
        decode::request(body, limits)
    }

    /// Whether every result of a tool stands behind the call that it answers, as it must in what a client sends.
    ///
    /// # Errors
    /// The first that does not, with its place.
    pub fn check_results(&self) -> Result<(), Error> {
        decode::results::check(&self.messages)
    }

    /// A request made inside the house (tests, demo, replay).
    ///
    /// # Errors
    /// As for [`ChatRequest::decode`].
    pub fn from_value(body: &Value) -> Result<Self, Error> {
        Self::decode(Bytes::from(body.to_string()), &Limits::default())
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The top-level members of the body in order, with the place of each value.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The raw JSON text of a top-level member.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&str> {
        let member = self.members.iter().find(|m| m.key == key)?;
        std::str::from_utf8(self.body.get(member.value.clone())?).ok()
    }

    /// Members of the body other than `tools` that have a vendor run tools of its own: each with the name by which rules
    /// know what it does. One that is `null`, `false` or an empty list asks for nothing.
    pub fn vendor_tools(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let asks = |member: &str| {
            let raw = self.raw(member).map(str::trim);
            raw.is_some_and(|raw| !matches!(raw, "null" | "false" | "[]"))
        };
        VENDOR_TOOLS.iter().copied().filter(move |(member, _)| asks(member))
    }

    /// The last message of role user, if any.
    #[must_use]
    pub fn last_user(&self) -> Option<&Message> {
        self.messages.iter().rev().find(|m| m.role == Role::User)
    }
}
