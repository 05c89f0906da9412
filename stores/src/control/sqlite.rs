//! The control plane's objects in SQLite. Changes are rare and must not be lost: one thread, each change on the
//! disk before it is answered.

use super::matches;
use crate::lock::hold;
use crate::{database, lock, store};

use futures_util::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;
use types::control::{ControlStore, Error, Object};
use types::store::Error as StoreError;

/// Folder within the data directory; it holds a lock file of its own.
const FOLDER: &str = "control";
/// File name without its ending.
const NAME: &str = "control";
/// Step `i` brings a database of version `i` to `i + 1`. Steps are never changed, only added.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];
/// Questions that may wait.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The objects of a data directory; a cheap handle. It closes with the last one.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<(JoinHandle<()>, File)>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Opens the objects of a data directory, which is made if it is absent.
    ///
    /// # Errors
    /// Another process has them open ([`StoreError::Io`], `WouldBlock`); the database is of a newer version
    /// ([`StoreError::Corrupt`]); the disk or SQLite refuses.
    pub fn open(dir: &Path) -> Result<Control, StoreError> {
        let dir = dir.join(FOLDER);
        store::make(&dir)?;
        let held = hold(&dir)?;
        let mut conn = database::open_writer(&dir, NAME, MIGRATIONS)?;
        conn.execute_batch("PRAGMA synchronous = FULL;").map_err(database::sql)?;
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
        let work = move || queue.iter().for_each(|job| job(&mut conn));
        let thread = thread::Builder::new().name("control".to_owned()).spawn(work)?;
        Ok(Control(Arc::new(Inner {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some((thread, held))),
        })))
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (tell, answer) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            // Nobody may be waiting any more.
            tell.send(work(conn)).ok();
        });
        let sent = match lock(&self.0.jobs).as_ref() {
            None => Err(Error::Away("it is closed".to_owned())),
            Some(jobs) => jobs.try_send(job).map_err(|_| Error::Away("too many changes wait".to_owned())),
        };
        Box::pin(async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(Error::Away("its thread has ended".to_owned())))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.jobs).take();
        if let Some((thread, _held)) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the control store had panicked");
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn away(e: rusqlite::Error) -> Error {
    Error::Away(e.to_string())
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Object> {
    let doc: String = row.get(3)?;
    let bad = |e: serde_json::Error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(e))
    };
    Ok(Object {
        kind: row.get(0)?,
        id: row.get(1)?,
        version: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        doc: serde_json::from_str(&doc).map_err(bad)?,
        sealed: row.get(4)?,
        updated_ms: row.get(5)?,
    })
}

fn version(conn: &Connection, kind: &str, id: &str) -> Result<u64, Error> {
    let sql = "SELECT version FROM objects WHERE kind = ?1 AND id = ?2";
    let found: Option<i64> = conn.query_row(sql, [kind, id], |r| r.get(0)).optional().map_err(away)?;
    Ok(found.map_or(0, |v| u64::try_from(v).unwrap_or(0)))
}

fn write(conn: &mut Connection, mut objects: Vec<Object>) -> Result<Vec<Object>, Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(away)?;
    for o in &mut objects {
        matches(o, o.version, version(&tx, &o.kind, &o.id)?)?;
        o.version = o.version.saturating_add(1);
        let number = i64::try_from(o.version).unwrap_or(i64::MAX);
        tx.execute(
            "INSERT OR REPLACE INTO objects (kind, id, version, doc, sealed, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![o.kind, o.id, number, o.doc.to_string(), o.sealed, o.updated_ms],
        )
        .map_err(away)?;
    }
    tx.commit().map_err(away)?;
    Ok(objects)
}

impl ControlStore for Control {
    fn all(&self, kind: &str) -> BoxFuture<'_, Result<Vec<Object>, Error>> {
        let kind = kind.to_owned();
        self.ask(move |conn| {
            let sql =
                "SELECT kind, id, version, doc, sealed, updated_ms FROM objects WHERE kind = ?1 ORDER BY id";
            let mut statement = conn.prepare_cached(sql).map_err(away)?;
            let rows = statement.query_map([&kind], read).map_err(away)?;
            rows.collect::<Result<_, _>>().map_err(away)
        })
    }

    fn one(&self, kind: &str, id: &str) -> BoxFuture<'_, Result<Option<Object>, Error>> {
        let of = [kind.to_owned(), id.to_owned()];
        self.ask(move |conn| {
            let sql =
                "SELECT kind, id, version, doc, sealed, updated_ms FROM objects WHERE kind = ?1 AND id = ?2";
            let mut statement = conn.prepare_cached(sql).map_err(away)?;
            statement.query_row(of, read).optional().map_err(away)
        })
    }

    fn put(&self, objects: Vec<Object>) -> BoxFuture<'_, Result<Vec<Object>, Error>> {
        self.ask(move |conn| write(conn, objects))
    }

    fn remove(&self, kind: &str, id: &str, version: u64) -> BoxFuture<'_, Result<(), Error>> {
        let (kind, id) = (kind.to_owned(), id.to_owned());
        self.ask(move |conn| {
            let found = self::version(conn, &kind, &id)?;
            if found == 0 {
                return Ok(());
            }
            if found != version {
                return Err(Error::Conflict { kind, id, expected: version, found });
            }
            conn.execute("DELETE FROM objects WHERE kind = ?1 AND id = ?2", [&kind, &id]).map_err(away)?;
            Ok(())
        })
    }
}
