//! All that is settled of a request before its first call: what it is, what policies say, which arm takes it, and
//! what that may use.

use crate::about;
use crate::answer::Admission;
use crate::approvals::HeldAnswer;
use crate::bound;
use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::demands::Demands;
use crate::error::Error;
use crate::govern::Governed;
use crate::history::Turn;
use crate::limits::{self, Asker, Count, Held, NOTHING_USED_UP, Partial, USUAL, UsedUp, Worst};
use crate::premium;
use crate::route;
use crate::settle::unix_ms;
use crate::shadow::{Moment, Note};
use crate::sticky::{Holder, Kept};
use crate::who::Who;
use crate::{Inner, View};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::chat::ChatRequest;
use types::decision::Exclusion;
use types::directives::{Directives, LimitRule, Set};
use types::matrix::{Availability, ModelIx, Tier};
use types::provider::Quota;
use types::{Usage, Usd};

/// What is known of a request before its first call.
pub(crate) struct Decided {
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) profile: types::WorkloadProfile,
    pub(crate) features: types::Features,
    pub(crate) scope: types::expr::Scope,
    pub(crate) directives: Directives,
    pub(crate) seed: u64,
    pub(crate) decision: types::Decision,
    /// What is to run, or why nothing is.
    pub(crate) routed: Result<route::Chosen, Error>,
    /// Most that the request may cost by what it, policies and the workflow say, whatever budgets leave of it.
    pub(crate) ceiling: Option<Usd>,
    /// To be decided once more when the request has ended, under a configuration that is tried.
    pub(crate) shadow: Option<Box<Note>>,
    /// What policies demand of the answer and the record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// An answer that people have agreed to: it goes out instead of another.
    pub(crate) agreed: Option<Box<HeldAnswer>>,
    /// The approval that it names and has; used up when its work begins.
    pub(crate) approval: Option<String>,
    /// Models that were no candidates because their own limits had no room.
    pub(crate) used_up: UsedUp,
    /// Time in which it waited for what others had set aside.
    pub(crate) waited: Duration,
    /// Who asks, for the limits of rules.
    pub(crate) asker: Asker,
}

/// A request with all that its choice depends on but the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) request: &'a Arc<ChatRequest>,
    pub(crate) profile: &'a types::WorkloadProfile,
    pub(crate) features: &'a types::Features,
    pub(crate) who: &'a Who,
    pub(crate) request_id: &'a str,
    pub(crate) moment: &'a Moment,
    /// Models whose own limits have no room now.
    pub(crate) used_up: &'a UsedUp,
}

/// A configuration with the state of what it names.
pub(crate) struct Ground<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) availability: &'a [Availability],
    pub(crate) unavailable: &'a Arc<Vec<Exclusion>>,
    pub(crate) circuit: &'a (dyn Fn(ModelIx) -> Circuit + Sync),
    pub(crate) quota: &'a (dyn Fn(ModelIx) -> Option<Quota> + Sync),
}

/// Asks the policies and chooses, for somebody of whom nothing else is known. Nothing is noted, nothing is taken.
pub(crate) async fn weigh(on: &Ground<'_>, about: Question<'_>) -> (Weighed, route::Outcome) {
    let who = about.who;
    let around =
        policies::Around { tenant: who.tenant.clone(), key: who.key.clone(), ..policies::Around::default() };
    let (scope, mut directives, unevaluated) = said(on.bundle, about, &around).await;
    let routed = choose(on, about, &scope, &mut directives, unevaluated, None);
    ((scope, directives), routed)
}

/// The same under a configuration in force.
pub(crate) async fn weigh_under(view: &View, about: Question<'_>) -> (Weighed, route::Outcome) {
    let (circuit, quota) = (|ix| view.circuit(ix), |ix| view.reach.provider.quota(ix));
    weigh(&ground(view, &circuit, &quota), about).await
}

