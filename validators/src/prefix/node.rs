//! What of a JSON Schema can be decided on a value that is still being written.
//!
//! Everything here is a necessary condition: what is left out (patterns, formats, `not`, `if`, anchors,
//! embedded documents) allows more, never less, so a text that can still become valid is never refused.

use crate::schema::{Draft, MAX_SUBSCHEMAS};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most nodes of one schema; what lies beyond allows everything.
const MAX_NODES: usize = MAX_SUBSCHEMAS * 4;
/// Deepest walk into a schema.
const MAX_DEPTH: usize = 128;

/// Position of a node in [`Nodes`].
pub(super) type Id = usize;
/// The node that allows everything.
pub(super) const ANY: Id = 0;

pub(super) const NULL: u8 = 1;
pub(super) const TRUE: u8 = 2;
pub(super) const FALSE: u8 = 4;
pub(super) const NUMBER: u8 = 8;
pub(super) const STRING: u8 = 16;
pub(super) const ARRAY: u8 = 32;
pub(super) const OBJECT: u8 = 64;
const ALL: u8 = 127;

/// Conditions on one value.
#[derive(Debug)]
pub(super) struct Node {
    /// Kinds of values that `type` allows.
    pub(super) kinds: u8,
    /// The value of `type`, for messages.
    pub(super) expected: Value,
    /// A number must be whole.
    pub(super) whole: bool,
    /// `enum` or `const`.
    pub(super) options: Option<Options>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) min_length: usize,
    pub(super) max_length: usize,
    pub(super) min_items: usize,
    pub(super) max_items: usize,
    pub(super) items: Vec<Id>,
    pub(super) rest: Rest,
    pub(super) properties: HashMap<String, Id>,
    pub(super) additional: Rest,
    /// At most 64 names; more are left to the check of the whole.
    pub(super) required: Vec<String>,
    pub(super) min_properties: usize,
    pub(super) max_properties: usize,
    /// All of these hold as well.
    pub(super) all: Vec<Id>,
    /// At least one of each list holds; with the keyword.
    pub(super) any: Vec<(&'static str, Vec<Id>)>,
}

impl Node {
    /// Whether the text of a string matters, beyond its being one.
    pub(super) fn limits_text(&self) -> bool {
        self.min_length > 0 || self.max_length < usize::MAX || self.options.is_some()
    }
}

/// What holds for items or properties that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// A node's conditions.
    Node(Id),
    /// There must be none.
    Closed,
}

/// The allowed values.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) keyword: &'static str,
    pub(super) value: Value,
    pub(super) kinds: u8,
    pub(super) strings: Vec<String>,
    pub(super) numbers: Vec<f64>,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            kinds: ALL,
            expected: Value::Null,
            whole: false,
            options: None,
            minimum: None,
            maximum: None,
            min_length: 0,
            max_length: usize::MAX,
            min_items: 0,
            max_items: usize::MAX,
            items: Vec::new(),
            rest: Rest::Node(ANY),
            properties: HashMap::new(),
            additional: Rest::Node(ANY),
            required: Vec::new(),
            min_properties: 0,
            max_properties: usize::MAX,
            all: Vec::new(),
            any: Vec::new(),
        }
    }
}

/// The conditions of a whole schema.
#[derive(Debug)]
pub(crate) struct Nodes {
    list: Vec<Node>,
    pub(super) root: Id,
}

impl Nodes {
    /// The conditions that a schema of that draft sets. A schema of another vocabulary sets none.
    pub(crate) fn new(schema: &Value, draft: Option<Draft>) -> Self {
        let any = Nodes { list: vec![Node::default()], root: ANY };
        let Some(draft) = draft else { return any };
        let mut build = Build { schema, draft, nodes: any, seen: HashMap::new(), waiting: Vec::new() };
        build.nodes.root = build.reference("");
        // One by one, so that a long chain of references is no deep recursion.
        while let Some((id, target)) = build.waiting.pop() {
            let node = build.node(target, 0);
            build.place(id, node);
        }
        build.nodes
    }

