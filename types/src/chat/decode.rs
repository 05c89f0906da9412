//! Body to [`ChatRequest`]: one reading, with limits and a JSON pointer for whatever is wrong.

mod messages;

use super::{
    ChatRequest, Content, Member, Message, Params, Part, PartKind, ResponseFormat, Role, Tool, ToolCall,
    ToolChoice, UniqueMap, UniqueValue,
};
use crate::options::Options;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// How much a body may hold (`reliability.md` §2).
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

    /// The last named member of the pointer, as OpenAI's `param`.
    #[must_use]
    pub fn param(&self) -> Option<String> {
        (!self.pointer.is_empty()).then(|| self.pointer.trim_start_matches('/').replace('/', "."))
    }
}

/// Members that name a destination, a proxy or a credential: a caller may not send them.
const FORBIDDEN: &[&str] = &["api_base", "base_url", "api_key", "proxy", "api_version", "organization_key"];

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
                        return Err(serde::de::Error::custom("more than 512 members"));
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
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::new(
            "invalid_json",
            "",
            "the body starts with a byte order mark; send plain UTF-8 JSON",
        ));
    }
    let text = std::str::from_utf8(&body).map_err(|e| {
        Error::new(
            "invalid_utf8",
            "",
            format!("the body is not UTF-8: bad byte at offset {}", e.valid_up_to()),
        )
    })?;
    let Top(top) = parse(text, String::new)?;
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
                "destinations and credentials are the operator's; remove this member",
            ));
        }
        match key.as_ref() {
            "model" => request.model = model(json)?,
            "messages" => {
                seen_messages = true;
                request.messages = messages(json, limits)?;
            }
            "stream" => request.stream = optional(json, pointer)?.unwrap_or(false),
            "stream_options" => {
                let o: Option<UniqueMap> = optional(json, pointer)?;
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
            "tools" => request.tools = tools(json, limits)?,
            "tool_choice" => request.tool_choice = tool_choice(json)?,
            "response_format" => request.response_format = response_format(json)?,
            "temperature" => request.params.temperature = ranged(json, pointer, 0.0, 2.0)?,
            "top_p" => request.params.top_p = ranged(json, pointer, 0.0, 1.0)?,
            "max_tokens" => max_tokens.0 = positive(json, pointer)?,
            "max_completion_tokens" => max_tokens.1 = positive(json, pointer)?,
            "n" => {
                request.params.n = positive(json, pointer)?.unwrap_or(1);
                if request.params.n > 16 {
                    return Err(Error::new("out_of_range", "/n", "expected a whole number in 1..=16"));
                }
            }
            "seed" => request.params.seed = optional(json, pointer)?,
            "stop" => request.params.stop = stop(json, limits)?,
            "reasoning_effort" => request.params.reasoning_effort = optional(json, pointer)?,
            "parallel_tool_calls" => request.params.parallel_tool_calls = optional(json, pointer)?,
            "logprobs" => request.params.logprobs = optional(json, pointer)?.unwrap_or(false),
            "user" => request.user = identifier_text(optional(json, pointer)?, &pointer())?,
            "metadata" => metadata(json, limits)?,
            "routing" => routing(json, &mut request.options)?,
            "provider" => {
                if let Some(map) = optional::<UniqueMap>(json, pointer)? {
                    let taken = crate::foreign::provider(&mut request.options, &map.0);
                    taken.map_err(|p| foreign("/provider", &p))?;
                }
            }
            "models" => further = optional::<Value>(json, pointer)?,
            _ if depth(json) > MAX_DEPTH => {
                return Err(Error::new(
                    "invalid_json",
                    pointer(),
                    format!("nested deeper than {MAX_DEPTH} levels"),
                ));
            }
            _ => {}
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
    request.params.max_tokens = max_tokens.1.or(max_tokens.0);
    drop(top);
    request.members = members;
    request.body = body;
    Ok(request)
}

/// Deepest nesting of a member that passes through unread; serde_json has the same limit for what is read.
const MAX_DEPTH: usize = 128;

/// Nesting of a valid JSON text.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for b in json.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// `pointer` is made only where something is wrong: on the way of every request it is never read.
fn parse<'a, T: Deserialize<'a>>(json: &'a str, pointer: impl Fn() -> String) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|e| {
        let code = match e.classify() {
            serde_json::error::Category::Data => "invalid_type",
            _ => "invalid_json",
        };
        // serde names what it found and expected; values of strings are left out of the message.
        let message = strip_value(&e.to_string());
        Error::new(code, pointer(), message)
    })
}

