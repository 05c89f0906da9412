//! Which arm a conversation, a user or a tenant was given last: kept in memory, bounded.

use crate::history::Conversation;
use crate::learn::ANY_MODEL;
use crate::recent::Recent;
use crate::who::Who;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::ChatRequest;
use types::decision::Decision;
use types::directives::{Sticky, StickyBy};

/// Most holders that are remembered; of more, those that were asked about longest ago are forgotten.
const MAX_HOLDERS: usize = 50_000;

/// An arm: workflow and model.
pub(crate) type Kept = (Arc<str>, Arc<str>);

/// What is remembered. Copies remember the same.
#[derive(Clone, Debug)]
pub(crate) struct Arms(Recent<String, (Kept, Instant)>);

impl Default for Arms {
    fn default() -> Self {
        Arms(Recent::new(MAX_HOLDERS))
    }
}

/// Who keeps an arm, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    name: String,
    ttl: Duration,
}

impl Holder {
    /// `None` where the request does not say who asks.
    pub(crate) fn of(
        sticky: Sticky,
        who: &Who,
        request: &ChatRequest,
        conversation: &Conversation,
    ) -> Option<Holder> {
        let tenant = &who.tenant.id;
        let name = match sticky.by {
            StickyBy::Tenant => format!("tenant {tenant}"),
            StickyBy::User => format!("user {tenant} {}", request.user.as_deref()?),
            StickyBy::Conversation => format!("conversation {}", conversation.name()),
        };
        Some(Holder { name, ttl: Duration::from_millis(sticky.ttl_ms) })
    }
}

impl Arms {
    /// The arm that a holder was given last.
    pub(crate) fn last(&self, holder: &Holder) -> Option<Kept> {
        let (kept, until) = self.0.get(&holder.name)?;
        (Instant::now() < until).then_some(kept)
    }

    /// Notes the arm that a holder is given; `served` is the model that answered, once one has. Of a workflow that
    /// chooses its models itself the workflow alone is kept.
    pub(crate) fn note(&self, holder: &Holder, decision: &Decision, served: Option<&Arc<str>>) {
        let Some(arm) = decision.choice() else { return };
        let model = served.filter(|_| &*arm.model != ANY_MODEL).unwrap_or(&arm.model);
        let arm = (arm.workflow.clone(), model.clone());
        self.0.put(holder.name.clone(), (arm, Instant::now() + holder.ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holder(by: StickyBy, tenant: &str, more: &serde_json::Value) -> Option<Holder> {
        let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (who, request) = (Who::gone(tenant, "k"), ChatRequest::from_value(&body).unwrap());
        let conversation = Conversation::of(&who, &request, false);
        Holder::of(Sticky { by, ttl_ms: 1000 }, &who, &request, &conversation)
    }

    #[tokio::test(start_paused = true)]
    async fn an_arm_is_kept_for_its_time() {
        let arms = Arms::default();
        let who = holder(StickyBy::User, "acme", &json!({"user": "u"})).unwrap();
        let decision = crate::explain::tests::decision();
        arms.note(&who, &decision, None);
        assert_eq!(arms.last(&who).map(|k| k.1), decision.choice().map(|a| a.model.clone()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(arms.last(&who).is_none());
    }

    #[test]
    fn holders_are_told_apart() {
        assert!(holder(StickyBy::User, "acme", &json!({})).is_none());
        let conversation = |tenant, session| {
            holder(StickyBy::Conversation, tenant, &json!({"routing": {"session": session}}))
        };
        assert_eq!(conversation("a", "s"), conversation("a", "s"));
        assert_ne!(conversation("a", "s"), conversation("a", "t"));
        assert_ne!(conversation("a", "s"), conversation("b", "s"));
        assert_ne!(holder(StickyBy::Tenant, "a", &json!({})), holder(StickyBy::Tenant, "b", &json!({})));
    }
}
