//! What exploring may cost: each tenant's account of what was spent, and of what exploring added to it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use types::decision::Decision;

/// Tenants with an account of their own; all further ones share one.
const MAX: usize = 4_096;
/// What a request's spend weighs after the next one: about the last 2 000 requests count.
const DISCOUNT: f64 = 0.9995;

/// Accounts by tenant.
#[derive(Debug, Default)]
pub(crate) struct Explorers(Mutex<HashMap<String, Account>>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Account {
    /// Dollars expected to be spent.
    spent: f64,
    /// Dollars that explored choices were expected to cost beyond the best ones.
    added: f64,
}

impl Explorers {
    /// Whether a tenant may explore when `share` of its spend may go to that.
    pub(crate) fn allows(&self, tenant: &str, share: f64) -> bool {
        let accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.get(tenant).or_else(|| accounts.get("")).copied().unwrap_or_default();
        share > 0.0 && account.added <= share * account.spent
    }

    /// Notes a choice.
    pub(crate) fn note(&self, decision: &Decision) {
        let (Some(chosen), Some(best)) = (decision.choice(), decision.arms.first()) else { return };
        let dollars = |a: &types::decision::Arm| a.expected_cost_usd.map_or(0.0, types::Usd::dollars);
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = accounts.len() < MAX || accounts.contains_key(&decision.tenant);
        let account = accounts.entry(if own { decision.tenant.clone() } else { String::new() }).or_default();
        account.spent = account.spent * DISCOUNT + dollars(chosen);
        account.added *= DISCOUNT;
        if decision.explored {
            account.added += (dollars(chosen) - dollars(best)).max(0.0);
        }
    }
}
