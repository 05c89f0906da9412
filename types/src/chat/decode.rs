//! Body to [`ChatRequest`]: one reading, with limits and a JSON pointer for whatever is wrong.

mod disguise;
mod messages;
mod one_pass;
mod place;
pub(super) mod results;
mod tools;

use super::{ChatRequest, Member, Params, ResponseFormat, ToolChoice, UniqueMap, UniqueValue};
use crate::options::Options;
use crate::printable::has_no_controls;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// How much a body may hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Tools.
    pub tools: usize,
    /// Parts of one message.
    pub parts: usize,
    /// Stop strings.
    pub stop: usize,
    /// Members of `metadata`.
    pub metadata: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { messages: 2_000, tools: 256, parts: 256, stop: 16, metadata: 64 }
    }
}

/// Why a body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong and what would be right; never the offending value.
    pub message: String,
    /// Where, as a JSON pointer; empty for the body as a whole.
    pub pointer: String,
    /// Machine-readable reason.
    pub code: &'static str,
}

impl Error {
    fn new(code: &'static str, pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Error { message: message.into(), pointer: pointer.into(), code }
    }

    /// With the place before a message that says only what is expected there.
    fn named(mut self) -> Self {
        if let Some(param) = self.param().filter(|_| self.message.starts_with("expected")) {
            self.message = format!("`{param}`: {}", self.message);
        }
        self
    }

    /// The last named member of the pointer, as OpenAI's `param`.
    #[must_use]
    pub fn param(&self) -> Option<String> {
        (!self.pointer.is_empty()).then(|| self.pointer.trim_start_matches('/').replace('/', "."))
    }
}

/// What a flag is expected to be.
const BOOLEAN: &str = "true or false";

/// Members that name a destination, a proxy or a credential, or by which a gateway or a vendor behind this server is told
/// to ask another model: a caller may not send them, for what they lead to is beyond scopes, rules and prices.
const FORBIDDEN: &[&str] = &[
    "api_base",
    "base_url",
    "api_key",
    "proxy",
    "api_version",
    "organization_key",
    "headers",
    "extra_headers",
    "custom_llm_provider",
    "litellm_params",
    "litellm_credential_name",
    "user_config",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_bedrock_runtime_endpoint",
    "aws_web_identity_token",
    "vertex_credentials",
    "azure_ad_token",
    "azure_endpoint",
    "vertex_project",
    "vertex_location",
    "region_name",
    "endpoint",
    "deployment_id",
    "data_sources",
    "kv_transfer_params",
    "lora_request",
    "extra_body",
    "extra_query",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "model_list",
    "preset",
    "route",
    "mock_response",
    "guardrail_config",
];

struct Top<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Top<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(16);
                while let Some(key) = a.next_key::<Key<'de>>()? {
                    if members.iter().any(|(k, _)| *k == key.0) {
                        return Err(serde::de::Error::custom("duplicate key"));
                    }
                    // A bound, so that a body of nothing but keys stays cheap.
                    if members.len() >= 512 {
                        return Err(serde::de::Error::custom(place::TOO_MANY));
                    }
                    members.push((key.0, a.next_value()?));
                }
                Ok(members)
            }
        }
        d.deserialize_map(V).map(Top)
    }
}

/// A key, borrowed where it holds no escape.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(v.to_owned()))
            }
        }
        d.deserialize_str(V).map(Key)
    }
}

pub(super) fn request(body: Bytes, limits: &Limits) -> Result<ChatRequest, Error> {
    read(body, limits).map_err(Error::named)
}

/// Any JSON text in which no key stands twice in one object: two readers could read it two ways.
///
/// # Errors
/// It is no JSON, or the place of the key.
pub fn document(bytes: &[u8]) -> Result<Value, Error> {
    let text = text_of(bytes)?;
    Ok(parse::<UniqueValue>(text, String::new, "a JSON value")?.0)
}

fn text_of(body: &[u8]) -> Result<&str, Error> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::new(
            "invalid_json",
            "",
            "the body starts with a byte order mark; send plain UTF-8 JSON",
        ));
    }
    std::str::from_utf8(body).map_err(|e| {
        Error::new(
            "invalid_utf8",
            "",
            format!("the body is not UTF-8: bad byte at offset {}", e.valid_up_to()),
        )
    })
}

