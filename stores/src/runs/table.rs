//! The tables that a store of runs brings, as the operations see them: inside one transaction.

use types::runs::{Cursor, Entry, Error, Filter, Head, Key, Posted};

/// What surrounds a run's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What was asked.
    Submission,
    /// What it waits for.
    Waiting,
    /// How it ended.
    Result,
}

/// A key as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) body: String,
    pub(crate) run: String,
    pub(crate) expires_ms: i64,
}

/// A webhook as it is remembered, one per run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookRow {
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) url: String,
    /// Tries begun so far.
    pub(crate) tries: u32,
    /// When the run ended: tries are counted from then.
    pub(crate) since_ms: i64,
    pub(crate) due_ms: i64,
}

/// When a plan is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutTimes {
    pub(crate) now_ms: i64,
    /// One that was put since then is not written again.
    pub(crate) again_ms: i64,
}

pub(crate) type Done<T = ()> = Result<T, Error>;

/// Reading and writing rows. JSON is text here: nothing in a table is looked into.
pub(crate) trait Table {
    fn head(&mut self, id: &str) -> Done<Option<Head>>;
    /// Inserts a run.
    fn insert(&mut self, head: &Head, submission: &str) -> Done;
    /// Replaces a run's head, and the place at which it is found by [`Table::due`].
    fn put_head(&mut self, head: &Head, due_ms: Option<i64>) -> Done;
    fn put_part(&mut self, id: &str, part: Part, json: Option<&str>) -> Done;
    fn part(&mut self, id: &str, part: Part) -> Done<Option<String>>;
    /// Runs whose due time is `now_ms` or earlier, earliest first.
    fn due(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>>;
    /// Runs of a tenant that are queued, counted up to `most`.
    fn queued(&mut self, tenant: &str, most: usize) -> Done<usize>;
    /// Runs that have not ended and whose expiry is `now_ms` or earlier.
    fn expired(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>>;
    /// One more than the filter's limit, where there are as many.
    fn list(&mut self, filter: &Filter, after: Option<&Cursor>, limit: usize) -> Done<Vec<Head>>;

    fn add_entry(&mut self, run: &str, entry: &Entry) -> Done;
    fn entries(&mut self, run: &str, after: u64, limit: usize) -> Done<Vec<Entry>>;
    fn copy_entries(&mut self, from: &str, to: &str, up_to: u64) -> Done;

    fn key(&mut self, tenant: &str, principal: &str, key: &Key) -> Done<Option<KeyRow>>;
    fn put_key(&mut self, tenant: &str, principal: &str, key: &Key, row: &KeyRow) -> Done;
    fn drop_keys(&mut self, now_ms: i64) -> Done;

    fn add_post(&mut self, run: &str, post: &Posted) -> Done;
    fn posts(&mut self, run: &str, after: u64) -> Done<Vec<Posted>>;

    /// Keeps a plan that is not there yet; of one that is, when it was put, where that was before `times.again_ms`.
    fn put_plan(&mut self, hash: &str, plan: &str, times: PutTimes) -> Done;
    fn plan(&mut self, hash: &str) -> Done<Option<String>>;
    /// Forgets plans that were put before a time and that no run is pinned to.
    fn drop_plans(&mut self, put_before_ms: i64, limit: usize) -> Done;

    fn put_hook(&mut self, hook: &HookRow) -> Done;
    fn hook(&mut self, id: &str) -> Done<Option<HookRow>>;
    fn drop_hook(&mut self, id: &str) -> Done;
    fn due_hooks(&mut self, now_ms: i64, limit: usize) -> Done<Vec<HookRow>>;

    /// Runs that ended before a time, and those whose own time to be forgotten has come.
    fn forgettable(&mut self, ended_before_ms: i64, now_ms: i64, limit: usize) -> Done<Vec<String>>;
    /// Forgets the journal of a run, and what was posted to it.
    fn clear(&mut self, run: &str) -> Done;
    /// Forgets a run with everything that belongs to it.
    fn remove(&mut self, run: &str) -> Done;
}
