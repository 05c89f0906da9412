//! One ownership of a run: from where its journal ends to its end, or to where it has to wait.

use super::drive::{Signals, Stop, drive};
use super::keeper::{Keeper, Lost};
use super::outside::Out;
use super::state::{Keep, Shared};
use super::submission::{Given, Submission, Tools, write_scope};
use super::tape::Tape;
use super::world::Recorder;
use super::{Service, end, plan};
use crate::account::About;
use crate::answer::Admission;
use crate::calls::{Calls, Ceilings};
use crate::caps;
use crate::decide::{self, Decided};
use crate::error::{Error, Kind};
use crate::ledger::Ledger;
use crate::limits::Held;
use crate::route::Candidates;
use crate::settle::{self, Tree};
use crate::tools::{Guard, Toolbox};
use crate::{Background, Outside, View, respond};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::time::Instant;
use types::directives::Set;
use types::provider::Edits;
use types::runs::{Chosen, Claimed, Durability, Entry, Head, JOURNAL_PAGE, Record, Spent, State, To};
use types::{ChatRequest, Decision};
use workflows::{Facts, Finished, Input, Trace, Workflow};

/// Why a run cannot be walked now.
pub(super) enum Unready {
    /// It has ended before it began.
    Failed(Box<Error>),
    /// It is to be tried again after a while.
    Later(Duration),
    /// Nothing may be written any more.
    Lost,
}

impl From<Error> for Unready {
    fn from(error: Error) -> Self {
        match error.retryable() {
            true => Unready::Later(error.retry_after.unwrap_or(Duration::from_secs(1))),
            false => Unready::Failed(Box::new(error)),
        }
    }
}

impl From<types::runs::Error> for Unready {
    fn from(error: types::runs::Error) -> Self {
        tracing::warn!(%error, "the store of runs did not answer");
        Unready::Lost
    }
}

/// What a run is made of.
struct Made {
    request: Arc<ChatRequest>,
    submission: Submission,
    given: Given,
    decision: Decision,
    seed: u64,
    workflow: Arc<Workflow>,
    variant: Option<String>,
}

/// Everything for one walk.
pub(super) struct Walk {
    pub(super) shared: Arc<Shared>,
    pub(super) run: BoxFuture<'static, Finished>,
    tree: Tree,
    /// What makes the calls after the end.
    after: Arc<Calls>,
}

/// The whole journal of a run.
///
/// # Errors
/// The store failed.
pub(super) async fn journal(service: &Service, id: &str) -> Result<Vec<Entry>, types::runs::Error> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |e| e.seq);
        let page = service.store.journal(id, after, JOURNAL_PAGE).await?;
        let last = page.len() < JOURNAL_PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Owns a run until it ends, waits, or is lost.
pub(super) async fn own(service: Arc<Service>, claimed: Claimed) {
    let head = claimed.row.head.clone();
    let mut keeper = Keeper::new(service.store.clone(), claimed.lease, &head, service.changed.clone());
    let submission = claimed.row.submission;
    if let Some(why) = &head.cancel {
        let _ = cancelled(&mut keeper, head.spent, why).await;
        return;
    }
    let ready = prepare(&service, &head, submission, claimed.taken_over, &mut keeper).await;
    match ready {
        Ok(walk) => go(&service, &head, walk, keeper).await,
        Err(Unready::Failed(error)) => {
            let _ = close(&mut keeper, head.spent, State::Failed, end::failed(&error)).await;
        }
        Err(Unready::Later(wait)) => {
            // Within the lease, so that nobody else takes it meanwhile.
            tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
            let _ = keeper.finish(head.spent, Vec::new(), To::Queued).await;
        }
        Err(Unready::Lost) => {}
    }
}

async fn close(keeper: &mut Keeper, spent: Spent, state: State, result: Value) -> Result<Head, Lost> {
    let record = Record::RunFinished { state, result: result.clone() };
    keeper.finish(spent, vec![record], To::Ended { state, result }).await
}

async fn cancelled(keeper: &mut Keeper, spent: Spent, why: &str) -> Result<Head, Lost> {
    close(keeper, spent, State::Cancelled, end::cancelled(why)).await
}

