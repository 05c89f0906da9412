//! Local, deterministic repair: no model is asked. The caller checks the result again.

use crate::exact;
use crate::json::unfenced;
use crate::lenient;
use crate::schema::compiled;
use serde_json::{Map, Value};

mod mask;

pub use mask::{Masked, mask, unmask};

/// Longest text that is repaired, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Deepest walk along schema and value.
const MAX_STEPS: usize = 64;

/// The text as JSON that a client can parse, coerced towards the schema where one is given: code fences and
/// chatter stripped, broken syntax mended, numbers out of strings, single values wrapped into lists,
/// forbidden properties dropped.
///
/// `None` if nothing can be made of it, nothing is to be changed, or it leaves open what was meant (a number that
/// would come out as another one, an end within a text or a number, one of several values): whoever wrote it has
/// to write it anew.
#[must_use]
pub fn json(text: &str, schema: Option<&Value>) -> Option<String> {
    made(text, schema, false)
}

/// The JSON value that a text is, as it stands or within the one code fence that surrounds it; `None`: it is none, or more
/// than that.
#[must_use]
pub fn value(text: &str) -> Option<Value> {
    [text, unfenced(text)].into_iter().find_map(|t| serde_json::from_str(t).ok())
}

/// The same of a text that still grows, to see whether it can come to anything.
#[must_use]
pub fn json_so_far(text: &str, schema: Option<&Value>) -> Option<String> {
    made(text, schema, true)
}

fn made(text: &str, schema: Option<&Value>, grows: bool) -> Option<String> {
    let (value, written) = match strict(text) {
        Some((value, written)) => (value, Some(written)),
        None => (mended(text, grows)?, None),
    };
    let inexact = written.is_some_and(|w| !exact::all_kept(w));
    let value = match schema {
        // Its numbers are not what they were written as, and cannot be written anew.
        Some(s) if !fits(&value, s) && inexact => return None,
        Some(s) if !fits(&value, s) => coerce(value, s, s, 0),
        _ => value,
    };
    let fixed = match written.filter(|_| inexact) {
        Some(written) => written.trim().to_owned(),
        None => value.to_string(),
    };
    // The same value written differently is no repair, unless the text itself was no JSON.
    let same = serde_json::from_str::<Value>(text).is_ok_and(|v| v == value);
    (!same).then_some(fixed)
}

fn fits(value: &Value, schema: &Value) -> bool {
    compiled(schema).is_ok_and(|s| s.fits(value))
}

/// The value, and the part of the text that is it.
fn strict(text: &str) -> Option<(Value, &str)> {
    let read = |t| Some((serde_json::from_str(t).ok()?, t));
    [text, unfenced(text)].into_iter().find_map(read).or_else(|| read(largest(text)?))
}

/// From the first bracket to the last: drops chatter and fences on both sides.
fn largest(text: &str) -> Option<&str> {
    let (before, from) = text.split_at(text.find(BRACKETS)?);
    let (value, after) = from.split_at(from.rfind(['}', ']'])?.saturating_add(1));
    // Of what stands within a sentence only quotes say that it is meant as a value: `[3]` may be a footnote.
    let is_meant = value.contains('"') && !is_link(value, after);
    (is_meant || stands_alone(before, after)).then_some(value)
}

/// What lists and objects open with.
const BRACKETS: [char; 2] = ['{', '['];

/// Mended by the lenient parser. Only lists and objects: any prose can be "repaired" into a string. Brackets are no
/// value by themselves: refusals have links, placeholders and footnotes in them.
fn mended(text: &str, grows: bool) -> Option<Value> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut at = text.find(BRACKETS)?;
    loop {
        let (before, from) = text.split_at_checked(at)?;
        let found = lenient::find(from, grows)?;
        let is_alone = stands_alone(before, found.rest);
        let is_meant = found.is_quoted && !found.has_words && !is_link(from, found.rest);
        if !found.is_prose && (is_alone || is_meant) {
            let is_it = !lenient::is_empty(&found.value)
                && (grows || !lenient::is_one_of_several(&found.value, found.rest));
            return is_it.then_some(found.value);
        }
        let behind = text.len().saturating_sub(found.rest.len());
        at = behind.saturating_add(found.rest.find(BRACKETS)?);
    }
}