/// Removes the quoted value from serde's `invalid type: string "secret", expected …`.
fn strip_value(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(a), Some(b)) if a < b => {
            format!("{}…{}", message.get(..a).unwrap_or(""), message.get(b.saturating_add(1)..).unwrap_or(""))
        }
        _ => message.to_owned(),
    }
}

fn optional<'a, T: Deserialize<'a>>(json: &'a str, pointer: impl Fn() -> String) -> Result<Option<T>, Error> {
    parse(json, pointer)
}

fn ranged(json: &str, pointer: impl Fn() -> String, lo: f64, hi: f64) -> Result<Option<f64>, Error> {
    match optional::<f64>(json, &pointer)? {
        Some(x) if !(lo..=hi).contains(&x) => {
            Err(Error::new("out_of_range", pointer(), format!("expected a number in {lo}..={hi}")))
        }
        x => Ok(x),
    }
}

fn positive(json: &str, pointer: impl Fn() -> String) -> Result<Option<u32>, Error> {
    match optional::<u32>(json, &pointer)? {
        Some(0) => Err(Error::new("out_of_range", pointer(), "expected a whole number of at least 1")),
        x => Ok(x),
    }
}

fn identifier_text(text: Option<String>, pointer: &str) -> Result<Option<String>, Error> {
    match text {
        Some(t) if t.len() > 512 || t.chars().any(char::is_control) => {
            Err(Error::new("invalid_value", pointer, "expected at most 512 bytes without control characters"))
        }
        t => Ok(t),
    }
}

fn model(json: &str) -> Result<String, Error> {
    let name: String = parse(json, || "/model".to_owned())?;
    if crate::options::is_identifier(&name) {
        return Ok(name);
    }
    Err(Error::new("invalid_value", "/model", "a model name is 1 to 256 of A-Z a-z 0-9 . _ : / @ + -"))
}

fn metadata(json: &str, limits: &Limits) -> Result<(), Error> {
    let Some(map) = optional::<UniqueMap>(json, || "/metadata".to_owned())? else { return Ok(()) };
    if map.0.len() > limits.metadata {
        return Err(Error::new("out_of_range", "/metadata", format!("at most {} members", limits.metadata)));
    }
    Ok(())
}

fn routing(json: &str, options: &mut Options) -> Result<(), Error> {
    let Some(map) = optional::<UniqueMap>(json, || "/routing".to_owned())? else { return Ok(()) };
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
    let list = match parse::<Value>(json, || "/stop".to_owned())? {
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

fn messages(json: &str, limits: &Limits) -> Result<Vec<Message>, Error> {
    if let Some(list) = messages::read(json, limits) {
        return Ok(list);
    }
    let raw: Vec<&RawValue> = parse(json, || "/messages".to_owned())?;
    if raw.len() > limits.messages {
        return Err(Error::new("out_of_range", "/messages", format!("at most {} messages", limits.messages)));
    }
    raw.iter().enumerate().map(|(i, m)| message(m.get(), i, limits)).collect()
}

fn message(json: &str, i: usize, limits: &Limits) -> Result<Message, Error> {
    let at = |field: &str| format!("/messages/{i}{field}");
    let Top(top) = parse(json, || at(""))?;
    let mut m = Message {
        role: Role::User,
        content: Content::None,
        name: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        refusal: None,
        extra: Map::new(),
    };
    let mut role = None;
    for (key, raw) in &top {
        let json = raw.get();
        match key.as_ref() {
            "role" => {
                let name: Cow<'_, str> = parse(json, || at("/role"))?;
                role = Some(Role::parse(&name).ok_or_else(|| {
                    let near = crate::diagnostic::nearest(&name, Role::NAMES.iter().copied());
                    let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
                    Error::new(
                        "invalid_value",
                        at("/role"),
                        format!("expected one of {}{hint}", Role::NAMES.join(", ")),
                    )
                })?);
            }
            "content" => m.content = content(json, &at("/content"), limits)?,
            "name" => m.name = identifier_text(optional(json, || at("/name"))?, &at("/name"))?,
            "tool_calls" => m.tool_calls = tool_calls(json, &at("/tool_calls"), limits)?,
            "tool_call_id" => {
                m.tool_call_id =
                    identifier_text(optional(json, || at("/tool_call_id"))?, &at("/tool_call_id"))?
            }
            "refusal" => m.refusal = optional(json, || at("/refusal"))?,
            _ => {
                m.extra.insert(
                    key.clone().into_owned(),
                    parse::<UniqueValue>(json, || at(&format!("/{}", shorten(key))))?.0,
                );
            }
        }
    }
    m.role = role.ok_or_else(|| Error::new("missing_field", at("/role"), "`role` is missing"))?;
    Ok(m)
}

fn content(json: &str, pointer: &str, limits: &Limits) -> Result<Content, Error> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(Content::None),
        Some(b'"') => Ok(Content::Text(parse(json, || pointer.to_owned())?)),
        Some(b'[') => {
            let raw: Vec<UniqueMap> = parse(json, || pointer.to_owned())?;
            if raw.len() > limits.parts {
                return Err(Error::new("out_of_range", pointer, format!("at most {} parts", limits.parts)));
            }
            let parts = raw.into_iter().enumerate().map(|(i, p)| part(p.0, &format!("{pointer}/{i}")));
            Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
        }
        _ => Err(Error::new("invalid_type", pointer, "expected a string, a list of parts or null")),
    }
}

