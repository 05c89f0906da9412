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
    Merged,
    Done,
    Partial,
    ToolError,
    Denied,
    Approved,
    Expired,
    Error,
    Timeout,
    Cancelled,
    Skipped,
    /// One of the node's own words (`classify`), by position.
    Label(u8),
}

impl Outcome {
    /// As written in files and records; a label's own word is the node's to say.
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
            Outcome::Merged => "merged",
            Outcome::Done => "done",
            Outcome::Partial => "partial",
            Outcome::ToolError => "tool_error",
            Outcome::Denied => "denied",
            Outcome::Approved => "approved",
            Outcome::Expired => "expired",
            Outcome::Label(_) => "label",
            Outcome::Error => "error",
            Outcome::Timeout => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Skipped => "skipped",
        }
    }

    const fn bit(self) -> u64 {
        let at = match self {
            Outcome::Ok => 0,
            Outcome::ToolCalls => 1,
            Outcome::Refused => 2,
            Outcome::Truncated => 3,
            Outcome::Passed => 4,
            Outcome::Unverified => 5,
            Outcome::Failed => 6,
            Outcome::Repaired => 7,
            Outcome::Exhausted => 8,
            Outcome::Scored => 9,
            Outcome::Abstained => 10,
            Outcome::Selected => 11,
            Outcome::NoConsensus => 12,
            Outcome::None => 13,
            Outcome::Delivered => 14,
            Outcome::Rejected => 15,
            Outcome::Merged => 16,
            Outcome::Done => 17,
            Outcome::Partial => 18,
            Outcome::ToolError => 19,
            Outcome::Denied => 20,
            Outcome::Approved => 21,
            Outcome::Expired => 22,
            Outcome::Error => 23,
            Outcome::Timeout => 24,
            Outcome::Cancelled => 25,
            Outcome::Skipped => 26,
            Outcome::Label(i) => 32 + (i as u32 & 31),
        };
        1 << at
    }
}

/// A set of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutcomeSet(u64);

impl OutcomeSet {
    pub(crate) const EMPTY: OutcomeSet = OutcomeSet(0);

    pub(crate) const fn of(list: &[Outcome]) -> Self {
        let mut bits = 0_u64;
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

    pub(crate) const fn meet(self, other: OutcomeSet) -> OutcomeSet {
        OutcomeSet(self.0 & other.0)
    }

    pub(crate) const fn meets(self, other: OutcomeSet) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn includes(self, other: OutcomeSet) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}
