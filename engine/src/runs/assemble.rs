//! A walk before its first step: one that goes on where the journal ends, or one that only repeats it.

use super::Service;
use super::account;
use super::consent::Consent;
use super::judge::Judge;
use super::made::{self, Made, Unready};
use super::outside::Out;
use super::state::{Keep, Shared};
use super::submission::Submission;
use super::tape::Tape;
use super::world::Recorder;
use crate::account::About;
use crate::admit::Permit;
use crate::affinity::Stays;
use crate::answer::Admission;
use crate::calls::{self, Begins, Calls, Money, Scope};
use crate::demands::Demands;
use crate::error::{Error, Kind};
use crate::history::Conversation;
use crate::ledger::{Ledger, Limits};
use crate::limits::{Asker, Counters, Held};
use crate::node_cache::Kept;
use crate::redact::Redaction;
use crate::reserve;
use crate::respond::Again;
use crate::route::Candidates;
use crate::said::Said;
use crate::settle::{Means, Settlement, Subject};
use crate::shadow_run::Trials;
use crate::tools::{Guard, OfRun, Stands, Toolbox};
use crate::{Background, Engine, Outside, View};
use futures_util::future::BoxFuture;
use policies::Phase;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::directives::Set;
use types::provider::Edits;
use types::runs::{Entry, Head};
use types::{Decision, Usd};
use workflows::{Facts, Finished, Input, Trace, Workflow};

/// Everything for one walk.
pub(super) struct Walk {
    pub(super) shared: Arc<Shared>,
    pub(super) run: BoxFuture<'static, Finished>,
    pub(super) settlement: Settlement,
    /// What makes the calls after the end.
    pub(super) after: Arc<Calls>,
    /// What runs beside it once it has an answer.
    pub(super) trials: Option<Trials>,
    /// What its answer passes before it is handed out; `None` = no rule has a say in it.
    pub(super) judge: Option<Judge>,
}

/// Who asks, with the place and what is reserved for it.
pub(super) struct Admitted {
    pub(super) admission: Admission,
    pub(super) permit: Permit,
    pub(super) held: Option<Held>,
}

/// How a walk is made.
pub(super) struct Manner {
    /// What of it is kept.
    pub(super) keep: Keep,
    /// Most that its own calls may cost; `None` = what the run was given.
    pub(super) usd: Option<Usd>,
    /// What people have said to the run, whose answer rules may have a say in; `None` = the answer is nobody's.
    pub(super) consent: Option<Consent>,
}