fn part(mut p: Map<String, Value>, pointer: &str) -> Result<Part, Error> {
    let Some(Value::String(kind)) = p.get("type").cloned() else {
        return Err(Error::new("missing_field", format!("{pointer}/type"), "a part needs a `type`"));
    };
    let text = |p: &mut Map<String, Value>, name: &str| match p.shift_remove(name) {
        Some(Value::String(s)) => Ok(s),
        _ => Err(Error::new("invalid_type", format!("{pointer}/{name}"), "expected a string")),
    };
    let kind = match kind.as_str() {
        "text" => PartKind::Text(text(&mut p, "text")?),
        "refusal" => PartKind::Refusal(text(&mut p, "refusal")?),
        "image_url" => {
            let (url, detail) = match p.shift_remove("image_url") {
                Some(Value::Object(mut o)) => {
                    let detail = o.shift_remove("detail").and_then(|d| d.as_str().map(str::to_owned));
                    (o.shift_remove("url"), detail)
                }
                other => (other, None),
            };
            let Some(Value::String(url)) = url else {
                return Err(Error::new(
                    "invalid_type",
                    format!("{pointer}/image_url"),
                    "expected {\"url\": string}",
                ));
            };
            PartKind::Image { url, detail }
        }
        _ => return Ok(Part { kind: PartKind::Other(kind, p), extra: Map::new() }),
    };
    p.shift_remove("type");
    Ok(Part { kind, extra: p })
}

fn tool_calls(json: &str, pointer: &str, limits: &Limits) -> Result<Vec<ToolCall>, Error> {
    let Some(raw) = optional::<Vec<UniqueMap>>(json, || pointer.to_owned())? else { return Ok(Vec::new()) };
    if raw.len() > limits.tools {
        return Err(Error::new("out_of_range", pointer, format!("at most {} tool calls", limits.tools)));
    }
    raw.into_iter()
        .enumerate()
        .map(|(i, c)| {
            let text = |v: Option<&Value>, name: &str| {
                v.and_then(Value::as_str).map(str::to_owned).ok_or_else(|| {
                    Error::new("invalid_type", format!("{pointer}/{i}/{name}"), "expected a string")
                })
            };
            let function = c.0.get("function").and_then(Value::as_object);
            Ok(ToolCall {
                id: text(c.0.get("id"), "id")?,
                name: text(function.and_then(|f| f.get("name")), "function/name")?,
                arguments: text(function.and_then(|f| f.get("arguments")), "function/arguments")?,
            })
        })
        .collect()
}

fn tools(json: &str, limits: &Limits) -> Result<Vec<Tool>, Error> {
    let Some(raw) = optional::<Vec<&RawValue>>(json, || "/tools".to_owned())? else { return Ok(Vec::new()) };
    if raw.len() > limits.tools {
        return Err(Error::new("out_of_range", "/tools", format!("at most {} tools", limits.tools)));
    }
    raw.iter()
        .enumerate()
        .map(|(i, raw)| {
            let pointer = format!("/tools/{i}");
            let mut whole: UniqueMap = parse(raw.get(), || pointer.clone())?;
            let raw = (*raw).to_owned();
            if whole.0.get("type").and_then(Value::as_str) != Some("function") {
                return Ok(Tool {
                    name: String::new(),
                    description: None,
                    parameters: None,
                    strict: None,
                    raw,
                });
            }
            let Some(Value::Object(mut f)) = whole.0.shift_remove("function") else {
                return Err(Error::new(
                    "missing_field",
                    format!("{pointer}/function"),
                    "a function tool needs `function`",
                ));
            };
            let name = f
                .get("name")
                .and_then(Value::as_str)
                .filter(|n| !n.is_empty())
                .map(str::to_owned)
                .ok_or_else(|| {
                    Error::new(
                        "invalid_type",
                        format!("{pointer}/function/name"),
                        "expected a non-empty string",
                    )
                })?;
            Ok(Tool {
                name,
                description: f.get("description").and_then(Value::as_str).map(str::to_owned),
                strict: f.get("strict").and_then(Value::as_bool),
                parameters: f.shift_remove("parameters").filter(|p| !p.is_null()).map(Arc::new),
                raw,
            })
        })
        .collect()
}

