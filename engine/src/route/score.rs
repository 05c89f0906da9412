//! Scores of all eligible arms: estimates per model, forecasts per workflow, beliefs, utility.

use super::ceilings::{Bound, Cap, Limits};
use super::excluded::{Ceiling, Cost, Excluded, Shortfall};
use super::in_time::{Hold, Odds, Span};
use super::standing::{OfFlow, SAFETY_PRIOR, Standing};
use super::utility::{latency_factor, level, price, utility};
use super::{Inputs, lambda, may_hope};
use crate::learn::{ANY_MODEL, Belief, Located, Point};
use crate::limits;
use crate::route::candidates::{Estimated, Fitting};
use std::sync::Arc;
use std::time::Duration;
use types::axis::{AxisValue, OutputContract};
use types::decision::{Arm, Decision, Reason, Terms};
use types::directives::{Directives, RuleId};
use types::limits::Metric;
use types::matrix::{ModelIx, ModelSet, Tier};
use types::{Usage, Usd};
use workflows::{Estimate, Route, Workflow};

/// An arm that was scored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scored {
    /// Position of its workflow among those that may run.
    pub(crate) flow: usize,
    /// `None` for a workflow that chooses its models itself.
    pub(crate) model: Option<ModelIx>,
    /// How far belief in its success may be off, a standard deviation; 0 where that changes nothing.
    pub(crate) doubt: f64,
}

/// An arm before it is compared with the others.
struct Draft<'a> {
    /// Position of its workflow among those that may run.
    flow: usize,
    /// `None` for a workflow that chooses its models itself.
    model: Option<&'a Estimated>,
    terms: Terms,
    utility: f64,
    cost: Option<f64>,
    cost_correction: f64,
    outcomes: f64,
    doubt: f64,
}

impl Draft<'_> {
    fn scored(&self) -> Scored {
        Scored { flow: self.flow, model: self.model.map(|e| e.ix), doubt: self.doubt }
    }
}

