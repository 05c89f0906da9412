//! Whom a request stays with that comes after another one: the model of its session, the arm that a rule keeps.

use crate::Inner;
use crate::limits::Asker;
use crate::route::Sessions;
use crate::sticky::{Arms, Holder};
use std::sync::Arc;
use types::ChatRequest;
use types::decision::Decision;
use types::directives::Directives;

/// Where a request's answer is noted for those that follow it.
pub(crate) struct Stays {
    session: Option<(Sessions, String)>,
    holder: Option<(Arms, Holder)>,
}

impl Stays {
    /// `None` where the request names no session, and no rule keeps anything.
    pub(crate) fn of(inner: &Inner, asker: &Asker, directives: &Directives) -> Option<Box<Stays>> {
        let session = asker.request.options.session.clone();
        let sticky = directives.further.as_ref().and_then(|f| f.sticky.as_ref());
        let holder = sticky.and_then(|s| Holder::of(s.value, &asker.who, &asker.request));
        (session.is_some() || holder.is_some()).then(|| {
            Box::new(Stays {
                session: session.map(|session| (inner.sessions.clone(), session)),
                holder: holder.map(|holder| (inner.arms.clone(), holder)),
            })
        })
    }

    /// Of a run, for which rules kept what they keep when it was decided.
    pub(crate) fn of_run(inner: &Inner, request: &ChatRequest) -> Option<Box<Stays>> {
        let session = request.options.session.clone()?;
        Some(Box::new(Stays { session: Some((inner.sessions.clone(), session)), holder: None }))
    }

    /// Notes the arm that was chosen: who asks meanwhile is sent there, too.
    pub(crate) fn chosen(&self, decision: &Decision) {
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, None);
        }
    }

    /// Notes the model that answered, which may be another one than was chosen.
    pub(crate) fn answered(&self, decision: &Decision, served: &Arc<str>) {
        if let Some((sessions, session)) = &self.session {
            sessions.note(session, decision, served);
        }
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, Some(served));
        }
    }
}