/// Whether a value has its lines to itself: nothing but white space, a fence and punctuation stands beside it.
fn stands_alone(before: &str, after: &str) -> bool {
    let beside = before.rsplit('\n').next().unwrap_or_default().trim();
    let opens = beside.is_empty() || beside.strip_prefix("```").is_some_and(|info| !info.contains(' '));
    let closes = |c: char| c.is_whitespace() || matches!(c, '`' | ';' | '.' | ',');
    opens && after.split('\n').next().unwrap_or_default().chars().all(closes)
}

/// Whether it is what a link of Markdown says.
fn is_link(value: &str, after: &str) -> bool {
    value.starts_with('[') && after.starts_with('(')
}

/// The schema behind `$ref`s within the same document; after too many steps, the last one seen.
fn resolve<'s>(mut schema: &'s Value, root: &'s Value) -> &'s Value {
    for _ in 0..MAX_STEPS {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|r| r.strip_prefix('#'))
            .and_then(|p| root.pointer(p));
        match target {
            Some(t) => schema = t,
            None => return schema,
        }
    }
    schema
}

fn coerce(value: Value, schema: &Value, root: &Value, step: usize) -> Value {
    if step > MAX_STEPS {
        return value;
    }
    let schema = resolve(schema, root);
    if let Some(only) = only_branch(schema) {
        return if value.is_null() { value } else { coerce(value, only, root, step.saturating_add(1)) };
    }
    let value = match schema.get("allOf").and_then(Value::as_array) {
        Some(all) => all.iter().fold(value, |v, s| coerce(v, s, root, step.saturating_add(1))),
        None => value,
    };
    let value = to_type(value, schema);
    let value = to_enum(value, schema);
    match value {
        Value::Object(m) => Value::Object(object(m, schema, root, step.saturating_add(1))),
        Value::Array(l) => match schema.get("items") {
            Some(items) => {
                Value::Array(l.into_iter().map(|v| coerce(v, items, root, step.saturating_add(1))).collect())
            }
            None => Value::Array(l),
        },
        other => other,
    }
}

/// The one branch of `anyOf`/`oneOf` beside null: how optional fields are written.
fn only_branch(schema: &Value) -> Option<&Value> {
    let list = schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array()?;
    let mut rest = list.iter().filter(|s| s.get("type").and_then(Value::as_str) != Some("null"));
    let only = rest.next()?;
    rest.next().is_none().then_some(only)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(s)) => vec![s],
        Some(Value::Array(l)) => l.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn to_type(value: Value, schema: &Value) -> Value {
    let wanted = types(schema);
    if wanted.is_empty() || wanted.iter().any(|t| is_type(&value, t)) {
        return value;
    }
    for t in &wanted {
        let made = match (*t, &value) {
            ("integer" | "number", Value::String(s)) => number(s, *t == "integer"),
            ("boolean", Value::String(s)) => match s.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" => Some(Value::Bool(true)),
                "false" | "no" => Some(Value::Bool(false)),
                _ => None,
            },
            ("string", Value::Number(_) | Value::Bool(_)) => Some(Value::String(value.to_string())),
            ("object" | "array", Value::String(s)) => {
                serde_json::from_str::<Value>(s).ok().filter(|v| is_type(v, t))
            }
            ("null", Value::String(s)) if matches!(s.trim(), "" | "null" | "None") => Some(Value::Null),
            _ => None,
        };
        if let Some(made) = made {
            return made;
        }
    }
    if wanted.contains(&"array") && !value.is_null() {
        return Value::Array(vec![value]);
    }
    value
}

fn number(text: &str, whole: bool) -> Option<Value> {
    let number = exact::number(&ungrouped(text.trim())?)?;
    let is_whole = number.as_f64().is_none_or(|f| f.fract() == 0.0);
    (!whole || is_whole).then_some(Value::Number(number))
}

