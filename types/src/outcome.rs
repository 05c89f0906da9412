//! How a request turned out: what it cost, how long it took, what its checks said, and the reward of it all.

use crate::completion::Usage;
use crate::decision::Decision;
use crate::features::Features;
use crate::limits::Shortage;
use crate::profile::Cell;
use crate::run::{AtMost, Verdict};
use crate::units::{UnitInterval, Usd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The client got an answer.
    Delivered,
    /// The client got an error, or a stream that ended in one.
    Failed,
    /// The client left.
    Cancelled,
    /// A policy refused it.
    Denied,
}

impl Status {
    /// The string used in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Delivered => "delivered",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Denied => "denied",
        }
    }
}

/// Parts of the reward, each 0..=1; `None` = not observed, left out of the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RewardParts {
    /// Structural validators: the contract holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<f64>,
    /// Semantic validators and tool success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semantic: Option<f64>,
    /// Judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<f64>,
    /// Explicit feedback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback: Option<f64>,
    /// No repair was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_repair: Option<f64>,
    /// The client did not ask again within ten minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_retry: Option<f64>,
}

/// How a request turned out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request.
    pub request_id: String,
    /// Unix time in milliseconds, at its end.
    pub ts_ms: i64,
    /// Whose request.
    pub tenant: String,
    /// Where it is pooled.
    pub cell: Cell,
    /// Workflow of the arm that was chosen; empty = none was.
    pub workflow: Arc<str>,
    /// Workflow that gave the answer, where it is another one: a rule sent the request there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_in: Option<Arc<str>>,
    /// Model of the arm that was chosen.
    pub model: Arc<str>,
    /// Model that answered; `None` = none did.
    pub served_by: Option<Arc<str>>,
    /// The stream of the model that answered was lost after content, and another call went on with the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// How it ended.
    pub status: Status,
    /// Error code, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the checks said.
    pub verdict: Verdict,
    /// Weighted mean of the parts, 0..=1; `None` = nothing was observed.
    pub reward: Option<UnitInterval>,
    /// Its parts.
    pub parts: RewardParts,
    /// What the tree used.
    pub usage: Usage,
    /// What the tree cost.
    pub cost_usd: Usd,
    /// Every call had a known price.
    pub cost_known: bool,
    /// Milliseconds from acceptance to the first content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Milliseconds from acceptance to the last byte.
    pub total_ms: f64,
    /// Milliseconds of ours: total less the time in which a provider was awaited.
    pub overhead_ms: f64,
    /// Model calls made.
    pub calls: u32,
    /// Repair attempts that called a model.
    pub repairs: u32,
    /// How many values policies redacted, by their kind; empty = none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redacted: BTreeMap<Arc<str>, u32>,
    /// Per model called: what the statistics need (latency, failure), in order.
    pub observations: Vec<CallObservation>,
    /// Probability of the choice.
    pub propensity: f64,
    /// What the decision knew and learning needs; `None` = nothing was decided, or the record is of a version
    /// that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// For whom and for what money went; `None` = the record is of a version that did not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// Unix time in milliseconds at which what is recorded of it is erased, but for this outcome without its labels; `None` =
    /// it is kept while there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// What the statistics hold of it, where somebody spoke of the answer; `None` = nobody did, or the record is of a version
    /// that did not keep it: then what is on record was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Box<Learned>>,
}

/// What the statistics hold of a request of which somebody spoke: less than what is on record, where a bound kept part of
/// it out. The next word is learned beside this, so that what was kept out has no part in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// How much of the outcome is counted, 0..=1.
    pub counted: f64,
    /// Its reward, as far as it is counted, 0..=`counted`.
    pub reward: f64,
    /// How much of it is counted as an opinion of a success, 0..=1.
    pub rated: f64,
    /// That opinion, as far as it is counted, 0..=`rated`.
    pub opinion: f64,
    /// What a whole outcome of it counts as in what is common to all tenants, in outcomes.
    pub worth: f64,
    /// How much of what each principal, or judge of ours, said last is heard, 0..1; who is not named is heard in full.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heard: BTreeMap<String, f64>,
}

/// The error code of a request whose process ended before it did.
pub const UNSETTLED: &str = "unsettled";

/// When a record goes that is kept so many milliseconds from a moment, both in Unix milliseconds.
#[must_use]
pub fn expiry(ts_ms: i64, retention_ms: u64) -> i64 {
    ts_ms.saturating_add(i64::try_from(retention_ms).unwrap_or(i64::MAX))
}

