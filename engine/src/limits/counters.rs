//! Who counts rates and budgets, together with the clock that says in which day and month it counts.

use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use types::clock::Clock;
use types::limits::{Amount, Claim, Foreseen, Inquiry, Limit, LimitStore, Refused, Reservation, Standing};

/// The counters of all rates and budgets: a cheap handle.
#[derive(Clone)]
pub(crate) struct Counters {
    store: Arc<dyn LimitStore>,
    clock: Clock,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Counters {
    pub(crate) const fn new(store: Arc<dyn LimitStore>, clock: Clock) -> Self {
        Counters { store, clock }
    }

    /// Takes all claims now, or none of them.
    ///
    /// # Errors
    /// The limits that are reached; limits cannot be counted.
    pub(crate) fn reserve_all(&self, claims: Vec<Claim>) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
        self.store.reserve_all(claims, self.clock.unix_ms())
    }

    /// Takes so much of the limits of one holder now.
    ///
    /// # Errors
    /// The limits that are reached; limits cannot be counted.
    pub(crate) fn reserve(
        &self,
        tenant: &Arc<str>,
        limits: &Arc<[Limit]>,
        amount: Amount,
    ) -> BoxFuture<'_, Result<Reservation, Refused>> {
        self.store.reserve(tenant, limits, amount, self.clock.unix_ms())
    }

    /// How limits of one holder stand now, in their order; nothing where they cannot be read.
    pub(crate) fn standing(&self, tenant: &Arc<str>, limits: &[Limit]) -> BoxFuture<'_, Vec<Standing>> {
        self.store.standing(tenant, limits, self.clock.unix_ms())
    }

    /// What limits of one holder would say to amounts now, in their order; nothing where they cannot be read.
    pub(crate) fn foresee(&self, tenant: &Arc<str>, asked: &[Inquiry]) -> BoxFuture<'_, Vec<Foreseen>> {
        self.store.foresee(tenant, asked, self.clock.unix_ms())
    }

    /// Puts what was used in the place of what was reserved.
    pub(crate) fn settle(&self, reservation: Reservation, used: Amount) {
        self.store.settle(reservation, used);
    }
}
