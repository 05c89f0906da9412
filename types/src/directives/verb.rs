//! The verbs of the policy language by name: one closed list for rules, scripts, options, records and metrics.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// A verb. Written as its string; a string that this version does not know is kept as it is, so that records of other
/// versions read back the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `prefer`.
    Prefer,
    /// `avoid`.
    Avoid,
    /// `weight`.
    Weight,
    /// `require`.
    Require,
    /// `exclude`.
    Exclude,
    /// `min_quality`.
    MinQuality,
    /// `residency`.
    Residency,
    /// `data_policy`.
    DataPolicy,
    /// `explore`.
    Explore,
    /// `sticky`.
    Sticky,
    /// `assume_price`.
    AssumePrice,
    /// `premium`.
    Premium,
    /// `workflow`.
    Workflow,
    /// `fanout`.
    Fanout,
    /// `hedge`.
    Hedge,
    /// `validators`.
    Validators,
    /// `repair`.
    Repair,
    /// `escalate`.
    Escalate,
    /// `enforce_format`.
    EnforceFormat,
    /// `stream`.
    Stream,
    /// `set_var`.
    SetVar,
    /// `experiment`.
    Experiment,
    /// `shadow`.
    Shadow,
    /// `priority`.
    Priority,
    /// `cap_cost`.
    CapCost,
    /// `cap_latency`.
    CapLatency,
    /// `cap_tokens`.
    CapTokens,
    /// `cap_calls`.
    CapCalls,
    /// `cap_attempts`.
    CapAttempts,
    /// `cap_fanout`.
    CapFanout,
    /// `cap_max_tokens`.
    CapMaxTokens,
    /// `cap_temperature`.
    CapTemperature,
    /// `set_temperature`.
    SetTemperature,
    /// `set_max_tokens`.
    SetMaxTokens,
    /// `set_params`.
    SetParams,
    /// `retry`.
    Retry,
    /// `add_system`.
    AddSystem,
    /// `rate_limit`.
    RateLimit,
    /// `concurrency`.
    Concurrency,
    /// `deny`.
    Deny,
    /// `require_approval`.
    RequireApproval,
    /// `redact`.
    Redact,
    /// `allow_tools`.
    AllowTools,
    /// `deny_tools`.
    DenyTools,
    /// `cache`.
    Cache,
    /// `log`.
    Log,
    /// `audit`.
    Audit,
    /// `tag`.
    Tag,
    /// `header`.
    Header,
    /// `notify`.
    Notify,
    /// One of another version.
    Other(Arc<str>),
}

impl Verb {
    /// Every verb but [`Verb::Other`].
    pub const ALL: &'static [Verb] = &[
        Verb::Prefer,
        Verb::Avoid,
        Verb::Weight,
        Verb::Require,
        Verb::Exclude,
        Verb::MinQuality,
        Verb::Residency,
        Verb::DataPolicy,
        Verb::Explore,
        Verb::Sticky,
        Verb::AssumePrice,
        Verb::Premium,
        Verb::Workflow,
        Verb::Fanout,
        Verb::Hedge,
        Verb::Validators,
        Verb::Repair,
        Verb::Escalate,
        Verb::EnforceFormat,
        Verb::Stream,
        Verb::SetVar,
        Verb::Experiment,
        Verb::Shadow,
        Verb::Priority,
        Verb::CapCost,
        Verb::CapLatency,
        Verb::CapTokens,
        Verb::CapCalls,
        Verb::CapAttempts,
        Verb::CapFanout,
        Verb::CapMaxTokens,
        Verb::CapTemperature,
        Verb::SetTemperature,
        Verb::SetMaxTokens,
        Verb::SetParams,
        Verb::Retry,
        Verb::AddSystem,
        Verb::RateLimit,
        Verb::Concurrency,
        Verb::Deny,
        Verb::RequireApproval,
        Verb::Redact,
        Verb::AllowTools,
        Verb::DenyTools,
        Verb::Cache,
        Verb::Log,
        Verb::Audit,
        Verb::Tag,
        Verb::Header,
        Verb::Notify,
    ];

    /// The same in YAML, Rhai, metrics and records.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Verb::Prefer => "prefer",
            Verb::Avoid => "avoid",
            Verb::Weight => "weight",
            Verb::Require => "require",
            Verb::Exclude => "exclude",
            Verb::MinQuality => "min_quality",
            Verb::Residency => "residency",
            Verb::DataPolicy => "data_policy",
            Verb::Explore => "explore",
            Verb::Sticky => "sticky",
            Verb::AssumePrice => "assume_price",
            Verb::Premium => "premium",
            Verb::Workflow => "workflow",
            Verb::Fanout => "fanout",
            Verb::Hedge => "hedge",
            Verb::Validators => "validators",
            Verb::Repair => "repair",
            Verb::Escalate => "escalate",
            Verb::EnforceFormat => "enforce_format",
            Verb::Stream => "stream",
            Verb::SetVar => "set_var",
            Verb::Experiment => "experiment",
            Verb::Shadow => "shadow",
            Verb::Priority => "priority",
            Verb::CapCost => "cap_cost",
            Verb::CapLatency => "cap_latency",
            Verb::CapTokens => "cap_tokens",
            Verb::CapCalls => "cap_calls",
            Verb::CapAttempts => "cap_attempts",
            Verb::CapFanout => "cap_fanout",
            Verb::CapMaxTokens => "cap_max_tokens",
            Verb::CapTemperature => "cap_temperature",
            Verb::SetTemperature => "set_temperature",
            Verb::SetMaxTokens => "set_max_tokens",
            Verb::SetParams => "set_params",
            Verb::Retry => "retry",
            Verb::AddSystem => "add_system",
            Verb::RateLimit => "rate_limit",
            Verb::Concurrency => "concurrency",
            Verb::Deny => "deny",
            Verb::RequireApproval => "require_approval",
            Verb::Redact => "redact",
            Verb::AllowTools => "allow_tools",
            Verb::DenyTools => "deny_tools",
            Verb::Cache => "cache",
            Verb::Log => "log",
            Verb::Audit => "audit",
            Verb::Tag => "tag",
            Verb::Header => "header",
            Verb::Notify => "notify",
            Verb::Other(name) => name,
        }
    }
}

impl From<&str> for Verb {
    fn from(name: &str) -> Self {
        let known = Verb::ALL.iter().find(|v| v.as_str() == name);
        known.cloned().unwrap_or_else(|| Verb::Other(name.into()))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Verb {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|name| Verb::from(name.as_str()))
    }
}
