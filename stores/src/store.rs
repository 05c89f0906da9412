//! The embedded store: a spool for what must not wait, SQLite behind it, three threads of its own.

use crate::archive::Archive;
use crate::database::Checkpoint;
use crate::database::erase;
use crate::database::query::Finder;
use crate::mover::Mover;
use crate::progress::{Progress, StopsOnDrop};
use crate::reader::{self, Ask};
use crate::record::{self, Constants};
use crate::runs::Clock;
use crate::spool::{self, Disk, Limits, Recovery, Spool};
use crate::sweep::Sweep;
use crate::telling::Telling;
use crate::{database, lock, lock::hold};
use futures_util::future::BoxFuture;
use std::cell::Cell;
use std::fs::{DirBuilder, File};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;
use types::store::{Error, Observer, OutcomeStore, Record, Saved, Seq, Stored};
use types::usage::{Query, Report};

/// Settings of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes that may wait in the spool for the database; at the limit `append` gives [`Error::Full`].
    pub spool_max: u64,
    /// Bytes after which a new spool file begins.
    pub rotate_bytes: u64,
    /// Bytes of records that are kept; the oldest go first, a file at a time.
    pub archive_max: u64,
    /// Bytes that may wait in memory while the disk refuses writes; at the limit `append` gives
    /// [`Error::Full`].
    pub ring_max: u64,
    /// How long after its time a record may stay: so often those are looked for that are to be erased.
    pub sweep_every: Duration,
}

impl Config {
    /// Default of `spool_max`: 4 GiB.
    pub const SPOOL_MAX: u64 = 4 << 30;
    /// Default of `rotate_bytes`: 64 MiB.
    pub const ROTATE_BYTES: u64 = 64 << 20;
    /// Default of `archive_max`: 16 GiB, some million requests.
    pub const ARCHIVE_MAX: u64 = 16 << 30;
    /// Default of `ring_max`: 64 MiB.
    pub const RING_MAX: u64 = 64 << 20;
    /// Default of `sweep_every`: 5 s.
    pub const SWEEP_EVERY: Duration = Duration::from_secs(5);
}

impl Default for Config {
    fn default() -> Self {
        Config {
            spool_max: Config::SPOOL_MAX,
            rotate_bytes: Config::ROTATE_BYTES,
            archive_max: Config::ARCHIVE_MAX,
            ring_max: Config::RING_MAX,
            sweep_every: Config::SWEEP_EVERY,
        }
    }
}

/// What a store counts, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records accepted.
    pub appended: u64,
    /// Records moved to where they are read from, those found at the start included.
    pub stored: u64,
    /// Bytes that wait in spool and ring (0 for [`crate::Memory`]).
    pub spool_bytes: u64,
    /// Bytes of records on the disk, those that wait for the database included (0 for [`crate::Memory`]).
    pub archive_bytes: u64,
    /// Records that wait in memory because the disk refuses.
    pub ring_records: u64,
    /// Writes and syncs that failed.
    pub write_errors: u64,
    /// Records refused because something was full.
    pub dropped: u64,
    /// What was full when the last record came, so that it was refused; `None` = that was taken, or there has been room
    /// since.
    pub full: Option<&'static str>,
    /// The disk refuses, or the database takes no records: readiness shows `degraded`.
    pub degraded: bool,
}

/// The embedded store; a cheap handle. It closes with the last one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    spool: Arc<Spool>,
    progress: Arc<Progress>,
    recovery: Recovery,
    asks: Mutex<Option<SyncSender<Ask>>>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    syncer: JoinHandle<()>,
    reader: JoinHandle<()>,
    writer: JoinHandle<()>,
    /// Held until all threads have ended.
    _lock: File,
}

thread_local! {
    /// What this thread's last record leaves for its next one.
    static LAST: Cell<Last> = const { Cell::new(Last { frame: Vec::new(), constants: None }) };
}

