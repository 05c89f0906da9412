//! What repairs have asked already: a model that has answered a question is not asked the very same again, and to ask one
//! that failed counts as the retry that it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::provider::ErrorKind;
use types::run::CallRecord;
use types::run::Purpose;
use workflows::Ask;

/// A model, the repair that asks it, and what is asked.
type Question = (Arc<str>, Arc<str>, String);

/// What became of a question that was put to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It was never put to it.
    Never,
    /// Nothing came of it yet, or a failure that may not come again.
    Open,
    /// The model answered, or failed as it would again.
    Settled,
}

/// As many as calls were made at most; whether each is settled.
type ByQuestion = HashMap<Question, bool>;

/// The questions that repairs of one request have put to models. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<ByQuestion>>);

/// A question that is put to a model, until it is known what came of it.
#[derive(Debug)]
pub(super) struct Putting {
    asked: Asked,
    question: Question,
}

impl Asked {
    /// What became of the question where the same repair has put just that to a model.
    pub(super) fn before(&self, ask: &Ask, model: &Arc<str>) -> Before {
        match question(ask, model).and_then(|question| self.lock().get(&question).copied()) {
            None => Before::Never,
            Some(false) => Before::Open,
            Some(true) => Before::Settled,
        }
    }

    /// Notes that a question goes to a model. `None` = no repair asks it.
    pub(super) fn put(&self, ask: &Ask, model: &Arc<str>) -> Option<Putting> {
        let question = question(ask, model)?;
        self.lock().entry(question.clone()).or_insert(false);
        Some(Putting { asked: self.clone(), question })
    }

    /// Notes a call on record, which is not made again.
    pub(crate) fn made_before(&self, ask: &Ask, call: &CallRecord) {
        if let Some(putting) = self.put(ask, &call.model) {
            putting.came_to(call.error.as_ref().map(|e| e.kind));
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByQuestion> {
        // Every write leaves the map consistent, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Putting {
    /// Notes what came of it: an answer, or a failure.
    pub(super) fn came_to(&self, failure: Option<ErrorKind>) {
        if failure.is_none_or(|kind| !kind.retryable()) {
            self.asked.lock().insert(self.question.clone(), true);
        }
    }
}

/// What tells a repair's questions apart; `None` = no repair asks it.
fn question(ask: &Ask, model: &Arc<str>) -> Option<Question> {
    matches!(ask.purpose, Purpose::Repair(_)).then(|| (model.clone(), ask.node().clone(), ask.question()))
}
