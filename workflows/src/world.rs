//! The seam through which everything leaves a workflow that is not computed from its inputs.
//!
//! Model calls, tool calls, checks outside the process, decisions of people, stored results, waiting and the
//! clock. Each effect carries an [`EffectId`] that is the same whenever the same plan is run again on the
//! same input with the same results, so that an implementor can write effects down, give them back in the
//! order in which they arrived, and so repeat a run to the byte.

use futures_util::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::{Report, Verdict};

mod ask;
mod model;

pub use ask::{
    CacheAsk, Cached, CheckAsk, ClientAsk, Consent, GateAsk, GateReply, Own, Recalled, Similar, ToolAsk,
    ToolFailure, ToolReply, ToolSpec,
};
pub use model::{Ask, Distinct, Failure, Generated, Served, Spread};

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
    /// Results of the client's own tools.
    Client,
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
            EffectKind::Client => "client",
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
    blake3::hash(crate::canonical::sorted(value).to_string().as_bytes()).to_hex().to_string()
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

    /// How long it usually takes at most until the answer to `ask` begins, or is whole where it is not to be
    /// streamed: the quantile `q`, 0..1, of the model that would be asked first. `None`: nobody knows.
    fn patience(&self, ask: &Ask, q: f64) -> Option<Duration> {
        let _ = (ask, q);
        None
    }

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

    /// Runs a check outside the process (`code_tests`, `http`, `script`), or one of this process that has a time limit.
    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            if let Some(own) = &ask.own {
                return own.run();
            }
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

    /// Waits for the client to run tools of its own; gives a result for each call, in their order. `None`: there
    /// are none yet, and the run is to wait without running.
    fn client(&self, ask: ClientAsk) -> BoxFuture<'_, Option<Vec<Value>>> {
        let _ = ask;
        Box::pin(async { None })
    }

    /// What a node put out earlier under the same key, or for a similar question, if it is kept.
    fn recall(&self, ask: CacheAsk) -> BoxFuture<'_, Option<Recalled>> {
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
