//! The way of a request, top to bottom, one call per room.

use crate::account::About;
use crate::admit::Permit;
use crate::answer::{Admission, Answer, Head, Whole};
use crate::approvals::HeldAnswer;
use crate::calls::{Calls, Ceilings};
use crate::caps;
use crate::decide::{Decided, decide};
use crate::error::{Error, Kind};
use crate::kept::Kept;
use crate::ledger::{self, Ledger};
use crate::limits::{Count, Held};
use crate::live::{self, Flow};
use crate::redact::Answers;
use crate::respond::{self, Again, Respond};
use crate::rewrite::blocked;
use crate::route;
use crate::runs;
use crate::settle::{self, Tree};
use crate::tools::{self, Toolbox};
use crate::{Inner, View};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use types::Usd;
use types::chat::ChatRequest;
use types::directives::Directives;
use types::matrix::Dialect;
use types::provider::Edits;
use workflows::{Ending, RunFailure, Trace, Trailer, Wire};

/// Answers one request.
pub(crate) async fn chat(inner: &Inner, admission: Admission, request: ChatRequest) -> Result<Answer, Error> {
    // admit
    let ts_ms = settle::unix_ms();
    let who = admission.who.clone();
    let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places())?;
    let mut held = Held::enter(inner.limits.as_ref(), &who, Count::Request, ts_ms).await?;
    let view = inner.view.load_full();
    if let Some((param, message)) = workflows::impossible(&request) {
        return Err(Kind::Invalid { param, message }.into());
    }

    // profile, policy, route
    let decided = decide(inner, &view, &admission, Arc::new(request), &mut held, ts_ms).await;
    let (permit, crowded) = place(inner, &admission, &decided, permit).await;
    let (mut tree, task) = begin(inner, &view, decided, Admitted { admission, permit, held });
    let task = match (crowded, task) {
        (None, Ok(task)) => task,
        (Some(e), _) | (None, Err(e)) => return Err(tree.failed(e)),
    };
    if must_be_run(inner, &view, &task, &tree) {
        tree.leave();
        return Ok(Answer::AsRun);
    }
    let request = task.request.clone();
    let answers = tree.demands.as_ref().and_then(|d| d.answers(&request)).map(Box::new);
    let describe = {
        let (view, name) = (view.clone(), Arc::<str>::from(task.workflow.name.as_str()));
        move |tree: &mut Tree| head(&view, tree, name)
    };
    let wall = task.workflow.limits.wall;
    let deadline = caps::deadline(inner, &tree.admission, &request, &task.directives, wall);
    if let Some(agreed) = task.agreed {
        return agreed_on(*agreed, request.stream, deadline, tree, answers, describe).await;
    }

    // workflow (and provider and validate, within)
    let stream = request.stream;
    let held = stream.then(|| respond::holds_back(&view, &task.scope, &request, &task.directives)).flatten();
    let live = stream && held.is_none();
    let (sink, chunks) = live.then(|| mpsc::channel(live::CHUNKS)).unzip();
    let wire = task.workflow.wire();
    // Boxed once: a run is large, and would be copied with every hand it passes through.
    let run = Box::pin(run(inner, &view, task, &tree, deadline, (sink, held)));

    // settle, assess: in `Tree`, whichever way the run ends; learn follows the log
    match request.stream {
        true => {
            let (run, chunks) = (Some(run as _), chunks.unwrap_or_else(|| mpsc::channel(1).1));
            tree.explain &= wire.trailer != Trailer::Never;
            tree.tells = wire.trailer == Trailer::Always;
            let (ready, early) = (VecDeque::new(), false);
            let flow = Flow { run, chunks, tree, deadline, ready, answers, wire, early, end: None };
            Ok(Answer::Live(flow.start(describe).await?))
        }
        false => whole(timeout_at(deadline, run).await.ok(), tree, answers.as_deref(), describe),
    }
}

/// Who asks, with the place and what is reserved for it.
struct Admitted {
    admission: Admission,
    /// `None` = the place was given up, and no other was free.
    permit: Option<Permit>,
    held: Option<Held>,
}

/// The place of a request, which a rule may have wait for one; without one, why.
async fn place(
    inner: &Inner,
    admission: &Admission,
    decided: &Decided,
    permit: Permit,
) -> (Option<Permit>, Option<Error>) {
    let class = decided.directives.further.as_ref().and_then(|f| f.priority.as_ref());
    let Some(class) = class.filter(|_| decided.routed.is_ok()) else { return (Some(permit), None) };
    let own = admission.who.principal.tenant.tier.share_of_places();
    let until = admission.deadline.map(|d| admission.received + d);
    match inner.gate.give_way(permit, class.value, own, until).await {
        Ok(permit) => (Some(permit), None),
        Err(e) => (None, Some(e)),
    }
}

/// What is to be done for a request.
struct Task {
    request: Arc<ChatRequest>,
    profile: types::WorkloadProfile,
    scope: types::expr::Scope,
    directives: Directives,
    seed: u64,
    workflow: Arc<workflows::Workflow>,
    candidates: route::Candidates,
    /// Most that it may cost, whatever limits give.
    ceiling: Option<Usd>,
    agreed: Option<Box<HeldAnswer>>,
}