#[derive(Default)]
struct Last {
    /// Its buffer.
    frame: Vec<u8>,
    /// Its constants, which often are those of the next one.
    constants: Option<Arc<Constants>>,
}

/// The largest buffer that is kept.
const KEEP_FRAME: usize = 256 << 10;

impl Store {
    /// Opens the store of a directory, which is made if it is absent. Blocks while it looks through the
    /// spool and brings the observer up to what the database holds: its saved state, then the records after
    /// it. What the spool still holds follows in the background; [`OutcomeStore::flush`] waits for it.
    ///
    /// # Errors
    /// Another process uses the directory ([`Error::Io`], `WouldBlock`); the database is of a newer version
    /// or a spool file is damaged ([`Error::Corrupt`]); the disk or SQLite refuses.
    pub fn open(dir: &Path, config: Config, observer: Box<dyn Observer>) -> Result<Store, Error> {
        Store::open_at(dir, config, Clock::system(), observer)
    }

    /// As [`Store::open`], with the clock by which records are erased.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub fn open_at(
        dir: &Path,
        config: Config,
        clock: Clock,
        observer: Box<dyn Observer>,
    ) -> Result<Store, Error> {
        make(dir)?;
        let lock = hold(dir)?;
        let mut conn = database::writer(dir)?;
        // A killed process may have left commits that are not on the disk yet; a long log makes every reader slow.
        database::checkpoint(&conn, Checkpoint::Truncate)?;
        let position = database::position(&conn)?;
        let limits = Limits {
            spool_max: config.spool_max,
            rotate_bytes: config.rotate_bytes,
            ring_max: config.ring_max,
            archive_max: config.archive_max,
        };
        let (spool, recovery) = Spool::open(dir, limits, position, Box::new(Disk))?;
        let spool = Arc::new(spool);
        // Lines that a killed process was overwriting are no records; nothing is read before they are again.
        if let Err(error) = erase::finish(&conn, &spool) {
            tracing::error!(%error, "records whose time is over stay in the files for now");
        }
        let mut archive = Archive::new(Arc::clone(&spool));
        let mut telling = Telling::new(observer);
        database::replay::catch_up(&mut conn, &mut archive, &mut telling, position)?;

        let progress = Arc::new(Progress::new(position));
        let mover = Mover {
            tail: spool.tail(),
            spool: Arc::clone(&spool),
            conn,
            archive,
            telling,
            progress: Arc::clone(&progress),
            position,
            tidy_bytes: Mover::tidy_bytes(config.rotate_bytes),
            tidied: position,
            held: None,
            before: Some(spool.end()),
            sweep: Sweep::new(clock.clone(), config.sweep_every),
        };
        let (asks, threads) = start(dir, lock, mover, clock)?;
        let (asks, threads) = (Mutex::new(Some(asks)), Mutex::new(Some(threads)));
        Ok(Store { inner: Arc::new(Inner { spool, progress, recovery, asks, threads }) })
    }

    /// What the start found of an earlier process.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.inner.recovery
    }

    /// Says whether the disk has hardly any room. Records wait in memory until it has again, or until the store closes;
    /// [`Stats::degraded`] meanwhile.
    pub fn short_of_room(&self, short: bool) {
        self.inner.spool.set_short(short);
    }

    /// Counters as they stand now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.inner.spool.counts();
        Stats {
            appended: counts.appended,
            stored: counts.stored,
            spool_bytes: counts.bytes,
            archive_bytes: counts.archive,
            ring_records: counts.ring,
            write_errors: counts.write_errors,
            dropped: counts.dropped,
            full: counts.full,
            degraded: self.inner.spool.refused() || self.inner.progress.is_troubled(),
        }
    }

    /// Takes no more records, stores and syncs those it has (for 10 s at most; what is left is moved after
    /// the next start) and ends its threads. Blocks; closing again does nothing.
    ///
    /// # Errors
    /// Records are in memory only, because the disk refuses them; they are lost.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.close()
    }

    fn ask<T>(
        &self,
        ask: impl FnOnce(Seq, oneshot::Sender<Result<T, Error>>) -> Ask,
    ) -> BoxFuture<'static, Result<T, Error>>
    where
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let ask = ask(self.inner.spool.hurry(), reply);
        let sent =
            lock(&self.inner.asks).as_ref().map_or_else(|| Err(reader::ended()), |to| reader::send(to, ask));
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(reader::ended()))
        })
    }
}

