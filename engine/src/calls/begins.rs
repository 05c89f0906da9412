//! What is written before each call of a request, so that a killed process leaves word of what may have been spent.

use crate::account;
use crate::demands::Demands;
use crate::limits::{Held, Share};
use crate::who::Who;
use std::sync::Arc;
use types::Usd;
use types::begun::{Beginning, Begun};
use types::decision::Decision;
use types::store::{OutcomeStore, Record};

/// Writes down that calls of one request begin.
#[derive(Clone)]
pub(crate) struct Begins {
    store: Arc<dyn OutcomeStore>,
    of: Arc<Beginning>,
}

impl Begins {
    /// Of the request that was decided so, under what policies demand of its record.
    pub(crate) fn of(
        store: &Arc<dyn OutcomeStore>,
        who: &Who,
        decision: &Decision,
        (demands, held): (Option<&Demands>, Option<&Held>),
    ) -> Begins {
        let arm = decision.choice();
        let nothing = || Arc::from("");
        let of = Beginning {
            request_id: decision.request_id.clone(),
            ts_ms: decision.ts_ms,
            tenant: decision.tenant.clone(),
            key: who.principal.key_id().to_owned(),
            // What the record may hold is known for certain only at its end, where policies have a say in it.
            tags: if demands.is_none() { account::tags(who, decision) } else { who.labels().clone() },
            cell: decision.cell,
            model_asked: decision.model_asked.clone(),
            workflow: arm.map_or_else(nothing, |a| a.workflow.clone()),
            model: arm.map_or_else(nothing, |a| a.model.clone()),
            bundle: decision.bundle.clone(),
            retention_ms: demands.and_then(Demands::retention),
            counters: held.map(Held::marks).unwrap_or_default(),
        };
        Begins { store: store.clone(), of: Arc::new(of) }
    }

    /// A call of a model that may cost so much and use so many tokens is about to be made; `None` = its price is unknown.
    /// `late` = after the response.
    pub(super) fn call(
        &self,
        model: &Arc<str>,
        (reserved, tokens): (Option<Usd>, u64),
        share: Option<&Share>,
        late: bool,
    ) {
        let (of, call) = (self.of.clone(), model.clone());
        let counters = share.map(Share::marks).unwrap_or_default();
        let begun = Begun { of, call, reserved, tokens: Some(tokens), counters, late };
        // It cannot fail the call: what it is for is only needed should the process die as well.
        if let Err(e) = self.store.append(&Record::Begun(begun)) {
            crate::unrecorded::say(&self.of.request_id, &e, "a call is not recorded before it is made");
        }
    }
}