/// Brings everything together for a walk.
async fn prepare(
    service: &Arc<Service>,
    head: &Head,
    submission: Value,
    taken_over: bool,
    keeper: &mut Keeper,
) -> Result<Walk, Unready> {
    let internal = |why: String| Unready::Failed(Box::new(Kind::Internal(why).into()));
    let submission: Submission = serde_json::from_value(submission)
        .map_err(|e| internal(format!("what was asked of run {} cannot be read: {e}", head.id)))?;
    let Some(who) = (service.people)(&head.tenant, &head.principal) else {
        let gone = Kind::Denied {
            reason: "whoever started this run may not use this server any more".to_owned(),
            code: "forbidden".to_owned(),
            status: 403,
        };
        return Err(Unready::Failed(Box::new(gone.into())));
    };
    let entries = journal(service, &head.id).await?;
    let inner = &service.engine.0;
    let ts_ms = settle::unix_ms();
    let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places())?;
    let mut held = Held::enter(inner.limits.as_ref(), &who, ts_ms).await?;
    let view = inner.view.load_full();
    let admission = Admission {
        request_id: head.id.clone(),
        who,
        received: Instant::now(),
        deadline: None,
        headers: Arc::default(),
    };
    let known = known(&entries, submission.decide);
    let made = match known {
        Some((started, decision)) => {
            let workflow = pinned(service, &view, head, started).await?;
            again(head, workflow, submission, started, decision)?
        }
        None => {
            let request = submission.request()?;
            if let Some((param, message)) = workflows::impossible(&request) {
                return Err(Error::from(Kind::Invalid { param, message }).into());
            }
            let decided = decide::decide(inner, &view, &admission, Arc::new(request), &mut held, ts_ms).await;
            first(service, &view, &admission, submission, decided, keeper, ts_ms).await?
        }
    };
    keeper.set_durability(made.workflow.durability.unwrap_or_default());
    note_resumption(keeper, &entries, taken_over);
    let walk =
        assemble(service, &view, made, entries, Admitted { admission, permit, held }, keeper.durability());
    let now_ms = service.now_ms();
    keeper.hand_over(&walk.shared, now_ms).await.map_err(|Lost| Unready::Lost)?;
    Ok(walk)
}

/// How the run started and was decided, unless that is to be done anew.
fn known(entries: &[Entry], decide: bool) -> Option<(&Record, &Decision)> {
    let anew = |e: &Entry| matches!(e.record, Record::Resumed { anew: true, .. });
    let from = if decide { entries.iter().rposition(anew).unwrap_or(0) } else { 0 };
    let part = || entries.iter().skip(from).map(|e| &e.record).rev();
    let started = part().find(|r| matches!(r, Record::RunStarted { .. }))?;
    let decision = part().find_map(|r| match r {
        Record::Decision { decision } => Some(&**decision),
        _ => None,
    })?;
    Some((started, decision))
}

/// A run that has not started yet: decided now, pinned to the plan of now.
async fn first(
    service: &Service,
    view: &View,
    admission: &Admission,
    submission: Submission,
    decided: Decided,
    keeper: &mut Keeper,
    ts_ms: i64,
) -> Result<Made, Unready> {
    let Decided {
        request, profile: _, features: _, scope, directives, seed, decision, routed, demands, ..
    } = decided;
    let routed =
        routed.and_then(|chosen| match bound_to_requests(view, &request, &scope, &directives, demands) {
            None => Ok(chosen),
            Some(error) => Err(error),
        });
    let (workflow, candidates, cap) = match routed {
        Ok(chosen) => chosen,
        Err(error) => {
            keeper.note(Record::Decision { decision: Box::new(decision) });
            return Err(error.into());
        }
    };
    let ceilings = caps::ceilings(&directives);
    let walls = [
        submission.wall_ms.map(Duration::from_millis),
        request.options.max_latency,
        directives.cap_latency.as_ref().map(|s| s.value),
        workflow.limits.wall,
    ];
    let wall = walls.into_iter().flatten().min().unwrap_or(service.config.wall);
    let validators = directives.validators.iter().map(|s| (s.rule.to_string(), s.value.clone())).collect();
    let given = Given {
        scope: write_scope(&scope, &view.bundle.language)?,
        candidates: candidates.write(view.bundle.matrix()),
        cap: [cap, submission.usd].into_iter().flatten().min(),
        max_tokens: ceilings.max_tokens,
        temperature: ceilings.temperature,
        validators,
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        request: (*request.body() != *submission.body.as_bytes())
            .then(|| String::from_utf8_lossy(request.body()).into_owned()),
        tools: Tools::of(directives.further.as_deref()),
    };
    service.store.put_plan(&workflow.plan_hash, plan::write(&view.bundle, &workflow)).await?;
    keeper.choose(chosen(&workflow));
    keeper.note(Record::RunStarted {
        plan: workflow.plan_hash.clone(),
        workflow: workflow.name.clone(),
        bundle: view.bundle.hash().to_string(),
        seed,
        at_ms: ts_ms,
        input: serde_json::to_value(&given).unwrap_or(Value::Null),
        variant: None,
    });
    keeper.note(Record::Decision { decision: Box::new(decision.clone()) });
    tracing::debug!(run = admission.request_id, workflow = workflow.name, "a run starts");
    Ok(Made { request, submission, given, decision, seed, workflow, variant: None })
}

