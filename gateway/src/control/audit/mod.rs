//! The audit trail: every change of the control plane and every refused request, chained and signed.
//!
//! One thread writes; a change waits until its line is on the disk, a refused request does not wait: what does not
//! fit into the queue is counted and becomes a line of its own.

mod afar;
mod anchor;
mod figures;
mod folder;
mod keys;
mod line;
mod open;
mod read;
mod receipt;
mod tail;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

pub(crate) use afar::Afar;
pub use figures::{Figures, figures};
pub(crate) use read::{Look, Wanted, read};
pub(crate) use receipt::{Line, Receipts};
pub(crate) use verify::verify_against;
#[cfg(test)]
pub(crate) use verify::verify_folder;

use serde_json::{Map, Value};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use writer::{Job, Writer};

/// Name of the chain.
pub(crate) const CHAIN: &str = "admin";
/// The action of a line that says that something is missing before it.
const GAP: &str = "audit.gap";
/// The action of a line that announces the key which seals what comes after the next seal.
const NEW_KEY: &str = "audit.key";
/// The action of the first line that is sealed with it: whoever announced it holds it.
const KEY_IN_FORCE: &str = "audit.key_in_force";
/// Every action that a line may have, in order.
pub(crate) const ACTIONS: &[&str] = &[
    "admin.denied",
    "approval.approve",
    "approval.reject",
    "approval.void",
    GAP,
    NEW_KEY,
    KEY_IN_FORCE,
    "bundle.activate",
    "bundle.auto_rollback",
    "bundle.refused",
    "bundle.reload",
    "bundle.rollback",
    "bundle.shadow",
    "bundle.shadow_end",
    "bundle.start",
    "bundle.upload",
    "key.change",
    "key.create",
    "key.revoke",
    "key.rotate",
    "key.suspend",
    "key.tripped",
    "policy.delete",
    "policy.notify",
    "policy.put",
    "pool.delete",
    "pool.put",
    "provider_key.change",
    "provider_key.create",
    "provider_key.remove",
    "provider_key.rewrap",
    "request.denied",
    "request.gated",
    "statistics.rollback",
    "tenant.change",
    "tenant.create",
    "tenant.remove",
];
/// Where such lines name the key, in hexadecimal.
const PUBLIC: &str = "public_key";
/// The type of the webhook that tells an anchor.
pub(crate) const ANCHOR: &str = "audit.anchor";
/// Folder within the data directory.
pub(crate) const FOLDER: &str = "audit";
/// A seal follows the first unsealed line after this time.
const SEAL_AFTER: Duration = Duration::from_secs(60);
/// Lines that may wait.
const QUEUE: usize = 4_096;

/// Something that happened. `before` and `after` are hashes; what was said stays out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    pub(crate) actor_kind: &'static str,
    pub(crate) actor: String,
    pub(crate) action: &'static str,
    pub(crate) target: String,
    pub(crate) tenant: String,
    pub(crate) request: String,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// Strings and integers only.
    pub(crate) detail: Map<String, Value>,
    /// Who is told of the line.
    pub(crate) receipts: Receipts,
}

impl Event {
    /// Something is missing before this line; `what` says of what kind, `value` how much.
    fn gap(what: &str, value: impl Into<Value>) -> Event {
        let detail = Map::from_iter([(what.to_owned(), value.into())]);
        Event { actor_kind: "system", action: GAP, detail, ..Event::default() }
    }
}

/// A key that came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// The line that announced it.
    pub(crate) line: Line,
    /// Its public half, in hexadecimal.
    pub(crate) public_key: String,
    /// Its name in seals.
    pub(crate) key: String,
}

/// The trail of one data directory.
pub(crate) struct Audit {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
    newest: watch::Receiver<Option<Value>>,
}

impl Audit {
    /// Opens the trail, checks that what is there holds, and continues it. `elsewhere` is a file to which its anchor
    /// is written besides.
    ///
    /// # Errors
    /// The folder cannot be used; or the trail is broken, or shorter than it was: it is not continued as if it were not.
    pub(crate) fn open(data: &Path, boot: String, elsewhere: Option<&Path>) -> io::Result<Audit> {
        Audit::open_sealing_after(data, boot, elsewhere, SEAL_AFTER)
    }

    fn open_sealing_after(
        data: &Path,
        boot: String,
        elsewhere: Option<&Path>,
        seal_after: Duration,
    ) -> io::Result<Audit> {
        Audit::of(Writer::open(data, boot, elsewhere)?, seal_after)
    }

    /// A trail whose disk takes nothing any more: its file is open for reading alone.
    #[cfg(test)]
    pub(crate) fn refusing(data: &Path) -> io::Result<Audit> {
        let mut writer = Writer::open(data, "refusing".to_owned(), None)?;
        writer.file = tail::Tail::of(std::fs::File::open(folder::name(&writer.folder, 1))?)?;
        Audit::of(writer, SEAL_AFTER)
    }

    fn of(writer: Writer, seal_after: Duration) -> io::Result<Audit> {
        let (lost, newest) = (writer.lost.clone(), writer.newest.subscribe());
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let thread =
            thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&queue, seal_after))?;
        Ok(Audit { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), lost, newest })
    }

    /// Writes a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// It is not: what it is about must not happen.
    pub(crate) async fn record(&self, event: Event) -> io::Result<Line> {
        let (tell, answer) = oneshot::channel();
        self.send(Job::Sync(Box::new(event), tell))?;
        answer.await.unwrap_or_else(|_| Err(away()))
    }

    /// Has the trail sealed with a new key from now on. The line is completed with that key, sealed with the one before,
    /// and on the disk when this returns.
    ///
    /// # Errors
    /// It is not, and the key in force stays until a seal can be written.
    pub(crate) async fn rotate(&self, event: Event) -> io::Result<Rotated> {
        let (tell, answer) = oneshot::channel();
        self.send(Job::Rotate(Box::new(event), tell))?;
        answer.await.unwrap_or_else(|_| Err(away()))
    }

    /// The newest anchor: how far the trail was sealed last.
    pub(crate) fn newest(&self) -> watch::Receiver<Option<Value>> {
        self.newest.clone()
    }

    fn send(&self, job: Job) -> io::Result<()> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or_else(away)?.try_send(job).map_err(|_| away())
    }

    /// Writes a line soon. What does not fit is counted, and the count becomes a line.
    pub(crate) fn note(&self, event: Event) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().map(|j| j.try_send(Job::Later(Box::new(event))));
        if !matches!(sent, Some(Ok(()))) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

fn away() -> io::Error {
    io::Error::other("the audit trail cannot be written")
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread of the audit trail had panicked");
        }
    }
}
