//! Affinity: the model of a request's session, and the arm that a `sticky` rule keeps, noted for the requests after it.

use crate::Inner;
use crate::history::Conversation;
use crate::route::Sessions;
use crate::sticky::{Arms, Holder};
use crate::who::Who;
use std::sync::Arc;
use types::ChatRequest;
use types::decision::Decision;

/// Where a request's answer is noted for those that follow it.
pub(crate) struct Stays {
    sessions: Sessions,
    conversation: Conversation,
    holder: Option<(Arms, Holder)>,
}

impl Stays {
    /// Of a request that is to be answered; `holder`: whose arm a `sticky` rule keeps.
    pub(crate) fn of(inner: &Inner, conversation: Conversation, holder: Option<Holder>) -> Box<Stays> {
        let holder = holder.map(|holder| (inner.arms.clone(), holder));
        Box::new(Stays { sessions: inner.sessions.clone(), conversation, holder })
    }

    /// Of a run, for which rules kept what they keep when it was decided.
    pub(crate) fn of_run(inner: &Inner, who: &Who, request: &ChatRequest) -> Box<Stays> {
        Stays::of(inner, Conversation::of(who, request, false), None)
    }

    /// Notes the arm that was chosen: who asks meanwhile is sent there, too.
    pub(crate) fn chosen(&self, decision: &Decision) {
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, None);
        }
    }

    /// Notes the model that answered, which may be another one than was chosen.
    pub(crate) fn answered(&self, decision: &Decision, served: &Arc<str>) {
        self.sessions.note(self.conversation, decision, served);
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, Some(served));
        }
    }
}
