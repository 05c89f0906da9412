//! JSON Schemas as files give them: written in place, or in a file of their own in `schemas/` beside the workflow.

use super::Cx;
use crate::schema::Schema;
use serde_json::Value as Json;
use std::sync::Arc;
use types::diagnostic::suggestion;
use types::doc::{self, MAX_BYTES, Node, SourceFile};

/// Begins the name of a file that a schema stands in.
const FILE: &str = "file:";
/// The folder of such files, beside the workflows.
const FOLDER: &str = "schemas/";

/// Whether a file is a schema that workflows name, and no workflow.
#[must_use]
pub fn is_schema(file: &SourceFile) -> bool {
    file.path.ends_with(".json")
}

/// A schema, compiled once to know that it is one.
pub(crate) struct Found {
    pub(crate) value: Arc<Json>,
    pub(crate) compiled: Schema,
}

/// Whether a text names a file rather than being one of the words of its key.
pub(crate) fn names_file(n: &Node) -> bool {
    n.as_str().is_some_and(|s| s.starts_with(FILE))
}

impl Cx<'_> {
    /// A schema: a map, or `file:schemas/<name>.json`. `None` where it is none, which is then a problem.
    pub(crate) fn schema(&mut self, n: &Node, path: &str) -> Option<Found> {
        let (value, code) = match (&n.value, n.as_str().and_then(|s| s.strip_prefix(FILE))) {
            (doc::Value::Map(_), _) => (n.to_json(), "104"),
            (_, Some(name)) => match self.schema_file(name) {
                Ok(value) => (value, "207"),
                Err((message, hint)) => {
                    let d = self.r.error("207", n.span, message);
                    path.clone_into(&mut d.field);
                    d.hint = hint;
                    return None;
                }
            },
            _ => {
                self.r.wrong_type(n, path, "a JSON Schema, or `file:schemas/<name>.json`");
                return None;
            }
        };
        match Schema::new(&value) {
            Ok(compiled) => Some(Found { value: Arc::new(value), compiled }),
            Err(why) => {
                let of = n.as_str().map(|s| format!("`{s}`: ")).unwrap_or_default();
                let d = self.r.error(code, n.span, format!("{of}{why}"));
                d.expected = Some("a valid JSON Schema".to_owned());
                path.clone_into(&mut d.field);
                None
            }
        }
    }

    /// What stands in a file, by its path from the folder of the workflows; else what is wrong, and a hint.
    fn schema_file(&self, name: &str) -> Result<Json, (String, Option<String>)> {
        let plain = name.trim().trim_start_matches("./");
        let known: Vec<String> = self.schemas.iter().map(|f| key(f)).collect();
        // The last of equal names counts, as with workflows.
        let found = self.schemas.iter().rev().find(|f| key(f) == plain);
        let Some(file) = found else {
            let there = plain.strip_prefix(FOLDER).is_some_and(|rest| !rest.contains('/'));
            let hint = match (there, known.is_empty()) {
                (true, false) => suggestion(plain, known.iter().map(String::as_str)),
                (true, true) => "there is no file in workflows/schemas".to_owned(),
                (false, _) => format!(
                    "schemas stand in the folder `schemas` beside the workflow: `file:{FOLDER}{}`",
                    plain.rsplit('/').next().unwrap_or(plain)
                ),
            };
            return Err((format!("there is no schema file `{plain}`"), Some(hint)));
        };
        let bytes = file.text.len();
        if bytes > MAX_BYTES {
            return Err((format!("`{plain}` holds {bytes} bytes; at most {MAX_BYTES} are allowed"), None));
        }
        let value: Json = serde_json::from_str(&file.text).map_err(|e| {
            (
                format!("`{plain}` is no JSON: {e}"),
                Some(format!("mend {}:{}:{}", file.path, e.line(), e.column())),
            )
        })?;
        if !value.is_object() {
            let hint = "write it as an object, such as {\"type\": \"object\"}".to_owned();
            return Err((format!("`{plain}` is JSON, but no schema: it holds no object"), Some(hint)));
        }
        Ok(value)
    }
}

