//! How far the log has been stored and observed, and who waits for it.

use crate::lock;
use std::sync::{Condvar, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use types::store::{Error, Seq};

/// How far a store's own thread has come; written by that thread, waited for by everybody else.
pub(crate) struct Progress {
    at: Mutex<At>,
    /// For threads, which wait in real time even where a test has paused tokio's clock.
    changed: Condvar,
    /// For tasks.
    news: watch::Sender<()>,
}

struct At {
    position: Seq,
    /// Before this everything stands that is to be recorded of what an earlier process cut off; `None` = it is not
    /// known yet what that is.
    settled: Option<Seq>,
    trouble: Option<String>,
    stopped: bool,
}

impl Progress {
    pub(crate) fn new(position: Seq) -> Self {
        Progress {
            at: Mutex::new(At { position, settled: None, trouble: None, stopped: false }),
            changed: Condvar::new(),
            news: watch::Sender::new(()),
        }
    }

    /// Everything before `position` is stored and observed; whatever was wrong is over.
    pub(crate) fn reached(&self, position: Seq) {
        self.change(|at| {
            at.position = position;
            at.trouble = None;
        });
    }

    /// What an earlier process cut off is recorded before this position.
    pub(crate) fn settled(&self, end: Seq) {
        self.change(|at| at.settled = Some(end));
    }

    /// The database does not take records for now.
    pub(crate) fn troubled(&self, why: String) {
        self.change(|at| at.trouble = Some(why));
    }

    /// There will be no more progress.
    pub(crate) fn stopped(&self) {
        self.change(|at| at.stopped = true);
    }

    /// The database does not take records for now, or nobody moves them any more.
    pub(crate) fn is_troubled(&self) -> bool {
        let at = lock(&self.at);
        at.trouble.is_some() || at.stopped
    }

    fn change(&self, f: impl FnOnce(&mut At)) {
        f(&mut lock(&self.at));
        self.changed.notify_all();
        self.news.send_replace(());
    }

    /// Waits until everything before `target` is stored, and what an earlier process cut off.
    ///
    /// # Errors
    /// The database refuses, or its thread has ended.
    pub(crate) async fn wait(&self, target: Seq) -> Result<(), Error> {
        // Subscribed before the first look, so that no change falls between look and wait.
        let mut news = self.news.subscribe();
        loop {
            if let Some(result) = lock(&self.at).judge(target) {
                return result;
            }
            if news.changed().await.is_err() {
                return Err(ended());
            }
        }
    }

    /// As [`Progress::wait`], for threads, and for no longer than `limit`. Says nothing of how it ended.
    pub(crate) fn wait_blocking(&self, target: Seq, limit: Duration) {
        let at = lock(&self.at);
        let waiting = |at: &mut At| at.judge(target).is_none();
        drop(self.changed.wait_timeout_while(at, limit, waiting));
    }
}

impl At {
    fn judge(&self, target: Seq) -> Option<Result<(), Error>> {
        if self.settled.is_some_and(|end| self.position >= end.max(target)) {
            return Some(Ok(()));
        }
        match &self.trouble {
            Some(why) => Some(Err(Error::Database(why.clone()))),
            None => self.stopped.then(|| Err(ended())),
        }
    }
}

fn ended() -> Error {
    Error::Database("the store's writer has ended; records stay in the spool until the next start".to_owned())
}

/// Marks the progress as stopped when its thread ends, also by a panic.
pub(crate) struct StopsOnDrop(pub(crate) std::sync::Arc<Progress>);

impl Drop for StopsOnDrop {
    fn drop(&mut self) {
        self.0.stopped();
    }
}
