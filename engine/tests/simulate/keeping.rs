//! Real stores and real limits behind seams that a run can hold, break and cut off as a killed process would.

use crate::book::Book;
use engine::learn::{Learner, Statistics};
use futures_util::future::{BoxFuture, FutureExt, ready};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stores::limits::Counters;
use stores::{Config, Memory, Store};
use tokio::time::Instant;
use types::Clock;
use types::limits::{Amount, Claim, Foreseen, Inquiry, Limit, LimitStore, Refused, Reservation, Standing};
use types::outcome::{Feedback, Outcome};
use types::store::{self, Observer, OutcomeStore, Record, Seq, Stored};

/// The time of the day: it moves with the paused clock, and is set.
pub(crate) struct Wall {
    base: AtomicI64,
    began: Instant,
}

impl Wall {
    pub(crate) fn at(unix_ms: i64) -> Arc<Wall> {
        Arc::new(Wall { base: AtomicI64::new(unix_ms), began: Instant::now() })
    }

    pub(crate) fn now(&self) -> i64 {
        self.base.load(Ordering::Relaxed) + i64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// The same for the engine.
    pub(crate) fn clock(self: &Arc<Wall>) -> Clock {
        let wall = self.clone();
        Clock::new(move || wall.now())
    }

    pub(crate) fn step(&self, by_ms: i64) {
        self.base.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// Does something that other threads have a part in while the run stands still.
pub(crate) fn aside<T: Send>(what: impl Future<Output = T> + Send) -> T {
    let done = async { tokio::time::timeout(Duration::from_secs(60), what).await };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(done)
        });
        thread.join().unwrap().expect("a store answers within a minute")
    })
}

/// Holds the thread of a store back, so that it learns and writes its database at moments of the run alone.
#[derive(Default)]
pub(crate) struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub(crate) fn open(&self, open: bool) {
        *self.0.lock().unwrap() = open;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

/// The learner behind a gate.
struct Held {
    learner: Learner,
    gate: Arc<Gate>,
}

impl Observer for Held {
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.learner.restore(state)
    }
    fn state(&self) -> Option<Vec<u8>> {
        self.learner.state()
    }
    fn outcome(&mut self, seq: Seq, outcome: &Outcome) {
        self.gate.pass();
        self.learner.outcome(seq, outcome);
    }
    fn feedback(&mut self, seq: Seq, outcome: &Outcome, all: &[Feedback]) -> Outcome {
        self.gate.pass();
        self.learner.feedback(seq, outcome, all)
    }
    fn batch_done(&mut self) -> Option<Vec<u8>> {
        self.gate.pass();
        self.learner.batch_done()
    }
}

enum Inner {
    Memory(Memory),
    Disk(Store),
}

/// A store of records in one life of the engine.
pub(crate) struct Kept {
    inner: Inner,
    gate: Arc<Gate>,
    book: Arc<Book>,
    /// The process was killed: what it still does leaves no trace.
    dead: AtomicBool,
    /// So many records of requests are not taken.
    pub(crate) unwritable: AtomicU32,
}

impl Kept {
    /// A store in memory, or of a folder.
    pub(crate) fn open(folder: Option<&Path>, book: &Arc<Book>) -> (Arc<Kept>, Statistics) {
        let (learner, statistics) = engine::learner(engine::learn::Limits::default());
        let gate = Arc::new(Gate::default());
        gate.open(true);
        let held = Box::new(Held { learner, gate: gate.clone() });
        let inner = match folder {
            None => Inner::Memory(Memory::new(100_000, held).unwrap()),
            Some(folder) => Inner::Disk(Store::open(folder, Config::default(), held).unwrap()),
        };
        let book = book.clone();
        let dead = AtomicBool::new(false);
        let kept = Kept { inner, gate, book, dead, unwritable: AtomicU32::new(0) };
        // What an earlier life left is taken up, and what it cut off gets its record.
        kept.catch_up();
        kept.catch_up();
        (Arc::new(kept), statistics)
    }

    fn seam(&self) -> &dyn OutcomeStore {
        match &self.inner {
            Inner::Memory(memory) => memory,
            Inner::Disk(store) => store,
        }
    }

    fn read<T: Send>(&self, what: impl Future<Output = T> + Send) -> T {
        self.gate.open(true);
        let read = aside(what);
        self.gate.open(false);
        read
    }

    /// Moves all records to where they are read, and learns from them.
    pub(crate) fn catch_up(&self) {
        self.read(self.seam().flush()).unwrap();
    }

    pub(crate) fn all(&self) -> Vec<Stored> {
        self.read(self.seam().recent(10_000)).unwrap()
    }

    /// From here on it is as if the process were gone.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.gate.open(true);
        match &self.inner {
            Inner::Memory(memory) => memory.close(),
            Inner::Disk(store) => store.close().unwrap(),
        }
    }
}

impl OutcomeStore for Kept {
    fn append(&self, record: &Record) -> Result<Seq, store::Error> {
        if self.dead.load(Ordering::Relaxed) {
            return Ok(0);
        }
        if let Record::Request(request) = record {
            let less = |n: u32| n.checked_sub(1);
            let taken = self.unwritable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err();
            self.book.records(request, taken);
            if !taken {
                return Err(store::Error::Io(std::io::Error::other("as the seed says")));
            }
        }
        if let Record::Late(late) = record {
            self.book.pays_late(late);
        }
        self.seam().append(record)
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), store::Error>> {
        ready(self.read(self.seam().flush())).boxed()
    }
    fn request(&self, id: &str) -> BoxFuture<'_, Result<Option<Stored>, store::Error>> {
        ready(self.read(self.seam().request(id))).boxed()
    }
    fn usage(&self, query: types::usage::Query) -> BoxFuture<'_, Result<types::usage::Report, store::Error>> {
        ready(self.read(self.seam().usage(query))).boxed()
    }
    fn recent(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Stored>, store::Error>> {
        ready(self.read(self.seam().recent(limit))).boxed()
    }
}

