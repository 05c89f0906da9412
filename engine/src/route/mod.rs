//! Which (workflow, model) is expected to turn out best for a request, and why: filters, then scores, then
//! a choice whose probability is on record. Pure: the generator and every snapshot are passed in.

mod candidates;
mod ceilings;
mod choice;
mod config;
mod excluded;
pub(crate) mod filter;
mod in_time;
mod nothing;
pub(crate) mod reference;
mod router;
mod score;
mod session;
mod standing;
#[cfg(test)]
mod tests;
mod utility;

pub use config::{Config, Weights};

pub(crate) use candidates::{Candidates, Estimated, Written, matches_any, resolve};
pub(crate) use filter::{Asked, PLAIN, breadth, selected, unavailable};
pub(crate) use nothing::limit_of;
pub use router::{Ask, Router};
pub(crate) use score::detection;
pub(crate) use session::{Sessions, Warm};
pub(crate) use standing::Standings;

use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::error::{Error, Kind};
use crate::escalation;
use crate::learn::Snapshot;
use crate::limits::UsedUp;
use crate::sticky::Kept;
use crate::who::Who;
use ceilings::Limits;
use excluded::Excluded;
use rand::SeedableRng;
use rand::rngs::StdRng;
use score::Ranked;
use std::sync::Arc;
use types::axis::{AxisValue, DeterminismNeeds, PrecisionSensitivity, SafetyPosture, ToolDependence};
use types::chat::ChatRequest;
use types::decision::{AxisRecord, Decision, Exclusion, Reason, Terms};
use types::directives::{Directives, Escalate};
use types::expr::Scope;
use types::matrix::{Availability, ModelIx};
use types::options::Mode;
use types::outcome::Basis;
use types::profile::WorkloadProfile;
use types::provider::Quota;
use types::{Features, Usd, diagnostic};
use workflows::Workflow;

/// Everything a choice is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) availability: &'a [Availability],
    /// What no request can use, prepared once per configuration.
    pub(crate) unavailable: &'a Arc<Vec<Exclusion>>,
    pub(crate) circuit: &'a dyn Fn(ModelIx) -> Circuit,
    /// What is left of a model's free tier.
    pub(crate) quota: &'a dyn Fn(ModelIx) -> Option<Quota>,
    pub(crate) statistics: &'a Arc<Snapshot>,
    pub(crate) request: &'a ChatRequest,
    pub(crate) profile: &'a WorkloadProfile,
    /// The request as the learner's numbers.
    pub(crate) features: &'a Features,
    /// What the request's session was given last.
    pub(crate) warm: Option<&'a Warm>,
    /// The arm to keep while it is nearly as good as the best.
    pub(crate) kept: Option<&'a Kept>,
    /// The tenant's exploration budget is not used up.
    pub(crate) explore: bool,
    pub(crate) scope: &'a Scope,
    pub(crate) mode: Mode,
    pub(crate) seed: u64,
    pub(crate) request_id: &'a str,
    pub(crate) who: &'a Who,
    /// Models whose own limits have no room now.
    pub(crate) used_up: &'a UsedUp,
    pub(crate) ts_ms: i64,
}

/// The record of a decision, and what it came to.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) decision: Decision,
    /// What to run, or why nothing is.
    pub(crate) chosen: Result<Chosen, Error>,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) workflow: Arc<Workflow>,
    /// The models for it.
    pub(crate) candidates: Candidates,
    /// Ceiling on the cost of the tree that the request, a policy or the workflow set.
    pub(crate) cap: Option<Usd>,
}

/// Decides. `directives` hand their rules and actions over to the record. `refusal` says that the request goes no
/// further, such as for a policy that could not be evaluated: nothing is chosen then, and the record says why.
pub(crate) fn decide(inputs: &Inputs<'_>, directives: &mut Directives, refusal: Option<Error>) -> Routed {
    let mut decision = blank(inputs, directives);
    if let Some(error) = refusal {
        decision.why = error.to_string();
        return Routed { decision, chosen: Err(error) };
    }
    if let Some(d) = directives.denials.first() {
        let kind = Kind::Denied { reason: d.reason.clone(), code: d.code.clone(), status: d.status };
        decision.why = format!("denied by {}", d.rule);
        decision.denials = std::mem::take(&mut directives.denials);
        return Routed { decision, chosen: Err(kind.into()) };
    }
    let mut excluded = Vec::new();
    let chosen = choose(inputs, directives, &mut decision, &mut excluded);
    decision.excluded = excluded.into_iter().map(|e| e.record).collect();
    if let Err(e) = &chosen {
        decision.why = e.recorded();
    }
    Routed { decision, chosen }
}

