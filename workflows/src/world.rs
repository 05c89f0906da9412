//! The seam through which everything leaves a workflow that is not computed from its inputs.
//!
//! Model calls, tool calls, checks outside the process, decisions of people, stored results, waiting and the
//! clock. Each effect carries an [`EffectId`] that is the same whenever the same plan is run again on the
//! same input with the same results, so that an implementor can write effects down, give them back in the
//! order in which they arrived, and so repeat a run to the byte.

use crate::budget::Purse;
use crate::retry::Retry;
use crate::route::Route;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::matrix::Model;
use types::provider::{self, Edits};
use types::runs::SideEffect;
use types::{Chunk, Completion, Report, Verdict};

/// What kind of effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EffectKind {
    /// A call of a model.
    Model,
    /// A call of a tool.
    Tool,
    /// A check outside the process.
    Check,
    /// A person's decision.
    Gate,
    /// A result read from or written to a store.
    Cache,
    /// Waiting: a node's own time, a pause before another attempt, the end of the run.
    Wait,
}

impl EffectKind {
    /// As written in journals and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            EffectKind::Model => "model",
            EffectKind::Tool => "tool",
            EffectKind::Check => "check",
            EffectKind::Gate => "gate",
            EffectKind::Cache => "cache",
            EffectKind::Wait => "wait",
        }
    }
}

/// Which effect of a run. Unique within it, and the same in every repetition; whether the *content* is the
/// same as well, the `digest` of each question tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EffectId {
    /// The node instance, such as `work[2]/act[0]/run`; empty for the run itself.
    pub frame: Arc<str>,
    /// What kind.
    pub kind: EffectKind,
    /// Which one of the node instance: the sample, the check, the n-th wait. From 0.
    pub index: u32,
    /// Which attempt at it. From 1.
    pub attempt: u32,
}

impl EffectId {
    /// Of a node instance.
    #[must_use]
    pub fn new(frame: &Arc<str>, kind: EffectKind, index: u32, attempt: u32) -> Self {
        EffectId { frame: frame.clone(), kind, index, attempt }
    }
}

impl std::fmt::Display for EffectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}.{}:{}", self.frame, self.index, self.attempt, self.kind.as_str())
    }
}

/// BLAKE3 of a value with its keys in order, 64 hex digits.
pub(crate) fn digest(value: &Value) -> String {
    blake3::hash(crate::plan::sorted(value).to_string().as_bytes()).to_hex().to_string()
}

/// Everything outside: implemented by the engine, by wrappers that write down and repeat, and by scripts in
/// tests. Whatever has a default answers honestly that there is none of it.
pub trait World: Send + Sync {
    /// Gets one answer for a node. The implementor chooses candidates by `ask.route` (for `ask.primary`:
    /// the candidates of the decision, in order), retries, falls back, reserves money and records the call.
    ///
    /// With `ask.stream` a [`Generated::Stream`] is given only once the first content has arrived; until
    /// then every failure is an `Err`. Dropping the future, or the stream, aborts the call.
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>>;

    /// What is known of a tool before it is called; `None`: there is none of that name.
    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        let _ = name;
        None
    }

    /// Calls a tool. Policies may refuse it. Dropping the future must not stop a call that may change the
    /// world each time it is made, unless the tool says that it may be interrupted.
    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(async move { Err(ToolFailure::Unknown(ask.tool.to_string())) })
    }

    /// Runs a check outside the process: `code_tests`, `http`, `script`.
    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            Report {
                verdict: Verdict::Unverified,
                reason: Some(format!("nothing here runs `{}`", ask.check)),
                findings: Vec::new(),
            }
        })
    }

    /// Asks people for a decision. `None`: nobody has decided yet, and the run is to wait without running.
    fn gate(&self, ask: GateAsk) -> BoxFuture<'_, Option<GateReply>> {
        let _ = ask;
        Box::pin(async { None })
    }

    /// What a node put out earlier under the same key, if it is kept.
    fn recall(&self, ask: CacheAsk) -> BoxFuture<'_, Option<Cached>> {
        let _ = ask;
        Box::pin(async { None })
    }

    /// Keeps what a node has put out.
    fn keep(&self, ask: CacheAsk, cached: Cached) -> BoxFuture<'_, ()> {
        let _ = (ask, cached);
        Box::pin(async {})
    }

    /// Waits until a moment: a node's time limit, a pause, the end of the run. A repetition ends the waits
    /// that ended in the original, and no other.
    fn wait(&self, id: EffectId, until: Instant) -> BoxFuture<'_, ()> {
        let _ = id;
        Box::pin(tokio::time::sleep_until(until))
    }

    /// The time as the run sees it. A repetition gives what the original got at the same `moment`.
    fn now(&self, moment: &Moment<'_>) -> Instant {
        let _ = moment;
        Instant::now()
    }
}

