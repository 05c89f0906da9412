//! The ways in which nodes resolve, and sets of them.

/// How a node resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    ToolCalls,
    Refused,
    Truncated,
    Passed,
    Unverified,
    Failed,
    Repaired,
    Exhausted,
    Scored,
    Abstained,
    Selected,
    NoConsensus,
    None,
    Delivered,
    Rejected,
    Error,
    Timeout,
    Cancelled,
    Skipped,
}

impl Outcome {
    /// As written in files and records.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ToolCalls => "tool_calls",
            Outcome::Refused => "refused",
            Outcome::Truncated => "truncated",
            Outcome::Passed => "passed",
            Outcome::Unverified => "unverified",
            Outcome::Failed => "failed",
            Outcome::Repaired => "repaired",
            Outcome::Exhausted => "exhausted",
            Outcome::Scored => "scored",
            Outcome::Abstained => "abstained",
            Outcome::Selected => "selected",
            Outcome::NoConsensus => "no_consensus",
            Outcome::None => "none",
            Outcome::Delivered => "delivered",
            Outcome::Rejected => "rejected",
            Outcome::Error => "error",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Skipped => "skipped",
        }
    }

    const fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// A set of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutcomeSet(u32);

impl OutcomeSet {
    pub(crate) const EMPTY: OutcomeSet = OutcomeSet(0);

    pub(crate) const fn of(list: &[Outcome]) -> Self {
        let mut bits = 0;
        let mut rest = list;
        while let [first, tail @ ..] = rest {
            bits |= first.bit();
            rest = tail;
        }
        OutcomeSet(bits)
    }

    pub(crate) const fn contains(self, o: Outcome) -> bool {
        self.0 & o.bit() != 0
    }

    pub(crate) const fn union(self, other: OutcomeSet) -> OutcomeSet {
        OutcomeSet(self.0 | other.0)
    }

    pub(crate) const fn with(self, o: Outcome) -> OutcomeSet {
        OutcomeSet(self.0 | o.bit())
    }

    pub(crate) const fn meets(self, other: OutcomeSet) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn includes(self, other: OutcomeSet) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}