fn ground<'a>(
    view: &'a View,
    circuit: &'a (dyn Fn(ModelIx) -> Circuit + Sync),
    quota: &'a (dyn Fn(ModelIx) -> Option<Quota> + Sync),
) -> Ground<'a> {
    let (availability, unavailable) = (&view.availability, &view.unavailable);
    Ground { bundle: &view.bundle, availability, unavailable, circuit, quota }
}

/// What the policies say; with it what they saw, and why the request fails where they cannot say it.
async fn said(
    bundle: &Bundle,
    about: Question<'_>,
    around: &policies::Around,
) -> (types::expr::Scope, Directives, Option<Error>) {
    let Question { request, profile, moment, .. } = about;
    let scope = policies::scope(&policies::Inputs { request, profile, around, unix_ms: moment.ts_ms });
    match bundle.policies.evaluate(policies::Phase::Request, &scope).await {
        Ok(directives) => (scope, directives, None),
        Err(e) => {
            // It is the operator's to mend, and a client reads nothing of it.
            if let policies::Error::Evaluation { rule, detail } = &e {
                tracing::warn!(
                    rule = &**rule,
                    detail,
                    "a rule could not be evaluated; its request is refused"
                );
            }
            (scope, Directives::default(), Some(e.into()))
        }
    }
}

/// Chooses. `refusal` = nothing is chosen; `kept` = what is to be kept while nothing is much better.
fn choose(
    on: &Ground<'_>,
    about: Question<'_>,
    scope: &types::expr::Scope,
    directives: &mut Directives,
    refusal: Option<Error>,
    kept: Option<&Kept>,
) -> route::Outcome {
    let Question { request, profile, features, who, request_id, moment, used_up } = about;
    let inputs = route::Inputs {
        bundle: on.bundle,
        availability: on.availability,
        unavailable: on.unavailable,
        circuit: on.circuit,
        quota: on.quota,
        statistics: &moment.statistics,
        request,
        profile,
        features,
        warm: moment.warm.as_ref(),
        kept,
        explore: moment.explore,
        scope,
        mode: moment.mode,
        seed: moment.seed,
        request_id,
        who,
        used_up,
        ts_ms: moment.ts_ms,
    };
    route::decide(&inputs, directives, refusal)
}

/// What a record says of a request that may not use what budgets hold back.
const NOT_PREMIUM: &str = "no";

/// What the policies saw and said.
type Weighed = (types::expr::Scope, Directives);

/// Profiles a request, asks the policies, chooses, and reserves what the choice may cost; for so long it waits where only
/// what requests in work have set aside stands against that.
pub(crate) async fn decide(
    inner: &Inner,
    view: &Arc<View>,
    admission: &Admission,
    request: Arc<ChatRequest>,
    held: &mut Option<Held>,
    (ts_ms, patience): (i64, Duration),
) -> Decided {
    let who = &admission.who;
    let mut decided = consider(inner, view, admission, request, ts_ms, true).await;
    let Decided { request, profile, directives, decision, routed, agreed, used_up, waited, asker, .. } =
        &mut decided;
    let premium = premium::why(who, profile, premium::said(directives));
    if who.reserving {
        decision.premium = Some(premium.unwrap_or(NOT_PREMIUM).into());
    }
    if let (None, Ok(chosen)) = (&*agreed, &mut *routed) {
        let rules = limits_of(directives);
        let (premium, count) = (premium.is_some(), Count::Request);
        let purpose = Purpose { request, profile, asker, rules, premium, count };
        let begun = Instant::now();
        let latest = admission.deadline.map(|d| admission.received + d);
        let latest = [Some(begun + patience), latest].into_iter().flatten().min().unwrap_or(begun);
        let mut waiting = inner.patience.until(latest, &inner.gate);
        let reserved = loop {
            match reserve(inner, view, held, purpose, chosen, unix_ms()).await {
                Err(refused) if waiting.helps(&refused).await => {}
                ended => break ended,
            }
        };
        *waited = begun.elapsed();
        match reserved {
            Ok(()) => held.iter().for_each(|held| held.without(used_up)),
            Err(e) => *routed = Err(e),
        }
    }
    decided
}

