//! `json_schema`: the text of every choice is one JSON value that fits a schema.

use crate::finding::{nothing, unverified};
use crate::json::{each_text, parse};
use crate::params::{Params, Problem};
use crate::prefix::Prefix;
use crate::schema::{Draft, compiled_as};
use crate::{About, Check, Entry, Growing, Input, Kind, MAX_FINDINGS, Promise};
use serde_json::Value;
use std::sync::Arc;
use types::chat::ResponseFormat;
use types::run::Severity;
use types::{ChatRequest, Report, Verdict};

const NAME: &str = "json_schema";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the text is one JSON value that fits a schema",
    kind: Kind::Structural,
    stream: "early",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct JsonSchema {
    severity: Severity,
    /// `None`: the schema in the request's `response_format`.
    schema: Option<Arc<Value>>,
    /// `None`: what the schema says of itself, else the newest.
    draft: Option<Draft>,
}

/// The drafts of JSON Schema, by their names in files.
const DRAFTS: &[(&str, Option<Draft>)] = &[
    ("auto", None),
    ("4", Some(Draft::Draft4)),
    ("6", Some(Draft::Draft6)),
    ("7", Some(Draft::Draft7)),
    ("2019-09", Some(Draft::Draft201909)),
    ("2020-12", Some(Draft::Draft202012)),
];

/// Parameters: `schema`, an inline JSON Schema or `request` (default): the one in the request's
/// `response_format`, and nothing to check where there is none. `drafts`: `auto` (default: what `$schema`
/// says, else 2020-12) or the draft that holds whatever the schema says.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    const EXPECTED: &str =
        "a JSON Schema (a map, true or false), `file:schemas/<name>.json` in a workflow, or `request`";
    let params = Params::new(with, &["schema", "drafts"])?;
    let draft = draft(&params)?;
    let schema = match params.get("schema") {
        None => None,
        Some(Value::String(s)) if s == "request" => None,
        Some(v @ (Value::Object(_) | Value::Bool(_))) => {
            if let Err(why) = compiled_as(v, draft) {
                return Err(Problem::new("schema", why.as_ref(), "a valid JSON Schema"));
            }
            Some(Arc::new(v.clone()))
        }
        Some(v) => {
            return Err(Problem::new("schema", format!("is {}", crate::params::kind(v)), EXPECTED));
        }
    };
    Ok(Arc::new(JsonSchema { severity, schema, draft }))
}

fn draft(params: &Params<'_>) -> Result<Option<Draft>, Problem> {
    let names: Vec<&'static str> = DRAFTS.iter().map(|(name, _)| *name).collect();
    // `4` is a number in YAML, and meant as well as `"4"`.
    let number = params.get("drafts").filter(|v| v.is_u64()).map(Value::to_string);
    let name = match number {
        Some(n) => names.iter().find(|k| **k == n).copied().ok_or_else(|| {
            Problem::new("drafts", format!("is {n}"), format!("one of {}", names.join(", ")))
        })?,
        None => params.word("drafts", &names)?.unwrap_or("auto"),
    };
    Ok(DRAFTS.iter().find(|(n, _)| *n == name).and_then(|(_, draft)| *draft))
}

/// The check of the request's own schema.
pub(crate) fn of_request(severity: Severity) -> Arc<dyn Check> {
    Arc::new(JsonSchema { severity, schema: None, draft: None })
}

/// The schema that a request asks the answer to fit.
pub(crate) fn asked(request: &ChatRequest) -> Option<&Arc<Value>> {
    match &request.response_format {
        ResponseFormat::JsonSchema { schema, .. } => Some(schema),
        _ => None,
    }
}

impl Check for JsonSchema {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn applies(&self, request: &ChatRequest) -> bool {
        self.schema.is_some() || asked(request).is_some()
    }

