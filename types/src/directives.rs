//! What the policies say of one request, merged: the only thing of a policy that other rooms see.

mod action;
mod verb;

pub use action::{ActionRecord, Effect};
pub use verb::Verb;

use crate::doc::{Node, Reader};
use crate::limits::{Metric, Window};
use crate::matrix::{ModelIx, ModelSet, glob};
use crate::privacy::Entity;
use crate::repair::Strategy;
use crate::units::Usd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Name of a rule or policy.
pub type RuleId = Arc<str>;

/// What one rule made of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleResult {
    /// It applies.
    Matched,
    /// It does not.
    NotMatched,
    /// It could not be evaluated and was left out (`on_error: open`).
    Error,
    /// Switched off, or outside its dates.
    Disabled,
    /// It would apply, but is only watched.
    Shadow,
}

/// Whose word a rule is. Of soft verbs with one value that of the greater layer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The request itself asks for it.
    Request,
    /// The files of the tenant whose request it is.
    Tenant,
    /// The files of the deployment.
    #[default]
    Platform,
}

impl Layer {
    /// Whether it is that of the deployment, which records do not name.
    #[must_use]
    pub fn is_platform(&self) -> bool {
        *self == Layer::Platform
    }
}

/// A rule and what it made of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The rule.
    pub id: RuleId,
    /// Whose word it is.
    #[serde(default, skip_serializing_if = "Layer::is_platform")]
    pub layer: Layer,
    /// What it made of the request.
    pub result: RuleResult,
    /// For `Error`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// For `NotMatched`: the part of the condition that decided, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Arc<str>>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Who refuses.
    pub rule: RuleId,
    /// For the client.
    pub reason: String,
    /// Machine-readable reason. Default `denied`.
    pub code: String,
    /// HTTP status, 4xx. Default [`Denial::STATUS`].
    pub status: u16,
}

impl Denial {
    /// The status of a refusal for which nobody chose one.
    pub const STATUS: u16 = 403;

    /// A refusal with the status that is usual.
    #[must_use]
    pub fn new(rule: RuleId, code: &str, reason: String) -> Self {
        Denial { rule, reason, code: code.to_owned(), status: Denial::STATUS }
    }
}

/// A value with the rule that set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Who set it.
    pub rule: RuleId,
}

/// Multipliers of the utility's term weights; 1 = unchanged, each 0..=4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermWeights {
    /// Of the probability of success.
    pub success: f64,
    /// Of quality given success.
    pub quality: f64,
    /// Of schema compliance.
    pub schema: f64,
    /// Of cost.
    pub cost: f64,
    /// Of latency.
    pub latency: f64,
    /// Of safety.
    pub safety: f64,
}

impl TermWeights {
    /// The strings of the file.
    pub const NAMES: &'static [&'static str] = &["success", "quality", "schema", "cost", "latency", "safety"];

    /// Both at once: each term's multipliers multiplied.
    #[must_use]
    pub fn times(&self, other: &TermWeights) -> TermWeights {
        TermWeights {
            success: self.success * other.success,
            quality: self.quality * other.quality,
            schema: self.schema * other.schema,
            cost: self.cost * other.cost,
            latency: self.latency * other.latency,
            safety: self.safety * other.safety,
        }
    }

    /// The weight of that name.
    pub fn weight(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "success" => &mut self.success,
            "quality" => &mut self.quality,
            "schema" => &mut self.schema,
            "cost" => &mut self.cost,
            "latency" => &mut self.latency,
            "safety" => &mut self.safety,
            _ => return None,
        })
    }
}

impl Default for TermWeights {
    fn default() -> Self {
        TermWeights { success: 1.0, quality: 1.0, schema: 1.0, cost: 1.0, latency: 1.0, safety: 1.0 }
    }
}

/// Whose conversation keeps its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StickyBy {
    /// The session that the request names, else its first messages.
    Conversation,
    /// The end user that the request names.
    User,
    /// The tenant.
    Tenant,
}

