//! The states of a repair: fix, choose, call, check, until something passes or nothing is left to try.

use super::mend::mend;
use super::{Repair, Rung, Strategy};
use crate::node::validate::Suite;
use crate::route::Route;
use crate::run::{Answer, At, RowId};
use crate::world::{Ask, EffectId, EffectKind, Failure};
use std::sync::Arc;
use types::matrix::Model;
use types::provider::Edits;
use types::{Completion, Finding, Verdict};
use validators::Checked;

/// Seed of the strategy `deterministic`.
const SEED: i64 = 7;

/// What a repair starts from.
pub(crate) struct Start {
    pub(crate) id: RowId,
    pub(crate) completion: Arc<Completion>,
    pub(crate) model: Arc<Model>,
    pub(crate) checked: Checked,
}

/// An answer that is better than the one it started from.
pub(crate) struct Found {
    pub(crate) answer: Answer,
    pub(crate) checked: Checked,
    pub(crate) strategy: Strategy,
}

/// How a repair ended.
pub(crate) struct Repaired {
    /// The completion it started from.
    pub(crate) start: RowId,
    /// What passed, else the best so far if it is better than the start.
    pub(crate) answer: Option<Found>,
    /// The completion it started from, when nothing better was found.
    pub(crate) unchanged: Option<RowId>,
    /// Model calls.
    pub(crate) attempts: u32,
    /// Of the last answer.
    pub(crate) findings: Vec<Finding>,
    pub(crate) note: String,
}

/// Σ severity weight of findings: what "best so far" goes by.
fn weight(findings: &[Finding]) -> f64 {
    findings.iter().map(|f| f.severity.weight()).sum()
}

fn fingerprints(findings: &[Finding]) -> Vec<(&str, &str, Option<&str>)> {
    let mut set: Vec<_> = findings.iter().map(Finding::fingerprint).collect();
    set.sort_unstable();
    set
}

struct Machine<'a> {
    spec: &'a Repair,
    at: &'a At<'a>,
    checks: &'a Suite<'a>,
    /// The latest failing answer.
    latest: Arc<Completion>,
    model: Arc<Model>,
    findings: Vec<Finding>,
    best: Option<Found>,
    best_weight: f64,
    used: Vec<Arc<str>>,
    attempts: u32,
    stuck: bool,
    stopped: Option<String>,
}

pub(crate) async fn run(spec: &Repair, at: &At<'_>, checks: &Suite<'_>, start: Start) -> Repaired {
    if start.checked.report.verdict != Verdict::Failed {
        return Repaired {
            start: start.id,
            answer: None,
            unchanged: Some(start.id),
            attempts: 0,
            findings: start.checked.report.findings,
            note: "nothing to repair".to_owned(),
        };
    }
    let id = start.id;
    let findings = start.checked.report.findings;
    let mut machine = Machine {
        spec,
        at,
        checks,
        latest: start.completion,
        used: vec![start.model.id.clone()],
        model: start.model,
        best_weight: weight(&findings),
        findings,
        best: None,
        attempts: 0,
        stuck: false,
        stopped: None,
    };
    if let Some(found) = machine.fix() {
        return machine.done(Some(found), id);
    }
    for rung in &spec.ladder {
        if machine.attempts >= spec.max_attempts || machine.stopped.is_some() {
            break;
        }
        if machine.stuck && !rung.strategy.breaks_deadlock() {
            continue;
        }
        if let Some(found) = machine.attempt(rung).await {
            return machine.done(Some(found), id);
        }
    }
    machine.done(None, id)
}