fn read(body: Bytes, limits: &Limits) -> Result<ChatRequest, Error> {
    let text = text_of(&body)?;
    let Top(top) = parse(text, String::new, "an object")?;
    let start = text.as_ptr() as usize;
    let mut members = Vec::with_capacity(top.len());
    let mut request = ChatRequest {
        body: Bytes::new(),
        members: Vec::new(),
        model: String::new(),
        messages: Vec::new(),
        stream: false,
        include_usage: false,
        tools: Vec::new(),
        tool_choice: ToolChoice::Unset,
        response_format: ResponseFormat::Text,
        params: Params { n: 1, ..Params::default() },
        user: None,
        options: Options::default(),
    };
    let mut max_tokens = (None, None);
    let mut seen_messages = false;
    let mut further: Option<Value> = None;
    for (key, raw) in &top {
        let json = raw.get();
        // `RawValue` borrows from `text`, so the difference of the addresses is an offset in the body.
        let at = (json.as_ptr() as usize).saturating_sub(start);
        members.push(Member { key: key.clone().into_owned(), value: at..at.saturating_add(json.len()) });
        let pointer = || format!("/{key}");
        if FORBIDDEN.contains(&key.as_ref()) {
            return Err(Error::new(
                "forbidden_field",
                pointer(),
                "destinations, credentials and what a vendor falls back on are the operator's; remove this member \
                 (further models stand in `models`)",
            ));
        }
        disguise::refuse(key, disguise::REQUEST, pointer)?;
        match key.as_ref() {
            "model" => request.model = model(json)?,
            "messages" => {
                seen_messages = true;
                request.messages = messages::read(json, limits)?;
                results::place(&mut request.messages);
            }
            "stream" => request.stream = optional(json, pointer, BOOLEAN)?.unwrap_or(false),
            "stream_options" => {
                let o: Option<UniqueMap> = optional(json, pointer, "an object")?;
                let flag = o.as_ref().and_then(|m| m.0.get("include_usage"));
                request.include_usage = match flag {
                    None | Some(Value::Null) => false,
                    Some(Value::Bool(b)) => *b,
                    Some(_) => {
                        return Err(Error::new(
                            "invalid_type",
                            "/stream_options/include_usage",
                            "expected true or false",
                        ));
                    }
                };
            }
            "tools" => request.tools = tools::tools(json, limits)?,
            "tool_choice" => request.tool_choice = tools::tool_choice(json)?,
            "response_format" => request.response_format = tools::response_format(json)?,
            "temperature" => request.params.temperature = ranged(json, pointer, 0.0, 2.0)?,
            "top_p" => request.params.top_p = ranged(json, pointer, 0.0, 1.0)?,
            "max_tokens" => max_tokens.0 = positive(json, pointer)?,
            "max_completion_tokens" => max_tokens.1 = positive(json, pointer)?,
            "n" => {
                request.params.n = positive(json, pointer)?.unwrap_or(1);
                if request.params.n > 16 {
                    return Err(Error::new("out_of_range", "/n", "expected a whole number from 1 to 16"));
                }
            }
            "seed" => request.params.seed = optional(json, pointer, "a whole number")?,
            "stop" => request.params.stop = stop(json, limits)?,
            "reasoning_effort" => request.params.reasoning_effort = optional(json, pointer, "a string")?,
            "parallel_tool_calls" => request.params.parallel_tool_calls = optional(json, pointer, BOOLEAN)?,
            "logprobs" => request.params.logprobs = optional(json, pointer, BOOLEAN)?.unwrap_or(false),
            "user" => request.user = identifier_text(optional(json, pointer, "a string")?, &pointer())?,
            "metadata" => metadata(json, limits, &mut request.options)?,
            "routing" => routing(json, &mut request.options)?,
            "provider" => {
                if let Some(map) = optional::<UniqueMap>(json, pointer, "an object")? {
                    let taken = crate::foreign::provider(&mut request.options, &map.0);
                    taken.map_err(|p| foreign("/provider", &p))?;
                }
            }
            "functions" | "function_call" if is_given(json) => return Err(old_form(pointer())),
            "guardrails" => {
                if let Some(list) = optional::<Value>(json, pointer, "a list of names")? {
                    let taken = crate::options::guardrails(&mut request.options, &list, "guardrails");
                    taken.map_err(|p| foreign("", &p))?;
                }
            }
            "models" => further = optional::<Value>(json, pointer, "a list of models")?,
            _ => unread(json, pointer)?,
        }
    }
    if let Some(list) = further {
        let taken = crate::foreign::models(&mut request.options, &mut request.model, &list);
        taken.map_err(|p| foreign("", &p))?;
    }
    if request.model.is_empty() {
        return Err(Error::new(
            "missing_field",
            "/model",
            "`model` is missing; \"auto\" lets the router choose",
        ));
    }
    if !seen_messages {
        return Err(Error::new("missing_field", "/messages", "`messages` is missing"));
    }
    if request.messages.is_empty() {
        return Err(Error::new(
            "out_of_range",
            "/messages",
            "`messages` is empty; expected at least one message",
        ));
    }
    tools::demanded(&request.tool_choice, &request.tools)?;
    request.params.max_tokens = max_tokens.1.or(max_tokens.0);
    drop(top);
    request.members = members;
    request.body = body;
    Ok(request)
}

