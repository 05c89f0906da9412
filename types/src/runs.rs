//! The seam to durable runs: what is kept of a run, who may advance it, and where it is found again.
//!
//! A run is owned through a [`Lease`] whose epoch grows with every owner; whatever an earlier owner still
//! writes is refused ([`Error::Stale`]). Everything here is of the class `ledger` (`reliability.md` §6): what
//! a call acknowledged survives power loss. The time of leases, waits and expiry is the store's own.

use crate::decision::Decision;
use crate::store;
use crate::units::Usd;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

mod journal;

pub use journal::{Entry, PlanChoice, Record, SideEffect};

/// How long an owner may be silent before another one takes the run over.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often an owner renews its lease.
pub const RENEW: Duration = Duration::from_secs(5);
/// How long an `Idempotency-Key` is remembered.
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Most runs on one page of a list.
pub const PAGE: usize = 200;
/// Most records in one reading of a journal.
pub const JOURNAL_PAGE: usize = 1_000;
/// When a webhook is tried, counted from the end of its run: eight times over 24 hours.
pub const WEBHOOK_TRIES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(8 * 3_600),
    Duration::from_secs(24 * 3_600),
];

/// Where a run stands (`workflow-format.md` §17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// A worker owns it, or owned it until it died.
    Running,
    /// Waits for a person's decision or for results of the client's tools.
    Suspended,
    /// Waits for a person: a tool with side effects may or may not have run.
    NeedsAttention,
    /// Ended with an answer.
    Succeeded,
    /// Ended with an error; can be resumed.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// Ended because its time was up.
    Expired,
}

impl State {
    /// Every state, in the order above.
    pub const ALL: [State; 8] = [
        State::Queued,
        State::Running,
        State::Suspended,
        State::NeedsAttention,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ];
    /// Their names, in the same order.
    pub const NAMES: &'static [&'static str] =
        &["queued", "running", "suspended", "needs_attention", "succeeded", "failed", "cancelled", "expired"];

    /// As written in the API and in stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Suspended => "suspended",
            State::NeedsAttention => "needs_attention",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// Nothing happens any more, unless a failed run is resumed.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled | State::Expired)
    }

    /// It waits for somebody outside.
    #[must_use]
    pub const fn is_waiting(self) -> bool {
        matches!(self, State::Suspended | State::NeedsAttention)
    }
}

/// When the journal is written (`workflow-format.md` §17).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Never: only the record of the request is kept.
    None,
    /// Once, at the end.
    Exit,
    /// Every 100 ms and at the end: a crash may lose the tail.
    Async,
    /// Before each call and after it, before the run goes on.
    #[default]
    Sync,
}

impl Durability {
    /// The strings of the file.
    pub const NAMES: &'static [&'static str] = &["none", "exit", "async", "sync"];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Exit => "exit",
            Durability::Async => "async",
            Durability::Sync => "sync",
        }
    }

    /// The durability of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Durability> {
        Some(match name {
            "none" => Durability::None,
            "exit" => Durability::Exit,
            "async" => Durability::Async,
            "sync" => Durability::Sync,
            _ => return None,
        })
    }
}

/// Money, tokens and calls of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// What its calls cost, reservations of calls in doubt included.
    pub usd: Usd,
    /// Input and output tokens.
    pub tokens: u64,
    /// Model calls.
    pub calls: u32,
}

/// A run to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRun {
    /// Unique; never reused.
    pub id: String,
    /// Whose run.
    pub tenant: String,
    /// Who asks for it, within the tenant.
    pub principal: String,
    /// The workflow; empty = it is chosen when the run starts.
    pub workflow: String,
    /// When its journal is written.
    pub durability: Durability,
    /// The client's own words on it, for lists.
    pub labels: BTreeMap<String, String>,
    /// What was asked, as the worker reads it.
    pub submission: Value,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// Time it may take in all, waiting included.
    pub lifetime: Duration,
    /// The key under which asking again gives the same run.
    pub key: Option<Key>,
    /// It begins with a copy of another run's journal.
    pub fork: Option<Fork>,
    /// Records that its journal begins with, after that copy.
    pub records: Vec<Record>,
}

/// An `Idempotency-Key` with its scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The route it was sent to.
    pub route: String,
    /// The header's value.
    pub key: String,
    /// Hash of the body it came with.
    pub body: String,
}

/// Which records of another run a new one begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The other run, of the same tenant.
    pub run: String,
    /// The last record that is taken over.
    pub up_to: u64,
}

/// What became of a wish for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It was made.
    New(Head),
    /// The same was asked before; this is the run of then, as it stands now.
    Again(Head),
}

