//! What the outcomes of one tenant say of an arm beyond those of all: the last level of shrinkage.
//!
//! ```text
//! P_tenant = P + Σγ^age (reward − P) / (k3 + n)        k3 = 50, n: the tenant's discounted outcomes of the arm
//! ```
//!
//! It is the level of the tenant, kept as a difference so that it rests on whatever the levels above it say of
//! the request. Where there is one tenant, those levels are its own and nothing is added.

use super::counts::Surprise;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// k3: outcomes of a tenant at which they weigh as much as everybody's.
const K_TENANT: f64 = 50.0;
/// Tenants and arms told apart. Who was silent longest gives way to a new one.
const PLACES: usize = 16_384;

/// One tenant's outcomes, by arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Own {
    arms: BTreeMap<u32, Surprise>,
    /// When it was heard last, in outcomes of all.
    last: u64,
}

impl Own {
    /// What is to be added to the common belief in an arm.
    pub(super) fn shift(&self, arm: usize) -> f64 {
        let seen = u32::try_from(arm).ok().and_then(|arm| self.arms.get(&arm));
        seen.map_or(0.0, |s| s.mean(0.0, K_TENANT))
    }
}

/// The outcomes of every tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tenants {
    by: BTreeMap<Arc<str>, Arc<Own>>,
    heard: u64,
}

impl Tenants {
    /// One tenant's own; `None` where it has none, or nobody else has.
    pub(super) fn of(&self, tenant: &str) -> Option<&Arc<Own>> {
        if self.by.len() < 2 {
            return None;
        }
        self.by.get(tenant)
    }

    /// An outcome came out so much better than everybody's outcomes foretold.
    pub(super) fn add(&mut self, tenant: &str, arm: usize, residual: f64, discount: f64, weight: f64) {
        let Ok(arm) = u32::try_from(arm) else { return };
        self.heard = self.heard.saturating_add(1);
        let known = self.by.get(tenant).is_some_and(|own| own.arms.contains_key(&arm));
        if !known {
            self.make_room(tenant);
        }
        let own = match self.by.get_mut(tenant) {
            Some(own) => own,
            None => self.by.entry(tenant.into()).or_default(),
        };
        let own = Arc::make_mut(own);
        own.last = self.heard;
        own.arms.entry(arm).or_default().add(residual, discount, weight);
    }

    fn make_room(&mut self, tenant: &str) {
        let held: usize = self.by.values().map(|own| own.arms.len()).sum();
        if held < PLACES {
            return;
        }
        let others = self.by.iter().filter(|(name, _)| &***name != tenant);
        let silent = others.min_by_key(|(_, own)| own.last).map(|(name, _)| Arc::clone(name));
        if let Some(name) = silent {
            self.by.remove(&name);
        }
    }

    /// A counted outcome came out better by so much.
    pub(super) fn revise(&mut self, tenant: &str, arm: usize, difference: f64) {
        let seen = u32::try_from(arm).ok().zip(self.by.get_mut(tenant));
        if let Some(s) = seen.and_then(|(arm, own)| Arc::make_mut(own).arms.get_mut(&arm)) {
            s.e += difference;
        }
    }

    /// What was learned of an arm weighs `factor` as much.
    pub(super) fn scale(&mut self, arm: usize, factor: f64) {
        let Ok(arm) = u32::try_from(arm) else { return };
        for own in self.by.values_mut().filter(|own| own.arms.contains_key(&arm)) {
            if let Some(s) = Arc::make_mut(own).arms.get_mut(&arm) {
                s.scale(factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_silent_longest_gives_way() {
        let mut t = Tenants::default();
        for arm in 0..PLACES / 2 {
            t.add("early", arm, 0.1, 0.99, 1.0);
            t.add("busy", arm, 0.1, 0.99, 1.0);
        }
        t.add("busy", 0, 0.1, 0.99, 1.0);
        t.add("new", 0, 0.1, 0.99, 1.0);
        assert!(t.of("early").is_none() && t.of("busy").is_some() && t.of("new").is_some());
    }

    #[test]
    fn the_only_tenant_is_everybody() {
        let mut t = Tenants::default();
        t.add("one", 3, 0.5, 0.99, 1.0);
        assert!(t.of("one").is_none());
        t.add("two", 3, -0.5, 0.99, 1.0);
        let shift = |name: &str| t.of(name).map(|own| own.shift(3));
        assert_eq!((shift("one"), shift("two"), shift("three")), (Some(0.5 / 51.0), Some(-0.5 / 51.0), None));
    }
}
