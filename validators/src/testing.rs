//! Requests and answers for the tables of the checks.

use crate::{Input, build};
use serde_json::{Value, json};
use types::completion::{Choice, FinishReason};
use types::{ChatRequest, Completion, Verdict};

/// A request with these members beside model and messages.
pub(crate) fn request(extra: Value) -> ChatRequest {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
    if let (Some(b), Value::Object(e)) = (body.as_object_mut(), extra) {
        b.extend(e);
    }
    ChatRequest::from_value(&body).unwrap()
}

/// An answer of one choice that ended by itself.
pub(crate) fn answer(text: &str) -> Completion {
    Completion {
        choices: vec![Choice {
            text: text.to_owned(),
            finish_reason: Some(FinishReason::Stop),
            ..Choice::default()
        }],
        ..Completion::default()
    }
}

/// Builds the check, runs it, and gives the codes found, or `["none"]` / `["unverified"]`.
pub(crate) fn codes(name: &str, with: &Value, request: &ChatRequest, c: &Completion) -> Vec<String> {
    let check = build(name, with, None).unwrap();
    let report = check.check(&Input::new(c, request));
    match report.verdict {
        Verdict::None => vec!["none".to_owned()],
        Verdict::Unverified => vec!["unverified".to_owned()],
        _ => {
            assert_eq!(report.verdict == Verdict::Passed, report.findings.is_empty());
            report.findings.into_iter().map(|f| f.code).collect()
        }
    }
}

/// The same for a text, with values for the references of the check.
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
pub(crate) fn codes_with(name: &str, with: Value, values: &[(&str, Value)], text: &str) -> Vec<String> {
    let check = build(name, &with, None).unwrap();
    let values: crate::Values = values.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let (answer, request) = (answer(text), request(json!({})));
    let report = check.check(&Input::new(&answer, &request).with_values(&values));
    match report.verdict {
        Verdict::None => vec!["none".to_owned()],
        Verdict::Unverified => vec!["unverified".to_owned()],
        _ => report.findings.into_iter().map(|f| f.code).collect(),
    }
}

/// The field a refused configuration points at.
pub(crate) fn refused(name: &str, with: &Value) -> crate::Problem {
    build(name, with, None).err().unwrap_or_else(|| panic!("{name} took {with}"))
}
