//! The parts of a JSON Schema: where a schema stands and where something else does.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Keywords whose parts all look at the same value. Of a part such as `false` nothing looks at the value at all.
const COMPOSED: &[&str] = &["anyOf", "allOf", "oneOf", "not", "if"];
/// Keywords that hold schemas by names.
const MAPS: &[&str] =
    &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
/// Keywords that hold what is no schema, whatever it looks like.
const DATA: &[&str] =
    &["const", "enum", "default", "examples", "required", "type", "dependentRequired", "$vocabulary"];
/// Keywords that refer.
const REFERENCES: &[&str] = &["$ref", "$dynamicRef", "$recursiveRef"];

/// What stands at a place of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Schema,
    /// Schemas by names.
    Map,
    Data,
}

impl Place {
    /// What stands under a member of an object here.
    fn under(self, name: &str) -> Place {
        match self {
            Place::Data => Place::Data,
            Place::Map => Place::Schema,
            Place::Schema if DATA.contains(&name) => Place::Data,
            Place::Schema if MAPS.contains(&name) => Place::Map,
            Place::Schema => Place::Schema,
        }
    }
}

/// The same schema with a look at the value wherever parts are composed, so that every way through it is counted: where
/// none says of which types the value may be, any of all types.
///
/// # Errors
/// A reference to what is no schema: its parts are not known.
pub(super) fn counted(schema: &Value) -> Result<Value, Arc<str>> {
    let mut bases = Vec::new();
    gather(schema, Place::Schema, true, &mut bases);
    let mut out = schema.clone();
    add_looks(&mut out, Place::Schema, &bases)?;
    Ok(out)
}

/// The patterns that a schema holds values or names against.
pub(super) fn patterns(schema: &Value) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    gather_patterns(schema, Place::Schema, &mut found);
    found
}

fn gather_patterns<'a>(at: &'a Value, place: Place, found: &mut BTreeSet<&'a str>) {
    match at {
        Value::Object(members) => {
            if place == Place::Schema {
                found.extend(members.get("pattern").and_then(Value::as_str));
                let named = members.get("patternProperties").and_then(Value::as_object);
                found.extend(named.into_iter().flat_map(|named| named.keys().map(String::as_str)));
            }
            members.iter().for_each(|(name, value)| gather_patterns(value, place.under(name), found));
        }
        Value::Array(list) => list.iter().for_each(|value| gather_patterns(value, place, found)),
        _ => {}
    }
}

/// The schemas that pointers may begin at: the whole, and those with a name of their own.
fn gather<'a>(at: &'a Value, place: Place, whole: bool, bases: &mut Vec<&'a Value>) {
    match at {
        Value::Object(members) => {
            let named = place == Place::Schema && (members.contains_key("$id") || members.contains_key("id"));
            if whole || named {
                bases.push(at);
            }
            members.iter().for_each(|(name, value)| gather(value, place.under(name), false, bases));
        }
        Value::Array(list) => list.iter().for_each(|value| gather(value, place, false, bases)),
        _ => {}
    }
}

fn add_looks(at: &mut Value, place: Place, bases: &[&Value]) -> Result<(), Arc<str>> {
    match at {
        Value::Object(members) => {
            if place == Place::Schema {
                refers_to_schemas(members, bases)?;
                if COMPOSED.iter().any(|keyword| members.contains_key(*keyword))
                    && !members.contains_key("type")
                {
                    let all = ["array", "boolean", "integer", "null", "number", "object", "string"];
                    members.insert("type".to_owned(), json!(all));
                }
            }
            members.iter_mut().try_for_each(|(name, value)| add_looks(value, place.under(name), bases))
        }
        Value::Array(list) => list.iter_mut().try_for_each(|value| add_looks(value, place, bases)),
        _ => Ok(()),
    }
}

fn refers_to_schemas(members: &Map<String, Value>, bases: &[&Value]) -> Result<(), Arc<str>> {
    let references = REFERENCES.iter().filter_map(|keyword| members.get(*keyword)?.as_str());
    for reference in references {
        let Some((_, pointer)) = reference.split_once('#') else { continue };
        let pointer = unescaped(pointer);
        if bases.iter().any(|base| leads_elsewhere(base, &pointer)) {
            return Err(format!("`{}` leads to what is no schema", crate::finding::cut(reference, 80)).into());
        }
    }
    Ok(())
}

/// Whether a pointer leads from a base to something that is no schema.
fn leads_elsewhere(base: &Value, pointer: &str) -> bool {
    let (mut at, mut place) = (base, Place::Schema);
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Object(members) => {
                place = place.under(&name);
                members.get(&name)
            }
            Value::Array(list) => name.parse().ok().and_then(|i: usize| list.get(i)),
            _ => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    place != Place::Schema
}

/// The text with its escapes of addresses (`%24`) resolved.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let code = (byte == b'%').then(|| {
            let mut ahead = bytes.clone();
            let (high, low) =
                (char::from(ahead.next()?).to_digit(16)?, char::from(ahead.next()?).to_digit(16)?);
            u8::try_from(high.checked_mul(16)?.checked_add(low)?).ok()
        });
        match code.flatten() {
            Some(code) => {
                out.push(code);
                bytes.nth(1);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
