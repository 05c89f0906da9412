//! What a body offers and asks for beside its messages: tools, the choice among them, the form of the answer.

use super::{Error, Limits, disguise, optional, parse, shorten};
use crate::chat::{ResponseFormat, Tool, ToolChoice, UniqueMap, UniqueValue};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;

pub(super) fn tools(json: &str, limits: &Limits) -> Result<Vec<Tool>, Error> {
    let Some(raw) = optional::<Vec<&RawValue>>(json, || "/tools".to_owned(), "a list of tools")? else {
        return Ok(Vec::new());
    };
    if raw.len() > limits.tools {
        return Err(Error::new("out_of_range", "/tools", format!("at most {} tools", limits.tools)));
    }
    raw.iter()
        .enumerate()
        .map(|(i, raw)| {
            let pointer = format!("/tools/{i}");
            let mut whole: UniqueMap = parse(raw.get(), || pointer.clone(), "an object")?;
            let plain = |at: &str, map: &Map<String, Value>| {
                let place = |key: &str| format!("{at}/{}", shorten(key));
                map.keys().try_for_each(|key| disguise::refuse(key, disguise::TOOL, || place(key)))
            };
            plain(&pointer, &whole.0)?;
            let raw = (*raw).to_owned();
            let kind = whole.0.get("type").and_then(Value::as_str);
            if kind != Some("function") {
                let custom = whole.0.get("custom").filter(|_| kind == Some("custom"));
                let custom = custom.and_then(|c| c.get("name")).and_then(Value::as_str);
                let other = custom.or(kind).unwrap_or_default().to_owned();
                return Ok(Tool {
                    name: String::new(),
                    other,
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
            plain(&format!("{pointer}/function"), &f)?;
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
                other: String::new(),
                description: f.get("description").and_then(Value::as_str).map(str::to_owned),
                strict: f.get("strict").and_then(Value::as_bool),
                parameters: f.shift_remove("parameters").filter(|p| !p.is_null()).map(Arc::new),
                raw,
            })
        })
        .collect()
}

pub(super) fn tool_choice(json: &str) -> Result<ToolChoice, Error> {
    let wrong = || {
        Error::new(
            "invalid_value",
            "/tool_choice",
            "expected \"none\", \"auto\", \"required\" or {\"type\": \"function\", \"function\": {\"name\": …}}",
        )
    };
    Ok(match parse::<UniqueValue>(json, || "/tool_choice".to_owned(), "a string or an object")?.0 {
        Value::Null => ToolChoice::Unset,
        Value::String(s) => match s.as_str() {
            "none" => ToolChoice::None,
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => return Err(wrong()),
        },
        Value::Object(o) => match name_of(&o) {
            Some(name) => ToolChoice::Function(name.to_owned()),
            None if o.get("type").is_some_and(|t| t == "allowed_tools") => allowed(&o)?,
            // Forms that are yet to be invented pass through; the router needs to know only that tools may be used.
            None if o.get("type").is_some_and(Value::is_string) => ToolChoice::Auto,
            None => return Err(wrong()),
        },
        _ => return Err(wrong()),
    })
}

/// The function, or the custom tool, that an object names.
fn name_of(object: &Map<String, Value>) -> Option<&str> {
    ["function", "custom"].iter().find_map(|kind| object.get(*kind)?.get("name")?.as_str())
}

fn allowed(choice: &Map<String, Value>) -> Result<ToolChoice, Error> {
    let at = |field: &str| format!("/tool_choice/allowed_tools/{field}");
    let Some(allowed) = choice.get("allowed_tools").and_then(Value::as_object) else {
        let text = "expected {\"mode\": \"auto\" or \"required\", \"tools\": […]}";
        return Err(Error::new("invalid_type", "/tool_choice/allowed_tools", text));
    };
    let required = match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") => false,
        Some("required") => true,
        _ => return Err(Error::new("invalid_value", at("mode"), "expected \"auto\" or \"required\"")),
    };
    let tools = allowed.get("tools").and_then(Value::as_array).filter(|list| !list.is_empty());
    let tools = tools
        .ok_or_else(|| Error::new("invalid_type", at("tools"), "expected a list of at least one tool"))?;
    let names = tools.iter().enumerate().map(|(i, tool)| {
        let name = tool.as_object().and_then(name_of).map(str::to_owned);
        let text = "expected {\"type\": \"function\", \"function\": {\"name\": …}}";
        name.ok_or_else(|| Error::new("invalid_value", at(&format!("tools/{i}")), text))
    });
    Ok(ToolChoice::Allowed { names: names.collect::<Result<_, _>>()?, required })
}

/// Whether the tools that are offered can do what is demanded of them.
///
/// # Errors
/// A tool must be called, or one by its name, and there is none such.
pub(super) fn demanded(choice: &ToolChoice, tools: &[Tool]) -> Result<(), Error> {
    let named: &[String] = match choice {
        ToolChoice::Unset | ToolChoice::None | ToolChoice::Auto => return Ok(()),
        ToolChoice::Required => &[],
        ToolChoice::Function(name) => std::slice::from_ref(name),
        ToolChoice::Allowed { names, .. } => names,
    };
    if tools.is_empty() {
        let text = "a tool is demanded and none is offered; give `tools`, or leave `tool_choice` out";
        return Err(Error::new("invalid_value", "/tool_choice", text));
    }
    let Some(offered) = tools.iter().map(Tool::called).collect::<Option<Vec<_>>>() else {
        // Of some types nobody here knows what they are called.
        return Ok(());
    };
    let missing = named.iter().find(|name| !offered.iter().any(|o| o == *name));
    missing.map_or(Ok(()), |name| {
        let near = crate::diagnostic::nearest(name, offered.iter().map(AsRef::as_ref));
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        let shown = if crate::options::is_identifier(name) { format!("`{name}`") } else { "it".to_owned() };
        let text = format!("expected a tool of `tools`, and {shown} is none of them{hint}");
        Err(Error::new("invalid_value", "/tool_choice", text))
    })
}

pub(super) fn response_format(json: &str) -> Result<ResponseFormat, Error> {
    let pointer = "/response_format";
    let Some(UniqueMap(o)) = optional::<UniqueMap>(json, || pointer.to_owned(), "an object")? else {
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