/// A walk that goes on from the journal's end.
pub(super) fn assemble(
    service: &Service,
    view: &Arc<View>,
    made: Made,
    entries: Vec<Entry>,
    admitted: Admitted,
    Manner { keep, usd, consent }: Manner,
) -> Walk {
    let Admitted { mut admission, permit, mut held } = admitted;
    let (name, before) = (account::name(&admission.request_id, &entries), account::unrecorded(&entries));
    let shared = Shared::new(Tape::new(entries), keep);
    // Time in which nobody walked is not the run's.
    admission.received = shared.base();
    let matrix = view.bundle.matrix();
    let rules = made.given.bounds.ceilings(matrix).limits;
    // As they stand now: a run may last for days.
    let own = || reserve::of_request(view, &admission.who, &made.request, &rules);
    let ledger = Ledger::under(Limits { fresh: usd, ..made.given.bounds.limits() }).bind(own(), matrix);
    if let Some(held) = &mut held {
        ledger.draw_on(held);
    }
    let trace = Trace::default();
    let after = Ledger::under(Limits { usd: made.given.ceiling, ..Limits::default() }).bind(own(), matrix);
    let inner = &service.engine.0;
    let (key, tenant) = (&inner.redaction_key, &admission.who.principal.tenant.id);
    let ground = Redaction::of(&[], view.bundle.detector.clone(), key, tenant, made.request.body().clone());
    let reach = Beyond {
        outside: inner.outside.clone(),
        background: Some(service.start.clone()),
        limits: inner.limits.clone(),
        kept: Some(Kept { results: inner.results.clone(), bundle: view.bundle.hash().clone() }),
        ground: Some(ground.afresh()),
    };
    let mut calls = calls((&service.engine, view), &made, &admission, (&ledger, &after), reach, &trace);
    // What no journal keeps word of.
    let begins = || Begins::of(&inner.store, &admission.who, &made.decision, (None, held.as_ref()));
    calls.begins = matches!(keep, Keep::Live { .. }).then(begins);
    let after = Arc::new(calls.clone());
    let out = Arc::new(Out { calls: calls.clone() });
    let profile = profiler::profile(&made.request);
    let features = profiler::features(&made.request, &profile);
    let about = About::of(&made.decision, view.bundle.matrix(), profile.facts.images);
    let input = input_of(view, &made, shared.base(), trace.clone(), &admission.request_id);
    let wanted: Vec<_> = made.given.shadow.iter().map(|w| w.read(view.bundle.matrix())).collect();
    let trials = inner.trials(view, &name, &wanted, || Again::of(&input, &after, &made.workflow));
    let policies = &view.bundle.policies;
    let recorded = matches!(keep, Keep::Record(_));
    // As it came: so it is known when the next request of its conversation comes.
    let came = || made.submission.request().ok().filter(|_| recorded);
    let turn = view.bundle.asks.history.then(came).flatten();
    let turn = turn.map(|request| (Conversation::of(&admission.who, &request, true), inner.memory.clone()));
    let remembers = turn.is_some();
    let demands = Demands::of(None, ground, turn);
    let judge = consent.filter(|_| policies.has(Phase::Response)).map(|consent| Judge {
        view: view.clone(),
        admission: admission.clone(),
        history: made.given.history,
        consent: Arc::new(consent),
        demands: demands.clone(),
        again: Again::of(&input, &calls, &made.workflow),
    });
    let demanded = judge.is_some() || policies.has(Phase::Tool) || remembers;
    let demands = demanded.then(|| Box::new(demands));
    let stays = recorded.then(|| Stays::of_run(inner, &admission.who, &made.request));
    let said = demands.as_ref().map(|demands| demands.said.clone());
    let run = walk_of(view, &made, shared.clone(), out, input, (said, recorded));
    // Rules of the later phases are those in force now.
    let ended_under = Some(view.bundle.hash()).filter(|now| ***now != *made.decision.bundle).cloned();
    let decision = Decision { request_id: name, ended_under, ..made.decision };
    let permit = Some(permit);
    let means = Means { trace, ledger, before, held, permit, demands, stays, ..Means::default() };
    let settlement = Settlement::open(inner, Subject { admission, decision, features, about }, means).walks();
    Walk { shared, run, settlement, after, trials, judge }
}

/// What a walk reaches besides models; nothing where it only repeats.
#[derive(Default)]
struct Beyond {
    outside: Outside,
    background: Option<Background>,
    kept: Option<Kept>,
    limits: Option<Counters>,
    /// Where what rules of the phase `tool` mask is kept.
    ground: Option<Redaction>,
}

/// What makes the walk's calls, within what the run was given.
fn calls(
    (engine, view): (&Engine, &Arc<View>),
    made: &Made,
    admission: &Admission,
    ledgers: (&Ledger, &Ledger),
    beyond: Beyond,
    trace: &Trace,
) -> Calls {
    let given = &made.given;
    let (who, profile) = (&admission.who, profiler::profile(&made.request));
    let request = &made.request;
    let of = OfRun {
        engine: engine.clone(),
        admission: admission.clone(),
        request: request.clone(),
        history: given.history,
    };
    let guard = Guard {
        view: view.clone(),
        limits: beyond.limits,
        // What it says of a call is part of the call's result, so that no repetition asks again.
        stands: Stands::Now(Box::new(of)),
        tools: given.tools.read(),
        // What the request could demand keeps it from becoming a run; what is said of a call goes to the record from the
        // journal.
        demands: None,
        ground: beyond.ground,
        trace: trace.clone(),
    };
    let tenant = &admission.who.principal.tenant.id;
    let scope = Scope {
        view,
        admission,
        request: made.request.clone(),
        profile,
        asker: Asker::of(&engine.0, view, who, request),
        candidates: Candidates::read(&given.candidates, view.bundle.matrix(), view.bundle.pools.clone()),
        seed: made.seed,
        deadline: admission.received + Duration::from_millis(given.wall_ms),
    };
    let money = Money {
        ledger: ledgers.0.clone(),
        after: ledgers.1.clone(),
        cap: given.cap,
        ceilings: given.bounds.ceilings(view.bundle.matrix()),
    };
    let beyond = calls::Beyond {
        outside: beyond.outside,
        tools: Toolbox::new(view.bundle.tools.clone(), tenant, || guard, beyond.background),
        kept: beyond.kept,
        // The journal knows of them.
        begins: None,
    };
    Calls::new(scope, money, beyond)
}

