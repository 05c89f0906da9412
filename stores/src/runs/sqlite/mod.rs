//! Runs in SQLite: a database of their own, since they are written to the disk before anybody is told so.

mod table;
mod threads;

use super::clock::Clock;
use super::ops;
use super::table::Table as _;
use crate::lock::hold;
use crate::{database, lock, store};
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use table::Sql;
use threads::{Read, Write};
use types::runs::{
    Advance, Chosen, Claims, Created, Entry, Error, Filter, Head, Lease, NewRun, Page, Post, Posted, Record,
    Renewed, Row, RunStore, Told, Webhook,
};
use types::store::Error as StoreError;

/// Folder within the data directory; it holds a lock file of its own.
const FOLDER: &str = "runs";
/// File name without its ending.
const NAME: &str = "runs";
/// Step `i` brings a database of version `i` to `i + 1`. Steps are never changed, only added.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];
/// Statements kept prepared: all there are.
const STATEMENTS: usize = 64;

/// Runs of a data directory; a cheap handle. It closes with the last one.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    writes: Mutex<Option<SyncSender<Write>>>,
    reads: Mutex<Option<SyncSender<Read>>>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    /// Held until both have ended.
    _lock: File,
}

impl Runs {
    /// Opens the runs of a data directory, which is made if it is absent. Whoever owned a run before is dead,
    /// since one process at a time may open them: such runs can be claimed at once.
    ///
    /// # Errors
    /// Another process has them open ([`StoreError::Io`], `WouldBlock`); the database is of a newer version
    /// ([`StoreError::Corrupt`]); the disk or SQLite refuses.
    pub fn open(dir: &Path, clock: Clock) -> Result<Runs, StoreError> {
        let dir = dir.join(FOLDER);
        store::make(&dir)?;
        let lock = hold(&dir)?;
        let conn = database::open_writer(&dir, NAME, MIGRATIONS)?;
        reach_the_disk(&conn)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        conn.execute("UPDATE runs SET due_ms = 0 WHERE state = 'running'", []).map_err(database::sql)?;
        let reader = database::open_reader(&dir, NAME)?;
        reader.set_prepared_statement_cache_capacity(STATEMENTS);
        Runs::start(conn, reader, lock, clock)
    }

    fn start(conn: Connection, reading: Connection, lock: File, clock: Clock) -> Result<Runs, StoreError> {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let (writes, jobs) = mpsc::sync_channel(threads::QUEUE);
        let writer = named("runs-writer").spawn(move || threads::run_writer(conn, &jobs))?;
        let (reads, jobs) = mpsc::sync_channel(threads::QUEUE);
        let reader = named("runs-reader").spawn(move || threads::run_reader(&reading, &jobs))?;
        Ok(Runs {
            inner: Arc::new(Inner {
                clock,
                writes: Mutex::new(Some(writes)),
                reads: Mutex::new(Some(reads)),
                threads: Mutex::new(Some(Threads { writer, reader, _lock: lock })),
            }),
        })
    }

    /// Takes nothing more, finishes what was asked, and ends its threads. Blocks; closing again does nothing.
    pub fn close(&self) {
        self.inner.close();
    }

    fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&mut Sql<'_>, i64) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let clock = self.inner.clock.clone();
        let (job, answer) = threads::write(move |t| op(t, clock.now_ms()));
        let sent = threads::send(lock(&self.inner.writes).as_ref(), job);
        Box::pin(async move {
            sent?;
            answer.await
        })
    }

    fn read<T: Send + 'static>(
        &self,
        op: impl FnOnce(&mut Sql<'_>) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (job, answer) = threads::read(op);
        let sent = threads::send(lock(&self.inner.reads).as_ref(), job);
        Box::pin(async move {
            sent?;
            answer.await
        })
    }
}

/// Makes every commit wait for the disk: what is answered survives power loss.
///
/// # Errors
/// SQLite does not agree.
fn reach_the_disk(conn: &Connection) -> Result<(), StoreError> {
    // What is forgotten is overwritten: it must not be found in what looks empty.
    let pragmas = "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;";
    conn.execute_batch(pragmas).map_err(database::sql)?;
    let level: i64 = conn.query_row("PRAGMA synchronous", [], |r| r.get(0)).map_err(database::sql)?;
    if level == 2 {
        return Ok(());
    }
    Err(StoreError::Database(format!("SQLite syncs at level {level}, expected 2 (FULL)")))
}