/// Notes what a request is given, once nothing keeps it from being served: those that come after it are chosen for
/// with a view to it.
pub(crate) fn note(
    inner: &Inner,
    who: &Who,
    request: &ChatRequest,
    directives: &Directives,
    decision: &types::Decision,
) {
    inner.sessions.note(request.options.session.as_deref(), decision);
    inner.explorers.note(decision);
    let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
    if let Some(holder) = sticky.and_then(|s| Holder::of(s.value, &who.tenant.id, request)) {
        inner.arms.note(&holder, decision);
    }
}

/// Profiles a request, asks the policies and chooses. Nothing is noted or reserved; people are asked only if `ask`.
pub(crate) async fn consider(
    inner: &Inner,
    view: &Arc<View>,
    admission: &Admission,
    request: Arc<ChatRequest>,
    ts_ms: i64,
    ask: bool,
) -> Decided {
    let who = &admission.who;
    // profile
    let profile = profiler::profile(&request);
    let features = profiler::features(&request, &profile);

    // policy
    let session = request.options.session.as_deref();
    let moment = Moment {
        statistics: inner.statistics.load(),
        warm: inner.sessions.warm(&who.tenant.id, session, ts_ms),
        explore: who.tenant.allow_explore
            && !inner.gate.in_brownout()
            && inner.explorers.allows(&who.tenant.id, view.bundle.routing.budget),
        mode: inner.config.mode,
        seed: inner.next_seed(),
        ts_ms,
    };
    let about = Question {
        request: &request,
        profile: &profile,
        features: &features,
        who,
        request_id: &admission.request_id,
        moment: &moment,
        used_up: &NOTHING_USED_UP,
    };
    let turn = view.bundle.asks.history.then(|| Turn::of(&who.tenant.id, &request));
    let around = about::around(inner, view, admission, turn, ask, ts_ms).await;
    let (scope, mut directives, unevaluated) = said(&view.bundle, about, &around).await;
    let tried = inner.shadow.load_full().filter(|s| s.takes(moment.seed) && s.has_time(&inner.gate));
    let shadow = tried.map(|s| Box::new(Note::new(s, view, about, moment.clone(), who)));
    let asker = Asker::of(inner, view, who, &request);
    let governed = Governed::unchanged(request.clone(), profile.clone(), scope);
    let governed = governed.under(inner, view, who, &directives, turn, ask);
    let Governed { request, profile, scope, demands, agreed, approval, refusal } = governed;

    // route
    let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
    let holder = sticky.and_then(|s| Holder::of(s.value, &who.tenant.id, &request));
    let kept = holder.as_ref().and_then(|h| inner.arms.last(h));
    let (circuit, quota) = (|ix| view.circuit(ix), |ix| view.reach.provider.quota(ix));
    let premium = premium::why(who, &profile, premium::said(&directives)).is_some();
    let partial = of_models(view, who, &request, limits_of(&directives), premium);
    let used_up = limits::used_up(inner, view, who, (&request, &profile.facts), &partial, ts_ms).await;
    let about = Question { request: &request, profile: &profile, used_up: &used_up, ..about };
    let routed = choose(
        &ground(view, &circuit, &quota),
        about,
        &scope,
        &mut directives,
        unevaluated.or(refusal),
        kept.as_ref(),
    );
    let (decision, routed) = match routed {
        Ok(r) => (r.decision, Ok((r.workflow, r.candidates, r.cap))),
        Err(e) => (e.0, Err(e.1)),
    };
    let seed = moment.seed;
    let ceiling = routed.as_ref().ok().and_then(|(_, _, cap)| *cap);
    Decided {
        request,
        profile,
        features,
        scope,
        directives,
        seed,
        decision,
        routed,
        ceiling,
        shadow,
        demands,
        agreed,
        approval,
        used_up,
        waited: Duration::ZERO,
        asker,
    }
}

/// What something is reserved for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose<'a> {
    pub(crate) request: &'a ChatRequest,
    pub(crate) profile: &'a types::WorkloadProfile,
    pub(crate) asker: &'a Asker,
    /// Limits of policies.
    pub(crate) rules: &'a [Set<LimitRule>],
    /// It may use what limits hold back.
    pub(crate) premium: bool,
    pub(crate) count: Count,
}