/// The walk itself, before its first step.
fn walk_of(
    view: &View,
    made: &Made,
    shared: Arc<Shared>,
    outside: Arc<Out>,
    input: Input,
    (said, tells_all): (Option<Said>, bool),
) -> BoxFuture<'static, Finished> {
    let matrix = view.bundle.matrix().clone();
    let run = input.facts.id.clone();
    let input = Input { observer: Some(shared.clone()), ..input };
    let world = Recorder {
        shared,
        outside,
        models: Arc::new(move |id: &str| matrix.find(id).and_then(|ix| matrix.model(ix).cloned())),
        request: blake3::hash(made.submission.body.as_bytes()).to_hex().to_string(),
        run,
        said,
        tells_all,
    };
    Box::pin(workflows::run(made.workflow.clone(), input, Arc::new(world)))
}

/// What the walk starts from.
fn input_of(view: &View, made: &Made, base: Instant, trace: Trace, id: &str) -> Input {
    let given = &made.given;
    let language = view.bundle.language.clone();
    return Input {
        request: made.request.clone(),
        scope: language.scope(None, given.scope.clone()),
        language,
        extra_validators: given
            .validators
            .iter()
            .map(|(rule, value)| Set { value: value.clone(), rule: rule.as_str().into() })
            .collect(),
        edits: Edits::default(),
        // Nobody waits for the first byte: what is recorded is whole.
        sink: None,
        held: None,
        inputs: made.submission.inputs.clone(),
        // Rules have the last word.
        vars: own(&made.submission.vars).into_iter().chain(given.bounds.vars.iter().cloned()).collect(),
        overrides: given.overrides.clone(),
        usd: given.cap,
        limits: made.submission.limits(&made.workflow.limits),
        facts: Facts {
            id: id.to_owned(),
            mode: workflows::Mode::Async,
            seed: made.seed,
            variant: made.variant.clone(),
        },
        deadline: Some(base + Duration::from_millis(given.wall_ms)),
        trace,
        observer: None,
    };

    fn own(vars: &Map<String, Value>) -> Vec<(String, Value)> {
        vars.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

/// A walk that only repeats what is on record; what is asked beyond that stays unanswered. `instead`: another
/// plan than the pinned one.
///
/// # Errors
/// The run cannot be repeated; why.
pub(super) async fn repetition(
    service: &Service,
    head: &Head,
    submission: Value,
    entries: Vec<Entry>,
    instead: Option<Arc<Workflow>>,
) -> Result<(Arc<Shared>, BoxFuture<'static, Finished>), Unready> {
    let broken = |why: String| Unready::Failed(Box::new(Kind::Internal(why).into()));
    let view = service.engine.0.view.load_full();
    let submission: Submission = serde_json::from_value(submission).map_err(|e| broken(e.to_string()))?;
    let Some((started, decision)) = made::walkable(&head.id, &entries, submission.decide)? else {
        let message = format!("run {} has not started: there is nothing to repeat", head.id);
        return Err(Error::from(Kind::Invalid { param: "id".to_owned(), message }).into());
    };
    // With another plan the pinned one need not exist any more.
    let workflow = match instead {
        Some(workflow) => workflow,
        None => made::pinned(service, &view, head, started).await?,
    };
    let made = made::again(head, workflow, submission, started, decision)?;
    let shared = Shared::new(Tape::new(entries), Keep::Repeat);
    let admission = Admission::new(head.id.clone(), crate::Who::open(), shared.base());
    let (ledger, after) = (Ledger::default(), Ledger::default());
    let trace = Trace::default();
    let calls =
        calls((&service.engine, &view), &made, &admission, (&ledger, &after), Beyond::default(), &trace);
    let out = Arc::new(Out { calls });
    let input = input_of(&view, &made, shared.base(), trace, &head.id);
    let run = walk_of(&view, &made, shared.clone(), out, input, (None, false));
    Ok((shared, run))
}
