//! What happened when a workflow ran: one step per node, one record per model call, findings of the checks.

mod purpose;

pub use purpose::Purpose;

use crate::adjustment::Adjustment;
use crate::completion::Usage;
use crate::provider::ErrorKind;
use crate::units::Usd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a check says; "could not check" is not "passed".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that had to hold holds.
    Passed,
    /// Something does not hold.
    Failed,
    /// Something could not be checked.
    Unverified,
    /// Nothing was checked.
    #[default]
    None,
}

impl Verdict {
    /// The string used in records and headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Unverified => "unverified",
            Verdict::None => "none",
        }
    }
}

/// What a finding means for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Noted only.
    Warn,
    /// To be repaired.
    Repair,
    /// Never to be delivered.
    Block,
}

impl Severity {
    /// The strings of the file.
    pub const NAMES: &'static [&'static str] = &["warn", "repair", "block"];

    /// The severity of that name.
    #[must_use]
    pub fn parse(s: &str) -> Option<Self> {
        Some(match s {
            "warn" => Severity::Warn,
            "repair" => Severity::Repair,
            "block" => Severity::Block,
            _ => return None,
        })
    }

    /// Weight in scores: block 3, repair 1, warn 0.2.
    #[must_use]
    pub const fn weight(self) -> f64 {
        match self {
            Severity::Warn => 0.2,
            Severity::Repair => 1.0,
            Severity::Block => 3.0,
        }
    }
}

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the validator.
    pub validator: String,
    /// Stable code within the validator.
    pub code: String,
    /// What it means for the answer.
    pub severity: Severity,
    /// JSON pointer into the answer, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Byte range in the text, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<(usize, usize)>,
    /// What is wrong; at most 200 characters of the answer.
    pub message: String,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    /// What was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Value>,
    /// How to mend it, for the model that repairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// What makes two findings the same for the no-progress rule: validator, code, path.
    #[must_use]
    pub fn fingerprint(&self) -> (&str, &str, Option<&str>) {
        (&self.validator, &self.code, self.path.as_deref())
    }
}

/// The result of one check of one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it says.
    pub verdict: Verdict,
    /// For `Unverified`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// At most 50.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The check could not say anything; why.
    #[must_use]
    pub fn unverified(reason: impl Into<String>) -> Self {
        Report { verdict: Verdict::Unverified, reason: Some(reason.into()), findings: Vec::new() }
    }
}

/// One model call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// `provider/model`.
    pub model: Arc<str>,
    /// What it was made for.
    pub purpose: Purpose,
    /// From 1, within its node.
    pub attempt: u32,
    /// Why it failed; `None` = it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CallError>,
    /// What it used (as reported, or estimated and marked so).
    pub usage: Usage,
    /// What it cost; `None` = the price is unknown.
    pub cost_usd: Option<Usd>,
    /// The most that the vendor may count, where the call was cut off and nobody said what it used: what limits and
    /// budgets count. `None` = what stands in `usage` and `cost_usd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<AtMost>,
    /// What it cost beyond what was set aside for it, since its vendor counted more than could be expected; limits and
    /// budgets count all of it. `None` = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beyond_usd: Option<Usd>,
    /// Milliseconds to the first content; `None` = not streamed or none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Milliseconds from start to end.
    pub total_ms: f64,
    /// Milliseconds of these in which whoever reads the stream took nothing of it: no time of the vendor's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unread_ms: f64,
    /// Milliseconds from the start of the run.
    pub started_ms: f64,
    /// Parameters that the model was not told, or with another value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adjusted: Vec<Adjustment>,
    /// The vendor's own name of the model, if it said one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reported_model: String,
}

fn is_zero(ms: &f64) -> bool {
    *ms == 0.0
}

/// What a call may have used at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtMost {
    /// Tokens, input and output.
    pub tokens: u64,
    /// Money; zero where the price is unknown.
    pub usd: Usd,
}

impl AtMost {
    /// Of both together.
    #[must_use]
    pub const fn plus(self, other: AtMost) -> AtMost {
        AtMost { tokens: self.tokens.saturating_add(other.tokens), usd: self.usd.plus(other.usd) }
    }
}

