//! The walk over the graph: a node starts as soon as its join is satisfied, and nothing runs in vain.

use super::scope::{self, Progress};
use super::{Answer, Host, Produced, Row, State};
use crate::ending::RunFailure;
use crate::node::repair::Start;
use crate::node::{Kind, Node, Resolved, generate};
use crate::outcome::{Outcome, OutcomeSet};
use crate::plan::OnExhausted;
use crate::seam::Failure;
use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::task::Poll;
use tokio::time::{sleep_until, timeout};
use types::run::Severity;
use types::run::Step;

mod lines;

use lines::{Line, Ready};

/// Why a node that waited has nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    Failure(Failure),
    /// Its own time was up.
    Timeout,
}

pub(crate) type NodeResult = Result<Produced, Fault>;

/// How a walk ends.
pub(crate) enum End {
    Delivered(Row),
    Failed(RunFailure),
}

struct Walk<'h> {
    host: &'h Host<'h>,
    state: State,
    progress: Vec<Progress>,
    started_ms: Vec<f64>,
    lines: Vec<Line>,
    running: Vec<(usize, BoxFuture<'h, NodeResult>)>,
}

/// Walks the graph to its end. `first`: a node that has already run.
pub(crate) async fn walk(host: &Host<'_>, first: Option<(usize, NodeResult)>) -> End {
    let mut walk = Walk::new(host);
    if let Some((node, result)) = first
        && let Some(end) = walk.finish(node, result)
    {
        return end;
    }
    let deadline = host.deadline();
    loop {
        if let Some(end) = walk.advance() {
            return end;
        }
        if walk.running.is_empty() {
            return walk.stranded();
        }
        let next = poll_fn(|cx| {
            for (i, (_, f)) in walk.running.iter_mut().enumerate() {
                if let Poll::Ready(result) = f.as_mut().poll(cx) {
                    return Poll::Ready((i, result));
                }
            }
            Poll::Pending
        });
        let (i, result) = match deadline {
            None => next.await,
            Some(d) => tokio::select! {
                biased;
                done = next => done,
                () = sleep_until(d) => return walk.cut(&Failure::Deadline),
            },
        };
        let (node, _) = walk.running.remove(i);
        if let Some(end) = walk.finish(node, result) {
            return end;
        }
    }
}

impl<'h> Walk<'h> {
    fn new(host: &'h Host<'h>) -> Self {
        let n = host.workflow.nodes.len();
        Walk {
            host,
            state: State::new(n),
            progress: vec![Progress::Pending; n],
            started_ms: vec![0.0; n],
            lines: vec![Line::Pending; host.workflow.graph.edges.len()],
            running: Vec::new(),
        }
    }

