//! What repairs have asked already: the very same question is put to a model once, for it has been answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::matrix::ModelIx;
use workflows::Ask;

/// A model, the repair that asks it, and what is asked.
type Question = (ModelIx, Arc<str>, String);

/// Which attempt of a repair put a question to a model. As many as calls were made at most.
type ByQuestion = HashMap<Question, u32>;

/// The questions that repairs of one request have put to models. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<Mutex<ByQuestion>>);

impl Asked {
    /// Whether an earlier attempt of the same repair has put just that to a model. Within one attempt a call that failed
    /// or was lost may be made again: that is a retry, and counts as one.
    pub(super) fn before(&self, ask: &Ask, ix: ModelIx) -> bool {
        let by = question(ask, ix).and_then(|question| self.lock().get(&question).copied());
        by.is_some_and(|by| by != ask.id.index)
    }

    /// Notes that a question goes to a model.
    pub(super) fn note(&self, ask: &Ask, ix: ModelIx) {
        if let Some(question) = question(ask, ix) {
            self.lock().entry(question).or_insert(ask.id.index);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ByQuestion> {
        // Every write leaves the map consistent, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells a repair's questions apart; `None` = no repair asks it.
fn question(ask: &Ask, ix: ModelIx) -> Option<Question> {
    ask.purpose.starts_with("repair").then(|| (ix, ask.node().clone(), ask.question()))
}