/// A number without the commas between its thousands; `None` where a comma may be something else: `1,5`.
fn ungrouped(text: &str) -> Option<String> {
    let (whole, rest) = text.split_at(text.find(['.', 'e', 'E']).unwrap_or(text.len()));
    let mut groups = whole.split(',');
    let first = groups.next()?.trim_start_matches(['-', '+']);
    let is_grouped = whole.contains(',');
    let fits =
        !is_grouped || (1..=3).contains(&first.len()) && groups.all(|g| g.len() == 3) && !rest.contains(',');
    fits.then(|| text.replace(',', ""))
}

/// The one allowed value that differs only in case.
fn to_enum(value: Value, schema: &Value) -> Value {
    let (Value::String(s), Some(options)) = (&value, schema.get("enum").and_then(Value::as_array)) else {
        return value;
    };
    if options.contains(&value) {
        return value;
    }
    let mut near = options.iter().filter(|o| o.as_str().is_some_and(|o| o.eq_ignore_ascii_case(s.trim())));
    match (near.next(), near.next()) {
        (Some(one), None) => one.clone(),
        _ => value,
    }
}

fn object(map: Map<String, Value>, schema: &Value, root: &Value, step: usize) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && schema.get("patternProperties").is_none();
    map.into_iter()
        .filter_map(|(k, v)| match properties.and_then(|p| p.get(&k)) {
            Some(s) => {
                let v = coerce(v, s, root, step);
                // An optional property is left out rather than given as a null it does not allow.
                let drop = v.is_null() && !required.contains(&k.as_str()) && !allows_null(s, root);
                (!drop).then_some((k, v))
            }
            None if closed => None,
            None => Some((k, v)),
        })
        .collect()
}

