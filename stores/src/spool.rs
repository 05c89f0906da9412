//! The spool: append-only files that take every record before the database does, the queue to it, and the
//! archive behind it: the database knows positions, the records stay here.
//!
//! A record's position ([`Seq`]) is its byte position in the log as a whole; files are cut from it at
//! record boundaries and named by their first position. An append is one `write` under a short lock. While
//! the disk refuses, records wait in a bounded ring in memory, at the positions they will have on disk, and
//! whatever comes meanwhile queues behind them, so that the order of the log never depends on the disk.

mod frame;
#[cfg(test)]
mod fuzz;
mod medium;
mod overwrite;
mod recover;
mod syncer;
mod tail;
#[cfg(test)]
mod tests;

pub(crate) use frame::{Frame, HEADER, MAX_PAYLOAD, encode, read};
pub(crate) use medium::Disk;
pub(crate) use overwrite::Instead;
pub use recover::Recovery;
pub(crate) use syncer::run as run_syncer;
pub(crate) use tail::{Batch, Line, Tail};

use crate::record::{Constants, Hash};

use crate::full::Full;
use crate::lock;
use medium::{Medium, Sink};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::store::{Error, Seq};

/// How long the mover lets records gather before it takes what is there.
const GATHER: Duration = Duration::from_millis(200);

/// Records that are worth a batch at once.
pub(crate) const BATCH: u64 = 1_024;

/// Constants of which it is remembered that they stand in the log.
const TOLD: usize = 64;

/// Bounds of the spool, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of what is not yet in the database.
    pub(crate) spool_max: u64,
    /// Of a file; the record that passes it still goes in, and those that come before the file before it is on the disk.
    pub(crate) rotate_bytes: u64,
    /// Of what waits in memory while the disk refuses.
    pub(crate) ring_max: u64,
    /// Of all files together; those with something that is not yet in the database stay whatever they hold.
    pub(crate) archive_max: u64,
}

/// See the module.
pub(crate) struct Spool {
    dir: PathBuf,
    medium: Box<dyn Medium>,
    limits: Limits,
    state: Mutex<State>,
    /// Wakes the mover.
    work: Condvar,
    /// Wakes the syncer.
    sync: Condvar,
}

struct State {
    /// The file that is written; `None` until the first record.
    file: Option<Arc<dyn Sink>>,
    /// The one before it, until that is on the disk: so long the one that is written has another name.
    before: Option<Arc<dyn Sink>>,
    /// First position of each file, ascending; the last is that of `file`.
    bases: VecDeque<Seq>,
    /// End of what is on disk.
    written: Seq,
    /// End of what was accepted: `written` and the ring.
    end: Seq,
    /// Everything before is in the database.
    moved: Seq,
    ring: VecDeque<Vec<u8>>,
    /// Constants that stand in the log since the start.
    told: Vec<Hash>,
    /// The last write failed.
    failed: bool,
    /// There is hardly any room: nothing is written until there is, so that what is there stays readable.
    short: bool,
    /// Something was written since the last sync.
    dirty: bool,
    /// A file was made since the last sync.
    new_file: bool,
    /// No further records are taken.
    closed: bool,
    /// The mover may end once it has caught up.
    finish: bool,
    /// Records on disk that the mover has not committed.
    pending: u64,
    /// The mover sleeps until so many are pending; `u64::MAX` = it does not sleep.
    wake_at: u64,
    /// Somebody waits for what stands before this position.
    wanted: Seq,
    full: Full,
    counts: Counts,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records accepted.
    pub(crate) appended: u64,
    /// Records in the database.
    pub(crate) stored: u64,
    /// Bytes accepted that are not in the database.
    pub(crate) bytes: u64,
    /// Bytes of all files.
    pub(crate) archive: u64,
    /// Records that wait in memory.
    pub(crate) ring: u64,
    /// Failed writes and syncs.
    pub(crate) write_errors: u64,
    /// Records refused because spool or ring was full.
    pub(crate) dropped: u64,
    /// What was full when the last one came, if there has been no room since.
    pub(crate) full: Option<&'static str>,
    /// The disk refuses writes.
    pub(crate) failed: bool,
}

