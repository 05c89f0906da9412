//! Tries another configuration on live traffic: for a share of requests, what it would have chosen, after the answer.
//!
//! Nothing is called, nothing is remembered but conversations that its rules ask about, and no request waits: a request leaves a note when it ends, and one task
//! decides it twice, under the configuration that served it and under the other, with the same numbers and the same
//! draw, and to rules of both things stand as they did when the request came. Whatever differs, differs because of the
//! configuration.

use crate::View;
use crate::admit::Gate;
use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::limits::NOTHING_USED_UP;
use crate::policy_inputs::Asks;
use crate::profiled::Profiled;
use crate::route::{self, Routed};
use crate::weigh::{self, Ground, Moment, Question};
use crate::who::Who;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use types::decision::Exclusion;
use types::matrix::{Availability, Matrix, ModelIx};
use types::provider::Quota;

/// Notes that may wait; of more, the newest are dropped and counted.
pub const QUEUE: usize = 256;
/// Examples that are kept of each kind of difference.
pub const EXAMPLES: usize = 5;

/// What a configuration made of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// The workflow that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Arc<str>>,
    /// The model that was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// Why nothing was, machine-readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why, in one sentence.
    pub why: String,
    #[serde(skip)]
    denied: bool,
}

/// How two configurations differ over a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Both choose, and not the same.
    OtherArm,
    /// Only the other one denies it.
    NewlyDenied,
    /// Only the one in force denies it.
    NoLongerDenied,
    /// Only the other one finds nothing to choose, or fails to evaluate.
    NewlyFailing,
    /// Only the one in force finds nothing to choose, or fails to evaluate.
    NoLongerFailing,
    /// Neither chooses, for different reasons.
    OtherReason,
}

impl Difference {
    /// As in reports and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Difference::OtherArm => "other_arm",
            Difference::NewlyDenied => "newly_denied",
            Difference::NoLongerDenied => "no_longer_denied",
            Difference::NewlyFailing => "newly_failing",
            Difference::NoLongerFailing => "no_longer_failing",
            Difference::OtherReason => "other_reason",
        }
    }

    fn between(active: &Side, other: &Side) -> Option<Difference> {
        Some(match (&active.refused, &other.refused) {
            (None, None) if (&active.workflow, &active.model) == (&other.workflow, &other.model) => {
                return None;
            }
            (None, None) => Difference::OtherArm,
            (None, Some(_)) if other.denied => Difference::NewlyDenied,
            (None, Some(_)) => Difference::NewlyFailing,
            (Some(_), None) if active.denied => Difference::NoLongerDenied,
            (Some(_), None) => Difference::NoLongerFailing,
            (Some(a), Some(b)) if a == b => return None,
            (Some(_), Some(_)) => Difference::OtherReason,
        })
    }
}

/// One request over which the two differ.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// The request.
    pub request_id: String,
    /// Unix milliseconds.
    pub ts_ms: i64,
    /// What differs.
    pub difference: Difference,
    /// What the configuration in force makes of it.
    pub active: Side,
    /// What the other one makes of it.
    pub shadow: Side,
}

/// What came of it so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Share of requests that are looked at.
    pub share: f64,
    /// Requests that were decided under both.
    pub requests: u64,
    /// Requests over which both agree.
    pub same: u64,
    /// Requests over which they do not, by how.
    pub different: BTreeMap<Difference, u64>,
    /// Requests that were not looked at because too many waited.
    pub dropped: u64,
    /// Some of each kind of difference, the first that came.
    pub examples: Vec<Example>,
}

/// Which requests a configuration is tried on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Share of the requests, above 0 and up to 1.
    pub share: f64,
    /// How many are looked at, at most; `None` = as many as come.
    pub most: Option<u64>,
}

impl Sample {
    /// Every request.
    pub const ALL: Sample = Sample { share: 1.0, most: None };
}

/// A configuration that is tried.
pub(crate) struct Shadow {
    sample: Sample,
    /// What its policies ask for.
    asks: Asks,
    notes: mpsc::Sender<Box<Note>>,
    results: Arc<Results>,
}

