//! Wire formats as pure functions: a closed enum with one file per dialect.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;
use types::adjustment::{self, Adjustment};
use types::chat::{Message, ResponseFormat, Tool, ToolCall};
use types::completion::{Chunk, Completion, FinishReason};
use types::matrix::{Dialect, Model};
use types::provider::{Call, Error, ErrorKind, Fault};

mod anthropic_messages;
mod failure;
mod finish;
#[cfg(test)]
mod fuzz;
mod gemini;
mod ids;
mod openai_chat;
mod possible;
#[cfg(test)]
pub(crate) mod tests;
mod turns;

pub(crate) use possible::Possible;

use crate::secrets::Secrets;
use crate::sse::Event;

/// A dialect that is spoken over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    OpenaiChat,
    AnthropicMessages,
    Gemini,
}

/// A call in the vendor's form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// What follows the provider's base address, with its leading `/`.
    pub(crate) path: Cow<'static, str>,
    /// Without the `?`.
    pub(crate) query: Option<&'static str>,
    /// JSON.
    pub(crate) body: Bytes,
}

/// Where the key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// `authorization: Bearer …`.
    Bearer,
    /// A header of its own, the plain key in it.
    Header(&'static str),
}

/// What reading an answer needs to know of the call.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    model: Arc<Model>,
    /// [`Call::id`].
    id: String,
    /// The answer comes as the arguments of a tool that we added ([`anthropic_messages`]).
    answer_tool: bool,
    /// What was asked.
    request: Arc<types::ChatRequest>,
    /// What no error repeats.
    secrets: Arc<Secrets>,
}

impl Context {
    pub(crate) fn of(call: &Call) -> Self {
        Context {
            model: Arc::clone(&call.model),
            id: call.id.clone(),
            request: Arc::clone(&call.request),
            answer_tool: call.provider.dialect == Dialect::AnthropicMessages
                && anthropic_messages::uses_answer_tool(call),
            secrets: Arc::default(),
        }
    }

    /// With what no error repeats: the keys of the provider.
    pub(crate) fn keeping(self, secrets: Arc<Secrets>) -> Self {
        Context { secrets, ..self }
    }

    /// Whether the request has a member of that name, so that its client knows what an answer says under it: but for what
    /// vendors repeat with every event.
    fn asked_for(&self, member: &str) -> bool {
        !matches!(member, "service_tier" | "system_fingerprint")
            && self.request.raw(member).is_some_and(|raw| raw != "null")
    }

    pub(crate) fn error(&self, kind: ErrorKind, detail: impl Into<String>) -> Error {
        Error::new(kind, &self.model, self.secrets.scrub(&detail.into()).into_owned())
    }

    fn malformed(&self, what: &serde_json::Error) -> Error {
        self.unreadable(ErrorKind::Malformed, "the answer", what)
    }

    fn unreadable(&self, kind: ErrorKind, what: &str, why: &serde_json::Error) -> Error {
        // Place and category only: serde's text may quote the answer.
        let (category, line, column) = (why.classify(), why.line(), why.column());
        let detail =
            format!("{what} is not the JSON of its dialect: {category:?} at line {line} column {column}");
        self.error(kind, detail)
    }

    /// Why the answer ended, as clients know it.
    ///
    /// # Errors
    /// What a vendor's word means that stands for a failure; `otherwise` where it does not tell.
    fn finish_reason(
        &self,
        written: &str,
        called_tools: bool,
        otherwise: ErrorKind,
    ) -> Result<FinishReason, Error> {
        finish::reason(written, called_tools, otherwise).map_err(|failed| self.ended_by(failed))
    }

    fn ended_by(&self, (kind, word): (ErrorKind, &str)) -> Error {
        self.error(kind, format!("the vendor ended the answer with finish_reason `{word}`"))
    }

    /// A whole answer that does not say why it ended may have been cut anywhere.
    fn endless(&self) -> Error {
        self.error(ErrorKind::Malformed, "the answer does not say why it ended")
    }

    /// An identifier for a tool call whose vendor gave none.
    fn tool_call_id(&self, seed: &str, choice: u32, n: usize) -> String {
        ids::made(if seed.is_empty() { &self.id } else { seed }, choice, n)
    }
}

impl Wire {
    /// `None` for dialects without a network.
    pub(crate) const fn of(dialect: Dialect) -> Option<Wire> {
        match dialect {
            Dialect::OpenaiChat => Some(Wire::OpenaiChat),
            Dialect::AnthropicMessages => Some(Wire::AnthropicMessages),
            Dialect::Gemini => Some(Wire::Gemini),
            Dialect::Simulated | Dialect::Recorded => None,
        }
    }

    /// Where the key goes.
    pub(crate) const fn auth(self) -> Auth {
        match self {
            Wire::OpenaiChat => Auth::Bearer,
            Wire::AnthropicMessages => Auth::Header("x-api-key"),
            Wire::Gemini => Auth::Header("x-goog-api-key"),
        }
    }

