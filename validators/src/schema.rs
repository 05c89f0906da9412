//! Compiled JSON Schemas: each is compiled once and kept in a bounded cache; hostile ones are refused.

use crate::finding::{Note, cut};
use crate::prefix::Nodes;
pub(crate) use jsonschema::Draft;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use types::run::Severity;

/// Deepest nesting of a schema (`reliability.md` §5).
pub(crate) const MAX_DEPTH: usize = 32;
/// Most objects and booleans in a schema that may be subschemas.
pub(crate) const MAX_SUBSCHEMAS: usize = 1000;
/// Schemas kept compiled; the one unused for longest makes room.
const MAX_CACHED: usize = 256;
/// Steps a pattern with look-around may take back before it counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;
/// Bytes a compiled pattern may take.
const PATTERN_BYTES: usize = 1024 * 1024;

/// A schema ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    /// What can be decided on a value that is still being written.
    pub(crate) nodes: Arc<Nodes>,
}

/// A compiled schema, or why there is none.
pub(crate) type Compiled = Result<Arc<Schema>, Arc<str>>;

struct Cache {
    entries: HashMap<[u8; 32], (u64, Compiled)>,
    clock: u64,
}

static CACHE: LazyLock<Mutex<Cache>> =
    LazyLock::new(|| Mutex::new(Cache { entries: HashMap::new(), clock: 0 }));

/// The compiled form of a schema of the draft that it names, from the cache where it was seen before.
pub(crate) fn compiled(schema: &Value) -> Compiled {
    compiled_as(schema, None)
}

/// The same for a draft that holds whatever the schema says of itself.
pub(crate) fn compiled_as(schema: &Value, draft: Option<Draft>) -> Compiled {
    // Written first and hashed in one piece: the hash of many small pieces costs several times as much.
    let mut text = format!("{draft:?}").into_bytes();
    if serde_json::to_writer(&mut text, schema).is_err() {
        return Err("the schema cannot be written as JSON".into());
    }
    let key = *blake3::hash(&text).as_bytes();
    if let Some(found) = lookup(&key) {
        return found;
    }
    // Compiled outside the lock: a large schema must not hold up the others.
    let made = compile(schema, draft);
    store(key, made.clone());
    made
}

fn lookup(key: &[u8; 32]) -> Option<Compiled> {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    cache.clock = cache.clock.saturating_add(1);
    let now = cache.clock;
    cache.entries.get_mut(key).map(|(used, compiled)| {
        *used = now;
        compiled.clone()
    })
}

fn store(key: [u8; 32], made: Compiled) {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.entries.len() >= MAX_CACHED {
        let oldest = cache.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(k, _)| *k);
        if let Some(oldest) = oldest {
            cache.entries.remove(&oldest);
        }
    }
    let now = cache.clock;
    cache.entries.insert(key, (now, made));
}

fn compile(schema: &Value, draft: Option<Draft>) -> Compiled {
    let mut count = 0;
    measure(schema, 0, &mut count)?;
    let mut options = jsonschema::options().offline().with_pattern_options(
        PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_BYTES),
    );
    if let Some(draft) = draft {
        options = options.with_draft(draft);
    }
    let validator = match catch_unwind(AssertUnwindSafe(|| options.build(schema))) {
        Ok(Ok(validator)) => validator,
        Ok(Err(e)) if matches!(e.kind(), ValidationErrorKind::Referencing(_)) => {
            let why = format!("the schema refers to what it does not hold, and nothing is fetched: {e}");
            return Err(cut(&why, crate::MAX_EXCERPT).into());
        }
        Ok(Err(e)) => return Err(cut(&format!("the schema is not usable: {e}"), crate::MAX_EXCERPT).into()),
        Err(_) => return Err("the schema engine cannot take this schema".into()),
    };
    let known = draft.unwrap_or_else(|| Draft::default().detect(schema));
    // Other vocabularies may mean other things by the same words.
    let own = Draft::default().detect(schema) != Draft::Unknown;
    let nodes = Arc::new(Nodes::new(schema, own.then_some(known)));
    Ok(Arc::new(Schema { validator, nodes }))
}

/// Refuses what is nested too deep, too large, or points outside of itself.
fn measure(v: &Value, depth: usize, count: &mut usize) -> Result<(), Arc<str>> {
    // Keywords that hold maps of schemas (`properties`) nest twice per schema level.
    if depth > MAX_DEPTH.saturating_mul(2) {
        return Err(format!("the schema is nested deeper than {MAX_DEPTH}").into());
    }
    match v {
        Value::Object(m) => {
            *count = count.saturating_add(1);
            if *count > MAX_SUBSCHEMAS {
                return Err(format!("the schema has more than {MAX_SUBSCHEMAS} subschemas").into());
            }
            m.values().try_for_each(|x| measure(x, depth.saturating_add(1), count))
        }
        Value::Array(l) => l.iter().try_for_each(|x| measure(x, depth, count)),
        _ => Ok(()),
    }
}