/// What is known of a tool before it is called.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// Its name.
    pub name: Arc<str>,
    /// What it does, for models.
    pub description: String,
    /// JSON Schema of its arguments.
    pub input_schema: Arc<Value>,
    /// What a call may change.
    pub side_effect: SideEffect,
    /// Longest time of one call.
    pub timeout: Duration,
    /// A call under way may be dropped.
    pub interruptible: bool,
    /// Its results may be read as more than data.
    pub trusted: bool,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub struct ToolAsk {
    /// Which effect this is.
    pub id: EffectId,
    /// The tool.
    pub tool: Arc<str>,
    /// Its arguments, which fit its schema.
    pub args: Value,
    /// Equal for calls that must not take effect twice.
    pub idempotency_key: String,
    /// Longest time of this call.
    pub timeout: Duration,
}

impl ToolAsk {
    /// BLAKE3 of what is asked, 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&serde_json::json!([&*self.tool, self.args, self.idempotency_key]))
    }
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolReply {
    /// Its result.
    pub result: Value,
    /// The tool itself says that it failed.
    pub is_error: bool,
}

/// Why a tool gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolFailure {
    /// There is no tool of that name.
    #[error("there is no tool `{0}`")]
    Unknown(String),
    /// A policy or the node's own list forbids it; why.
    #[error("the call is not allowed: {0}")]
    Denied(String),
    /// Its arguments do not fit its schema; how.
    #[error("the arguments do not fit: {0}")]
    BadArgs(String),
    /// It took too long.
    #[error("the tool took too long")]
    Timeout,
    /// It could not be called, or broke.
    #[error("the tool failed: {0}")]
    Failed(String),
    /// Nobody knows whether an unsafe call took effect; a person must say.
    #[error("it is not known whether the call took effect")]
    InDoubt,
}

/// A check outside the process.
#[derive(Clone, Debug)]
pub struct CheckAsk {
    /// Which effect this is.
    pub id: EffectId,
    /// `code_tests`, `http` or `script`.
    pub check: Arc<str>,
    /// Its parameters, references resolved.
    pub with: Value,
    /// The answer to check.
    pub completion: Arc<Completion>,
    /// Longest time.
    pub timeout: Duration,
}

impl CheckAsk {
    /// BLAKE3 of what is asked, 64 hex digits.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&serde_json::json!([&*self.check, self.with, self.completion.text()]))
    }
}

/// A question to people.
#[derive(Clone, Debug, PartialEq)]
pub struct GateAsk {
    /// Which effect this is.
    pub id: EffectId,
    /// What is shown.
    pub prompt: String,
    /// Groups whose members may decide; empty: whoever may decide at all.
    pub approvers: Vec<String>,
    /// Whether who asked may decide.
    pub self_approval: bool,
    /// Time until the question lapses.
    pub expires: Duration,
}

impl GateAsk {
    /// BLAKE3 of what is shown, 64 hex digits: a decision is bound to it.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&serde_json::json!([self.prompt, self.approvers, self.self_approval]))
    }
}

/// What people decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateReply {
    /// Yes; by whom, with what comment.
    Approved(Option<String>),
    /// No; by whom, with what comment.
    Rejected(Option<String>),
    /// Nobody decided in time.
    Expired,
}

/// Under which name a node's outputs are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheAsk {
    /// Which effect this is.
    pub id: EffectId,
    /// BLAKE3 of the node's plan, its inputs and what it depends on, 64 hex digits.
    pub key: String,
    /// Shared by all tenants, or else the tenant's own.
    pub shared: bool,
    /// How long it is kept.
    pub ttl: Duration,
    /// For a match by meaning: the text, and the least similarity, 0..=1.
    pub similar: Option<(String, f64)>,
}

