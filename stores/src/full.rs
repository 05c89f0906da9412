//! Records for which there is no room: counted, and told once a minute however many they are.

use std::time::Duration;
use tokio::time::Instant;
use types::store::Error;

/// The log says it at most once in so long.
const ONCE_IN: Duration = Duration::from_secs(60);

/// Refuses them.
#[derive(Debug, Default)]
pub(crate) struct Full {
    /// Records refused since the start.
    pub(crate) dropped: u64,
    /// What was full when the last record came; `None` = that was taken, or there has been room since.
    pub(crate) now: Option<&'static str>,
    told: Option<(Instant, u64)>,
}

impl Full {
    /// One record more is refused because something is full.
    pub(crate) fn refuse(&mut self, what: &'static str) -> Error {
        self.now = Some(what);
        self.dropped = self.dropped.saturating_add(1);
        if let Some(records) = self.untold() {
            tracing::error!(records, since_the_start = self.dropped, "records are lost: the {what} is full");
        }
        Error::Full(what)
    }

    /// How many records the log is to be told of now.
    fn untold(&mut self) -> Option<u64> {
        let now = Instant::now();
        let told = match self.told {
            Some((at, _)) if now.saturating_duration_since(at) < ONCE_IN => return None,
            Some((_, told)) => told,
            None => 0,
        };
        self.told = Some((now, self.dropped));
        Some(self.dropped.saturating_sub(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_once_a_minute_however_many_are_lost() {
        let mut full = Full::default();
        let mut told = Vec::new();
        for _ in 0..3 {
            for _ in 0..1_000 {
                full.dropped += 1;
                told.extend(full.untold());
            }
            tokio::time::advance(ONCE_IN).await;
        }
        assert_eq!(told, [1, 1_000, 1_000]);
    }
}
