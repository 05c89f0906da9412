//! An answer that flows to the client while its nodes still run: whether it may, and how.

use super::early_abort::EarlyAbort;
use super::onward;
use super::pump::{Pump, Stop};
use super::walk::{record_chain, record_sink, too_late};
use super::{Answer, At, Frame, Host};
use crate::budget::Budget;
use crate::ending::{Class, Ending, RunFailure};
use crate::graph::chain::{self, Chain, Standing};
use crate::node::generate::Generate;
use crate::node::generate::{self, OnLoss, Race};
use crate::node::stream::{Late, Mode, Stream, Window};
use crate::node::validate::Validate;
use crate::node::{Fault, NodeKind, NodeResult, validate};
use crate::outcome::Outcome;
use crate::plan::Workflow;
use crate::world::{EffectId, EffectKind, Failure, Generated};
use std::sync::Arc;
use types::run::{Severity, Step};
use types::{ChatRequest, Completion, Verdict};
use validators::{Check, Promise};

type Checks = Vec<Arc<dyn Check>>;

/// How an answer flows.
pub(crate) struct Flow {
    pub(super) chain: Chain,
    /// Checks that hold text back until nothing to come can make it wrong.
    pub(super) hold: Checks,
    /// Checks that hold back calls of tools until the answer is whole.
    pub(super) calls: Checks,
    /// An answer that these could not check goes out all the same.
    unverified: bool,
    /// Checks that may stop it, and hold nothing back.
    pub(super) watch: Checks,
    /// What becomes of an answer that fails after it has been shown; `None`: it is on record only.
    pub(super) late: Option<Late>,
    /// The pieces in which it goes out.
    window: Option<Window>,
    /// What may go out together is one piece.
    burst: bool,
}

/// The checks along a chain that judge, and what stands against letting text flow.
struct Found {
    own: Checks,
    demanded: Checks,
    /// A check outside the process.
    outside: Option<&'static str>,
    /// One that looks at the answer and stops nothing.
    warns: Option<String>,
}

impl Found {
    fn along(
        workflow: &Workflow,
        request: &ChatRequest,
        extras: &[Arc<dyn Check>],
        at: (&Chain, &Stream),
    ) -> Self {
        let (chain, stream) = at;
        let judges = |c: &&Arc<dyn Check>| c.severity() > Severity::Warn && c.applies(request);
        let warns = |c: &&Arc<dyn Check>| c.severity() == Severity::Warn && c.applies(request);
        let nodes = chain.between.iter().filter_map(|i| workflow.root.nodes.get(*i));
        let validates: Vec<&Validate> = nodes.filter_map(|n| n.spec.get::<Validate>()).collect();
        let own = validates.iter().flat_map(|v| &v.checks.list).chain(&stream.checks.list);
        let outside = validates.iter().flat_map(|v| &v.checks.outside);
        Found {
            warns: own.clone().chain(extras).find(warns).map(|c| c.label().to_owned()).or_else(|| {
                let mut told = outside.clone().filter(|o| o.severity == Severity::Warn);
                told.next().map(|o| o.what.name().to_owned())
            }),
            own: own.filter(judges).cloned().collect(),
            demanded: extras.iter().filter(judges).cloned().collect(),
            outside: outside.clone().find(|o| o.severity > Severity::Warn).map(|o| o.what.name()),
        }
    }
}

/// Whether the answer may flow, and how it reaches the client where it does not, in the words of the record.
pub(crate) fn may(host: &Host) -> (bool, &'static str) {
    if host.input.sink.is_none() {
        return (false, host.input.held.unwrap_or("the client asked for no stream"));
    }
    if host.workflow.chains.is_empty() {
        return (false, NO_WAY);
    }
    (true, "nothing was asked yet whose answer could flow")
}

/// Which way the answer of a `generate` takes to the client that is about to start, with nothing else under way; and why.
pub(crate) fn now(host: &Host, head: usize, standing: &Standing<'_>) -> (Option<Flow>, String) {
    let buffered = |why: &str| (None, format!("buffered: {why}"));
    let graph = &host.workflow.root;
    let source = graph.nodes.get(head).and_then(|n| n.spec.get::<Generate>());
    if source.is_some_and(|g| g.how_many(host, false) > 1) {
        return buffered("a policy asks for several samples");
    }
    let Some(chain) = chain::from(graph, head, standing) else { return buffered(BESIDE) };
    along(&host.workflow, chain, &host.input.request, &host.extras)
}

/// Why no answer of a workflow flows.
const NO_WAY: &str = "several sources, a judge, a condition or a text of its own lie before the answer";