/// Probability that a wrong answer is caught by the checks, by contract: a form can be checked, prose not.
pub(crate) fn detection(contract: OutputContract) -> f64 {
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
pub(crate) fn estimates(
    inputs: &Inputs<'_>,
    standing: &Standing,
    models: &[ModelIx],
    directives: &Directives,
) -> Vec<Estimated> {
    let matrix = inputs.bundle.matrix();
    let facts = &inputs.profile.facts;
    let cell = inputs.profile.cell();
    // The forecast is the same before and after learning, so that what is learned of the cost, as a factor on
    // it, stays true: only times follow the lengths that were seen.
    let ceilings = [inputs.request.params.max_tokens, directives.cap_max_tokens.as_ref().map(|c| c.value)];
    let cap = ceilings.into_iter().flatten().min().map_or(f64::INFINITY, f64::from);
    let assumed = crate::caps::assumed(directives);
    let output = f64::from(facts.est_output_tokens).min(cap);
    let (input, tier) = (facts.est_input_tokens, inputs.request.dear_tier());
    let asked = Usage { input, tier, ..Usage::default() };
    let estimate = |ix: ModelIx| {
        let (model, provider, stands) = (matrix.model(ix)?, matrix.provider_of(ix)?, standing.model(ix)?);
        let usual =
            stands.lengths.map_or(output, |l| l.median(f64::from(facts.est_output_tokens.max(1))).min(cap));
        let text = facts.est_input_tokens.saturating_sub(facts.est_image_tokens);
        let images = f64::from(facts.est_image_tokens);
        let price = model.price.or(assumed).map(|p| {
            let (rates, factor) = p.of_request(&asked.of(provider));
            (f64::from(text) * rates.input + images * rates.image + output * rates.output) * factor / 1e6
        });
        let cost = if provider.tier == Tier::Free { Some(0.0) } else { price };
        Some(Estimated {
            ix,
            tier: model.quality_tier,
            cost_known: cost.is_some(),
            p95_ttft_ms: stands.p95_ttft_ms,
            estimate: Estimate {
                success: model.prior.success(cell.family, cell.sub),
                cost_usd: cost.unwrap_or(0.0),
                ttft_ms: stands.ttft_ms,
                total_ms: stands.times.total_ms(usual),
            },
        })
    };
    gathered(models.len(), models.iter().filter_map(|ix| estimate(*ix)))
}

/// All of `from`, of which there are at most `most`: a list that grows would be copied on the way.
fn gathered<T>(most: usize, from: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::with_capacity(most);
    list.extend(from);
    list
}

/// Arms in their order, and what fell out.
#[derive(Default)]
pub(crate) struct Ranked {
    /// The best first.
    pub(crate) arms: Vec<Scored>,
    /// How far below the best an arm may lie and still be explored, in points of success.
    pub(crate) slack: f64,
    /// Exponent of success in the utility.
    pub(crate) exponent: f64,
    pub(crate) excluded: Vec<Excluded>,
}

/// Scores every (workflow, model), best first; writes the arms into the record.
pub(crate) fn arms(
    inputs: &Inputs<'_>,
    standing: &Standing,
    directives: &Directives,
    limits: &Limits,
    flows: &[Arc<Workflow>],
    estimates: &[Estimated],
    decision: &mut Decision,
) -> Ranked {
    let config = &inputs.bundle.routing;
    let reference = config.cost_ref.unwrap_or_else(|| reference_cost(estimates));
    decision.cost_ref_usd = Usd::from_dollars(reference);
    let family = inputs.profile.task_family.value;
    let economy = inputs.profile.economic_policy.value.index();
    let Some(weights) = config.weights.get(economy) else { return Ranked::default() };
    let of_precision = config.precision.get(inputs.profile.precision_sensitivity.value.index());
    let multipliers = of_precision.map_or(directives.weights, |p| directives.weights.times(p));
    let weight = weights.cost * multipliers.cost;
    let young = inputs.statistics.seen_in(family) < config.young;
    let scorer = Scorer {
        inputs,
        standing,
        directives,
        limits,
        estimates,
        lambda: lambda(inputs),
        weight,
        reference,
        switching: switching(inputs, estimates, reference, weight),
        doubts: may_hope(inputs, directives)
            && (config.beta > 0.0 || config.beta_young > 0.0 || config.epsilon > 0.0),
        beta: match (may_hope(inputs, directives), young) {
            (false, _) => (0.0, 0.0),
            (true, true) => (config.beta_young, config.beta_young),
            (true, false) => (config.beta, config.beta_young),
        },
        located: inputs
            .statistics
            .locate(&Point::new(*inputs.features, family, inputs.profile.sub_label), &inputs.who.tenant.id),
        preferred: super::filter::preferred(inputs),
    };
    let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(flows.len().saturating_mul(estimates.len()));
    let mut excluded = Vec::new();
    for (at, flow) in flows.iter().enumerate() {
        scorer.flow(at, flow, &mut drafts, &mut excluded);
    }
    level(&mut drafts, |d| &mut d.terms);
    for d in &mut drafts {
        d.utility = utility(&d.terms, weights, &multipliers);
    }
    let models = drafts.iter().map(|d| d.model);
    decision.reference = super::reference::reference(models, estimates, inputs.bundle.matrix());
    // Ties go to the earlier workflow, then the earlier model: a stable sort of a stable list.
    let mut order = gathered(drafts.len(), drafts.iter().enumerate().map(|(i, d)| (falling(d.utility), i)));
    order.sort_unstable();
    let ordered = || order.iter().filter_map(|(_, i)| drafts.get(*i));
    let value = ordered().next().map_or(0.0, |d| d.utility + d.terms.price + d.terms.switching);
    decision.arms = scorer.records(drafts.len(), ordered(), flows);
    Ranked {
        arms: gathered(drafts.len(), ordered().map(Draft::scored)),
        slack: (1.0 - config.explore_within) * value.max(0.0),
        exponent: weights.success * multipliers.success,
        excluded,
    }
}

/// Orders numbers as integers, the greatest first, as `total_cmp` does: they are compared at once, and without branches.
const fn falling(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 0 { !bits ^ (1 << 63) } else { bits }
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

/// Cost that counts as 1: that of the model with the best prior (the dearer one of equals). Not that of the best belief: what
/// λ is worth would move with every outcome.
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
    standing: &'a Standing,
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
    /// It matters how far beliefs may be off: for the bonus, or for what is tried out.
    doubts: bool,
    located: Located,
    /// What the request itself prefers, one set for each selector.
    preferred: Vec<ModelSet>,
}

/// What is believed of an arm's time under a ceiling.
struct Time {
    /// Milliseconds.
    ceiling: f64,
    odds: Odds,
    /// How long it may keep the arm out.
    hold: Hold,
}

/// A ceiling or floor that an arm does not keep to.
struct Broken {
    reason: Reason,
    /// Whose it is; `None` = the request's or the workflow's.
    rule: Option<RuleId>,
    why: Why,
    /// It breaks it only for so long.
    passes: Option<Duration>,
}

/// Why an arm does not keep to a ceiling or floor.
enum Why {
    /// By figures.
    Short(Shortfall),
    /// Its price is not known; in words.
    Unpriced(String),
}

/// A workflow with what its arms share.
struct Flow<'a> {
    at: usize,
    stands: &'a OfFlow,
    /// The contract's form is checked.
    forms: bool,
    cap: Option<Cap<'a>>,
}

