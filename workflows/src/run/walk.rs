//! The walk over a graph: a node starts as soon as its join is satisfied, and nothing runs in vain.

use super::at::demanded;
use super::{Answer, At, End, Frame, Host, Progress, RowId};
use crate::ending::RunFailure;
use crate::event::Event;
use crate::graph::chain::Chain;
use crate::node::{Begun, Fault, Node, NodeResult, Resolved, generate};
use crate::outcome::{Outcome, OutcomeSet};
use crate::plan::OnExhausted;
use crate::value::Value;
use crate::world::{EffectId, EffectKind, Failure};
use futures_util::future::BoxFuture;
use serde_json::json;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;
use types::run::Step;

mod lines;

use lines::{Line, Ready};

struct Walk<'a> {
    host: &'a Host,
    frame: &'a Frame<'a>,
    lines: Vec<Line>,
    running: Vec<(usize, BoxFuture<'a, NodeResult>)>,
}

/// Walks the root of a run to its end. `first`: a node that has already run.
pub(super) async fn root<'a>(
    host: &'a Host,
    frame: &'a Frame<'a>,
    first: Option<(usize, NodeResult)>,
) -> End {
    let walk = walk(host, frame, first);
    let end = match host.deadline() {
        None => walk.await,
        Some(deadline) => {
            let id = EffectId::new(&Arc::from(""), EffectKind::Wait, 0, 1);
            tokio::select! {
                biased;
                end = walk => end,
                () = host.world.wait(id, deadline) => return cut(host),
            }
        }
    };
    match end {
        None => stranded(host),
        Some(End::Failed(failure)) => {
            let limited = failure.class == "budget" || failure.code == "timeout";
            let degrade = limited && host.workflow.limits.on_exhausted == OnExhausted::BestSoFar;
            // An author's own error is an answer, whatever else there is.
            let allowed = failure.class != "workflow" && (degrade || host.workflow.best_so_far);
            best_or(host, allowed, failure)
        }
        Some(end) => end,
    }
}

/// Walks a graph to its end. `None`: every node has resolved and none of them ended it.
pub(crate) async fn walk<'a>(
    host: &'a Host,
    frame: &'a Frame<'a>,
    first: Option<(usize, NodeResult)>,
) -> Option<End> {
    let mut walk = Walk::new(host, frame);
    if let Some((node, result)) = first
        && let Some(end) = walk.finish(node, result)
    {
        return Some(end);
    }
    loop {
        if let Some(end) = walk.advance() {
            return Some(end);
        }
        if walk.running.is_empty() {
            return None;
        }
        let next = poll_fn(|cx| {
            for (i, (_, f)) in walk.running.iter_mut().enumerate() {
                if let Poll::Ready(result) = f.as_mut().poll(cx) {
                    return Poll::Ready((i, result));
                }
            }
            Poll::Pending
        });
        let (i, result) = next.await;
        let (node, _) = walk.running.remove(i);
        if let Some(end) = walk.finish(node, result) {
            return Some(end);
        }
    }
}

/// The run's own time is up.
fn cut(host: &Host) -> End {
    host.exhausted(&Failure::Deadline);
    let degrade = host.workflow.limits.on_exhausted == OnExhausted::BestSoFar;
    best_or(host, degrade, RunFailure::of(Failure::Deadline))
}

fn best_or(host: &Host, allowed: bool, failure: RunFailure) -> End {
    let Some(id) = host.table().best().filter(|_| allowed) else { return End::Failed(failure) };
    // An answer that is only the best so far has not been through everything; what a policy demands holds
    // for it all the same.
    let findings = demanded(host, id);
    if findings.is_empty() {
        return End::Delivered(id);
    }
    let message = "the best answer so far does not pass what a policy demands";
    End::Failed(RunFailure { findings, ..RunFailure::new("validation", "failed", 422, message) })
}

/// Everything has resolved and nothing answered: a path that the author silenced, or a skipped sink.
fn stranded(host: &Host) -> End {
    let findings = host.table().worst_findings();
    let failure = if findings.is_empty() {
        RunFailure::new("internal", "no_response", 500, "the workflow ended without a response")
    } else {
        RunFailure::new("validation", "failed", 422, "no answer passed its checks")
    };
    best_or(host, host.workflow.best_so_far, RunFailure { findings, ..failure })
}

