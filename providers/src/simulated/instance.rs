//! A made-up JSON value that fits a schema, and one that does not.

use super::draw::Draw;
use super::pattern;
use serde_json::{Map, Number, Value, json};

/// Below this depth only what is required is made, which ends recursive schemas.
const FULL_DEPTH: usize = 5;
/// Deepest nesting.
const MAX_DEPTH: usize = 48;
/// Most values of one instance.
const MAX_VALUES: usize = 4_000;
/// Longest string, in characters.
const MAX_STRING: usize = 4_096;

/// Makes instances of one schema.
pub(super) struct Maker<'a> {
    root: &'a Value,
    draw: &'a mut Draw,
    /// Words for strings; never empty.
    words: &'a [String],
    left: usize,
}

/// A value that fits `schema` as far as it uses types, enumerations, constants, objects, arrays, ranges,
/// patterns, the first branch of alternatives, `allOf`, and references within the schema.
pub(super) fn valid(schema: &Value, draw: &mut Draw, words: &[String]) -> Value {
    Maker { root: schema, draw, words, left: MAX_VALUES }.value(schema, 0)
}

/// A value that looks like one of `schema` and is not: something required is missing, or of another type.
pub(super) fn invalid(schema: &Value, draw: &mut Draw, words: &[String]) -> Value {
    let mut value = valid(schema, draw, words);
    let flat = Maker { root: schema, draw, words, left: MAX_VALUES }.flatten(schema, 0);
    let required: Vec<&str> = strings(flat.get("required")).collect();
    if let (Value::Object(members), false) = (&mut value, required.is_empty()) {
        if let Some(gone) = draw.pick(&required) {
            members.shift_remove(*gone);
        }
        return value;
    }
    match value {
        Value::Array(_) | Value::String(_) => json!({"result": value}),
        Value::Object(_) => json!([value]),
        other => Value::String(format!("about {other}")),
    }
}

