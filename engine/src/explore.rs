//! What exploring may cost: each tenant's account of what was spent, and of what exploring added to it.

use crate::recent::Recent;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::decision::Decision;

/// Most tenants whose account is kept; of more, those that asked longest ago begin with a new one.
const MAX: usize = 4_096;
/// What a request's spend weighs after the next one: about the last 2 000 requests count.
const DISCOUNT: f64 = 0.9995;

/// Accounts by tenant.
#[derive(Debug)]
pub(crate) struct Explorers(Recent<String, Arc<Mutex<Account>>>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Account {
    /// Dollars expected to be spent.
    spent: f64,
    /// Dollars that explored choices were expected to cost beyond the best ones.
    added: f64,
}

impl Default for Explorers {
    fn default() -> Self {
        Explorers(Recent::new(MAX))
    }
}

impl Explorers {
    /// Whether a tenant may explore when `share` of its spend may go to that.
    pub(crate) fn allows(&self, tenant: &str, share: f64) -> bool {
        let account = self.0.get(tenant).map(|own| *lock(&own)).unwrap_or_default();
        share > 0.0 && account.added <= share * account.spent
    }

    /// Notes a choice.
    pub(crate) fn note(&self, decision: &Decision) {
        let (Some(chosen), Some(best)) = (decision.choice(), decision.arms.first()) else { return };
        let dollars = |a: &types::decision::Arm| a.expected_cost_usd.map_or(0.0, types::Usd::dollars);
        let own = self.0.get(&*decision.tenant);
        let own = own.unwrap_or_else(|| self.0.get_or_default(decision.tenant.clone()));
        let mut account = lock(&own);
        account.spent = account.spent * DISCOUNT + dollars(chosen);
        account.added *= DISCOUNT;
        if decision.explored {
            account.added += (dollars(chosen) - dollars(best)).max(0.0);
        }
    }
}

fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    // Two numbers, each of which stays meaningful if a panic strikes between them.
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Usd;

    #[test]
    fn what_one_tenant_explores_is_held_against_no_other_however_many_there_are() {
        let explorers = Explorers::default();
        let mut decision = crate::explain::tests::decision();
        let best = decision.arms[0].clone();
        decision.arms.push(best);
        decision.arms[0].expected_cost_usd = Some(Usd::from_dollars(0.01));
        decision.arms[1].expected_cost_usd = Some(Usd::from_dollars(1.0));
        (decision.chosen, decision.explored) = (Some(1), true);
        for n in 0..=MAX {
            decision.tenant = format!("tenant {n}");
            explorers.note(&decision);
        }
        assert!(!explorers.allows(&decision.tenant, 0.1), "it has explored dearly");
        assert!(explorers.allows("another", 0.1));
    }
}
