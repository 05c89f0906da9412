//! The one writer: moves records from the spool into the database and tells the observer of them.
//!
//! A batch's rows, the observer's state and the new position are committed together, so that a process
//! killed anywhere finds either all of a batch done or none of it. The records themselves stay where they
//! are. When their files hold more than they may, the oldest go, and what the database knows of them; only
//! after a checkpoint has put the database on the disk: with `synchronous = NORMAL` a commit alone may be lost
//! in a power cut, and then the spool is what it is made good from.
//!
//! It also erases what is to go ([`crate::sweep`]): nobody else writes to the database or over what stands in the files.

use crate::archive::Archive;
use crate::database::erase::{self, Due};
use crate::database::{self, Checkpoint, Rows};
use crate::progress::Progress;
use crate::record;
use crate::spool::{self, BATCH, Batch, Segment, Spool, Tail, Work};
use crate::sweep::Sweep;
use crate::telling::Telling;
use rusqlite::{Connection, TransactionBehavior};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::store::{Error, Record, Seq};

/// How long to let a database that refuses alone.
const RETRY: Duration = Duration::from_millis(250);

/// How long a close waits for a backlog; what is left is moved after the next start.
const CLOSE_GRACE: Duration = Duration::from_secs(10);

/// Bytes moved between looks at how long the archive is.
const TIDY_BYTES: u64 = 16 << 20;

/// See the module.
pub(crate) struct Mover {
    pub(crate) spool: Arc<Spool>,
    pub(crate) tail: Tail,
    pub(crate) conn: Connection,
    pub(crate) archive: Archive,
    pub(crate) telling: Telling,
    pub(crate) progress: Arc<Progress>,
    /// Everything before is in the database.
    pub(crate) position: Seq,
    /// Bytes moved between looks at how long the archive is.
    pub(crate) tidy_bytes: u64,
    /// Position at the last look.
    pub(crate) tidied: Seq,
    /// A batch whose transaction failed, to be tried again as it is (see [`Telling`]).
    pub(crate) held: Option<Batch>,
    /// Where the log of earlier processes ends, until what they cut off has a record.
    pub(crate) before: Option<Seq>,
    /// When records whose time is over are looked for.
    pub(crate) sweep: Sweep,
}

impl Mover {
    /// Bytes between looks where files hold `rotate_bytes`, so that small files too are removed soon.
    pub(crate) fn tidy_bytes(rotate_bytes: u64) -> u64 {
        rotate_bytes.min(TIDY_BYTES)
    }

    /// Body of the writer's thread; ends when the spool is finished.
    pub(crate) fn run(mut self) {
        let mut closing_since = None;
        self.settle();
        loop {
            match self.spool.next_work(self.position, self.sweep.next()) {
                Work::Done => break,
                Work::Rest => {}
                Work::Take(segment) => {
                    if let Err(error) = self.step(segment) {
                        tracing::error!(%error, position = self.position, "records stay in the spool for now");
                        self.progress.troubled(text(error));
                        if self.spool.pause(RETRY) {
                            break;
                        }
                    }
                    self.settle();
                }
            }
            // A batch that is tried again must find the database as it was.
            if self.held.is_none() {
                self.sweep.look(&mut self.conn, &mut self.archive, &self.spool);
            }
            if self.spool.is_finishing() {
                let since = *closing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= CLOSE_GRACE {
                    break;
                }
            }
        }
        match database::checkpoint(&self.conn, Checkpoint::Truncate) {
            Ok(true) => self.tidy(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "no checkpoint at the end; the next start reads the log"),
        }
    }

    fn step(&mut self, segment: Segment) -> Result<(), Error> {
        let batch = match self.held.take() {
            Some(batch) => batch,
            None => self.tail.take(segment, self.position, BATCH as usize)?,
        };
        let records = match self.store(&batch) {
            Ok(records) => records,
            Err(error) => {
                self.held = Some(batch);
                return Err(error);
            }
        };
        self.telling.committed();
        self.position = batch.end;
        self.spool.moved(batch.end, records);
        self.progress.reached(batch.end);
        self.tail.done(batch);
        if self.position - self.tidied >= self.tidy_bytes {
            self.tidied = self.position;
            if self.spool.excess(self.position).is_some() && self.checkpoint() {
                self.tidy();
            }
        }
        Ok(())
    }

    /// Gives those requests a record that an earlier process began and never ended, once all of its log is read. They
    /// go the way of every record, so that a process killed before they are in the database finds them still to do.
    fn settle(&mut self) {
        let Some(end) = self.before.take_if(|end| *end <= self.position) else { return };
        let cut_off = database::cut_off(&self.conn, end, self.sweep.now_ms()).unwrap_or_else(|error| {
            tracing::error!(%error, "requests that a killed process cut off are not settled until the next start");
            Vec::new()
        });
        if !cut_off.is_empty() {
            tracing::warn!(
                requests = cut_off.len(),
                "the process before ended before these requests did; what they had reserved counts as used"
            );
        }
        for record in cut_off {
            if let Err(error) = self.append(&record) {
                tracing::error!(%error, "a request that a killed process cut off is not settled until the next start");
            }
        }
        self.progress.settled(self.spool.end());
    }

    fn append(&self, record: &Record) -> Result<(), Error> {
        let mut frame = Vec::new();
        spool::encode(&mut frame, |buf| record::write(record, None, buf))?;
        self.spool.append(&frame, None).map(|_| ())
    }

    /// Gives the number of records, constants left out.
    fn store(&mut self, batch: &Batch) -> Result<u64, Error> {
        self.telling.begin();
        let tx =
            self.conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database::sql)?;
        let mut rows = Rows::new(&tx, &mut self.telling, &mut self.archive)?;
        for line in batch.lines() {
            rows.store(line)?;
        }
        let records = rows.end(batch.end)?;
        tx.commit().map_err(database::sql)?;
        Ok(records)
    }

    /// `true` = all that was committed is on the disk.
    fn checkpoint(&self) -> bool {
        database::checkpoint(&self.conn, Checkpoint::Passive).unwrap_or_else(|error| {
            tracing::warn!(%error, "no checkpoint");
            false
        })
    }

    /// Shortens the archive. A failure is no loss: it is longer than it should be until the next look.
    fn tidy(&mut self) {
        let Some(first) = self.spool.excess(self.position) else { return };
        match self.forget(first) {
            Ok(()) => self.spool.remove_before(first),
            Err(error) => tracing::warn!(%error, "old records stay for now"),
        }
    }

    fn forget(&mut self, first: Seq) -> Result<(), Error> {
        while erase::begin_before(&mut self.conn, &mut self.archive, first)? == Due::Some {}
        database::forget(&mut self.conn, first)
    }
}

/// Without the prefix that the error will get again when it is given to a waiter.
fn text(error: Error) -> String {
    match error {
        Error::Database(why) | Error::Corrupt(why) => why,
        other => other.to_string(),
    }
}
