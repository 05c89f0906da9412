//! The engine's calls as the outside of a run.

use super::world::Outside;
use crate::calls::{CallLog, Calls};
use futures_util::future::BoxFuture;
use types::Usd;
use types::run::CallRecord;
use workflows::{Ask, Failure, Generated, World};

/// Calls of models by the engine, each told to who asked for it.
pub(super) struct Out {
    pub(super) calls: Calls,
}

impl Outside for Out {
    fn generate(&self, ask: Ask, log: CallLog) -> BoxFuture<'_, Result<Generated, Failure>> {
        let calls = Calls { log: Some(log), ..self.calls.clone() };
        Box::pin(async move { calls.generate(ask).await })
    }

    fn world(&self) -> &dyn World {
        &self.calls
    }

    fn made_before(&self, ask: &Ask, calls: &[CallRecord]) {
        for call in calls {
            self.calls.ledger.made_before(call);
            self.calls.asked.made_before(ask, call);
        }
    }

    fn estimate(&self, ask: &Ask) -> Usd {
        self.calls.worst(ask)
    }
}