/// A file of the spool, as far as it may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    base: Seq,
    end: Seq,
}

/// What the mover is to do.
pub(crate) enum Work {
    /// Move what stands from its position.
    Take(Segment),
    /// Nothing, for as long as it was to wait.
    Rest,
    /// End: all is moved, and nothing will come.
    Done,
}

impl Spool {
    /// Opens the spool of `dir`, of which everything before `moved` is in the database.
    ///
    /// # Errors
    /// Files cannot be read or repaired, or are damaged.
    pub(crate) fn open(
        dir: &Path,
        limits: Limits,
        moved: Seq,
        medium: Box<dyn Medium>,
    ) -> Result<(Spool, Recovery), Error> {
        let found = recover::recover(dir, moved)?;
        let file = match found.bases.back().filter(|_| found.open) {
            Some(base) => Some(medium.open(&recover::path(dir, *base), found.end - base)?),
            None => None,
        };
        let state = State {
            file,
            before: None,
            bases: found.bases,
            written: found.end,
            end: found.end,
            moved,
            ring: VecDeque::new(),
            told: Vec::new(),
            failed: false,
            short: false,
            dirty: found.recovery.recovered > 0,
            new_file: false,
            closed: false,
            finish: false,
            pending: found.recovery.recovered,
            wake_at: u64::MAX,
            wanted: 0,
            full: Full::default(),
            counts: Counts::default(),
        };
        let spool = Spool {
            dir: dir.to_owned(),
            medium,
            limits,
            state: Mutex::new(state),
            work: Condvar::new(),
            sync: Condvar::new(),
        };
        Ok((spool, found.recovery))
    }

    /// Takes a record in the form of [`encode`], and what is constant beside it, if that does not stand in the
    /// log yet.
    ///
    /// # Errors
    /// Spool or ring is full, or the store is closed. A disk that refuses is no error while the ring holds.
    pub(crate) fn append(&self, frame: &[u8], constants: Option<&Constants>) -> Result<Seq, Error> {
        let mut state = lock(&self.state);
        let Some(new) = constants.filter(|c| !state.told.contains(&c.hash)) else {
            return self.take(&mut state, frame);
        };
        let mut both = Vec::with_capacity(HEADER + new.payload.len() + frame.len());
        encode(&mut both, |buf| {
            buf.extend_from_slice(&new.payload);
            Ok(())
        })?;
        let ahead = both.len() as u64;
        both.extend_from_slice(frame);
        let seq = self.take(&mut state, &both)?;
        if state.told.len() >= TOLD {
            state.told.clear();
        }
        state.told.push(new.hash);
        Ok(seq + ahead)
    }

    /// Whether the disk refuses, so that records wait in memory.
    pub(crate) fn refused(&self) -> bool {
        let state = lock(&self.state);
        state.failed || state.short || !state.ring.is_empty()
    }

    /// Says whether the disk has hardly any room; records wait in memory until it has, or until the store closes.
    pub(crate) fn set_short(&self, short: bool) {
        let mut state = lock(&self.state);
        state.short = short;
        // What waits is written at once when there is room again.
        self.sync.notify_one();
    }

    fn take(&self, state: &mut State, bytes: &[u8]) -> Result<Seq, Error> {
        if state.closed {
            return Err(Error::Io(io::Error::new(io::ErrorKind::BrokenPipe, "the store is closed")));
        }
        let len = bytes.len() as u64;
        if state.end - state.moved + len > self.limits.spool_max {
            return Err(state.full.refuse("spool"));
        }
        let seq = state.end;
        if state.failed || state.short || !state.ring.is_empty() || !self.write(state, bytes) {
            let held = state.end - state.written;
            if held + len > self.limits.ring_max {
                return Err(state.full.refuse("ring"));
            }
            state.ring.push_back(bytes.to_vec());
        }
        state.full.now = None;
        state.end = seq + len;
        state.counts.appended += 1;
        self.wake_mover(state);
        Ok(seq)
    }