/// Why an answer does not flow that might have.
pub(super) const BESIDE: &str = "something else runs beside the answer, or waits for it";

/// Which way the answer of a workflow takes to the client for a request that streams, and why, with the checks that
/// policies demand. Where there are several ways, that of the first along which it flows.
pub(crate) fn way(
    workflow: &Workflow,
    request: &ChatRequest,
    extras: &[Arc<dyn Check>],
) -> (Option<Flow>, String) {
    let mut ways = workflow.chains.iter().map(|c| along(workflow, c.clone(), request, extras));
    let Some(first) = ways.next() else { return (None, format!("buffered: {NO_WAY}")) };
    if first.0.is_some() { first } else { ways.find(|(flow, _)| flow.is_some()).unwrap_or(first) }
}

fn along(
    workflow: &Workflow,
    chain: Chain,
    request: &ChatRequest,
    extras: &[Arc<dyn Check>],
) -> (Option<Flow>, String) {
    let buffered = |why: &str| (None, format!("buffered: {why}"));
    let Some(stream) = workflow.root.nodes.get(chain.stream).and_then(|n| n.spec.get::<Stream>()) else {
        return buffered("there is no stream node");
    };
    if stream.mode == Mode::Buffered {
        return buffered("the workflow says so");
    }
    let cached = workflow.root.nodes.get(chain.generate).filter(|n| n.common.caches());
    if let Some(node) = cached {
        return buffered(&format!("the answer of `{}` may be one that is kept", node.id));
    }
    let found = Found::along(workflow, request, extras, (&chain, stream));
    let whole = |c: &&Arc<dyn Check>| !c.promise(request).releases();
    // The author may give up the workflow's own checks, never those that a policy demands.
    if let Some(c) = found.demanded.iter().find(whole) {
        return buffered(&format!("a policy demands that `{}` sees the whole answer", c.name()));
    }
    let sends_failed = |i: usize| {
        let mut edges = workflow.root.edges_from(i);
        edges.any(|(_, e)| e.to == chain.stream && e.accepts.contains(Outcome::Failed))
            || validate::lets_failed_on(&workflow.root, i)
    };
    let is_check = |i: &&usize| workflow.root.nodes.get(**i).is_some_and(|n| n.kind() == NodeKind::Validate);
    let freely = matches!(stream.mode, Mode::Passthrough | Mode::Optimistic);
    if let (false, Some(name)) = (freely, found.outside) {
        return buffered(&format!("`{name}` must see the whole answer"));
    }
    if let (false, Some(c)) = (freely, found.own.iter().find(whole)) {
        return buffered(&format!("`{}` must see the whole answer", c.name()));
    }
    let sends = chain.between.iter().filter(is_check).find(|i| sends_failed(**i));
    if let (false, false, Some(node)) =
        (freely, found.own.is_empty(), sends.and_then(|i| workflow.root.nodes.get(*i)))
    {
        return buffered(&format!("what fails in `{}` is delivered as well", node.id));
    }
    let late = (stream.mode != Mode::Passthrough).then_some(stream.late);
    let (window, burst) = (stream.window, stream.burst);
    let (before, watch) = match stream.mode {
        Mode::Passthrough => (found.demanded, Vec::new()),
        Mode::Optimistic => (found.demanded, found.own),
        _ => ([found.own, found.demanded].concat(), Vec::new()),
    };
    let (calls, hold): (Checks, Checks) =
        before.into_iter().partition(|c| c.promise(request) == Promise::Calls);
    if request.params.n > 1 && !hold.is_empty() {
        return buffered("several choices grow side by side");
    }
    let why = match (stream.mode, hold.first(), calls.first()) {
        (Mode::Passthrough, ..) => "passthrough: the workflow says so".to_owned(),
        (Mode::Optimistic, ..) => "optimistic: the workflow says so".to_owned(),
        (_, Some(c), _) => format!("windowed: `{}` lets text go as it comes", c.name()),
        (_, None, Some(c)) => format!("windowed: `{}` holds back calls of tools alone", c.name()),
        (mode, None, None) => {
            let windowed = mode == Mode::Windowed;
            match (found.warns, windowed) {
                (Some(c), _) => {
                    format!("{}: `{c}` only warns", if windowed { "windowed" } else { "optimistic" })
                }
                (None, true) => "windowed: nothing to check".to_owned(),
                (None, false) => "passthrough: nothing to check and one source".to_owned(),
            }
        }
    };
    let sends_unverified = |i: &usize| {
        let mut edges = workflow.root.edges_from(*i);
        let on = |to: usize| to == chain.stream || chain.between.contains(&to);
        edges.any(|(_, e)| on(e.to) && e.accepts.contains(Outcome::Unverified))
    };
    let unverified = freely || chain.between.iter().filter(is_check).all(sends_unverified);
    (Some(Flow { chain, hold, calls, unverified, watch, late, window, burst }), why)
}