/// What a workflow is expected to do with a model before any evidence.
struct Expected<'a> {
    /// `None` where it chooses its models itself.
    model: Option<&'a Estimated>,
    forecast: Estimate,
    /// Probability that the contract's form holds at the end; 1 where it is not checked.
    schema: f64,
}

impl<'a> Scorer<'a> {
    /// Scores the arms of a workflow.
    fn flow(&self, at: usize, flow: &Arc<Workflow>, into: &mut Vec<Draft<'a>>, out: &mut Vec<Excluded>) {
        let Some(stands) = self.standing.flow(flow) else { return };
        let contract = self.inputs.profile.output_contract.value;
        let (forms, cap) = (contract_is_checked(contract), self.limits.cap_in(flow));
        let shared = Flow { at, stands, forms, cap };
        let mut forecaster = flow.forecaster(detection(contract), &|r| self.route(r));
        let Some(route) = flow.primary_route() else {
            let forecast = forecaster.of(Estimate::default());
            // Limits have nothing against who asks no model.
            let free = || !self.inputs.used_up.is_nothing() && flow.callers().is_empty();
            if !self.estimates.is_empty() || free() {
                self.arm(&shared, &Expected { model: None, forecast, schema: 1.0 }, into, out);
            }
            return;
        };
        let forecasts = forecaster.of_each(self.estimates.iter().map(|e| e.estimate));
        let schemas = if shared.forms { self.schemas(flow) } else { Vec::new() };
        let mut schemas = schemas.into_iter().map(|e| e.success);
        let (open, bundle) = (route.is_open(), self.inputs.bundle);
        let fitting = Fitting::new(route, self.estimates, &bundle.pools, bundle.matrix());
        for (e, forecast) in self.estimates.iter().zip(forecasts) {
            let schema = schemas.next().unwrap_or(1.0);
            if open || fitting.takes(e) {
                self.arm(&shared, &Expected { model: Some(e), forecast, schema }, into, out);
            } else {
                out.push(self.kept_out_by_route(&stands.name, e.ix));
            }
        }
    }

    /// Prior probability that the contract's form holds at the end of a workflow, as the success of each model. A form
    /// that is not kept is always noticed.
    fn schemas(&self, flow: &Workflow) -> Vec<Estimate> {
        let (contract, matrix) = (self.inputs.profile.output_contract.value, self.inputs.bundle.matrix());
        let keeps = |e: &Estimated| matrix.model(e.ix).map_or(1.0, |m| keeps_contract(contract, m.abilities));
        let alone = self.estimates.iter().map(|e| Estimate { success: keeps(e), ..e.estimate });
        flow.forecaster(1.0, &|r| self.route(r).map(|x| Estimate { success: 0.9, ..x })).of_each(alone)
    }

