//! Running several checks on one answer and combining what they say.

use crate::finding;
use crate::{Check, Input, MAX_FINDINGS};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use types::run::Severity;
use types::{Report, Verdict};

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
    /// What the checks are called that could not decide.
    pub unverified: Vec<String>,
}

/// Runs checks in their order and combines what they say. A check that panics counts as unverified.
#[must_use]
pub fn run(checks: &[Arc<dyn Check>], input: &Input<'_>) -> Checked {
    let mut all = Combined::default();
    for check in checks {
        all.add(check.as_ref(), one(check.as_ref(), input));
    }
    all.finish()
}

/// The same, up to the first check that fails with more than a warning.
#[must_use]
pub fn run_until_failed(checks: &[Arc<dyn Check>], input: &Input<'_>) -> Checked {
    let mut all = Combined::default();
    for check in checks {
        let report = one(check.as_ref(), input);
        let failed = report.findings.iter().any(|f| f.severity > Severity::Warn);
        all.add(check.as_ref(), report);
        if failed {
            break;
        }
    }
    all.finish()
}

/// What one check says; one that panics could not say anything.
#[must_use]
pub fn one(check: &dyn Check, input: &Input<'_>) -> Report {
    catch_unwind(AssertUnwindSafe(|| check.check(input)))
        .unwrap_or_else(|_| finding::unverified("the check panicked"))
}

#[derive(Default)]
struct Combined {
    findings: Vec<types::Finding>,
    unverified: Vec<String>,
    reason: Option<String>,
    decided: f64,
    lost: f64,
    applied: bool,
    undecided: bool,
}

impl Combined {
    fn add(&mut self, check: &dyn Check, report: Report) {
        let weight = check.weight();
        match report.verdict {
            Verdict::None => return,
            Verdict::Unverified => {
                self.unverified.push(check.label().to_owned());
                self.undecided |= check.severity() != Severity::Warn;
                if self.reason.is_none() {
                    self.reason = report.reason.map(|r| format!("{}: {r}", check.label()));
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
mod tests {
    use super::*;
    use crate::About;
    use crate::testing::*;
    use serde_json::json;

    #[derive(Debug)]
    struct Fixed(Severity, Option<Verdict>);

    impl Check for Fixed {
        fn about(&self) -> About {
            About::structural("fixed", self.0)
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

    /// Scenario 14 of the workflow format: a check that panics could not check.
    #[test]
    fn scenario_14_verdicts_combine_and_a_panic_is_not_a_pass() {
        use Severity::{Block, Repair, Warn};
        use Verdict::{Failed, None as Nothing, Passed, Unverified};
        let check = |parts: &[(Severity, Option<Verdict>)], verdict, score: f64| {
            let checks: Vec<Arc<dyn Check>> =
                parts.iter().map(|(s, v)| Arc::new(Fixed(*s, *v)) as Arc<dyn Check>).collect();
            let r = request(json!({}));
            let got = run(&checks, &Input::new(&answer("x"), &r));
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