/// How an attempt to let an answer flow went.
pub(crate) enum Live {
    /// Bytes reached the client; the run is over.
    Ended(Box<Ending>),
    /// Nothing did: the graph is walked in the usual way, with this result of its first node.
    Instead(NodeResult),
}

pub(crate) async fn run<'a>(host: &'a Host, frame: &'a Frame<'a>, flow: &Flow) -> Live {
    let nothing = || Live::Instead(Err(Fault::Call(Failure::nobody("no source"))));
    let Some(at) = At::new(host, frame, flow.chain.generate) else { return nothing() };
    let (Some(spec), Some(sink)) = (at.node.spec.get::<Generate>(), &host.input.sink) else {
        return nothing();
    };
    let started = at.begin();
    let opening = match spec.opening(&at) {
        Ok(opening) => opening,
        Err(fault) => return Live::Instead(Err(fault)),
    };
    let mut ask = spec.ask(&at, 0, opening);
    ask.stream = true;
    // The node's time holds until the answer begins; a long answer may take as long as the run may.
    ask.timeout = None;
    let first = ask.clone();
    let asked = Arc::new(first.edits.clone());
    let mut race = Race::new(spec.race_by(&at), &at, ask);
    let mut lost = 0;
    loop {
        let id = EffectId::new(&at.path, EffectKind::Wait, 0, 1 + lost);
        let opened = tokio::select! {
            biased;
            result = race.winner() => result,
            fault = up(&at, id) => return Live::Instead(Err(fault)),
        };
        let (generated, budget) = match opened {
            Err(f) => return Live::Instead(Err(Fault::Call(f))),
            Ok((_, opened)) => opened.split(),
        };
        let (model, served, head, rest) = match generated {
            Generated::Whole { completion, model, served } => {
                host.input.trace.with(|run| {
                    run.stream_mode = "buffered: the model answered in one piece".to_owned();
                });
                let ms = at.ms("answer") - started;
                let asked = Some(asked);
                let answer = Answer { ms, served, asked, ..Answer::new(completion, model) };
                return instead(&at, answer, &budget);
            }
            Generated::Stream { model, served, head, rest } => (model, served, head, rest),
        };
        host.input.trace.with(|run| run.served_by = Some(model.id.clone()));
        let hold = (!flow.hold.is_empty())
            .then(|| EarlyAbort::new(flow.hold.clone(), &host.input.request, validate::mends(&at)));
        let watch = EarlyAbort::open(flow.watch.clone(), &host.input.request, false);
        let mut pump = Pump::new(host, sink, hold, watch, flow.late, model)
            .in_pieces(flow.window, flow.burst)
            .holding_calls(!flow.calls.is_empty())
            .asked(asked.clone());
        let stop = pump.pass(head, rest, &budget).await;
        match stop {
            // Nobody has seen anything of it: another call may do better.
            Some(Stop::Upstream(e)) if !pump.released() => {
                let failure = Failure::Provider(e);
                at.spend(&budget);
                if spec.on_loss != OnLoss::Fail && failure.is_lost() && lost == 0 {
                    lost = 1;
                    continue;
                }
                return Live::Instead(Err(Fault::Call(failure)));
            }
            Some(Stop::OutOfTime) if !pump.released() => {
                at.spend(&budget);
                return Live::Instead(Err(Fault::Call(Failure::Deadline)));
            }
            stop => {
                let (stop, budget) = match spec.on_loss {
                    OnLoss::Continue => onward::go_on(&at, &first, &mut pump, stop, budget).await,
                    _ => (stop, budget),
                };
                let (completion, model) = (pump.take(), pump.model().clone());
                let answer = Answer { served, asked: Some(asked), ..Answer::new(completion, model) };
                return ended(&at, flow, pump, stop, &budget, (started, answer)).await;
            }
        }
    }
}

/// Waits until the time of a node is up, or that of its run.
async fn up(at: &At<'_>, id: EffectId) -> Fault {
    let own = at.until();
    let (until, fault) = match at.host.deadline() {
        Some(end) if end <= own => (end, Fault::Call(Failure::Deadline)),
        _ => (own, Fault::Timeout),
    };
    at.host.world.wait(id, until).await;
    fault
}

