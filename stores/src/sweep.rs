//! Erases the records whose time is over, whenever it is time to look.

use crate::archive::Archive;
use crate::database::erase::{self, Due};
use crate::database::{self, Checkpoint};
use crate::runs::Clock;
use crate::spool::Spool;
use rusqlite::Connection;
use std::time::Duration;
use tokio::time::Instant;
use types::store::Error;

/// When to look, and what the last look left to do.
pub(crate) struct Sweep {
    clock: Clock,
    every: Duration,
    next: Instant,
    /// The write-ahead log may still hold what was erased.
    unclean: bool,
}

impl Sweep {
    /// Looks every so often, by what that clock says.
    pub(crate) fn new(clock: Clock, every: Duration) -> Self {
        Sweep { clock, every, next: Instant::now() + every, unclean: false }
    }

    /// What its clock says, Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// When the next look is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Looks, if it is time. What fails is tried again at the next look.
    pub(crate) fn look(&mut self, conn: &mut Connection, archive: &mut Archive, spool: &Spool) {
        if Instant::now() < self.next {
            return;
        }
        let due = self.erase(conn, archive, spool).unwrap_or_else(|error| {
            tracing::error!(%error, "records whose time is over stay for now");
            Due::None
        });
        // Where there is more, records that came meanwhile are moved first.
        let wait = if due == Due::Some { Duration::ZERO } else { self.every };
        self.next = Instant::now() + wait;
    }

    fn erase(&mut self, conn: &mut Connection, archive: &mut Archive, spool: &Spool) -> Result<Due, Error> {
        let due = erase::begin(conn, archive, self.clock.now_ms())?;
        self.unclean |= due != Due::None;
        // With what an earlier look named and could not overwrite.
        let finished = erase::finish(conn, spool);
        if self.unclean && due != Due::Some {
            self.unclean = !database::checkpoint(conn, Checkpoint::Truncate)?;
        }
        finished.map(|()| due)
    }
}
