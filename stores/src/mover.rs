//! The one writer: moves records from the spool into the database and tells the observer of them.
//!
//! A batch's rows, the observer's state and the new position are committed together, so that a process
//! killed anywhere finds either all of a batch done or none of it. Spool files are removed only after a
//! checkpoint has put the database on the disk: with `synchronous = NORMAL` a commit alone may be lost in a
//! power cut, and then the spool is what it is made good from.

use crate::database::{self, Checkpoint, Rows};
use crate::progress::Progress;
use crate::spool::{BATCH, Batch, Segment, Spool, Tail, Work};
use crate::telling::Telling;
use rusqlite::{Connection, TransactionBehavior};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::store::{Error, Seq};

/// How long to let a database that refuses alone.
const RETRY: Duration = Duration::from_millis(250);

/// How long a close waits for a backlog; what is left is moved after the next start.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Bytes moved between checkpoints: some thousand pages of log.
const CHECKPOINT_BYTES: u64 = 4 << 20;

/// See the module.
pub(crate) struct Mover {
    pub(crate) spool: Arc<Spool>,
    pub(crate) tail: Tail,
    pub(crate) conn: Connection,
    pub(crate) telling: Telling,
    pub(crate) progress: Arc<Progress>,
    /// Everything before is in the database.
    pub(crate) position: Seq,
    /// Bytes moved between checkpoints.
    pub(crate) checkpoint_bytes: u64,
    /// Position at the last checkpoint.
    pub(crate) durable: Seq,
    /// A batch whose transaction failed, to be tried again as it is (see [`Telling`]).
    pub(crate) held: Option<Batch>,
}

impl Mover {
    /// Bytes between checkpoints where files hold `rotate_bytes`, so that small files too are removed soon.
    pub(crate) fn checkpoint_bytes(rotate_bytes: u64) -> u64 {
        rotate_bytes.min(CHECKPOINT_BYTES)
    }

    /// Body of the writer's thread; ends when the spool is finished.
    pub(crate) fn run(mut self) {
        let mut closing_since = None;
        while let Work::Take(segment) = self.spool.next_work(self.position) {
            if let Err(error) = self.step(segment) {
                tracing::error!(%error, position = self.position, "records stay in the spool for now");
                self.progress.troubled(text(error));
                if self.spool.pause(RETRY) {
                    break;
                }
            }
            if self.spool.is_finishing() {
                let since = *closing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= CLOSE_GRACE {
                    break;
                }
            }
        }
        match database::checkpoint(&self.conn, Checkpoint::Truncate) {
            Ok(true) => self.spool.release(self.position),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "no checkpoint at the end; the next start reads the log"),
        }
    }

    fn step(&mut self, segment: Segment) -> Result<(), Error> {
        let batch = match self.held.take() {
            Some(batch) => batch,
            None => self.tail.take(segment, self.position, BATCH as usize)?,
        };
        if let Err(error) = self.store(&batch) {
            self.held = Some(batch);
            return Err(error);
        }
        self.telling.committed();
        self.position = batch.end;
        self.spool.moved(batch.end, batch.lines.len() as u64);
        self.progress.reached(batch.end);
        if self.position - self.durable >= self.checkpoint_bytes {
            self.checkpoint();
        }
        Ok(())
    }

    fn store(&mut self, batch: &Batch) -> Result<(), Error> {
        self.telling.begin();
        let tx =
            self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database::sql)?;
        let mut rows = Rows { tx: &tx, telling: &mut self.telling };
        for line in &batch.lines {
            rows.store(line)?;
        }
        rows.end(batch.end)?;
        tx.commit().map_err(database::sql)
    }

    /// A failure is no loss: the log only grows until the next one.
    fn checkpoint(&mut self) {
        match database::checkpoint(&self.conn, Checkpoint::Passive) {
            Ok(true) => {
                self.durable = self.position;
                self.spool.release(self.durable);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "no checkpoint"),
        }
    }
}

/// Without the prefix that the error will get again when it is given to a waiter.
fn text(error: Error) -> String {
    match error {
        Error::Database(why) | Error::Corrupt(why) => why,
        other => other.to_string(),
    }
}
