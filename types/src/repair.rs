//! How a failed answer is put right: what one attempt changes.

use serde::{Deserialize, Serialize};

/// What an attempt changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Local repair, no call.
    Fix,
    /// The same model, shown its answer and the findings.
    Reprompt,
    /// The same, in the strictest output mode.
    Structured,
    /// The same at temperature 0 with a fixed seed.
    Deterministic,
    /// The original messages with a new seed.
    Resample,
    /// The original messages with what the file has for the check that failed (`prompts`).
    Rewrite,
    /// Another model, shown the findings.
    Escalate,
}

impl Strategy {
    /// The strings of files, in the order of [`Strategy::ALL`].
    pub const NAMES: &'static [&'static str] =
        &["fix", "reprompt", "structured", "deterministic", "resample", "rewrite", "escalate"];

    /// All of them.
    pub const ALL: [Strategy; 7] = [
        Strategy::Fix,
        Strategy::Reprompt,
        Strategy::Structured,
        Strategy::Deterministic,
        Strategy::Resample,
        Strategy::Rewrite,
        Strategy::Escalate,
    ];

    /// As in files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Strategy::Fix => "fix",
            Strategy::Reprompt => "reprompt",
            Strategy::Structured => "structured",
            Strategy::Deterministic => "deterministic",
            Strategy::Resample => "resample",
            Strategy::Rewrite => "rewrite",
            Strategy::Escalate => "escalate",
        }
    }

    /// The strategy of that name.
    #[must_use]
    pub fn of(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// What the record says a call of it is for.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Strategy::Fix => "repair:fix",
            Strategy::Reprompt => "repair:reprompt",
            Strategy::Structured => "repair:structured",
            Strategy::Deterministic => "repair:deterministic",
            Strategy::Resample => "repair:resample",
            Strategy::Rewrite => "repair:rewrite",
            Strategy::Escalate => "repair:escalate",
        }
    }

    /// Whether it changes model or sampling, so that it may help where the last answer changed nothing.
    #[must_use]
    pub const fn breaks_deadlock(self) -> bool {
        matches!(self, Strategy::Deterministic | Strategy::Resample | Strategy::Escalate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_strategy() {
        for (strategy, name) in Strategy::ALL.into_iter().zip(Strategy::NAMES) {
            assert_eq!((strategy.as_str(), Strategy::of(name)), (*name, Some(strategy)));
            assert_eq!(serde_json::to_value(strategy).unwrap(), *name);
            assert_eq!(strategy.purpose(), format!("repair:{name}"));
        }
        assert_eq!(Strategy::NAMES.len(), Strategy::ALL.len());
        assert_eq!(Strategy::of("pray"), None);
    }
}
