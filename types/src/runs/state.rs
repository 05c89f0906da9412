//! Where a run stands, and when its journal is written: the words of the API, of files and of stores.

use serde::{Deserialize, Serialize};

/// Where a run stands.
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

/// When the journal is written.
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
}
