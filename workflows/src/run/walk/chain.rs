//! The record of an answer that was passed through: what its nodes would have said.

use super::Walk;
use crate::graph::chain::Chain;
use crate::node::{Begun, Resolved, generate};
use crate::outcome::Outcome;
use crate::run::{Answer, At, Frame, Host, RowId};
use crate::value::Value;

/// Notes the nodes of the chain as resolved, with that answer as what the first of them gave.
pub(in crate::run) async fn record_chain(
    host: &Host,
    frame: &Frame<'_>,
    chain: &Chain,
    answer: Answer,
) -> Option<RowId> {
    let mut walk = Walk::new(host, frame);
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
            let resolved = match at.node.spec.start(at.clone()) {
                Begun::Done(result) => result,
                Begun::Waits(work) => work.await,
            };
            match resolved {
                Ok(resolved) => resolved,
                Err(_) => Resolved::plain(Outcome::Cancelled),
            }
        };
        walk.note(i, resolved);
    }
    id
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
