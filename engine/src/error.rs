//! Why a request got no answer.

use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use types::directives::Denial;
use types::limits::{Shortage, Standing};
use types::provider::{self, ErrorKind};
use types::{Blame, Finding};

/// What went wrong, one variant per thing a caller treats differently.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Kind {
    /// The `model` names nothing.
    #[error("model `{name}` is not known; {hint}")]
    UnknownModel {
        /// As asked.
        name: String,
        /// The nearest names, or where to find the list.
        hint: String,
    },
    /// The workflow asked for does not exist.
    #[error("workflow `{name}` is not known; {hint}")]
    UnknownWorkflow {
        /// As asked.
        name: String,
        /// The member of the request that says so; `None` = a rule does.
        param: Option<&'static str>,
        /// The nearest names.
        hint: String,
    },
    /// The request asks for something that cannot be.
    #[error("{message}")]
    Invalid {
        /// The field, with dots.
        param: String,
        /// What is wrong with it.
        message: String,
    },
    /// The request rules out, by itself, every model that could be called for it.
    #[error("{message}")]
    Unfit {
        /// The field, with dots.
        param: String,
        /// What rules them out, and what they can do.
        message: String,
        /// Machine-readable.
        code: &'static str,
    },
    /// A policy refuses.
    #[error("{reason}")]
    Denied {
        /// For the client.
        reason: String,
        /// Machine-readable.
        code: String,
        /// HTTP status, 4xx.
        status: u16,
    },
    /// No candidate is left.
    #[error("no model can take this request: {summary}")]
    NoCandidates {
        /// How many each reason removed.
        summary: String,
        /// A policy removed some.
        by_policy: bool,
    },
    /// A policy could not be evaluated and fails closed.
    #[error("{0}")]
    PolicyEvaluation(String),
    /// A policy demands a record, and it could not be stored.
    #[error("{0}")]
    Unrecorded(String),
    /// A rate or budget of the key, the tenant or one of their labels or models is used up.
    #[error("the limit of {limit} {left}")]
    Limit {
        /// Which.
        limit: String,
        /// That it is reached, how much the request needs at least, and how much is left until when.
        left: String,
        /// It counts money.
        budget: bool,
    },
    /// The least that the request needs is more than a limit ever admits, however little of it is used.
    #[error("request too large: it needs {needs}, more than the limit of {limit} ever admits; {mend}")]
    TooLarge {
        /// Which.
        limit: String,
        /// How much, with its unit, and how sure that is.
        needs: String,
        /// What the client can do.
        mend: &'static str,
        /// It counts money.
        budget: bool,
    },
    /// Rates and budgets cannot be checked.
    #[error("limits cannot be checked at the moment")]
    LimitsAway,
    /// Too much is in flight.
    #[error("too many requests in flight")]
    Overloaded,
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// What this request may use is used up.
    #[error("the request's budget is used up: {message}")]
    Budget {
        /// What of it: `budget.usd`, `budget.tokens`, `budget.calls`, `budget.node_runs`.
        code: String,
        /// For the client.
        message: String,
    },
    /// The time allowed for this request is used up.
    #[error("the request's deadline has passed")]
    Deadline,
    /// Every candidate failed; this is the most useful failure.
    #[error("{}", .0.public_message())]
    Provider(provider::Error),
    /// The answer does not hold what was asked, and could not be repaired.
    #[error("{message}")]
    Validation {
        /// Machine-readable.
        code: String,
        /// For the client.
        message: String,
    },
    /// The workflow ended in an error of its own.
    #[error("{message}")]
    Workflow {
        /// Machine-readable.
        code: String,
        /// For the client.
        message: String,
        /// HTTP status.
        status: u16,
    },
    /// Ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Kind {
    /// Code of a request that fails because a policy could not be evaluated.
    pub const UNEVALUATED: &str = "evaluation_failed";

    /// Code of a request that asks for what cannot be.
    pub const INVALID: &str = "invalid_value";

    /// Code of a request whose time is up.
    pub const OUT_OF_TIME: &str = "budget.wall";

    /// What begins the codes of requests that have used up what they may use.
    pub const BUDGET: &str = "budget.";

    /// A refusal that no rule has chosen the status of.
    #[must_use]
    pub fn denied(code: &str, reason: String) -> Kind {
        Kind::Denied { reason, code: code.to_owned(), status: Denial::STATUS }
    }

    /// One that has used up what it may spend.
    #[must_use]
    pub fn out_of_money(message: String) -> Kind {
        Kind::Budget { code: format!("{}usd", Kind::BUDGET), message }
    }
}

impl Error {
    /// Whether nothing stood in the way but money.
    pub(crate) fn is_short_of_money(&self) -> bool {
        matches!(&self.kind, Kind::Budget { code, .. } if code.strip_prefix(Kind::BUDGET) == Some("usd"))
    }

    /// What a record says of it: without the word of a request that a limit's holder is named by, which may be a person's.
    pub(crate) fn recorded(&self) -> String {
        let said = self.to_string();
        let named = self.short.as_ref().and_then(|s| Some((&s.limit.holder, s.limit.kind()?)));
        named.map_or_else(|| said.clone(), |(holder, kind)| said.replace(&**holder, kind))
    }
}

