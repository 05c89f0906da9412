//! The served OpenAPI document as a source of tests: what fits its schemas, what does not, and values that do not.

use serde_json::{Map, Value, json};

/// A document.
pub struct Document(pub Value);

/// One operation of it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// In capitals.
    pub method: String,
    /// As the document writes it, after `/admin/v1`.
    pub path: String,
    /// Its name for clients that are made from the document.
    pub id: String,
    /// The command that does the same.
    pub command: String,
    /// Parameters of its query, with their schemas.
    pub query: Vec<(String, Value)>,
    /// Whether it takes no empty body.
    pub needs_body: bool,
    /// What it needs, in words.
    pub needs: String,
    /// Name of the schema of its body; empty = it takes none.
    pub takes: String,
    /// Name of the schema of its answer.
    pub gives: String,
    /// Statuses of answers when all is well.
    pub statuses: Vec<u16>,
}

fn reference(content: &Value) -> String {
    let name = content["content"]["application/json"]["schema"]["$ref"].as_str().unwrap_or("");
    name.rsplit('/').next().unwrap_or("").to_owned()
}

/// Parameters of the query of an operation.
fn query(op: &Value) -> Vec<(String, Value)> {
    let all = op["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
    all.map(|p| (p["name"].as_str().unwrap().to_owned(), p["schema"].clone())).collect()
}

/// Values of a parameter that its schema does not admit.
#[must_use]
pub fn wrong_words(schema: &Value) -> Vec<String> {
    let mut all: Vec<String> = match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("integer"), _) => vec!["x".to_owned(), "1.5".to_owned()],
        (Some("boolean"), _) => vec!["yes".to_owned(), "1".to_owned()],
        (Some("string"), Some("date")) => vec!["yesterday".to_owned(), "2026-13-01".to_owned()],
        _ if schema["enum"].is_array() => vec!["no_such_thing".to_owned()],
        _ => Vec::new(),
    };
    all.extend(schema["minimum"].as_i64().map(|least| (least - 1).to_string()));
    all.extend(schema["maximum"].as_i64().map(|most| (most + 1).to_string()));
    all
}