    fn node(&self, i: usize) -> Option<&'h Node> {
        self.host.workflow.nodes.get(i)
    }

    /// Starts and skips whatever can be. One pass in topological order suffices: what resolves here only
    /// changes nodes that come later in it.
    fn advance(&mut self) -> Option<End> {
        let host = self.host;
        for i in host.workflow.graph.topo.iter().copied() {
            if self.progress.get(i) != Some(&Progress::Pending) {
                continue;
            }
            let Some(node) = self.node(i) else { continue };
            match self.ready(i, node.join) {
                Ready::Wait => continue,
                Ready::Skip => {
                    if let Some(end) = self.resolve(i, Resolved::plain(Outcome::Skipped), None) {
                        return Some(end);
                    }
                    continue;
                }
                Ready::Start => {}
            }
            if let Some(end) = self.start(i, node) {
                return Some(end);
            }
        }
        self.abandon();
        None
    }

    fn start(&mut self, i: usize, node: &'h Node) -> Option<End> {
        if !node.enabled {
            return self.resolve(i, Resolved::plain(Outcome::Skipped), None);
        }
        if let Some(guard) = &node.guard {
            match guard.holds(&scope::build(self.host, &self.state, &self.progress)) {
                Ok(true) => {}
                Ok(false) => return self.resolve(i, Resolved::plain(Outcome::Skipped), None),
                Err(e) => {
                    let failure = RunFailure::new("expression", "runtime", 500, e.message);
                    return self.resolve(i, Resolved::plain(Outcome::Error), Some(failure));
                }
            }
        }
        let waits = matches!(node.kind, Kind::Generate(_) | Kind::Repair(_) | Kind::Judge(_));
        let slots = usize::try_from(self.host.workflow.limits.parallel).unwrap_or(usize::MAX);
        if waits && self.running.len() >= slots {
            // It stays ready and starts when a slot is free.
            return None;
        }
        if let Some(s) = self.started_ms.get_mut(i) {
            *s = self.host.elapsed_ms();
        }
        if !waits {
            return self.at_once(i, node);
        }
        let Some(work) = self.work(i, node) else {
            // A repair without anything to repair.
            return self.resolve(i, Resolved::plain(Outcome::Exhausted), None);
        };
        if let Some(p) = self.progress.get_mut(i) {
            *p = Progress::Running;
        }
        self.running.push((
            i,
            Box::pin(async move {
                match timeout(node.timeout, work).await {
                    Ok(result) => result.map_err(Fault::Failure),
                    Err(_) => Err(Fault::Timeout),
                }
            }),
        ));
        None
    }

    /// What a node that waits for models does, on completions as they stand now.
    fn work(&self, i: usize, node: &'h Node) -> Option<BoxFuture<'h, Result<Produced, Failure>>> {
        let host = self.host;
        Some(match &node.kind {
            Kind::Generate(g) => Box::pin(g.run(node, host)),
            Kind::Repair(r) => {
                let id = self.state.read(&r.input).first().copied()?;
                let row = self.state.row(id)?;
                let (completion, model) = (row.completion.clone(), row.model.clone());
                Box::pin(r.run(node, i, host, Start { id, completion, model, checked: row.checked() }))
            }
            Kind::Judge(j) => {
                let rows = self.state.read(&j.input);
                let texts = rows.into_iter().filter_map(|id| {
                    let row = self.state.row(id)?;
                    Some((id, row.completion.text().to_owned(), row.model.id.clone()))
                });
                Box::pin(j.run(node, host, texts.collect()))
            }
            Kind::Validate(_) | Kind::Select(_) | Kind::Stream(_) | Kind::Fail(_) => return None,
        })
    }

    /// Nodes that wait for nothing.
    fn at_once(&mut self, i: usize, node: &Node) -> Option<End> {
        match &node.kind {
            Kind::Validate(v) => {
                let resolved = v.run(i, self.host, &mut self.state);
                self.resolve(i, resolved, None)
            }
            Kind::Select(s) => {
                let resolved = s.run(&self.state);
                self.resolve(i, resolved, None)
            }
            Kind::Stream(s) => {
                let resolved = s.run(self.host, &mut self.state);
                let row = resolved.output.completions.first().and_then(|id| self.state.row(*id)).cloned();
                let outcome = resolved.outcome;
                let end = self.resolve(i, resolved, None);
                match (outcome, row) {
                    (Outcome::Delivered, Some(row)) => Some(End::Delivered(row)),
                    (Outcome::Rejected, Some(row)) => {
                        let message = "the answer broke a rule that forbids its delivery";
                        let failure = RunFailure::new("validation", "failed", 422, message);
                        Some(End::Failed(RunFailure { findings: row.findings, ..failure }))
                    }
                    _ => end,
                }
            }
            Kind::Fail(f) => {
                let failure = RunFailure { findings: self.state.worst_findings(), ..f.failure() };
                self.resolve(i, Resolved::plain(Outcome::Failed), None);
                Some(End::Failed(failure))
            }
            Kind::Generate(_) | Kind::Repair(_) | Kind::Judge(_) => None,
        }
    }

    /// Takes in what a node that waited has produced.
    fn finish(&mut self, i: usize, result: NodeResult) -> Option<End> {
        let node = self.node(i)?;
        let produced = match result {
            Ok(p) => p,
            Err(Fault::Timeout) => {
                let message = format!("node `{}` took longer than {:?}", node.id, node.timeout);
                let failure = RunFailure::new("provider", "timeout", 504, message);
                return self.resolve(i, Resolved::plain(Outcome::Timeout), Some(failure));
            }
            Err(Fault::Failure(f)) => {
                let outcome = if f == Failure::Deadline { Outcome::Timeout } else { Outcome::Error };
                let resolved = Resolved { note: Some(f.to_string()), ..Resolved::plain(outcome) };
                self.host.exhausted(&f);
                return self.resolve(i, resolved, Some(RunFailure::of(f)));
            }
        };
        let resolved = match (produced, &node.kind) {
            (Produced::Answers(a), _) => generate::finish(a, &mut self.state),
            (Produced::Repaired(r), Kind::Repair(spec)) => {
                spec.finish(*r, &mut self.state, self.host.has_extras(i))
            }
            (Produced::Scores(s), Kind::Judge(spec)) => spec.finish(&s, &mut self.state),
            _ => Resolved::plain(Outcome::Error),
        };
        self.resolve(i, resolved, None)
    }

    /// Settles a node: its step is recorded and its edges become live or dead.
    fn resolve(&mut self, i: usize, mut resolved: Resolved, failure: Option<RunFailure>) -> Option<End> {
        let node = self.node(i)?;
        let errors = OutcomeSet::of(&[Outcome::Error, Outcome::Timeout]);
        // Conditions of its edges read what it has put out.
        self.state.put(i, std::mem::take(&mut resolved.output));
        let mut lines = self.lines_after(i, resolved.outcome);
        let mut failure = failure;
        if let Err(e) = &lines {
            resolved.outcome = Outcome::Error;
            resolved.note = Some(format!("a condition could not be evaluated: {e}"));
            failure = Some(RunFailure::new("expression", "runtime", 500, e.to_string()));
            lines = self.lines_after(i, Outcome::Error);
        }
        let routed = |o: Outcome| self.host.workflow.graph.edges_from(i).any(|(_, e)| e.accepts.contains(o));
        let unrouted = errors.contains(resolved.outcome) && !routed(resolved.outcome);
        if unrouted && node.skip_on_error {
            resolved.note = resolved.note.or_else(|| failure.as_ref().map(ToString::to_string));
            resolved.outcome = Outcome::Skipped;
            lines = self.lines_after(i, Outcome::Skipped);
        }
        let ends = unrouted && !node.skip_on_error;
        for (e, line) in lines.unwrap_or_default() {
            if let Some(l) = self.lines.get_mut(e) {
                *l = line;
            }
        }
        self.record(i, node, &resolved);
        ends.then(|| self.broken(node, failure, resolved.note))
    }

    fn record(&mut self, i: usize, node: &Node, resolved: &Resolved) {
        let now = self.host.elapsed_ms();
        let ran = !matches!(resolved.outcome, Outcome::Skipped | Outcome::Cancelled);
        let started = self.started_ms.get(i).copied().filter(|_| ran).unwrap_or(now);
        let duration_ms = (now - started).max(0.0);
        if let Some(p) = self.progress.get_mut(i) {
            *p = Progress::Resolved { outcome: resolved.outcome, duration_ms };
        }
        self.host.input.trace.push(Step {
            node: node.id.clone(),
            kind: node.kind_name.clone(),
            outcome: resolved.outcome.as_str().to_owned(),
            started_ms: started,
            duration_ms,
            calls: Vec::new(),
            findings: resolved.findings.clone(),
            note: resolved.note.clone(),
        });
    }

    /// A node failed and nothing takes its failure up.
    fn broken(&self, node: &Node, failure: Option<RunFailure>, note: Option<String>) -> End {
        let failure = failure.unwrap_or_else(|| {
            let message = note.unwrap_or_else(|| format!("node `{}` failed", node.id));
            let findings = self.state.worst_findings();
            RunFailure { findings, ..RunFailure::new("validation", "failed", 422, message) }
        });
        let limited = failure.class == "budget" || failure.code == "timeout";
        let degrade = limited && self.host.workflow.limits.on_exhausted == OnExhausted::BestSoFar;
        self.best_or(degrade || self.host.workflow.best_so_far, failure)
    }

    /// The run's own time is up.
    fn cut(&self, failure: &Failure) -> End {
        self.host.exhausted(failure);
        let degrade = self.host.workflow.limits.on_exhausted == OnExhausted::BestSoFar;
        self.best_or(degrade, RunFailure::of(failure.clone()))
    }

    fn best_or(&self, allowed: bool, failure: RunFailure) -> End {
        let best = self.state.best().and_then(|id| self.state.row(id)).filter(|_| allowed);
        let Some(mut row) = best.cloned() else { return End::Failed(failure) };
        // An answer that is only the best so far has not been through everything; what a policy demands
        // holds for it all the same.
        if !self.host.extras.is_empty() && !row.extras {
            row.join(self.host.check(&self.host.extras, &row.completion));
        }
        if row.findings.iter().any(|f| f.severity == Severity::Block) {
            let message = "the best answer so far does not pass what a policy demands";
            let findings = row.findings;
            return End::Failed(RunFailure {
                findings,
                ..RunFailure::new("validation", "failed", 422, message)
            });
        }
        End::Delivered(row)
    }

    /// Everything has resolved and nothing answered: a path that the author silenced, or a skipped sink.
    fn stranded(&self) -> End {
        let findings = self.state.worst_findings();
        let failure = if findings.is_empty() {
            RunFailure::new("internal", "no_response", 500, "the workflow ended without a response")
        } else {
            RunFailure::new("validation", "failed", 422, "no answer passed its checks")
        };
        self.best_or(self.host.workflow.best_so_far, RunFailure { findings, ..failure })
    }
}

