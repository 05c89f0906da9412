//! The calls that were made for one question, those included that were dropped.

use std::sync::{Arc, Mutex, PoisonError};
use types::run::CallRecord;

/// Model calls, in the order in which they ended. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallLog(Arc<Mutex<Vec<CallRecord>>>);

impl CallLog {
    /// Adds a call.
    pub(crate) fn push(&self, call: CallRecord) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// The calls so far; none stay behind.
    pub(crate) fn take(&self) -> Vec<CallRecord> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
