//! How models and arms stand before a request is looked at: made once per configuration and snapshot.

use super::in_time::Times;
use crate::bundle::Bundle;
use crate::learn::{ANY_MODEL, Count, Latency, ModelStats, Seat, Snapshot};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use types::matrix::{Model, ModelIx, Prior};
use workflows::Workflow;

/// Quality given success before anybody has said anything, and what that is worth in opinions.
const QUALITY_PRIOR: f64 = 0.8;
pub(super) const QUALITY_STRENGTH: f64 = 8.0;

/// The last standing of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Standings(ArcSwapOption<Standing>);

impl Standings {
    /// That under a snapshot, made anew where another one was in force before.
    pub(crate) fn under(&self, bundle: &Bundle, snapshot: &Arc<Snapshot>) -> Arc<Standing> {
        let last = self.0.load();
        if let Some(standing) = last.as_ref().filter(|s| Arc::ptr_eq(&s.snapshot, snapshot)) {
            return standing.clone();
        }
        let fresh = Arc::new(Standing::of(bundle, snapshot));
        self.0.store(Some(fresh.clone()));
        fresh
    }
}

/// How all models and arms of a configuration stand in one snapshot.
#[derive(Debug)]
pub(crate) struct Standing {
    snapshot: Arc<Snapshot>,
    /// By position in the matrix.
    models: Vec<OfModel>,
    flows: Vec<OfFlow>,
}

/// How a model stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfModel {
    /// Median and 95th percentile of the time to the first content, milliseconds.
    pub(super) ttft_ms: f64,
    pub(super) p95_ttft_ms: f64,
    /// How long its whole answers take.
    pub(super) times: Times,
    /// Output tokens, where enough were seen.
    pub(super) lengths: Option<Latency>,
    /// It was seen to change, and is tried out more than others.
    pub(super) reopened: bool,
}

/// How the arms of a workflow stand.
#[derive(Debug)]
pub(crate) struct OfFlow {
    workflow: Arc<Workflow>,
    /// Its name, shared with records.
    pub(super) name: Arc<str>,
    /// By position in the matrix.
    arms: Vec<OfArm>,
    /// The arm of a workflow that chooses its models itself.
    any: OfArm,
}

/// How an arm stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfArm {
    pub(super) seat: Seat,
    /// Q.
    pub(super) quality: f64,
    /// How often the contract's form held, where the arm has outcomes.
    pub(super) contract: Option<Count>,
}

impl Standing {
    fn of(bundle: &Bundle, snapshot: &Arc<Snapshot>) -> Self {
        let matrix = bundle.matrix();
        let opinion = snapshot.opinion.posterior(QUALITY_PRIOR, QUALITY_STRENGTH);
        let learned: Vec<Option<&ModelStats>> =
            matrix.models().iter().map(|m| snapshot.model(&m.id)).collect();
        let models = matrix.models().iter().zip(&learned).map(|(m, seen)| OfModel::of(m, *seen)).collect();
        let flow = |workflow: &Arc<Workflow>| {
            let known = snapshot.workflow(&workflow.name);
            let arm = |name: &str, model: Option<&ModelStats>, strength: f64| {
                let at = known.and_then(|arms| arms.get(name).copied());
                let stats = at.and_then(|a| snapshot.stats(a));
                OfArm {
                    seat: snapshot.seat(at, model, strength),
                    quality: stats.map_or(opinion, |s| s.quality.posterior(opinion, QUALITY_STRENGTH)),
                    contract: stats.map(|s| s.contract),
                }
            };
            OfFlow {
                workflow: workflow.clone(),
                name: workflow.name.as_str().into(),
                arms: matrix
                    .models()
                    .iter()
                    .zip(&learned)
                    .map(|(m, seen)| arm(&m.id, *seen, m.prior.strength))
                    .collect(),
                any: arm(ANY_MODEL, None, Prior::default().strength),
            }
        };
        let flows = bundle.library.iter().map(flow).collect();
        Standing { snapshot: snapshot.clone(), models, flows }
    }

    pub(super) fn model(&self, ix: ModelIx) -> Option<&OfModel> {
        self.models.get(usize::from(ix.0))
    }

    pub(super) fn flow(&self, workflow: &Arc<Workflow>) -> Option<&OfFlow> {
        self.flows.iter().find(|f| Arc::ptr_eq(&f.workflow, workflow))
    }
}

impl OfModel {
    fn of(model: &Model, seen: Option<&ModelStats>) -> Self {
        /// Answers from which on their lengths say more than the profile.
        const ENOUGH: f64 = 3.0;
        let prior = &model.prior;
        let blank = Latency::default();
        OfModel {
            ttft_ms: seen.map_or(prior.ttft_ms, |s| s.ttft.median(prior.ttft_ms)),
            p95_ttft_ms: seen.map_or(&blank, |s| &s.ttft).p95(prior.ttft_ms),
            times: Times::of(prior, seen),
            lengths: seen.map(|s| s.output_tokens).filter(|l| l.n() >= ENOUGH),
            reopened: seen.is_some_and(|s| s.reopened > 0),
        }
    }
}

impl OfFlow {
    pub(super) fn arm(&self, model: Option<ModelIx>) -> OfArm {
        match model {
            Some(ix) => self.arms.get(usize::from(ix.0)).copied().unwrap_or_default(),
            None => self.any,
        }
    }
}
