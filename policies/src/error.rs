//! What can go wrong when policies are evaluated.

use types::directives::{Directives, RuleId, RuleRecord};
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
        /// What was evaluated until then, that rule included; what comes after it is not.
        evaluated: Vec<RuleRecord>,
    },
    /// The request asks, by an option of its own, for something that is not there.
    #[error("`{option}`: {message}")]
    Option {
        /// Member or header that says so, such as `routing.validators`.
        option: String,
        /// What is wrong with it and what would be right.
        message: String,
    },
}

impl Error {
    /// What is on record of an evaluation that ended in this error: what each rule said until then. What they read is
    /// not among it, for what keeps values out of records may be a rule that was not asked any more.
    #[must_use]
    pub fn until_then(&self) -> Directives {
        match self {
            Error::Evaluation { evaluated, .. } => {
                Directives { rules: evaluated.clone(), ..Directives::default() }
            }
            Error::Option { .. } => Directives::default(),
        }
    }

    /// Who can mend it: the operator, so `internal` (HTTP 500), or the client for its own options.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Error::Evaluation { .. } => Blame::Internal,
            Error::Option { .. } => Blame::Client,
        }
    }

    /// Whether the same request may succeed later without a change: no.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }

    /// Stable machine-readable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Error::Evaluation { .. } => "policy.evaluation_failed",
            Error::Option { .. } => "invalid_option",
        }
    }

    /// What the client may read: the rule's name, nothing of its inputs or its text; all about its own options.
    #[must_use]
    pub fn public_message(&self) -> String {
        match self {
            Error::Evaluation { rule, .. } => format!("policy rule `{rule}` could not be evaluated"),
            Error::Option { .. } => self.to_string(),
        }
    }
}