fn strings(list: Option<&Value>) -> impl Iterator<Item = &str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        self.left = self.left.saturating_sub(1);
        if depth > MAX_DEPTH || self.left == 0 {
            return Value::Null;
        }
        let flat = self.flatten(schema, depth);
        if let Some(c) = flat.get("const") {
            return c.clone();
        }
        if let Some(list) = flat.get("enum").and_then(Value::as_array) {
            let fitting: Vec<&Value> = list.iter().filter(|v| fits_type(v, flat.get("type"))).collect();
            return self.draw.pick(&fitting).map_or(Value::Null, |v| (*v).clone());
        }
        match kind(&flat) {
            "object" => self.object(&flat, depth),
            "array" => self.array(&flat, depth),
            "integer" => self.number(&flat, true),
            "number" => self.number(&flat, false),
            "boolean" => Value::Bool(self.draw.below(2) == 0),
            "null" => Value::Null,
            _ => Value::String(self.string(&flat)),
        }
    }

    /// A schema with its references, `allOf` and first alternative folded into one map.
    fn flatten(&mut self, schema: &Value, depth: usize) -> Map<String, Value> {
        let Value::Object(own) = schema else { return Map::new() };
        let mut flat = own.clone();
        if depth > MAX_DEPTH {
            return flat;
        }
        let next = depth.saturating_add(1);
        let mut parts: Vec<Value> = Vec::new();
        if let Some(Value::String(to)) = flat.remove("$ref") {
            let target = to.strip_prefix('#').and_then(|p| self.root.pointer(p));
            parts.extend(target.cloned());
        }
        if let Some(Value::Array(all)) = flat.remove("allOf") {
            parts.extend(all);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(branches)) = flat.remove(key) {
                parts.extend(self.branch(branches, depth));
            }
        }
        for part in parts {
            let part = self.flatten(&part, next);
            meet(&mut flat, part);
        }
        flat
    }

    /// The first branch; deep down, the first one that does not nest further.
    fn branch(&mut self, branches: Vec<Value>, depth: usize) -> Option<Value> {
        let shallow = |b: &Value| matches!(b.get("type").and_then(Value::as_str), Some(t) if t != "object" && t != "array");
        let at = if depth > FULL_DEPTH { branches.iter().position(shallow) } else { None };
        branches.into_iter().nth(at.unwrap_or(0))
    }

    fn object(&mut self, flat: &Map<String, Value>, depth: usize) -> Value {
        let next = depth.saturating_add(1);
        let none = Map::new();
        let properties = flat.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> = strings(flat.get("required")).collect();
        let room =
            usize::try_from(number(flat, "maxProperties").unwrap_or(f64::MAX) as u64).unwrap_or(usize::MAX);
        let mut out = Map::new();
        for (key, schema) in properties {
            let must = required.contains(&key.as_str());
            let may =
                depth < FULL_DEPTH && required.len().max(out.len()) < room && *schema != Value::Bool(false);
            if must || may {
                out.insert(key.clone(), self.value(schema, next));
            }
        }
        let others = flat.get("additionalProperties").cloned().unwrap_or(Value::Bool(true));
        for key in required {
            if !out.contains_key(key) {
                out.insert(key.to_owned(), self.value(&others, next));
            }
        }
        let least = (number(flat, "minProperties").unwrap_or(0.0) as usize).min(self.left);
        for i in 1..=least {
            if out.len() >= least || others == Value::Bool(false) {
                break;
            }
            out.insert(format!("extra_{i}"), self.value(&others, next));
        }
        Value::Object(out)
    }

    fn array(&mut self, flat: &Map<String, Value>, depth: usize) -> Value {
        let next = depth.saturating_add(1);
        let least = (number(flat, "minItems").unwrap_or(0.0) as usize).min(self.left);
        let most = number(flat, "maxItems").map_or(usize::MAX, |m| m as usize).max(least);
        let prefix = flat.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let usual = if depth < FULL_DEPTH { self.draw.between(1, 3) } else { 0 };
        let closed = flat.get("items") == Some(&Value::Bool(false));
        let wanted = least.max(usual.max(prefix.len())).min(if closed { prefix.len() } else { most });
        let items = flat.get("items").cloned().unwrap_or(Value::Bool(true));
        let unique = flat.get("uniqueItems") == Some(&Value::Bool(true));
        let mut out: Vec<Value> = prefix.iter().take(wanted).map(|s| self.value(s, next)).collect();
        if let (Some(needle), true) = (flat.get("contains"), out.len() < wanted) {
            out.push(self.value(needle, next));
        }
        let choices = self.flatten(&items, next).get("enum").and_then(Value::as_array).cloned();
        for attempt in 0..wanted.saturating_mul(8) {
            if out.len() >= wanted || self.left == 0 {
                break;
            }
            let item = match &choices {
                Some(list) if unique => list.get(attempt).cloned().unwrap_or(Value::Null),
                _ => self.value(&items, next),
            };
            if !unique || !out.contains(&item) {
                out.push(item);
            }
        }
        Value::Array(out)
    }

    /// A number in its range, on its grid.
    fn number(&mut self, flat: &Map<String, Value>, whole: bool) -> Value {
        let step = number(flat, "multipleOf").filter(|m| *m > 0.0);
        let grid = step.unwrap_or(if whole { 1.0 } else { 0.01 });
        let grid = if whole && grid.fract() != 0.0 { grid.max(1.0).ceil() } else { grid };
        let above = number(flat, "exclusiveMinimum");
        let below = number(flat, "exclusiveMaximum");
        let lo = number(flat, "minimum").into_iter().chain(above).reduce(f64::max);
        let hi = number(flat, "maximum").into_iter().chain(below).reduce(f64::min);
        let (lo, hi) = match (lo, hi) {
            (Some(lo), Some(hi)) => (lo, hi),
            (Some(lo), None) => (lo, lo + 100.0 * grid),
            (None, Some(hi)) => (hi - 100.0 * grid, hi),
            (None, None) => (0.0, 100.0 * grid.max(0.1)),
        };
        let mut first = (lo / grid).ceil();
        let mut last = (hi / grid).floor();
        if above.is_some_and(|a| first * grid <= a) {
            first += 1.0;
        }
        if below.is_some_and(|b| last * grid >= b) {
            last -= 1.0;
        }
        if first > last {
            // The range is narrower than the grid: its middle, which a number (not an integer) may be.
            return Number::from_f64(f64::midpoint(lo, hi)).map_or(Value::Null, Value::Number);
        }
        let at = (first + (self.draw.unit() * (last - first + 1.0)).floor()).min(last) * grid;
        if at.fract() == 0.0 && at.abs() < 9e15 && (whole || step.is_some()) {
            return Value::from(at as i64);
        }
        // Six decimals hide what binary fractions add to a decimal grid.
        let tidy = (at * 1e6).round() / 1e6;
        Number::from_f64(if (lo..=hi).contains(&tidy) { tidy } else { at }).map_or(Value::Null, Value::Number)
    }

    fn string(&mut self, flat: &Map<String, Value>) -> String {
        let least = (number(flat, "minLength").unwrap_or(0.0) as usize).min(MAX_STRING);
        let most = number(flat, "maxLength").map_or(MAX_STRING, |m| m as usize).max(least);
        if let Some(p) = flat.get("pattern").and_then(Value::as_str)
            && let Some(text) = pattern::matching(p, least, most, self.draw)
        {
            return text;
        }
        if let Some(text) = flat.get("format").and_then(Value::as_str).and_then(|f| self.formatted(f)) {
            return text;
        }
        let mut text = String::new();
        for _ in 0..self.draw.between(1, 3) {
            self.word(&mut text);
        }
        while text.chars().count() < least {
            self.word(&mut text);
        }
        text.chars().take(most).collect()
    }

    fn word(&mut self, text: &mut String) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(self.draw.pick(self.words).map_or("word", String::as_str));
    }

    fn formatted(&mut self, format: &str) -> Option<String> {
        let (n, day) = (self.draw.below(250), self.draw.between(1, 28));
        Some(match format {
            "date" => format!("2026-01-{day:02}"),
            "time" => format!("{:02}:30:00Z", day % 24),
            "date-time" => format!("2026-01-{day:02}T09:30:00Z"),
            "duration" => format!("P{day}D"),
            "email" | "idn-email" => format!("person{n}@example.com"),
            "hostname" | "idn-hostname" => format!("host{n}.example.com"),
            "ipv4" => format!("192.0.2.{n}"),
            "ipv6" => format!("2001:db8::{n:x}"),
            "uri" | "iri" | "url" => format!("https://example.com/{n}"),
            "uri-reference" | "iri-reference" => format!("/{n}"),
            "json-pointer" => format!("/{n}"),
            "uuid" => format!("{:08x}-0000-4000-8000-{:012x}", self.draw.bits() >> 32, n),
            "regex" => "^a+$".to_owned(),
            _ => return None,
        })
    }
}

