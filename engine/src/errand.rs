//! Errands: work for the processor that clients ask for and no model does, such as a file that is checked, a test that
//! is played and a request that is tried. They count like requests, and few are done at once.

use crate::admit::{Asks, Permit, refuse};
use crate::error::{Error, Kind};
use crate::ledger::Ledger;
use crate::limits::{Count, Held};
use crate::who::Who;
use crate::{Engine, Inner};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
    let enter = || Held::enter(inner.limits.as_ref(), who, Count::Request);
    let (mut held, turn) = in_turn(&inner.errands, inner.config.queue_wait, enter).await?;
    if let Some(held) = &mut held {
        // From now on it was made, and no calls were.
        held.is_spent_by(&Ledger::default());
    }
    Ok(Errand { _held: held, _permit: permit, _turn: turn })
}

/// What it takes of limits, and a turn. Whoever waits for the turn holds nothing of them meanwhile.
async fn in_turn<T, E>(
    turns: &Arc<Semaphore>,
    wait: Duration,
    enter: impl Fn() -> E,
) -> Result<(T, OwnedSemaphorePermit), Error>
where
    E: Future<Output = Result<T, Error>>,
{
    let held = enter().await?;
    if let Ok(turn) = turns.clone().try_acquire_owned() {
        return Ok((held, turn));
    }
    drop(held);
    let turn = timeout(wait, turns.clone().acquire_owned()).await;
    let turn = turn.ok().and_then(Result::ok).ok_or_else(|| refuse(Kind::Overloaded))?;
    Ok((enter().await?, turn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_holds_nothing_of_limits() {
        let (turns, wait) = (Arc::new(Semaphore::new(AT_ONCE)), Duration::from_secs(2));
        let limit: Arc<()> = Arc::default();
        let held = || Arc::strong_count(&limit) - 1;
        let enter = || ready(Ok(limit.clone()));
        let mut first: Vec<_> = Vec::new();
        for _ in 0..AT_ONCE {
            first.push(in_turn(&turns, wait, enter).await.unwrap());
        }
        {
            let mut next = std::pin::pin!(in_turn(&turns, wait, enter));
            assert!(futures_util::poll!(next.as_mut()).is_pending());
            assert_eq!(held(), AT_ONCE);
            first.pop();
            first.push(next.await.unwrap());
            assert_eq!(held(), AT_ONCE);
        }
        let refused = in_turn(&turns, wait, enter).await.unwrap_err();
        assert!(matches!(refused.kind, Kind::Overloaded));
        let full = in_turn::<(), _>(&turns, wait, || ready(Err(Kind::Deadline.into()))).await.unwrap_err();
        assert!(matches!(full.kind, Kind::Deadline), "a limit that is reached is told at once");
        drop(first);
        assert_eq!((held(), turns.available_permits()), (0, AT_ONCE));
    }
}