fn tool_choice(json: &str) -> Result<ToolChoice, Error> {
    let wrong = || {
        Error::new(
            "invalid_value",
            "/tool_choice",
            "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}",
        )
    };
    Ok(match parse::<UniqueValue>(json, || "/tool_choice".to_owned())?.0 {
        Value::Null => ToolChoice::Unset,
        Value::String(s) => match s.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(wrong()),
        },
        Value::Object(o) => match o.get("function").and_then(|f| f.get("name")).and_then(Value::as_str) {
            Some(name) => ToolChoice::Function(name.to_owned()),
            // Newer forms such as `allowed_tools` pass through; the router needs to know only that tools may be used.
            None if o.get("type").is_some_and(Value::is_string) => ToolChoice::Auto,
            None => return Err(wrong()),
        },
        _ => return Err(wrong()),
    })
}

fn response_format(json: &str) -> Result<ResponseFormat, Error> {
    let pointer = "/response_format";
    let Some(UniqueMap(o)) = optional::<UniqueMap>(json, || pointer.to_owned())? else {
        return Ok(ResponseFormat::Text);
    };
    match o.get("type").and_then(Value::as_str) {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => Ok(ResponseFormat::JsonObject),
        Some("json_schema") => {
            let Some(js) = o.get("json_schema").and_then(Value::as_object) else {
                return Err(Error::new(
                    "missing_field",
                    format!("{pointer}/json_schema"),
                    "`json_schema` is missing",
                ));
            };
            let Some(schema) = js.get("schema").filter(|s| s.is_object() || s.is_boolean()) else {
                return Err(Error::new(
                    "missing_field",
                    format!("{pointer}/json_schema/schema"),
                    "expected a JSON Schema object",
                ));
            };
            Ok(ResponseFormat::JsonSchema {
                name: js.get("name").and_then(Value::as_str).unwrap_or("answer").to_owned(),
                schema: Arc::new(schema.clone()),
                strict: js.get("strict").and_then(Value::as_bool).unwrap_or(false),
            })
        }
        _ => Err(Error::new(
            "invalid_value",
            format!("{pointer}/type"),
            "expected text, json_object or json_schema",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, pointer: &str, code: &str) {
        let got = ChatRequest::decode(Bytes::copy_from_slice(body.as_bytes()), &Limits::default());
        match got {
            Ok(_) => assert_eq!((pointer, code), ("", "ok"), "{body}"),
            Err(e) => assert_eq!((e.pointer.as_str(), e.code), (pointer, code), "{body}: {}", e.message),
        }
    }

    #[test]
    fn a_wrong_body_names_the_place() {
        let m = r#""messages":[{"role":"user","content":"hi"}]"#;
        check(&format!(r#"{{"model":"auto",{m}}}"#), "", "ok");
        check(&format!(r#"{{"model":"auto",{m},"novel":{{"a":[1]}}}}"#), "", "ok");
        check(&format!(r#"{{{m}}}"#), "/model", "missing_field");
        check(r#"{"model":"auto"}"#, "/messages", "missing_field");
        check(r#"{"model":"auto","messages":[]}"#, "/messages", "out_of_range");
        check(&format!(r#"{{"model":"a b",{m}}}"#), "/model", "invalid_value");
        check(&format!(r#"{{"model":"auto",{m},"model":"x"}}"#), "", "invalid_type");
        check(
            r#"{"model":"auto","messages":[{"role":"user","role":"system","content":"x"}]}"#,
            "/messages/0",
            "invalid_type",
        );
        check(
            r#"{"model":"auto","messages":[{"role":"usr","content":"x"}]}"#,
            "/messages/0/role",
            "invalid_value",
        );
        check(
            r#"{"model":"auto","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            "/messages/0/content/0/text",
            "invalid_type",
        );
        check(&format!(r#"{{"model":"auto",{m},"temperature":9}}"#), "/temperature", "out_of_range");
        check(&format!(r#"{{"model":"auto",{m},"temperature":"hot"}}"#), "/temperature", "invalid_type");
        check(&format!(r#"{{"model":"auto",{m},"n":0}}"#), "/n", "out_of_range");
        check(&format!(r#"{{"model":"auto",{m},"max_tokens":1e999}}"#), "/max_tokens", "invalid_json");
        check(&format!(r#"{{"model":"auto",{m}}} x"#), "", "invalid_json");
        check(
            &format!(r#"{{"model":"auto",{m},"routing":{{"econmy":"x"}}}}"#),
            "/routing/econmy",
            "invalid_option",
        );
        check(&format!(r#"{{"model":"auto",{m},"api_base":"http://x"}}"#), "/api_base", "forbidden_field");
        check(
            &format!(
                r#"{{"model":"auto",{m},"tools":[{{"type":"function","function":{{"name":"f","name":"g"}}}}]}}"#
            ),
            "/tools/0",
            "invalid_type",
        );
        check("\u{feff}{}", "", "invalid_json");
        check(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "", "invalid_type");
        let deep = format!(r#"{{"model":"auto",{m},"tools":[{}1{}]}}"#, "[".repeat(300), "]".repeat(300));
        check(&deep, "/tools/0", "invalid_type");
        let deep = format!(r#"{{"model":"auto",{m},"novel":{}1{}}}"#, "[".repeat(300), "]".repeat(300));
        check(&deep, "/novel", "invalid_json");
    }

    #[test]
    fn one_pass_takes_what_the_careful_one_takes() {
        let limits = Limits { messages: 2, parts: 2, tools: 1, ..Limits::default() };
        let call = r#"{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}"#;
        let long = "x".repeat(600);
        for message in [
            r#"{"role":"user","content":"hi \u00e9\n"}"#,
            r#"{"content":null,"role":"assistant","refusal":"no","x":{"y":[1,{"z":2}]}}"#,
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}"#,
            r#"{"role":"tool","content":"42","tool_call_id":"a","name":"f"}"#,
            r#"{"role":"assistant","refusal":null,"name":null,"tool_calls":null,"r\u006fle":"user"}"#,
            r#"{"role":"assistant","refusal":null,"name":null,"tool_calls":null}"#,
            &format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call}]}}"#),
            &format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call},{call}]}}"#),
            &format!(r#"{{"role":"user","content":"x","name":"{long}"}}"#),
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"text","text":"c"}]}"#,
            r#"{"role":"user","content":[{"type":"text","type":"text","text":"a"}]}"#,
            r#"{"role":"user","content":5}"#,
            r#"{"role":"usr","content":"x"}"#,
            r#"{"role":5,"content":"x"}"#,
            r#"{"content":"x"}"#,
            r#"{"role":"user","content":"x","content":"y"}"#,
            r#"{"role":"user","content":"x","a":1,"a":2}"#,
            r#"{"role":"user","content":"x","a":{"b":1,"b":2}}"#,
            r#"{"role":"user","content":"x"} 1"#,
            "5",
        ] {
            for list in [
                format!("[{message}]"),
                format!(" [ {message} , {message} ] "),
                format!("[{message},{message},{message}]"),
            ] {
                let raw: Result<Vec<&RawValue>, _> = serde_json::from_str(&list);
                let careful = raw.ok().filter(|r| r.len() <= limits.messages).and_then(|raw| {
                    raw.iter()
                        .enumerate()
                        .map(|(i, m)| super::message(m.get(), i, &limits).ok())
                        .collect::<Option<Vec<_>>>()
                });
                assert_eq!(super::messages::read(&list, &limits), careful, "{list}");
            }
        }
    }

    #[test]
    fn values_of_strings_stay_out_of_messages() {
        let e = ChatRequest::decode(
            Bytes::from_static(br#"{"model":"auto","messages":"hunter2"}"#),
            &Limits::default(),
        );
        assert!(
            e.is_err_and(|e| !e.message.contains("hunter2") && e.message.contains("expected a sequence"))
        );
    }

    #[test]
    fn members_point_into_the_body() {
        let r = ChatRequest::from_value(
            &serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "é"}], "x": [1, 2]}),
        );
        let r = r.unwrap();
        assert_eq!(r.raw("x"), Some("[1,2]"));
        assert_eq!(r.raw("model"), Some("\"auto\""));
    }

    #[test]
    fn messages_survive_a_round_trip() {
        let body = serde_json::json!({"model": "auto", "messages": [
            {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}], "reasoning_content": "…"},
            {"role": "tool", "content": "42", "tool_call_id": "a"},
            {"role": "user", "content": [{"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}, {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
        ]});
        let r = ChatRequest::from_value(&body).unwrap();
        let back = serde_json::to_value(&r.messages).unwrap();
        assert_eq!(back, body["messages"]);
    }
}
