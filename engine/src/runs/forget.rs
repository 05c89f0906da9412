//! Forgets runs that ended long ago, all that are due.

use super::drive;
use super::service::Service;
use std::sync::Arc;
use std::time::Duration;
use types::runs::Error;

/// Time between two looks for what is due: a rule may have a single run forgotten within seconds.
const EVERY: Duration = Duration::from_secs(5);
/// Most that is forgotten at once, and the pause after so many: what runs write goes between.
const PIECE: usize = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// Forgets what is due, from the start on and again and again, until it is told to stop.
pub(super) async fn forget(service: Arc<Service>) {
    let mut stop = service.stop.subscribe();
    loop {
        tokio::select! {
            biased;
            () = drive::stopped(&mut stop) => return,
            () = once(&service) => {}
        }
        tokio::select! {
            biased;
            () = drive::stopped(&mut stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn once(service: &Service) {
    let keep = i64::try_from(service.config.keep.as_millis()).unwrap_or(i64::MAX);
    let before = service.now_ms().saturating_sub(keep);
    match all(|most| service.store.purge(before, most)).await {
        Ok(0) => {}
        Ok(n) => tracing::info!(runs = n, "forgot runs that ended long ago"),
        Err(error) => tracing::warn!(%error, "old runs cannot be forgotten"),
    }
}

/// Forgets piece by piece until nothing is due, and tells how many those were.
async fn all<F>(purge: impl Fn(usize) -> F) -> Result<usize, Error>
where
    F: Future<Output = Result<usize, Error>>,
{
    let mut forgotten = 0_usize;
    loop {
        let n = purge(PIECE).await?;
        forgotten = forgotten.saturating_add(n);
        if n < PIECE {
            return Ok(forgotten);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn however_many_are_due_all_are_forgotten_piece_by_piece() {
        for due in [0, 1, PIECE, 6_172] {
            let left = AtomicUsize::new(due);
            let purge = async |most: usize| {
                let n = left.load(Ordering::Relaxed).min(most);
                left.fetch_sub(n, Ordering::Relaxed);
                Ok(n)
            };
            assert_eq!(all(purge).await.unwrap(), due);
            assert_eq!(left.into_inner(), 0);
        }
        assert!(all(|_| async { Err(Error::Unknown("it".to_owned())) }).await.is_err());
    }
}
