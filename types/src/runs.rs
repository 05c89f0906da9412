//! The seam to durable runs: what is kept of a run, who may advance it, and where it is found again.
//!
//! A run is owned through a [`Lease`] whose epoch grows with every owner; whatever an earlier owner still
//! writes is refused ([`Error::Stale`]). What a call acknowledged survives power loss. The time of leases, waits and expiry is the store's own.

use crate::decision::Decision;
use crate::store;
use crate::units::Usd;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::time::Duration;

mod journal;
mod lease;
mod list;
mod post;
mod question;
mod row;
mod state;

pub use journal::{Entry, JOURNAL, PlanChoice, Record, SideEffect};
pub use lease::{Advance, Chosen, Claimed, Claims, Forgets, LEASE, Lease, RENEW, Renewed, To};
pub use list::{Cursor, Filter, PAGE, Page};
pub use post::{Post, Posted, Told, WEBHOOK_TRIES, Webhook};
pub use question::{Answer, Choice, ClientTools, Doubt, Gate, Group, Phase, Question, Word};
pub use row::{Authored, Created, Fork, Head, Holder, Key, NewRun, Row, Spent};
pub use state::{Durability, State};

/// How long an `Idempotency-Key` is remembered.
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most records in one reading of a journal.
pub const JOURNAL_PAGE: usize = 1_000;

/// Why a store of runs did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// There is no such run, or it is another tenant's.
    #[error("run `{0}` is not known")]
    Unknown(String),
    /// Another owner has taken the run, or it has ended.
    #[error("run `{run}` is no longer owned under epoch {epoch}; the epoch is {current}")]
    Stale {
        /// The run.
        run: String,
        /// Of the lease that was shown.
        epoch: u64,
        /// Of the run now.
        current: u64,
    },
    /// The run's state does not allow it.
    #[error("run `{run}` is {}", state.as_str())]
    State {
        /// The run.
        run: String,
        /// Its state.
        state: State,
    },
    /// The idempotency key came with another body before.
    #[error("the idempotency key was used with another body, for run `{run}`")]
    KeyReused {
        /// The run of then.
        run: String,
    },
    /// As many runs of the tenant are queued as may be.
    #[error("{most} runs are queued already, and no more may be")]
    Full {
        /// As many.
        most: usize,
    },
    /// The same thing was answered differently before.
    #[error("`{key}` of run `{run}` was answered before")]
    Answered {
        /// The run.
        run: String,
        /// What was answered.
        key: String,
    },
}

/// Where durable runs live. Each method is one atomic step.
pub trait RunStore: Send + Sync {
    /// Makes a run, or finds the one that the same key made.
    ///
    /// # Errors
    /// [`Error::KeyReused`]; [`Error::Full`]; [`Error::Unknown`] for the run to fork.
    fn create(&self, new: NewRun) -> BoxFuture<'_, Result<Created, Error>>;

    /// A run of a tenant.
    fn get(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Row>, Error>>;

    /// A run of a tenant as a list shows it, without what was asked and what came of it, however large those are.
    fn head(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Head>, Error>>;

    /// Runs of a tenant, newest first.
    fn list(&self, filter: Filter) -> BoxFuture<'_, Result<Page, Error>>;

    /// Records after sequence number `after`, oldest first, at most `limit` and [`JOURNAL_PAGE`].
    fn journal(&self, id: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// Takes runs that nobody owns and that can go on: queued ones, those whose owner fell silent, and
    /// suspended ones whose time to wake has come. Longest waiting first. Runs whose time is up are expired
    /// on the way.
    fn claim(&self, owner: &str, limit: usize) -> BoxFuture<'_, Result<Claims, Error>>;

    /// Keeps the lease for another [`LEASE`].
    ///
    /// # Errors
    /// [`Error::Stale`].
    fn renew(&self, lease: &Lease) -> BoxFuture<'_, Result<Renewed, Error>>;

    /// Writes what an owner did; gives the run as it stands then.
    ///
    /// # Errors
    /// [`Error::Stale`]; nothing is written then.
    fn advance(&self, lease: &Lease, step: Advance) -> BoxFuture<'_, Result<Head, Error>>;

    /// Keeps a plan under its hash, half an hour or longer and then as long as a run is pinned to it; one that is there
    /// stays as it is.
    fn put_plan(&self, hash: &str, plan: Value) -> BoxFuture<'_, Result<(), Error>>;

    /// A plan.
    fn plan(&self, hash: &str) -> BoxFuture<'_, Result<Option<Value>, Error>>;

    /// Tells a run something, all of it or nothing. Saying the same again changes nothing. A waiting run is queued, where
    /// `whole` is not empty only once every key of one of its sets has been answered, now or before: what is told bit
    /// by bit wakes it when it is complete.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for a run that has ended; [`Error::Answered`].
    fn post(
        &self,
        tenant: &str,
        id: &str,
        posts: Vec<Post>,
        whole: Vec<Vec<String>>,
    ) -> BoxFuture<'_, Result<Head, Error>>;

    /// What was posted after number `after`, in order.
    fn posted(&self, id: &str, after: u64) -> BoxFuture<'_, Result<Vec<Posted>, Error>>;

    /// Asks for a run's end. One that nobody owns ends at once; an owner learns of it when it renews. For a
    /// run that has ended it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    fn cancel(&self, tenant: &str, id: &str, why: &str) -> BoxFuture<'_, Result<Head, Error>>;

    /// Queues a failed or waiting run again, with a record of it, under another plan if one is given. Its time
    /// starts anew. `room` as for a new run.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for a run in any other state; [`Error::Full`].
    fn reopen(
        &self,
        tenant: &str,
        id: &str,
        resumed: (Record, Option<Chosen>),
        room: Option<usize>,
    ) -> BoxFuture<'_, Result<Head, Error>>;

    /// Forgets a run that has ended, with its journal.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for one that has not ended.
    fn delete(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets runs that ended before a time (Unix milliseconds) or whose own time to be forgotten has come, at most
    /// `limit`, idempotency keys that are too old, and plans that no run is pinned to any more; gives how many runs.
    fn purge(&self, ended_before_ms: i64, limit: usize) -> BoxFuture<'_, Result<usize, Error>>;

    /// Webhooks that are due, each for one try; untold within a minute they are due again.
    fn webhooks(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Webhook>, Error>>;

    /// What became of a try.
    fn told(&self, webhook_id: &str, told: Told) -> BoxFuture<'_, Result<(), Error>>;
}
