//! The messages of a body in one pass.
//!
//! Takes exactly what the pass of [`super::messages`](super::messages::read) takes, member by member, and gives the same; that one
//! reads a wrong list again to say what is wrong, and where.

use super::messages::{part, tool_calls};
use super::{Key, Limits, disguise, identifier_text, optional};
use crate::chat::{Content, Message, Role, UniqueMap, UniqueValue};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;

/// The list, or `None` if something about it is wrong.
pub(super) fn read(json: &str, limits: &Limits) -> Option<Vec<Message>> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let list = List(limits).deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| list)
}

#[derive(Clone, Copy)]
struct List<'l>(&'l Limits);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<Message>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Message>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::with_capacity(4);
        while let Some(message) = a.next_element_seed(One(self.0))? {
            if list.len() >= self.0.messages {
                return Err(wrong());
            }
            list.push(message);
        }
        Ok(list)
    }
}

/// What exactly is wrong, the other pass says.
fn wrong<E: Error>() -> E {
    E::custom("not a list of messages")
}

struct One<'l>(&'l Limits);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Message;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Message, A::Error> {
        let mut m = Message::silent(Role::User);
        // One bit per member that may stand once.
        let mut seen = 0_u8;
        let mut once = |bit: u8| {
            let first = seen & bit == 0;
            seen |= bit;
            if first { Ok(()) } else { Err(wrong::<A::Error>()) }
        };
        let mut role = None;
        while let Some(Key(key)) = a.next_key()? {
            match key.as_ref() {
                "role" => {
                    once(1)?;
                    let Key(name) = a.next_value()?;
                    role = Some(Role::parse(&name).ok_or_else(wrong)?);
                }
                "content" => {
                    once(2)?;
                    m.content = a.next_value_seed(ContentOf(self.0))?;
                }
                "name" => {
                    once(4)?;
                    m.name = identifier_text(a.next_value()?, "").map_err(|_| wrong())?;
                }
                "tool_calls" => {
                    once(8)?;
                    let raw: &RawValue = a.next_value()?;
                    m.tool_calls = tool_calls(raw.get(), "", self.0).map_err(|_| wrong())?;
                }
                "tool_call_id" => {
                    once(16)?;
                    m.tool_call_id = identifier_text(a.next_value()?, "").map_err(|_| wrong())?;
                }
                "refusal" => {
                    once(32)?;
                    let raw: &RawValue = a.next_value()?;
                    m.refusal = optional(raw.get(), String::new, "a string").map_err(|_| wrong())?;
                }
                _ => {
                    disguise::refuse(&key, disguise::MESSAGE, String::new).map_err(|_| wrong())?;
                    if m.extra.len() >= 500 || m.extra.contains_key(key.as_ref()) {
                        return Err(wrong());
                    }
                    let UniqueValue(value) = a.next_value()?;
                    if key == "function_call" && !value.is_null() && value != Value::Array(Vec::new()) {
                        return Err(wrong());
                    }
                    m.extra.insert(key.into_owned(), value);
                }
            }
        }
        m.role = role.ok_or_else(wrong)?;
        Ok(m)
    }
}

struct ContentOf<'l>(&'l Limits);

impl<'de> DeserializeSeed<'de> for ContentOf<'_> {
    type Value = Content;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentOf<'_> {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a list of parts or null")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Content, A::Error> {
        let mut parts = Vec::new();
        while let Some(UniqueMap(object)) = a.next_element()? {
            if parts.len() >= self.0.parts {
                return Err(wrong());
            }
            parts.push(part(object, "").map_err(|_| wrong())?);
        }
        Ok(Content::Parts(parts))
    }
}
