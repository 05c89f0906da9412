//! One thread that writes, many operations to a commit, and one that reads.

use super::table::Sql;
use crate::database::{self, Checkpoint, sql};
use crate::reader;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, TransactionBehavior};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::oneshot;
use types::runs::Error;
use types::store;

/// Operations that may wait.
pub(super) const QUEUE: usize = 4_096;

/// Operations of one commit. While one commit is on its way to the disk the next operations gather, so that
/// no operation ever waits for company.
const BATCH: usize = 256;

/// Pause before the write-ahead log is emptied again of what was forgotten.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells who asked, once it is known whether the commit held.
type Reply = Box<dyn FnOnce(Result<(), String>) + Send>;
/// An operation on the connection that writes; true = it forgot something.
pub(super) type Write = Box<dyn FnOnce(&Connection) -> (Reply, bool) + Send>;
/// An operation on the connection that reads.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// An operation for the writer, and its answer.
pub(super) fn write<T: Send + 'static>(
    op: impl FnOnce(&mut Sql<'_>) -> Result<T, Error> + Send + 'static,
) -> (Write, BoxFuture<'static, Result<T, Error>>) {
    let (reply, answer) = oneshot::channel();
    let write: Write = Box::new(move |conn| {
        let (result, forgot) = within_savepoint(conn, op);
        // Who asked may have left; then nobody misses the answer.
        let told: Reply = Box::new(move |committed: Result<(), String>| {
            let committed = committed.map_err(|e| Error::Store(store::Error::Database(e)));
            drop(reply.send(committed.and(result)));
        });
        (told, forgot)
    });
    (write, Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) }))
}

/// An operation for the reader, and its answer. It sees one state of all tables.
pub(super) fn read<T: Send + 'static>(
    op: impl FnOnce(&mut Sql<'_>) -> Result<T, Error> + Send + 'static,
) -> (Read, BoxFuture<'static, Result<T, Error>>) {
    let (to, answer) = oneshot::channel();
    let read: Read = Box::new(move |conn| {
        reader::reply(to, || {
            let tx = conn.unchecked_transaction().map_err(sql)?;
            op(&mut Sql::new(&tx))
        });
    });
    (read, Box::pin(async move { answer.await.unwrap_or_else(|_| Err(closed())) }))
}

/// Puts an operation into a thread's queue.
///
/// # Errors
/// The queue is full, or the store is closed.
pub(super) fn send<J>(to: Option<&SyncSender<J>>, job: J) -> Result<(), Error> {
    let sent = to.ok_or_else(closed)?.try_send(job);
    sent.map_err(|e| match e {
        TrySendError::Full(_) => Error::Store(store::Error::Full("the queue of the runs")),
        TrySendError::Disconnected(_) => closed(),
    })
}

fn closed() -> Error {
    Error::Store(store::Error::Database("the runs are closed, or their disk refuses".to_owned()))
}

/// Body of the writer's thread; ends when nobody can ask any more.
pub(super) fn run_writer(mut conn: Connection, jobs: &Receiver<Write>) {
    // What was forgotten may still stand in the write-ahead log.
    let mut unclean = false;
    loop {
        let first = match unclean {
            true => jobs.recv_timeout(AGAIN),
            false => jobs.recv().map_err(RecvTimeoutError::from),
        };
        match first {
            Ok(first) => {
                let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH.saturating_sub(1)));
                unclean |= commit(&mut conn, batch);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        unclean = unclean && !is_emptied(&conn);
    }
    if !is_emptied(&conn) {
        tracing::warn!("the runs' write-ahead log stays for the next start");
    }
}

/// Brings the write-ahead log into the database and empties it; false = somebody reads, or the disk refuses.
fn is_emptied(conn: &Connection) -> bool {
    database::checkpoint(conn, Checkpoint::Truncate).unwrap_or_else(|error| {
        tracing::warn!(%error, "the runs' write-ahead log cannot be emptied");
        false
    })
}

/// Makes one commit of many operations; true = some of them forgot something.
fn commit(conn: &mut Connection, batch: impl Iterator<Item = Write>) -> bool {
    let mut replies: Vec<Reply> = Vec::new();
    let mut forgot = false;
    let work = || -> rusqlite::Result<()> {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in batch {
            let (reply, forgets) = job(&tx);
            replies.push(reply);
            forgot |= forgets;
        }
        tx.commit()
    };
    let done = work().map_err(|e| e.to_string());
    if let Err(error) = &done {
        tracing::error!(error, "the runs cannot be written");
    }
    for reply in replies {
        reply(done.clone());
    }
    forgot
}

/// An operation that fails leaves nothing behind and does not touch those it shares the commit with.
fn within_savepoint<T>(
    conn: &Connection,
    op: impl FnOnce(&mut Sql<'_>) -> Result<T, Error>,
) -> (Result<T, Error>, bool) {
    let mut tables = Sql::new(conn);
    let within = || {
        conn.execute_batch("SAVEPOINT op").map_err(sql)?;
        let result = op(&mut tables);
        let end = if result.is_ok() { "RELEASE op" } else { "ROLLBACK TO op; RELEASE op" };
        conn.execute_batch(end).map_err(sql)?;
        result
    };
    (within(), tables.forgot)
}

/// Body of the reader's thread; ends when nobody can ask any more.
pub(super) fn run_reader(conn: &Connection, jobs: &Receiver<Read>) {
    while let Ok(job) = jobs.recv() {
        job(conn);
    }
}