    /// Writes one frame to the file; `false` = the disk refuses. What it took of the frame is cut off by
    /// [`Spool::repair`], without which nothing more is written.
    fn write(&self, state: &mut State, frame: &[u8]) -> bool {
        match self.try_write(state, frame) {
            Ok(()) => {
                state.written += frame.len() as u64;
                state.pending += 1;
                self.mark_dirty(state);
                true
            }
            Err(error) => {
                state.counts.write_errors += 1;
                if !state.failed {
                    tracing::error!(%error, "the spool refuses writes; records wait in memory");
                }
                state.failed = true;
                // Wakes the syncer, which tries again.
                self.sync.notify_one();
                false
            }
        }
    }

    fn try_write(&self, state: &mut State, frame: &[u8]) -> io::Result<()> {
        let base = state.bases.back().copied().unwrap_or(state.written);
        let file = match &state.file {
            Some(file) if state.written - base < self.limits.rotate_bytes || state.before.is_some() => {
                Arc::clone(file)
            }
            _ => self.rotate(state)?,
        };
        let taken = file.write(frame)?;
        if taken == frame.len() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::WriteZero, format!("{taken} of {} bytes were taken", frame.len())))
    }

    /// Cuts what a failed write left; writes may be tried again after it.
    fn repair(&self, state: &mut State) -> bool {
        let base = state.bases.back().copied().unwrap_or(state.written);
        let cut = state.file.as_ref().map_or(Ok(()), |file| file.truncate(state.written - base));
        state.failed = cut.is_err();
        cut.is_ok()
    }

    /// Begins a new file. The old one may lose its end in a power cut while the new one keeps its beginning, and the log
    /// would have a hole. Nobody waits for the disk here: until the syncer has been there ([`Spool::lasts`]) the new one
    /// has a name by which a start knows that it is to go, if there is such a hole.
    fn rotate(&self, state: &mut State) -> io::Result<Arc<dyn Sink>> {
        let path = match &state.file {
            Some(_) => recover::next_path(&self.dir, state.written),
            None => recover::path(&self.dir, state.written),
        };
        let file = self.medium.open(&path, 0)?;
        state.before = state.file.replace(Arc::clone(&file));
        state.bases.push_back(state.written);
        state.new_file = true;
        Ok(file)
    }

    /// Puts the file before the one that is written on the disk, and gives that one the name that lasts. Only the syncer
    /// does so, and no other file is begun meanwhile.
    fn lasts(&self, before: &dyn Sink) -> io::Result<()> {
        before.sync()?;
        let base = lock(&self.state).bases.back().copied().unwrap_or_default();
        self.medium.rename(&recover::next_path(&self.dir, base), &recover::path(&self.dir, base))?;
        lock(&self.state).before = None;
        Ok(())
    }

    /// Opens the file that begins at `base` for reading.
    pub(crate) fn open_file(&self, base: Seq) -> io::Result<(PathBuf, File)> {
        recover::open(&self.dir, base)
    }

    /// The syncer sleeps only while nothing is dirty, so that only the first write after a sync wakes it.
    fn mark_dirty(&self, state: &mut State) {
        if !state.dirty {
            state.dirty = true;
            self.sync.notify_one();
        }
    }

    fn wake_mover(&self, state: &mut State) {
        if state.pending >= state.wake_at {
            state.wake_at = u64::MAX;
            self.work.notify_one();
        }
    }

    /// End of what was accepted.
    pub(crate) fn end(&self) -> Seq {
        lock(&self.state).end
    }

    /// End of what was accepted; the mover does not let records gather before it has come there.
    pub(crate) fn hurry(&self) -> Seq {
        let mut state = lock(&self.state);
        state.wanted = state.end;
        state.wake_at = u64::MAX;
        self.work.notify_one();
        state.end
    }

    /// Waits until there is something to move from `position`, at most until `end`.
    pub(crate) fn next_work(&self, position: Seq, end: Instant) -> Work {
        let mut state = lock(&self.state);
        while state.written <= position {
            if state.finish {
                return Work::Done;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Rest;
            }
            state.wake_at = 1;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.wake_at = u64::MAX;
        }
        if state.pending < BATCH && state.wanted <= position && !state.finish {
            state.wake_at = BATCH;
            state = self.work.wait_timeout(state, GATHER).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wake_at = u64::MAX;
        Work::Take(segment(&state, position))
    }

    /// Keeps the mover from trying again at once. `true` = it is to end.
    pub(crate) fn pause(&self, wait: Duration) -> bool {
        let state = lock(&self.state);
        let finishing = |state: &mut State| !state.finish;
        let (state, _) =
            self.work.wait_timeout_while(state, wait, finishing).unwrap_or_else(PoisonError::into_inner);
        state.finish
    }

    /// The mover is to end soon.
    pub(crate) fn is_finishing(&self) -> bool {
        lock(&self.state).finish
    }

    /// `records` more, up to `position`, are in the database.
    pub(crate) fn moved(&self, position: Seq, records: u64) {
        let mut state = lock(&self.state);
        state.moved = position;
        // Constants are no records, but were counted at the start among what was found.
        state.pending = if position == state.written { 0 } else { state.pending.saturating_sub(records) };
        state.counts.stored += records;
        state.full.now = None;
    }

    /// Where the archive is to begin, if it is too long: at the second file or a later one, and not after
    /// `durable`, before which everything is in the database to stay.
    pub(crate) fn excess(&self, durable: Seq) -> Option<Seq> {
        let state = lock(&self.state);
        let fits = |base: &Seq| state.written - base <= self.limits.archive_max;
        let first = state.bases.iter().find(|base| fits(base) || **base > durable).copied();
        let first = first.filter(|base| *base <= durable).or_else(|| {
            // Nothing that may go is enough: all that may go goes.
            state.bases.iter().rev().find(|base| **base <= durable).copied()
        })?;
        (state.bases.front() != Some(&first)).then_some(first)
    }

    /// Removes the files before `first`.
    pub(crate) fn remove_before(&self, first: Seq) {
        let mut done = Vec::new();
        {
            let mut state = lock(&self.state);
            while let Some(base) = state.bases.pop_front_if(|base| *base < first) {
                done.push(base);
            }
        }
        for base in done {
            let path = recover::path(&self.dir, base);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, file = %path.display(), "a spool file could not be removed; the next start tries again");
            }
        }
    }

    /// Where the file begins in which the record at `position` stands, and its place there. `None` = its file is gone.
    pub(crate) fn place(&self, position: Seq) -> Option<(Seq, u64)> {
        let state = lock(&self.state);
        let after = state.bases.partition_point(|base| *base <= position);
        let base = after.checked_sub(1).and_then(|i| state.bases.get(i)).copied()?;
        Some((base, position - base))
    }

    /// Takes no more records; the syncer ends after a last try of the ring and a last sync.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.sync.notify_one();
    }

    /// The mover ends once it has caught up.
    pub(crate) fn finish(&self) {
        lock(&self.state).finish = true;
        self.work.notify_one();
    }

    /// A reader for the mover.
    pub(crate) fn tail(&self) -> Tail {
        Tail::new(self.dir.clone())
    }

    /// What has been counted since the start.
    pub(crate) fn counts(&self) -> Counts {
        let state = lock(&self.state);
        Counts {
            bytes: state.end - state.moved,
            archive: state.bases.front().map_or(0, |first| state.written - first),
            ring: state.ring.len() as u64,
            failed: state.failed,
            dropped: state.full.dropped,
            full: state.full.now,
            ..state.counts
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// The file that holds `position`, which is before the end of what is written.
fn segment(state: &State, position: Seq) -> Segment {
    let after = state.bases.partition_point(|base| *base <= position);
    let base = after.checked_sub(1).and_then(|i| state.bases.get(i)).copied().unwrap_or(position);
    let end = state.bases.get(after).copied().unwrap_or(state.written);
    Segment { base, end }
}
