//! Scores of all eligible arms: estimates per model, forecasts per workflow, beliefs, utility.

use super::filter::Limits;
use super::utility::{cost_factor, latency_factor, utility};
use super::{Inputs, belief, lambda, may_explore};
use crate::learn::ANY_MODEL;
use crate::route::candidates::Estimated;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::sync::Arc;
use types::Usd;
use types::axis::{AxisValue, OutputContract};
use types::decision::{Arm, Decision, Exclusion, Terms};
use types::directives::Directives;
use types::matrix::{ModelIx, Tier};
use workflows::{Estimate, Route, Workflow};

/// An arm that was scored.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub(crate) workflow: Arc<Workflow>,
    /// `None` for a workflow that chooses its models itself.
    pub(crate) model: Option<ModelIx>,
}

/// Probability that a wrong answer is caught by the checks, by contract: a form can be checked, prose not.
fn detection(contract: OutputContract) -> f64 {
    match contract {
        OutputContract::Schema => 0.6,
        OutputContract::Json | OutputContract::ToolCalls => 0.4,
        OutputContract::CodePatch => 0.1,
        OutputContract::Prose => 0.02,
    }
}

/// Prior probability that a model's answer keeps to the contract.
fn keeps_contract(contract: OutputContract, a: types::matrix::Abilities) -> f64 {
    match contract {
        OutputContract::Schema if a.json_schema => 0.97,
        OutputContract::Json | OutputContract::Schema if a.json => 0.9,
        OutputContract::Json | OutputContract::Schema => 0.75,
        OutputContract::ToolCalls => 0.95,
        OutputContract::Prose | OutputContract::CodePatch => 1.0,
    }
}

/// What each model would do with the request, alone.
pub(crate) fn estimates(inputs: &Inputs<'_>, models: &[ModelIx]) -> Vec<Estimated> {
    let matrix = inputs.bundle.matrix();
    let facts = &inputs.profile.facts;
    let cell = inputs.profile.cell();
    let estimate = |ix: ModelIx| {
        let (model, provider) = (matrix.model(ix)?, matrix.provider_of(ix)?);
        let seen = inputs.statistics.models.get(&model.id);
        let learned = seen.filter(|s| s.output_tokens.n() >= 3.0);
        let mut output = learned.map_or(f64::from(facts.est_output_tokens), |s| {
            s.output_tokens.median(f64::from(facts.est_output_tokens.max(1)))
        });
        if let Some(cap) = inputs.request.params.max_tokens {
            output = output.min(f64::from(cap));
        }
        let price =
            model.price.map(|p| (f64::from(facts.est_input_tokens) * p.input + output * p.output) / 1e6);
        let cost = if provider.tier == Tier::Free { Some(0.0) } else { price };
        let ttft = seen.map_or(model.prior.ttft_ms, |s| s.ttft.median(model.prior.ttft_ms));
        let p95 = seen.map_or_else(
            || crate::learn::Latency::default().p95(model.prior.ttft_ms),
            |s| s.ttft.p95(model.prior.ttft_ms),
        );
        let per_token = 1e3 / model.prior.tokens_per_second.max(0.1);
        let per_token = seen.map_or(per_token, |s| s.per_token.median(per_token));
        Some(Estimated {
            ix,
            tier: model.quality_tier,
            cost_known: cost.is_some(),
            p95_ttft_ms: p95,
            estimate: Estimate {
                success: model.prior.success(cell.family, cell.sub),
                cost_usd: cost.unwrap_or(0.0),
                ttft_ms: ttft,
                total_ms: ttft + per_token * output,
            },
        })
    };
    models.iter().filter_map(|ix| estimate(*ix)).collect()
}

