//! A router and a learner, played one query at a time: decide, hear how it turned out, learn.

use super::error::Error;
use super::stage::{self, Stage};
use super::table::Row;
use crate::learn::{self, Learner, Limits, Statistics};
use crate::route::{self, Ask};
use std::sync::Arc;
use types::axis::{AxisValue as _, TaskFamily};
use types::outcome::{Basis, Outcome};
use types::profile::{Scored, SubLabel};
use types::store::Observer as _;
use types::{ChatRequest, Decision, Features, Usd, WorkloadProfile};

/// A request as the router sees it, prepared once for all runs.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) request: Arc<ChatRequest>,
    pub(super) profile: WorkloadProfile,
    pub(super) features: Features,
}

impl Prepared {
    /// Profiles a request. `task` is the family that the caller names, as a client may; empty = it names none.
    #[must_use]
    pub fn new(stage: &Stage, request: Arc<ChatRequest>, task: &str) -> Self {
        let (mut profile, features) = stage.router.profile(&request);
        if let Some((family, sub)) = family(task) {
            profile.task_family = Scored::explicit(family);
            profile.sub_label = sub;
            profile.confidence = 1.0;
        }
        Prepared { request, profile, features }
    }
}

/// The families of the tables in the words of the house.
fn family(task: &str) -> Option<(TaskFamily, Option<SubLabel>)> {
    Some(match task {
        "math" => (TaskFamily::Chat, Some(SubLabel::Math)),
        "creative" => (TaskFamily::Chat, Some(SubLabel::Creative)),
        "knowledge_qa" => (TaskFamily::Chat, Some(SubLabel::KnowledgeQa)),
        "summarisation" => (TaskFamily::Chat, Some(SubLabel::Summarisation)),
        "translation" => (TaskFamily::Chat, Some(SubLabel::Translation)),
        "reasoning" => (TaskFamily::Chat, None),
        other => (TaskFamily::parse(other)?, None),
    })
}

/// The two of them, and the seed of their chance.
pub struct Player<'a> {
    pub(super) stage: &'a Stage,
    pub(super) learner: Learner,
    statistics: Statistics,
    runtime: tokio::runtime::Runtime,
    seed: u64,
    at: u64,
}

impl<'a> Player<'a> {
    /// `prior` is a state that was learned before.
    ///
    /// # Errors
    /// The prior is none ([`Error::State`]), or there is nothing to decide in.
    pub fn new(stage: &'a Stage, prior: Option<&[u8]>, seed: u64) -> Result<Self, Error> {
        let (mut learner, statistics) = learn::learner(Limits::default());
        if let Some(prior) = prior {
            learner.restore(prior).map_err(Error::State)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Player { stage, learner, statistics, runtime, seed, at: 0 })
    }

    /// Decides among the allowed models, in the order of the table.
    ///
    /// # Errors
    /// Nobody can be chosen, and why.
    pub fn decide(
        &mut self,
        id: &str,
        seen: &Prepared,
        allowed: impl Iterator<Item = bool>,
    ) -> Result<Decision, Error> {
        self.at += 1;
        let statistics = self.statistics.load();
        let ask = Ask {
            id,
            request: &seen.request,
            profile: &seen.profile,
            features: &seen.features,
            availability: &Stage::availability(allowed),
            statistics: &statistics,
            seed: mix(self.seed, self.at),
            ts_ms: i64::try_from(self.at).unwrap_or(i64::MAX),
        };
        self.runtime.block_on(self.stage.router.decide(ask)).map_err(|e| Error::Route(Box::new(e)))
    }

    /// Learns how the choice of a decision turned out.
    pub fn tell(&mut self, decision: &Decision, seen: &Prepared, told: &Row) {
        let Some(arm) = decision.choice() else { return };
        let basis = route::basis(decision, seen.features, &arm.model);
        let outcome = outcome(decision, &arm.model, basis, told);
        self.learner.outcome(0, &outcome);
        // A state that the learner wants saved is of no use here.
        let _ = self.learner.batch_done();
    }
}

/// A different seed for every draw of every run.
fn mix(seed: u64, at: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(at.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = (z ^ (z >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 29)
}

/// What a table knows of every arm of a decision that was taken before anything was learned.
pub(super) fn lessons(
    decision: &Decision,
    seen: &Prepared,
    told: impl Fn(usize) -> Option<Row>,
    stage: &Stage,
) -> Vec<Outcome> {
    let lesson = |arm: &types::decision::Arm| {
        let told = told(stage.place(&arm.model)?)?;
        let basis = Basis {
            features: seen.features,
            prior: arm.terms.prior,
            strength: arm.terms.strength,
            forecast_usd: arm.expected_cost_usd,
        };
        Some(outcome(decision, &arm.model, Some(basis), &told))
    };
    decision.arms.iter().filter_map(lesson).collect()
}

fn outcome(decision: &Decision, model: &Arc<str>, basis: Option<Basis>, told: &Row) -> Outcome {
    let (cost, total_ms) = (told.cost.map(Usd::from_dollars), told.latency_s.unwrap_or(0.0) * 1e3);
    let output = told.output_tokens.unwrap_or(0);
    let mut outcome = Outcome::answered(decision, model, told.quality, cost, total_ms);
    outcome.usage.output = output;
    outcome.basis = basis;
    // Without a time, tokens say nothing of speed.
    if told.latency_s.is_some() {
        outcome.observations.iter_mut().for_each(|o| o.output_tokens = output);
    }
    outcome
}

/// The name of a model in the table, from its name in a decision.
#[must_use]
pub fn plain(model: &str) -> &str {
    model.split_once('/').map_or(model, |(_, name)| name)
}

/// The name of a model in the matrix.
pub(super) fn full(model: &str) -> Arc<str> {
    stage::id(model)
}
