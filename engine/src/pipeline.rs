//! The way of a request, top to bottom, one call per room.

use crate::about;
use crate::account::About;
use crate::answer::{Admission, Answer, Head, Whole};
use crate::approvals::HeldAnswer;
use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::calls::{Calls, Ceilings};
use crate::demands::Demands;
use crate::error::{Error, Kind};
use crate::govern::Governed;
use crate::history::Turn;
use crate::ledger::{Ledger, Limits};
use crate::limits::{Held, SHORTEST, USUAL, Worst};
use crate::live::{self, Flow};
use crate::redact::Answers;
use crate::respond::{self, Again, Respond};
use crate::rewrite::blocked;
use crate::route;
use crate::settle::{self, Tree};
use crate::shadow::{Moment, Note};
use crate::sticky::{Holder, Kept};
use crate::tools::{self, Toolbox};
use crate::who::Who;
use crate::{Inner, View};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use types::chat::ChatRequest;
use types::decision::Exclusion;
use types::directives::{Directives, Escalate};
use types::matrix::{Availability, Dialect, ModelIx, Price, Tier};
use types::provider::{Edits, Quota};
use types::{Usage, Usd};
use workflows::{Ending, RunFailure, Trace, Trailer, Wire};

/// Answers one request.
pub(crate) async fn chat(inner: &Inner, admission: Admission, request: ChatRequest) -> Result<Answer, Error> {
    // admit
    let ts_ms = settle::unix_ms();
    let who = admission.who.clone();
    let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places())?;
    let mut held = Held::enter(inner.limits.as_ref(), &who, ts_ms).await?;
    let view = inner.view.load_full();
    if let Some((param, message)) = workflows::impossible(&request) {
        return Err(Kind::Invalid { param, message }.into());
    }

    // profile, policy, route
    let decided = decide(inner, &view, &admission, Arc::new(request), &mut held, ts_ms).await;
    let Decided {
        request,
        profile,
        features,
        scope,
        mut directives,
        seed,
        decision,
        routed,
        shadow,
        demands,
        agreed,
    } = decided;
    let ledger = Ledger::under(limits(&directives));
    let trace = Trace::default();
    let about = About::of(&decision, view.bundle.matrix(), profile.facts.images);
    let mut tree = Tree {
        about,
        store: inner.store.clone(),
        finished: inner.finished.clone(),
        explain: request.options.explain,
        demands,
        lost: false,
        decision: Some(Box::new(decision)),
        features,
        trace: trace.clone(),
        ledger: ledger.clone(),
        before: Ledger::default(),
        held,
        overhead_ms: None,
        ttft_ms: None,
        shadow,
        _permit: permit,
        admission,
    };
    let (workflow, candidates, cap) = match routed {
        Ok(routed) => routed,
        Err(e) => return Err(tree.failed(e)),
    };
    let answers = tree.demands.as_ref().and_then(|d| d.answers(&request)).map(Box::new);
    let name: Arc<str> = workflow.name.as_str().into();
    let describe = {
        let view = view.clone();
        move |tree: &mut Tree| head(&view, tree, name)
    };
    let deadline = deadline(inner, &tree.admission, &request, &directives, workflow.limits.wall);
    if let Some(agreed) = agreed {
        return agreed_on(*agreed, request.stream, deadline, tree, answers, describe).await;
    }

    // workflow (and provider and validate, within)
    let (sink, chunks) = if request.stream && !respond::holds_back(&view, &scope, &request, &directives) {
        let (tx, rx) = mpsc::channel(live::CHUNKS);
        (Some(tx), Some(rx))
    } else {
        (None, None)
    };
    let ceilings = ceilings(&directives);
    let calls = Calls {
        after: Ledger::default(),
        reach: view.reach.clone(),
        request: request.clone(),
        request_id: tree.admission.request_id.clone(),
        profile,
        candidates,
        ledger,
        started: tree.admission.received,
        deadline,
        cap,
        ceilings: Ceilings {
            attempts: [ceilings.attempts, request.options.foreign.attempts].into_iter().flatten().min(),
            ..ceilings
        },
        seed,
        outside: inner.outside(),
        tools: Toolbox::new(
            view.bundle.tools.clone(),
            &who.principal.tenant.id,
            tools::Guard {
                view: view.clone(),
                scope: scope.clone(),
                tools: respond::of_tools(directives.further.as_deref()),
                demands: tree.demands.as_deref().cloned(),
                trace: trace.clone(),
            },
            inner.background.get().cloned(),
        ),
        made: Arc::new(AtomicU32::new(0)),
        log: None,
    };
    let input = workflows::Input {
        request: request.clone(),
        scope,
        language: view.bundle.language.clone(),
        extra_validators: std::mem::take(&mut directives.validators),
        edits: Edits::default(),
        sink,
        inputs: serde_json::Map::new(),
        vars: vars(&directives),
        usd: cap,
        facts: workflows::Facts {
            id: tree.admission.request_id.clone(),
            seed,
            ..workflows::Facts::default()
        },
        deadline: Some(deadline),
        trace,
        observer: None,
    };
    let further = directives.further.as_deref();
    let demands = tree.demands.as_deref().filter(|_| respond::concerns(&view, &request, further));
    let respond = demands.map(|demands| {
        Box::new(Respond {
            view: view.clone(),
            who,
            approvals: inner.approvals.clone(),
            demands: demands.clone(),
            tools: respond::of_tools(further),
            again: Again::of(&input, &calls, &workflow),
        })
    });
    let afterwards = inner.afterwards(&tree.admission);
    let wire = workflow.wire();
    // Boxed once: a run is large, and would be copied with every hand it passes through.
    let run = Box::pin(async move {
        let calls = Arc::new(calls);
        let done = Box::pin(workflows::run(workflow, input, calls.clone())).await;
        if let (Some(later), Some(afterwards)) = (done.later, afterwards) {
            afterwards.begin(later, calls);
        }
        match respond {
            Some(respond) => Box::pin(respond.answered(done.ending)).await,
            None => done.ending,
        }
    });

    // settle, assess: in `Tree`, whichever way the run ends; learn follows the log
    match request.stream {
        true => {
            let (run, chunks) = (Some(run as _), chunks.unwrap_or_else(|| mpsc::channel(1).1));
            tree.explain = match wire.trailer {
                Trailer::OptIn => tree.explain,
                Trailer::Always => true,
                Trailer::Never => false,
            };
            let (ready, early) = (VecDeque::new(), false);
            let flow = Flow { run, chunks, tree, deadline, ready, answers, wire, early, end: None };
            Ok(Answer::Live(flow.start(describe).await?))
        }
        false => whole(timeout_at(deadline, run).await.ok(), tree, answers.as_deref(), describe),
    }
}

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
    /// To be decided once more when the request has ended, under a configuration that is tried.
    pub(crate) shadow: Option<Box<Note>>,
    /// What policies demand of the answer and the record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// An answer that people have agreed to: it goes out instead of another.
    pub(crate) agreed: Option<Box<HeldAnswer>>,
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
            let error = Kind::PolicyEvaluation(e.public_message()).into();
            (scope, Directives::default(), Some(error))
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
    let Question { request, profile, features, who, request_id, moment } = about;
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
        ts_ms: moment.ts_ms,
    };
    route::decide(&inputs, directives, refusal)
}