/// Scores every (workflow, model), best first; writes the arms and what fell out into the record.
pub(crate) fn arms(
    inputs: &Inputs<'_>,
    directives: &Directives,
    limits: &Limits,
    flows: &[Arc<Workflow>],
    estimates: &[Estimated],
    decision: &mut Decision,
) -> Vec<Scored> {
    let lambda = lambda(inputs);
    let reference = reference_cost(estimates);
    decision.cost_ref_usd = Usd::from_dollars(reference);
    let scorer =
        Scorer { inputs, directives, limits, estimates, lambda, reference, routes: RefCell::default() };
    let mut scored: Vec<(Scored, Arm)> = Vec::with_capacity(flows.len().saturating_mul(estimates.len()));
    for flow in flows {
        scorer.routes.borrow_mut().clear();
        let name: Arc<str> = flow.name.as_str().into();
        if flow.has_primary() {
            for e in estimates {
                scorer.arm(flow, &name, Some(e), &mut scored, &mut decision.excluded);
            }
        } else if !estimates.is_empty() {
            scorer.arm(flow, &name, None, &mut scored, &mut decision.excluded);
        }
    }
    // Ties go to the earlier workflow, then the earlier model: a stable sort of a stable list.
    scored.sort_by(|a, b| b.1.utility.partial_cmp(&a.1.utility).unwrap_or(Ordering::Equal));
    let (scored, arms) = scored.into_iter().unzip();
    decision.arms = arms;
    scored
}

/// Cost that counts as 1: that of the model believed in most (the dearer one of equals).
fn reference_cost(estimates: &[Estimated]) -> f64 {
    let best = estimates.iter().max_by(|a, b| {
        let success = a.estimate.success.total_cmp(&b.estimate.success);
        success.then(a.estimate.cost_usd.total_cmp(&b.estimate.cost_usd))
    });
    let of_best = best.map_or(0.0, |e| e.estimate.cost_usd);
    if of_best > 0.0 {
        return of_best;
    }
    estimates.iter().map(|e| e.estimate.cost_usd).fold(0.0, f64::max)
}

struct Scorer<'a> {
    inputs: &'a Inputs<'a>,
    directives: &'a Directives,
    limits: &'a Limits,
    estimates: &'a [Estimated],
    lambda: f64,
    reference: f64,
    /// Forecasts of a workflow's other routes, which do not depend on the primary model.
    routes: RefCell<Vec<(*const Route, Option<Estimate>)>>,
}