    fn arm(
        &self,
        of: &Flow<'_>,
        expected: &Expected<'a>,
        into: &mut Vec<Draft<'a>>,
        out: &mut Vec<Excluded>,
    ) {
        let inputs = self.inputs;
        let &Expected { model: e, forecast, schema } = expected;
        let alone = e.map_or_else(Estimate::default, |e| e.estimate);
        let prior = forecast.success.clamp(0.01, 0.99);
        let Some(stands) = of.stands.arm(e.map(|e| e.ix)) else { return };
        let belief = inputs.statistics.believe(&self.located, &stands.seat, prior, self.doubts);
        let cost_known = e.is_none_or(|e| e.cost_known);
        let cost = forecast.cost_usd * belief.cost;
        let time = self.limits.latency_ms.as_ref().map(|Bound { value: ceiling, .. }| Time {
            ceiling: *ceiling,
            odds: self.span(e, &alone, &forecast).under(*ceiling),
            hold: self.times_hold(e),
        });
        if let Some(Broken { reason, rule, why, passes }) =
            self.breaks_limit(of, e, cost, time.as_ref(), &belief)
        {
            let arm = Excluded::new(self.id(e.map(|e| e.ix)), reason).in_workflow(of.stands.name.clone());
            let arm = match why {
                Why::Short(shortfall) => arm.short(shortfall),
                Why::Unpriced(detail) => arm.saying(detail),
            };
            out.push(arm.by(rule).passing(passes));
            return;
        }
        let bonus = self.beta_of(e) * belief.doubt;
        let terms = Terms {
            success: belief.mean,
            bonus,
            optimistic: (belief.mean + bonus).min(1.0),
            quality: stands.quality,
            schema: match of.forms {
                true => stands.keeps(inputs.profile.output_contract.value, schema),
                false => schema,
            },
            cost: 1.0,
            latency: self.latency(e, &forecast, alone),
            in_time: time.map_or(1.0, |t| t.odds.in_time),
            safety: e.and_then(|e| self.standing.model(e.ix)).map_or(SAFETY_PRIOR, |m| m.safety),
            preference: e.map_or(1.0, |e| self.directives.boost_of(e.ix).exp2() * self.option_boost(e.ix)),
            circuit: e.map_or(1.0, |e| (inputs.circuit)(e.ix).factor()),
            price: price(self.lambda, self.weight, cost_known.then_some(cost), self.reference),
            switching: self
                .switching
                .filter(|(held, _)| e.is_none_or(|e| e.ix != *held))
                .map_or(0.0, |(_, x)| x),
            prior,
            strength: stands.seat.strength(),
        };
        into.push(Draft {
            flow: of.at,
            model: e,
            terms,
            utility: 0.0,
            cost: cost_known.then_some(cost),
            cost_correction: belief.cost,
            outcomes: belief.n,
            doubt: belief.doubt,
        });
    }

    fn kept_out_by_route(&self, workflow: &Arc<str>, ix: ModelIx) -> Excluded {
        let arm = Excluded::new(self.id(Some(ix)), Reason::Route).in_workflow(workflow.clone());
        arm.saying("the `route` of the workflow's primary node does not take it")
    }

    /// The name of a model in records.
    fn id(&self, model: Option<ModelIx>) -> Arc<str> {
        let model = model.and_then(|ix| self.inputs.bundle.matrix().model(ix));
        model.map_or_else(|| ANY_MODEL.into(), |m| m.id.clone())
    }