/// What the policies saw and said.
type Weighed = (types::expr::Scope, Directives);

/// Profiles a request, asks the policies, chooses, and reserves what the choice may cost.
pub(crate) async fn decide(
    inner: &Inner,
    view: &Arc<View>,
    admission: &Admission,
    request: Arc<ChatRequest>,
    held: &mut Option<Held>,
    ts_ms: i64,
) -> Decided {
    let who = &admission.who;
    let mut decided = consider(inner, view, admission, request, ts_ms, true).await;
    let Decided { request, profile, directives, decision, routed, agreed, .. } = &mut decided;
    if routed.is_ok() {
        inner.sessions.note(request.options.session.as_deref(), decision);
        inner.explorers.note(decision);
        let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
        if let Some(holder) = sticky.and_then(|s| Holder::of(s.value, &who.tenant.id, request)) {
            inner.arms.note(&holder, decision);
        }
    }
    if let (None, Ok(chosen)) = (&*agreed, &mut *routed)
        && let Err(e) = reserve(inner, view, who, held, (request, profile, directives), chosen, ts_ms).await
    {
        *routed = Err(e);
    }
    decided
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
    };
    let turn = view.bundle.asks.history.then(|| Turn::of(&who.tenant.id, &request));
    let around = about::around(inner, view, admission, turn, ts_ms).await;
    let (scope, mut directives, unevaluated) = said(&view.bundle, about, &around).await;
    let tried = inner.shadow.load_full().filter(|s| s.takes(moment.seed) && s.has_time(&inner.gate));
    let shadow = tried.map(|s| Box::new(Note::new(s, view, about, moment.clone(), who)));
    let governed = Governed::unchanged(request.clone(), profile.clone(), scope);
    let governed = governed.under(inner, view, who, &directives, turn, ask);
    let Governed { request, profile, scope, demands, agreed, refusal } = governed;

    // route
    let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
    let holder = sticky.and_then(|s| Holder::of(s.value, &who.tenant.id, &request));
    let kept = holder.as_ref().and_then(|h| inner.arms.last(h));
    let (circuit, quota) = (|ix| view.circuit(ix), |ix| view.reach.provider.quota(ix));
    let about = Question { request: &request, profile: &profile, ..about };
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
    Decided { request, profile, features, scope, directives, seed, decision, routed, shadow, demands, agreed }
}