/// Why policies keep a request from becoming a run, which outlives this process and what is kept in its memory.
fn bound_to_requests(
    view: &View,
    request: &ChatRequest,
    scope: &types::expr::Scope,
    directives: &types::directives::Directives,
    demands: Option<Box<crate::demands::Demands>>,
) -> Option<Error> {
    let verb = demands.and_then(|d| d.not_in_runs());
    let verb = verb.or_else(|| {
        respond::holds_back(view, scope, request, directives)
            .then_some("rules of the phases tool and response")
    });
    let reason = format!(
        "policies hold for this request that a run in the background cannot be held to ({}); send it to \
         /v1/chat/completions",
        verb?
    );
    Some(Kind::Denied { reason, code: "not_in_runs".to_owned(), status: 403 }.into())
}

pub(super) fn chosen(workflow: &Workflow) -> Chosen {
    Chosen {
        workflow: workflow.name.clone(),
        plan: workflow.plan_hash.clone(),
        durability: workflow.durability.unwrap_or_default(),
    }
}

/// A run that has started before: as it was decided then, under its pinned plan.
fn again(
    head: &Head,
    workflow: Arc<Workflow>,
    submission: Submission,
    started: &Record,
    decision: &Decision,
) -> Result<Made, Unready> {
    let broken = |why: String| Unready::Failed(Box::new(Kind::Internal(why).into()));
    let Record::RunStarted { input, seed, variant, .. } = started else {
        return Err(broken("a run did not start".to_owned()));
    };
    let given: Given = serde_json::from_value(input.clone())
        .map_err(|e| broken(format!("what run {} was given cannot be read: {e}", head.id)))?;
    let request = Arc::new(match &given.request {
        None => submission.request()?,
        Some(body) => Submission { body: body.clone(), ..submission.clone() }.request()?,
    });
    let (seed, variant) = (*seed, variant.clone());
    Ok(Made { request, submission, given, decision: decision.clone(), seed, workflow, variant })
}

/// The plan that a run began under.
async fn pinned(
    service: &Service,
    view: &View,
    head: &Head,
    started: &Record,
) -> Result<Arc<Workflow>, Unready> {
    let name = match started {
        Record::RunStarted { workflow, .. } if head.workflow.is_empty() => workflow,
        _ => &head.workflow,
    };
    let hash = head.plan.as_deref().unwrap_or_default();
    let found = plan::find(&*service.store, &view.bundle, name, hash).await?;
    found.ok_or_else(|| {
        let message = format!(
            "the plan that run {} is pinned to cannot be made any more: models, pools or tools that it names \
             are gone; resume it with the latest plan",
            head.id
        );
        let kind = Kind::Workflow { code: "plan_missing".to_owned(), message, status: 500 };
        Unready::Failed(Box::new(kind.into()))
    })
}

/// Says in the journal why the run goes on, unless it says so already.
fn note_resumption(keeper: &mut Keeper, entries: &[Entry], taken_over: bool) {
    let Some(last) = entries.last() else { return };
    let why = match &last.record {
        Record::Resumed { .. } => return,
        _ if taken_over => "taken_over",
        Record::Suspended { .. } => "posted",
        _ => "woken",
    };
    keeper.note(Record::Resumed {
        why: why.to_owned(),
        plan: types::runs::PlanChoice::Pinned,
        posts: Vec::new(),
        anew: false,
        retry: Vec::new(),
    });
}

struct Admitted {
    admission: Admission,
    permit: crate::admit::Permit,
    held: Option<Held>,
}

