//! What can go wrong when policies are evaluated.

use types::directives::RuleId;
use types::error::Blame;

/// Why policies gave no directives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rule with `on_error: closed` could not be evaluated, so the request is refused rather than let
    /// through unrestricted.
    #[error("rule `{rule}` could not be evaluated: {detail}")]
    Evaluation {
        /// The rule or policy.
        rule: RuleId,
        /// What happened and where in the rule; never the values it read.
        detail: String,
    },
}

impl Error {
    /// Who can mend it: the operator, so `internal` (HTTP 500), never the client.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        Blame::Internal
    }

    /// Whether the same request may succeed later without a change: no.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }

    /// Stable machine-readable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "policy.evaluation_failed"
    }

    /// What the client may read: the rule's name, nothing of its inputs or its text.
    #[must_use]
    pub fn public_message(&self) -> String {
        let Error::Evaluation { rule, .. } = self;
        format!("policy rule `{rule}` could not be evaluated")
    }
}