/// Reserves what a choice may use, on the limits of the key and its tenant, and on those of policies; lowers the
/// ceiling on its cost to what there is.
async fn reserve(
    inner: &Inner,
    view: &View,
    who: &Who,
    held: &mut Option<Held>,
    (request, profile, directives): (&ChatRequest, &types::WorkloadProfile, &Directives),
    (workflow, candidates, cap): &mut route::Chosen,
    ts_ms: i64,
) -> Result<(), Error> {
    let rules = directives.further.as_ref().map_or(&[] as &[_], |f| f.limits.as_slice());
    if held.is_none() && rules.is_empty() {
        return Ok(());
    }
    let matrix = view.bundle.matrix();
    let mut worst = worst(view, request, profile, workflow, candidates, *cap);
    if let Some(held) = held {
        let names = candidates.names(matrix);
        let allowed = held.reserve(who, worst, &names, &request.options.tags, ts_ms).await?;
        *cap = [*cap, allowed].into_iter().flatten().min();
        worst.usd = cap.map_or(worst.usd, |c| c.min(worst.usd));
    }
    if !rules.is_empty() {
        let first = candidates.first().and_then(|ix| matrix.model(ix)).map(|m| m.id.clone());
        let of = (request, first.as_deref().unwrap_or_default());
        let allowed = Held::demand(held, inner.limits.as_ref(), who, rules, of, worst, ts_ms).await?;
        *cap = [*cap, allowed].into_iter().flatten().min();
    }
    Ok(())
}