impl Created {
    /// The run, made now or before.
    #[must_use]
    pub const fn head(&self) -> &Head {
        match self {
            Created::New(head) | Created::Again(head) => head,
        }
    }
}

/// Who owns a run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The worker.
    pub owner: String,
    /// Unix time in milliseconds at which the run is anybody's.
    pub until_ms: i64,
}

/// A run without its contents: what lists show. Times are Unix times in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Identifier.
    pub id: String,
    /// Whose run.
    pub tenant: String,
    /// Who asked for it.
    pub principal: String,
    /// The workflow; empty = not chosen yet.
    pub workflow: String,
    /// Hash of its pinned plan; `None` = not chosen yet.
    pub plan: Option<String>,
    /// Where it stands.
    pub state: State,
    /// When its journal is written.
    pub durability: Durability,
    /// The client's words.
    pub labels: BTreeMap<String, String>,
    /// When it was asked for.
    pub created_ms: i64,
    /// When something last changed.
    pub updated_ms: i64,
    /// When a worker first took it.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// When it expires if it has not ended.
    pub expires_ms: i64,
    /// A suspended run wakes by itself then.
    pub wake_ms: Option<i64>,
    /// Grows with every owner.
    pub epoch: u64,
    /// Who owns it.
    pub holder: Option<Holder>,
    /// Records in its journal; the sequence number of the last one.
    pub records: u64,
    /// Things posted to it from outside.
    pub posts: u64,
    /// Somebody asked for its end; why.
    pub cancel: Option<String>,
    /// What it used.
    pub spent: Spent,
    /// The run whose journal it begins with.
    pub parent: Option<Fork>,
    /// Where its end is told.
    pub callback_url: Option<String>,
}

/// A run with its contents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What lists show.
    pub head: Head,
    /// What was asked.
    pub submission: Value,
    /// What a suspended run waits for, or what needs attention.
    pub waiting: Option<Value>,
    /// The answer or the error, once it has ended.
    pub result: Option<Value>,
}

/// The right to advance a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The run.
    pub run: String,
    /// The worker.
    pub owner: String,
    /// The number of this ownership; writes under an earlier one are refused.
    pub epoch: u64,
    /// Unix time in milliseconds, by the store's clock, until which nobody else takes the run.
    pub until_ms: i64,
}

/// A run a worker has taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The right to advance it.
    pub lease: Lease,
    /// The run.
    pub row: Row,
    /// It had an owner before that did not let go of it: a crash.
    pub taken_over: bool,
}

/// What an owner learns when it renews its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// The new end of the lease.
    pub until_ms: i64,
    /// Somebody asked for the run's end; why.
    pub cancel: Option<String>,
    /// Things posted so far.
    pub posts: u64,
}

/// What an owner writes in one step; all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advance {
    /// Records for the journal, in order.
    pub records: Vec<Record>,
    /// What was chosen for the run, once that is known.
    pub plan: Option<Chosen>,
    /// What it used so far.
    pub spent: Option<Spent>,
    /// Where it stands from now on; everything but `None` ends the lease.
    pub to: Option<To>,
}

/// The workflow and plan of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Name of the workflow.
    pub workflow: String,
    /// Hash of its plan.
    pub plan: String,
    /// When the journal is written under it.
    pub durability: Durability,
}

/// Where an owner leaves a run.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// Anybody may go on with it: a shutdown.
    Queued,
    /// It waits. A post that the owner has not seen (`seen` counts those it has) queues it at once.
    Waiting {
        /// `Suspended` or `NeedsAttention`.
        state: State,
        /// What for.
        waiting: Value,
        /// It wakes by itself then, if nobody answers.
        wake_ms: Option<i64>,
        /// Posts that the owner knows.
        seen: u64,
    },
    /// It has ended.
    Ended {
        /// A final state.
        state: State,
        /// The answer or the error.
        result: Value,
    },
}

/// Something told to a run from outside: a gate's decision, results of tools, an operator's choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// What it answers: one answer each (`gate:<frame>`, `tool:<call>`, `attention:<effect>`).
    pub key: String,
    /// What is said.
    pub body: Value,
}

/// A post as it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Posted {
    /// From 1, in the order in which posts came.
    pub number: u64,
    /// Unix time in milliseconds.
    pub ts_ms: i64,
    /// What it answers.
    pub key: String,
    /// What is said.
    pub body: Value,
}

/// Which runs a list shows; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Whose runs. There is no list over all tenants.
    pub tenant: String,
    /// In one of these states; empty = in any.
    pub states: Vec<State>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With these labels.
    pub labels: Vec<(String, String)>,
    /// Asked for at this time (Unix milliseconds) or later.
    pub from_ms: Option<i64>,
    /// Asked for before this time.
    pub before_ms: Option<i64>,
    /// Only what comes after this place.
    pub after: Option<Cursor>,
    /// At most so many, and at most [`PAGE`].
    pub limit: usize,
}