    fn schema(&self, request: &ChatRequest) -> Option<Arc<Value>> {
        self.schema.as_ref().or_else(|| asked(request)).cloned()
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        Promise::Early
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        let schema = compiled_as(self.schema.as_ref().or_else(|| asked(request))?, self.draft).ok()?;
        Some(Box::new(Prefix::fitting(NAME, self.severity, schema.nodes.clone())))
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let Some(schema) = self.schema.as_ref().or_else(|| asked(input.request)) else { return nothing() };
        let schema = match compiled_as(schema, self.draft) {
            Ok(schema) => schema,
            Err(why) => return unverified(why.as_ref()),
        };
        let mut unchecked = None;
        let report = each_text(input, |choice, position, of| {
            let value = match parse(NAME, self.severity, choice, &choice.text) {
                Ok(value) => value,
                Err(note) => return vec![note.choice(position, of).into_finding()],
            };
            match schema.violations(&value, NAME, self.severity, MAX_FINDINGS) {
                Ok(notes) => notes.into_iter().map(|n| n.choice(position, of).into_finding()).collect(),
                Err(why) => {
                    unchecked = Some(why);
                    Vec::new()
                }
            }
        });
        match unchecked {
            Some(why) if report.verdict == Verdict::Passed => unverified(why),
            _ => report,
        }
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::testing::*;
    use crate::{Input, build};
    use serde_json::{Value, json};

    fn person() -> Value {
        json!({"type": "object", "required": ["name", "age"], "additionalProperties": false,
               "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}})
    }

    fn asking(schema: Value) -> types::ChatRequest {
        request(
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}}),
        )
    }

    fn check(text: &str, want: &[&str]) {
        let by_request =
            codes("json_schema", &json!({"schema": "request"}), &asking(person()), &answer(text));
        let inline = codes("json_schema", &json!({"schema": person()}), &request(json!({})), &answer(text));
        assert_eq!(by_request, want, "{text}");
        assert_eq!(inline, want, "{text}");
    }

    #[test]
    fn one_finding_per_place() {
        check("{\"name\": \"Ada\", \"age\": 36}", &[]);
        check("{\"name\": \"Ada\", \"age\": \"36\"}", &["type"]);
        check("{\"name\": 1, \"age\": \"36\"}", &["type", "type"]);
        check("{\"name\": \"Ada\"}", &["required"]);
        check("{\"name\": \"Ada\", \"age\": 1, \"x\": 1}", &["additionalProperties"]);
        check("```json\n{}\n```", &["not_json"]);
        check("nonsense", &["not_json"]);
    }

    #[test]
    fn findings_name_the_place_and_what_was_expected() {
        let r = asking(person());
        let report = build("json_schema", &Value::Null, None)
            .unwrap()
            .check(&Input::new(&answer("{\"name\": \"Ada\", \"age\": \"36\"}"), &r));
        let f = &report.findings[0];
        assert_eq!(f.path.as_deref(), Some("/age"));
        assert_eq!(f.expected, Some(json!("integer")));
        assert_eq!(f.actual, Some(json!("36")));
        assert!(!f.message.contains("36"), "{}", f.message);
    }

    #[test]
    fn without_a_usable_schema_nothing_is_claimed() {
        let none = codes("json_schema", &Value::Null, &request(json!({})), &answer("x"));
        assert_eq!(none, ["none"]);
        let bad = asking(json!({"$ref": "https://example.com/x"}));
        assert_eq!(codes("json_schema", &Value::Null, &bad, &answer("{}")), ["unverified"]);
    }

    #[test]
    fn a_pattern_that_takes_too_long_decides_nothing() {
        let with = json!({"schema": {"pattern": "^(?:(a|aa)\\1?)+$"}});
        let text = format!("\"{}!\"", "a".repeat(60));
        assert_eq!(codes("json_schema", &with, &request(json!({})), &answer(&text)), ["unverified"]);
        assert_eq!(codes("json_schema", &with, &request(json!({})), &answer("\"aa\"")), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_schema_is_refused_when_built() {
        assert_eq!(refused("json_schema", &json!({"schema": {"type": "nope"}})).field, "schema");
        assert_eq!(refused("json_schema", &json!({"schema": "file:x.json"})).field, "schema");
        assert_eq!(refused("json_schema", &json!({"drafts": "5"})).field, "drafts");
        assert_eq!(refused("json_schema", &json!({"drafts": 5})).field, "drafts");
    }

    #[test]
    fn the_draft_decides_what_a_keyword_means() {
        let check = |drafts: Value, want: &[&str]| {
            let with = json!({"schema": {"const": 1}, "drafts": drafts});
            assert_eq!(codes("json_schema", &with, &request(json!({})), &answer("2")), want, "{drafts}");
        };
        check(json!("auto"), &["const"]);
        check(json!("6"), &["const"]);
        check(json!(7), &["const"]);
        check(json!("2019-09"), &["const"]);
        // Draft 4 knows no `const`.
        check(json!("4"), &[]);
    }
}