/// Gives an answer that is there already.
async fn agreed_on(
    agreed: HeldAnswer,
    stream: bool,
    deadline: Instant,
    mut tree: Tree,
    answers: Option<Box<Answers>>,
    describe: impl FnOnce(&mut Tree) -> Head,
) -> Result<Answer, Error> {
    let HeldAnswer { completion, model, verdict } = agreed;
    tree.trace.put(types::Run { served_by: Some(model.id.clone()), verdict, ..types::Run::default() });
    let ending = Ending::Delivered { completion, model, verdict };
    tree.first_byte();
    if !stream {
        return whole(Some(ending), tree, answers.as_deref(), describe);
    }
    let run = Some(Box::pin(std::future::ready(ending)) as _);
    let chunks = mpsc::channel(1).1;
    let (ready, wire) = (VecDeque::new(), Wire::default());
    let flow = Flow { run, chunks, tree, deadline, ready, answers, wire, early: false, end: None };
    Ok(Answer::Live(flow.start(describe).await?))
}

fn whole(
    ending: Option<Ending>,
    mut tree: Tree,
    answers: Option<&Answers>,
    describe: impl FnOnce(&mut Tree) -> Head,
) -> Result<Answer, Error> {
    match ending {
        Some(Ending::Delivered { mut completion, .. } | Ending::Streamed { mut completion, .. }) => {
            if let Some(Err(e)) = answers.map(|a| a.whole(&mut completion)) {
                return Err(tree.failed(blocked(e)));
            }
            let head = describe(&mut tree);
            let tail = tree.delivered();
            if let Some(e) = tree.unrecorded() {
                return Err(e);
            }
            Ok(Answer::Whole(Box::new(Whole { head, tail, completion })))
        }
        Some(Ending::Broken { error, .. }) => Err(tree.failed(Kind::Provider(error).into())),
        Some(Ending::Failed(f)) => {
            let refusal = tree.refusal();
            Err(tree.failed(refusal.unwrap_or_else(|| failure(f))))
        }
        Some(Ending::Suspended(s)) => Err(tree.failed(suspended(&s))),
        None => Err(tree.failed(Kind::Deadline.into())),
    }
}

/// What a tree is allowed to use: as much as its ceiling says, else every call of its workflow at the model chosen,
/// each as long as it may be. What the tree turns out to need beyond that, it does not get.
fn worst(
    view: &View,
    request: &ChatRequest,
    profile: &types::WorkloadProfile,
    workflow: &workflows::Workflow,
    candidates: &route::Candidates,
    cap: Option<Usd>,
) -> Worst {
    let matrix = view.bundle.matrix();
    let input = profile.facts.est_input_tokens;
    let first = candidates.first().and_then(|ix| Some((matrix.model(ix)?, matrix.provider_of(ix)?)));
    let longest = first.map_or(0, |(m, _)| {
        request.params.max_tokens.map_or(m.max_output_tokens, |n| n.min(m.max_output_tokens))
    });
    let output = longest.saturating_mul(request.params.n.max(1));
    let price = first.and_then(|(m, p)| m.price.filter(|_| p.tier != Tier::Free));
    let cost = |output| price.map_or(Usd::ZERO, |p| p.cost(&Usage { input, output, ..Usage::default() }));
    let calls = i64::from(workflow.max_calls().max(1));
    let all = Usd::from_nanos(cost(output).nanos().saturating_mul(calls));
    Worst {
        usd: cap.map_or(all, |c| c.min(all)),
        least: cost(output.min(SHORTEST)),
        tokens: u64::from(input)
            .saturating_add(u64::from(output.min(request.params.max_tokens.unwrap_or(USUAL)))),
    }
}

/// The shortest of all times that are allowed.
fn deadline(
    inner: &Inner,
    admission: &Admission,
    request: &ChatRequest,
    directives: &Directives,
    wall: Option<std::time::Duration>,
) -> Instant {
    let capped = directives.cap_latency.as_ref().map(|s| s.value);
    let shortest =
        [admission.deadline, request.options.max_latency, capped, wall].into_iter().flatten().min();
    admission.received
        + shortest.map_or(inner.config.default_deadline, |d| d.min(inner.config.default_deadline))
}

/// Values that policies give the workflow's own variables.
fn vars(d: &Directives) -> Vec<(String, serde_json::Value)> {
    let set = d.further.iter().flat_map(|f| &f.vars);
    set.map(|(name, set)| (name.clone(), set.value.clone())).collect()
}

