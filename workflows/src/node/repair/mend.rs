//! The strategy `fix`: mends what can be mended without a model.

use serde_json::Value;
use std::sync::Arc;
use types::completion::{Choice, FinishReason};
use types::{ChatRequest, Completion, Finding};
use validators::{Check, fix};

/// The completion with its JSON mended, text and arguments of calls, and with what its checks know how to put
/// right, or `None` when no finding is about that or nothing changes. Whether the result passes is for the checks to say.
pub(super) fn mend(
    completion: &Completion,
    findings: &[Finding],
    checks: &[Arc<dyn Check>],
    request: &ChatRequest,
) -> Option<Completion> {
    let about = |names: &[&str]| findings.iter().any(|f| names.contains(&name_of(f, checks)));
    let mut mended = completion.clone();
    let mut changed = false;
    if about(&["json", "json_schema"]) {
        let schema = checks.iter().find_map(|c| c.schema(request));
        // Nobody knows what the rest of an answer was that ended at its limit.
        let whole = |c: &&mut Choice| c.finish_reason != Some(FinishReason::Length);
        for choice in mended.choices.iter_mut().filter(whole) {
            if let Some(text) = fix::json(&choice.text, schema.as_deref()) {
                choice.text = text;
                changed = true;
            }
        }
    }
    if about(&["tool_args"]) {
        for call in mended.choices.iter_mut().flat_map(|c| &mut c.tool_calls).filter(|c| !c.custom) {
            let tool = request.tools.iter().find(|t| t.name == call.name);
            let schema = tool.and_then(|t| t.parameters.clone());
            if let Some(arguments) = arguments(&call.arguments, schema.as_deref()) {
                call.arguments = arguments;
                changed = true;
            }
        }
    }
    for check in checks.iter().filter(|c| about(&[c.name()])) {
        for choice in &mut mended.choices {
            if let Some(text) = check.mend(&choice.text) {
                choice.text = text;
                changed = true;
            }
        }
    }
    // What came from the vendor no longer says what this completion says.
    mended.changed();
    changed.then_some(mended)
}

/// The validator that a finding is of, whatever the check is called in its list.
pub(super) fn name_of<'a>(finding: &'a Finding, checks: &'a [Arc<dyn Check>]) -> &'a str {
    let labelled = checks.iter().find(|c| c.label() == finding.validator && c.label() != c.name());
    labelled.map_or(&finding.validator, |c| c.name())
}

fn arguments(text: &str, schema: Option<&Value>) -> Option<String> {
    if text.trim().is_empty() {
        return Some("{}".to_owned());
    }
    fix::json(text, schema)
}
