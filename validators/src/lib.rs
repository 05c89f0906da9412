//! Checks of an answer: pure functions from a completion and its request to findings.
//!
//! Takes a [`Completion`] and the [`ChatRequest`] it answers, gives a [`Report`] per check and one
//! combined verdict ([`run`]); [`fix`] mends JSON locally. It never calls a model, reads a clock or does
//! I/O: whatever needs a model is a node of a workflow. The only crate that knows the JSON Schema engine.
//!
//! A check that panics or cannot decide says [`Verdict::Unverified`]; that is never taken for "passed".

use serde_json::Value;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Completion, Report, Verdict};

mod contract;
mod finding;
mod finish_reason;
pub mod fix;
mod json;
mod json_schema;
mod length;
mod lenient;
mod params;
mod refusal;
mod regex;
mod schema;
mod tool_args;

pub use params::Problem;

/// Most findings kept per completion.
pub const MAX_FINDINGS: usize = 50;
/// Most characters of the answer in one message.
pub const MAX_EXCERPT: usize = 200;

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The answer; every choice of it is checked.
    pub completion: &'a Completion,
    /// The request it answers.
    pub request: &'a ChatRequest,
}

/// A check of an answer.
pub trait Check: Send + Sync + Debug {
    /// Its name, one of [`NAMES`].
    fn name(&self) -> &'static str;

    /// What its findings mean for the answer.
    fn severity(&self) -> Severity;

    /// Whether it checks form (contract, reason of the end) rather than meaning. Form alone earns the
    /// `contract` part of the reward.
    fn structural(&self) -> bool;

    /// Whether this request gives it anything to check. A check that does not apply reports
    /// [`Verdict::None`].
    fn applies(&self, _request: &ChatRequest) -> bool {
        true
    }

    /// The JSON Schema that the text must fit, where there is one: local repair moves towards it.
    fn schema(&self, _request: &ChatRequest) -> Option<Arc<Value>> {
        None
    }

    /// Looks at every choice of the answer.
    fn check(&self, input: &Input<'_>) -> Report;
}

/// Builds one kind of check from its parameters.
type Builder = fn(&Value, Option<Severity>) -> Result<Arc<dyn Check>, Problem>;

/// A validator as it stands in the list.
struct Entry {
    name: &'static str,
    about: &'static str,
    build: Builder,
}

/// Every validator, once.
const REGISTRY: &[Entry] = &[
    Entry {
        name: "contract",
        about: "the checks that the request implies: json, json_schema, tool_args, finish_reason; nothing for prose",
        build: contract::build,
    },
    Entry { name: "json", about: "the text is one JSON value", build: json::build },
    Entry {
        name: "json_schema",
        about: "the text is one JSON value that fits a schema",
        build: json_schema::build,
    },
    Entry {
        name: "tool_args",
        about: "tool calls name offered tools, with arguments that fit, as many as asked",
        build: tool_args::build,
    },
    Entry {
        name: "finish_reason",
        about: "the answer was not cut by the token limit or a lost stream",
        build: finish_reason::build,
    },
    Entry {
        name: "not_truncated",
        about: "another name of finish_reason",
        build: finish_reason::build_not_truncated,
    },
    Entry {
        name: "length",
        about: "characters, words, sentences or tokens within bounds",
        build: length::build,
    },
    Entry { name: "regex", about: "patterns that must and must not occur", build: regex::build },
    Entry { name: "refusal", about: "the answer does not refuse", build: refusal::build },
];

/// Names that [`build`] knows, in the order of the documentation.
pub const NAMES: &[&str] = &[
    "contract",
    "json",
    "json_schema",
    "tool_args",
    "finish_reason",
    "not_truncated",
    "length",
    "regex",
    "refusal",
];

/// One sentence on what the named validator checks; `None` for an unknown name.
#[must_use]
pub fn about(name: &str) -> Option<&'static str> {
    REGISTRY.iter().find(|e| e.name == name).map(|e| e.about)
}

