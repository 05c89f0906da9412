//! The engine's calls as the outside of a run.

use super::world::Outside;
use crate::calls::{CallLog, Calls};
use crate::said::Said;
use crate::tools;
use futures_util::future::BoxFuture;
use types::Usd;
use types::run::CallRecord;
use workflows::{Ask, Failure, Generated, ToolAsk, ToolFailure, ToolReply, World};

/// Calls of models by the engine, each told to who asked for it.
pub(super) struct Out {
    pub(super) calls: Calls,
}

impl Outside for Out {
    fn generate(&self, ask: Ask, log: CallLog) -> BoxFuture<'_, Result<Generated, Failure>> {
        let calls = Calls { log: Some(log), ..self.calls.clone() };
        Box::pin(async move { calls.generate(ask).await })
    }

    fn tool(&self, ask: ToolAsk, said: Said) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(async move { tools::call(&self.calls, ask, Some(&said)).await })
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
