//! Compiled JSON Schemas: each is compiled once and kept in a bounded cache; hostile ones are refused.

use crate::finding::{Note, cut};
use crate::metered::{self, Metered, Seen};
use crate::parts;
use crate::prefix::Nodes;
use crate::weight;
pub(crate) use jsonschema::Draft;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use types::run::Severity;

/// Deepest nesting of a schema.
pub(crate) const MAX_DEPTH: usize = 32;
/// Most objects and booleans in a schema that may be subschemas.
pub(crate) const MAX_SUBSCHEMAS: usize = 1000;
/// Schemas kept compiled; the one unused for longest makes room.
const MAX_CACHED: usize = 256;
/// Bytes that they may take together, roughly; of those that take more only the last stays.
const MAX_CACHED_BYTES: usize = 64 * 1024 * 1024;
/// Bytes in memory, roughly, of a byte of a schema's text: it is held as values, as checks and as what of it a growing
/// value is held against.
const PER_BYTE_OF_TEXT: usize = 8;
/// The same of a byte that its patterns are said to take, measured: they are compiled forwards and backwards, and kept as
/// they were read.
const PER_BYTE_OF_PATTERN: usize = 4;
/// Steps a pattern with look-around may take back before it counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;
/// Bytes a compiled pattern may take; all of a schema may take [`weight::MAX_COMPILED`].
const PATTERN_BYTES: usize = 1024 * 1024;

/// Most looks at a value before it is given up to tell whether it fits: a fraction of a second. An answer of 100 KB and
/// an ordinary schema take some ten thousand.
const MAX_LOOKS: u64 = 1_000_000;
/// Most looks to find every place that does not fit: each may leave a finding in memory, and none ends the search.
const MAX_LOOKS_FOR_PLACES: u64 = 200_000;
/// Why a value could not be held against a schema.
const TOO_MUCH_WORK: &str = "the schema takes too long on this value";

/// A schema ready for use.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator<Metered>,
    /// What can be decided on a value that is still being written.
    pub(crate) nodes: Arc<Nodes>,
    /// Bytes that its patterns take.
    patterns: usize,
}

/// A compiled schema, or why there is none.
pub(crate) type Compiled = Result<Arc<Schema>, Arc<str>>;

/// One schema that was seen, by its hash in [`Cache`].
struct Entry {
    compiled: Compiled,
    /// When it was asked for last, by the cache's clock.
    used: u64,
    /// Bytes that it takes, roughly.
    bytes: usize,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<[u8; 32], Entry>,
    clock: u64,
    /// Of all entries together.
    bytes: usize,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

impl Cache {
    fn tick(&mut self) -> u64 {
        self.clock = self.clock.saturating_add(1);
        self.clock
    }

    fn find(&mut self, key: &[u8; 32]) -> Option<Compiled> {
        let now = self.tick();
        self.entries.get_mut(key).map(|entry| {
            entry.used = now;
            entry.compiled.clone()
        })
    }

    /// Keeps one, and lets go of those unused for longest until it fits or nothing else is left.
    fn keep(&mut self, key: [u8; 32], compiled: Compiled, bytes: usize) {
        self.forget(&key);
        let is_full =
            |c: &Cache| c.entries.len() >= MAX_CACHED || c.bytes.saturating_add(bytes) > MAX_CACHED_BYTES;
        while is_full(self)
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(k, _)| *k)
        {
            self.forget(&oldest);
        }
        let used = self.tick();
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.insert(key, Entry { compiled, used, bytes });
    }

    fn forget(&mut self, key: &[u8; 32]) {
        if let Some(gone) = self.entries.remove(key) {
            self.bytes = self.bytes.saturating_sub(gone.bytes);
        }
    }
}

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
    let cache = || CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = cache().find(&key) {
        return found.and_then(Schema::count);
    }
    // Compiled outside the lock: a large schema must not hold up the others.
    let made = compile(schema, draft);
    let bytes = made.as_ref().map_or(0, |schema| schema.bytes(text.len()));
    cache().keep(key, made.clone(), bytes);
    made.and_then(Schema::count)
}

fn compile(schema: &Value, draft: Option<Draft>) -> Compiled {
    let mut count = 0;
    measure(schema, 0, &mut count)?;
    let counted = parts::counted(schema)?;
    let patterns = weight::of(&parts::patterns(schema))?;
    let mut options = jsonschema::options_for::<Metered>().offline().with_pattern_options(
        PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_BYTES),
    );
    if let Some(draft) = draft {
        options = options.with_draft(draft);
    }
    let validator = match catch_unwind(AssertUnwindSafe(|| options.build(&counted))) {
        Ok(Ok(validator)) => validator,
        Ok(Err(e)) if matches!(e.kind(), ValidationErrorKind::Referencing(_)) => {
            let why = format!("the schema refers to what it does not hold, and nothing is fetched: {e}");
            return Err(cut(&why, crate::MAX_EXCERPT).into());
        }
        Ok(Err(e)) => return Err(unusable(&e)),
        Err(_) => return Err("the schema engine cannot take this schema".into()),
    };
    let known = draft.unwrap_or_else(|| Draft::default().detect(schema));
    // Other vocabularies may mean other things by the same words.
    let own = Draft::default().detect(schema) != Draft::Unknown;
    let nodes = Arc::new(Nodes::new(schema, own.then_some(known)));
    Ok(Arc::new(Schema { validator, nodes, patterns }))
}