/// Neither `null` nor an empty list.
fn is_given(json: &str) -> bool {
    !matches!(json.split_ascii_whitespace().collect::<String>().as_str(), "null" | "[]")
}

/// Functions in the form before `tools`, which nothing behind this would see.
fn old_form(pointer: String) -> Error {
    let text = "the form before `tools` is not taken: use `tools`, `tool_choice`, `tool_calls` and messages of the \
                role `tool`";
    Error::new("unsupported_field", pointer, text)
}

/// Deepest nesting of a member that passes through unread; serde_json has the same limit for what is read.
const MAX_DEPTH: usize = 128;

/// Refuses a valid JSON text that no reader of it can take in, whoever that is: one that nests too deep, and numbers
/// that are beyond any double.
fn unread(json: &str, pointer: impl Fn() -> String) -> Result<(), Error> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    // Where a number began.
    let mut number = None;
    let refuse = |why: String| Err(Error::new("invalid_json", pointer(), why));
    for (at, b) in json.bytes().chain([b',']).enumerate() {
        match b {
            b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-' if !in_string => {
                number.get_or_insert(at);
                continue;
            }
            _ => {}
        }
        if number.take().and_then(|from| json.get(from..at)).is_some_and(is_beyond) {
            return refuse("no JSON that can be read: number out of range".to_owned());
        }
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                if depth > MAX_DEPTH {
                    return refuse(format!("nested deeper than {MAX_DEPTH} levels"));
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a number is none that a double holds. Letters of `true` and `false` are no numbers.
fn is_beyond(number: &str) -> bool {
    /// Fewer characters than this without an exponent are within any range.
    const SHORT: usize = 300;
    (number.len() >= SHORT || number.contains(['e', 'E']))
        && number.parse::<f64>().is_ok_and(|n| !n.is_finite())
}

/// `pointer` is made only where something is wrong: on the way of every request it is never read. `expected` says
/// in words what belongs there.
fn parse<'a, T: Deserialize<'a>>(
    json: &'a str,
    pointer: impl Fn() -> String,
    expected: &str,
) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|e| place::explain(json, pointer(), expected, &e))
}

/// A list of objects.
fn objects(json: &str, pointer: impl Fn() -> String) -> Result<Option<Vec<UniqueMap>>, Error> {
    serde_json::from_str(json).map_err(|e| {
        let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        match elements.iter().position(|e| !e.get().starts_with('{')) {
            Some(i) => {
                let odd = elements.get(i).map_or("", |e| e.get());
                let text = format!("expected an object, found {}", place::kind(odd));
                Error::new("invalid_type", format!("{}/{i}", pointer()), text)
            }
            None => place::explain(json, pointer(), "a list of objects", &e),
        }
    })
}

fn optional<'a, T: Deserialize<'a>>(
    json: &'a str,
    pointer: impl Fn() -> String,
    expected: &str,
) -> Result<Option<T>, Error> {
    parse(json, pointer, expected)
}

fn ranged(json: &str, pointer: impl Fn() -> String, lo: f64, hi: f64) -> Result<Option<f64>, Error> {
    let expected = || format!("a number from {lo} to {hi}");
    // The words are made only where something is wrong.
    match serde_json::from_str::<Option<f64>>(json) {
        Ok(Some(x)) if !(lo..=hi).contains(&x) => {
            Err(Error::new("out_of_range", pointer(), format!("expected {}", expected())))
        }
        Ok(x) => Ok(x),
        Err(e) => Err(place::explain(json, pointer(), &expected(), &e)),
    }
}