fn number(flat: &Map<String, Value>, key: &str) -> Option<f64> {
    flat.get(key).and_then(Value::as_f64).map(|x| x.clamp(-9e15, 9e15))
}

/// The type to make: the stated one (the first that is not `null`), or the one the other keywords speak of.
fn kind(flat: &Map<String, Value>) -> &str {
    match flat.get("type") {
        Some(Value::String(t)) => return t,
        Some(Value::Array(list)) => {
            let mut names = list.iter().filter_map(Value::as_str);
            let first = names.clone().next().unwrap_or("null");
            return names.find(|t| *t != "null").unwrap_or(first);
        }
        _ => {}
    }
    let speaks = |keys: &[&str]| keys.iter().any(|k| flat.contains_key(*k));
    if speaks(&["properties", "required", "additionalProperties", "minProperties"]) {
        "object"
    } else if speaks(&["items", "prefixItems", "minItems", "contains"]) {
        "array"
    } else if speaks(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        "number"
    } else {
        "string"
    }
}

fn fits_type(value: &Value, stated: Option<&Value>) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        _ => false,
    };
    match stated {
        Some(Value::String(t)) => is(t),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

/// Narrows `into` by another schema that holds as well.
fn meet(into: &mut Map<String, Value>, other: Map<String, Value>) {
    for (key, theirs) in other {
        let Some(ours) = into.get_mut(&key) else {
            into.insert(key, theirs);
            continue;
        };
        match (key.as_str(), &mut *ours, theirs) {
            ("properties", Value::Object(a), Value::Object(b)) => meet_properties(a, b),
            ("required", Value::Array(a), Value::Array(b)) => {
                let new: Vec<Value> = b.into_iter().filter(|x| !a.contains(x)).collect();
                a.extend(new);
            }
            ("enum", Value::Array(a), Value::Array(b)) => a.retain(|x| b.contains(x)),
            ("minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties", a, b)
                if b.as_f64() > a.as_f64() =>
            {
                *a = b;
            }
            ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties", a, b)
                if b.as_f64() < a.as_f64() =>
            {
                *a = b;
            }
            ("type", Value::Array(a), b) => {
                a.retain(|t| *t == b || b.as_array().is_some_and(|l| l.contains(t)));
            }
            ("additionalProperties", a, b) if *a == Value::Bool(true) || b == Value::Bool(false) => {
                *a = b;
            }
            // Annotations, and keywords for which the schema's own word is kept.
            _ => {}
        }
    }
}

/// Members stated twice must fit both.
fn meet_properties(into: &mut Map<String, Value>, other: Map<String, Value>) {
    for (name, theirs) in other {
        match into.get_mut(&name) {
            None => {
                into.insert(name, theirs);
            }
            Some(ours) => *ours = json!({"allOf": [ours.take(), theirs]}),
        }
    }
}

#[cfg(test)]
mod tests;
