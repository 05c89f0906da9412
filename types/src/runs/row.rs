//! A run as it is asked for and as it is kept.

use super::{Durability, Record, State, Usd};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the author of a workflow says of it, for the records of its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authored {
    /// What this state of it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
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
    /// What is said of the workflow, where that is named.
    pub authored: Authored,
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
    /// So many runs of the tenant may be queued with it; `None` = any number.
    pub room: Option<usize>,
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
    /// What is said of the workflow.
    #[serde(default)]
    pub authored: Authored,
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
    /// When it is forgotten, once it has ended; `None` = when runs of its age are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_ms: Option<i64>,
    /// A suspended run wakes by itself then; a queued one is not taken before.
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

/// Who owns a run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The worker.
    pub owner: String,
    /// Unix time in milliseconds at which the run is anybody's.
    pub until_ms: i64,
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
