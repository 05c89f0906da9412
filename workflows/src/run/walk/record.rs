//! The record of a node that has resolved.

use super::Walk;
use crate::event::Event;
use crate::node::tool::Tool;
use crate::node::{Node, Resolved};
use crate::outcome::Outcome;
use crate::run::Progress;
use crate::world::Moment;
use types::run::Step;

impl Drop for Walk<'_> {
    /// What was under way when the graph ended, or when nobody waited for it any more, is on record as well.
    fn drop(&mut self) {
        for (i, work) in std::mem::take(&mut self.running) {
            // Its own nodes come first, as they do where it ends by itself.
            drop(work);
            let Some(node) = self.node(i) else { continue };
            let goes_on = node.spec.get::<Tool>().is_some_and(Tool::is_unsafe);
            let note = match goes_on {
                true => "under way when nobody waited for it any more; the call goes on to its end",
                false => "under way when nobody waited for it any more",
            };
            let started_ms = self.frame.with(i, |c| c.started_ms).unwrap_or_default();
            self.host.input.trace.push(Step {
                // It took no time: the clock of a run that is repeated is not asked where the first one was dropped.
                started_ms,
                note: Some(note.to_owned()),
                labels: node.common.told(),
                ..Step::new(self.frame.path(node), node.kind_name.clone(), node.word(Outcome::Cancelled))
            });
        }
    }
}

impl Walk<'_> {
    /// The time at which a node has ended, in milliseconds since the run started.
    pub(super) fn ended(&self, node: &Node) -> f64 {
        let frame = self.frame.path(node);
        self.host.ms(&Moment { frame: &frame, what: "end", index: 0, attempt: 1 })
    }

    /// Writes the step down and tells whoever watches. `now`: when it ended.
    pub(super) fn record(&self, i: usize, node: &Node, resolved: &Resolved, now: f64) {
        let frame = self.frame.path(node);
        let duration_ms = match self.frame.progress(i) {
            Progress::Resolved { duration_ms, .. } => duration_ms,
            Progress::Pending | Progress::Running => 0.0,
        };
        let ran = !matches!(resolved.outcome, Outcome::Skipped | Outcome::Cancelled);
        let started_ms = self.frame.with(i, |c| c.started_ms).filter(|_| ran).unwrap_or(now);
        let outcome = node.word(resolved.outcome);
        self.host.tell(|| Event::Resolved {
            frame: frame.clone(),
            kind: node.kind(),
            outcome: outcome.to_owned(),
            at_ms: now,
            findings: resolved.findings.clone(),
            note: resolved.note.clone(),
        });
        self.host.input.trace.push(Step {
            started_ms,
            duration_ms,
            findings: resolved.findings.clone(),
            note: resolved.note.clone(),
            cached: resolved.cached.clone(),
            labels: node.common.told(),
            ..Step::new(frame, node.kind_name.clone(), outcome)
        });
    }
}