fn assemble(
    service: &Service,
    view: &Arc<View>,
    made: Made,
    entries: Vec<Entry>,
    admitted: Admitted,
    durability: Durability,
) -> Walk {
    let Admitted { mut admission, permit, held } = admitted;
    let shared = Shared::new(Tape::new(entries), Keep::Record(durability));
    // Time in which nobody walked is not the run's.
    admission.received = shared.base();
    let (ledger, before, after, trace) =
        (Ledger::default(), Ledger::default(), Ledger::default(), Trace::default());
    let inner = &service.engine.0;
    let reach = Beyond { outside: inner.outside(), background: Some(service.start.clone()) };
    let calls = calls(view, &made, &admission, (&ledger, &after), reach, &trace);
    let after = Arc::new(calls.clone());
    let out = Arc::new(Out { calls, before: before.clone() });
    let profile = profiler::profile(&made.request);
    let features = profiler::features(&made.request, &profile);
    let about = About::of(&made.decision, view.bundle.matrix(), profile.facts.images);
    let run = walk_of(view, &made, shared.clone(), out, trace.clone(), &admission.request_id);
    let tree = Tree {
        about,
        store: inner.store.clone(),
        finished: inner.finished.clone(),
        explain: false,
        demands: None,
        lost: false,
        decision: Some(Box::new(made.decision)),
        features,
        trace,
        ledger,
        before,
        held,
        overhead_ms: None,
        ttft_ms: None,
        shadow: None,
        _permit: permit,
        admission,
    };
    Walk { shared, run, tree, after }
}

/// What a walk reaches besides models; nothing where it only repeats.
#[derive(Default)]
struct Beyond {
    outside: Outside,
    background: Option<Background>,
}

fn calls(
    view: &Arc<View>,
    made: &Made,
    admission: &Admission,
    ledgers: (&Ledger, &Ledger),
    beyond: Beyond,
    trace: &Trace,
) -> Calls {
    let given = &made.given;
    let (who, profile) = (&admission.who, profiler::profile(&made.request));
    let around =
        policies::Around { tenant: who.tenant.clone(), key: who.key.clone(), ..policies::Around::default() };
    let (request, unix_ms) = (&made.request, settle::unix_ms());
    let guard = Guard {
        view: view.clone(),
        // What it says of a call is part of the call's result, so that no repetition asks again.
        scope: policies::scope(&policies::Inputs { request, profile: &profile, around: &around, unix_ms }),
        tools: given.tools.read(),
        // What could be demanded keeps a request from becoming a run.
        demands: None,
        trace: trace.clone(),
    };
    let tenant = &admission.who.principal.tenant.id;
    Calls {
        reach: view.reach.clone(),
        request: made.request.clone(),
        request_id: admission.request_id.clone(),
        profile,
        candidates: Candidates::read(&given.candidates, view.bundle.matrix(), view.bundle.pools.clone()),
        ledger: ledgers.0.clone(),
        after: ledgers.1.clone(),
        started: admission.received,
        deadline: admission.received + Duration::from_millis(given.wall_ms),
        cap: given.cap,
        ceilings: Ceilings {
            max_tokens: given.max_tokens,
            temperature: given.temperature,
            ..Ceilings::default()
        },
        seed: made.seed,
        outside: beyond.outside,
        tools: Toolbox::new(view.bundle.tools.clone(), tenant, || guard, beyond.background),
        made: Arc::new(AtomicU32::new(0)),
        log: None,
    }
}

/// The walk itself, before its first step.
fn walk_of(
    view: &View,
    made: &Made,
    shared: Arc<Shared>,
    outside: Arc<Out>,
    trace: Trace,
    id: &str,
) -> BoxFuture<'static, Finished> {
    let given = &made.given;
    let language = view.bundle.language.clone();
    let matrix = view.bundle.matrix().clone();
    let deadline = shared.base() + Duration::from_millis(given.wall_ms);
    let input = Input {
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
        inputs: made.submission.inputs.clone(),
        vars: own(&made.submission.vars),
        usd: given.cap,
        facts: Facts {
            id: id.to_owned(),
            mode: workflows::Mode::Async,
            seed: made.seed,
            variant: made.variant.clone(),
        },
        deadline: Some(deadline),
        trace,
        observer: Some(shared.clone()),
    };
    let world = Recorder {
        shared,
        outside,
        models: Arc::new(move |id: &str| matrix.find(id).and_then(|ix| matrix.model(ix).cloned())),
        request: blake3::hash(made.submission.body.as_bytes()).to_hex().to_string(),
    };
    return Box::pin(workflows::run(made.workflow.clone(), input, Arc::new(world)));

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
    let Some((started, decision)) = known(&entries, submission.decide) else {
        let message = format!("run {} has not started: there is nothing to repeat", head.id);
        return Err(Error::from(Kind::Invalid { param: "id".to_owned(), message }).into());
    };
    // With another plan the pinned one need not exist any more.
    let workflow = match instead {
        Some(workflow) => workflow,
        None => pinned(service, &view, head, started).await?,
    };
    let made = again(head, workflow, submission, started, decision)?;
    let shared = Shared::new(Tape::new(entries), Keep::Repeat);
    let admission = Admission {
        request_id: head.id.clone(),
        who: crate::Who::open(),
        received: shared.base(),
        deadline: None,
        headers: Arc::default(),
    };
    let (ledger, after) = (Ledger::default(), Ledger::default());
    let trace = Trace::default();
    let calls = calls(&view, &made, &admission, (&ledger, &after), Beyond::default(), &trace);
    let out = Arc::new(Out { calls, before: Ledger::default() });
    let run = walk_of(&view, &made, shared.clone(), out, trace, &head.id);
    Ok((shared, run))
}