impl<'a> Walk<'a> {
    fn new(host: &'a Host, frame: &'a Frame<'a>) -> Self {
        Walk { host, frame, lines: vec![Line::Pending; frame.graph.edges.len()], running: Vec::new() }
    }

    fn node(&self, i: usize) -> Option<&'a Node> {
        self.frame.graph.nodes.get(i)
    }

    /// Starts and skips whatever can be. One pass in topological order suffices: what resolves here only
    /// changes nodes that come later in it.
    fn advance(&mut self) -> Option<End> {
        for i in self.frame.graph.topo.iter().copied() {
            if self.frame.progress(i) != Progress::Pending {
                continue;
            }
            let Some(node) = self.node(i) else { continue };
            let end = match self.ready(i, node.join) {
                Ready::Wait => None,
                Ready::Skip => self.resolve(i, Resolved::plain(Outcome::Skipped), None),
                Ready::Start => self.start(i, node),
            };
            if end.is_some() {
                return end;
            }
        }
        self.abandon();
        None
    }

    fn start(&mut self, i: usize, node: &'a Node) -> Option<End> {
        if !node.enabled {
            return self.resolve(i, Resolved::plain(Outcome::Skipped), None);
        }
        if let Some(guard) = &node.guard {
            match guard.holds(&self.frame.scope(guard, self.host)) {
                Ok(true) => {}
                Ok(false) => return self.resolve(i, Resolved::plain(Outcome::Skipped), None),
                Err(e) => {
                    let failure = RunFailure::new("expression", "runtime", 500, e.message);
                    return self.resolve(i, Resolved::plain(Outcome::Error), Some(failure));
                }
            }
        }
        let at = At::new(self.host, self.frame, i)?;
        at.begin();
        match node.spec.start(at.clone()) {
            Begun::Done(resolved) => self.resolve(i, resolved, None),
            Begun::Waits(work) => {
                self.running.push((i, Box::pin(within(at, work))));
                None
            }
        }
    }

    /// Takes in what a node that waited has produced.
    fn finish(&mut self, i: usize, result: NodeResult) -> Option<End> {
        let node = self.node(i)?;
        match result {
            Ok(resolved) => self.resolve(i, resolved, None),
            Err(Fault::Timeout) => {
                let message = format!("node `{}` took longer than {:?}", node.id, node.timeout);
                let failure = RunFailure::new("provider", "timeout", 504, message);
                self.resolve(i, Resolved::plain(Outcome::Timeout), Some(failure))
            }
            Err(Fault::Call(f)) => {
                let outcome = if f == Failure::Deadline { Outcome::Timeout } else { Outcome::Error };
                let resolved = Resolved::plain(outcome).note(f.to_string());
                self.host.exhausted(&f);
                self.resolve(i, resolved, Some(RunFailure::of(f)))
            }
        }
    }

    /// Settles a node: its step is recorded and its edges become live or dead.
    fn resolve(&mut self, i: usize, mut resolved: Resolved, mut failure: Option<RunFailure>) -> Option<End> {
        let node = self.node(i)?;
        // Conditions of its edges read what it has put out.
        let outputs = std::mem::take(&mut resolved.outputs);
        self.frame.with(i, |c| c.outputs = outputs);
        let mut lines = self.lines_after(i, resolved.outcome);
        if let Err(e) = &lines {
            resolved.outcome = Outcome::Error;
            resolved.note = Some(format!("a condition could not be evaluated: {e}"));
            failure = Some(RunFailure::new("expression", "runtime", 500, e.to_string()));
            resolved.end = None;
            lines = self.lines_after(i, Outcome::Error);
        }
        let errors = OutcomeSet::of(&[Outcome::Error, Outcome::Timeout]);
        let routed = |o: Outcome| self.frame.graph.edges_from(i).any(|(_, e)| e.accepts.contains(o));
        let unrouted = errors.contains(resolved.outcome) && !routed(resolved.outcome);
        if unrouted && node.skip_on_error {
            resolved.note = resolved.note.or_else(|| failure.as_ref().map(ToString::to_string));
            resolved.outcome = Outcome::Skipped;
            lines = self.lines_after(i, Outcome::Skipped);
        }
        let ends = unrouted && !node.skip_on_error;
        if let Some(f) = &failure {
            let error = json!({"class": f.class, "code": f.code, "message": f.message});
            self.frame.with(i, |c| c.error = Some(Arc::new(error)));
        }
        for (e, line) in lines.unwrap_or_default() {
            self.draw(e, line);
        }
        let end = resolved.end.take();
        self.record(i, node, &resolved);
        if ends { Some(self.broken(node, failure, resolved.note)) } else { end.map(|e| *e) }
    }

    fn record(&self, i: usize, node: &Node, resolved: &Resolved) {
        let frame = self.frame.path(node);
        let now = self.host.ms(&crate::world::Moment { frame: &frame, what: "end", index: 0, attempt: 1 });
        let ran = !matches!(resolved.outcome, Outcome::Skipped | Outcome::Cancelled);
        let (started, duration_ms) = self
            .frame
            .with(i, |c| {
                let started = if ran { c.started_ms } else { now };
                let duration_ms = (now - started).max(0.0);
                c.progress = Progress::Resolved { outcome: resolved.outcome, duration_ms };
                (started, duration_ms)
            })
            .unwrap_or((now, 0.0));
        let outcome = node.word(resolved.outcome);
        self.host.tell(|| Event::Resolved {
            frame: frame.clone(),
            kind: node.kind.name,
            outcome: outcome.to_owned(),
            at_ms: now,
            note: resolved.note.clone(),
        });
        self.host.input.trace.push(Step {
            node: frame,
            kind: node.kind_name.clone(),
            outcome: outcome.to_owned(),
            started_ms: started,
            duration_ms,
            calls: Vec::new(),
            findings: resolved.findings.clone(),
            note: resolved.note.clone(),
        });
    }

    /// A node failed and nothing takes its failure up.
    fn broken(&self, node: &Node, failure: Option<RunFailure>, note: Option<String>) -> End {
        End::Failed(failure.unwrap_or_else(|| {
            let message = note.unwrap_or_else(|| format!("node `{}` failed", node.id));
            let findings = self.host.table().worst_findings();
            RunFailure { findings, ..RunFailure::new("validation", "failed", 422, message) }
        }))
    }
}