/// Builds a check. `with` is an object of parameters or null; `severity` outranks the default (repair).
///
/// # Errors
/// An unknown name, an unknown parameter or a wrong value, with what would have been right.
pub fn build(name: &str, with: &Value, severity: Option<Severity>) -> Result<Arc<dyn Check>, Problem> {
    match REGISTRY.iter().find(|e| e.name == name) {
        Some(entry) => (entry.build)(with, severity),
        None => Err(Problem {
            field: "use".to_owned(),
            message: format!(
                "`{name}` is not a validator; {}",
                types::diagnostic::suggestion(name, NAMES.iter().copied())
            ),
            expected: format!("one of {}", NAMES.join(", ")),
        }),
    }
}

/// What makes a request's contract one that no answer can meet: a schema that is none. The field with dots,
/// and what is wrong with it.
#[must_use]
pub fn impossible(request: &ChatRequest) -> Option<(String, String)> {
    let why = schema::compiled(json_schema::asked(request)?).err()?;
    Some(("response_format.json_schema.schema".to_owned(), format!("the schema cannot be used: {why}")))
}

/// The checks that a request implies by the form of answer it asks for; none for prose.
#[must_use]
pub fn contract(request: &ChatRequest) -> Vec<Arc<dyn Check>> {
    contract::checks(request, Severity::Repair)
}

/// What several checks say of one completion together.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Verdict and findings, worst severity first, at most [`MAX_FINDINGS`]. The verdict is `Failed` with
    /// any finding of severity block or repair, else `Unverified` if a check of such severity could not
    /// run, else `Passed`; `None` if no check applied.
    pub report: Report,
    /// 1 − Σ weight(failed) / Σ weight over the checks that could decide, in 0..=1; 1 if none applied,
    /// 0.5 if none could decide.
    pub score: f64,
    /// Names of the checks that could not decide.
    pub unverified: Vec<&'static str>,
}

/// Runs checks in their order and combines what they say. A check that panics counts as unverified.
#[must_use]
pub fn run(checks: &[Arc<dyn Check>], input: &Input<'_>) -> Checked {
    let mut all = Combined::default();
    for check in checks {
        let report = catch_unwind(AssertUnwindSafe(|| check.check(input)))
            .unwrap_or_else(|_| finding::unverified("the check panicked"));
        all.add(check.as_ref(), report);
    }
    all.finish()
}

#[derive(Default)]
struct Combined {
    findings: Vec<types::Finding>,
    unverified: Vec<&'static str>,
    reason: Option<String>,
    decided: f64,
    lost: f64,
    applied: bool,
    undecided: bool,
}

impl Combined {
    fn add(&mut self, check: &dyn Check, report: Report) {
        let weight = check.severity().weight();
        match report.verdict {
            Verdict::None => return,
            Verdict::Unverified => {
                self.unverified.push(check.name());
                self.undecided |= check.severity() != Severity::Warn;
                if self.reason.is_none() {
                    self.reason = report.reason.map(|r| format!("{}: {r}", check.name()));
                }
            }
            Verdict::Passed => self.decided += weight,
            Verdict::Failed => {
                self.decided += weight;
                self.lost += weight;
            }
        }
        self.applied = true;
        self.findings.extend(report.findings);
    }