impl OutcomeStore for Store {
    fn append(&self, record: &Record) -> Result<Seq, Error> {
        let Last { mut frame, constants: known } = LAST.take();
        let constants = match record {
            Record::Request(request) => Constants::of(request, known.as_ref())?,
            Record::Feedback(_) | Record::Late(_) | Record::Begun(_) | Record::GoBack(_) => None,
        };
        frame.clear();
        spool::encode(&mut frame, |buf| record::write(record, constants.as_deref(), buf))?;
        let appended = self.inner.spool.append(&frame, constants.as_deref());
        if frame.capacity() <= KEEP_FRAME {
            LAST.set(Last { frame, constants: constants.or(known) });
        }
        appended
    }

    fn degraded(&self) -> bool {
        self.inner.spool.refused()
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        let target = self.inner.spool.hurry();
        Box::pin(async move {
            if self.inner.spool.refused() {
                return Err(Error::Database("the disk refuses records; they wait in memory".to_owned()));
            }
            self.inner.progress.wait(target).await
        })
    }

    fn request(&self, request_id: &str) -> BoxFuture<'_, Result<Option<Stored>, Error>> {
        let request_id = request_id.to_owned();
        self.ask(|target, reply| Ask::Request(request_id, target, reply))
    }

    fn usage(&self, query: Query) -> BoxFuture<'_, Result<Report, Error>> {
        self.ask(|target, reply| Ask::Usage(query, target, reply))
    }

    fn saved(&self) -> BoxFuture<'_, Result<Vec<Saved>, Error>> {
        self.ask(Ask::Saved)
    }

    /// At most 10 000.
    fn recent(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        self.ask(|target, reply| Ask::Recent(limit, target, reply))
    }
}

impl Inner {
    fn close(&self) -> Result<(), Error> {
        let Some(threads) = lock(&self.threads).take() else {
            return Ok(());
        };
        // In this order: the ring goes to the spool, the reader lets go of the database, the mover takes
        // what is in the spool and makes the last checkpoint.
        self.spool.close();
        join(threads.syncer);
        lock(&self.asks).take();
        join(threads.reader);
        self.spool.finish();
        join(threads.writer);
        match self.spool.counts().ring {
            0 => Ok(()),
            n => Err(Error::Io(io::Error::other(format!(
                "{n} records could not be written to the disk and are lost"
            )))),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the store closed with a loss");
        }
    }
}

/// A thread that panicked has said so; the others still have to end.
fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store had panicked");
    }
}

/// Makes the directory, for its owner only: records tell of customers.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn start(dir: &Path, lock: File, mover: Mover, clock: Clock) -> Result<(SyncSender<Ask>, Threads), Error> {
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let (spool, progress) = (Arc::clone(&mover.spool), Arc::clone(&mover.progress));
    let mut finder = Finder::new(database::reader(dir)?, Archive::new(Arc::clone(&spool)));
    let (asks, questions) = mpsc::sync_channel(reader::QUEUE);
    let reader = named("stores-reader").spawn({
        let progress = Arc::clone(&progress);
        move || reader::run(&questions, &mut finder, &progress, &clock)
    })?;
    let syncer = named("stores-syncer").spawn(move || spool::run_syncer(&spool))?;
    let writer = named("stores-writer").spawn(move || {
        let _stops = StopsOnDrop(progress);
        mover.run();
    })?;
    Ok((asks, Threads { syncer, reader, writer, _lock: lock }))
}