/// Limits that count only calls of some models.
fn of_models(
    view: &View,
    who: &Who,
    request: &ChatRequest,
    rules: &[Set<LimitRule>],
    premium: bool,
) -> Vec<Partial> {
    let models = (&**view.bundle.matrix(), &*view.bundle.pools);
    limits::partial(who, models, &request.options.tags, rules, premium)
}

fn limits_of(directives: &Directives) -> &[Set<LimitRule>] {
    directives.further.as_ref().map_or(&[], |f| f.limits.as_slice())
}

/// Reserves what a choice may use, on the limits of the key and its tenant, and on those of policies.
///
/// # Errors
/// The limit that is reached; limits cannot be counted here.
pub(crate) async fn reserve(
    inner: &Inner,
    view: &View,
    held: &mut Option<Held>,
    Purpose { request, profile, asker, rules, premium, count }: Purpose<'_>,
    (workflow, candidates, cap): &route::Chosen,
    ts_ms: i64,
) -> Result<(), Error> {
    if held.is_none() && rules.is_empty() {
        return Ok(());
    }
    let who = &asker.who;
    let worst = worst(view, request, profile, workflow, candidates, *cap);
    let before = held.as_ref().map_or(0, Held::parts);
    let mut taken = Ok(());
    if let Some(held) = held {
        taken = held.reserve(who, (worst, premium), (&request.options.tags, count), ts_ms).await;
    }
    if taken.is_ok() && !rules.is_empty() {
        taken = Held::demand(held, inner.limits.as_ref(), asker, (rules, count), worst, ts_ms).await;
    }
    if let Err(refused) = taken {
        // It may be asked for again, all of it or nothing.
        held.iter_mut().for_each(|held| held.back_to(before));
        return Err(refused);
    }
    if let Some(held) = held {
        held.open(who, of_models(view, who, request, rules, premium), count);
    }
    Ok(())
}

/// What is set aside for a tree at first: the calls that its workflow makes in any case, each as long as it may be at the
/// first choice of its node, and no more than its ceiling says. What it turns out to need beyond that its calls take one
/// by one: whoever held all that it might ever use would keep others out for nothing.
fn worst(
    view: &View,
    request: &ChatRequest,
    profile: &types::WorkloadProfile,
    workflow: &workflows::Workflow,
    candidates: &route::Candidates,
    cap: Option<Usd>,
) -> Worst {
    let (matrix, facts) = (view.bundle.matrix(), &profile.facts);
    let asked = bound::sure(matrix, workflow, candidates);
    let (mut all, mut least, mut longest) = (Usd::ZERO, None, 0);
    for (ix, calls) in asked {
        let Some((model, provider)) = matrix.model(ix).zip(matrix.provider_of(ix)) else { continue };
        let wished =
            request.params.max_tokens.map_or(model.max_output_tokens, |n| n.min(model.max_output_tokens));
        let output = wished.saturating_mul(request.params.n.max(1));
        let usage = Usage {
            input: facts.most_input_tokens,
            image: facts.most_image_tokens,
            output,
            ..Usage::default()
        };
        let price = model.price.filter(|_| provider.tier != Tier::Free);
        let one = price.map_or(Usd::ZERO, |p| p.most(&usage));
        all = all.plus(Usd::from_nanos(one.nanos().saturating_mul(i64::from(calls))));
        least =
            [least, Some(limits::least((model, provider), request, facts, None))].into_iter().flatten().min();
        longest = output.max(longest);
    }
    let said = request.params.max_tokens;
    let longest = longest.min(said.unwrap_or(USUAL));
    let with_input = |output: u32| u64::from(facts.most_input_tokens).saturating_add(u64::from(output));
    Worst {
        usd: cap.map_or(all, |c| c.min(all)),
        least: least.unwrap_or_default(),
        tokens: with_input(longest),
        least_tokens: with_input(if said.is_some() { longest } else { longest.min(limits::SHORTEST) }),
    }
}