    /// The arms as the record has them. Each is written where it stays: one is longer than it takes to score it.
    fn records<'d>(
        &self,
        most: usize,
        drafts: impl Iterator<Item = &'d Draft<'d>>,
        flows: &[Arc<Workflow>],
    ) -> Vec<Arm> {
        let any: Arc<str> = ANY_MODEL.into();
        let names: Vec<_> = flows.iter().map(|f| self.standing.flow(f).map(|s| &s.name)).collect();
        let matrix = self.inputs.bundle.matrix();
        let mut arms = Vec::with_capacity(most);
        for d in drafts {
            let Some(Some(workflow)) = names.get(d.flow) else { continue };
            let model = d.model.and_then(|e| matrix.model(e.ix)).map_or(&any, |m| &m.id);
            arms.push(Arm {
                workflow: Arc::clone(workflow),
                model: Arc::clone(model),
                utility: d.utility,
                terms: d.terms,
                expected_cost_usd: d.cost.map(Usd::from_dollars),
                cost_correction: d.cost_correction,
                outcomes: d.outcomes,
                propensity: 0.0,
            });
        }
        arms
    }

    fn beta_of(&self, e: Option<&Estimated>) -> f64 {
        let reopened = e.and_then(|e| self.standing.model(e.ix)).is_some_and(|m| m.reopened);
        if reopened { self.beta.1 } else { self.beta.0 }
    }

    fn latency(&self, e: Option<&Estimated>, forecast: &Estimate, alone: Estimate) -> f64 {
        let p95 = e.map_or(forecast.ttft_ms, |e| e.p95_ttft_ms + (forecast.ttft_ms - alone.ttft_ms).max(0.0));
        let class = self.inputs.profile.latency_class.value.index();
        let budget = self.inputs.bundle.routing.latency_budget.get(class);
        latency_factor(p95, budget.map_or(30_000.0, |d| d.as_secs_f64() * 1e3))
    }

    /// The request's own `prefer`: utility × 2^0.3 per match, as a policy's `prefer` of default strength.
    fn option_boost(&self, ix: ModelIx) -> f64 {
        match self.preferred.iter().position(|set| set.contains(ix)) {
            // An order in the form of another gateway: each counts a little less than the one before.
            Some(i) if self.inputs.request.options.foreign.ordered => (1.0 - 0.2 * i as f64).max(0.2).exp2(),
            Some(_) => 0.3_f64.exp2(),
            None => 1.0,
        }
    }

    /// How long what is known of times may keep an arm out; of one whose workflow chooses its models itself, as long as it
    /// may do so of each of these.
    fn times_hold(&self, e: Option<&Estimated>) -> Hold {
        let hold = |e: &Estimated| {
            let model = self.standing.model(e.ix);
            model.map_or(Hold::Always, |m| m.times.hold(self.inputs.ts_ms))
        };
        e.map_or_else(|| self.estimates.iter().map(hold).min().unwrap_or(Hold::Always), hold)
    }

    /// What is believed of the time until the end: that of the model alone, as much longer as the forecast is. Where the
    /// workflow chooses its models itself, no more is known of it than of the least known of them.
    fn span(&self, e: Option<&Estimated>, alone: &Estimate, forecast: &Estimate) -> Span {
        let Some(model) = e.and_then(|e| self.standing.model(e.ix)) else {
            let models = self.estimates.iter().filter_map(|e| self.standing.model(e.ix));
            let least = models.map(|m| m.times.answers()).fold(f64::INFINITY, f64::min);
            return Span::about(forecast.total_ms, if least.is_finite() { least } else { 0.0 });
        };
        let span = model.times.span(alone.total_ms);
        span.stretched(forecast.total_ms / alone.total_ms.max(1.0))
    }

    /// What is set aside at least before a call of a model.
    fn least(&self, ix: ModelIx) -> Usd {
        let Inputs { bundle, request, profile, .. } = self.inputs;
        let found = bundle.matrix().model(ix).zip(bundle.matrix().provider_of(ix));
        let most = self.directives.cap_max_tokens.as_ref().map(|cap| cap.value);
        found.map_or(Usd::ZERO, |(m, p)| limits::least((m, p), request, &profile.facts, most))
    }

    fn breaks_limit(
        &self,
        of: &Flow<'_>,
        e: Option<&Estimated>,
        cost: f64,
        time: Option<&Time>,
        b: &Belief,
    ) -> Option<Broken> {
        if let Some(cap) = of.cap
            && let Some((reason, why)) = self.breaks_cap(cap, e, cost)
        {
            return Some(Broken { reason, rule: cap.rule.cloned(), why, passes: None });
        }
        if let Some(short) = e.and_then(|e| self.breaks_limit_of_model(e)) {
            return Some(Broken { reason: Reason::Limit, rule: None, why: Why::Short(short), passes: None });
        }
        self.breaks_floor(b).or_else(|| self.is_too_slow(time?))
    }

    /// What is expected of the model's own call is more than the request may use of that model.
    fn breaks_limit_of_model(&self, e: &Estimated) -> Option<Shortfall> {
        let limit = self.limits.of_model(e.ix, Metric::Usd)?;
        let cost = e.estimate.cost_usd;
        (cost * 1e9 > limit.ceiling as f64)
            .then(|| Shortfall::Usd { needs: Cost::Expected(cost), most: Ceiling::Limit(limit.clone()) })
    }

    fn breaks_floor(&self, b: &Belief) -> Option<Broken> {
        let Bound { value: floor, rule, .. } = self.limits.min_quality.as_ref()?;
        // One-sided 95 % bound of a belief that is close to normal.
        let lower = b.mean - 1.645 * b.sd();
        (lower < *floor).then(|| Broken {
            reason: Reason::MinQuality,
            rule: rule.clone(),
            why: Why::Short(Shortfall::Quality { lower, floor: *floor }),
            passes: None,
        })
    }

    /// What is known of an arm's time keeps it out: the last thing to be looked at, so that what passes is all that stands
    /// in the way.
    fn is_too_slow(&self, time: &Time) -> Option<Broken> {
        let Time { ceiling, odds, hold } = time;
        let passes = match hold {
            Hold::NoLonger => return None,
            Hold::For(left) => Some(*left),
            Hold::Always => None,
        };
        let rule = self.limits.latency_ms.as_ref().and_then(|cap| cap.rule.clone());
        let short = Shortfall::Millis { expected: odds.expected_ms, ceiling: *ceiling, holds: passes };
        odds.are_too_slow().then_some(Broken {
            reason: Reason::MaxLatency,
            rule,
            why: Why::Short(short),
            passes,
        })
    }

    /// Why an arm does not stay within a ceiling on the cost, with its figures.
    fn breaks_cap(&self, of: Cap<'_>, e: Option<&Estimated>, cost: f64) -> Option<(Reason, Why)> {
        let cap = of.most;
        if e.is_some_and(|e| !e.cost_known) {
            let whose = match of.limit {
                Some(limit) => format!(": {limit}"),
                None if of.own => ", its own `limits.usd`".to_owned(),
                None => String::new(),
            };
            return Some((Reason::UnknownPrice, Why::Unpriced(format!("under a ceiling on cost{whose}"))));
        }
        let broken = |needs: Cost| {
            let (reason, most) = match of.limit {
                Some(limit) => (Reason::Limit, Ceiling::Limit(limit.clone())),
                None if of.own => (Reason::WorkflowLimit, Ceiling::OfWorkflow(cap)),
                None => (Reason::MaxCost, Ceiling::Asked(cap)),
            };
            (reason, Why::Short(Shortfall::Usd { needs, most }))
        };
        // Where nothing may be spent, what would be paid for further calls is not: none of them is made.
        let over = cap > Usd::ZERO && cost > cap.dollars();
        if over && of.limit.is_none() {
            return Some(broken(Cost::Expected(cost)));
        }
        // Where the workflow chooses its models itself, one of them must be within it.
        let least = match e {
            Some(e) => Some(self.least(e.ix)),
            None => self.estimates.iter().map(|e| self.least(e.ix)).min(),
        };
        let least = least.unwrap_or_default();
        let short = least > cap;
        if of.limit.is_none() || cap == Usd::ZERO {
            return short.then(|| broken(Cost::Least(least)));
        }
        // What a limit would have to be raised to is the higher of both.
        (over || short).then(|| broken(Cost::higher(least, cost)))
    }

    fn route(&self, route: &Route) -> Option<Estimate> {
        let bundle = self.inputs.bundle;
        super::candidates::best(route, self.estimates, &bundle.pools, bundle.matrix())
    }
}

const fn contract_is_checked(c: OutputContract) -> bool {
    matches!(c, OutputContract::Json | OutputContract::Schema | OutputContract::ToolCalls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fall_as_they_do_by_total_comparison() {
        let list = [
            f64::INFINITY,
            2.0,
            1.0 + f64::EPSILON,
            1.0,
            1e-300,
            0.0,
            -0.0,
            -1e-300,
            -1.0,
            -1.5,
            f64::NEG_INFINITY,
        ];
        for (i, x) in list.iter().enumerate() {
            for (j, y) in list.iter().enumerate() {
                assert_eq!(falling(*x).cmp(&falling(*y)), i.cmp(&j), "{x} {y}");
                assert_eq!(falling(*x).cmp(&falling(*y)), y.total_cmp(x), "{x} {y}");
            }
        }
    }
}
