//! The messages of a body, member by member, with a pointer for whatever is wrong.

use super::{
    Error, Limits, Top, disguise, identifier_text, is_given, objects, old_form, one_pass, optional, parse,
    place, shorten,
};
use crate::chat::{Content, Message, Part, PartKind, Role, ToolCall, UniqueValue};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;

pub(super) fn read(json: &str, limits: &Limits) -> Result<Vec<Message>, Error> {
    if let Some(list) = one_pass::read(json, limits) {
        return Ok(list);
    }
    let raw: Vec<&RawValue> = parse(json, || "/messages".to_owned(), "a list of messages")?;
    if raw.len() > limits.messages {
        return Err(Error::new("out_of_range", "/messages", format!("at most {} messages", limits.messages)));
    }
    raw.iter().enumerate().map(|(i, m)| message(m.get(), i, limits)).collect()
}

pub(super) fn message(json: &str, i: usize, limits: &Limits) -> Result<Message, Error> {
    let at = |field: &str| format!("/messages/{i}{field}");
    let Top(top) = parse(json, || at(""), "an object")?;
    let mut m = Message::silent(Role::User);
    let mut role = None;
    for (key, raw) in &top {
        let json = raw.get();
        match key.as_ref() {
            "role" => {
                let name: Cow<'_, str> = parse(json, || at("/role"), "the name of a role")?;
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
            "name" => m.name = identifier_text(optional(json, || at("/name"), "a string")?, &at("/name"))?,
            "tool_calls" => m.tool_calls = tool_calls(json, &at("/tool_calls"), limits)?,
            "tool_call_id" => {
                m.tool_call_id = identifier_text(
                    optional(json, || at("/tool_call_id"), "a string")?,
                    &at("/tool_call_id"),
                )?
            }
            "function_call" if is_given(json) => return Err(old_form(at("/function_call"))),
            "refusal" => m.refusal = optional(json, || at("/refusal"), "a string")?,
            _ => {
                disguise::refuse(key, disguise::MESSAGE, || at(&format!("/{}", shorten(key))))?;
                m.extra.insert(
                    key.clone().into_owned(),
                    parse::<UniqueValue>(json, || at(&format!("/{}", shorten(key))), "a JSON value")?.0,
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
        Some(b'"') => Ok(Content::Text(parse(json, || pointer.to_owned(), "a string")?)),
        Some(b'[') => {
            let raw = objects(json, || pointer.to_owned())?.unwrap_or_default();
            if raw.len() > limits.parts {
                return Err(Error::new("out_of_range", pointer, format!("at most {} parts", limits.parts)));
            }
            let parts = raw.into_iter().enumerate().map(|(i, p)| part(p.0, &format!("{pointer}/{i}")));
            Ok(Content::Parts(parts.collect::<Result<_, _>>()?))
        }
        _ => {
            let text = format!("expected a string, a list of parts or null, found {}", place::kind(json));
            Err(Error::new("invalid_type", pointer, text))
        }
    }
}

pub(super) fn part(mut p: Map<String, Value>, pointer: &str) -> Result<Part, Error> {
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

pub(super) fn tool_calls(json: &str, pointer: &str, limits: &Limits) -> Result<Vec<ToolCall>, Error> {
    let Some(raw) = objects(json, || pointer.to_owned())? else { return Ok(Vec::new()) };
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
            let custom = c.0.get("type").is_some_and(|t| t == "custom");
            let (kind, [name, arguments]) = if custom {
                ("custom", ["custom/name", "custom/input"])
            } else {
                ("function", ["function/name", "function/arguments"])
            };
            let called = c.0.get(kind);
            let part = |place: &str| called?.get(place.split_once('/')?.1);
            Ok(ToolCall {
                id: text(c.0.get("id"), "id")?,
                name: text(part(name), name)?,
                arguments: text(part(arguments), arguments)?,
                custom,
                extra_content: c.0.get("extra_content").filter(|v| v.is_object()).cloned(),
            })
        })
        .collect()
}