/// Keeps the previous arm of a conversation, user or tenant unless its utility falls too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    /// Whose.
    pub by: StickyBy,
    /// How long the arm is remembered after its last use, in milliseconds.
    pub ttl_ms: u64,
}

/// Price for models whose own is not known, in USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssumedPrice {
    /// Of input tokens.
    #[serde(rename = "in")]
    pub input: f64,
    /// Of output tokens.
    #[serde(rename = "out")]
    pub output: f64,
}

/// What the providers of a request must promise about its data; an attribute that is not known does not
/// count as promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDemand {
    /// Nothing may be retained at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zdr: bool,
    /// Most days of retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retention_days: Option<u32>,
    /// Nothing may be trained on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_training: bool,
}

/// A form that the answer must have, weaker ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Any JSON value.
    Json,
    /// JSON that fits the schema of the request.
    JsonSchema,
}

/// How much of an answer may reach the client before it has been checked, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// All of it.
    Passthrough,
    /// All of it, cut off when a check fails on the way.
    Optimistic,
    /// All but a window that is held back.
    Windowed,
    /// Nothing.
    Buffered,
}

/// What a request gives way to where there is much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Others: it waits where four fifths of the places are taken.
    Batch,
    /// Interactive ones: it waits where nineteen of twenty places are taken.
    #[default]
    Normal,
    /// Nothing.
    Interactive,
}

/// When a second call is started beside a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HedgeAfter {
    /// After so many milliseconds.
    Ms(u64),
    /// After this percentile (50..=99) of the model's time to first content.
    Percentile(u8),
}

impl HedgeAfter {
    /// Reads a duration, or `p50` to `p99`; notes in the reader what is neither.
    pub fn read(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Self> {
        let Some(digits) = n.as_str().and_then(|s| s.strip_prefix('p')) else {
            let length = r.duration(n, path)?;
            return Some(HedgeAfter::Ms(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)));
        };
        match digits.parse::<u8>() {
            Ok(p @ 50..=99) => Some(HedgeAfter::Percentile(p)),
            _ => {
                let d = r.error("104", n.span, format!("`{path}` is out of range"));
                d.expected = Some("a duration, or p50 to p99".to_owned());
                path.clone_into(&mut d.field);
                None
            }
        }
    }
}

impl std::fmt::Display for HedgeAfter {
    /// As in files, such as `800ms` or `p95`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HedgeAfter::Ms(ms) => write!(f, "{ms}ms"),
            HedgeAfter::Percentile(p) => write!(f, "p{p}"),
        }
    }
}

/// Further calls beside slow ones, in place of what a workflow's node says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HedgeRule {
    /// None.
    None,
    /// So many.
    Begin {
        /// When each of them gets its turn.
        after: HedgeAfter,
        /// Most of them, 1..=3.
        max: u32,
    },
}

/// Bounds of what repair nodes do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRule {
    /// Most attempts of a node, 0..=4; `None` = as its file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The strategies of a node's ladder that may be tried; `None` = all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategies: Option<Vec<Strategy>>,
}

impl RepairRule {
    /// Whether a strategy may be tried.
    #[must_use]
    pub fn allows(&self, strategy: Strategy) -> bool {
        self.strategies.as_ref().is_none_or(|s| s.contains(&strategy))
    }
}

/// Where a request goes that needs more than its first model gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Escalate {
    /// To these models.
    Models(ModelSet),
    /// To this workflow.
    Workflow(String),
}

/// A run beside the live one, after the response: seen by nobody but the record.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowRule {
    /// With this workflow; `None` = with that of the live run.
    pub workflow: Option<String>,
    /// On these of the candidates; `None` = on those of the live run.
    pub models: Option<ModelSet>,
    /// For this share of the requests, 0..=1.
    pub rate: f64,
}

