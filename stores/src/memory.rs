//! The store without a disk: for tests, and for running without data.

use crate::full::Full;
use crate::progress::{Progress, StopsOnDrop};
use crate::runs::Clock;
use crate::store::{Config, Stats};
use crate::telling::Telling;
use crate::used::Used;
use crate::words::Orphan;
use crate::{lock, words};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::Instant;
use types::decision::Decision;
use types::outcome::{Feedback, Late, Outcome};
use types::run::Run;
use types::store::{Error, Observer, OutcomeStore, Record, RequestRecord, Seq, Stored};
use types::usage::{Query, Report};

/// Records that may wait for the store's thread.
const QUEUE: usize = 65_536;

/// Records that make a batch.
const BATCH: usize = 512;

/// Keeps the newest requests in memory; a cheap handle. Nothing survives the process.
///
/// Behaves like [`crate::Store`] as far as it goes: the observer is told on the store's own thread, so that
/// learning keeps no request waiting, and reads see what was appended before.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    clock: Clock,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    table: Mutex<Table>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Record>,
    next: Seq,
    closed: bool,
    full: Full,
}

/// What is found again.
struct Table {
    capacity: usize,
    requests: HashMap<String, Entry>,
    /// By position, for the newest and the oldest.
    order: BTreeMap<Seq, String>,
    orphans: VecDeque<Orphan>,
    used: Used,
    stored: u64,
}

struct Entry {
    outcome: Outcome,
    /// The rest of what is found again; `None` = it is erased.
    kept: Option<Kept>,
    /// The words that count.
    current: Vec<Feedback>,
}

struct Kept {
    decision: Decision,
    run: Run,
    words: Vec<Feedback>,
}

impl Memory {
    /// Default of `capacity`.
    pub const CAPACITY: usize = 10_000;

    /// Keeps the newest `capacity` requests (1 at least) and as many words whose request is not here.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(capacity: usize, observer: Box<dyn Observer>) -> Result<Memory, Error> {
        Memory::new_at(capacity, Clock::system(), Config::SWEEP_EVERY, observer)
    }

    /// As [`Memory::new`], with the clock by which records are erased, and how often those are looked for that are.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new_at(
        capacity: usize,
        clock: Clock,
        sweep_every: Duration,
        observer: Box<dyn Observer>,
    ) -> Result<Memory, Error> {
        let table = Table {
            capacity: capacity.max(1),
            requests: HashMap::new(),
            order: BTreeMap::new(),
            orphans: VecDeque::new(),
            used: Used::default(),
            stored: 0,
        };
        let progress = Progress::new(0);
        progress.settled(0);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            table: Mutex::new(table),
            progress: Arc::new(progress),
        });
        let thread = thread::Builder::new().name("stores-memory".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            let clock = clock.clone();
            move || run(&shared, &clock, sweep_every, &mut Telling::new(observer))
        })?;
        Ok(Memory { inner: Arc::new(Inner { shared, clock, thread: Mutex::new(Some(thread)) }) })
    }

    /// Counters as they stand now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.inner.shared;
        let (appended, dropped, full) = {
            let queue = lock(&shared.queue);
            (queue.next, queue.full.dropped, queue.full.now)
        };
        let stored = lock(&shared.table).stored;
        let degraded = shared.progress.is_troubled();
        Stats { appended, stored, dropped, full, degraded, ..Stats::default() }
    }

    /// Takes no more records, observes those it has and ends its thread. Blocks; closing again does nothing.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Reads once everything appended so far is stored.
    fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Table) -> T + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let target = lock(&self.inner.shared.queue).next;
        Box::pin(async move {
            self.inner.shared.progress.wait(target).await?;
            Ok(f(&lock(&self.inner.shared.table)))
        })
    }
}

impl OutcomeStore for Memory {
    fn append(&self, record: &Record) -> Result<Seq, Error> {
        // Cloned before the lock is taken.
        let record = record.clone();
        let mut queue = lock(&self.inner.shared.queue);
        if queue.closed {
            return Err(Error::Io(io::Error::new(io::ErrorKind::BrokenPipe, "the store is closed")));
        }
        if queue.waiting.len() >= QUEUE {
            return Err(queue.full.refuse("memory queue"));
        }
        queue.full.now = None;
        let seq = queue.next;
        queue.next += 1;
        queue.waiting.push_back(record);
        drop(queue);
        self.inner.shared.work.notify_one();
        Ok(seq)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.read(|_| ())
    }

    fn request(&self, request_id: &str) -> BoxFuture<'_, Result<Option<Stored>, Error>> {
        let request_id = request_id.to_owned();
        let now_ms = self.inner.clock.now_ms();
        let found = self.read(move |table| table.requests.get(&request_id).map(|e| e.stored(now_ms)));
        Box::pin(async move { found.await?.transpose() })
    }

    fn usage(&self, query: Query) -> BoxFuture<'_, Result<Report, Error>> {
        self.read(move |table| table.used.report(&query))
    }

    fn recent(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Stored>, Error>> {
        let now_ms = self.inner.clock.now_ms();
        self.read(move |table| {
            let newest = table.order.values().rev().filter_map(|id| table.requests.get(id));
            newest.filter_map(|e| e.stored(now_ms).ok()).take(limit).collect()
        })
    }
}

