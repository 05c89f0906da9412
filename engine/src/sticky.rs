//! Which arm a conversation, a user or a tenant was given last: kept in memory, bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::directives::{Sticky, StickyBy};

/// Most holders that are remembered; of more, the oldest are forgotten.
const MAX_HOLDERS: usize = 50_000;
/// A previous arm is kept while its utility is at least this share of the best.
pub(crate) const KEEP: f64 = 0.8;

/// An arm: workflow and model.
pub(crate) type Kept = (Arc<str>, Arc<str>);

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Arms(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_holder: HashMap<String, (Kept, Instant)>,
    order: VecDeque<String>,
}

/// Who holds an arm; `None` where the request does not say.
pub(crate) fn holder(
    sticky: Sticky,
    tenant: &str,
    user: Option<&str>,
    session: Option<&str>,
) -> Option<String> {
    match sticky.by {
        StickyBy::Tenant => Some(format!("tenant {tenant}")),
        StickyBy::User => user.map(|u| format!("user {tenant} {u}")),
        StickyBy::Conversation => session.map(|s| format!("session {tenant} {s}")),
    }
}

impl Arms {
    /// The arm that a holder was given last.
    pub(crate) fn last(&self, holder: &str) -> Option<Kept> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, until) = state.by_holder.get(holder)?;
        (Instant::now() < *until).then(|| kept.clone())
    }

    /// Notes the arm that a holder is given.
    pub(crate) fn given(&self, holder: String, arm: Kept, ttl: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + ttl;
        if state.by_holder.insert(holder.clone(), (arm, until)).is_none() {
            state.order.push_back(holder);
            while state.order.len() > MAX_HOLDERS {
                if let Some(oldest) = state.order.pop_front() {
                    state.by_holder.remove(&oldest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_arm_is_kept_for_its_time() {
        let arms = Arms::default();
        let sticky = |by| Sticky { by, ttl_ms: 1000 };
        let who = holder(sticky(StickyBy::User), "acme", Some("u"), None).unwrap();
        arms.given(who.clone(), ("default".into(), "a/x".into()), Duration::from_secs(1));
        assert_eq!(arms.last(&who).unwrap().1.as_ref(), "a/x");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(arms.last(&who).is_none());
        assert!(holder(sticky(StickyBy::Conversation), "acme", Some("u"), None).is_none());
        assert_ne!(
            holder(sticky(StickyBy::Tenant), "a", None, None),
            holder(sticky(StickyBy::Tenant), "b", None, None)
        );
    }
}