fn positive(json: &str, pointer: impl Fn() -> String) -> Result<Option<u32>, Error> {
    const EXPECTED: &str = "a whole number of at least 1";
    match optional::<u32>(json, &pointer, EXPECTED)? {
        Some(0) => Err(Error::new("out_of_range", pointer(), format!("expected {EXPECTED}"))),
        x => Ok(x),
    }
}

fn identifier_text(text: Option<String>, pointer: &str) -> Result<Option<String>, Error> {
    match text {
        Some(t) if t.len() > 512 || !has_no_controls(&t) => {
            Err(Error::new("invalid_value", pointer, "expected at most 512 bytes without control characters"))
        }
        t => Ok(t),
    }
}

fn model(json: &str) -> Result<String, Error> {
    let name: String = parse(json, || "/model".to_owned(), "the name of a model")?;
    if crate::options::is_identifier(&name) {
        return Ok(name);
    }
    Err(Error::new("invalid_value", "/model", "a model name is 1 to 256 of A-Z a-z 0-9 . _ : / @ + -"))
}

fn metadata(json: &str, limits: &Limits, options: &mut Options) -> Result<(), Error> {
    let Some(map) = optional::<UniqueMap>(json, || "/metadata".to_owned(), "an object")? else {
        return Ok(());
    };
    if map.0.len() > limits.metadata {
        return Err(Error::new("out_of_range", "/metadata", format!("at most {} members", limits.metadata)));
    }
    for (name, value) in &map.0 {
        let shown = shorten(name);
        if !has_no_controls(name) {
            let message = format!("the name `{shown}` has control characters, which no name may have");
            return Err(Error::new("invalid_value", "/metadata", message));
        }
        if !is_plain_text(value) {
            let message = "expected text without control characters";
            return Err(Error::new("invalid_value", format!("/metadata/{shown}"), message));
        }
    }
    let wrong = |name: &str, message: &str| {
        Error::new("invalid_option", format!("/metadata/{name}"), format!("`metadata.{name}`: {message}"))
    };
    if let Some(tags) = map.0.get("tags") {
        crate::options::metadata_tags(options, tags).map_err(|p| wrong("tags", &p.message))?;
    }
    // What is no list is metadata like any other.
    if let Some(list) = map.0.get("guardrails").filter(|list| list.is_array()) {
        crate::options::guardrails(options, list, "metadata.guardrails")
            .map_err(|p| wrong("guardrails", &p.message))?;
    }
    Ok(())
}

/// No text in it, at any depth, has control characters: such text ends up in logs and on terminals.
fn is_plain_text(value: &Value) -> bool {
    match value {
        Value::String(text) => has_no_controls(text),
        Value::Array(list) => list.iter().all(is_plain_text),
        Value::Object(map) => map.iter().all(|(name, value)| has_no_controls(name) && is_plain_text(value)),
        _ => true,
    }
}

fn routing(json: &str, options: &mut Options) -> Result<(), Error> {
    let Some(map) = optional::<UniqueMap>(json, || "/routing".to_owned(), "an object")? else {
        return Ok(());
    };
    for (name, value) in &map.0 {
        options.set(name, value).map_err(|p| {
            // A name that is none may hold anything; only what looks like one is repeated.
            let place = if crate::options::is_identifier(name) {
                format!("/routing/{name}")
            } else {
                "/routing".into()
            };
            Error::new("invalid_option", place, format!("`routing.{}`: {}", shorten(&p.option), p.message))
        })?;
    }
    Ok(())
}

fn foreign(at: &str, p: &crate::options::Problem) -> Error {
    let name = shorten(&p.option);
    let place = if crate::options::is_identifier(&name) { format!("{at}/{name}") } else { at.to_owned() };
    Error::new("invalid_option", place, format!("`{name}`: {}", p.message))
}

fn shorten(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn stop(json: &str, limits: &Limits) -> Result<Vec<String>, Error> {
    let list = match parse::<Value>(json, || "/stop".to_owned(), "a string or a list of strings")? {
        Value::Null => Vec::new(),
        Value::String(s) => vec![s],
        Value::Array(list) => list
            .into_iter()
            .enumerate()
            .map(|(i, v)| match v {
                Value::String(s) => Ok(s),
                _ => Err(Error::new("invalid_type", format!("/stop/{i}"), "expected a string")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(Error::new("invalid_type", "/stop", "expected a string or a list of strings")),
    };
    if list.len() > limits.stop {
        return Err(Error::new("out_of_range", "/stop", format!("at most {} stop strings", limits.stop)));
    }
    Ok(list)
}

#[cfg(test)]
mod tests;