/// The answer goes through its nodes in the usual way.
fn instead(at: &At<'_>, answer: Answer, budget: &Budget) -> Live {
    at.charge(&answer, budget);
    Live::Instead(Ok(generate::finish(vec![(0, answer)], at)))
}

async fn ended(
    at: &At<'_>,
    flow: &Flow,
    pump: Pump<'_>,
    stop: Option<Stop>,
    budget: &Budget,
    (started, answer): (f64, Answer),
) -> Live {
    let host = at.host;
    let mut answer = Answer { ms: at.ms("answer") - started, ..answer };
    let ending = match stop {
        Some(Stop::Doomed(finding)) if !pump.released() => {
            answer.stop(finding);
            return instead(at, answer, budget);
        }
        None if !pump.released() => return instead(at, answer, budget),
        Some(Stop::Doomed(finding)) => {
            answer.stop(finding.clone());
            at.charge(&answer, budget);
            record_stop(at, "rejected", finding.message.clone());
            failed(host, too_late(vec![*finding]))
        }
        Some(Stop::Unverified) => {
            at.charge(&answer, budget);
            record_stop(at, "rejected", "a check could not decide on the rest".to_owned());
            Ending::Failed(undecided())
        }
        Some(Stop::Upstream(error)) => {
            at.charge(&answer, budget);
            record_stop(at, "error", format!("{error}; {}", pump.out()));
            Ending::Broken { error, model: answer.model, partial: Arc::unwrap_or_clone(answer.completion) }
        }
        Some(Stop::OutOfTime) => {
            at.charge(&answer, budget);
            host.exhausted(&Failure::Deadline);
            let failure = RunFailure::of(Failure::Deadline);
            record_stop(at, "timeout", format!("{}; {}", failure.message, pump.out()));
            Ending::Failed(failure)
        }
        Some(Stop::ClientGone) => {
            at.charge(&answer, budget);
            left(at)
        }
        None => {
            at.charge(&answer, budget);
            whole(at, flow, pump, answer).await
        }
    };
    Live::Ended(Box::new(ending))
}

/// All of it has come: its checks say what they have to say, and what was held back goes out, or never.
async fn whole(at: &At<'_>, flow: &Flow, mut pump: Pump<'_>, answer: Answer) -> Ending {
    let host = at.host;
    let withheld = withheld(host, flow, &answer.completion);
    let (row, failure) = record_chain(host, at.frame, &flow.chain, answer.clone(), flow.late).await;
    if let Some(failure) = withheld.or(failure) {
        record_sink(host, at.frame, &flow.chain, (Outcome::Rejected, pump.out()));
        return failed(host, failure);
    }
    if pump.rest().await.is_err() {
        return left(at);
    }
    record_sink(host, at.frame, &flow.chain, (Outcome::Delivered, pump.out()));
    let (verdict, found) = row.map_or_else(Default::default, |id| {
        host.delivered(id);
        at.demanded(id);
        host.table().row(id).map(|r| (r.verdict, r.findings.clone())).unwrap_or_default()
    });
    host.input.trace.with(|run| run.verdict = verdict);
    host.input.trace.finds(found);
    Ending::Streamed { completion: Arc::unwrap_or_clone(answer.completion), model: answer.model, verdict }
}

/// Why calls of tools that have been held back until now are not to go out, whatever becomes of what has been shown.
fn withheld(host: &Host, flow: &Flow, whole: &Completion) -> Option<RunFailure> {
    let calls = whole.choices.iter().any(|c| !c.tool_calls.is_empty());
    let said = calls.then(|| host.check(&flow.calls, whole).report)?;
    match said.verdict {
        Verdict::Failed => Some(too_late(said.findings)),
        Verdict::Unverified => (!flow.unverified).then(undecided),
        Verdict::Passed | Verdict::None => None,
    }
}

fn undecided() -> RunFailure {
    let message = "the rest of the answer could not be checked";
    RunFailure::new(Class::Validation, "unverified", message)
}

/// Part of an answer that fails has been shown: an honest end, and no clean one.
fn failed(host: &Host, failure: RunFailure) -> Ending {
    host.input.trace.with(|run| run.verdict = Verdict::Failed);
    Ending::Failed(failure)
}

fn left(at: &At<'_>) -> Ending {
    record_stop(at, "cancelled", "the client left".to_owned());
    Ending::Failed(RunFailure::new(Class::Cancelled, "client", "the client left"))
}

fn record_stop(at: &At<'_>, outcome: &str, note: String) {
    at.host.input.trace.push(Step {
        duration_ms: at.ms("end"),
        note: Some(note),
        labels: at.node.common.told(),
        ..Step::new(at.path.clone(), at.node.kind_name.clone(), outcome)
    });
}
