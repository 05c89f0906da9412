//! What a model call is for.

use crate::repair::Strategy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What a model call is for: the same string in records, journals and `turnout explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The answer of a workflow, by the model that was asked for it first.
    Primary,
    /// The same, by another model, after the one before it failed.
    Fallback,
    /// Another answer that a workflow works with.
    Generate,
    /// One of several answers to one question.
    Sample,
    /// Beside a slow call, for whichever answers first.
    Hedge,
    /// In the place of a stream that broke before it had content.
    Retry,
    /// What a broken stream still lacks.
    Continue,
    /// Several answers made into one.
    Synthesize,
    /// What an answer is worth.
    Judge,
    /// Which of several classes a request is of.
    Classify,
    /// An answer in the place of one that failed its checks.
    Repair(Strategy),
    /// Begun by a process that ended before it noted what for.
    Unsettled,
    /// Written by another version.
    Other(Box<str>),
}

/// Those that stand for themselves, by name.
const NAMED: [Purpose; 11] = [
    Purpose::Primary,
    Purpose::Fallback,
    Purpose::Generate,
    Purpose::Sample,
    Purpose::Hedge,
    Purpose::Retry,
    Purpose::Continue,
    Purpose::Synthesize,
    Purpose::Judge,
    Purpose::Classify,
    Purpose::Unsettled,
];

impl Purpose {
    /// Its name; that of a repair is `repair:<strategy>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Purpose::Primary => "primary",
            Purpose::Fallback => "fallback",
            Purpose::Generate => "generate",
            Purpose::Sample => "sample",
            Purpose::Hedge => "hedge",
            Purpose::Retry => "retry",
            Purpose::Continue => "continue",
            Purpose::Synthesize => "synthesize",
            Purpose::Judge => "judge",
            Purpose::Classify => "classify",
            Purpose::Unsettled => "unsettled",
            Purpose::Repair(strategy) => strategy.purpose(),
            Purpose::Other(name) => name,
        }
    }

    /// The purpose of that name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let repair = || name.strip_prefix("repair:").and_then(Strategy::of).map(Purpose::Repair);
        let named = NAMED.iter().find(|p| p.as_str() == name).cloned();
        named.or_else(repair).unwrap_or_else(|| Purpose::Other(name.into()))
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Purpose {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Purpose {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(d).map(|name| Purpose::of(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_purpose_is_read_back_from_its_name() {
        let repairs = Strategy::ALL.into_iter().map(Purpose::Repair);
        let other = Purpose::Other("escalate".into());
        for purpose in NAMED.into_iter().chain(repairs).chain([other]) {
            let written = serde_json::to_value(&purpose).unwrap();
            assert_eq!(written, purpose.to_string());
            assert_eq!(serde_json::from_value::<Purpose>(written).unwrap(), purpose);
        }
        assert_eq!(Purpose::of("repair:pray"), Purpose::Other("repair:pray".into()));
    }
}
