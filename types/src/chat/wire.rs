//! Messages as they are written: in the shape of chat completions.

use super::{Content, Message, Part, PartKind, ToolCall};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        m.serialize_entry("role", self.role.as_str())?;
        match &self.content {
            Content::None => m.serialize_entry("content", &Value::Null)?,
            Content::Text(t) => m.serialize_entry("content", t)?,
            Content::Parts(p) => m.serialize_entry("content", p)?,
        }
        if let Some(name) = &self.name {
            m.serialize_entry("name", name)?;
        }
        if !self.tool_calls.is_empty() {
            m.serialize_entry("tool_calls", &WireCalls(&self.tool_calls))?;
        }
        if let Some(id) = &self.tool_call_id {
            m.serialize_entry("tool_call_id", id)?;
        }
        if let Some(r) = &self.refusal {
            m.serialize_entry("refusal", r)?;
        }
        for (k, v) in &self.extra {
            m.serialize_entry(k, v)?;
        }
        m.end()
    }
}

/// Tool calls in their wire form: `{id, type: "function", function: {name, arguments}}`, or of the type `custom` with
/// `custom: {name, input}`.
pub struct WireCalls<'a>(pub &'a [ToolCall]);

impl Serialize for WireCalls<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            id: &'a str,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            function: Option<Function<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            custom: Option<Custom<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            extra_content: Option<&'a Value>,
        }
        #[derive(Serialize)]
        struct Function<'a> {
            name: &'a str,
            arguments: &'a str,
        }
        #[derive(Serialize)]
        struct Custom<'a> {
            name: &'a str,
            input: &'a str,
        }
        s.collect_seq(self.0.iter().map(|c| Call {
            id: &c.id,
            r#type: if c.custom { "custom" } else { "function" },
            function: (!c.custom).then_some(Function { name: &c.name, arguments: &c.arguments }),
            custom: c.custom.then_some(Custom { name: &c.name, input: &c.arguments }),
            extra_content: c.extra_content.as_ref(),
        }))
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut m = s.serialize_map(None)?;
        match &self.kind {
            PartKind::Text(t) => {
                m.serialize_entry("type", "text")?;
                m.serialize_entry("text", t)?;
            }
            PartKind::Refusal(t) => {
                m.serialize_entry("type", "refusal")?;
                m.serialize_entry("refusal", t)?;
            }
            PartKind::Image { url, detail } => {
                m.serialize_entry("type", "image_url")?;
                let mut image = Map::new();
                image.insert("url".into(), Value::String(url.clone()));
                if let Some(d) = detail {
                    image.insert("detail".into(), Value::String(d.clone()));
                }
                m.serialize_entry("image_url", &image)?;
            }
            PartKind::Other(_, whole) => {
                for (k, v) in whole {
                    m.serialize_entry(k, v)?;
                }
            }
        }
        for (k, v) in &self.extra {
            m.serialize_entry(k, v)?;
        }
        m.end()
    }
}
