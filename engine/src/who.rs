//! Who asks, in the forms that the rooms need; made once per key, shared by all its requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use types::control::{Key, Principal, ServiceTier, Tenant};
use types::limits::Metric;

/// How somebody without a key stands in runs.
pub(crate) const NO_KEY: &str = "open";

/// Who asks.
#[derive(Debug)]
pub struct Who {
    /// Tenant, key and limits.
    pub principal: Arc<Principal>,
    pub(crate) tenant_id: Arc<str>,
    pub(crate) tenant: Arc<policies::Tenant>,
    pub(crate) key: Arc<policies::Key>,
    /// Some limit counts money.
    pub(crate) budgeted: bool,
    /// Some limit on money holds something back for premium requests.
    pub(crate) reserving: bool,
    /// Some limit counts anything.
    pub(crate) limited: bool,
}

impl Who {
    /// Makes the forms. `utc_offset_minutes` is the tenant's time zone as it stands, `unix_ms` the present.
    #[must_use]
    pub fn new(principal: Arc<Principal>, utc_offset_minutes: i32, unix_ms: i64) -> Arc<Who> {
        let t = &principal.tenant;
        let tenant = policies::Tenant {
            id: t.id.clone(),
            tier: match t.tier {
                ServiceTier::Bronze => policies::TenantTier::Bronze,
                ServiceTier::Silver => policies::TenantTier::Silver,
                ServiceTier::Gold => policies::TenantTier::Gold,
                ServiceTier::Platinum => policies::TenantTier::Platinum,
            },
            region: t.region.clone(),
            labels: t.labels.clone(),
            allow_explore: t.allow_explore,
            utc_offset_minutes,
        };
        let key = principal.key.as_ref().map_or_else(policies::Key::default, |k| policies::Key {
            id: k.id.clone(),
            labels: k.labels.clone(),
            age_days: u32::try_from(unix_ms.saturating_sub(k.created_ms).max(0) / 86_400_000)
                .unwrap_or(u32::MAX),
        });
        let all = || principal.limits.iter().chain(principal.partial.iter().map(|(_, l)| l));
        let budgeted = all().any(|l| l.metric == Metric::Usd);
        let reserving = all().any(|l| l.reserved > 0);
        let limited = all().next().is_some();
        Arc::new(Who {
            tenant_id: t.id.as_str().into(),
            tenant: Arc::new(tenant),
            key: Arc::new(key),
            budgeted,
            reserving,
            limited,
            principal,
        })
    }

    /// Whoever asks without a key, where none is demanded.
    #[must_use]
    pub fn open() -> Arc<Who> {
        Who::new(Arc::new(Principal::open()), 0, 0)
    }

    /// Whoever asked once and may not any more: only the names are left.
    pub(crate) fn gone(tenant: &str, key: &str) -> Arc<Who> {
        let tenant = Arc::new(Tenant { allow_explore: false, ..Tenant::new(tenant) });
        let key = (key != NO_KEY).then(|| Arc::new(Key::named(key, &tenant.id)));
        Who::new(Arc::new(Principal::new(tenant, key)), 0, 0)
    }

    /// The tenant and limits that count every request.
    #[must_use]
    pub fn counted(&self) -> (&Arc<str>, &[types::limits::Limit]) {
        (&self.tenant_id, &self.principal.limits)
    }

    /// Whether the scopes of the key, if it has any, allow a workflow.
    #[must_use]
    pub fn may_run(&self, workflow: &str) -> bool {
        let scoped = self.principal.key.as_ref().map(|k| &k.scopes.workflows).filter(|w| !w.is_empty());
        scoped.is_none_or(|s| s.iter().any(|w| w == workflow))
    }

    /// Labels of the key, which count as tags of its requests.
    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.key.labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_old_as_the_days_since_it_was_made() {
        const DAY: i64 = 86_400_000;
        let tenant = Arc::new(Tenant::new("acme"));
        let key = Arc::new(Key { created_ms: 3 * DAY + 1, ..Key::named("k", "acme") });
        let who = |now| Who::new(Arc::new(Principal::new(tenant.clone(), Some(key.clone()))), 540, now);
        for (now, days) in [(0, 0), (3 * DAY + 1, 0), (4 * DAY, 0), (4 * DAY + 1, 1), (40 * DAY, 36)] {
            assert_eq!((who(now).key.age_days, who(now).tenant.utc_offset_minutes), (days, 540), "{now}");
        }
    }
}