/// What the policies' caps allow in every call.
pub(crate) fn ceilings(d: &Directives) -> Ceilings {
    let further = d.further.as_deref();
    let models = |e: &types::directives::Set<Escalate>| match &e.value {
        Escalate::Models(set) => Some(Arc::new(set.clone())),
        Escalate::Workflow(_) => None,
    };
    Ceilings {
        max_tokens: d.cap_max_tokens.as_ref().map(|c| c.value),
        temperature: d.cap_temperature.as_ref().map(|c| c.value),
        attempts: further.and_then(|f| f.cap_attempts.as_ref()).map(|c| c.value),
        retry: further.and_then(|f| f.retry.as_ref()).map(|r| r.value),
        escalate: further.and_then(|f| f.escalate.as_ref()).and_then(models),
        assumed: assumed(d),
    }
}

/// What the whole tree may use at most.
pub(crate) fn limits(d: &Directives) -> Limits {
    let further = d.further.as_deref();
    Limits {
        calls: further.and_then(|f| f.cap_calls.as_ref()).map(|c| c.value),
        tokens: further.and_then(|f| f.cap_tokens.as_ref()).map(|c| c.value),
        usd: None,
    }
}

/// What models cost whose price is not known.
pub(crate) fn assumed(d: &Directives) -> Option<Price> {
    let price = d.further.as_ref()?.assume_price.as_ref()?.value;
    Some(Price::new(price.input, price.output))
}

fn head(view: &View, tree: &mut Tree, workflow: Arc<str>) -> Head {
    let overhead_ms = tree.first_byte();
    let served = tree.trace.served_by();
    let arm = tree.decision.as_ref().and_then(|d| d.choice()).map(|a| a.model.clone());
    let model = served.or(arm).unwrap_or_else(|| "".into());
    let provider = view.bundle.matrix().find(&model).and_then(|ix| view.bundle.matrix().provider_of(ix));
    Head {
        request_id: tree.admission.request_id.clone(),
        workflow,
        simulated: provider.is_some_and(|p| p.dialect == Dialect::Simulated),
        model,
        bundle: view.bundle.hash().clone(),
        overhead_ms,
        headers: tree.headers(),
    }
}

/// A run that waits for somebody cannot answer whoever waits for it here.
pub(crate) fn suspended(waiting: &[workflows::Suspension]) -> Error {
    let at: Vec<&str> = waiting.iter().map(|s| &*s.frame).collect();
    let clients = waiting.iter().any(|s| matches!(s.waiting, workflows::Waiting::ClientTools(_)));
    let (code, what) = match clients {
        true => ("client_tools", "for results of the client's tools"),
        false => ("approval_required", "for somebody's decision"),
    };
    let message = format!(
        "the workflow waits {what} at {}, and a request cannot: start it as a run (POST /v1/runs)",
        at.join(", ")
    );
    let kind = Kind::Workflow { code: code.to_owned(), message, status: 409 };
    Error::from(kind)
}

/// A workflow's failure as the engine's.
pub(crate) fn failure(f: RunFailure) -> Error {
    let findings = f.findings;
    let kind = match (f.provider_error, f.class) {
        (Some(e), _) => {
            let retry_after = e.retry_after;
            return Error { findings, retry_after, ..Error::from(Kind::Provider(e)) };
        }
        (None, "budget") if f.code == "wall" => Kind::Deadline,
        (None, "budget") => Kind::Budget(f.message),
        (None, "validation") => Kind::Validation { code: f.code, message: f.message },
        (None, "policy") if f.code == "evaluation_failed" => Kind::PolicyEvaluation(f.message),
        (None, "policy") => Kind::NoCandidates { summary: f.message, by_policy: false },
        (None, _) => Kind::Workflow { code: f.code, message: f.message, status: f.status },
    };
    Error { findings, ..Error::from(kind) }
}
