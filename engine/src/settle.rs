//! The end of a request: what it used and cost, how it turned out, one record in the log.

use crate::account::{self, About};
use crate::admit::Permit;
use crate::affinity::Stays;
use crate::answer::{Admission, Sum, Tail};
use crate::demands::Demands;
use crate::error::{Attempt, Error, Kind};
use crate::ledger::Ledger;
use crate::limits::Held;
use crate::shadow::Note;
use crate::trailer::trailer;
use crate::{Inner, learn, outcome, route, unrecorded};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::decision::Decision;
use types::directives::Denial;
use types::outcome::{CallObservation, Outcome, RewardParts, Status, expiry};
use types::provider::ErrorKind;
use types::run::Run;
use types::store::{OutcomeStore, Record, RequestRecord};
use types::{Clock, Usage, Usd, Verdict};
use workflows::{Trace, Trailer};

/// Told of every request at its end; for metrics. Must not block.
pub type Finished = Arc<dyn Fn(&RequestRecord) + Send + Sync>;

/// What a request is recorded as.
pub(crate) struct Subject {
    pub(crate) admission: Admission,
    pub(crate) decision: Decision,
    /// The request as the learner's numbers.
    pub(crate) features: types::Features,
    /// What the account of the request needs to know of it.
    pub(crate) about: About,
}

/// What a request was given to begin with, and is to be given back or settled.
#[derive(Default)]
pub(crate) struct Means {
    pub(crate) trace: Trace,
    pub(crate) ledger: Ledger,
    /// Calls that were made and settled earlier, while the same run was walked before.
    pub(crate) before: Ledger,
    /// Rates and budgets that were taken.
    pub(crate) held: Option<Held>,
    pub(crate) permit: Option<Permit>,
    /// What policies demand of the record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// To be decided once more under a configuration that is tried.
    pub(crate) shadow: Option<Box<Note>>,
    /// Where who answered is noted for those that come after; `None` = nowhere.
    pub(crate) stays: Option<Box<Stays>>,
    /// The client asked for the whole record.
    pub(crate) explain: bool,
}

/// One request in the making. Closed exactly once; dropped unclosed means that the client left, or, of a run, that it
/// goes on elsewhere.
pub(crate) struct Settlement {
    pub(crate) store: Arc<dyn OutcomeStore>,
    pub(crate) clock: Clock,
    pub(crate) finished: Option<Finished>,
    pub(crate) admission: Admission,
    /// Taken when the tree is closed.
    pub(crate) decision: Option<Box<Decision>>,
    /// The request as the learner's numbers.
    pub(crate) features: types::Features,
    /// What the account of the request needs to know of it.
    pub(crate) about: About,
    pub(crate) trace: Trace,
    pub(crate) ledger: Ledger,
    /// Calls that were made and settled earlier, while the same run was walked before.
    pub(crate) before: Ledger,
    /// Rates and budgets that were taken.
    pub(crate) held: Option<Held>,
    pub(crate) explain: bool,
    /// The workflow tells every client what the run came to.
    pub(crate) tells: bool,
    /// What policies demand of the record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// The record could not be stored.
    pub(crate) lost: bool,
    /// Milliseconds of ours until the first byte could leave.
    pub(crate) overhead_ms: Option<f64>,
    pub(crate) ttft_ms: Option<f64>,
    /// Where who answered is noted for those that come after; `None` = nowhere.
    pub(crate) stays: Option<Box<Stays>>,
    /// To be decided once more under a configuration that is tried.
    pub(crate) shadow: Option<Box<Note>>,
    pub(crate) permit: Option<Permit>,
    /// Dropped unclosed it leaves no record: what it stands for goes on later, or in another form.
    pub(crate) goes_on: bool,
}

impl Settlement {
    /// The account of what was decided so. It is on record from now on, however it ends.
    pub(crate) fn open(inner: &Inner, subject: Subject, means: Means) -> Settlement {
        let Subject { admission, decision, features, about } = subject;
        let Means { trace, ledger, before, held, permit, demands, shadow, stays, explain } = means;
        admission.on_record.set(true);
        Settlement {
            store: inner.store.clone(),
            clock: inner.clock.clone(),
            finished: inner.finished.clone(),
            admission,
            decision: Some(Box::new(decision)),
            features,
            about,
            trace,
            ledger,
            before,
            held,
            explain,
            tells: false,
            demands,
            lost: false,
            overhead_ms: None,
            ttft_ms: None,
            stays,
            shadow,
            permit,
            goes_on: false,
        }
    }

