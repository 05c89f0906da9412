//! Answers that no model gave, each of which says so: for runs that call nothing.

use super::case::Reply;
use serde_json::{Map, Value, json};
use types::ChatRequest;
use types::chat::ResponseFormat;
use workflows::Ask;

/// Deepest schema that is followed.
const MAX_DEPTH: usize = 16;

/// The answer to a question, in the form that it asks for.
pub(super) fn reply(ask: &Ask, request: &ChatRequest) -> Reply {
    let label = format!("[stub] {} of node {}", ask.purpose, ask.node());
    let format = ask.edits.response_format.as_ref().unwrap_or(&request.response_format);
    Reply::Text(match format {
        ResponseFormat::Text => label,
        ResponseFormat::JsonObject => json!({ "stub": label }).to_string(),
        ResponseFormat::JsonSchema { schema, .. } => instance(schema, &label, 0).to_string(),
    })
}

/// The result of a tool.
pub(super) fn result(tool: &str) -> Value {
    json!({ "stub": format!("[stub] result of {tool}") })
}

/// A value that fits a schema of the usual kind: what is required, and no more.
fn instance(schema: &Value, label: &str, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    let first = |key: &str| schema.get(key).and_then(Value::as_array).and_then(|l| l.first());
    if let Some(value) = schema.get("const").or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(one) = ["anyOf", "oneOf", "allOf"].into_iter().find_map(first) {
        return instance(one, label, depth.saturating_add(1));
    }
    let count = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let kind = schema.get("type").and_then(|t| t.as_str().or_else(|| t.as_array()?.first()?.as_str()));
    match kind {
        Some("string") => {
            let least = count("minLength").unwrap_or(0).min(1_000);
            let text = format!("{label:.<least$}");
            Value::String(text.chars().take(count("maxLength").unwrap_or(usize::MAX)).collect())
        }
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(0)),
        Some("boolean") => json!(false),
        Some("null") => Value::Null,
        Some("array") => {
            let item =
                schema.get("items").map_or(Value::Null, |s| instance(s, label, depth.saturating_add(1)));
            Value::Array(vec![item; count("minItems").unwrap_or(0).min(100)])
        }
        _ => object(schema, label, depth),
    }
}

fn object(schema: &Value, label: &str, depth: usize) -> Value {
    let of = |name: &str| schema.get("properties")?.get(name);
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let member = |name: &str| {
        let value = of(name).map_or_else(|| json!(label), |s| instance(s, label, depth.saturating_add(1)));
        (name.to_owned(), value)
    };
    Value::Object(required.filter_map(Value::as_str).map(member).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_fit_their_schemas() {
        let check = |schema: Value, want: Value| assert_eq!(instance(&schema, "x", 0), want, "{schema}");
        check(
            json!({"type": "object", "required": ["a", "b"], "additionalProperties": false, "properties": {
                "a": {"type": "string", "minLength": 3}, "b": {"type": "array", "minItems": 2, "items": {"enum": ["p", "q"]}},
                "c": {"type": "integer"}}}),
            json!({"a": "x..", "b": ["p", "p"]}),
        );
        check(json!({"type": ["number", "null"], "minimum": 3}), json!(3));
        check(json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}), json!(false));
        check(json!({"type": "string", "maxLength": 0}), json!(""));
        check(json!({"const": {"a": 1}}), json!({"a": 1}));
        check(json!({"required": ["free"]}), json!({"free": "x"}));
    }
}