impl Inner {
    fn close(&self) {
        let Some(threads) = lock(&self.threads).take() else { return };
        lock(&self.writes).take();
        lock(&self.reads).take();
        for thread in [threads.writer, threads.reader] {
            if thread.join().is_err() {
                tracing::error!("a thread of the runs had panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl RunStore for Runs {
    fn create(&self, new: NewRun) -> BoxFuture<'_, Result<Created, Error>> {
        self.write(move |t, now| ops::create(t, &new, now))
    }

    fn get(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Row>, Error>> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.read(move |t| ops::get(t, &tenant, &id))
    }

    fn head(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Head>, Error>> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.read(move |t| ops::head(t, &tenant, &id))
    }

    fn list(&self, filter: Filter) -> BoxFuture<'_, Result<Page, Error>> {
        self.read(move |t| ops::list(t, &filter))
    }

    fn journal(&self, id: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        let id = id.to_owned();
        self.read(move |t| ops::journal(t, &id, after, limit))
    }

    fn claim(&self, owner: &str, limit: usize) -> BoxFuture<'_, Result<Claims, Error>> {
        let owner = owner.to_owned();
        self.write(move |t, now| ops::claim(t, &owner, limit, now))
    }

    fn renew(&self, lease: &Lease) -> BoxFuture<'_, Result<Renewed, Error>> {
        let lease = lease.clone();
        self.write(move |t, now| ops::renew(t, &lease, now))
    }

    fn advance(&self, lease: &Lease, step: Advance) -> BoxFuture<'_, Result<Head, Error>> {
        let lease = lease.clone();
        self.write(move |t, now| ops::advance(t, &lease, &step, now))
    }

    fn put_plan(&self, hash: &str, plan: Value) -> BoxFuture<'_, Result<(), Error>> {
        let hash = hash.to_owned();
        self.write(move |t, now| ops::put_plan(t, &hash, &plan, now))
    }

    fn plan(&self, hash: &str) -> BoxFuture<'_, Result<Option<Value>, Error>> {
        let hash = hash.to_owned();
        self.read(move |t| ops::plan(t, &hash))
    }

    fn post(
        &self,
        tenant: &str,
        id: &str,
        posts: Vec<Post>,
        whole: Vec<Vec<String>>,
    ) -> BoxFuture<'_, Result<Head, Error>> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.write(move |t, now| ops::post(t, (&tenant, &id), &posts, &whole, now))
    }

    fn posted(&self, id: &str, after: u64) -> BoxFuture<'_, Result<Vec<Posted>, Error>> {
        let id = id.to_owned();
        self.read(move |t| t.posts(&id, after))
    }

    fn cancel(&self, tenant: &str, id: &str, why: &str) -> BoxFuture<'_, Result<Head, Error>> {
        let (tenant, id, why) = (tenant.to_owned(), id.to_owned(), why.to_owned());
        self.write(move |t, now| ops::cancel(t, &tenant, &id, &why, now))
    }

    fn reopen(
        &self,
        tenant: &str,
        id: &str,
        resumed: (Record, Option<Chosen>),
        room: Option<usize>,
    ) -> BoxFuture<'_, Result<Head, Error>> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.write(move |t, now| ops::reopen(t, (&tenant, &id), (&resumed.0, resumed.1.as_ref()), room, now))
    }

    fn delete(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<(), Error>> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.write(move |t, _| ops::delete(t, &tenant, &id))
    }

    fn purge(&self, ended_before_ms: i64, limit: usize) -> BoxFuture<'_, Result<usize, Error>> {
        self.write(move |t, now| ops::purge(t, ended_before_ms, limit, now))
    }

    fn webhooks(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Webhook>, Error>> {
        self.write(move |t, now| ops::webhooks(t, limit, now))
    }

    fn told(&self, webhook_id: &str, told: Told) -> BoxFuture<'_, Result<(), Error>> {
        let id = webhook_id.to_owned();
        self.write(move |t, now| ops::told(t, &id, told, now))
    }
}