impl Scorer<'_> {
    fn arm(
        &self,
        flow: &Arc<Workflow>,
        flow_name: &Arc<str>,
        e: Option<&Estimated>,
        into: &mut Vec<(Scored, Arm)>,
        out: &mut Vec<Exclusion>,
    ) {
        let inputs = self.inputs;
        let model = e.and_then(|e| inputs.bundle.matrix().model(e.ix));
        let name: Arc<str> = model.map_or_else(|| ANY_MODEL.into(), |m| m.id.clone());
        let contract = inputs.profile.output_contract.value;
        let alone =
            e.map_or(Estimate { success: 0.0, cost_usd: 0.0, ttft_ms: 0.0, total_ms: 0.0 }, |e| e.estimate);
        let route = |r: &Route| self.route(r);
        let forecast = flow.forecast(alone, detection(contract), &route);
        let schema = match model {
            // Prose has no form to keep to.
            Some(m) if contract_is_checked(contract) => {
                let holds = Estimate { success: keeps_contract(contract, m.abilities), ..alone };
                // A contract that does not hold is always noticed.
                flow.forecast(holds, 1.0, &|r| self.route(r).map(|x| Estimate { success: 0.9, ..x })).success
            }
            _ => 1.0,
        };
        let stats = inputs.statistics.arm(&flow.name, &name);
        let config = &inputs.bundle.routing;
        let cell = inputs.profile.cell();
        let lift = forecast.success - alone.success;
        let belief = belief::believe(
            config,
            stats.map(|a| &**a),
            &cell,
            |f| match model {
                Some(m) => (m.prior.success(f, (f == cell.family).then_some(cell.sub).flatten()) + lift)
                    .clamp(0.0, 1.0),
                None => forecast.success,
            },
            model.map_or(8.0, |m| m.prior.strength),
        );
        let beta =
            if may_explore(inputs) { belief::beta(config, inputs.statistics, cell.family) } else { 0.0 };
        let bonus = beta * belief.sd;
        let p95 = e.map_or(forecast.ttft_ms, |e| e.p95_ttft_ms + (forecast.ttft_ms - alone.ttft_ms).max(0.0));
        let cost_known = e.is_none_or(|e| e.cost_known);
        if let Some((reason, detail)) = self.breaks_limit(flow, &forecast, &belief, cost_known) {
            out.push(Exclusion {
                model: name,
                workflow: Some(flow_name.clone()),
                reason: reason.into(),
                rule: None,
                detail: Some(detail),
            });
            return;
        }
        let budget = config
            .latency_budget
            .get(inputs.profile.latency_class.value.index())
            .map_or(30_000.0, |d| d.as_secs_f64() * 1e3);
        let terms = Terms {
            success: belief.mean,
            bonus,
            optimistic: (belief.mean + bonus).min(1.0),
            quality: stats.map_or(QUALITY_PRIOR, |a| a.quality.posterior(QUALITY_PRIOR, QUALITY_STRENGTH)),
            schema: match stats {
                Some(a) if contract_is_checked(contract) => a.contract.posterior(schema, QUALITY_STRENGTH),
                _ => schema,
            },
            cost: cost_factor(self.lambda, cost_known.then_some(forecast.cost_usd), self.reference),
            latency: latency_factor(p95, budget),
            safety: 1.0,
            preference: e.map_or(1.0, |e| self.directives.boost_of(e.ix).exp2() * self.option_boost(&name)),
            circuit: e.map_or(1.0, |e| (inputs.circuit)(e.ix).factor()),
            budget: 1.0,
            price: 0.0,
            prior: 0.0,
        };
        let weights = config.weights.get(inputs.profile.economic_policy.value.index());
        let Some(weights) = weights else { return };
        let u = utility(&terms, weights, &self.directives.weights);
        let arm = Arm {
            workflow: flow_name.clone(),
            model: name,
            utility: u,
            terms,
            expected_cost_usd: cost_known.then(|| Usd::from_dollars(forecast.cost_usd)),
            cost_correction: 1.0,
            outcomes: belief.n,
            propensity: 0.0,
        };
        into.push((Scored { workflow: flow.clone(), model: e.map(|e| e.ix) }, arm));
    }

    /// The request's own `prefer`: utility × 2^0.3 per match, as a policy's `prefer` of default strength.
    fn option_boost(&self, model: &str) -> f64 {
        let o = &self.inputs.request.options;
        if o.prefer.is_empty() {
            return 1.0;
        }
        let matrix = self.inputs.bundle.matrix();
        let pools = &self.inputs.bundle.pools;
        let hit =
            matrix.find(model).is_some_and(|ix| super::candidates::matches_any(&o.prefer, ix, pools, matrix));
        if hit { 0.3_f64.exp2() } else { 1.0 }
    }

    fn breaks_limit(
        &self,
        flow: &Workflow,
        f: &Estimate,
        b: &belief::Belief,
        cost_known: bool,
    ) -> Option<(&'static str, String)> {
        let cap = self.limits.cap_in(flow);
        if cap.is_some() && !cost_known {
            return Some(("unknown_price", "under a ceiling on cost".to_owned()));
        }
        if let Some(cap) = cap
            && f.cost_usd > cap.dollars()
        {
            return Some(("max_cost", format!("expected {:.6} > {cap} USD", f.cost_usd)));
        }
        if let Some(cap) = self.limits.latency_ms
            && f.total_ms > cap
        {
            return Some(("max_latency", format!("expected {:.0} > {cap:.0} ms", f.total_ms)));
        }
        let floor = self.limits.min_quality?;
        // One-sided 95 % bound of a belief that is close to normal.
        let lower = b.mean - 1.645 * b.sd;
        (lower < floor).then(|| ("min_quality", format!("lower bound {lower:.3} < {floor}")))
    }

    fn route(&self, route: &Route) -> Option<Estimate> {
        let key: *const Route = route;
        if let Some((_, known)) = self.routes.borrow().iter().find(|(k, _)| *k == key) {
            return *known;
        }
        let found = super::candidates::best(
            route,
            self.estimates,
            &self.inputs.bundle.pools,
            self.inputs.bundle.matrix(),
        );
        self.routes.borrow_mut().push((key, found));
        found
    }
}

/// Quality given success before anybody has said anything, and what that is worth in opinions.
const QUALITY_PRIOR: f64 = 0.8;
const QUALITY_STRENGTH: f64 = 8.0;

const fn contract_is_checked(c: OutputContract) -> bool {
    matches!(c, OutputContract::Json | OutputContract::Schema | OutputContract::ToolCalls)
}