    /// Headers that every call of the dialect carries.
    pub(crate) const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Wire::AnthropicMessages => &[("anthropic-version", anthropic_messages::VERSION)],
            Wire::OpenaiChat | Wire::Gemini => &[],
        }
    }

    /// The path of every call, if it does not depend on the call.
    pub(crate) const fn fixed_path(self) -> Option<&'static str> {
        match self {
            Wire::OpenaiChat => Some(openai_chat::PATH),
            Wire::AnthropicMessages => Some(anthropic_messages::PATH),
            Wire::Gemini => None,
        }
    }

    /// Whether it can say how an answer begins.
    pub(crate) const fn prefills(self) -> bool {
        matches!(self, Wire::OpenaiChat | Wire::AnthropicMessages)
    }

    /// The call in the vendor's form.
    ///
    /// # Errors
    /// [`ErrorKind::BadRequest`] for what the dialect cannot say.
    pub(crate) fn encode(self, call: &Call) -> Result<Encoded, Error> {
        match self {
            Wire::OpenaiChat => openai_chat::encode(call),
            Wire::AnthropicMessages => anthropic_messages::encode(call),
            Wire::Gemini => gemini::encode(call),
        }
    }

    /// What [`Wire::encode`] leaves out of a call, or writes with another value than was asked for.
    pub(crate) fn adjustments(self, call: &Call) -> Vec<Adjustment> {
        let mut all = adjustment::unsaid(&call.request, &call.provider);
        all.extend(adjustment::unsaid_edits(&call.edits, &call.request, &call.provider));
        match self {
            Wire::OpenaiChat => {}
            Wire::AnthropicMessages => anthropic_messages::adjust(call, &mut all),
            Wire::Gemini => gemini::adjust(call, &mut all),
        }
        all
    }

    /// A whole answer with status 200.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`], or whatever failure the body tells of in spite of its status.
    pub(crate) fn decode(self, context: &Context, body: &Bytes) -> Result<Completion, Error> {
        match self {
            Wire::OpenaiChat => openai_chat::decode(context, body),
            Wire::AnthropicMessages => anthropic_messages::decode(context, body),
            Wire::Gemini => gemini::decode(context, body),
        }
    }

    /// The state machine for a streamed answer.
    pub(crate) fn decoder(self, context: Context) -> Decoder {
        let state = match self {
            Wire::OpenaiChat => State::OpenaiChat(openai_chat::Stream::default()),
            Wire::AnthropicMessages => State::AnthropicMessages(anthropic_messages::Stream::default()),
            Wire::Gemini => State::Gemini(gemini::Stream::default()),
        };
        Decoder { context, state }
    }

    /// Why an answer with another status than 200 failed. `now` is for `Retry-After` dates.
    pub(crate) fn classify(
        self,
        context: &Context,
        status: u16,
        headers: &HeaderMap,
        body: &[u8],
        now: SystemTime,
    ) -> Error {
        failure::of_answer(context, status, headers, body, now)
    }
}

/// Reads the events of one streamed answer.
#[derive(Debug)]
pub(crate) struct Decoder {
    context: Context,
    state: State,
}

#[derive(Debug)]
enum State {
    OpenaiChat(openai_chat::Stream),
    AnthropicMessages(anthropic_messages::Stream),
    Gemini(gemini::Stream),
}

/// Why an event gave no chunks.
enum Bad {
    /// It could not be read.
    Event(serde_json::Error),
    /// It says that the answer failed.
    Answer(Error),
}

impl From<Error> for Bad {
    fn from(e: Error) -> Self {
        Bad::Answer(e)
    }
}

impl From<serde_json::Error> for Bad {
    fn from(e: serde_json::Error) -> Self {
        Bad::Event(e)
    }
}

impl Decoder {
    /// Takes one event and adds its chunks to `out`. Comments and events without data say nothing; any other must
    /// be read, for whatever it said would be missing in the answer.
    ///
    /// # Errors
    /// The failure that the event tells of, or [`ErrorKind::StreamLost`] if it cannot be read. Nothing may be
    /// pushed after an error.
    pub(crate) fn push(&mut self, event: &Event, out: &mut VecDeque<Chunk>) -> Result<(), Error> {
        self.read(event, out).map_err(|bad| match bad {
            Bad::Answer(e) => e,
            Bad::Event(e) => self.context.unreadable(ErrorKind::StreamLost, "an event", &e),
        })
    }

    /// The same for an event that the end of the bytes has cut: what cannot be read of it counts as not sent, and
    /// [`Decoder::finish`] knows whether it was needed.
    ///
    /// # Errors
    /// The failure that the event tells of.
    pub(crate) fn push_cut(&mut self, event: &Event, out: &mut VecDeque<Chunk>) -> Result<(), Error> {
        match self.read(event, out) {
            Err(Bad::Answer(e)) => Err(e),
            Err(Bad::Event(_)) | Ok(()) => Ok(()),
        }
    }

