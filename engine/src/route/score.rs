//! Scores of all eligible arms: estimates per model, forecasts per workflow, beliefs, utility.

use super::filter::Limits;
use super::utility::{latency_factor, level, price, utility};
use super::{Inputs, lambda, may_explore};
use crate::learn::{ANY_MODEL, Belief, Located, ModelStats, Point};
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

/// What each model would do with the request, alone; `assumed` is the price of those whose own is not known.
pub(crate) fn estimates(
    inputs: &Inputs<'_>,
    models: &[ModelIx],
    assumed: Option<types::matrix::Price>,
) -> Vec<Estimated> {
    let matrix = inputs.bundle.matrix();
    let facts = &inputs.profile.facts;
    let cell = inputs.profile.cell();
    let estimate = |ix: ModelIx| {
        let (model, provider) = (matrix.model(ix)?, matrix.provider_of(ix)?);
        let seen = inputs.statistics.model(&model.id);
        // The forecast is the same before and after learning, so that what is learned of the cost, as a factor on
        // it, stays true: only times follow the lengths that were seen.
        let cap = inputs.request.params.max_tokens.map_or(f64::INFINITY, f64::from);
        let output = f64::from(facts.est_output_tokens).min(cap);
        let usual = seen
            .filter(|s| s.output_tokens.n() >= 3.0)
            .map_or(output, |s| s.output_tokens.median(f64::from(facts.est_output_tokens.max(1))).min(cap));
        let price = model
            .price
            .or(assumed)
            .map(|p| (f64::from(facts.est_input_tokens) * p.input + output * p.output) / 1e6);
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
                total_ms: ttft + per_token * usual,
            },
        })
    };
    models.iter().filter_map(|ix| estimate(*ix)).collect()
}

/// Scores every (workflow, model), best first; writes the arms and what fell out into the record. Gives also how
/// far below the best an arm may lie and still be explored.
pub(crate) fn arms(
    inputs: &Inputs<'_>,
    directives: &Directives,
    limits: &Limits,
    flows: &[Arc<Workflow>],
    estimates: &[Estimated],
    decision: &mut Decision,
) -> (Vec<Scored>, f64) {
    let config = &inputs.bundle.routing;
    let reference = config.cost_ref.unwrap_or_else(|| reference_cost(estimates));
    decision.cost_ref_usd = Usd::from_dollars(reference);
    let family = inputs.profile.task_family.value;
    let Some(weights) = config.weights.get(inputs.profile.economic_policy.value.index()) else {
        return (Vec::new(), 0.0);
    };
    let explores = may_explore(inputs);
    let young = inputs.statistics.seen_in(family) < config.young;
    let scorer = Scorer {
        inputs,
        directives,
        limits,
        estimates,
        lambda: lambda(inputs),
        weight: weights.cost * directives.weights.cost,
        reference,
        switching: switching(inputs, estimates, reference, weights.cost * directives.weights.cost),
        beta: match (explores, young) {
            (false, _) => (0.0, 0.0),
            (true, true) => (config.beta_young, config.beta_young),
            (true, false) => (config.beta, config.beta_young),
        },
        located: inputs.statistics.locate(&Point::new(*inputs.features, family, inputs.profile.sub_label)),
        opinion: inputs.statistics.opinion.posterior(QUALITY_PRIOR, QUALITY_STRENGTH),
        routes: RefCell::default(),
    };
    let most = flows.len().saturating_mul(estimates.len());
    let mut scored: Vec<(Scored, Arm)> = Vec::with_capacity(most);
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
    let mut terms: Vec<Terms> = scored.iter().map(|(_, a)| a.terms).collect();
    level(&mut terms);
    for ((_, arm), t) in scored.iter_mut().zip(terms) {
        arm.utility = utility(&t, weights, &directives.weights);
        arm.terms = t;
    }
    // Ties go to the earlier workflow, then the earlier model: a stable sort of a stable list.
    scored.sort_by(|a, b| b.1.utility.partial_cmp(&a.1.utility).unwrap_or(Ordering::Equal));
    let value = scored.first().map_or(0.0, |(_, a)| a.utility + a.terms.price + a.terms.switching);
    let (scored, arms) = scored.into_iter().unzip();
    decision.arms = arms;
    (scored, (1.0 - config.explore_within) * value.max(0.0))
}

