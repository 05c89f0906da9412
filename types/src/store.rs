//! The seam to durable state. `append` is the only recording on the reply path.

use crate::begun::Begun;
use crate::decision::Decision;
use crate::outcome::{Feedback, Late, Outcome};
use crate::run::Run;
use crate::usage;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

/// Position of a record in the log: grows with every record, never reused.
pub type Seq = u64;

/// All that is kept of one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// How it was decided.
    pub decision: Decision,
    /// What ran.
    pub run: Run,
    /// How it turned out.
    pub outcome: Outcome,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A request, at its end.
    Request(Box<RequestRecord>),
    /// A word on an answer.
    Feedback(Feedback),
    /// What was paid for after an answer.
    Late(Late),
    /// A call of a model that is about to be made.
    Begun(Begun),
    /// Statistics go back to the state that was saved then, Unix milliseconds ([`Saved::unix_ms`]).
    GoBack(i64),
}

/// A state of the statistics that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// When the last request of it ended, Unix milliseconds.
    pub unix_ms: i64,
    /// Its length.
    pub bytes: u64,
}

/// A request as it is found again: its record, the outcome as it stands now, all feedback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What was written at its end.
    #[serde(flatten)]
    pub record: RequestRecord,
    /// All feedback, oldest first.
    pub feedback: Vec<Feedback>,
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk or database failed.
    #[error("store: {0}")]
    Io(#[from] std::io::Error),
    /// The database failed.
    #[error("store: {0}")]
    Database(String),
    /// A limit is reached (spool size, disk).
    #[error("store: {0} is full")]
    Full(&'static str),
    /// What was found is not what this version writes.
    #[error("store: {0}")]
    Corrupt(String),
    /// The request was here, and its record was erased when its time was over (`log: {retention}`).
    #[error("store: the record was erased when its retention was over")]
    Erased {
        /// Whose request it was.
        tenant: String,
    },
}

/// Where records go and are found again.
pub trait OutcomeStore: Send + Sync {
    /// Writes a record so that it survives a killed process: one `write`, no wait on a database, well
    /// under a millisecond. May be called from async code.
    ///
    /// # Errors
    /// The record was not written.
    fn append(&self, record: &Record) -> Result<Seq, Error>;

    /// Whether what was appended last may wait in memory, because the disk refuses: it would not survive the process.
    fn degraded(&self) -> bool {
        false
    }

    /// Waits until everything appended so far has been stored and observed.
    fn flush(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Finds a request; sees everything appended before the call.
    ///
    /// # Errors
    /// [`Error::Erased`]; the store failed.
    fn request(&self, request_id: &str) -> BoxFuture<'_, Result<Option<Stored>, Error>>;

    /// What was used and what it cost; sees everything appended before the call.
    fn usage(&self, query: usage::Query) -> BoxFuture<'_, Result<usage::Report, Error>>;

    /// The states of the statistics that are kept, newest first; sees everything appended before the call.
    fn saved(&self) -> BoxFuture<'_, Result<Vec<Saved>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// The newest requests, newest first; those that are erased are none.
    fn recent(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Stored>, Error>>;
}

/// Who is told of every record, in the order of the log, exactly once per log even across restarts.
/// Called from the store's own thread.
pub trait Observer: Send {
    /// Takes up a state saved earlier.
    ///
    /// # Errors
    /// The state is not readable; observation then starts from nothing.
    fn restore(&mut self, state: &[u8]) -> Result<(), String>;

    /// Its state as it stands, as [`Observer::restore`] takes it; `None` = it cannot be given.
    fn state(&self) -> Option<Vec<u8>> {
        None
    }

    /// A request ended.
    fn outcome(&mut self, seq: Seq, outcome: &Outcome);

    /// Somebody said something of a stored request; gives the outcome as it stands now.
    /// `all` is every word on it so far, the newest last, one per source.
    fn feedback(&mut self, seq: Seq, outcome: &Outcome, all: &[Feedback]) -> Outcome;

    /// A batch is done: publish what was learned. `Some` state is stored in the same transaction as the
    /// batch, and given to [`Observer::restore`] after a restart.
    fn batch_done(&mut self) -> Option<Vec<u8>>;
}
