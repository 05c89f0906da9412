//! Answers questions from a connection of its own, on a thread of its own, seeing all that was written before.

use crate::database::query::Finder;
use crate::progress::Progress;
use crate::runs::Clock;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::oneshot;
use types::store::{Error, Saved, Seq, Stored};
use types::usage::{Query, Report};

/// Questions that may wait.
pub(crate) const QUEUE: usize = 1_024;

/// The most requests one answer holds.
pub(crate) const MAX_RECENT: usize = 10_000;

/// How long a question waits for the writer before it is answered from what is there.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question, the position it wants to see, and where the answer goes.
pub(crate) enum Ask {
    /// One request.
    Request(String, Seq, oneshot::Sender<Result<Option<Stored>, Error>>),
    /// Sums for a report.
    Usage(Query, Seq, oneshot::Sender<Result<Report, Error>>),
    /// States of the statistics.
    Saved(Seq, oneshot::Sender<Result<Vec<Saved>, Error>>),
    /// The newest requests.
    Recent(usize, Seq, oneshot::Sender<Result<Vec<Stored>, Error>>),
}

impl Ask {
    fn target(&self) -> Seq {
        match self {
            Ask::Request(_, target, _)
            | Ask::Usage(_, target, _)
            | Ask::Saved(target, _)
            | Ask::Recent(_, target, _) => *target,
        }
    }

    fn answer(self, finder: &mut Finder, clock: &Clock) {
        match self {
            Ask::Request(id, _, to) => reply(to, || finder.request(&id, clock.now_ms())),
            Ask::Usage(query, _, to) => reply(to, || finder.usage(&query)),
            Ask::Saved(_, to) => reply(to, || finder.saved()),
            Ask::Recent(limit, _, to) => reply(to, || finder.recent(limit.min(MAX_RECENT))),
        }
    }
}

/// Answers who still waits: for one who has left nothing is read, since others stand behind it.
pub(crate) fn reply<T>(to: oneshot::Sender<T>, answer: impl FnOnce() -> T) {
    if !to.is_closed() {
        // Who leaves while it is read does not miss it.
        drop(to.send(answer()));
    }
}

/// Body of the reader's thread; ends when nobody can ask any more.
///
/// Whatever has gathered waits for the writer together, so that a writer that is stuck costs a question
/// twice the patience at most, however many there are.
pub(crate) fn run(asks: &Receiver<Ask>, finder: &mut Finder, progress: &Progress, clock: &Clock) {
    while let Ok(first) = asks.recv() {
        let mut gathered = vec![first];
        gathered.extend(asks.try_iter().take(QUEUE));
        let target = gathered.iter().map(Ask::target).max().unwrap_or(0);
        progress.wait_blocking(target, PATIENCE);
        for ask in gathered {
            ask.answer(finder, clock);
        }
    }
}

/// Puts a question into the queue.
///
/// # Errors
/// The queue is full, or the reader has ended.
pub(crate) fn send(asks: &SyncSender<Ask>, ask: Ask) -> Result<(), Error> {
    asks.try_send(ask).map_err(|e| match e {
        TrySendError::Full(_) => Error::Full("the queue of questions"),
        TrySendError::Disconnected(_) => ended(),
    })
}

/// The reader has ended.
pub(crate) fn ended() -> Error {
    Error::Database("the store is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_for_one_who_has_left() {
        let (to, mut answer) = oneshot::channel();
        reply(to, || 1);
        assert_eq!(answer.try_recv(), Ok(1));
        let (to, answer) = oneshot::channel::<u8>();
        drop(answer);
        reply(to, || panic!("it is read"));
    }
}
