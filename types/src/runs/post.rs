//! What is told to a run from outside, and what the outside is told of it.

use super::Row;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

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