impl CallRecord {
    /// A call whose answer was lost with the process that waited for it: its vendor may have billed it, so it counts with
    /// what was set aside for it (`None` = its price is unknown).
    #[must_use]
    pub fn lost(model: Arc<str>, purpose: Purpose, reserved: Option<Usd>, why: &str) -> Self {
        CallRecord {
            model,
            purpose,
            attempt: 1,
            error: Some(CallError { kind: ErrorKind::Cancelled, status: None, detail: why.to_owned() }),
            usage: Usage::default(),
            cost_usd: reserved,
            at_most: None,
            beyond_usd: None,
            ttft_ms: None,
            total_ms: 0.0,
            unread_ms: 0.0,
            started_ms: 0.0,
            adjusted: Vec::new(),
            reported_model: String::new(),
        }
    }

    /// What limits and budgets count of it: never less than the vendor does.
    #[must_use]
    pub fn counted(&self) -> AtMost {
        let tokens = self.usage.total();
        let usd = self.cost_usd.unwrap_or_default();
        self.at_most.map_or(AtMost { tokens, usd }, |most| AtMost {
            tokens: most.tokens.max(tokens),
            usd: most.usd.max(usd),
        })
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallError {
    /// What kind.
    pub kind: ErrorKind,
    /// HTTP status of the vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// For the operator.
    pub detail: String,
}

/// One node of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Identifier of the node.
    pub node: Arc<str>,
    /// Its type.
    pub kind: Arc<str>,
    /// How it resolved.
    pub outcome: String,
    /// Milliseconds from the start of the run.
    pub started_ms: f64,
    /// How long it took.
    pub duration_ms: f64,
    /// Model calls it made, failed ones included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallRecord>,
    /// What its checks found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Anything else worth reading, such as the strategy that repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it put out is what an earlier run had put out, which cost nothing this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<Recall>,
    /// The author's labels of the node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Step {
    /// A node of that type that resolved so. It took no time, made no call, and nothing was found.
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>, kind: impl Into<Arc<str>>, outcome: impl Into<String>) -> Self {
        Step {
            node: node.into(),
            kind: kind.into(),
            outcome: outcome.into(),
            started_ms: 0.0,
            duration_ms: 0.0,
            calls: Vec::new(),
            findings: Vec::new(),
            note: None,
            cached: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Where a node's outputs come from that an earlier run had put out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recall {
    /// What they cost when they were made, in dollars.
    pub cost_usd: f64,
    /// The request that made them; `None` = it may have been another tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// How similar its question was, where it was not the same to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub similarity: Option<crate::units::UnitInterval>,
}

/// A workflow's run, finished or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The workflow.
    pub workflow: String,
    /// Hash of its compiled plan.
    pub plan_hash: String,
    /// What its author calls this state of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Labels of the workflow.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `buffered` or `passthrough`, and why.
    pub stream_mode: String,
    /// One per node that resolved, in order of resolution.
    pub steps: Vec<Step>,
    /// Of the answer that was delivered.
    pub verdict: Verdict,
    /// The model whose answer was delivered, `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_by: Option<Arc<str>>,
    /// The model that went on with the answer where the first one was lost in the middle of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<Arc<str>>,
    /// Repair attempts that called a model.
    pub repairs: u32,
    /// Answers mended locally, without a call.
    #[serde(default)]
    pub fixes: u32,
    /// What the last judge that scored the delivered answer says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<crate::units::UnitInterval>,
    /// A budget or deadline cut it short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exhausted: Option<String>,
    /// Nodes whose outputs had been kept by an earlier run.
    #[serde(default, skip_serializing_if = "is_none")]
    pub recalled: u32,
    /// How often each check could not say anything of an answer, by what the check is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unverified: BTreeMap<String, u32>,
    /// Pairs of answers that judges compared in both orders.
    #[serde(default, skip_serializing_if = "is_none")]
    pub pairs: u32,
    /// Those of the pairs about which a judge said something else in the other order.
    #[serde(default, skip_serializing_if = "is_none")]
    pub turned: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_none(n: &u32) -> bool {
    *n == 0
}

impl Run {
    /// All calls, in order of their nodes.
    pub fn calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.steps.iter().flat_map(|s| &s.calls)
    }

    /// What the whole tree used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.calls().fold(Usage::default(), |u, c| u.plus(c.usage))
    }

    /// What the whole tree cost; calls of unknown price count nothing and make the second part false.
    #[must_use]
    pub fn cost(&self) -> (Usd, bool) {
        self.calls().fold((Usd::ZERO, true), |(sum, known), c| match c.cost_usd {
            Some(x) => (sum.plus(x), known),
            None => (sum, false),
        })
    }
}
