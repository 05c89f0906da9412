//! JSON Schema to the subset that the vendor reads.

use serde_json::{Map, Value, json};

/// Nesting beyond this is cut to "any object"; so is what a recursive schema unrolls to.
const MAX_DEPTH: usize = 16;

/// Schemas within the schema, references unrolled; the rest is cut. A few recursive references would
/// unroll to millions otherwise.
const MAX_NODES: usize = 2_000;

/// Items of one list taken over from the parts of an `allOf`.
const MAX_MERGED: usize = 256;

/// Members that pass as they are.
const KEPT: &[&str] = &[
    "type",
    "title",
    "description",
    "nullable",
    "maxItems",
    "minItems",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "default",
    "example",
    "propertyOrdering",
];

/// Values of `format` that are not refused.
const FORMATS: &[&str] = &["enum", "date-time", "float", "double", "int32", "int64"];

/// The schema in the vendor's subset.
pub(super) fn subset(schema: &Value) -> Value {
    Subset { root: schema, nodes: 0 }.convert(schema, 0)
}

struct Subset<'a> {
    root: &'a Value,
    nodes: usize,
}

impl Subset<'_> {
    fn convert(&mut self, schema: &Value, depth: usize) -> Value {
        let Some(object) = schema.as_object() else { return json!({}) };
        self.nodes = self.nodes.saturating_add(1);
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return json!({"type": "object"});
        }
        let deeper = depth.saturating_add(1);
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or_else(|| json!({"type": "object"}), |s| self.convert(s, deeper));
        }
        let mut out = Map::new();
        for (key, value) in object {
            self.member(key, value, deeper, &mut out);
        }
        Value::Object(out)
    }

    fn member(&mut self, key: &str, value: &Value, depth: usize, out: &mut Map<String, Value>) {
        let list = || value.as_array().into_iter().flatten();
        let kept = match key {
            "type" if value.is_array() => return types(value, out),
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                fields.map(|(k, v)| (k.clone(), self.convert(v, depth))).collect()
            }
            "items" => self.convert(value, depth),
            "anyOf" | "oneOf" => return any_of(list().map(|s| self.convert(s, depth)), out),
            "allOf" => return list().for_each(|s| merge(out, self.convert(s, depth))),
            "enum" => return texts(list(), out),
            "const" => return texts(std::iter::once(value), out),
            "format" if value.as_str().is_some_and(|f| FORMATS.contains(&f)) => value.clone(),
            k if KEPT.contains(&k) => value.clone(),
            _ => return,
        };
        out.insert(key.to_owned(), kept);
    }
}

/// `["string", "null"]` is a nullable string; several true types are alternatives.
fn types(list: &Value, out: &mut Map<String, Value>) {
    let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.contains(&"null") {
        out.insert("nullable".into(), true.into());
    }
    let others: Vec<&str> = names.into_iter().filter(|n| *n != "null").collect();
    match others.as_slice() {
        [] => {}
        [one] => {
            out.insert("type".into(), (*one).into());
        }
        several => {
            out.insert("anyOf".into(), several.iter().map(|t| json!({"type": t})).collect());
        }
    }
}

/// Alternatives; the one of type null makes the rest nullable.
fn any_of(alternatives: impl Iterator<Item = Value>, out: &mut Map<String, Value>) {
    let (null, rest): (Vec<Value>, Vec<Value>) =
        alternatives.partition(|a| a.get("type").is_some_and(|t| t == "null"));
    if !null.is_empty() {
        out.insert("nullable".into(), true.into());
    }
    match <[Value; 1]>::try_from(rest) {
        Ok([one]) => merge(out, one),
        Err(rest) if rest.is_empty() => {}
        Err(rest) => {
            out.insert("anyOf".into(), rest.into());
        }
    }
}

fn merge(out: &mut Map<String, Value>, part: Value) {
    let Value::Object(part) = part else { return };
    for (key, value) in part {
        match (out.get_mut(&key), value) {
            (Some(Value::Object(a)), Value::Object(b)) => a.extend(b),
            (Some(Value::Array(a)), Value::Array(b)) => {
                for item in b.into_iter().take(MAX_MERGED) {
                    if a.len() < MAX_MERGED && !a.contains(&item) {
                        a.push(item);
                    }
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                out.insert(key, value);
            }
        }
    }
}

/// Enumerations are of texts only; others are left to the validators.
fn texts<'a>(values: impl Iterator<Item = &'a Value>, out: &mut Map<String, Value>) {
    let (mut names, mut nullable, mut others) = (Vec::new(), false, false);
    for v in values {
        match v {
            Value::String(_) => names.push(v.clone()),
            Value::Null => nullable = true,
            _ => others = true,
        }
    }
    if nullable {
        out.insert("nullable".into(), true.into());
    }
    if !others && !names.is_empty() {
        out.insert("type".into(), "string".into());
        out.insert("enum".into(), names.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &Value, want: &Value) {
        assert_eq!(subset(schema), *want, "{schema}");
    }

    #[test]
    fn schemas_are_cut_to_the_subset() {
        check(
            &json!({"$schema": "x", "type": "object", "additionalProperties": false, "required": ["a"],
                   "properties": {"a": {"type": ["string", "null"], "format": "uuid"}, "b": {"const": "x"}}}),
            &json!({"type": "object", "required": ["a"],
                   "properties": {"a": {"nullable": true, "type": "string"}, "b": {"type": "string", "enum": ["x"]}}}),
        );
        check(
            &json!({"$defs": {"p": {"type": "integer", "exclusiveMinimum": 0}}, "type": "array", "items": {"$ref": "#/$defs/p"}}),
            &json!({"type": "array", "items": {"type": "integer"}}),
        );
        check(
            &json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
            &json!({"nullable": true, "type": "string"}),
        );
        check(
            &json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
            &json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        );
        check(
            &json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]}),
            &json!({"properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]}),
        );
        check(&json!({"type": "integer", "enum": [1, 2]}), &json!({"type": "integer"}));
        check(&json!({"enum": ["a", null]}), &json!({"nullable": true, "type": "string", "enum": ["a"]}));
        check(&json!(true), &json!({}));
        check(&json!({"$ref": "https://example.com/x"}), &json!({"type": "object"}));
    }

    #[test]
    fn a_recursive_schema_ends() {
        let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
        assert!(subset(&tree).to_string().len() < 4096);
        let bushy: Map<String, Value> = (0..50).map(|i| (i.to_string(), json!({"$ref": "#"}))).collect();
        let bushy = json!({"type": "object", "properties": bushy});
        assert!(subset(&bushy).to_string().len() < 400_000);
    }
}
