//! Checks of an answer: pure functions from a completion and its request to findings.
//!
//! Takes a [`Completion`](types::Completion) and the [`ChatRequest`] it answers, gives a
//! [`Report`](types::Report) per check and one combined verdict ([`run`]); a [`Watch`] runs those checks that
//! can on the text while it grows; [`fix`] mends an answer locally. It never calls a model, reads a clock or
//! does I/O: whatever needs a model is a node of a workflow. The only crate that knows the JSON Schema engine.
//!
//! A check that panics or cannot decide says `unverified`; that is never taken for "passed".
//!
//! A validator is one file, with a `const ENTRY`, and one line in `REGISTRY`.

use serde_json::Value;
use std::sync::Arc;
use types::ChatRequest;
use types::run::Severity;

mod address;
mod check;
mod citations;
mod code_parse;
mod completeness;
mod contract;
mod contradiction;
mod detect;
mod diff;
mod exact;
mod finding;
mod finish_reason;
pub mod fix;
mod grounding;
mod growing;
mod head;
mod injection;
mod json;
mod json_schema;
mod keyed;
mod keywords;
mod language;
mod length;
mod lenient;
mod markdown;
mod metered;
mod named;
mod numbers;
mod params;
mod parts;
mod passages;
mod pattern;
mod pii;
mod prefix;
mod refusal;
mod regex;
mod run;
mod scan;
mod schema;
mod secrets;
mod shape;
mod similarity;
mod snippets;
mod sources;
pub mod test_output;
#[cfg(test)]
mod testing;
mod text;
mod tool_args;
mod urls;
mod weight;

pub use check::{About, Check, Input, Kind, Promise, Reference, Values};
pub use detect::{check_pattern, detector, detector_with, is_ready as detector_is_ready};
pub use growing::{Growing, Step, Watch};
pub use keyed::{Keys, NOT_CHECKED, OnFail, keyed};
pub use params::Problem;
pub use pii::Entity;
pub use run::{Checked, one, run, run_until_failed};
pub use snippets::{Snippet, snippets};
pub use tool_args::stranger;
pub use weight::together;

/// Most findings kept per completion.
pub const MAX_FINDINGS: usize = 50;
/// Most characters of the answer in one message.
pub const MAX_EXCERPT: usize = 200;

/// Every validator, once, in the order of the documentation.
const REGISTRY: &[Entry] = &[
    contract::ENTRY,
    json::ENTRY,
    json_schema::ENTRY,
    tool_args::ENTRY,
    finish_reason::ENTRY,
    finish_reason::NOT_TRUNCATED,
    length::ENTRY,
    regex::ENTRY,
    keywords::ENTRY,
    language::ENTRY,
    refusal::ENTRY,
    pii::ENTRY,
    secrets::ENTRY,
    urls::ENTRY,
    code_parse::ENTRY,
    diff::ENTRY,
    markdown::ENTRY,
    shape::ENTRY,
    citations::ENTRY,
    grounding::ENTRY,
    numbers::ENTRY,
    contradiction::ENTRY,
    completeness::ENTRY,
    similarity::ENTRY,
];

/// Builds one kind of check.
type Builder = fn(&Value, Severity) -> Result<Arc<dyn Check>, Problem>;

/// A validator as it stands in the list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name in files.
    pub name: &'static str,
    /// One phrase on what it checks.
    pub about: &'static str,
    /// Whether it judges form or meaning.
    pub kind: Kind,
    /// What it promises on growing text, as the documentation words it: `window`, `head(300)`, `early`, `end`.
    pub stream: &'static str,
    /// What its findings mean where the file says nothing.
    pub severity: Severity,
    /// Builds it from its parameters and the severity that holds.
    build: Builder,
}

/// Names that [`build`] knows, in the order of the documentation.
pub const NAMES: &[&str] = &names();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler: out of range would not compile")]
const fn names() -> [&'static str; REGISTRY.len()] {
    let mut names = [""; REGISTRY.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = REGISTRY[i].name;
        i += 1;
    }
    names
}

/// Every validator, for documentation.
#[must_use]
pub fn entries() -> &'static [Entry] {
    REGISTRY
}

/// One sentence on what the named validator checks; `None` for an unknown name.
#[must_use]
pub fn about(name: &str) -> Option<&'static str> {
    REGISTRY.iter().find(|e| e.name == name).map(|e| e.about)
}

/// Builds a check. `with` is an object of parameters or null; `severity` outranks the validator's own.
///
/// # Errors
/// An unknown name, an unknown parameter or a wrong value, with what would have been right.
pub fn build(name: &str, with: &Value, severity: Option<Severity>) -> Result<Arc<dyn Check>, Problem> {
    match REGISTRY.iter().find(|e| e.name == name) {
        Some(entry) => (entry.build)(with, severity.unwrap_or(entry.severity)),
        None => Err(Problem {
            field: "use".to_owned(),
            message: format!(
                "`{name}` is not a validator; {}",
                types::diagnostic::suggestion(name, NAMES.iter().copied())
            ),
            expected: format!("one of {}", NAMES.join(", ")),
            known: Vec::new(),
        }),
    }
}

/// The names of the parameters that the named validator takes; none for an unknown name.
#[must_use]
pub fn parameters(name: &str) -> Vec<String> {
    // A validator knows its parameters only while it reads them, so it is given one that none has.
    let strange = serde_json::json!({"?": true});
    build(name, &strange, None).err().map(|p| p.known).unwrap_or_default()
}

/// What makes a request's contract one that no answer can meet: a schema that is none. The field with dots,
/// and what is wrong with it.
#[must_use]
pub fn impossible(request: &ChatRequest) -> Option<(String, String)> {
    let why = schema::compiled(json_schema::asked(request)?).err()?;
    Some(("response_format.json_schema.schema".to_owned(), why.to_string()))
}

/// The checks that a request implies by the form of answer it asks for; none for prose.
#[must_use]
pub fn contract(request: &ChatRequest) -> Vec<Arc<dyn Check>> {
    contract::checks(request, Severity::Repair)
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_registry_has_unique_documented_names() {
        for e in REGISTRY {
            assert!(!e.about.is_empty() && !e.stream.is_empty(), "{}", e.name);
            assert_eq!(NAMES.iter().filter(|n| **n == e.name).count(), 1, "{}", e.name);
        }
        for name in ["json", "tool_args", "finish_reason", "not_truncated", "refusal", "contract"] {
            assert_eq!(build(name, &Value::Null, None).unwrap().name(), name);
        }
    }

    #[test]
    fn the_guide_lists_all() {
        let guide = include_str!("../../docs/workflows.md");
        let listed = |name: &str| {
            guide.lines().any(|l| l.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))))
        };
        let missing: Vec<_> = NAMES.iter().filter(|n| !listed(n)).collect();
        assert!(missing.is_empty(), "not in docs/workflows.md: {missing:?}");
    }

    #[test]
    fn unknown_names_and_parameters_name_their_neighbours() {
        let p = build("jsn_schema", &Value::Null, None).unwrap_err();
        assert!(p.message.contains("did you mean `json_schema`"), "{}", p.message);
        let p = refused("json", &json!({"alow_fence": true}));
        assert_eq!(p.field, "alow_fence");
        assert!(p.message.contains("did you mean `allow_fence`"), "{}", p.message);
    }
}
