//! Tells the observer of a batch once, even where the batch's transaction has to be tried again.
//!
//! A transaction that fails is rolled back, but what the observer learned cannot be. So the results of a
//! batch's calls are kept until its commit; a second try of the same batch makes the same calls in the same
//! order (the database is as it was) and gets the kept results, without the observer hearing of it again.

use types::outcome::{Feedback, Outcome};
use types::store::{Observer, Seq};

/// The observer and what it has answered in the batch under way.
pub(crate) struct Telling {
    observer: Box<dyn Observer>,
    /// One per call made: `Some` for feedback, `None` for an outcome.
    told: Vec<Option<Outcome>>,
    /// Calls made so far in this try.
    next: usize,
    done: Option<Option<Vec<u8>>>,
}

impl Telling {
    pub(crate) fn new(observer: Box<dyn Observer>) -> Self {
        Telling { observer, told: Vec::new(), next: 0, done: None }
    }

    /// See [`Observer::restore`].
    pub(crate) fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.observer.restore(state)
    }

    /// Takes up a state in the middle of a batch.
    pub(crate) fn go_back(&mut self, state: &[u8]) {
        if self.next == self.told.len() {
            if let Err(error) = self.observer.restore(state) {
                tracing::error!(error, "statistics stay as they are: the state to go back to cannot be read");
            }
            self.told.push(None);
        }
        self.next += 1;
    }

    /// See [`Observer::state`].
    pub(crate) fn state(&self) -> Option<Vec<u8>> {
        self.observer.state()
    }

    /// A batch begins, or begins again.
    pub(crate) fn begin(&mut self) {
        self.next = 0;
    }

    /// The batch is committed: the next one is another.
    pub(crate) fn committed(&mut self) {
        self.told.clear();
        self.done = None;
    }

    /// See [`Observer::outcome`].
    pub(crate) fn outcome(&mut self, seq: Seq, outcome: &Outcome) {
        if self.next == self.told.len() {
            self.observer.outcome(seq, outcome);
            self.told.push(None);
        }
        self.next += 1;
    }

    /// See [`Observer::feedback`].
    pub(crate) fn feedback(&mut self, seq: Seq, outcome: &Outcome, all: &[Feedback]) -> Outcome {
        let kept = self.told.get(self.next).cloned().flatten();
        self.next += 1;
        kept.unwrap_or_else(|| {
            let outcome = self.observer.feedback(seq, outcome, all);
            self.told.push(Some(outcome.clone()));
            outcome
        })
    }

    /// See [`Observer::batch_done`].
    pub(crate) fn batch_done(&mut self) -> Option<Vec<u8>> {
        self.done.get_or_insert_with(|| self.observer.batch_done()).clone()
    }
}
