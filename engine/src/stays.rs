//! Affinity: the model of a request's session, and the arm that a `sticky` rule keeps, noted for the requests after it.

use crate::Inner;
use crate::limits::Asker;
use crate::route::{Sessions, Talk};
use crate::sticky::{Arms, Holder};
use crate::who::Who;
use std::sync::Arc;
use types::ChatRequest;
use types::decision::Decision;
use types::directives::Directives;

/// Where a request's answer is noted for those that follow it.
pub(crate) struct Stays {
    sessions: Sessions,
    talk: Talk,
    holder: Option<(Arms, Holder)>,
}

impl Stays {
    pub(crate) fn of(inner: &Inner, asker: &Asker, directives: &Directives) -> Box<Stays> {
        let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
        let holder = sticky.and_then(|s| Holder::of(s.value, &asker.who, &asker.request));
        let holder = holder.map(|holder| (inner.arms.clone(), holder));
        Box::new(Stays { holder, ..Stays::of_session(inner, &asker.who, &asker.request) })
    }

    /// Of a run, for which rules kept what they keep when it was decided.
    pub(crate) fn of_run(inner: &Inner, who: &Who, request: &ChatRequest) -> Box<Stays> {
        Box::new(Stays::of_session(inner, who, request))
    }

    fn of_session(inner: &Inner, who: &Who, request: &ChatRequest) -> Stays {
        Stays { sessions: inner.sessions.clone(), talk: Talk::of(who, request), holder: None }
    }

    /// Notes the arm that was chosen: who asks meanwhile is sent there, too.
    pub(crate) fn chosen(&self, decision: &Decision) {
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, None);
        }
    }

    /// Notes the model that answered, which may be another one than was chosen.
    pub(crate) fn answered(&self, decision: &Decision, served: &Arc<str>) {
        self.sessions.note(self.talk, decision, served);
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, Some(served));
        }
    }
}