impl Inner {
    fn close(&self) {
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the store in memory had panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Entry {
    /// As it is found at `now_ms`.
    fn stored(&self, now_ms: i64) -> Result<Stored, Error> {
        let kept = self.kept.as_ref().filter(|_| !self.outcome.has_expired(now_ms));
        let kept = kept.ok_or_else(|| Error::Erased { tenant: self.outcome.tenant.clone() })?;
        let record = RequestRecord {
            decision: kept.decision.clone(),
            run: kept.run.clone(),
            outcome: self.outcome.clone(),
        };
        Ok(Stored { record, feedback: kept.words.clone() })
    }

    /// Leaves the figures of its outcome.
    fn erase(&mut self) {
        self.kept = None;
        self.outcome = self.outcome.clone().figures();
        self.current.iter_mut().for_each(|word| word.reason = None);
    }
}

impl Table {
    fn store(&mut self, seq: Seq, record: Record, telling: &mut Telling) {
        self.stored += 1;
        if self.stored.is_multiple_of(BATCH as u64) {
            self.used.bound();
        }
        match record {
            Record::Request(record) => self.request(seq, *record, telling),
            Record::Feedback(word) => self.feedback(seq, word, telling),
            Record::Late(late) => self.late(late),
            // Nothing here outlives the process, so nothing is left of a request that it cut.
            Record::Begun(_) => {}
            // Nor is there a state to go back to.
            Record::GoBack(_) => {}
        }
    }

    fn request(&mut self, seq: Seq, record: RequestRecord, telling: &mut Telling) {
        let id = record.outcome.request_id.clone();
        if self.requests.contains_key(&id) {
            return;
        }
        telling.outcome(seq, &record.outcome);
        self.used.count(&record.outcome, 1);
        self.order.insert(seq, id.clone());
        let RequestRecord { decision, run, outcome } = record;
        let kept = Some(Kept { decision, run, words: Vec::new() });
        self.requests.insert(id.clone(), Entry { outcome, kept, current: Vec::new() });
        let (mine, others) = self.orphans.drain(..).partition(|o: &Orphan| o.request_id() == id);
        self.orphans = others;
        for orphan in Vec::from(mine) {
            match orphan {
                Orphan::Word(word) => self.feedback(seq, word, telling),
                Orphan::Late(late) => self.late(late),
            }
        }
        if self.order.len() > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            let gone = self.requests.remove(&oldest);
            // What was counted under its labels must not stay when nobody knows them any more.
            if let Some(gone) = gone.filter(|e| e.kept.is_some() && e.outcome.expires_ms.is_some()) {
                self.used.forget_tags(&gone.outcome);
            }
        }
    }

    fn feedback(&mut self, seq: Seq, word: Feedback, telling: &mut Telling) {
        let Some(entry) = self.requests.get_mut(&word.request_id) else {
            self.wait(Orphan::Word(word));
            return;
        };
        if words::repeats(&entry.current, &word) {
            return;
        }
        entry.current = words::with(std::mem::take(&mut entry.current), &word);
        let after = telling.feedback(seq, &entry.outcome, &entry.current);
        self.used.count(&entry.outcome, -1);
        self.used.count(&after, 1);
        entry.outcome = after;
        match &mut entry.kept {
            Some(kept) => kept.words.push(word),
            None => entry.erase(),
        }
    }

    /// Counts what was paid for after the response of a request.
    fn late(&mut self, late: Late) {
        let Some(entry) = self.requests.get_mut(&late.request_id) else {
            self.wait(Orphan::Late(late));
            return;
        };
        if let Some(after) = entry.outcome.with_late(&late) {
            self.used.count(&entry.outcome, -1);
            self.used.count(&after, 1);
            entry.outcome = after;
        }
    }

    /// Erases the records whose time is over.
    fn sweep(&mut self, now_ms: i64) {
        for entry in self.requests.values_mut() {
            if entry.kept.is_some() && entry.outcome.has_expired(now_ms) {
                self.used.forget_tags(&entry.outcome);
                entry.erase();
            }
        }
    }

    /// Keeps what came before its request; of more than fits the oldest goes.
    fn wait(&mut self, orphan: Orphan) {
        if self.orphans.len() == self.capacity {
            self.orphans.pop_front();
        }
        self.orphans.push_back(orphan);
    }
}

/// Body of the store's thread; ends when the store is closed and all is stored.
fn run(shared: &Shared, clock: &Clock, sweep_every: Duration, telling: &mut Telling) {
    let _stops = StopsOnDrop(Arc::clone(&shared.progress));
    let (mut position, mut next) = (0, Instant::now() + sweep_every);
    while let Some(batch) = next_batch(shared, next) {
        if !batch.is_empty() {
            telling.begin();
            for record in batch {
                // Locked anew for each, so that readers come in between.
                lock(&shared.table).store(position, record, telling);
                position += 1;
            }
            telling.batch_done();
            telling.committed();
            shared.progress.reached(position);
        }
        if Instant::now() >= next {
            next = Instant::now() + sweep_every;
            lock(&shared.table).sweep(clock.now_ms());
        }
    }
}

/// Waits for records, at most until `end`; `None` = the store is closed.
fn next_batch(shared: &Shared, end: Instant) -> Option<Vec<Record>> {
    let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
    let wait = end.saturating_duration_since(Instant::now());
    let waited = shared.work.wait_timeout_while(lock(&shared.queue), wait, idle);
    let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
    let n = queue.waiting.len().min(BATCH);
    if n > 0 {
        queue.full.now = None;
    }
    (n > 0 || !queue.closed).then(|| queue.waiting.drain(..n).collect())
}