/// What a run may have of what nodes put out before, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caching {
    /// Nothing, and nothing of it is kept.
    None,
    /// What is there; nothing of it is kept.
    ReadOnly,
    /// What was asked to the letter, where the nodes of the workflow say so.
    Exact,
    /// As the nodes of the workflow say, similar questions included.
    Semantic,
}

/// Among whose requests something is kept and found, widest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// All, where the node says so; else those of the tenant.
    #[default]
    Engine,
    /// Those of the tenant.
    Tenant,
    /// Those of the key.
    Key,
    /// Those of the key for the end user that the request names; where it names none, nothing is kept and found.
    User,
}

impl CacheScope {
    /// All, widest first.
    pub const ALL: [CacheScope; 4] =
        [CacheScope::Engine, CacheScope::Tenant, CacheScope::Key, CacheScope::User];

    /// The string of the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CacheScope::Engine => "engine",
            CacheScope::Tenant => "tenant",
            CacheScope::Key => "key",
            CacheScope::User => "user",
        }
    }
}

/// As it is written now, or as journals of earlier versions have it: whether only the tenant's own.
fn cache_scope<'de, D: serde::Deserializer<'de>>(from: D) -> Result<CacheScope, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Own(bool),
        Scope(CacheScope),
    }
    Ok(match Written::deserialize(from)? {
        Written::Scope(scope) => scope,
        Written::Own(true) => CacheScope::Tenant,
        Written::Own(false) => CacheScope::Engine,
    })
}

/// Bounds of what nodes of a workflow say of their cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRule {
    /// What may be had and kept.
    pub mode: Caching,
    /// Longest time for which something is kept, in milliseconds; `None` = as the node says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Widest circle of requests with which results are shared, whatever the node says.
    #[serde(alias = "own", deserialize_with = "cache_scope", default)]
    pub scope: CacheScope,
}

/// Retries of a call at other candidates or, where there is none, the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetryRule {
    /// Most attempts of one call, the first included.
    pub max: u32,
    /// Pause before the first retry, in milliseconds; `None` = as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// Each further pause is so many times as long, 1..=10; `None` = twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Longest pause, in milliseconds; `None` = as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max_ms: Option<u64>,
    /// Pauses last as long as is said, rather than between nothing and that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Only after failures of these codes ([`crate::provider::ErrorKind::RETRY_NAMES`]); empty = all that may pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
    /// No other model serves a further attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
    /// A pause that a vendor asks for is not kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub impatient: bool,
}

/// Instructions that are added to the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemText {
    /// The text.
    pub text: String,
    /// Before the instructions of the request rather than behind them.
    pub before: bool,
}

/// What a limit counts for, each its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The tenant.
    Tenant,
    /// The key.
    Key,
    /// The end user that the request names.
    User,
    /// The model that is called.
    Model,
    /// The value of this label of the request.
    Label(String),
}

/// Whose requests a limit of a rule counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Those of each tenant by themselves.
    #[default]
    Tenant,
    /// Those of all tenants.
    All,
}

impl Over {
    /// Whether each tenant is counted by itself, as everywhere else.
    #[must_use]
    pub fn is_tenant(&self) -> bool {
        *self == Over::Tenant
    }

    /// What the holder of such a limit begins with ([`crate::limits::OVER_ALL`]).
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Over::Tenant => "",
            Over::All => crate::limits::OVER_ALL,
        }
    }
}

/// At most so much of something: a limit whose holder is known only when the request is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitRule {
    /// For whom.
    pub per: Per,
    /// Whose requests count together.
    #[serde(default, skip_serializing_if = "Over::is_tenant")]
    pub over: Over,
    /// The models of which each is counted by itself: a model, alias, glob or pool; `None` = all. Only of [`Per::Model`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of what; concurrency has no window.
    pub metric: Metric,
    /// How much in one window, for money in USD. Above 0; rates may be fractions.
    pub amount: f64,
    /// Over which time.
    pub window: Window,
}