#[derive(Default)]
struct Results {
    report: Mutex<Report>,
    dropped: AtomicU64,
    /// As many requests have been looked at as shall be.
    done: AtomicBool,
}

/// A request with all that its choice depends on but the configuration.
pub(crate) struct Note {
    shadow: Arc<Shadow>,
    pub(crate) view: Arc<View>,
    pub(crate) profiled: Profiled,
    pub(crate) who: Arc<Who>,
    pub(crate) request_id: String,
    pub(crate) moment: Moment,
    /// Who asked, and how things stood.
    around: policies::Around,
}

impl Shadow {
    /// A configuration to be tried, and the work that tries it: it ends when nothing can send it notes any more.
    pub(crate) fn new(
        bundle: Arc<Bundle>,
        availability: Vec<Availability>,
        sample: Sample,
    ) -> (Shadow, impl Future<Output = ()> + Send + 'static) {
        let (notes, waiting) = mpsc::channel(QUEUE);
        let (results, asks) = (Arc::new(Results::default()), bundle.asks.clone());
        let other =
            Other { unavailable: route::unavailable(bundle.matrix(), &availability), bundle, availability };
        let work = compare(other, waiting, results.clone(), sample.most);
        (Shadow { sample, asks, notes, results }, work)
    }

    /// Whether the request with that seed is looked at. Seeds are spread evenly.
    pub(crate) fn takes(&self, seed: u64) -> bool {
        const BITS: u32 = 53;
        !self.is_done() && ((seed >> (u64::BITS - BITS)) as f64) < self.sample.share * (1_u64 << BITS) as f64
    }

    /// Whether as many requests have been looked at as shall be.
    fn is_done(&self) -> bool {
        self.results.done.load(Relaxed)
    }

    /// Whether its policies ask what came before in a conversation, which has to be remembered of every request.
    pub(crate) const fn asks_for_history(&self) -> bool {
        self.asks.history
    }

    /// What has to be found out for its policies and for those in force.
    pub(crate) fn asks_with(&self, in_force: &Asks) -> Asks {
        in_force.and(&self.asks)
    }

    /// Whether there is time for it: under load it is the first thing that is left out, and counted.
    pub(crate) fn has_time(&self, gate: &Gate) -> bool {
        let time = !gate.is_busy();
        if !time {
            self.results.dropped.fetch_add(1, Relaxed);
        }
        time
    }

    /// What came of it so far.
    pub(crate) fn report(&self) -> Report {
        let report = self.results.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Report { share: self.sample.share, dropped: self.results.dropped.load(Relaxed), ..report }
    }
}

impl Note {
    pub(crate) fn new(
        shadow: Arc<Shadow>,
        view: &Arc<View>,
        about: Question<'_>,
        around: policies::Around,
    ) -> Note {
        Note {
            shadow,
            view: view.clone(),
            profiled: about.profiled.clone(),
            who: about.who.clone(),
            request_id: about.request_id.to_owned(),
            moment: about.moment.clone(),
            around,
        }
    }

    /// The request has ended.
    pub(crate) fn leave(self: Box<Self>) {
        let shadow = self.shadow.clone();
        // What comes when enough have been looked at is none of it.
        if shadow.notes.try_send(self).is_err() && !shadow.is_done() {
            shadow.results.dropped.fetch_add(1, Relaxed);
        }
    }

    fn question(&self) -> Question<'_> {
        Question {
            profiled: &self.profiled,
            who: &self.who,
            request_id: &self.request_id,
            moment: &self.moment,
            // What is used up now was not when the request came, and the other way round.
            used_up: &NOTHING_USED_UP,
        }
    }
}

/// The configuration that is tried, with what can be called under it.
struct Other {
    bundle: Arc<Bundle>,
    availability: Vec<Availability>,
    unavailable: Arc<Vec<Exclusion>>,
}

async fn compare(
    other: Other,
    mut waiting: mpsc::Receiver<Box<Note>>,
    results: Arc<Results>,
    most: Option<u64>,
) {
    while let Some(note) = waiting.recv().await {
        let active = side(weigh::weigh_under(&note.view, note.question(), &note.around).await);
        let shadow = side(other.weigh(&note).await);
        let looked_at = results.add(&note, active, shadow);
        if most.is_some_and(|most| looked_at >= most) {
            results.done.store(true, Relaxed);
            return;
        }
        // Requests that wait for this thread come first.
        tokio::task::yield_now().await;
    }
}

