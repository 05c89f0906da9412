//! The record of a run while it happens, readable even when the run itself is dropped.

use std::sync::{Arc, Mutex, PoisonError};
use types::run::{Finding, Step};
use types::{Run, Verdict};
use validators::{Check, Checked};

/// A handle on a [`Run`] that is being written; clones share it.
///
/// Steps are written as nodes resolve. [`Step::calls`] stay empty: whoever makes the calls knows them, and
/// joins them by the node's name.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Kept>>);

/// What is kept of a run.
#[derive(Debug, Default)]
struct Kept {
    run: Run,
    /// What the checks found of the answer that was delivered last.
    found: Vec<Finding>,
}

impl Trace {
    /// An empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The record so far; an empty one stays behind.
    #[must_use]
    pub fn take(&self) -> Run {
        self.with(std::mem::take)
    }

    /// Puts a record in the place of the one that was written.
    pub fn put(&self, run: Run) {
        self.with(|own| *own = run);
    }

    /// A copy of the record so far.
    #[must_use]
    pub fn snapshot(&self) -> Run {
        self.with(|run| run.clone())
    }

    /// The workflow that runs, or ran last; empty = none has begun.
    #[must_use]
    pub fn workflow(&self) -> String {
        self.with(|run| run.workflow.clone())
    }

    /// Whose answer is being delivered, once that is known.
    #[must_use]
    pub fn served_by(&self) -> Option<Arc<str>> {
        self.with(|run| run.served_by.clone())
    }

    /// Whether some node's outputs had been kept by an earlier run.
    #[must_use]
    pub fn recalls(&self) -> bool {
        self.with(|run| run.recalled > 0)
    }

    /// What the checks have said of the answer so far.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.with(|run| run.verdict)
    }

    /// What the checks found of the very answer that is delivered, worst or not; nothing of the answers before it. Empty
    /// while there is none.
    #[must_use]
    pub fn found(&self) -> Vec<Finding> {
        self.kept(|kept| kept.found.clone())
    }

    pub(crate) fn finds(&self, found: Vec<Finding>) {
        self.kept(|kept| kept.found = found);
    }

    /// Notes what cut the run short: `wall`, `usd`, `tokens`, `calls` or `node_runs`. The first is the one that counts.
    pub fn exhausted(&self, kind: &str) {
        self.with(|run| {
            run.exhausted.get_or_insert_with(|| kind.to_owned());
        });
    }

    /// Counts the checks of that list that could not say anything of an answer.
    pub(crate) fn unverified(&self, checked: &Checked, list: &[Arc<dyn Check>]) {
        for label in &checked.unverified {
            // What a list calls a check is its author's word; what it is, is one of few.
            let Some(check) = list.iter().find(|c| c.label() == label) else { continue };
            self.with(|run| {
                let n = run.unverified.entry(check.name().to_owned()).or_default();
                *n = n.saturating_add(1);
            });
        }
    }

    /// Looks at the record or changes it. The lock is short and never held across a wait.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Run) -> T) -> T {
        self.kept(|kept| f(&mut kept.run))
    }

    fn kept<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn push(&self, step: Step) {
        self.with(|run| run.steps.push(step));
    }
}