/// The arm that was given last, with certainty, while its utility is at least [`KEEP`] of the best.
fn keep(inputs: &Inputs<'_>, arms: &[types::decision::Arm]) -> Option<choice::Draw> {
    /// Share of the best utility.
    const KEEP: f64 = 0.8;
    let (workflow, model) = inputs.kept?;
    let best = arms.first()?.utility;
    let near = |u: f64| best - u <= (1.0 - KEEP) * best.abs();
    let chosen = arms.iter().position(|a| a.workflow == *workflow && a.model == *model && near(a.utility))?;
    let propensity = (0..arms.len()).map(|i| if i == chosen { 1.0 } else { 0.0 }).collect();
    Some(choice::Draw { chosen, propensity, epsilon: 0.0, explored: false })
}

/// Arms of a decision that are kept, the best first: it is in memory for as long as its request is in work.
const ARMS: usize = 512;
/// Beyond them, arms of the chosen workflow, whose models answer in the place of the chosen one: what is learned of them
/// starts from their priors.
const BESIDE: usize = 64;

fn choose(
    inputs: &Inputs<'_>,
    directives: &Directives,
    decision: &mut Decision,
    excluded: &mut Vec<Excluded>,
) -> Result<Chosen, Error> {
    let asked = Asked::parse(inputs)?;
    filter::selectors(inputs)?;
    let limits = Limits::of(inputs, directives);
    let flows = filter::workflows(inputs, directives, &asked, excluded)?;
    let models = filter::models(inputs, directives, &asked, &limits, excluded);
    let standing = inputs.bundle.standings.under(inputs.bundle, inputs.statistics);
    let mut weigh = |models: &[ModelIx], excluded: &mut Vec<Excluded>| {
        filter::surcharges(inputs, directives, &limits, models)?;
        let estimates = score::estimates(inputs, &standing, models, directives);
        let mut ranked = score::arms(inputs, &standing, directives, &limits, &flows, &estimates, decision);
        excluded.append(&mut ranked.excluded);
        Ok::<_, Error>((ranked, estimates))
    };
    let (mut ranked, mut estimates) = weigh(&models.fit, excluded)?;
    // Whether a long request fits is for vendors to say, where nobody serves it who surely can.
    if ranked.arms.is_empty() && !models.doubtful.is_empty() {
        (ranked, estimates) = weigh(&models.doubtful, excluded)?;
    } else {
        models.leave_doubtful(inputs, excluded);
    }
    let Ranked { arms: scored, slack, exponent, .. } = ranked;
    if scored.is_empty() {
        return Err(nothing::nothing_left(inputs, excluded));
    }
    let config = &inputs.bundle.routing;
    let mut rng = StdRng::seed_from_u64(inputs.seed);
    let utilities: Vec<f64> = decision.arms.iter().map(|a| a.utility).collect();
    let ceiling = directives.further.as_ref().and_then(|f| f.explore.as_ref()).map_or(1.0, |s| s.value);
    let epsilon = if may_explore(inputs, directives) { config.epsilon.min(ceiling) } else { 0.0 };
    // Among those that the record keeps.
    let reopened = |arm: usize| {
        let model = scored.get(arm).filter(|_| arm < ARMS).and_then(|s| standing.model(s.model?));
        model.is_some_and(|m| m.reopened)
    };
    let believed = |arm: usize| {
        let known = decision.arms.get(arm).zip(scored.get(arm));
        known.map_or((0.0, 0.0), |(a, s)| utility::believed(a.utility, &a.terms, exponent, s.doubt))
    };
    let best = believed(0);
    // What is known of a model that changed is no measure of what is not.
    let chance = |arm: usize| match (reopened(arm), believed(arm)) {
        (true, _) => 1.0,
        (false, (utility, doubt)) => choice::chance(best.0 - utility, (best.1, doubt)),
    };
    let arms = config.explore_arms;
    let Some(draw) = choice::draw(&utilities, epsilon, arms, slack, reopened, chance, &mut rng) else {
        return Err(nothing::nothing_left(inputs, excluded));
    };
    let kept = keep(inputs, &decision.arms);
    let keeps = kept.is_some();
    let draw = kept.unwrap_or(draw);
    for (arm, p) in decision.arms.iter_mut().zip(&draw.propensity) {
        arm.propensity = *p;
    }
    decision.chosen = Some(draw.chosen);
    decision.propensity = draw.propensity.get(draw.chosen).copied().unwrap_or(1.0);
    decision.epsilon = draw.epsilon;
    decision.explored = draw.explored;
    decision.why = match keeps {
        true => "kept: a policy says so, and no other is much better".to_owned(),
        false => reason(decision),
    };
    if let Some(read) = asked.read_as(inputs) {
        decision.why = format!("{read}; {}", decision.why);
    }
    let chosen = scored.get(draw.chosen).and_then(|s| Some((s, flows.get(s.flow)?)));
    let Some((chosen, flow)) = chosen else { return Err(nothing::nothing_left(inputs, excluded)) };
    let kept_out = excluded.iter().filter(|e| e.record.reason == Reason::Breaker);
    let away = kept_out.filter_map(|e| inputs.bundle.matrix().find(&e.record.model)).collect();
    let candidates =
        Candidates::new(&scored, chosen, &estimates, inputs.bundle.pools.clone()).with_away(away);
    decision.keep_arms(ARMS, BESIDE);
    stays(directives, &candidates, decision);
    let cap = limits.cap_in(flow).map(|cap| cap.most);
    Ok(Chosen { workflow: flow.clone(), candidates, cap })
}