impl Outcome {
    /// Whether the process ended before the request did, so that what was reserved stands for what was used.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.error.as_deref() == Some(UNSETTLED)
    }

    /// The workflow that it counts for: the one that gave the answer, else the one that was chosen.
    #[must_use]
    pub fn counts_for(&self) -> &Arc<str> {
        self.served_in.as_ref().unwrap_or(&self.workflow)
    }

    /// Whether its record is to be erased by now.
    #[must_use]
    pub fn has_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    /// What stays of it when its record is erased: figures for sums and for learning, and whose they are, but no label.
    #[must_use]
    pub fn figures(mut self) -> Outcome {
        if let Some(account) = &mut self.account {
            account.tags.clear();
            account.counters.clear();
        }
        self
    }

    /// The same outcome with what was paid for after the response. `None` = it is known already, or the record is of
    /// a version that did not keep who was paid.
    #[must_use]
    pub fn with_late(&self, late: &Late) -> Option<Outcome> {
        let account = self.account.as_ref()?;
        let paid = account.late.is_empty() && !late.calls.is_empty();
        let tried: Vec<&Beside> = late.beside.iter().filter(|b| !account.beside.contains(b)).collect();
        if !paid && tried.is_empty() {
            return None;
        }
        let tried: Vec<Beside> = tried.into_iter().cloned().collect();
        let mut account = account.clone();
        account.beside.extend(tried);
        if paid {
            account.late.clone_from(&late.calls);
            account.late_ms = late.ts_ms;
        }
        Some(Outcome { account: Some(account), ..self.clone() })
    }

    /// One call of `model` answered a decided request in `total_ms` and cost `cost`; how good that was, 0..=1, is
    /// known. For outcomes that are recorded or made up rather than observed.
    #[must_use]
    pub fn answered(
        decision: &Decision,
        model: &Arc<str>,
        quality: f64,
        cost: Option<Usd>,
        total_ms: f64,
    ) -> Self {
        let arm = decision.arms.iter().find(|a| a.model == *model);
        Outcome {
            request_id: decision.request_id.clone(),
            ts_ms: decision.ts_ms,
            tenant: decision.tenant.clone(),
            cell: decision.cell,
            workflow: arm.map_or_else(|| "".into(), |a| a.workflow.clone()),
            model: model.clone(),
            served_by: Some(model.clone()),
            served_in: None,
            redacted: BTreeMap::new(),
            continued: false,
            status: Status::Delivered,
            error: None,
            verdict: Verdict::None,
            reward: Some(UnitInterval::clamped(quality)),
            parts: RewardParts { semantic: Some(quality), ..RewardParts::default() },
            usage: Usage::default(),
            cost_usd: cost.unwrap_or(Usd::ZERO),
            cost_known: cost.is_some(),
            ttft_ms: None,
            total_ms,
            overhead_ms: 0.0,
            calls: 1,
            repairs: 0,
            observations: vec![CallObservation {
                model: model.clone(),
                ok: true,
                refused: false,
                cut: false,
                ttft_ms: None,
                total_ms,
                output_tokens: 0,
            }],
            propensity: decision.propensity,
            basis: None,
            account: None,
            expires_ms: None,
            learned: None,
        }
    }
}

/// For whom and for what the money of a request went, for reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Identifier of the virtual key; empty = none was asked for.
    pub key: String,
    /// Labels of the request, of its key and of policies.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Images in the request.
    #[serde(skip_serializing_if = "is_zero")]
    pub images: u32,
    /// What each model was paid for, in the order of their first calls.
    pub calls: Vec<Billed>,
    /// The same of what was done after the response, such as grading it; in no sum of the outcome itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<Billed>,
    /// When that was settled, Unix milliseconds; 0 = nothing was done.
    #[serde(skip_serializing_if = "is_never")]
    pub late_ms: i64,
    /// Runs beside it that rules wanted (`shadow`), on the operator's money: in no sum of anybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
    /// What the most capable candidate would have cost; `None` = there was no candidate, or its price is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceCost>,
    /// Counters of limits that its calls took money or tokens from, beside those of its key and tenant
    /// ([`crate::limits::mark`]).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<u64>,
    /// The limit that refused it; `None` = none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Box<Shortage>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_never(ms: &i64) -> bool {
    *ms == 0
}

