//! A check with the keys of its place in a list: how much it counts, whether it must be able to say something,
//! what it is called there, and what is to be done where it fails.

use crate::check::{About, Check, Input, Promise, Reference};
use crate::finding::Note;
use crate::growing::{Growing, Step};
use serde_json::Value;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Finding, Report, Verdict};

/// Code of the finding that stands for a check which had to be made and could not be.
pub const NOT_CHECKED: &str = "not_checked";

/// What is to be done with an answer that fails a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFail {
    /// It is repaired, by a model if need be.
    #[default]
    Repair,
    /// It is mended without a model, or not at all.
    Fix,
    /// It is left out.
    Drop,
    /// It is refused.
    Reject,
    /// It is noted.
    Warn,
}

impl OnFail {
    /// As files name them.
    pub const NAMES: &'static [&'static str] = &["repair", "fix", "drop", "reject", "warn"];

    /// Its name in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OnFail::Repair => "repair",
            OnFail::Fix => "fix",
            OnFail::Drop => "drop",
            OnFail::Reject => "reject",
            OnFail::Warn => "warn",
        }
    }

    /// By its name in files.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "repair" => OnFail::Repair,
            "fix" => OnFail::Fix,
            "drop" => OnFail::Drop,
            "reject" => OnFail::Reject,
            "warn" => OnFail::Warn,
            _ => return None,
        })
    }

    /// What findings mean where only this is said.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            OnFail::Repair | OnFail::Fix => Severity::Repair,
            OnFail::Drop | OnFail::Reject => Severity::Block,
            OnFail::Warn => Severity::Warn,
        }
    }
}

/// Keys that every entry of a list of checks may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// How much it counts in the score beside others of its severity, at least 0. Default 1.
    pub weight: f64,
    /// Where it cannot say anything, the answer has failed. Default false.
    pub needed: bool,
    /// What is to be done where it fails. Default repair.
    pub on_fail: OnFail,
    /// What its findings are told under. Default: its name.
    pub label: Option<String>,
}

impl Default for Keys {
    fn default() -> Self {
        Keys { weight: 1.0, needed: false, on_fail: OnFail::Repair, label: None }
    }
}

/// The check under these keys.
#[must_use]
pub fn keyed(check: Arc<dyn Check>, keys: &Keys) -> Arc<dyn Check> {
    if *keys == Keys::default() { check } else { Arc::new(Keyed { check, keys: keys.clone() }) }
}

#[derive(Debug)]
struct Keyed {
    check: Arc<dyn Check>,
    keys: Keys,
}

/// Findings in the name of a check get its label.
fn relabel(finding: &mut Finding, name: &str, label: Option<&str>) {
    if let Some(label) = label.filter(|_| finding.validator == name) {
        label.clone_into(&mut finding.validator);
    }
}

impl Check for Keyed {
    fn about(&self) -> About {
        self.check.about()
    }

    fn label(&self) -> &str {
        self.keys.label.as_deref().unwrap_or_else(|| self.check.label())
    }

    fn structural(&self) -> bool {
        self.check.structural()
    }

    fn weight(&self) -> f64 {
        self.check.weight() * self.keys.weight
    }

    fn on_fail(&self) -> OnFail {
        self.keys.on_fail
    }

    fn applies(&self, request: &ChatRequest) -> bool {
        self.check.applies(request)
    }

    fn promise(&self, request: &ChatRequest) -> Promise {
        self.check.promise(request)
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        let state = self.check.open(request)?;
        let Some(label) = self.keys.label.clone() else { return Some(state) };
        Some(Box::new(Labelled { state, name: self.name(), label }))
    }

    fn references(&self) -> &[Reference] {
        self.check.references()
    }

    fn schema(&self, request: &ChatRequest) -> Option<Arc<Value>> {
        self.check.schema(request)
    }

    fn mend(&self, text: &str) -> Option<String> {
        self.check.mend(text)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        // Through the common way: a check that panics could not say anything either.
        let mut report = crate::run::one(self.check.as_ref(), input);
        if self.keys.needed && report.verdict == Verdict::Unverified {
            let why = report.reason.clone().unwrap_or_default();
            let message = format!("it is needed and could not be checked: {why}");
            // Even where it would only warn: an answer without this check is no answer.
            let severity = self.severity().max(Severity::Repair);
            report.findings = vec![Note::new(self.name(), severity, NOT_CHECKED, &message).into_finding()];
            report.verdict = Verdict::Failed;
        }
        for finding in &mut report.findings {
            relabel(finding, self.check.name(), self.keys.label.as_deref());
        }
        report
    }
}