/// Has the record say of rules that send repairs elsewhere that nothing will come of it, where none of those models is a
/// candidate.
fn stays(directives: &Directives, candidates: &Candidates, decision: &mut Decision) {
    let to = directives.further.as_ref().and_then(|f| f.escalate.as_ref()).map(|to| &to.value);
    if let Some(Escalate::Models(set)) = to
        && candidates.only(set).is_none()
    {
        escalation::comes_to_nothing(&mut decision.actions, escalation::NOBODY);
    }
}

/// Whether arms of which little is known may be thought better of than what is known: not with low confidence, strict
/// determinism, locked-down safety, nor with high precision where tools, whose effects may be final, must be used; nor
/// where the tenant or a policy forbids exploring.
pub(crate) fn may_hope(inputs: &Inputs<'_>, directives: &Directives) -> bool {
    let p = inputs.profile;
    let allowed = directives.further.as_ref().and_then(|f| f.explore.as_ref()).is_none_or(|s| s.value > 0.0);
    allowed
        && inputs.who.tenant.allow_explore
        && p.confidence >= inputs.bundle.routing.min_confidence as f32
        && p.determinism_needs.value != DeterminismNeeds::Strict
        && p.safety_posture.value != SafetyPosture::LockedDown
        && !(p.precision_sensitivity.value == PrecisionSensitivity::High
            && p.tool_dependence.value == ToolDependence::Mandatory)
}

/// Whether another arm than the best may be drawn: where hoping is allowed, while the budget for it lasts. Not within a
/// conversation, which would lose its prompt cache twice, going and coming back; there it is judged as when it began.
pub(crate) fn may_explore(inputs: &Inputs<'_>, directives: &Directives) -> bool {
    may_hope(inputs, directives) && inputs.warm.is_none() && inputs.explore
}

/// What the learner needs of a decision when `model` gave the answer: the prior of that arm and what it is worth, and
/// the forecast if it is the one that was chosen.
#[must_use]
pub fn basis(decision: &Decision, features: Features, model: &str) -> Option<Basis> {
    let chosen = decision.choice()?;
    let arm = if *chosen.model == *model {
        chosen
    } else {
        decision.arms.iter().find(|a| a.workflow == chosen.workflow && *a.model == *model)?
    };
    let forecast = arm.expected_cost_usd.filter(|_| *chosen.model == *model);
    let before = |c: Usd| Usd::from_dollars(c.dollars() / arm.cost_correction.max(1e-6));
    let Terms { prior, strength, .. } = arm.terms;
    Some(Basis { features, prior, strength, forecast_usd: forecast.map(before) })
}