/// One failed call, for `error.metadata.attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// `provider/model`.
    pub model: String,
    /// What kind of failure.
    pub kind: ErrorKind,
    /// The vendor's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Why a request got no answer, with what a client may know of the way there.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// The calls that failed, in order.
    pub attempts: Vec<Attempt>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// The limit that is reached, as it stands.
    pub limit: Option<Box<Standing>>,
    /// The limit that refused it, whatever counts it.
    pub short: Option<Box<Shortage>>,
    /// What the checks found.
    pub findings: Vec<Finding>,
    /// The decision, when the request asked for it (`explain`).
    pub explain: Option<Box<Value>>,
    /// The request under which all of this is on record; `None` = it was refused before anything was decided.
    pub request_id: Option<String>,
    /// The configuration under which that was decided.
    pub bundle: Option<Box<str>>,
}

impl From<&Denial> for Error {
    fn from(denial: &Denial) -> Self {
        let Denial { reason, code, status, .. } = denial;
        Kind::Denied { reason: reason.clone(), code: code.clone(), status: *status }.into()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error {
            kind,
            attempts: Vec::new(),
            retry_after: None,
            limit: None,
            short: None,
            findings: Vec::new(),
            explain: None,
            request_id: None,
            bundle: None,
        }
    }
}

impl From<policies::Error> for Error {
    fn from(e: policies::Error) -> Self {
        let message = e.public_message();
        match e {
            policies::Error::Evaluation { .. } => Kind::PolicyEvaluation(message),
            policies::Error::Option { option, .. } => Kind::Invalid { param: option, message },
        }
        .into()
    }
}

impl Error {
    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match &self.kind {
            Kind::UnknownModel { .. }
            | Kind::UnknownWorkflow { .. }
            | Kind::Invalid { .. }
            | Kind::Unfit { .. }
            | Kind::TooLarge { .. } => Blame::Client,
            Kind::Denied { .. } => Blame::Policy,
            Kind::NoCandidates { by_policy: true, .. } => Blame::Policy,
            Kind::NoCandidates { .. }
            | Kind::Overloaded
            | Kind::Limit { .. }
            | Kind::LimitsAway
            | Kind::Budget { .. }
            | Kind::Deadline
            | Kind::ShuttingDown => Blame::Capacity,
            Kind::Provider(e) => e.blame(),
            Kind::Validation { .. } | Kind::Workflow { .. } => Blame::Upstream,
            Kind::PolicyEvaluation(_) | Kind::Unrecorded(_) | Kind::Internal(_) => Blame::Internal,
        }
    }

    /// Whether the same request may succeed a moment later. Our own fallbacks are spent by then, so a
    /// provider failure is worth a retry only when the vendor said when.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match &self.kind {
            Kind::Overloaded | Kind::ShuttingDown | Kind::LimitsAway => true,
            // A rate is free again soon; money comes back with the next day or month.
            Kind::Limit { budget, .. } => !budget,
            // Every candidate has been tried by then; only a time that the vendor named is worth waiting for.
            Kind::Provider(_) => self.retry_after.is_some(),
            // They are only kept out for a while.
            Kind::NoCandidates { .. } => self.retry_after.is_some(),
            _ => false,
        }
    }

    /// Machine-readable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match &self.kind {
            Kind::UnknownModel { .. } => "model_not_found",
            Kind::UnknownWorkflow { .. } => "unknown_workflow",
            Kind::Invalid { .. } => Kind::INVALID,
            Kind::Denied { code, .. }
            | Kind::Budget { code, .. }
            | Kind::Validation { code, .. }
            | Kind::Workflow { code, .. } => code,
            Kind::NoCandidates { .. } => "no_candidates",
            Kind::Unfit { code, .. } => code,
            Kind::PolicyEvaluation(_) => Kind::UNEVALUATED,
            Kind::Unrecorded(_) => "unrecorded",
            Kind::Overloaded => "queue_full",
            Kind::Limit { budget: true, .. } | Kind::TooLarge { budget: true, .. } => "insufficient_quota",
            Kind::Limit { .. } | Kind::TooLarge { .. } => "rate_limit_exceeded",
            Kind::LimitsAway => "limits_unavailable",
            Kind::ShuttingDown => "shutting_down",
            Kind::Deadline => Kind::OUT_OF_TIME,
            Kind::Provider(e) => e.kind.as_str(),
            Kind::Internal(_) => "internal_error",
        }
    }

    /// What a client may tell it by: [`Error::code`], but where a vendor finds the request at fault, what it says.
    #[must_use]
    pub fn public_code(&self) -> &str {
        let told = match &self.kind {
            Kind::Provider(e) => e.public_code(),
            _ => None,
        };
        told.unwrap_or_else(|| self.code())
    }

    /// The member of the request that is at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match &self.kind {
            Kind::UnknownModel { .. } => Some("model"),
            Kind::UnknownWorkflow { param, .. } => *param,
            Kind::Invalid { param, .. } | Kind::Unfit { param, .. } => Some(param),
            Kind::Provider(e) => e.public_param(),
            _ => None,
        }
    }

    /// What the client may read.
    #[must_use]
    pub fn public_message(&self) -> String {
        match &self.kind {
            Kind::Internal(_) => "internal error; the request id finds it in the server's log".to_owned(),
            kind => kind.to_string(),
        }
    }
}
