//! Canonical answers in the wire form of chat completions, for dialects whose own bytes cannot go out.

use memchr::memmem::Finder;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use types::chat::WireCalls;
use types::completion::{Choice, Chunk, Delta, ToolCallDelta};
use types::{Completion, Usage};

/// What an object says that it is.
pub(crate) struct Kind {
    name: &'static str,
    /// The name as a value: quotes within a string are escaped, so what is found is none of an answer's own text.
    quoted: LazyLock<Finder<'static>>,
}

impl Kind {
    /// Whether these bytes of a vendor say so.
    pub(crate) fn is_said(&self, raw: &[u8]) -> bool {
        self.quoted.find(raw).is_some()
    }
}

pub(crate) static COMPLETION: Kind =
    Kind { name: "chat.completion", quoted: LazyLock::new(|| Finder::new("\"chat.completion\"")) };
pub(crate) static CHUNK: Kind = Kind {
    name: "chat.completion.chunk",
    quoted: LazyLock::new(|| Finder::new("\"chat.completion.chunk\"")),
};

/// What stands at the head of every object of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp {
    /// `id`.
    pub(crate) id: String,
    /// `created`, Unix seconds.
    pub(crate) created: i64,
    /// `model`: the one that serves.
    pub(crate) model: String,
}

impl Stamp {
    /// Identifier, kind and time as JSON texts, for bytes of a vendor that lack one of them.
    pub(crate) fn members(&self, kind: &Kind) -> [(&'static str, String); 3] {
        [
            ("id", Value::from(&*self.id).to_string()),
            ("object", Value::from(kind.name).to_string()),
            ("created", self.created.to_string()),
        ]
    }
}

/// A whole answer.
pub(crate) fn completion(stamp: &Stamp, c: &Completion, usage: Usage) -> Map<String, Value> {
    let choices: Vec<Value> = c.choices.iter().map(choice).collect();
    let mut object = head(&COMPLETION, stamp, choices);
    if let Some(extra) = &c.extra {
        add(&mut object, extra);
    }
    object.insert("usage".to_owned(), usage.to_wire());
    object
}

/// A chunk; `first` says whether a choice's role has been told already, and notes it.
pub(crate) fn chunk(stamp: &Stamp, c: &Chunk, first: &mut impl FnMut(u32) -> bool) -> Map<String, Value> {
    let choices = c.choices.iter().map(|d| delta(d, first(d.index))).collect();
    let mut object = head(&CHUNK, stamp, choices);
    if let Some(extra) = &c.extra {
        add(&mut object, extra);
    }
    object
}

/// Further members of the vendor's. None of them takes the place of one of ours.
fn add(object: &mut Map<String, Value>, extra: &Map<String, Value>) {
    for (key, value) in extra {
        object.entry(key).or_insert_with(|| value.clone());
    }
}

fn add_beside(message: &mut Map<String, Value>, beside: Option<&Value>) {
    if let Some(members) = beside.and_then(Value::as_object) {
        add(message, members);
    }
}

/// A chunk without choices, for usage and explanation.
pub(crate) fn bare_chunk(stamp: &Stamp) -> Map<String, Value> {
    head(&CHUNK, stamp, Vec::new())
}

fn head(kind: &Kind, stamp: &Stamp, choices: Vec<Value>) -> Map<String, Value> {
    let mut m = Map::new();
    m.insert("id".to_owned(), Value::String(stamp.id.clone()));
    m.insert("object".to_owned(), Value::String(kind.name.to_owned()));
    m.insert("created".to_owned(), Value::from(stamp.created));
    m.insert("model".to_owned(), Value::String(stamp.model.clone()));
    m.insert("choices".to_owned(), Value::Array(choices));
    m
}

fn choice(c: &Choice) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), Value::String("assistant".to_owned()));
    // `null` where there is nothing but tool calls or a refusal, as OpenAI does.
    let silent = c.text.is_empty() && (!c.tool_calls.is_empty() || c.refusal.is_some());
    message.insert("content".to_owned(), if silent { Value::Null } else { Value::String(c.text.clone()) });
    message.insert("refusal".to_owned(), json!(c.refusal));
    if !c.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), Value::String(c.reasoning.clone()));
    }
    if !c.tool_calls.is_empty() {
        message.insert("tool_calls".to_owned(), json!(WireCalls(&c.tool_calls)));
    }
    add_beside(&mut message, c.beside.as_ref());
    json!({
        "index": c.index,
        "message": message,
        "logprobs": c.logprobs,
        "finish_reason": c.finish_reason.as_ref().map(|r| r.as_str()),
    })
}

fn delta(d: &Delta, first: bool) -> Value {
    let mut m = Map::new();
    if d.role || first {
        m.insert("role".to_owned(), Value::String("assistant".to_owned()));
        if d.text.is_none() && d.tool_calls.is_empty() && d.refusal.is_none() && d.reasoning.is_none() {
            m.insert("content".to_owned(), Value::String(String::new()));
        }
    }
    let mut text = |key: &str, value: &Option<String>| {
        if let Some(t) = value {
            m.insert(key.to_owned(), Value::String(t.clone()));
        }
    };
    text("content", &d.text);
    text("reasoning_content", &d.reasoning);
    text("refusal", &d.refusal);
    if !d.tool_calls.is_empty() {
        m.insert("tool_calls".to_owned(), d.tool_calls.iter().map(tool_call).collect());
    }
    add_beside(&mut m, d.beside.as_ref());
    json!({
        "index": d.index,
        "delta": m,
        "logprobs": d.logprobs,
        "finish_reason": d.finish_reason.as_ref().map(|r| r.as_str()),
    })
}

/// Id, type and name stand in a call's first piece only.
fn tool_call(t: &ToolCallDelta) -> Value {
    let (kind, text) = if t.custom { ("custom", "input") } else { ("function", "arguments") };
    let mut function = Map::new();
    let mut m = Map::new();
    m.insert("index".to_owned(), Value::from(t.index));
    if let Some(id) = &t.id {
        m.insert("id".to_owned(), Value::String(id.clone()));
    }
    if let Some(name) = &t.name {
        m.insert("type".to_owned(), Value::String(kind.to_owned()));
        function.insert("name".to_owned(), Value::String(name.clone()));
    }
    function.insert(text.to_owned(), Value::String(t.arguments.clone()));
    m.insert(kind.to_owned(), Value::Object(function));
    if let Some(extra) = &t.extra_content {
        m.insert("extra_content".to_owned(), extra.clone());
    }
    Value::Object(m)
}