    fn read(&mut self, event: &Event, out: &mut VecDeque<Chunk>) -> Result<(), Bad> {
        match &mut self.state {
            State::OpenaiChat(s) => s.push(&self.context, event, out),
            State::AnthropicMessages(s) => s.push(&self.context, event, out),
            State::Gemini(s) => s.push(&self.context, event, out),
        }
    }

    /// Whether the vendor's end was read: nothing more will come.
    pub(crate) fn ended(&self) -> bool {
        match &self.state {
            State::OpenaiChat(s) => s.ended(),
            State::AnthropicMessages(s) => s.ended(),
            State::Gemini(_) => false,
        }
    }

    /// What the end of the bytes means: the end of the answer, or its loss.
    ///
    /// # Errors
    /// [`ErrorKind::StreamLost`].
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let complete = match &self.state {
            State::OpenaiChat(s) => s.complete(),
            State::AnthropicMessages(s) => s.complete(),
            State::Gemini(s) => s.complete(),
        };
        if complete {
            return Ok(());
        }
        Err(self.context.error(ErrorKind::StreamLost, "the stream ended before the answer did"))
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

fn messages(call: &Call) -> &[Message] {
    call.edits.messages.as_deref().unwrap_or(&call.request.messages)
}

fn response_format(call: &Call) -> &ResponseFormat {
    call.edits.response_format.as_ref().unwrap_or(&call.request.response_format)
}

/// The tools that a vendor is told of which has no words for a choice among them.
fn tools(call: &Call) -> Vec<&Tool> {
    if call.edits.without_tools { Vec::new() } else { eligible(call).collect() }
}

fn eligible(call: &Call) -> impl Iterator<Item = &Tool> {
    call.tools().iter().filter(|t| !call.tool_choice().excludes(&t.name))
}

/// The form of the answer as an instruction, for whoever cannot be held to it otherwise.
fn form_in_words(format: &ResponseFormat) -> Option<String> {
    match format {
        ResponseFormat::Text => None,
        ResponseFormat::JsonObject => {
            Some("Answer with a single JSON object and nothing else: no prose, no code fence.".to_owned())
        }
        ResponseFormat::JsonSchema { schema, .. } => Some(format!(
            "Answer with a single JSON value that fits the following JSON Schema and nothing else: \
             no prose, no code fence.\n{schema}"
        )),
    }
}

/// The refusal of a conversation of which nothing would go out; vendors of these dialects refuse an empty turn.
fn nothing_said(call: &Call) -> Error {
    unsayable(call, "messages", "a conversation in which nothing is said")
}

fn temperature(call: &Call) -> Option<f64> {
    call.edits.temperature.or(call.request.params.temperature).filter(|_| !dropped(call, "temperature"))
}

fn top_p(call: &Call) -> Option<f64> {
    call.edits.top_p.or(call.request.params.top_p).filter(|_| !dropped(call, "top_p"))
}

/// Arguments of a call as the object that these vendors take; text that is no object goes in as a member of one, so
/// that the model sees what it wrote.
fn arguments(call: &ToolCall) -> Cow<'_, RawValue> {
    let text = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if raw.get().starts_with('{') => Cow::Borrowed(raw),
        _ => Cow::Owned(
            serde_json::value::to_raw_value(&json!({"arguments": call.arguments}))
                .unwrap_or_else(|_| RawValue::NULL.to_owned()),
        ),
    }
}

/// Asked for, at most what the model can give.
fn max_tokens(call: &Call) -> Option<u32> {
    let asked = call.edits.max_tokens.or(call.request.params.max_tokens)?;
    Some(asked.min(call.model.max_output_tokens.max(1)))
}

fn dropped(call: &Call, member: &str) -> bool {
    call.provider.quirks.drop.iter().any(|d| d == member)
}

/// The refusal of what a dialect has no words for, with the member that holds it.
fn unsayable(call: &Call, param: &str, what: &str) -> Error {
    Error {
        fault: Some(Box::new(Fault { param: Some(param.into()), code: Some("unsupported_value".into()) })),
        ..Error::new(ErrorKind::BadRequest, &call.model, format!("this dialect cannot say {what}"))
    }
}

fn to_body<T: serde::Serialize>(call: &Call, body: &T) -> Result<Bytes, Error> {
    // A request's text is most of its size; the rest is structure.
    let mut out = Vec::with_capacity(call.request.body().len().saturating_add(256));
    match serde_json::to_writer(&mut out, body) {
        Ok(()) => Ok(out.into()),
        Err(_) => Err(unsayable(call, "messages", "this request as JSON")),
    }
}

/// A JSON text without the white space between its tokens: vendors that indent their answers indent the
/// arguments of tool calls with them.
fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.chars()
        .filter(|c| {
            match c {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !c.is_ascii_whitespace()
        })
        .collect()
}

/// A `data:` URL of base64: media type and data, both borrowed.
fn data_url(url: &str) -> Option<(&str, &str)> {
    let (kind, data) = url.strip_prefix("data:")?.split_once(',')?;
    let kind = kind.strip_suffix(";base64")?;
    Some((kind.split(';').next().unwrap_or(kind), data))
}
