//! Connections for which there is no place: a few at a time are told so, and the log names the setting, so that neither
//! who asks nor who runs the server has to guess why a connection was closed.

use super::connection::{Opening, answer, opening};
use super::io::{Io, Shared};
use crate::error::Failure;
use crate::metrics::Cut;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Most that are told at once; the others are closed without a word.
const TOLD: usize = 64;
/// How long a client may take until it asks: an answer that came before its request would be lost with the connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the log says so.
const ONCE_IN: Duration = Duration::from_secs(60);
/// When places may have become free.
const AGAIN: Duration = Duration::from_secs(1);

/// Those that are turned away.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    telling: Arc<Semaphore>,
    said: Mutex<Said>,
}

/// What the log said last.
#[derive(Debug, Default)]
struct Said {
    at: Option<Instant>,
    /// Turned away since.
    since: u64,
}

impl Default for TurnedAway {
    fn default() -> Self {
        TurnedAway { telling: Arc::new(Semaphore::new(TOLD)), said: Mutex::default() }
    }
}

impl TurnedAway {
    /// Counts one; a place among those that are told, unless all are taken.
    pub(super) fn one_more(&self, cut: Cut, most: usize) -> Option<OwnedSemaphorePermit> {
        if let Some(times) = self.counts(Instant::now()) {
            let setting = format!("edge.{}", cut.as_str());
            tracing::warn!(times, setting, most, "connections are turned away: so many are open as may be");
        }
        self.telling.clone().try_acquire_owned().ok()
    }

    /// How many were turned away since the log said so last; `None` = it need not say it again yet.
    fn counts(&self, now: Instant) -> Option<u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.since = said.since.saturating_add(1);
        if said.at.is_some_and(|at| now.saturating_duration_since(at) < ONCE_IN) {
            return None;
        }
        said.at = Some(now);
        Some(std::mem::take(&mut said.since))
    }
}

/// Answers the first request of a connection with the reason, and closes it. HTTP/2 has no answer before it has settings.
pub(super) async fn tell(mut stream: TcpStream, cut: Cut, most: usize) {
    let asked = tokio::time::timeout(PATIENCE, opening(&mut stream)).await;
    let Ok(Some(Opening { read, two: false })) = asked else { return };
    let text = format!(
        "too many connections are open: {most} may be (edge.{}); use open ones again, or fewer at once",
        cut.as_str()
    );
    let failure = Failure::busy("too_many_connections", &text, AGAIN).closing();
    Io::new(stream, read, None, Shared::new(false), PATIENCE).refuse(&answer(&failure)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_says_it_once_a_minute_with_how_many() {
        let (away, begun) = (TurnedAway::default(), Instant::now());
        let after = |seconds| away.counts(begun + Duration::from_secs(seconds));
        assert_eq!(
            [after(0), after(1), after(59), after(60), after(61)],
            [Some(1), None, None, Some(3), None]
        );
        let places: Vec<_> = (0..TOLD + 1).map(|_| away.one_more(Cut::MaxConnections, 1)).collect();
        assert_eq!(places.iter().flatten().count(), TOLD);
    }
}