/// Work within a free slot and the node's own time.
async fn within(at: At<'_>, work: BoxFuture<'_, NodeResult>) -> NodeResult {
    // A node with graphs of its own would hold a slot that its own nodes wait for.
    let leaf = at.node.spec.bodies().is_empty();
    let _slot = if leaf { at.host.slots.acquire().await.ok() } else { None };
    let id = EffectId::new(&at.path, EffectKind::Wait, 0, 1);
    let until = Instant::now() + at.node.timeout;
    tokio::select! {
        biased;
        result = work => result,
        () = at.host.world.wait(id, until) => Err(Fault::Timeout),
    }
}

/// The record of an answer that was passed through: what its nodes would have said.
pub(super) fn record_chain(host: &Host, frame: &Frame<'_>, chain: &Chain, answer: Answer) -> Option<RowId> {
    let walk = Walk::new(host, frame);
    let path = walk.node(chain.generate).map(|n| frame.path(n))?;
    let generated = generate::finish(vec![(0, answer)], &path, &mut host.table());
    let id = match generated.outputs.get(1) {
        Some(Value::Row(id)) => Some(*id),
        _ => None,
    };
    walk.note(chain.generate, generated);
    for i in chain.between.iter().copied().chain([chain.stream]) {
        let Some(at) = At::new(host, frame, i) else { continue };
        at.begin();
        // It has been delivered, whatever is found now.
        let resolved = if i == chain.stream {
            Resolved::plain(Outcome::Delivered)
        } else {
            match at.node.spec.start(at.clone()) {
                Begun::Done(resolved) => resolved,
                Begun::Waits(_) => Resolved::plain(Outcome::Cancelled),
            }
        };
        walk.note(i, resolved);
    }
    id
}

impl Walk<'_> {
    fn note(&self, i: usize, resolved: Resolved) {
        if let Some(node) = self.node(i) {
            self.record(i, node, &resolved);
        }
        self.frame.with(i, |c| c.outputs = resolved.outputs);
    }
}
