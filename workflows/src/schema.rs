//! JSON Schemas of values: inputs of a workflow, arguments of a tool.

use serde_json::{Value as Json, json};
use std::sync::{Arc, OnceLock};
use types::completion::{Choice, Completion};
use types::run::Severity;
use types::{ChatRequest, Finding, Report};
use validators::Check;

/// A compiled schema.
#[derive(Clone, Debug)]
pub(crate) struct Schema(Arc<dyn Check>);

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn new(schema: &Json) -> Result<Self, String> {
        let check = validators::build("json_schema", &json!({"schema": schema}), Some(Severity::Repair));
        check.map(Schema).map_err(|p| p.message)
    }

    /// Whether a value fits.
    ///
    /// # Errors
    /// The first thing that does not, and where.
    pub(crate) fn check(&self, value: &Json) -> Result<(), String> {
        let Some(report) = self.report(value) else { return Err("the schema cannot be used".to_owned()) };
        match report.findings.first() {
            Some(f) => Err(match f.path.as_deref().filter(|p| !p.is_empty()) {
                Some(path) => format!("{} at {path}", f.message),
                None => f.message.clone(),
            }),
            None => report.reason.map_or(Ok(()), Err),
        }
    }

    /// What does not fit, one finding for each place.
    pub(crate) fn findings(&self, value: &Json) -> Vec<Finding> {
        self.report(value).map(|report| report.findings).unwrap_or_default()
    }

    fn report(&self, value: &Json) -> Option<Report> {
        let choice = Choice { text: value.to_string(), ..Choice::default() };
        let completion = Completion { choices: vec![choice], ..Completion::default() };
        // The schema stands in the check itself; nothing of the request matters.
        Some(self.0.check(&validators::Input::new(&completion, nobody()?)))
    }
}

/// Whether a JSON value is a schema that the arguments of tools can be held to.
///
/// # Errors
/// Why not.
pub fn check_schema(schema: &Json) -> Result<(), String> {
    Schema::new(schema).map(|_| ())
}

/// A request that asks for nothing.
fn nobody() -> Option<&'static ChatRequest> {
    static REQUEST: OnceLock<Option<ChatRequest>> = OnceLock::new();
    let body = || json!({"model": "auto", "messages": [{"role": "user", "content": ""}]});
    REQUEST.get_or_init(|| ChatRequest::from_value(&body()).ok()).as_ref()
}