/// What was paid for after the response of a request. Told once for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// The request.
    pub request_id: String,
    /// When it was settled, Unix milliseconds.
    #[serde(default)]
    pub ts_ms: i64,
    /// What each model was paid for, in the order of their first calls.
    pub calls: Vec<Billed>,
    /// Runs beside the request's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<Beside>,
}

/// A run beside that of a request, which nobody but the record sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The rule that wanted it.
    pub rule: String,
    /// The workflow that ran.
    pub workflow: Arc<str>,
    /// The model that gave its answer; `None` = there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// Why there was none, machine-readable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the checks say of it.
    pub verdict: Verdict,
    /// How good a judge of the workflow finds it, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<UnitInterval>,
    /// Whether its text is that of the live answer; `None` = one of them has no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<bool>,
    /// Calls of models, failed ones included.
    pub calls: u32,
    /// What those with a known price cost.
    pub cost_usd: Usd,
    /// Milliseconds in all.
    pub total_ms: f64,
}

/// All calls of one model in one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Billed {
    /// `provider/model`.
    pub model: Arc<str>,
    /// How many, failed ones included.
    pub calls: u32,
    /// Of these, with an unknown price.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unpriced: u32,
    /// What they used.
    pub usage: Usage,
    /// What those with a known price cost.
    pub cost_usd: Usd,
    /// Of the calls, those of which we have estimated what they used or cost, all of it or a part.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub estimated: u32,
    /// What these cost.
    #[serde(default, skip_serializing_if = "costs_nothing")]
    pub estimated_usd: Usd,
    /// The most that the vendor may count for them, where one was cut off and nobody said what it used. `None` = what stands in
    /// `usage` and `cost_usd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<AtMost>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn costs_nothing(usd: &Usd) -> bool {
    *usd == Usd::ZERO
}

impl Billed {
    /// What limits and budgets count of them: never less than the vendor does.
    #[must_use]
    pub fn counted(&self) -> AtMost {
        let (tokens, usd) = (self.usage.total(), self.cost_usd);
        self.at_most.map_or(AtMost { tokens, usd }, |most| AtMost {
            tokens: most.tokens.max(tokens),
            usd: most.usd.max(usd),
        })
    }
}

/// What another model would have cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceCost {
    /// `provider/model`.
    pub model: Arc<str>,
    /// Its price for the tokens of the answer that was delivered; zero where none was. An estimate: the model was
    /// not asked, and would have written more or less.
    pub cost_usd: Usd,
}

/// What a decision knew of the request and of the arm that answered, for the learner.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// The request as numbers.
    pub features: Features,
    /// P of the arm that answered, before any evidence, 0..=1.
    pub prior: f64,
    /// What that was worth, in outcomes: `prior.strength` of the matrix. Records of earlier versions do not hold it.
    #[serde(default = "crate::decision::usual_strength")]
    pub strength: f64,
    /// What the arm was forecast to cost, before what was learned of its cost; `None` = unknown price, or
    /// another arm than the chosen one answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast_usd: Option<Usd>,
}

/// What one call taught about its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallObservation {
    /// `provider/model`.
    pub model: Arc<str>,
    /// It answered.
    pub ok: bool,
    /// It refused this request (400, 404, 422, too long): its own doing where another model answers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// It was cut off, by a deadline or a limit on its time: its answer would have taken longer than `total_ms`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Milliseconds to the first content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    /// Milliseconds in all.
    pub total_ms: f64,
    /// Output tokens.
    pub output_tokens: u32,
}

/// What somebody says of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// The request.
    pub request_id: String,
    /// Unix time in milliseconds.
    pub ts_ms: i64,
    /// How good it was.
    pub score: UnitInterval,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it comes from, in the words of whoever says it.
    pub source: String,
    /// Who says so, as far as that is known for certain: the key, `open` where none is demanded, empty for the
    /// engine's own judges. Of each principal and source the last word on a request counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub principal: String,
}

impl Feedback {
    /// Who is held to a bound for it: the principal; of the engine's own judges each by its name, which nobody outside can
    /// take.
    #[must_use]
    pub fn speaker(&self) -> &str {
        if self.principal.is_empty() { &self.source } else { &self.principal }
    }

    /// Whether this word takes the place of an earlier one.
    #[must_use]
    pub fn replaces(&self, earlier: &Feedback) -> bool {
        self.principal == earlier.principal && self.source == earlier.source
    }
}