    pub(super) fn get(&self, id: Id) -> Option<&Node> {
        self.list.get(id)
    }
}

struct Build<'s> {
    schema: &'s Value,
    draft: Draft,
    nodes: Nodes,
    /// Nodes by JSON pointer: references meet themselves here.
    seen: HashMap<String, Id>,
    /// Nodes that are referred to and not filled yet.
    waiting: Vec<(Id, &'s Value)>,
}

impl<'s> Build<'s> {
    fn reference(&mut self, pointer: &str) -> Id {
        if let Some(id) = self.seen.get(pointer) {
            return *id;
        }
        let Some(target) = self.target(pointer) else { return ANY };
        let id = self.reserve();
        if id != ANY {
            self.seen.insert(pointer.to_owned(), id);
            self.waiting.push((id, target));
        }
        id
    }

    /// A new node that allows everything so far; [`ANY`] where there are too many.
    fn reserve(&mut self) -> Id {
        let id = self.nodes.list.len();
        if id >= MAX_NODES {
            return ANY;
        }
        self.nodes.list.push(Node::default());
        id
    }

    fn place(&mut self, id: Id, node: Node) {
        if let Some(place) = self.nodes.list.get_mut(id) {
            *place = node;
        }
    }

    /// What the pointer leads to; `None` where it leads through an embedded document, in which other
    /// references hold.
    fn target(&self, pointer: &str) -> Option<&'s Value> {
        let mut at = self.schema;
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            at = match at {
                Value::Object(m) => m.get(&name)?,
                Value::Array(l) => l.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
            if self.embedded(at) {
                return None;
            }
        }
        Some(at)
    }

    fn embedded(&self, schema: &Value) -> bool {
        let id = if self.draft == Draft::Draft4 { "id" } else { "$id" };
        [id, "$schema"].iter().any(|k| schema.get(*k).is_some_and(Value::is_string))
    }

    fn child(&mut self, schema: &'s Value, depth: usize) -> Id {
        let plain = schema.as_bool() == Some(true) || schema.as_object().is_some_and(Map::is_empty);
        if plain || depth > MAX_DEPTH || self.embedded(schema) {
            return ANY;
        }
        let id = self.reserve();
        if id != ANY {
            let node = self.node(schema, depth);
            self.place(id, node);
        }
        id
    }

    fn children(&mut self, list: Option<&'s Value>, depth: usize) -> Vec<Id> {
        let Some(list) = list.and_then(Value::as_array) else { return Vec::new() };
        list.iter().map(|s| self.child(s, depth.saturating_add(1))).collect()
    }

    fn rest(&mut self, schema: Option<&'s Value>, depth: usize) -> Rest {
        match schema {
            None => Rest::Node(ANY),
            Some(Value::Bool(false)) => Rest::Closed,
            Some(s) => Rest::Node(self.child(s, depth.saturating_add(1))),
        }
    }

    fn node(&mut self, schema: &'s Value, depth: usize) -> Node {
        let mut node = Node::default();
        let map = match schema {
            Value::Object(m) => m,
            Value::Bool(false) => {
                node.kinds = 0;
                return node;
            }
            _ => return node,
        };
        if let Some(Value::String(reference)) = map.get("$ref") {
            if let Some(pointer) = reference.strip_prefix('#').filter(|p| !p.contains('%'))
                && (pointer.is_empty() || pointer.starts_with('/'))
            {
                let id = self.reference(pointer);
                node.all.push(id);
            }
            // Up to draft 7, whatever stands beside a reference is ignored.
            if self.draft <= Draft::Draft7 {
                return node;
            }
        }
        self.kinds(map, &mut node);
        self.scalars(map, &mut node);
        self.lists(map, &mut node, depth);
        self.objects(map, &mut node, depth);
        let all = self.children(map.get("allOf"), depth);
        node.all.extend(all);
        for keyword in ["anyOf", "oneOf"] {
            let any = self.children(map.get(keyword), depth);
            if !any.is_empty() {
                node.any.push((keyword, any));
            }
        }
        node
    }

    fn kinds(&self, map: &Map<String, Value>, node: &mut Node) {
        let names: Vec<&str> = match map.get("type") {
            Some(Value::String(s)) => vec![s],
            Some(Value::Array(l)) => l.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !names.is_empty() {
            node.kinds = names.iter().fold(0, |k, n| k | kind(n));
            node.whole = names.contains(&"integer") && !names.contains(&"number");
            node.expected = map.get("type").cloned().unwrap_or_default();
        }
        let constant = map.get("const").filter(|_| self.draft >= Draft::Draft6);
        let listed = map.get("enum").and_then(Value::as_array);
        node.options = match (constant, listed) {
            (Some(one), _) => Some(options("const", std::slice::from_ref(one), one)),
            (None, Some(list)) => map.get("enum").map(|v| options("enum", list, v)),
            (None, None) => None,
        };
    }

    fn scalars(&self, map: &Map<String, Value>, node: &mut Node) {
        // A limit that is excluded is treated as included: less is refused, never more.
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let exclusive = |key: &str| number(key).filter(|_| self.draft >= Draft::Draft6);
        let of = |a: Option<f64>, b: Option<f64>, pick: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(pick(a, b)),
            (a, b) => a.or(b),
        };
        node.minimum = of(number("minimum"), exclusive("exclusiveMinimum"), f64::max);
        node.maximum = of(number("maximum"), exclusive("exclusiveMaximum"), f64::min);
        (node.min_length, node.max_length) = (least(map, "minLength"), most(map, "maxLength"));
    }

    fn lists(&mut self, map: &'s Map<String, Value>, node: &mut Node, depth: usize) {
        (node.min_items, node.max_items) = (least(map, "minItems"), most(map, "maxItems"));
        if self.draft >= Draft::Draft202012 {
            node.items = self.children(map.get("prefixItems"), depth);
            node.rest = self.rest(map.get("items"), depth);
        } else if map.get("items").is_some_and(Value::is_array) {
            node.items = self.children(map.get("items"), depth);
            node.rest = self.rest(map.get("additionalItems"), depth);
        } else {
            node.rest = self.rest(map.get("items"), depth);
        }
    }

    fn objects(&mut self, map: &'s Map<String, Value>, node: &mut Node, depth: usize) {
        (node.min_properties, node.max_properties) =
            (least(map, "minProperties"), most(map, "maxProperties"));
        if let Some(Value::Object(properties)) = map.get("properties") {
            for (name, schema) in properties {
                let id = self.child(schema, depth.saturating_add(1));
                node.properties.insert(name.clone(), id);
            }
        }
        // Which names the patterns take is left to the check of the whole.
        let patterns = map.get("patternProperties").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
        if !patterns {
            node.additional = self.rest(map.get("additionalProperties"), depth);
        }
        let required = map.get("required").and_then(Value::as_array);
        let mut names: Vec<String> =
            required.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        names.truncate(64);
        node.required = names;
    }
}

fn least(map: &Map<String, Value>, key: &str) -> usize {
    map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

fn most(map: &Map<String, Value>, key: &str) -> usize {
    map.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)
}

fn kind(name: &str) -> u8 {
    match name {
        "null" => NULL,
        "boolean" => TRUE | FALSE,
        "integer" | "number" => NUMBER,
        "string" => STRING,
        "array" => ARRAY,
        "object" => OBJECT,
        _ => ALL,
    }
}

fn options(keyword: &'static str, list: &[Value], value: &Value) -> Options {
    let kinds = list.iter().fold(0, |kinds, v| {
        kinds
            | match v {
                Value::Null => NULL,
                Value::Bool(true) => TRUE,
                Value::Bool(false) => FALSE,
                Value::Number(_) => NUMBER,
                Value::String(_) => STRING,
                Value::Array(_) => ARRAY,
                Value::Object(_) => OBJECT,
            }
    });
    Options {
        keyword,
        value: if keyword == "const" { value.clone() } else { Value::Array(list.to_vec()) },
        kinds,
        strings: list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        numbers: list.iter().filter_map(Value::as_f64).collect(),
    }
}