impl Schema {
    /// Whether the value fits.
    pub(crate) fn fits(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// What does not fit, one note per place of the value, at most `max`. Messages never quote the value.
    ///
    /// # Errors
    /// Why it could not be decided: a pattern that takes too long.
    pub(crate) fn violations(
        &self,
        value: &Value,
        name: &'static str,
        severity: Severity,
        max: usize,
    ) -> Result<Vec<Note>, String> {
        // The quick check remembers what it has seen of recursive schemas; only invalid values pay for errors.
        if self.validator.is_valid(value) {
            return Ok(Vec::new());
        }
        let mut places: Vec<String> = Vec::new();
        let mut notes = Vec::new();
        for e in self.validator.iter_errors(value).take(max.saturating_mul(4)) {
            if let ValidationErrorKind::BacktrackLimitExceeded { .. } = e.kind() {
                return Err("a pattern of the schema takes too long on this value".to_owned());
            }
            let place = e.instance_path().as_str().to_owned();
            if places.contains(&place) {
                continue;
            }
            notes.push(note(&e, &place, name, severity));
            places.push(place);
            if notes.len() >= max {
                break;
            }
        }
        Ok(notes)
    }
}

fn note(e: &ValidationError<'_>, place: &str, name: &'static str, severity: Severity) -> Note {
    let message =
        format!("{} does not fit: {}", if place.is_empty() { "the value" } else { place }, e.masked());
    let note = Note::new(name, severity, e.kind().keyword(), &message)
        .path(place)
        .actual(e.instance().as_ref().clone());
    match expectation(e.kind()) {
        Some(x) => note.expected(x),
        None => note,
    }
}

fn expectation(kind: &ValidationErrorKind) -> Option<Value> {
    Some(match kind {
        ValidationErrorKind::Type { kind: TypeKind::Single(t) } => Value::String(t.to_string()),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(set) } => {
            Value::Array(set.iter().map(|t| Value::String(t.to_string())).collect())
        }
        ValidationErrorKind::Enum { options } => options.as_ref().clone(),
        ValidationErrorKind::Constant { expected_value } => expected_value.as_ref().clone(),
        ValidationErrorKind::Required { property } => property.clone(),
        ValidationErrorKind::Pattern { pattern } => Value::String(pattern.clone()),
        ValidationErrorKind::Format { format } => Value::String(format.clone()),
        ValidationErrorKind::Minimum { limit }
        | ValidationErrorKind::Maximum { limit }
        | ValidationErrorKind::ExclusiveMinimum { limit }
        | ValidationErrorKind::ExclusiveMaximum { limit } => limit.clone(),
        ValidationErrorKind::MinItems { limit }
        | ValidationErrorKind::MaxItems { limit }
        | ValidationErrorKind::MinLength { limit }
        | ValidationErrorKind::MaxLength { limit } => Value::from(*limit),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value) -> String {
        compiled(schema).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("{schema} was taken"))
    }

    #[test]
    fn hostile_schemas_are_refused() {
        assert!(refused(&json!({"$ref": "https://example.com/s.json"})).contains("nothing is fetched"));
        assert!(refused(&json!({"$ref": "file:///etc/passwd"})).contains("nothing is fetched"));
        assert!(
            refused(&json!({"properties": {"a": {"items": {"$ref": "x.json"}}}}))
                .contains("nothing is fetched")
        );
        assert!(refused(&json!({"type": "nonsense"})).contains("not usable"));
        let mut deep = json!({"type": "string"});
        for _ in 0..70 {
            deep = json!({"not": deep});
        }
        assert!(refused(&deep).contains("deeper"));
        let wide: Vec<Value> = (0..1001).map(|_| json!({})).collect();
        assert!(refused(&json!({"anyOf": wide})).contains("more than 1000"));
    }

    #[test]
    fn references_in_a_circle_end() {
        let circle = json!({
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            "$ref": "#/$defs/a"
        });
        if let Ok(s) = compiled(&circle) {
            // Whatever it says, it says it.
            let _ = s.violations(&json!({"x": [1, 2]}), "json_schema", Severity::Repair, 50);
        }
        let tree =
            json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": false});
        let s = compiled(&tree).unwrap();
        assert!(s.fits(&json!({"next": {"next": {}}})));
        let notes = s.violations(&json!({"next": {"nxt": 1}}), "json_schema", Severity::Repair, 50).unwrap();
        assert_eq!(notes.len(), 1);
    }

    #[test]
    fn a_long_chain_of_references_is_no_deep_recursion() {
        let next = |i: usize| json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", i + 1)}}});
        let mut defs: serde_json::Map<String, Value> = (0..300).map(|i| (format!("d{i}"), next(i))).collect();
        defs.insert("d300".to_owned(), json!({"type": "string"}));
        assert!(compiled(&json!({"$ref": "#/$defs/d0", "$defs": defs})).is_ok());
    }

    #[test]
    fn the_same_schema_is_compiled_once() {
        let s = json!({"type": "object", "title": "compiled once"});
        let (a, b) = (compiled(&s).unwrap(), compiled(&s.clone()).unwrap());
        assert!(Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn the_cache_is_bounded() {
        for i in 0..(MAX_CACHED + 20) {
            let _ = compiled(&json!({"const": format!("bounded {i}")}));
        }
        assert!(CACHE.lock().unwrap().entries.len() <= MAX_CACHED);
    }
}