    fn finish(mut self) -> Checked {
        self.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
        let failed = self.findings.first().is_some_and(|f| f.severity > Severity::Warn);
        self.findings.truncate(MAX_FINDINGS);
        let verdict = match (self.applied, failed, self.undecided) {
            (false, _, _) => Verdict::None,
            (_, true, _) => Verdict::Failed,
            (_, _, true) => Verdict::Unverified,
            _ => Verdict::Passed,
        };
        let score = if self.decided > 0.0 {
            1.0 - self.lost / self.decided
        } else if self.applied {
            0.5
        } else {
            1.0
        };
        Checked {
            report: Report { verdict, reason: self.reason, findings: self.findings },
            score,
            unverified: self.unverified,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Requests and answers for the tables of the checks.

    use super::*;
    use serde_json::json;
    use types::completion::{Choice, FinishReason};

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
        let report = check.check(&Input { completion: c, request });
        match report.verdict {
            Verdict::None => vec!["none".to_owned()],
            Verdict::Unverified => vec!["unverified".to_owned()],
            _ => {
                assert_eq!(report.verdict == Verdict::Passed, report.findings.is_empty());
                report.findings.into_iter().map(|f| f.code).collect()
            }
        }
    }

    /// The field a refused configuration points at.
    pub(crate) fn refused(name: &str, with: &Value) -> Problem {
        build(name, with, None).err().unwrap_or_else(|| panic!("{name} took {with}"))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_registry_has_unique_documented_names() {
        let listed: Vec<&str> = REGISTRY.iter().map(|e| e.name).collect();
        assert_eq!(listed, NAMES);
        for e in REGISTRY {
            assert!(!e.about.is_empty(), "{}", e.name);
            assert_eq!(NAMES.iter().filter(|n| **n == e.name).count(), 1, "{}", e.name);
        }
        for name in ["json", "tool_args", "finish_reason", "not_truncated", "refusal", "contract"] {
            assert_eq!(build(name, &Value::Null, None).unwrap().name(), name);
        }
    }

    #[test]
    fn unknown_names_and_parameters_name_their_neighbours() {
        let p = build("jsn_schema", &Value::Null, None).unwrap_err();
        assert!(p.message.contains("did you mean `json_schema`"), "{}", p.message);
        let p = refused("json", &json!({"alow_fence": true}));
        assert_eq!(p.field, "alow_fence");
        assert!(p.message.contains("did you mean `allow_fence`"), "{}", p.message);
    }

    #[derive(Debug)]
    struct Fixed(Severity, Option<Verdict>);

    impl Check for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }
        fn severity(&self) -> Severity {
            self.0
        }
        fn structural(&self) -> bool {
            true
        }
        fn check(&self, _: &Input<'_>) -> Report {
            let Some(verdict) = self.1 else { panic!("a broken check") };
            let findings = if verdict == Verdict::Failed {
                vec![finding::Note::new("fixed", self.0, "no", "no").into_finding()]
            } else {
                Vec::new()
            };
            Report { verdict, reason: None, findings }
        }
    }

    #[test]
    fn verdicts_combine_and_a_panic_is_not_a_pass() {
        use Severity::{Block, Repair, Warn};
        use Verdict::{Failed, None as Nothing, Passed, Unverified};
        let check = |parts: &[(Severity, Option<Verdict>)], verdict, score: f64| {
            let checks: Vec<Arc<dyn Check>> =
                parts.iter().map(|(s, v)| Arc::new(Fixed(*s, *v)) as Arc<dyn Check>).collect();
            let r = request(json!({}));
            let got = run(&checks, &Input { completion: &answer("x"), request: &r });
            assert_eq!(got.report.verdict, verdict, "{parts:?}");
            assert!((got.score - score).abs() < 1e-9, "{parts:?}: {}", got.score);
        };
        check(&[], Nothing, 1.0);
        check(&[(Repair, Some(Nothing))], Nothing, 1.0);
        check(&[(Repair, Some(Passed)), (Warn, Some(Failed))], Passed, 1.0 - 0.2 / 1.2);
        check(&[(Repair, Some(Passed)), (Block, Some(Failed))], Failed, 0.25);
        check(&[(Repair, None)], Unverified, 0.5);
        check(&[(Repair, Some(Passed)), (Repair, None)], Unverified, 1.0);
        check(&[(Warn, None), (Repair, Some(Passed))], Passed, 1.0);
        check(&[(Repair, Some(Failed)), (Repair, None)], Failed, 0.0);
    }
}