fn allows_null(schema: &Value, root: &Value) -> bool {
    let schema = resolve(schema, root);
    let named = types(schema);
    named.contains(&"null")
        || named.is_empty() && schema.get("enum").is_none() && schema.get("const").is_none()
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, schema: Option<Value>, want: Option<Value>) {
        let got = json(text, schema.as_ref()).map(|t| serde_json::from_str::<Value>(&t).unwrap());
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn syntax_is_mended() {
        check("{\"a\": 1}", None, None);
        check("```json\n{\"a\": 1}\n```", None, Some(json!({"a": 1})));
        check("Here you go: {\"a\": 1}. Enjoy!", None, Some(json!({"a": 1})));
        check("{'a': True, 'b': None,}", None, Some(json!({"a": true, "b": null})));
        check("{\"name\": \"Ada\", \"age\": 36 ", None, Some(json!({"name": "Ada", "age": 36})));
        check("{\"name\": \"Ada\", \"age\": 36", None, None);
        check("{\"a\": 1}\n{\"a\": 2}", None, None);
        check("I cannot do that.", None, None);
        check("", None, None);
        check(&"[".repeat(200_000), None, None);
    }

    /// A refusal is no data, whatever brackets are in it.
    #[test]
    fn brackets_in_prose_are_no_value() {
        let list = || Some(json!({"type": "array", "items": {"type": "string"}}));
        let numbers = || Some(json!({"type": "array", "items": {"type": "integer"}}));
        for prose in [
            "I cannot help with that. See [our policy](https://x.example/p).",
            "I cannot. See [\"our policy\"](https://x.example/p).",
            "I found none (see the manual [section 3, page 7: billing]). Please ask support.",
            "[Note: I have no access to your invoices] Please paste them here.",
            "[I have no access to your invoices]",
            "[redacted] and nothing else",
            "There are no ids in the text, as it says in [3].",
            "[3] The manual says so.",
            "Use `arr[0]` in your code",
            "Dear [Name], I cannot do it.",
            "I cannot do that {sorry: I have no access}. Please paste the data.",
            "Use the placeholder {name: NAME} in the template; I cannot see a name.",
            "I'm unable to share {customer} records.",
            "Sorry. Call f(x) { return 1 } instead.",
            "I cannot: {error}",
            "{error}",
        ] {
            for schema in [None, list(), numbers()] {
                check(prose, schema, None);
            }
        }
        check("The names are [\"Ada\", \"Bob\"].", list(), Some(json!(["Ada", "Bob"])));
        check("As in [1]: {\"a\": 1}", None, Some(json!({"a": 1})));
        check("See [the docs](x).\n\n{a: b,\n c: 1}\n\nBye.", None, Some(json!({"a": "b", "c": 1})));
        check("Here:\n```json\n[1, 2,]\n```\nBye.", numbers(), Some(json!([1, 2])));
        check("Here they are:\n[3, 17]\nBye.", numbers(), Some(json!([3, 17])));
        check("Here it is: {name: \"Ada\", age: 36,} Bye.", None, Some(json!({"name": "Ada", "age": 36})));
    }

    #[test]
    fn values_move_towards_the_schema_and_no_further() {
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["n"],
            "properties": {"n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}},
                "ok": {"type": "boolean"}, "note": {"type": "string"}, "kind": {"enum": ["A", "B"]},
                "p": {"anyOf": [{"$ref": "#/$defs/p"}, {"type": "null"}]}},
            "$defs": {"p": {"type": "number"}}});
        let s = || Some(schema.clone());
        check("{\"n\": \"36\"}", s(), Some(json!({"n": 36})));
        check("{\"n\": \"1,200\"}", s(), Some(json!({"n": 1200})));
        check("{\"n\": \"1,5\"}", s(), None);
        check("{\"n\": 1,234}", s(), None);
        check("{\"n\": 1, \"tags\": \"x\"}", s(), Some(json!({"n": 1, "tags": ["x"]})));
        check("{\"n\": 1, \"tags\": [1]}", s(), Some(json!({"n": 1, "tags": ["1"]})));
        check("{\"n\": 1, \"ok\": \"True\", \"x\": 2}", s(), Some(json!({"n": 1, "ok": true})));
        check("{\"n\": 1, \"note\": null}", s(), Some(json!({"n": 1})));
        check("{\"n\": 1, \"kind\": \"a\"}", s(), Some(json!({"n": 1, "kind": "A"})));
        check("{\"n\": 1, \"p\": \"2.5\"}", s(), Some(json!({"n": 1, "p": 2.5})));
        check("{\"n\": 1, \"p\": null}", s(), None);
        // Nothing is invented: a missing or meaningless value stays as it is.
        check("{\"n\": \"many\"}", s(), None);
        check("{}", s(), None);
    }

    #[test]
    fn no_number_comes_out_as_another_one() {
        let fixed = |text: &str, schema: Option<&Value>| json(text, schema);
        let s = json!({"type": "object", "properties": {"id": {"type": "integer"}, "x": {"type": "number"}}});
        assert_eq!(
            fixed("{\"id\":18446744073709551615,}", None).as_deref(),
            Some("{\"id\":18446744073709551615}")
        );
        assert_eq!(
            fixed("{\"id\":\"18446744073709551615\"}", Some(&s)).as_deref(),
            Some("{\"id\":18446744073709551615}")
        );
        // What need not be written anew stays as it is written.
        assert_eq!(
            fixed("```json\n{\"x\": 0.12345678901234567}\n```", None).as_deref(),
            Some("{\"x\": 0.12345678901234567}")
        );
        for lost in ["{\"id\":18446744073709551616,}", "{\"x\":0.12345678901234567,}", "{\"x\":1e400,}"] {
            assert_eq!(fixed(lost, None), None, "{lost}");
        }
        for lost in [
            "{\"id\":\"18446744073709551616\"}",
            "{\"x\":\"0.12345678901234567\"}",
            "{\"id\": \"7\", \"x\": 0.12345678901234567}",
        ] {
            assert_eq!(fixed(lost, Some(&s)), None, "{lost}");
        }
    }

    #[test]
    fn circular_references_end() {
        let s = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}});
        check("{\"a\": 1}", Some(s), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_it_ends_and_gives_json(text in "[\\[\\]{}\":,'a-z0-9`\\\\ \n/]{0,200}") {
            if let Some(fixed) = json(&text, None) {
                prop_assert!(serde_json::from_str::<Value>(&fixed).is_ok());
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let schema = json!({"type": "object", "properties": {"a": {"type": "array"}}});
            let _ = json(&text, Some(&schema));
        }
    }
}