/// What in a schema is wrong, by its place: whoever wrote it by program has hundreds of lines to search.
fn unusable(e: &ValidationError<'_>) -> Arc<str> {
    let place = match e.instance_path().as_str() {
        "" => String::new(),
        place => format!(" at `{place}`"),
    };
    cut(&format!("the schema is not usable{place}: {e}"), crate::MAX_EXCERPT).into()
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
    /// The same, counted with what is built together.
    fn count(self: Arc<Self>) -> Compiled {
        weight::count(self.patterns)?;
        Ok(self)
    }

    /// What it takes in memory, roughly, where its text has so many bytes.
    fn bytes(&self, text: usize) -> usize {
        let patterns = self.patterns.saturating_mul(PER_BYTE_OF_PATTERN);
        patterns.saturating_add(text.saturating_mul(PER_BYTE_OF_TEXT))
    }

    /// Whether the value fits; what takes too long to tell does not.
    pub(crate) fn fits(&self, value: &Value) -> bool {
        self.is_valid(value).unwrap_or(false)
    }

    /// `None`: it takes too long to tell.
    fn is_valid(&self, value: &Value) -> Option<bool> {
        metered::within(MAX_LOOKS, || self.validator.is_valid(Seen(value)))
    }

    /// What does not fit, one note per place of the value, at most `max`. Messages never quote the value.
    ///
    /// # Errors
    /// Why it could not be decided: a pattern, or the schema as a whole, takes too long.
    pub(crate) fn violations(
        &self,
        value: &Value,
        name: &'static str,
        severity: Severity,
        max: usize,
    ) -> Result<Vec<Note>, String> {
        // The quick check remembers what it has seen of recursive schemas; only invalid values pay for errors.
        if self.is_valid(value).ok_or(TOO_MUCH_WORK)? {
            return Ok(Vec::new());
        }
        let places = metered::within(MAX_LOOKS_FOR_PLACES, || self.places(value, name, severity, max));
        places.unwrap_or_else(|| {
            let message = "the value does not fit, and where takes too long to tell";
            Ok(vec![Note::new(name, severity, "schema", message)])
        })
    }

    fn places(
        &self,
        value: &Value,
        name: &'static str,
        severity: Severity,
        max: usize,
    ) -> Result<Vec<Note>, String> {
        let mut places: Vec<String> = Vec::new();
        let mut notes = Vec::new();
        for e in self.validator.iter_errors(Seen(value)).take(max.saturating_mul(4)) {
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
        assert!(refused(&json!({"type": "nonsense"})).contains("not usable at `/type`"));
        // Its place, for one of hundreds of lines.
        let marked = |mark: Value| json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": mark}}}});
        for (mark, place) in [
            (json!({"type": "string", "required": true}), "required"),
            (json!({"type": "None"}), "type"),
            (json!({"type": "string", "pattern": "^v.*\\Z"}), "pattern"),
        ] {
            let told = refused(&marked(mark));
            assert!(told.contains(&format!("at `/properties/a/properties/b/{place}`: ")), "{told}");
        }
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

    /// Levels that each refer `fan` times to the next, with `leaf` at the end.
    fn explosive(levels: usize, fan: usize, keyword: &str, leaf: &Value) -> Value {
        let mut defs = serde_json::Map::new();
        for i in 0..levels {
            let next: Vec<Value> = (0..fan).map(|_| json!({"$ref": format!("#/$defs/d{}", i + 1)})).collect();
            defs.insert(format!("d{i}"), json!({ keyword: next }));
        }
        defs.insert(format!("d{levels}"), leaf.clone());
        json!({"$defs": defs, "$ref": "#/$defs/d0"})
    }

    fn violations(schema: &Value, value: &Value) -> Result<usize, String> {
        compiled(schema).unwrap().violations(value, "json_schema", Severity::Repair, 50).map(|n| n.len())
    }

    #[test]
    fn a_schema_whose_parts_multiply_is_given_up() {
        for (keyword, leaf) in [
            ("anyOf", json!({"type": "integer"})),
            ("anyOf", json!(false)),
            ("anyOf", json!({"not": {}})),
            ("allOf", json!(true)),
            ("oneOf", json!({})),
            ("oneOf", json!({"$ref": "#/$defs/d0/oneOf/0/nothing"})),
        ] {
            let schema = explosive(9, 10, keyword, &leaf);
            if compiled(&schema).is_ok() {
                assert!(violations(&schema, &json!("str")).is_err(), "{keyword} {leaf}");
            }
        }
        // Nothing of it depends on the value being small.
        let deep = json!({"anyOf": [{"properties": {"a": {"$ref": "#"}}, "required": ["b"]},
                                    {"properties": {"a": {"$ref": "#"}}, "required": ["c"]},
                                    {"properties": {"a": {"$ref": "#"}}, "required": ["d"]}]});
        let value = (0..60).fold(json!(1), |inner, _| json!({"a": inner}));
        let _ = violations(&deep, &value);
        let narrow = explosive(3, 10, "anyOf", &json!({"type": "integer"}));
        assert_eq!(violations(&narrow, &json!("str")), Ok(1));
        assert_eq!(violations(&narrow, &json!(1)), Ok(0));
    }

    #[test]
    fn where_a_value_does_not_fit_is_told_as_far_as_it_can_be() {
        let schema = explosive(5, 10, "anyOf", &json!({"type": "integer"}));
        let notes = compiled(&schema)
            .unwrap()
            .violations(&json!("str"), "json_schema", Severity::Repair, 50)
            .unwrap();
        let finding = notes.into_iter().next().unwrap().into_finding();
        assert_eq!(finding.code, "schema");
    }

    #[test]
    fn long_lists_are_told_apart_in_one_pass() {
        let schema = json!({"uniqueItems": true});
        let list: Vec<Value> = (0..20_000).map(|i| json!({"a": i, "b": "same"})).collect();
        assert_eq!(violations(&schema, &json!(list)), Ok(0));
        let twice: Vec<&Value> = list.iter().chain(list.first()).collect();
        assert_eq!(violations(&schema, &json!(twice)), Ok(1));
    }

    #[test]
    fn nothing_refers_to_what_is_no_schema() {
        for hidden in [
            json!({"const": {"a": {"anyOf": [true]}}, "$ref": "#/const/a"}),
            json!({"$defs": {"if": {}, "then": {}}, "$ref": "#/$defs"}),
            json!({"$defs": {"x": {"enum": [{"not": {}}]}}, "$ref": "#/%24defs/x/enum/0"}),
        ] {
            assert!(refused(&hidden).contains("no schema"), "{hidden}");
        }
        let named = json!({"properties": {"enum": {"type": "string"}, "b": {"$ref": "#/properties/enum"}}});
        assert_eq!(violations(&named, &json!({"b": 1})), Ok(1));
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

    /// Twenty kilobytes of schema took hundreds of megabytes, and stayed.
    #[test]
    fn patterns_that_are_too_large_together_are_refused() {
        let letters = |n: usize| {
            let each = |i: usize| {
                (format!("p{i}"), json!({"type": "string", "pattern": format!("^\\p{{L}}{{24}}x{i}$")}))
            };
            json!({"type": "object", "properties": (0..n).map(each).collect::<serde_json::Map<_, _>>()})
        };
        assert!(compiled(&letters(1)).is_ok());
        assert!(refused(&letters(450)).contains("patterns are too large"));
        // A pattern that stands in many places is compiled once.
        let same = json!({"pattern": "^\\p{L}{24}$"});
        assert!(compiled(&json!({"anyOf": vec![same; 100]})).is_ok());
        let names = (10..30).map(|n| (format!("^\\p{{L}}{{{n}}}$"), json!({})));
        let named = json!({"patternProperties": names.collect::<serde_json::Map<_, _>>()});
        assert!(refused(&named).contains("patterns are too large"), "{}", refused(&named));
        // What only looks like a pattern is none.
        assert!(compiled(&json!({"properties": {"pattern": {"const": {"pattern": "("}}}})).is_ok());
    }

    #[test]
    fn what_is_kept_is_weighed() {
        let mut cache = Cache::default();
        let none: Compiled = Err("none".into());
        for key in 0..5 {
            cache.keep([key; 32], none.clone(), MAX_CACHED_BYTES / 3);
            cache.keep([key; 32], none.clone(), MAX_CACHED_BYTES / 3);
            assert!(cache.find(&[0; 32]).is_some(), "the first is asked for again and again");
        }
        assert_eq!((cache.entries.len(), cache.bytes), (3, MAX_CACHED_BYTES / 3 * 3));
        assert!(cache.find(&[3; 32]).is_some() && cache.find(&[1; 32]).is_none());
        cache.keep([9; 32], none, MAX_CACHED_BYTES * 2);
        assert_eq!((cache.entries.len(), cache.bytes), (1, MAX_CACHED_BYTES * 2));
    }
}