/// A group of people, one of whom must agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The group; a name of the rules file's `approvers`.
    pub group: String,
    /// Why, for whoever decides.
    pub reason: String,
    /// How long the question stands, in milliseconds; no answer is a rejection.
    pub expires_ms: u64,
}

/// Where something is redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In what goes to providers.
    Input,
    /// In what goes to the client.
    Output,
    /// In what is recorded.
    Logs,
}

/// What becomes of a value that is redacted, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedactAction {
    /// A token such as `[EMAIL_1]`, the same for the same value within a request.
    Mask,
    /// A keyed hash, the same for the same value of a tenant.
    Hash,
    /// Removed.
    Drop,
    /// The request or answer is refused.
    Block,
}

/// Redaction of one kind of value in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redact {
    /// What kind.
    pub entity: Entity,
    /// Where.
    pub place: Place,
    /// What becomes of it.
    pub action: RedactAction,
    /// Tokens of a mask are replaced back in the client's answer.
    pub restore: bool,
}

/// How much of a request's content may be recorded, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogContent {
    /// Nothing that quotes the request or the answer, and no labels.
    None,
    /// Nothing that quotes the request or the answer.
    Metadata,
    /// Quotations, with what `redact` names masked.
    Redacted,
    /// Everything.
    Full,
}

/// Caps, demands and changes that are seldom set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Further {
    /// Regions outside which no provider may be called.
    pub residency: Option<Set<Vec<String>>>,
    /// What providers must promise.
    pub data: Option<Set<DataDemand>>,
    /// Floor under the lower confidence bound of success, 0..=1.
    pub min_quality: Option<Set<f64>>,
    /// Ceiling on the share of choices that are drawn rather than best, 0..=1; 0 = the best only.
    pub explore: Option<Set<f64>>,
    /// Keeps an arm.
    pub sticky: Option<Set<Sticky>>,
    /// Price of models whose own is not known.
    pub assume_price: Option<Set<AssumedPrice>>,
    /// Whether the request may use what budgets hold back for premium ones.
    pub premium: Option<Set<bool>>,
    /// What it gives way to.
    pub priority: Option<Set<Priority>>,
    /// Form that the answer must have.
    pub format: Option<Set<Format>>,
    /// How much may stream unchecked.
    pub stream: Option<Set<StreamMode>>,
    /// Values for variables that the workflow declares.
    pub vars: BTreeMap<String, Set<Value>>,
    /// Where to escalate.
    pub escalate: Option<Set<Escalate>>,
    /// Retries.
    pub retry: Option<Set<RetryRule>>,
    /// Ceiling on the tokens of the request tree, input and output.
    pub cap_tokens: Option<Set<u32>>,
    /// Ceiling on the calls of the request tree.
    pub cap_calls: Option<Set<u32>>,
    /// Ceiling on the attempts of one call, other candidates included.
    pub cap_attempts: Option<Set<u32>>,
    /// Samples of the workflow's primary `generate` node, 1..=16, within `cap_fanout`.
    pub fanout: Option<Set<u32>>,
    /// Ceiling on the samples of every `generate` node.
    pub cap_fanout: Option<Set<u32>>,
    /// Further calls of the primary `generate` node beside slow ones.
    pub hedge: Option<Set<HedgeRule>>,
    /// Bounds of what repair nodes do.
    pub repair: Option<Set<RepairRule>>,
    /// Sampling parameters where neither the ceiling nor a workflow's node says otherwise: `temperature`,
    /// `top_p`, `max_tokens`, `seed`.
    pub params: BTreeMap<String, Set<Value>>,
    /// Added instructions, in order.
    pub system: Vec<Set<SystemText>>,
    /// Rates and concurrencies that must hold, all of them.
    pub limits: Vec<Set<LimitRule>>,
    /// Who must agree, all of them.
    pub approvals: Vec<Set<Approval>>,
    /// What is redacted; one entry per kind and place.
    pub redact: Vec<Set<Redact>>,
    /// Lists of tools: what is not on each of them may be neither offered nor called. Names, or patterns in
    /// which `*` stands for any text.
    pub allow_tools: Vec<Set<Vec<String>>>,
    /// Tools that may be neither offered nor called; names or patterns.
    pub deny_tools: Vec<Set<String>>,
    /// How much may be recorded.
    pub log: Option<Set<LogContent>>,
    /// How many milliseconds after its end the record is erased, at least 1.
    pub retention: Option<Set<u64>>,
    /// The experiments that the request may be part of, by their ids, in order; empty = none.
    pub experiment: Option<Set<Vec<String>>>,
    /// Runs beside the live one, each for its share of the requests.
    pub shadow: Vec<Set<ShadowRule>>,
    /// Bounds of what is kept of nodes' results.
    pub cache: Option<Set<CacheRule>>,
    /// The request fails if its record cannot be stored; the rule that demands it.
    pub audit: Option<RuleId>,
    /// Headers of the answer.
    pub headers: BTreeMap<String, Set<String>>,
}