    /// What the workflow wants its trailer to tell clients that stream.
    pub(crate) fn tell(&mut self, trailer: Trailer) {
        self.explain &= trailer != Trailer::Never;
        self.tells = trailer == Trailer::Always;
    }

    /// It is a walk of a run: only an end is recorded, and only by who still owns the run.
    pub(crate) fn walks(mut self) -> Self {
        self.goes_on = true;
        self
    }

    /// Milliseconds since the request was received.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.admission.received.elapsed().as_secs_f64() * 1e3
    }

    /// Notes that the first byte can leave now; asked again, it says what it said.
    pub(crate) fn first_byte(&mut self) -> f64 {
        if let Some(ours) = self.overhead_ms {
            return ours;
        }
        let elapsed = self.elapsed_ms();
        let ours = (elapsed - self.ledger.waited().as_secs_f64() * 1e3).max(0.0);
        self.ttft_ms.get_or_insert(elapsed);
        *self.overhead_ms.get_or_insert(ours)
    }

    /// What the run came to, once it has ended and before the tree is closed.
    pub(crate) fn sum(&self) -> Sum {
        let ((now, known), (before, known_before)) = (self.ledger.cost(), self.before.cost());
        Sum { cost: now.plus(before), cost_known: known && known_before, verdict: self.trace.verdict() }
    }

    /// An answer was delivered.
    pub(crate) fn delivered(&mut self) -> Tail {
        self.close(Status::Delivered, None)
    }

    /// Why an answer that was delivered fails after all: its record had to be stored, and was not.
    pub(crate) fn unrecorded(&self) -> Option<Error> {
        self.demands.as_ref().filter(|_| self.lost)?.unrecorded()
    }

    /// Why the answer of a run that failed does not go out, where policies say so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.demands.as_ref()?.said.refusal()
    }

    /// What a rule refuses is noted for the record; the error that says so.
    pub(crate) fn denied(&self, denial: &Denial) -> Error {
        self.demands.as_ref().map_or_else(|| denial.into(), |d| d.said.denies(denial))
    }

    /// Headers that policies add to the answer.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        self.demands.as_ref().map(|d| d.said.headers()).unwrap_or_default()
    }

    /// No answer, or not all of it; the error gets what a client may know of the way there.
    pub(crate) fn failed(&mut self, mut error: Error) -> Error {
        // Where a limit gave no more, that is what the client has to know.
        let short = self.held.as_ref().and_then(Held::grant).and_then(|grant| match error.kind {
            Kind::Budget { .. } if error.is_short_of_money() => grant.refused(),
            Kind::NoCandidates { .. } => grant.refused().or_else(|| grant.left_out()),
            _ => None,
        });
        // Likewise where a limit on what one request may use had no room.
        let own = || match &error.kind {
            Kind::Budget { code, .. } if code.ends_with("usd") || code.ends_with("tokens") => {
                self.ledger.refused()
            }
            Kind::NoCandidates { .. } => self.ledger.refused(),
            _ => None,
        };
        if let Some(refused) = short.or_else(own) {
            error = Error { findings: error.findings, ..refused };
        }
        let status = match error.blame() {
            types::Blame::Policy if matches!(error.kind, Kind::Denied { .. }) => Status::Denied,
            types::Blame::Policy if error.attempts.is_empty() && !self.decided() => Status::Denied,
            _ => Status::Failed,
        };
        // Who was turned away for want of room before anything was called has used nothing, not a request either.
        // What a limit has no room for, now or ever, takes nothing of the others.
        let limited = error.blame() == types::Blame::Capacity || matches!(error.kind, Kind::TooLarge { .. });
        let turned_away = limited && self.ledger.so_far().1 == 0;
        if let Some(held) = self.held.take_if(|_| turned_away) {
            held.release();
        }
        let record = self.record(status, Some(error.code().to_owned()));
        let Some(mut record) = record else { return error };
        if let (Some(account), Some(short)) = (&mut record.outcome.account, &error.short) {
            account.refused = Some(Box::new(short.unnamed()));
        }
        error.attempts = record.run.calls().filter_map(attempt).collect();
        error.request_id = Some(self.admission.request_id.clone());
        error.bundle = Some(record.decision.bundle.as_str().into());
        if self.explain {
            error.explain = self.explained(&record).map(Box::new);
        }
        self.write(record);
        error
    }

    /// Why there is no answer, or not all of it, where the request's time was up before its run could end by itself.
    pub(crate) fn out_of_time(&self) -> Error {
        self.trace.exhausted("wall");
        Kind::Deadline.into()
    }

    /// Nobody wants an answer any more.
    pub(crate) fn cancelled(mut self) {
        self.close(Status::Cancelled, None);
    }

    /// It is asked for once more, as a run, and counted, decided and recorded as that.
    pub(crate) fn becomes_run(mut self) {
        if let Some(held) = self.held.take() {
            held.release();
        }
        if let Some(demands) = &self.demands {
            demands.comes_again();
        }
        self.goes_on = true;
        self.admission.on_record.set(false);
    }

    /// The name under which it is recorded.
    pub(crate) fn recorded_as(&self) -> &str {
        self.decision.as_ref().map_or(&self.admission.request_id, |d| &d.request_id)
    }

    fn decided(&self) -> bool {
        self.decision.as_ref().is_some_and(|d| d.chosen.is_some())
    }

    /// The record as its client may read it.
    fn explained(&self, record: &RequestRecord) -> Option<Value> {
        let mut record = record.clone();
        if self.admission.who.principal.key.is_some() {
            record.decision.leave_out_setup();
        }
        serde_json::to_value(&record).ok()
    }

    fn close(&mut self, status: Status, error: Option<String>) -> Tail {
        let Some(record) = self.record(status, error) else { return Tail::default() };
        let tail = Tail {
            usage: record.outcome.usage,
            cost: record.outcome.cost_usd,
            cost_known: record.outcome.cost_known,
            verdict: record.outcome.verdict,
            calls: record.outcome.calls,
            explain: match (self.explain, self.tells) {
                (true, _) => self.explained(&record),
                (false, true) => Some(trailer(&record)),
                (false, false) => None,
            },
        };
        self.write(record);
        tail
    }

    fn record(&mut self, status: Status, error: Option<String>) -> Option<RequestRecord> {
        let mut decision = *self.decision.take()?;
        if let Some(note) = self.shadow.take() {
            note.leave();
        }
        let mut run = self.trace.take();
        self.ledger.hand_over(&mut run);
        let counters = self.held.as_ref().map(Held::marks).unwrap_or_default();
        if let Some(held) = self.held.take() {
            held.settle(&run);
        }
        self.before.hand_over(&mut run);
        if let (Some(stays), Some(served)) = (self.stays.take(), &run.served_by) {
            stays.answered(&decision, served);
        }
        // Before the record itself is redacted, which is no part of what a request went through.
        let redacted = self.demands.as_ref().map(|d| d.redaction.counts()).unwrap_or_default();
        let retention_ms = self.demands.as_ref().and_then(|demands| {
            demands.ended(&run, status);
            // Before the outcome is drawn from them: what may not be recorded is not counted under its name either.
            demands.apply(&mut decision, &mut run)
        });
        let mut outcome = self.outcome(&decision, &run, status, error);
        outcome.redacted = redacted.into_iter().map(|(entity, n)| (entity.as_str().into(), n)).collect();
        outcome.expires_ms = retention_ms.map(|ms| expiry(outcome.ts_ms, ms));
        if let Some(account) = &mut outcome.account {
            account.counters = counters;
        }
        Some(RequestRecord { decision, run, outcome })
    }

    fn outcome(&self, decision: &Decision, run: &Run, status: Status, error: Option<String>) -> Outcome {
        let total_ms = self.elapsed_ms();
        let (cost_usd, cost_known) = run.cost();
        let parts = parts(run, status);
        let arm = decision.choice();
        // Who gave the first answer; the chosen arm where its workflow chooses models itself.
        let first = run.calls().find(|c| c.error.is_none()).map(|c| c.model.clone());
        let credited =
            arm.map(|a| first.filter(|_| &*a.model != learn::ANY_MODEL).unwrap_or_else(|| a.model.clone()));
        Outcome {
            request_id: decision.request_id.clone(),
            ts_ms: self.clock.unix_ms(),
            tenant: decision.tenant.clone(),
            cell: decision.cell,
            workflow: arm.map_or_else(|| "".into(), |a| a.workflow.clone()),
            served_in: arm
                .filter(|a| !run.workflow.is_empty() && *a.workflow != *run.workflow)
                .map(|_| run.workflow.as_str().into()),
            model: arm.map_or_else(|| "".into(), |a| a.model.clone()),
            served_by: run.served_by.clone(),
            continued: run.continued.is_some(),
            status,
            error,
            verdict: run.verdict,
            reward: outcome::reward(&parts),
            parts,
            usage: run.usage(),
            cost_usd,
            cost_known,
            ttft_ms: self.ttft_ms,
            total_ms,
            overhead_ms: self
                .overhead_ms
                .unwrap_or_else(|| (total_ms - self.ledger.waited().as_secs_f64() * 1e3).max(0.0)),
            calls: u32::try_from(run.calls().count()).unwrap_or(u32::MAX),
            repairs: run.repairs,
            redacted: BTreeMap::new(),
            observations: run.calls().filter(|c| !cancelled(c)).map(observation).collect(),
            propensity: decision.propensity,
            account: Some(account::account(&self.about, &self.admission.who, decision, run, status)),
            basis: credited.and_then(|m| route::basis(decision, self.features, &m)),
            expires_ms: None,
            learned: None,
        }
    }

    /// The append is the only recording on the reply path, and cannot fail the reply unless a policy says so.
    fn write(&mut self, record: RequestRecord) {
        if let Some(finished) = &self.finished {
            finished(&record);
        }
        if let Err(e) = self.store.append(&Record::Request(Box::new(record))) {
            unrecorded::say(&self.admission.request_id, &e, "an outcome is not recorded");
            self.lost = true;
        }
        // Only who demands a record pays for the question whether it is on disk.
        self.lost |= self.demands.as_ref().is_some_and(|d| d.is_audited()) && self.store.degraded();
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if self.decision.is_some() && !self.goes_on {
            self.close(Status::Cancelled, None);
        }
    }
}