/// The path of a schema's file from the folder of the workflows.
fn key(file: &SourceFile) -> String {
    format!("{FOLDER}{}", file.path.rsplit('/').next().unwrap_or(&file.path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::load_all;

    /// The problems of a workflow whose schema is `named`, beside these files.
    fn check(named: &str, files: &[(&str, &str)], want: &[&str]) {
        let places = [
            "nodes:\n  - id: a\n    type: generate\n    response: { format: json_schema, schema: NAMED }\noutput: nodes.a.completion\n",
            "inputs:\n  person:\n    schema: NAMED\nnodes:\n  - { id: a, type: generate }\noutput: nodes.a.completion\n",
            "nodes:\n  - { id: a, type: generate }\n  - id: c\n    type: validate\n    validators:\n      - { use: json_schema, with: { schema: NAMED } }\n  - { id: s, type: stream, from: nodes.c.best }\nedges:\n  - { from: a, to: c }\n  - { from: c, to: s }\n",
        ];
        for place in places {
            let text = format!("version: 1\nname: w\n{}", place.replace("NAMED", named));
            let mut all = vec![SourceFile::new("c/workflows/w.yaml", text.as_str())];
            all.extend(files.iter().map(|(p, t)| SourceFile::new(*p, *t)));
            let (library, problems) = load_all(&all);
            assert_eq!(library.get("w").is_some(), want.is_empty(), "{problems:?}");
            let told: Vec<String> = problems.iter().map(|d| format!("{d:?}")).collect();
            assert_eq!(problems.len(), usize::from(!want.is_empty()), "{told:?}");
            for d in &problems {
                let at = text.find(named).unwrap();
                let line = text[..at].matches('\n').count() + 1;
                assert_eq!((&*d.code, d.line, d.range.start), ("WF207", line, at), "{d:?}");
                assert!(want.iter().all(|w| told[0].contains(w)), "{want:?} in {told:?}");
            }
        }
    }

    const PERSON: (&str, &str) = ("c/workflows/schemas/person.json", r#"{"type": "object"}"#);

    #[test]
    fn a_schema_may_stand_in_a_file_of_its_own() {
        check("file:schemas/person.json", &[PERSON], &[]);
        check("file:./schemas/person.json", &[PERSON], &[]);
        check(
            "file:schemas/persn.json",
            &[PERSON],
            &["no schema file", "did you mean `schemas/person.json`?"],
        );
        check("file:schemas/person.json", &[], &["there is no file in workflows/schemas"]);
        check("file:person.json", &[PERSON], &["`file:schemas/person.json`"]);
        check("file:/etc/schemas/person.json", &[PERSON], &["`file:schemas/person.json`"]);
        check("file:../schemas/person.json", &[PERSON], &["stand in the folder"]);
        check("file:schemas/../schemas/person.json", &[PERSON], &["stand in the folder"]);
    }

    #[test]
    fn a_file_that_is_no_schema_is_told_with_the_reason() {
        let bad = |text| [("c/workflows/schemas/s.json", text)];
        let named = "file:schemas/s.json";
        check(
            named,
            &bad("{\n  \"type\" 3}"),
            &["is no JSON", "line 2 column 10", "mend c/workflows/schemas/s.json:2:10"],
        );
        check(named, &bad(""), &["is no JSON"]);
        check(named, &bad("[]"), &["holds no object"]);
        check(named, &bad(r#"{"type": 3}"#), &["`file:schemas/s.json`: ", "a valid JSON Schema"]);
        check(named, &bad(r#"{"$ref": "other.json"}"#), &["nothing is fetched"]);
    }

    #[test]
    fn what_stands_in_the_file_is_part_of_the_plan() {
        let hash = |schema: &str| {
            let text = "version: 1\nname: w\ninputs:\n  p: { schema: \"file:schemas/p.json\" }\nnodes:\n  - id: a\n    type: generate\noutput: nodes.a.completion\n";
            let files = [SourceFile::new("w.yaml", text), SourceFile::new("schemas/p.json", schema)];
            load_all(&files).0.get("w").unwrap().plan_hash.clone()
        };
        assert_eq!(hash(r#"{"type": "object"}"#), hash(r#" { "type":"object" } "#), "layout is no meaning");
        assert_ne!(hash(r#"{"type": "object"}"#), hash(r#"{"type": "array"}"#));
    }
}