/// Walks on, and leaves the run as the walk ended.
async fn go(service: &Arc<Service>, head: &Head, walk: Walk, mut keeper: Keeper) {
    let Walk { shared, run, tree, after } = walk;
    let signals = Signals { changed: service.changed.subscribe(), stop: service.stop.subscribe() };
    let stop = drive(run, &shared, &mut keeper, signals).await;
    if !matches!(stop, Stop::Ended(_)) {
        // The walk is gone; what it let go of on the way out is no part of the record.
        shared.close();
    }
    let left = match stop {
        Stop::Ended(finished) => {
            let result = ended(service, &shared, tree, *finished, after, &mut keeper).await;
            if result.is_ok() {
                tracing::debug!(run = head.id, "a run has ended");
            }
            return;
        }
        Stop::Waiting(idle) => {
            tree.leave();
            if keeper.durability() == Durability::None {
                let message =
                    "the workflow waits for somebody, and nothing of it is kept; give it a durability";
                let kind = Kind::Workflow {
                    code: "approval_required".to_owned(),
                    message: message.to_owned(),
                    status: 409,
                };
                close(&mut keeper, shared.spent(), State::Failed, end::failed(&kind.into())).await
            } else {
                let state = if idle.in_doubt { State::NeedsAttention } else { State::Suspended };
                let waiting = json!({"questions": idle.questions});
                let record = Record::Suspended { state, waiting: waiting.clone() };
                let seen = keeper.seen();
                let to = To::Waiting { state, waiting, wake_ms: idle.lapses_ms, seen };
                keeper.leave(&shared, vec![record], to).await
            }
        }
        Stop::Diverged(d) => {
            tree.leave();
            tracing::error!(
                run = head.id,
                seq = d.seq,
                d.recorded,
                d.found,
                "a run does not repeat its journal"
            );
            close(&mut keeper, shared.spent(), State::Failed, end::diverged(&d)).await
        }
        Stop::Cancelled(why) => {
            tree.leave();
            let result = end::cancelled(&why);
            let record = Record::RunFinished { state: State::Cancelled, result: result.clone() };
            keeper.leave(&shared, vec![record], To::Ended { state: State::Cancelled, result }).await
        }
        Stop::Shutdown => {
            tree.leave();
            keeper.leave(&shared, Vec::new(), To::Queued).await
        }
        Stop::Missing | Stop::Lost => {
            tree.leave();
            Err(Lost)
        }
    };
    if left.is_err() {
        tracing::warn!(run = head.id, "a run was left to others");
    }
}

/// The end of a walk that came to its end.
async fn ended(
    service: &Arc<Service>,
    shared: &Arc<Shared>,
    mut tree: Tree,
    finished: Finished,
    after: Arc<Calls>,
    keeper: &mut Keeper,
) -> Result<Head, Lost> {
    let admission = tree.admission.clone();
    let (state, result, text) = end::of(finished.ending, &mut tree);
    drop(tree);
    let mut records = Vec::new();
    if let Some(text) = text {
        records.push(Record::Stream { offset: 0, text });
    }
    if let State::Suspended = state {
        let to = To::Waiting { state, waiting: result.clone(), wake_ms: None, seen: keeper.seen() };
        records.push(Record::Suspended { state, waiting: result });
        return keeper.leave(shared, records, to).await;
    }
    records.push(Record::RunFinished { state, result: result.clone() });
    let head = keeper.leave(shared, records, To::Ended { state, result }).await?;
    if let Some(later) = finished.later {
        // The run has ended; what is still asked is no part of its record.
        shared.pass_through();
        let inner = &service.engine.0;
        inner.afterwards_in(service.start.clone(), &admission).begin(later, after);
    }
    Ok(head)
}