impl Other {
    /// Breakers and free tiers are those of the models in force; a model that only this one has is untried.
    async fn weigh(&self, note: &Note) -> Routed {
        let (ours, live) = (self.bundle.matrix(), note.view.bundle.matrix());
        let circuit = |ix| same_model(ours, live, ix).map_or(Circuit::Closed, |ix| note.view.circuit(ix));
        let quota = |ix| -> Option<Quota> { note.view.reach.provider.quota(same_model(ours, live, ix)?) };
        let ground = Ground {
            bundle: &self.bundle,
            availability: &self.availability,
            unavailable: &self.unavailable,
            circuit: &circuit,
            quota: &quota,
        };
        weigh::weigh(&ground, note.question(), &note.around).await
    }
}

fn same_model(ours: &Matrix, live: &Matrix, ix: ModelIx) -> Option<ModelIx> {
    live.find(&ours.model(ix)?.id)
}

fn side(Routed { decision, chosen }: Routed) -> Side {
    match chosen {
        Ok(_) => {
            let arm = decision.choice();
            Side {
                workflow: arm.map(|a| a.workflow.clone()),
                model: arm.map(|a| a.model.clone()),
                refused: None,
                why: decision.why.clone(),
                denied: false,
            }
        }
        Err(error) => {
            let denial = decision.denials.first();
            let why =
                denial.map_or_else(|| decision.why.clone(), |d| format!("{}: {}", decision.why, d.reason));
            Side {
                workflow: None,
                model: None,
                refused: Some(error.code().to_owned()),
                why,
                denied: denial.is_some(),
            }
        }
    }
}

impl Results {
    /// How many requests have been looked at, this one among them.
    fn add(&self, note: &Note, active: Side, shadow: Side) -> u64 {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.add(note, active, shadow);
        report.requests
    }
}

impl Report {
    fn add(&mut self, note: &Note, active: Side, shadow: Side) {
        self.requests = self.requests.saturating_add(1);
        let Some(difference) = Difference::between(&active, &shadow) else {
            self.same = self.same.saturating_add(1);
            return;
        };
        let n = self.different.entry(difference).or_default();
        *n = n.saturating_add(1);
        if *n <= EXAMPLES as u64 {
            let (request_id, ts_ms) = (note.request_id.clone(), note.moment.ts_ms);
            self.examples.push(Example { request_id, ts_ms, difference, active, shadow });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chose(workflow: &str, model: &str) -> Side {
        Side {
            workflow: Some(workflow.into()),
            model: Some(model.into()),
            refused: None,
            why: String::new(),
            denied: false,
        }
    }

    fn refused(code: &str, denied: bool) -> Side {
        Side { workflow: None, model: None, refused: Some(code.to_owned()), why: String::new(), denied }
    }

    #[test]
    fn differences_have_names() {
        let (one, two) = (chose("direct", "a/one"), chose("direct", "a/two"));
        let (denied, empty) = (refused("denied", true), refused("no_candidates", false));
        for (active, shadow, want) in [
            (&one, &one, None),
            (&one, &two, Some(Difference::OtherArm)),
            (&one, &chose("repair", "a/one"), Some(Difference::OtherArm)),
            (&one, &denied, Some(Difference::NewlyDenied)),
            (&denied, &one, Some(Difference::NoLongerDenied)),
            (&one, &empty, Some(Difference::NewlyFailing)),
            (&empty, &one, Some(Difference::NoLongerFailing)),
            (&denied, &empty, Some(Difference::OtherReason)),
            (&denied, &denied, None),
        ] {
            assert_eq!(Difference::between(active, shadow), want, "{active:?} {shadow:?}");
            if let Some(d) = want {
                assert_eq!(serde_json::to_value(d).ok(), Some(d.as_str().into()));
            }
        }
        // For the reason alone two choices do not differ.
        assert_eq!(Difference::between(&one, &Side { why: "otherwise".to_owned(), ..one.clone() }), None);
    }
}
