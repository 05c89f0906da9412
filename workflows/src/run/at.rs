//! A node at work: where it stands, what it reads, and its way to the world outside.

use super::{Answer, Frame, Host, Progress, RowId};
use crate::event::Event;
use crate::node::Node;
use crate::reference::Ref;
use crate::world::{Ask, Failure, Generated, Moment};
use futures_util::StreamExt;
use std::sync::Arc;
use types::Finding;
use types::completion::Accumulator;
use types::run::Severity;
use validators::Check;

/// A node instance.
#[derive(Clone)]
pub(crate) struct At<'a> {
    pub(crate) host: &'a Host,
    pub(crate) frame: &'a Frame<'a>,
    pub(crate) node: &'a Node,
    /// Its position in the graph of the frame.
    pub(crate) position: usize,
    /// Its path, such as `work[2]/act[0]/run`.
    pub(crate) path: Arc<str>,
}

impl<'a> At<'a> {
    pub(crate) fn new(host: &'a Host, frame: &'a Frame<'a>, position: usize) -> Option<Self> {
        let node = frame.graph.nodes.get(position)?;
        Some(At { host, frame, node, position, path: frame.path(node) })
    }

    /// The completions that references name.
    pub(crate) fn rows(&self, refs: &[Ref]) -> Vec<RowId> {
        self.frame.rows(refs, self.host)
    }

    /// The time, in milliseconds since the run started.
    pub(crate) fn ms(&self, what: &'static str) -> f64 {
        self.host.ms(&Moment { frame: &self.path, what, index: 0, attempt: 1 })
    }

    /// Notes that it starts; gives the time.
    pub(crate) fn begin(&self) -> f64 {
        let at_ms = self.ms("begin");
        self.frame.with(self.position, |c| (c.progress, c.started_ms) = (Progress::Running, at_ms));
        self.host.tell(|| Event::Started { frame: self.path.clone(), kind: self.node.kind.name, at_ms });
        at_ms
    }

    /// A node's own checks, those that policies demand included where it comes last before delivery.
    pub(crate) fn checks(&self, own: &[Arc<dyn Check>], last: bool) -> Vec<Arc<dyn Check>> {
        let extras = if last { self.host.extras.as_slice() } else { &[] };
        own.iter().chain(extras).cloned().collect()
    }

    /// What stands against the delivery of a completion, after the checks that policies demand.
    pub(crate) fn demanded(&self, id: RowId) -> Vec<Finding> {
        demanded(self.host, id)
    }

    /// Asks for one call, within the workflow's own limits.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Generated, Failure> {
        self.host.admit()?;
        self.frame.with(self.position, |c| c.calls = c.calls.saturating_add(1));
        let id = ask.id.clone();
        self.host.tell(|| Event::Intent { id: id.clone(), purpose: ask.purpose.to_string() });
        let result = self.host.world.generate(ask).await;
        self.host.tell(|| {
            let (by, error) = match &result {
                Ok(Generated::Whole { model, .. } | Generated::Stream { model, .. }) => {
                    (Some(model.id.clone()), None)
                }
                Err(e) => (None, Some(e.to_string())),
            };
            Event::Result { id, by, error }
        });
        result
    }

    /// One whole answer.
    pub(crate) async fn call(&self, ask: Ask) -> Result<Answer, Failure> {
        let (index, attempt) = (ask.id.index, ask.id.attempt);
        let moment = |what| Moment { frame: &self.path, what, index, attempt };
        let started = self.host.ms(&moment("ask"));
        let (completion, model) = match self.ask(ask).await? {
            Generated::Whole { completion, model } => (completion, model),
            Generated::Stream { model, head, mut rest } => {
                let mut all = Accumulator::default();
                head.iter().for_each(|c| all.push(c));
                while let Some(chunk) = rest.next().await {
                    all.push(&chunk?);
                }
                (all.finish(), model)
            }
        };
        let ms = self.host.ms(&moment("answer")) - started;
        let answer = Answer { completion, model, ms };
        self.charge(&answer);
        Ok(answer)
    }

    /// Counts what an answer used and cost.
    pub(crate) fn charge(&self, answer: &Answer) {
        self.host.spent(&answer.completion);
        let cost = answer.model.price.map_or(0.0, |p| p.cost(&answer.completion.usage).dollars());
        self.frame.with(self.position, |c| c.cost_usd += cost);
    }
}

/// Runs the checks that policies demand and nothing before has run; gives what forbids delivery.
pub(super) fn demanded(host: &Host, id: RowId) -> Vec<Finding> {
    let mut table = host.table();
    let Some(row) = table.row_mut(id) else { return Vec::new() };
    if !host.extras.is_empty() && !row.extras {
        let checked = host.check(&host.extras, &row.completion);
        row.join(checked);
    }
    let blocked = row.findings.iter().any(|f| f.severity == Severity::Block);
    if blocked { row.findings.clone() } else { Vec::new() }
}
