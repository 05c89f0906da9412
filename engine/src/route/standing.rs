//! How models and arms stand before a request is looked at: made once per configuration and snapshot.

use super::in_time::Times;
use crate::bundle::Bundle;
use crate::learn::{ANY_MODEL, ArmStats, Count, Latency, ModelStats, Seat, Snapshot};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use types::axis::{AxisValue, OutputContract};
use types::matrix::{Model, ModelIx, Prior};
use workflows::Workflow;

/// Quality given success before anybody has said anything, and what that is worth in opinions.
const QUALITY_PRIOR: f64 = 0.8;
const QUALITY_STRENGTH: f64 = 8.0;

/// The share of answers that no rule refuses, before any was: what nobody saw a rule refuse is not held against a model.
pub(super) const SAFETY_PRIOR: f64 = 1.0;

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
    /// The share of its answers that no rule on what models say refuses.
    pub(super) safety: f64,
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
    /// S by contract: how much of its prior is gone, and what outcomes put in its place.
    forms: [(f64, f64); OutputContract::ALL.len()],
}

impl OfArm {
    /// S: the chance that the form of a contract is kept, from its prior.
    pub(super) fn keeps(&self, contract: OutputContract, prior: f64) -> f64 {
        self.forms.get(contract.index()).map_or(prior, |(gone, learned)| (1.0 - gone) * prior + learned)
    }
}

/// By contract, what outcomes of the arm make of what those of its model make of the prior, each level worth
/// [`QUALITY_STRENGTH`] outcomes.
fn forms(arm: Option<&ArmStats>, model: Option<&ModelStats>) -> [(f64, f64); OutputContract::ALL.len()] {
    let levels = [model.map(|m| m.forms), arm.map(|a| a.forms)];
    let mut out = [(0.0, 0.0); OutputContract::ALL.len()];
    for (slot, contract) in out.iter_mut().zip(OutputContract::ALL) {
        *slot = levels.iter().flatten().fold(*slot, |(gone, learned), level| {
            let Count { n, s } = level.of(*contract);
            let left = QUALITY_STRENGTH / (QUALITY_STRENGTH + n);
            (1.0 - left * (1.0 - gone), left * learned + s / (QUALITY_STRENGTH + n))
        });
    }
    out
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
                    forms: forms(stats, model),
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
            safety: seen.map_or(SAFETY_PRIOR, |s| s.safe.posterior(SAFETY_PRIOR, QUALITY_STRENGTH)),
            reopened: seen.is_some_and(|s| s.reopened > 0),
        }
    }
}

impl OfFlow {
    /// Of a model of the matrix; `None` = of the workflow that chooses its models itself.
    pub(super) fn arm(&self, model: Option<ModelIx>) -> Option<&OfArm> {
        model.map_or(Some(&self.any), |ix| self.arms.get(usize::from(ix.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Learner, Limits, learner};
    use crate::outcome::tests::sample;
    use types::outcome::Outcome;
    use types::store::Observer as _;

    fn tell(l: &mut Learner, workflow: &str, contract: OutputContract, held: f64) {
        let mut o: Outcome = sample(workflow, "p/a", held);
        o.cell.contract = contract;
        l.outcome(0, &o);
    }

    #[test]
    fn a_model_that_holds_schemas_and_breaks_calls_is_believed_in_for_the_one_alone() {
        let (mut l, stats) = learner(Limits::default());
        for _ in 0..60 {
            tell(&mut l, "w", OutputContract::Schema, 1.0);
            tell(&mut l, "w", OutputContract::ToolCalls, 0.0);
        }
        l.batch_done();
        let s = stats.load();
        let keeps = |workflow: &str, contract| {
            let forms = forms(s.arm(workflow, "p/a"), s.model("p/a"));
            OfArm { forms, ..OfArm::default() }.keeps(contract, 0.9)
        };
        for workflow in ["w", "new"] {
            assert!(keeps(workflow, OutputContract::Schema) >= 0.9);
            assert!(keeps(workflow, OutputContract::ToolCalls) <= 0.5);
            assert!((keeps(workflow, OutputContract::Json) - 0.9).abs() < 1e-12, "nothing is known of that");
        }
        assert_eq!(OfArm::default().keeps(OutputContract::Schema, 0.7), 0.7);
        // (8·(8·0.9 + 60)/68 + s)/(8 + n), by hand.
        let Count { n, s: held } = s.arm("w", "p/a").expect("learned of").forms.of(OutputContract::Schema);
        let by_hand = (8.0 * (8.0 * 0.9 + held) / (8.0 + n) + held) / (8.0 + n);
        assert!((keeps("w", OutputContract::Schema) - by_hand).abs() < 1e-12);
    }
}