/// Limits in one life of the engine, with what of them is held.
pub(crate) struct Counted {
    counters: Counters,
    wall: Arc<Wall>,
    book: Arc<Book>,
    dead: AtomicBool,
    /// By tenant: what was reserved and is not settled.
    held: Mutex<BTreeMap<Arc<str>, Amount>>,
}

impl Counted {
    pub(crate) fn new(book: &Arc<Book>, wall: &Arc<Wall>) -> Arc<Counted> {
        let (book, wall) = (book.clone(), wall.clone());
        let (counters, dead, held) = (Counters::default(), AtomicBool::new(false), Mutex::default());
        Arc::new(Counted { counters, wall, book, dead, held })
    }

    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// What of a tenant is held now.
    pub(crate) fn held(&self, tenant: &str) -> Amount {
        self.held.lock().unwrap().get(tenant).copied().unwrap_or_default()
    }

    pub(crate) fn standing(&self, tenant: &str, limit: &Limit) -> Standing {
        let all = self.counters.standing(&tenant.into(), std::slice::from_ref(limit), self.wall.now());
        all.now_or_never().unwrap().pop().unwrap()
    }

    pub(crate) fn used(&self, tenant: &str, limit: &Limit) -> u64 {
        self.standing(tenant, limit).used
    }

    pub(crate) fn count(&self, tenant: &str, limit: &Limit, used: u64) {
        self.counters.restore(&tenant.into(), limit, used, self.wall.now());
    }
}

impl LimitStore for Counted {
    fn reserve_all(
        &self,
        claims: Vec<Claim>,
        unix_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
        if self.dead.load(Ordering::Relaxed) {
            return ready(Err(Refused::Away("the process is gone".to_owned()))).boxed();
        }
        let taken = self.counters.reserve_all(claims, unix_ms).now_or_never().unwrap();
        for Reservation { tenant, amount, .. } in taken.iter().flatten() {
            let mut all = self.held.lock().unwrap();
            let held = all.entry(tenant.clone()).or_default();
            held.requests += amount.requests;
            held.tokens += amount.tokens;
            held.usd += amount.usd;
            held.concurrency += amount.concurrency;
        }
        ready(taken).boxed()
    }

    fn settle(&self, reservation: Reservation, used: Amount) {
        if self.dead.load(Ordering::Relaxed) {
            return;
        }
        let (tenant, amount) = (reservation.tenant.clone(), reservation.amount);
        self.counters.settle(reservation, used);
        let mut all = self.held.lock().unwrap();
        let held = all.entry(tenant.clone()).or_default();
        let less = |a: u64, b: u64| {
            self.book.must(a >= b, || format!("more is settled for {tenant} than was reserved: {amount:?}"));
            a.saturating_sub(b)
        };
        held.requests = less(held.requests, amount.requests);
        held.tokens = less(held.tokens, amount.tokens);
        held.usd = less(held.usd, amount.usd);
        held.concurrency = less(held.concurrency, amount.concurrency);
    }

    fn restore(&self, tenant: &Arc<str>, limit: &Limit, used: u64, unix_ms: i64) {
        self.counters.restore(tenant, limit, used, unix_ms);
    }

    fn standing(&self, tenant: &Arc<str>, limits: &[Limit], unix_ms: i64) -> BoxFuture<'_, Vec<Standing>> {
        self.counters.standing(tenant, limits, unix_ms)
    }

    fn foresee(&self, tenant: &Arc<str>, asked: &[Inquiry], unix_ms: i64) -> BoxFuture<'_, Vec<Foreseen>> {
        self.counters.foresee(tenant, asked, unix_ms)
    }
}

/// The folders of a run: each life of the engine has one.
pub(crate) struct Folders {
    root: tempfile::TempDir,
    life: u32,
}

/// What the name of the spool's files begins with.
const SPOOL: &str = "spool-";

impl Folders {
    pub(crate) fn new() -> Folders {
        let folders = Folders { root: tempfile::tempdir().unwrap(), life: 0 };
        std::fs::create_dir(folders.now()).unwrap();
        folders.remember();
        folders
    }

    pub(crate) fn now(&self) -> PathBuf {
        self.root.path().join(format!("life-{}", self.life))
    }

    fn start(&self) -> PathBuf {
        self.root.path().join(format!("start-{}", self.life))
    }

    /// What is there when a life begins.
    pub(crate) fn remember(&self) {
        let start = self.start();
        if start.exists() {
            std::fs::remove_dir_all(&start).unwrap();
        }
        copy(&self.now(), &start, |_| true);
    }

    /// What a killed process leaves: the spool as it stands, with a torn end maybe, and a database that has not seen
    /// anything of it yet.
    pub(crate) fn killed(&mut self, torn: &[u8]) {
        let (before, start) = (self.now(), self.start());
        self.life += 1;
        let next = self.now();
        copy(&start, &next, |name| !name.starts_with(SPOOL));
        copy(&before, &next, |name| name.starts_with(SPOOL));
        let mut files: Vec<PathBuf> = std::fs::read_dir(&next).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|f| f.file_name().unwrap().to_str().unwrap().starts_with(SPOOL));
        files.sort();
        if let Some(last) = files.last() {
            let mut bytes = std::fs::read(last).unwrap();
            bytes.extend_from_slice(torn);
            std::fs::write(last, bytes).unwrap();
        }
        self.remember();
    }
}

fn copy(from: &Path, to: &Path, takes: impl Fn(&str) -> bool) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if takes(file.file_name().to_str().unwrap()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}