/// The state of a check whose findings bear another name.
struct Labelled {
    state: Box<dyn Growing>,
    name: &'static str,
    label: String,
}

impl Growing for Labelled {
    fn push(&mut self, delta: &str) -> Step {
        match self.state.push(delta) {
            Step::Reject(mut finding) => {
                relabel(&mut finding, self.name, Some(&self.label));
                Step::Reject(finding)
            }
            step => step,
        }
    }

    fn finish(&mut self) -> Option<Box<Finding>> {
        let mut finding = self.state.finish()?;
        relabel(&mut finding, self.name, Some(&self.label));
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{build, run, run_until_failed};
    use serde_json::json;

    fn under(name: &str, with: &Value, keys: &Keys) -> Arc<dyn Check> {
        keyed(build(name, with, None).unwrap(), keys)
    }

    fn long() -> Value {
        json!({"chars": {"min": 100}})
    }

    #[test]
    fn weights_move_the_score_and_nothing_else() {
        let request = request(json!({}));
        let c = answer("[1]");
        let input = Input::new(&c, &request);
        let score = |weight: f64| {
            let checks = [
                under("json", &Value::Null, &Keys::default()),
                under("length", &long(), &Keys { weight, ..Keys::default() }),
            ];
            let checked = run(&checks, &input);
            assert_eq!(checked.report.verdict, Verdict::Failed);
            checked.score
        };
        assert!((score(1.0) - 0.5).abs() < 1e-9 && (score(3.0) - 0.25).abs() < 1e-9);
        assert!((score(0.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_needed_and_cannot_be_checked_has_failed() {
        let request = request(json!({}));
        let c = answer("[1]");
        let input = Input::new(&c, &request);
        let with = json!({"sources": "nodes.none.result"});
        let verdict = |needed: bool, severity: Severity| {
            let check = build("grounding", &with, Some(severity)).unwrap();
            run(&[keyed(check, &Keys { needed, ..Keys::default() })], &input).report
        };
        assert_eq!(verdict(false, Severity::Repair).verdict, Verdict::Unverified);
        for severity in [Severity::Warn, Severity::Repair, Severity::Block] {
            let failed = verdict(true, severity);
            assert_eq!((failed.verdict, failed.findings[0].code.as_str()), (Verdict::Failed, NOT_CHECKED));
            assert_eq!(failed.findings[0].severity, severity.max(Severity::Repair));
        }
    }

    #[test]
    fn findings_bear_the_label_on_the_way_and_at_the_end() {
        let request = request(json!({}));
        let label = Some("tone".to_owned());
        let with = json!({"none": ["forbidden"]});
        let check = under("keywords", &with, &Keys { label, ..Keys::default() });
        let c = answer("a forbidden word");
        let checked = run(std::slice::from_ref(&check), &Input::new(&c, &request));
        assert_eq!(checked.report.findings[0].validator, "tone");
        let mut watch = crate::Watch::open(std::slice::from_ref(&check), &request);
        let found = watch.push("a forbidden word").or_else(|| watch.finish()).unwrap();
        assert_eq!(found.validator, "tone");
        let sources = json!({"sources": "nodes.none.result"});
        let check =
            under("grounding", &sources, &Keys { label: Some("facts".to_owned()), ..Keys::default() });
        assert_eq!(run(&[check], &Input::new(&c, &request)).unverified, ["facts"]);
    }

    #[test]
    fn the_first_failure_may_end_it() {
        let request = request(json!({}));
        let c = answer("no json");
        let input = Input::new(&c, &request);
        let warns = build("json", &Value::Null, Some(Severity::Warn)).unwrap();
        let none = Keys::default();
        let checks = [warns, under("json", &Value::Null, &none), under("length", &long(), &none)];
        assert_eq!(run(&checks, &input).report.findings.len(), 3);
        assert_eq!(run_until_failed(&checks, &input).report.findings.len(), 2, "a warning is no failure");
    }

    #[test]
    fn names_and_meanings() {
        for name in OnFail::NAMES {
            assert!(OnFail::parse(name).is_some(), "{name}");
        }
        assert_eq!(OnFail::parse("reask"), None);
        assert_eq!(OnFail::Reject.severity(), Severity::Block);
        assert_eq!(OnFail::default().severity(), Severity::Repair);
    }
}