/// The record of an answer that was passed through: what its nodes would have said.
pub(super) fn record_chain(
    host: &Host<'_>,
    chain: &crate::graph::chain::Chain,
    answer: Answer,
) -> Option<Row> {
    let mut walk = Walk::new(host);
    let generated = generate::finish(vec![answer], &mut walk.state);
    let id = generated.output.completions.first().copied();
    walk.note(chain.generate, generated);
    for i in chain.between.iter().copied().chain([chain.stream]) {
        let Some(node) = walk.node(i) else { continue };
        if let Some(s) = walk.started_ms.get_mut(i) {
            *s = host.elapsed_ms();
        }
        let resolved = match &node.kind {
            Kind::Validate(v) => v.run(i, host, &mut walk.state),
            Kind::Select(s) => s.run(&walk.state),
            // It has been delivered, whatever is found now.
            _ => Resolved::plain(Outcome::Delivered),
        };
        walk.note(i, resolved);
    }
    if let Some(row) = id.and_then(|id| walk.state.row_mut(id))
        && !host.extras.is_empty()
        && !row.extras
    {
        let checked = host.check(&host.extras, &row.completion);
        row.join(checked);
    }
    id.and_then(|id| walk.state.row(id)).cloned()
}

impl Walk<'_> {
    fn note(&mut self, i: usize, resolved: Resolved) {
        if let Some(node) = self.node(i) {
            self.record(i, node, &resolved);
        }
        self.state.put(i, resolved.output);
    }
}