impl Further {
    /// The rule that forbids to offer or call a tool; `None` = it may be.
    #[must_use]
    pub fn forbids_tool(&self, name: &str) -> Option<&RuleId> {
        let denied = self.deny_tools.iter().find(|d| glob(&d.value, name)).map(|d| &d.rule);
        let lacks = |list: &&Set<Vec<String>>| !list.value.iter().any(|a| glob(a, name));
        denied.or_else(|| self.allow_tools.iter().find(lacks).map(|a| &a.rule))
    }
}

/// The merged result of all policies for one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directives {
    /// Every rule and what it made of the request.
    pub rules: Vec<RuleRecord>,
    /// Every action of the matching rules and what became of it.
    pub actions: Vec<ActionRecord>,
    /// Values that rules read and that stand nowhere else in the record of a decision, by their paths; texts and
    /// whole maps are left out.
    pub inputs: Vec<(Arc<str>, Value)>,
    /// Refusals; any one denies the request.
    pub denials: Vec<Denial>,
    /// Models that may not be candidates, in order, with the first rule that removed each.
    pub removed: Vec<(ModelIx, RuleId)>,
    /// log₂ of the factor on a model's utility, from `prefer` and `avoid`, clamped to −2..=2; in order of the
    /// models.
    pub boost: Vec<(ModelIx, f64)>,
    /// Multipliers of the utility's weights.
    pub weights: TermWeights,
    /// Ceiling on the cost of the request tree.
    pub cap_cost: Option<Set<Usd>>,
    /// Ceiling on the whole answer's latency.
    pub cap_latency: Option<Set<Duration>>,
    /// Ceiling on output tokens.
    pub cap_max_tokens: Option<Set<u32>>,
    /// Ceiling on temperature.
    pub cap_temperature: Option<Set<f64>>,
    /// The workflow to run.
    pub workflow: Option<Set<String>>,
    /// Validators to add before delivery, in the form of a workflow's list.
    pub validators: Vec<Set<Value>>,
    /// Labels for the record.
    pub tags: BTreeMap<String, String>,
    /// Everything else; `None` = nothing of it is set.
    pub further: Option<Box<Further>>,
}

impl Directives {
    /// The rule that removed a model, if one did.
    #[must_use]
    pub fn removed_by(&self, ix: ModelIx) -> Option<&RuleId> {
        let at = self.removed.binary_search_by_key(&ix, |(m, _)| *m).ok()?;
        self.removed.get(at).map(|(_, rule)| rule)
    }

    /// log₂ of the factor on a model's utility; 0 = none.
    #[must_use]
    pub fn boost_of(&self, ix: ModelIx) -> f64 {
        let at = self.boost.binary_search_by_key(&ix, |(m, _)| *m).ok();
        at.and_then(|at| self.boost.get(at)).map_or(0.0, |(_, boost)| *boost)
    }
}

/// Named sets of models, resolved against one matrix.
pub type Pools = BTreeMap<String, ModelSet>;