/// What a node put out.
#[derive(Clone, Debug, PartialEq)]
pub struct Cached {
    /// How it resolved.
    pub outcome: String,
    /// Its outputs by name; a completion stands as `{"$completion": n}`.
    pub outputs: Value,
    /// The completions, each with the model that gave it.
    pub completions: Vec<(Completion, Arc<Model>)>,
}

/// Lets the results of effects into a run one at a time.
///
/// A run goes as far as it can between two results. Were two let in at once, the order of what follows from
/// each of them would hang on which was looked at first; a repetition could not know. So whoever writes
/// effects down lets each result pass here before it notes and returns it, and whoever repeats a run gives
/// each result only when it is the next on record, and after a turn of its own.
#[derive(Debug, Default)]
pub struct Turns(tokio::sync::Mutex<()>);

impl Turns {
    /// Waits until everything that can go on has gone on, and until those who came before have passed.
    pub async fn pass(&self) {
        let _mine = self.0.lock().await;
        tokio::task::yield_now().await;
    }
}

/// At which point of a run the time is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment<'a> {
    /// The node instance; empty for the run itself.
    pub frame: &'a str,
    /// `begin`, `end`, `ask` or `answer`.
    pub what: &'static str,
    /// As in [`EffectId::index`].
    pub index: u32,
    /// As in [`EffectId::attempt`].
    pub attempt: u32,
}

/// What a node wants of a model.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which effect this is; `id.frame` is the node instance that asks.
    pub id: EffectId,
    /// For the record: `primary`, `generate`, `sample`, `repair:<strategy>`, `judge`.
    pub purpose: Cow<'static, str>,
    /// The candidates of the decision are meant; `route` adds nothing then.
    pub primary: bool,
    /// Which models may serve it.
    pub route: Arc<Route>,
    /// What is different from the client's request.
    pub edits: Edits,
    /// Answer as a stream, if the model can.
    pub stream: bool,
    /// The node's own time limit; the request's deadline holds as well.
    pub timeout: Option<Duration>,
    /// When the run must start to finish: nothing is begun that cannot end before.
    pub deadline: Option<Instant>,
    /// How a failed call is tried again; `None`: as is usual.
    pub retry: Option<Arc<Retry>>,
    /// What the call may cost: money is set aside here before it is spent, and settled after.
    pub purse: Arc<Purse>,
    /// The response is out: the call belongs to what is done after it, and not to its record.
    pub late: bool,
    /// `provider/model` that are to be used only when there is no other.
    pub avoid: Vec<Arc<str>>,
    /// `provider/model` that must not be used.
    pub not_models: Vec<Arc<str>>,
    /// Families of models that must not be used.
    pub not_families: Vec<String>,
}

impl Ask {
    /// The node instance that asks.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.id.frame
    }

    /// BLAKE3 of what is asked, 64 hex digits. The client's request is not in it: it is the run's own input.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&serde_json::json!({
            "purpose": self.purpose, "primary": self.primary, "route": self.route.canonical(),
            "edits": format!("{:?}", self.edits), "stream": self.stream,
            "avoid": self.avoid.iter().map(|m| &**m).collect::<Vec<_>>(),
            "not_models": self.not_models.iter().map(|m| &**m).collect::<Vec<_>>(),
            "not_families": self.not_families,
        }))
    }
}

/// An answer.
pub enum Generated {
    /// Whole.
    Whole {
        /// The answer.
        completion: Completion,
        /// Who gave it.
        model: Arc<Model>,
    },
    /// As a stream that has begun.
    Stream {
        /// Who gives it.
        model: Arc<Model>,
        /// Everything up to and including the first content.
        head: Vec<Chunk>,
        /// The rest. It ends only after the vendor's own end; every other end is an `Err` as last item.
        rest: BoxStream<'static, Result<Chunk, provider::Error>>,
    },
}

impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Generated::Whole { completion, model } => {
                f.debug_struct("Whole").field("model", &model.id).field("completion", completion).finish()
            }
            Generated::Stream { model, head, .. } => {
                f.debug_struct("Stream").field("model", &model.id).field("head", head).finish_non_exhaustive()
            }
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Every candidate failed; the most useful of their errors.
    #[error(transparent)]
    Provider(#[from] provider::Error),
    /// Nothing may serve it; why.
    #[error("no model may serve this call: {0}")]
    NoCandidate(String),
    /// A budget is used up: `usd`, `tokens`, `calls`, `node_runs`, `tenant`.
    #[error("the budget `{0}` is used up")]
    Budget(&'static str),
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
}