/// Why the choice is what it is, against the next best.
fn reason(d: &Decision) -> String {
    let Some(chosen) = d.choice() else { return String::new() };
    if d.explored {
        return format!("explored: one of the best few, drawn with probability {:.3}", chosen.propensity);
    }
    let Some(rival) = d.arms.get(1) else { return "the only arm left".to_owned() };
    let (a, b) = (&chosen.terms, &rival.terms);
    let value = rival.utility + b.price + b.switching;
    // What each term gives the choice over its rival, about, in points of success.
    let factor = |x: f64, y: f64| if y > 0.0 { value * (x / y - 1.0) } else { value };
    let terms = [
        ("success", a.success, b.success, factor(a.success, b.success)),
        (
            "little tried: bonus",
            a.bonus,
            b.bonus,
            factor(a.optimistic, b.optimistic) - factor(a.success, b.success),
        ),
        ("quality", a.quality, b.quality, factor(a.quality, b.quality)),
        ("schema", a.schema, b.schema, factor(a.schema, b.schema)),
        ("price", a.price, b.price, b.price - a.price),
        ("latency", a.latency, b.latency, factor(a.latency, b.latency)),
        ("safety", a.safety, b.safety, factor(a.safety, b.safety)),
        ("in time", a.in_time, b.in_time, factor(a.in_time, b.in_time)),
        ("preference", a.preference, b.preference, factor(a.preference, b.preference)),
        ("circuit", a.circuit, b.circuit, factor(a.circuit, b.circuit)),
        ("staying in the session", a.switching, b.switching, b.switching - a.switching),
    ];
    let lead = terms.iter().max_by(|x, y| x.3.total_cmp(&y.3)).filter(|(.., gain)| *gain > 0.0);
    let lead = lead.map_or(String::new(), |(n, x, y, _)| format!("{n} {x:.3} against {y:.3}: "));
    format!(
        "{lead}utility {:.3} against {:.3} ({} on {})",
        chosen.utility, rival.utility, rival.workflow, rival.model
    )
}

/// Of this program, for records.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn blank(inputs: &Inputs<'_>, directives: &mut Directives) -> Decision {
    let axes = inputs.profile.axes();
    let o = &inputs.request.options;
    let options = o.given.iter().map(|name| ((*name).to_owned(), serde_json::Value::Bool(true))).collect();
    let mut tags = o.tags.clone();
    tags.append(&mut directives.tags);
    Decision {
        request_id: inputs.request_id.to_owned(),
        ts_ms: inputs.ts_ms,
        tenant: inputs.who.tenant.id.clone(),
        key: inputs.who.principal.key_id().to_owned(),
        engine_version: VERSION.into(),
        model_asked: inputs.request.model.clone(),
        profile: axes
            .iter()
            .map(|(axis, value, confidence)| AxisRecord {
                axis: (*axis).into(),
                value: (*value).into(),
                confidence: (confidence * 1e3).round() / 1e3,
            })
            .collect(),
        cell: inputs.profile.cell(),
        est_input_tokens: inputs.profile.facts.est_input_tokens,
        rules: std::mem::take(&mut directives.rules),
        actions: std::mem::take(&mut directives.actions),
        inputs: std::mem::take(&mut directives.inputs).into_iter().collect(),
        denials: Vec::new(),
        options,
        arms: Vec::new(),
        excluded: Vec::new(),
        unavailable: inputs.unavailable.clone(),
        chosen: None,
        why: String::new(),
        propensity: 1.0,
        epsilon: 0.0,
        explored: false,
        seed: inputs.seed,
        lambda: lambda(inputs),
        cost_ref_usd: Usd::ZERO,
        reference: None,
        statistics: inputs.statistics.version,
        bundle: inputs.bundle.hash().to_string(),
        ended_under: None,
        premium: None,
        tags,
        left_out: types::decision::LeftOut::new(),
    }
}

/// λ of the request's economic policy.
pub(crate) fn lambda(inputs: &Inputs<'_>) -> f64 {
    let economy = inputs.profile.economic_policy.value;
    inputs.bundle.routing.lambda.get(economy.index()).copied().unwrap_or(0.2)
}

/// The nearest names to one that is not known.
pub(crate) fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match diagnostic::nearest(name, known).as_slice() {
        [] => "GET /v1/models lists what is".to_owned(),
        near => format!("did you mean `{}`?", near.join("` or `")),
    }
}