impl Document {
    /// Every operation.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for (path, methods) in self.0["paths"].as_object().unwrap() {
            for (method, op) in methods.as_object().unwrap() {
                let responses = op["responses"].as_object().unwrap();
                let statuses: Vec<u16> = responses.keys().filter_map(|s| s.parse().ok()).collect();
                all.push(Operation {
                    method: method.to_uppercase(),
                    path: path.trim_start_matches("/admin/v1").to_owned(),
                    id: op["operationId"].as_str().unwrap().to_owned(),
                    command: op["x-command"].as_str().unwrap().to_owned(),
                    query: query(op),
                    needs_body: op["requestBody"]["required"] == true,
                    needs: op["description"].as_str().unwrap().to_owned(),
                    takes: reference(&op["requestBody"]),
                    gives: reference(&responses[&statuses[0].to_string()]),
                    statuses,
                });
            }
        }
        all
    }

    /// The schema of that name.
    #[must_use]
    pub fn schema(&self, name: &str) -> &Value {
        let found = &self.0["components"]["schemas"][name];
        assert!(found.is_object(), "there is no schema {name}");
        found
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        schema["$ref"].as_str().map_or(schema, |r| self.schema(r.rsplit('/').next().unwrap()))
    }

    /// What of a value does not fit a schema; empty = it fits.
    #[must_use]
    pub fn misfits(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        let mut all = Vec::new();
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|t| is(t, value)) {
            all.push(format!("{at}: {value} is no {types:?}"));
        }
        if let Some(list) = schema["enum"].as_array()
            && !list.contains(value)
        {
            all.push(format!("{at}: {value} is none of {list:?}"));
        }
        if schema.get("const").is_some_and(|c| c != value) {
            all.push(format!("{at}: {value} is not {}", schema["const"]));
        }
        if let Some(members) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !members.contains_key(name.as_str().unwrap()) {
                    all.push(format!("{at}: {name} is missing"));
                }
            }
            for (name, v) in members {
                let at = format!("{at}/{name}");
                match schema["properties"].get(name) {
                    Some(s) => all.extend(self.misfits(s, v, &at)),
                    None if schema["additionalProperties"] == json!(false) => {
                        all.push(format!("{at}: not in the document"));
                    }
                    None if schema["additionalProperties"].is_object() => {
                        all.extend(self.misfits(&schema["additionalProperties"], v, &at));
                    }
                    None => {}
                }
            }
        }
        let few = value.as_array().zip(schema["minItems"].as_u64());
        if let Some((list, least)) = few.filter(|(list, least)| (list.len() as u64) < *least) {
            all.push(format!("{at}: {} entries, not {least}", list.len()));
        }
        for (i, v) in value.as_array().into_iter().flatten().enumerate() {
            all.extend(self.misfits(&schema["items"], v, &format!("{at}/{i}")));
        }
        all
    }

    /// Values that a schema does not admit, each with what is wrong with it.
    #[must_use]
    pub fn wrong(&self, schema: &Value) -> Vec<(String, Value)> {
        let schema = self.resolve(schema);
        let mut all = Vec::new();
        for (name, value) in [
            ("null", Value::Null),
            ("a boolean", json!(true)),
            ("a number", json!(7.5)),
            ("a text", json!("no such thing, \u{202e} ünïcode")),
            ("a list", json!([[]])),
            ("an object", json!({"a": {}})),
        ] {
            if !self.misfits(schema, &value, "").is_empty() {
                all.push((name.to_owned(), value));
            }
        }
        let limit = |name: &str| schema[name].as_f64();
        let whole = schema["type"] == "integer"
            || schema["type"].as_array().is_some_and(|t| t.contains(&json!("integer")));
        if let Some(least) = limit("minimum").or_else(|| limit("exclusiveMinimum")) {
            all.push((
                "too small".to_owned(),
                if whole { json!(least as i64 - 1) } else { json!(least - 1.0) },
            ));
        }
        if let Some(most) = limit("maximum") {
            all.push(("too large".to_owned(), json!(most as i64 + 1)));
        }
        if let Some(most) = limit("maxLength") {
            all.push(("too long".to_owned(), json!("x".repeat(most as usize + 1))));
        }
        if let Some(least) = limit("minLength") {
            all.push(("too short".to_owned(), json!("x".repeat(least as usize - 1))));
        }
        if schema["items"].is_object() {
            let item = self.good(&schema["items"]);
            if limit("minItems").is_some_and(|least| least > 0.0) {
                all.push(("too few".to_owned(), json!([])));
            }
            if let Some(most) = limit("maxItems") {
                all.push(("too many".to_owned(), Value::Array(vec![item; most as usize + 1])));
            }
            let of_item = self.wrong(&schema["items"]);
            all.extend(of_item.into_iter().map(|(n, v)| (format!("{n} in the list"), json!([v]))));
        }
        if let Some(most) = limit("maxProperties") {
            let many: Map<String, Value> =
                (0..=most as usize).map(|i| (format!("l{i}"), json!("x"))).collect();
            all.push(("too many members".to_owned(), Value::Object(many)));
        }
        if schema["additionalProperties"].is_object() {
            let of_value = self.wrong(&schema["additionalProperties"]);
            all.extend(of_value.into_iter().map(|(n, v)| (format!("{n} as a member"), json!({"team": v}))));
        }
        if schema["properties"].is_object() {
            all.extend(self.wrong_objects(schema));
        }
        all
    }

    fn wrong_objects(&self, schema: &Value) -> Vec<(String, Value)> {
        let good = self.good(schema);
        let mut all = Vec::new();
        let mut with = |what: String, name: &str, value: Option<Value>| {
            let mut body = good.clone();
            let members = body.as_object_mut().unwrap();
            match value {
                Some(v) => members.insert(name.to_owned(), v),
                None => members.remove(name),
            };
            all.push((what, body));
        };
        with("an unknown member".to_owned(), "no_such_member", Some(json!(1)));
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            with(format!("`{name}` missing"), name, None);
        }
        for (name, s) in schema["properties"].as_object().unwrap() {
            for (what, value) in self.wrong(s) {
                with(format!("`{name}`: {what}"), name, Some(value));
            }
        }
        all
    }

    /// A value that a schema admits, with no more than it asks for.
    #[must_use]
    pub fn good(&self, schema: &Value) -> Value {
        let schema = self.resolve(schema);
        if let Some(first) = schema["enum"].as_array().and_then(|l| l.first()) {
            return first.clone();
        }
        if let Some(example) = schema.get("example") {
            return example.clone();
        }
        match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
            Some("object") => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                Value::Object(required.map(|n| (n.to_owned(), self.good(&schema["properties"][n]))).collect())
            }
            Some("array") => json!([]),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(false),
            _ => json!("x"),
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}