/// A place in a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last run shown was asked for.
    pub created_ms: i64,
    /// Its identifier.
    pub id: String,
}

impl Cursor {
    /// As clients see it: not to be read, only to be given back.
    #[must_use]
    pub fn write(&self) -> String {
        format!("{}.{}", self.created_ms, self.id)
    }

    /// Reads what [`Cursor::write`] gave; `None` = it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Cursor> {
        let (created_ms, id) = text.split_once('.')?;
        let created_ms = created_ms.parse().ok()?;
        (!id.is_empty()).then(|| Cursor { created_ms, id: id.to_owned() })
    }
}

/// Part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub runs: Vec<Head>,
    /// Where the next page begins; `None` = there is none.
    pub next: Option<Cursor>,
}

/// A run's end that is to be told to somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Stays the same over all tries: the receiver's guard against doubles.
    pub id: String,
    /// Where to.
    pub url: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// The run.
    pub row: Row,
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was taken.
    Delivered,
    /// It was not; it is tried again when [`WEBHOOK_TRIES`] says so, or given up after the last.
    Failed,
}

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
    /// [`Error::KeyReused`]; [`Error::Unknown`] for the run to fork.
    fn create(&self, new: NewRun) -> BoxFuture<'_, Result<Created, Error>>;

    /// A run of a tenant.
    fn get(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Row>, Error>>;

    /// Runs of a tenant, newest first.
    fn list(&self, filter: Filter) -> BoxFuture<'_, Result<Page, Error>>;

    /// Records after sequence number `after`, oldest first, at most `limit` and [`JOURNAL_PAGE`].
    fn journal(&self, id: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// Takes runs that nobody owns and that can go on: queued ones, those whose owner fell silent, and
    /// suspended ones whose time to wake has come. Longest waiting first. Runs whose time is up are expired
    /// on the way.
    fn claim(&self, owner: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Claimed>, Error>>;

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

    /// Keeps a plan under its hash; one that is there stays as it is.
    fn put_plan(&self, hash: &str, plan: Value) -> BoxFuture<'_, Result<(), Error>>;

    /// A plan.
    fn plan(&self, hash: &str) -> BoxFuture<'_, Result<Option<Value>, Error>>;

    /// Tells a run something, all of it or nothing; a waiting run is queued. Saying the same again changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for a run that has ended; [`Error::Answered`].
    fn post(&self, tenant: &str, id: &str, posts: Vec<Post>) -> BoxFuture<'_, Result<Head, Error>>;

    /// What was posted after number `after`, in order.
    fn posted(&self, id: &str, after: u64) -> BoxFuture<'_, Result<Vec<Posted>, Error>>;

    /// Asks for a run's end. One that nobody owns ends at once; an owner learns of it when it renews. For a
    /// run that has ended it changes nothing.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    fn cancel(&self, tenant: &str, id: &str, why: &str) -> BoxFuture<'_, Result<Head, Error>>;

    /// Queues a failed or waiting run again, with a record of it, under another plan if one is given. Its time
    /// starts anew.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for a run in any other state.
    fn reopen(
        &self,
        tenant: &str,
        id: &str,
        resumed: Record,
        plan: Option<Chosen>,
    ) -> BoxFuture<'_, Result<Head, Error>>;

    /// Forgets a run that has ended, with its journal.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::State`] for one that has not ended.
    fn delete(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets runs that ended before a time (Unix milliseconds), at most `limit`, and idempotency keys that
    /// are too old; gives how many runs.
    fn purge(&self, ended_before_ms: i64, limit: usize) -> BoxFuture<'_, Result<usize, Error>>;

    /// Webhooks that are due, each for one try; untold within a minute they are due again.
    fn webhooks(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Webhook>, Error>>;

    /// What became of a try.
    fn told(&self, webhook_id: &str, told: Told) -> BoxFuture<'_, Result<(), Error>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_found_by_name() {
        for (state, name) in State::ALL.into_iter().zip(State::NAMES) {
            assert_eq!((state.as_str(), State::parse(name)), (*name, Some(state)));
        }
        assert_eq!(State::parse("done"), None);
        for name in Durability::NAMES {
            assert_eq!(Durability::parse(name).map(Durability::as_str), Some(*name));
        }
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        let cursor = Cursor { created_ms: 1_795_219_200_123, id: "run_a.b".into() };
        assert_eq!(Cursor::parse(&cursor.write()), Some(cursor));
        for wrong in ["", "12", "x.run", "12."] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