/// Whether a request is to be made a run: its workflow may have to wait, and nothing keeps it from becoming one.
fn must_be_run(inner: &Inner, view: &View, task: &Task, tree: &Tree) -> bool {
    let demands = tree.demands.as_deref();
    inner.keeps_runs.load(Ordering::Relaxed)
        && task.agreed.is_none()
        && task.workflow.may_wait(&task.request)
        && runs::bound_to_requests(view, &task.request, &task.scope, &task.directives, demands).is_none()
}

/// Opens the account of a request, which settles it whichever way it ends; with it what is to be done, or why
/// nothing is.
fn begin(inner: &Inner, view: &View, decided: Decided, who: Admitted) -> (Tree, Result<Task, Error>) {
    let Decided { request, profile, features, scope, directives, seed, decision, .. } = decided;
    let Decided { routed, ceiling, shadow, demands, agreed, .. } = decided;
    let Admitted { admission, permit, held } = who;
    let ledger = Ledger::under(caps::limits(&directives));
    if let Some(held) = &held {
        ledger.draw_on(held);
    }
    let tree = Tree {
        about: About::of(&decision, view.bundle.matrix(), profile.facts.images),
        store: inner.store.clone(),
        finished: inner.finished.clone(),
        explain: request.options.explain,
        tells: false,
        demands,
        lost: false,
        decision: Some(Box::new(decision)),
        features,
        trace: Trace::default(),
        ledger,
        before: Ledger::default(),
        held,
        overhead_ms: None,
        ttft_ms: None,
        shadow,
        _permit: permit,
        admission,
    };
    let task = routed.map(|(workflow, candidates, _)| Task {
        request,
        profile,
        scope,
        directives,
        seed,
        workflow,
        candidates,
        ceiling,
        agreed,
    });
    (tree, task)
}

/// The run of the chosen workflow, and what policies say of its answer. `sink` takes the answer as it comes; where
/// there is none although the client streams, `held` says why.
fn run(
    inner: &Inner,
    view: &Arc<View>,
    task: Task,
    tree: &Tree,
    deadline: Instant,
    (sink, held): (Option<mpsc::Sender<types::Chunk>>, Option<&'static str>),
) -> impl Future<Output = Ending> + Send + use<> {
    let Task { request, profile, scope, mut directives, seed, workflow, candidates, ceiling, agreed: _ } =
        task;
    let who = &tree.admission.who;
    let ceilings = caps::ceilings(&directives);
    let calls = Calls {
        // What budgets left for the answer says nothing of what they leave later.
        after: Ledger::under(ledger::Limits { usd: ceiling, ..ledger::Limits::default() }),
        reach: view.reach.clone(),
        request: request.clone(),
        request_id: tree.admission.request_id.clone(),
        profile,
        candidates,
        ledger: tree.ledger.clone(),
        started: tree.admission.received,
        deadline,
        cap: ceiling,
        ceilings: Ceilings {
            attempts: [ceilings.attempts, request.options.foreign.attempts].into_iter().flatten().min(),
            ..ceilings
        },
        seed,
        outside: inner.outside(),
        policies: view.bundle.policies.clone(),
        tools: Toolbox::new(
            view.bundle.tools.clone(),
            &who.principal.tenant.id,
            || tools::Guard {
                view: view.clone(),
                scope: scope.clone(),
                tools: respond::of_tools(directives.further.as_deref()),
                demands: tree.demands.as_deref().cloned(),
                ground: None,
                trace: tree.trace.clone(),
            },
            inner.background.get().cloned(),
        ),
        kept: Some(Kept { results: inner.results.clone(), bundle: view.bundle.hash().clone() }),
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
        held,
        inputs: serde_json::Map::new(),
        vars: caps::vars(&directives),
        overrides: caps::overrides(&directives),
        usd: ceiling,
        facts: workflows::Facts {
            id: tree.admission.request_id.clone(),
            seed,
            ..workflows::Facts::default()
        },
        deadline: Some(deadline),
        trace: tree.trace.clone(),
        observer: None,
    };
    let further = directives.further.as_deref();
    let demands = tree.demands.as_deref().filter(|_| respond::concerns(view, &request, further));
    let respond = demands.map(|demands| {
        Box::new(Respond {
            view: view.clone(),
            who: who.clone(),
            approvals: inner.approvals.clone(),
            demands: demands.clone(),
            tools: respond::of_tools(further),
            again: Again::of(&input, &calls, &workflow),
        })
    });
    let afterwards = inner.afterwards(&tree.admission);
    async move {
        let calls = Arc::new(calls);
        let done = Box::pin(workflows::run(workflow, input, calls.clone())).await;
        if let (Some(later), Some(afterwards)) = (done.later, afterwards) {
            afterwards.begin(later, calls);
        }
        match respond {
            Some(respond) => Box::pin(respond.answered(done.ending)).await,
            None => done.ending,
        }
    }
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
    let (code, what, then) = match clients {
        true => {
            ("client_tools", "for results of the client's tools", "post them to /v1/runs/{id}/tool_outputs")
        }
        false => ("approval_required", "for somebody's decision", "decide at /v1/runs/{id}/gates/{frame}"),
    };
    let message = format!(
        "the workflow waits {what} at {}, and a request cannot: send it with the header `Prefer: respond-async`, or as \
         `request` to POST /v1/runs, and {then}",
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
