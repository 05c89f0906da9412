//! The record of an answer that was passed through: what its nodes would have said, and what its sink let go.

use super::Walk;
use super::lines::Line;
use crate::ending::{Class, RunFailure};
use crate::graph::bit;
use crate::graph::chain::{Chain, Standing};
use crate::node::stream::Stream;
use crate::node::stream::{self, Late};
use crate::node::{Begun, Fault, Resolved, generate};
use crate::outcome::Outcome;
use crate::run::live::{self, Flow};
use crate::run::{Answer, At, Frame, Host, Progress, RowId, Sent};
use crate::value::Value;
use types::{Finding, Verdict};

/// Notes the nodes of the chain before its sink as resolved, with that answer as what the first of them gave. Gives
/// it, and why it must not end as if all were well.
pub(in crate::run) async fn record_chain(
    host: &Host,
    frame: &Frame<'_>,
    chain: &Chain,
    answer: Answer,
    late: Option<Late>,
) -> (Option<RowId>, Option<RunFailure>) {
    let mut walk = Walk::new(host, frame);
    let Some(at) = At::new(host, frame, chain.generate) else { return (None, None) };
    let generated = generate::finish(vec![(0, answer)], &at);
    let id = match generated.outputs.get(1) {
        Some(Value::Row(id)) => Some(*id),
        _ => None,
    };
    walk.note(chain.generate, generated);
    let mut broken = None;
    for i in chain.between.iter().copied() {
        let Some(at) = At::new(host, frame, i) else { continue };
        at.begin();
        let resolved = match at.node.spec.start(at.clone()) {
            Begun::Done(result) => result,
            Begun::Waits(work) => work.await,
        };
        let resolved = resolved.unwrap_or_else(|fault| match fault {
            Fault::Other(failure) => {
                let note = failure.message.clone();
                broken.get_or_insert(*failure);
                Resolved::plain(Outcome::Error).note(note)
            }
            _ => Resolved::plain(Outcome::Cancelled),
        });
        walk.note(i, resolved);
    }
    let Some(id) = id else { return (None, broken) };
    if let Some((at, sink)) =
        At::new(host, frame, chain.stream).and_then(|at| Some((at.clone(), at.node.spec.get::<Stream>()?)))
    {
        // What they find against it is told below, with what others do.
        sink.own(&at, id);
    }
    (Some(id), broken.or_else(|| failed(host, id, late?).map(too_late)))
}

/// The failure of an answer of which a part has been shown.
pub(in crate::run) fn too_late(findings: Vec<Finding>) -> RunFailure {
    let message = "the answer failed its checks after a part of it had been delivered";
    RunFailure { findings, ..RunFailure::new(Class::Validation, "failed", message) }
}

/// Notes the sink of the chain as resolved, with what it let go.
pub(in crate::run) fn record_sink(
    host: &Host,
    frame: &Frame<'_>,
    chain: &Chain,
    (outcome, sent): (Outcome, Sent),
) {
    let Some(at) = At::new(host, frame, chain.stream) else { return };
    at.begin();
    Walk::new(host, frame).note(chain.stream, Resolved::with(outcome, stream::told(sent)));
}

/// What the answer failed for, where that is an error although it has been shown.
fn failed(host: &Host, id: RowId, late: Late) -> Option<Vec<Finding>> {
    let table = host.table();
    let row = table.row(id).filter(|r| r.verdict == Verdict::Failed)?;
    row.findings.iter().any(|f| late.is_error(f)).then(|| row.findings.clone())
}

impl Walk<'_> {
    /// How the answer of a node flows that is about to start, if it does; the record says why.
    pub(super) fn flow_from(&self, head: usize) -> Option<Flow> {
        let (flow, mode) = if self.running.is_empty() && self.suspended.is_empty() {
            let graph = self.frame.graph;
            let is_resolved = |i: &usize| matches!(self.frame.progress(*i), Progress::Resolved { .. });
            let resolved = (0..graph.nodes.len()).filter(is_resolved).fold(0, |bits, i| bits | bit(i));
            let is_live = |e: usize| self.lines.get(e) == Some(&Line::Live);
            live::now(self.host, head, &Standing { resolved, is_live: &is_live })
        } else {
            (None, format!("buffered: {}", live::BESIDE))
        };
        self.host.input.trace.with(|run| run.stream_mode = mode);
        flow
    }

    fn note(&mut self, i: usize, mut resolved: Resolved) {
        let Some(node) = self.node(i) else { return };
        let now = self.ended(node);
        self.settle(i, &mut resolved, None, now);
        let lines = self.lines_after(i, resolved.outcome).unwrap_or_default();
        self.draw(i, lines);
        self.record(i, node, &resolved, now);
    }
}