/// What leaving the session's model is worth, in points of success: the prompt cache that would be lost, and
/// the conversion. `None` outside of a session.
fn switching(
    inputs: &Inputs<'_>,
    estimates: &[Estimated],
    reference: f64,
    weight: f64,
) -> Option<(ModelIx, f64)> {
    let warm = inputs.warm?;
    let matrix = inputs.bundle.matrix();
    let ix = matrix.find(&warm.model).filter(|ix| estimates.iter().any(|e| e.ix == *ix))?;
    let saving = warm.saving(matrix.model(ix)?.price, inputs.profile.facts.est_input_tokens);
    Some((ix, price(lambda(inputs), weight, Some(saving), reference) + inputs.bundle.routing.switch))
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
    /// Of the cost, the policies' multiplier included.
    weight: f64,
    reference: f64,
    /// The session's model, and what leaving it is worth.
    switching: Option<(ModelIx, f64)>,
    /// β, and β of a model that was seen to change.
    beta: (f64, f64),
    located: Located,
    /// What judges and people say on the whole.
    opinion: f64,
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
        let alone = e.map_or_else(Estimate::default, |e| e.estimate);
        let forecast = flow.forecast(alone, detection(contract), &|r| self.route(r));
        let prior = forecast.success.clamp(0.01, 0.99);
        let of_model = model.and_then(|m| inputs.statistics.model(&m.id));
        let learned = inputs.statistics.workflow(&flow.name).and_then(|arms| arms.get(&name).copied());
        let belief = inputs.statistics.believe(&self.located, learned, of_model, prior, self.beta.1 > 0.0);
        let cost_known = e.is_none_or(|e| e.cost_known);
        let cost = forecast.cost_usd * belief.cost;
        if let Some((reason, detail)) = self.breaks_limit(flow, cost, forecast.total_ms, &belief, cost_known)
        {
            out.push(Exclusion {
                model: name,
                workflow: Some(flow_name.clone()),
                reason: reason.into(),
                rule: None,
                detail: Some(detail),
            });
            return;
        }
        let bonus = self.beta_of(of_model) * belief.doubt;
        let stats = learned.and_then(|a| inputs.statistics.stats(a));
        let schema = self.schema(flow, model, alone);
        let terms = Terms {
            success: belief.mean,
            bonus,
            optimistic: (belief.mean + bonus).min(1.0),
            quality: stats.map_or(self.opinion, |a| a.quality.posterior(self.opinion, QUALITY_STRENGTH)),
            schema: match stats {
                Some(a) if contract_is_checked(contract) => a.contract.posterior(schema, QUALITY_STRENGTH),
                _ => schema,
            },
            cost: 1.0,
            latency: self.latency(e, &forecast, alone),
            safety: 1.0,
            preference: e.map_or(1.0, |e| self.directives.boost_of(e.ix).exp2() * self.option_boost(&name)),
            circuit: e.map_or(1.0, |e| (inputs.circuit)(e.ix).factor()),
            budget: 1.0,
            price: price(self.lambda, self.weight, cost_known.then_some(cost), self.reference),
            switching: self
                .switching
                .filter(|(held, _)| e.is_none_or(|e| e.ix != *held))
                .map_or(0.0, |(_, x)| x),
            prior,
        };
        let arm = Arm {
            workflow: flow_name.clone(),
            model: name,
            utility: 0.0,
            terms,
            expected_cost_usd: cost_known.then(|| Usd::from_dollars(cost)),
            cost_correction: belief.cost,
            outcomes: belief.n,
            propensity: 0.0,
        };
        into.push((Scored { workflow: flow.clone(), model: e.map(|e| e.ix) }, arm));
    }

    fn beta_of(&self, model: Option<&ModelStats>) -> f64 {
        if model.is_some_and(|m| m.reopened > 0) { self.beta.1 } else { self.beta.0 }
    }

    /// Prior probability that the contract's form holds at the end of the workflow.
    fn schema(&self, flow: &Workflow, model: Option<&Arc<types::matrix::Model>>, alone: Estimate) -> f64 {
        let contract = self.inputs.profile.output_contract.value;
        match model {
            // Prose has no form to keep to.
            Some(m) if contract_is_checked(contract) => {
                let holds = Estimate { success: keeps_contract(contract, m.abilities), ..alone };
                // A contract that does not hold is always noticed.
                flow.forecast(holds, 1.0, &|r| self.route(r).map(|x| Estimate { success: 0.9, ..x })).success
            }
            _ => 1.0,
        }
    }

    fn latency(&self, e: Option<&Estimated>, forecast: &Estimate, alone: Estimate) -> f64 {
        let p95 = e.map_or(forecast.ttft_ms, |e| e.p95_ttft_ms + (forecast.ttft_ms - alone.ttft_ms).max(0.0));
        let class = self.inputs.profile.latency_class.value.index();
        let budget = self.inputs.bundle.routing.latency_budget.get(class);
        latency_factor(p95, budget.map_or(30_000.0, |d| d.as_secs_f64() * 1e3))
    }

    /// The request's own `prefer`: utility × 2^0.3 per match, as a policy's `prefer` of default strength.
    fn option_boost(&self, model: &str) -> f64 {
        let o = &self.inputs.request.options;
        if o.prefer.is_empty() {
            return 1.0;
        }
        let matrix = self.inputs.bundle.matrix();
        let pools = &self.inputs.bundle.pools;
        let Some(ix) = matrix.find(model) else { return 1.0 };
        let matches = |s: &String| super::candidates::matches_any(std::slice::from_ref(s), ix, pools, matrix);
        match o.prefer.iter().position(matches) {
            // An order in the form of another gateway: each counts a little less than the one before.
            Some(i) if o.foreign.ordered => (1.0 - 0.2 * i as f64).max(0.2).exp2(),
            Some(_) => 0.3_f64.exp2(),
            None => 1.0,
        }
    }

    fn breaks_limit(
        &self,
        flow: &Workflow,
        cost: f64,
        total_ms: f64,
        b: &Belief,
        cost_known: bool,
    ) -> Option<(&'static str, String)> {
        let cap = self.limits.cap_in(flow);
        if cap.is_some() && !cost_known {
            return Some(("unknown_price", "under a ceiling on cost".to_owned()));
        }
        if let Some(cap) = cap
            && cost > cap.dollars()
        {
            return Some(("max_cost", format!("expected {cost:.6} > {cap} USD")));
        }
        if let Some(cap) = self.limits.latency_ms
            && total_ms > cap
        {
            return Some(("max_latency", format!("expected {total_ms:.0} > {cap:.0} ms")));
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