impl Machine<'_> {
    fn check(&self, completion: &Completion) -> Checked {
        self.checks.check(completion)
    }

    /// Mends the latest answer locally. `Some` when the result passes.
    fn fix(&mut self) -> Option<Found> {
        if !self.spec.fix {
            return None;
        }
        let mended = mend(&self.latest, &self.findings, &self.checks.list, &self.at.host.input.request)?;
        let checked = self.check(&mended);
        let answer = Answer { completion: mended, model: self.model.clone(), ms: 0.0 };
        let found = self.weigh(answer, checked, Strategy::Fix);
        if found.is_some() {
            self.at.host.input.trace.with(|run| run.fixes = run.fixes.saturating_add(1));
        }
        found
    }

    /// Keeps the answer if it is the best so far; gives it back if it does not fail.
    fn weigh(&mut self, answer: Answer, checked: Checked, strategy: Strategy) -> Option<Found> {
        let w = weight(&checked.report.findings);
        let found = Found { answer, checked, strategy };
        if found.checked.report.verdict != Verdict::Failed {
            return Some(found);
        }
        if w < self.best_weight {
            self.best_weight = w;
            self.best = Some(found);
        }
        None
    }

    async fn attempt(&mut self, rung: &Rung) -> Option<Found> {
        self.attempts = self.attempts.saturating_add(1);
        self.at.host.input.trace.with(|run| run.repairs = run.repairs.saturating_add(1));
        let answer = match self.call(rung).await {
            Ok(answer) => answer,
            // Its own retries are used up: the next rung may go elsewhere.
            Err(Failure::Provider(_) | Failure::NoCandidate(_)) => return None,
            Err(e @ (Failure::Budget(_) | Failure::Deadline)) => {
                self.at.host.exhausted(&e);
                self.stopped = Some(e.to_string());
                return None;
            }
        };
        let checked = self.check(&answer.completion);
        let same_findings = fingerprints(&checked.report.findings) == fingerprints(&self.findings);
        let same_answer = answer.completion.text() == self.latest.text()
            && answer.completion.tool_calls() == self.latest.tool_calls();
        self.stuck = same_findings || same_answer;
        self.latest = Arc::new(answer.completion.clone());
        self.model = answer.model.clone();
        self.findings.clone_from(&checked.report.findings);
        if !self.used.contains(&self.model.id) {
            self.used.push(self.model.id.clone());
        }
        if let Some(found) = self.weigh(answer, checked, rung.strategy) {
            return Some(found);
        }
        self.fix().map(|f| Found { strategy: rung.strategy, ..f })
    }

    async fn call(&self, rung: &Rung) -> Result<Answer, Failure> {
        let first = match (&rung.route, rung.strategy) {
            (Some(r), _) => r.clone(),
            (None, Strategy::Escalate) => Arc::new(Route {
                min_tier: Some(self.model.quality_tier.saturating_add(1).clamp(1, 3)),
                ..Route::default()
            }),
            (None, _) => Arc::new(Route::only(&self.model.id)),
        };
        match self.at.call(self.ask(rung, first, 1)).await {
            // No stronger model may serve it: any other one is better than giving up.
            Err(Failure::NoCandidate(_)) if rung.strategy == Strategy::Escalate && rung.route.is_none() => {
                self.at.call(self.ask(rung, Arc::default(), 2)).await
            }
            other => other,
        }
    }

    fn ask(&self, rung: &Rung, route: Arc<Route>, tries: u32) -> Ask {
        let escalates = rung.strategy == Strategy::Escalate;
        let id = EffectId::new(&self.at.path, EffectKind::Model, self.attempts.saturating_sub(1), tries);
        Ask {
            edits: self.at.host.edits(&self.edits(rung.strategy)),
            // The machine ends by itself when the run must.
            timeout: None,
            avoid: if escalates { self.used.clone() } else { Vec::new() },
            ..self.at.question(id, rung.strategy.purpose(), route)
        }
    }

    fn edits(&self, strategy: Strategy) -> Edits {
        let request = &self.at.host.input.request;
        let bounds = &self.spec.feedback;
        let mut edits = Edits::default();
        match strategy {
            Strategy::Resample => {
                let seed = request.params.seed.unwrap_or(0);
                edits.seed = Some(seed.wrapping_add(i64::from(self.attempts)));
            }
            Strategy::Escalate => {
                edits.messages = Some(super::prompt::messages(request, None, &self.findings, bounds));
            }
            _ => {
                let previous = Some(&*self.latest);
                edits.messages = Some(super::prompt::messages(request, previous, &self.findings, bounds));
            }
        }
        match strategy {
            Strategy::Structured => edits.response_format = super::prompt::strictest(request),
            Strategy::Deterministic => {
                edits.temperature = Some(0.0);
                edits.top_p = Some(1.0);
                edits.seed = Some(SEED);
            }
            _ => {}
        }
        edits
    }

    fn done(self, found: Option<Found>, start: RowId) -> Repaired {
        let attempts = self.attempts;
        let note = match (&found, &self.stopped) {
            (Some(f), _) => format!("{} after {attempts} attempts", f.strategy.as_str()),
            (None, Some(why)) => format!("stopped after {attempts} attempts: {why}"),
            (None, None) => format!("nothing passed in {attempts} attempts"),
        };
        let answer = found.or(self.best);
        Repaired {
            start,
            unchanged: answer.is_none().then_some(start),
            answer,
            attempts,
            findings: self.findings,
            note,
        }
    }
}
