//! Errands: work for the processor that clients ask for and no model does, such as a file that is checked, a test that
//! is played and a request that is tried. They count like requests, and few are done at once.

use crate::admit::{Asks, Permit, refuse};
use crate::error::{Error, Kind};
use crate::ledger::Ledger;
use crate::limits::{Count, Held};
use crate::settle;
use crate::who::Who;
use crate::{Engine, Inner};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

/// Errands that are done at once: more would keep the processor from those who wait for answers.
pub(crate) const AT_ONCE: usize = 2;

/// An errand that may be done. It lasts until this is dropped: whoever works on it in a thread takes it along.
pub struct Errand {
    _held: Option<Held>,
    _permit: Permit,
    _turn: OwnedSemaphorePermit,
}

impl Engine {
    /// Lets an errand begin: a request on the limits of its key and its tenant, a place among the requests in work,
    /// and one of two turns, for which it waits as long as requests wait for a place.
    ///
    /// # Errors
    /// A limit is reached, nothing became free in time, or nobody comes in any more.
    pub async fn errand(&self, who: &Who) -> Result<Errand, Error> {
        begin(&self.0, who).await
    }
}

/// As [`Engine::errand`].
pub(crate) async fn begin(inner: &Inner, who: &Who) -> Result<Errand, Error> {
    let (tenant, share) = (who.tenant_id.clone(), who.principal.tenant.tier.share_of_places());
    let permit = inner.gate.admit(Asks { tenant, share, until: None }).await?;
    let mut held = Held::enter(inner.limits.as_ref(), who, Count::Request, settle::unix_ms()).await?;
    let turn = timeout(inner.config.queue_wait, inner.errands.clone().acquire_owned()).await;
    let turn = turn.ok().and_then(Result::ok).ok_or_else(|| refuse(Kind::Overloaded))?;
    if let Some(held) = &mut held {
        // From now on it was made, and no calls were.
        held.is_spent_by(&Ledger::default());
    }
    Ok(Errand { _held: held, _permit: permit, _turn: turn })
}
