//! The record of an answer that was passed through: what its nodes would have said, and what its sink let go.

use super::Walk;
use crate::graph::chain::Chain;
use crate::node::stream::{self, Late};
use crate::node::{Begun, Resolved, generate};
use crate::outcome::Outcome;
use crate::run::{Answer, At, Frame, Host, RowId, Sent};
use crate::value::Value;
use types::{Finding, Verdict};

/// Notes the nodes of the chain before its sink as resolved, with that answer as what the first of them gave. Gives
/// it, and the findings for which it must not end as if all were well.
pub(in crate::run) async fn record_chain(
    host: &Host,
    frame: &Frame<'_>,
    chain: &Chain,
    answer: Answer,
    late: Option<Late>,
) -> Option<(RowId, Option<Vec<Finding>>)> {
    let mut walk = Walk::new(host, frame);
    let generated = generate::finish(vec![(0, answer)], &At::new(host, frame, chain.generate)?);
    let id = match generated.outputs.get(1) {
        Some(Value::Row(id)) => Some(*id),
        _ => None,
    };
    walk.note(chain.generate, generated);
    for i in chain.between.iter().copied() {
        let Some(at) = At::new(host, frame, i) else { continue };
        at.begin();
        let resolved = match at.node.spec.start(at.clone()) {
            Begun::Done(result) => result,
            Begun::Waits(work) => work.await,
        };
        walk.note(i, resolved.unwrap_or_else(|_| Resolved::plain(Outcome::Cancelled)));
    }
    id.map(|id| (id, late.and_then(|late| failed(host, id, late))))
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
    fn note(&mut self, i: usize, mut resolved: Resolved) {
        let Some(node) = self.node(i) else { return };
        self.settle(i, &mut resolved, None);
        for (e, line) in self.lines_after(i, resolved.outcome).unwrap_or_default() {
            self.draw(e, line);
        }
        self.record(i, node, &resolved);
    }
}
