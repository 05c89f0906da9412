//! The questions every error of the house answers.

use serde::{Deserialize, Serialize};

/// Who can do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The request is wrong.
    Client,
    /// A policy forbids it.
    Policy,
    /// A limit or budget is used up.
    Capacity,
    /// A provider failed.
    Upstream,
    /// We failed.
    Internal,
}
