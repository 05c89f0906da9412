//! Owning a run: the right to advance it, and what an owner does with it.

use super::{Authored, Durability, Head, Record, Row, Spent, State};
use serde_json::Value;
use std::time::Duration;

/// How long an owner may be silent before another one takes the run over.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often an owner renews its lease.
pub const RENEW: Duration = Duration::from_secs(5);

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

/// What came of looking for runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Those that were taken.
    pub taken: Vec<Claimed>,
    /// Those that ended on the way, since their time was up and nobody owned them.
    pub expired: Vec<Head>,
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
    /// What is not kept of it, where it ends with this step.
    pub forgets: Forgets,
}

/// What of a run is not kept once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgets {
    /// What led to its end: its journal before the records of the last step, what was asked, what was posted.
    pub contents: bool,
    /// The whole run, this long after its end; `None` = it goes when runs of its age go.
    pub after: Option<Duration>,
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
    /// What is said of the workflow.
    pub authored: Authored,
}

/// Where an owner leaves a run.
#[derive(Clone, Debug, PartialEq)]
pub enum To {
    /// Anybody may go on with it, after a while: a shutdown, or there is no room for it now.
    Queued {
        /// Nobody takes it before; zero = at once.
        wait: Duration,
    },
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