impl Default for Tail {
    fn default() -> Self {
        Tail {
            usage: Usage::default(),
            cost: Usd::ZERO,
            cost_known: true,
            verdict: Verdict::None,
            calls: 0,
            explain: None,
        }
    }
}

fn cancelled(c: &types::run::CallRecord) -> bool {
    c.error.as_ref().is_some_and(|e| e.kind == ErrorKind::Cancelled)
}

fn attempt(c: &types::run::CallRecord) -> Option<Attempt> {
    let e = c.error.as_ref()?;
    Some(Attempt { model: c.model.to_string(), kind: e.kind, status: e.status })
}

fn observation(c: &types::run::CallRecord) -> CallObservation {
    CallObservation {
        model: c.model.clone(),
        ok: c.error.is_none(),
        refused: c
            .error
            .as_ref()
            .is_some_and(|e| matches!(e.kind, ErrorKind::BadRequest | ErrorKind::ContextOverflow)),
        cut: c.error.as_ref().is_some_and(|e| {
            use ErrorKind::{FirstTokenTimeout, InterTokenTimeout, TotalTimeout};
            matches!(e.kind, FirstTokenTimeout | InterTokenTimeout | TotalTimeout)
        }),
        ttft_ms: c.ttft_ms,
        total_ms: (c.total_ms - c.unread_ms).max(0.0),
        output_tokens: if c.error.is_none() { c.usage.output } else { 0 },
    }
}

/// What the run itself says of the answer. A client that left, or a provider that could not be reached, says
/// nothing of it.
fn parts(run: &Run, status: Status) -> RewardParts {
    let mut parts = RewardParts::default();
    if matches!(status, Status::Cancelled | Status::Denied) {
        return parts;
    }
    let answered = run.calls().any(|c| c.error.is_none());
    parts.contract = match run.verdict {
        Verdict::Passed => Some(1.0),
        Verdict::Failed if answered => Some(0.0),
        _ => None,
    };
    parts.judge = run.judge.map(types::UnitInterval::get);
    if parts.contract.is_some() {
        parts.no_repair = Some(if run.repairs == 0 && run.fixes == 0 { 1.0 } else { 0.0 });
    }
    parts
}
