//! Checks outside the process: what is asked, and the answer as a check among the others.

use crate::load::{Outside, What};
use crate::run::At;
use serde_json::{Map, Value, json};
use std::time::Duration;
use types::chat::Role;
use types::run::Severity;
use types::{ChatRequest, Finding, Report, Verdict};
use validators::{About, Check, Input, Keys, MAX_EXCERPT, MAX_FINDINGS, snippets};

/// A check with everything that it is asked with.
pub(super) struct Prepared {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) with: Value,
    pub(super) timeout: Option<Duration>,
    pub(super) keys: Keys,
}

/// Resolves what a check refers to.
pub(super) fn prepare(o: &Outside, at: &At<'_>) -> Prepared {
    let request = &at.host.input.request;
    let with = match &o.what {
        What::Http { url } => json!({"url": url, "question": last_user(request)}),
        What::Script { name } => json!({"name": name}),
        What::CodeTests { language, tests, cpu, memory } => {
            let mut with = Map::new();
            let (found, by_tests) = match tests {
                Some(r) => (given(&at.value(r).json(&at.host.table())), None),
                None => in_request(request, language.as_deref()),
            };
            with.insert("tests".to_owned(), json!(found));
            if let Some(l) = language.clone().or(by_tests) {
                with.insert("language".to_owned(), l.into());
            }
            with.extend(cpu.map(|d| ("cpu_ms".to_owned(), json!(d.as_millis() as u64))));
            with.extend(memory.map(|m| ("memory".to_owned(), json!(m))));
            Value::Object(with)
        }
    };
    Prepared { name: o.what.name(), severity: o.severity, with, timeout: o.timeout, keys: o.keys.clone() }
}

fn last_user(request: &ChatRequest) -> String {
    request.last_user().map(|m| m.content.text().into_owned()).unwrap_or_default()
}

/// Tests of a value: a text (its blocks of code, if it has any), files as `{name, text}`, or a list of those.
fn given(value: &Value) -> Vec<Value> {
    match value {
        Value::String(text) => {
            let blocks = snippets(text);
            let texts = blocks.into_iter().map(|s| json!({"text": s.text})).collect::<Vec<_>>();
            if texts.is_empty() && !text.trim().is_empty() { vec![json!({"text": text})] } else { texts }
        }
        Value::Array(list) => list.iter().flat_map(given).collect(),
        Value::Object(file) if file.get("text").is_some_and(Value::is_string) => {
            vec![json!({"name": file.get("name").and_then(Value::as_str), "text": file.get("text")})]
        }
        _ => Vec::new(),
    }
}

/// Words by which a block of code is known for tests.
const TESTS: &[&str] = &[
    "assert",
    "unittest",
    "pytest",
    "def test_",
    "node:test",
    "expect(",
    "#[test]",
    "func Test",
    "@Test",
    "exit 1",
];

/// The tests that stand in the request: the blocks of code of its user's messages that look like tests, in
/// one language; and that language.
fn in_request(request: &ChatRequest, language: Option<&str>) -> (Vec<Value>, Option<String>) {
    let users = request.messages.iter().filter(|m| m.role == Role::User);
    let blocks = users.flat_map(|m| snippets(&m.content.text()));
    let tests: Vec<_> = blocks.filter(|b| TESTS.iter().any(|w| b.text.contains(w))).collect();
    let chosen = language.map(str::to_owned).or_else(|| tests.iter().find_map(|t| t.language.clone()));
    let fits = |t: &&validators::Snippet| language.is_some() || t.language.is_none() || t.language == chosen;
    let texts = tests.iter().filter(fits).map(|t| json!({"text": t.text})).collect();
    (texts, chosen)
}

/// What a check outside said, as one of the checks of an answer.
#[derive(Debug)]
pub(super) struct Told {
    name: &'static str,
    severity: Severity,
    report: Report,
}

impl Told {
    /// Findings speak in the name of the check and with the severity that the file gives it, are few and
    /// short, and a failure without one gets one.
    pub(super) fn new(o: &Prepared, mut report: Report) -> Self {
        let reason = report.reason.clone().unwrap_or_else(|| "the check failed".to_owned());
        if report.verdict == Verdict::Failed && report.findings.is_empty() {
            report.findings.push(Finding {
                validator: String::new(),
                code: "failed".to_owned(),
                severity: o.severity,
                path: None,
                span: None,
                message: reason,
                expected: None,
                actual: None,
                hint: None,
            });
        }
        if report.verdict != Verdict::Failed {
            report.findings.retain(|f| f.severity == Severity::Warn);
        }
        report.findings.truncate(MAX_FINDINGS);
        for f in &mut report.findings {
            f.validator = o.name.to_owned();
            // What a script calls a hint stays one; other checks know of no severities.
            let hint = o.name == "script" && f.severity == Severity::Warn;
            let fails = report.verdict == Verdict::Failed && !hint;
            f.severity = if fails { o.severity } else { Severity::Warn };
            if f.message.chars().count() > MAX_EXCERPT {
                f.message = f.message.chars().take(MAX_EXCERPT).collect();
            }
        }
        Told { name: o.name, severity: o.severity, report }
    }
}

impl Check for Told {
    fn about(&self) -> About {
        About::semantic(self.name, self.severity)
    }

    fn check(&self, _: &Input<'_>) -> Report {
        self.report.clone()
    }
}
