//! What a run's journal says, record by record.

use super::{Decision, State, Usd, Value};
use serde::{Deserialize, Serialize};

/// Version of journals. It is raised with whatever makes an older journal come out otherwise where it is walked again: what
/// is noted, in which order, and how what is asked is told apart; a test of the engine holds a journal of it.
pub const JOURNAL: u32 = 2;

/// What a tool may have done when it is not known whether it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideEffect {
    /// Nothing: it may simply run again.
    #[default]
    None,
    /// Nothing more the second time, under the same key.
    Idempotent,
    /// Anything: a person decides.
    Unsafe,
}

/// Under which plan a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanChoice {
    /// The one it began with.
    #[default]
    Pinned,
    /// The one in force, where nothing that has resolved is different in it.
    Latest,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The beginning.
    RunStarted {
        /// Hash of the plan.
        plan: String,
        /// Name of the workflow.
        workflow: String,
        /// Hash of the configuration in force.
        bundle: String,
        /// Seed of every draw.
        seed: u64,
        /// Unix time in milliseconds that the run takes for its start.
        at_ms: i64,
        /// Everything else that the run was given and that a repetition needs.
        input: Value,
        /// Variant of an experiment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        variant: Option<String>,
        /// [`JOURNAL`] as it was then; 0 = it was not noted yet.
        #[serde(default)]
        journal: u32,
        /// Version of the program that began it; empty = it was not noted yet.
        #[serde(default)]
        version: String,
    },
    /// How it was decided: candidates, terms, propensities, the choice.
    Decision {
        /// All of it.
        decision: Box<Decision>,
    },
    /// A node instance starts.
    NodeStarted {
        /// Which one, such as `work[2]/act[0]/run`.
        frame: String,
        /// Its type.
        node: String,
    },
    /// An effect is about to be asked for.
    CallIntent {
        /// Which one of the run: `<frame>#<index>.<attempt>:<kind>`.
        effect: String,
        /// What for: `primary`, `judge`, the name of a tool or check.
        purpose: String,
        /// Hash of what is asked.
        digest: String,
        /// Money set aside for it; what it is settled at when its result is lost.
        reservation: Usd,
        /// What it may have done if its result is lost.
        side_effect: SideEffect,
        /// An earlier asking has no result: this one may be billed a second time.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        maybe_billed_twice: bool,
    },
    /// An effect was answered.
    CallResult {
        /// Which one.
        effect: String,
        /// The answer or the error, whole.
        result: Value,
        /// What it cost; `None` = nothing, or the price is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Usd>,
        /// Input and output tokens.
        #[serde(default)]
        tokens: u64,
    },
    /// The time as the run was told it.
    Time {
        /// The node instance; empty = the run itself.
        frame: String,
        /// At which point: `begin`, `end`, `ask`, `answer`.
        what: String,
        /// Which one of the node instance.
        index: u32,
        /// Which attempt at it.
        attempt: u32,
        /// Nanoseconds since the run's start.
        nanos: u64,
    },
    /// What the checks of a node instance said.
    ValidatorResult {
        /// Which one.
        frame: String,
        /// What they said.
        verdict: String,
        /// Their findings.
        findings: Value,
    },
    /// An edge became live or dead.
    Edge {
        /// The node instance it leaves.
        from: String,
        /// The node it leads to, in the same graph instance.
        to: String,
        /// Live, or else dead.
        live: bool,
    },
    /// A node instance resolved.
    NodeResolved {
        /// Which one.
        frame: String,
        /// Its type.
        node: String,
        /// How.
        outcome: String,
        /// Anything else worth reading.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The run waits for somebody outside.
    Suspended {
        /// `suspended` or `needs_attention`.
        state: State,
        /// For what.
        waiting: Value,
    },
    /// The run goes on: after a wait, a crash, a failure.
    Resumed {
        /// Why: `posted`, `woken`, `taken_over`, `asked`.
        why: String,
        /// Under which plan.
        plan: PlanChoice,
        /// What was posted meanwhile and is taken up now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        posts: Vec<super::Posted>,
        /// It is walked again from its beginning: results on record are given to whoever asks the same.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        anew: bool,
        /// Effects whose recorded result holds no longer: they are asked for again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        retry: Vec<String>,
    },
    /// A budget or the deadline cut it short.
    Budget {
        /// `usd`, `tokens`, `calls`, `node_runs`, `wall`.
        budget: String,
    },
    /// Text for the client.
    Stream {
        /// Bytes of text before this piece.
        offset: u64,
        /// The piece.
        text: String,
    },
    /// The end.
    RunFinished {
        /// A final state.
        state: State,
        /// The answer or the error.
        result: Value,
    },
}

impl Record {
    /// Every kind, as written in journals and events.
    pub const KINDS: &'static [&'static str] = &[
        "run_started",
        "decision",
        "node_started",
        "call_intent",
        "call_result",
        "time",
        "validator_result",
        "edge",
        "node_resolved",
        "suspended",
        "resumed",
        "budget",
        "stream",
        "run_finished",
    ];

    /// Which of [`Record::KINDS`] this is.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Record::RunStarted { .. } => "run_started",
            Record::Decision { .. } => "decision",
            Record::NodeStarted { .. } => "node_started",
            Record::CallIntent { .. } => "call_intent",
            Record::CallResult { .. } => "call_result",
            Record::Time { .. } => "time",
            Record::ValidatorResult { .. } => "validator_result",
            Record::Edge { .. } => "edge",
            Record::NodeResolved { .. } => "node_resolved",
            Record::Suspended { .. } => "suspended",
            Record::Resumed { .. } => "resumed",
            Record::Budget { .. } => "budget",
            Record::Stream { .. } => "stream",
            Record::RunFinished { .. } => "run_finished",
        }
    }
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps, per run; of a run that forgot what led to its end only the last ones are left.
    pub seq: u64,
    /// Unix time in milliseconds at which it was written, by the store's clock.
    pub ts_ms: i64,
    /// Number of the ownership under which it was written.
    pub epoch: u64,
    /// What it says.
    pub record: Record,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One of each kind, in the order of [`Record::KINDS`].
    fn samples() -> Vec<Value> {
        vec![
            json!({"kind": "run_started", "plan": "p", "workflow": "w", "bundle": "b", "seed": u64::MAX, "at_ms": 5, "input": {},
                   "journal": 1, "version": "0.1.0"}),
            json!({"kind": "node_started", "frame": "a", "node": "generate"}),
            json!({"kind": "call_intent", "effect": "a#0.1:model", "purpose": "primary", "digest": "d",
                   "reservation": 0.25, "side_effect": "none"}),
            json!({"kind": "call_result", "effect": "a#0.1:model", "result": {"x": 1.5}, "tokens": 3}),
            json!({"kind": "time", "frame": "", "what": "begin", "index": 0, "attempt": 1, "nanos": 7}),
            json!({"kind": "validator_result", "frame": "c", "verdict": "passed", "findings": []}),
            json!({"kind": "edge", "from": "a", "to": "b", "live": true}),
            json!({"kind": "node_resolved", "frame": "a", "node": "generate", "outcome": "ok"}),
            json!({"kind": "suspended", "state": "needs_attention", "waiting": {"for": "tool"}}),
            json!({"kind": "resumed", "why": "posted", "plan": "latest",
                   "posts": [{"number": 1, "ts_ms": 2, "key": "gate:g", "body": true}]}),
            json!({"kind": "budget", "budget": "usd"}),
            json!({"kind": "stream", "offset": 3, "text": "ä"}),
            json!({"kind": "run_finished", "state": "succeeded", "result": null}),
        ]
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        let mut kinds = Vec::new();
        for sample in samples() {
            let record: Record = serde_json::from_value(sample.clone()).unwrap();
            let written = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&written).unwrap(), record);
            assert_eq!(serde_json::to_value(&record).unwrap(), sample);
            assert_eq!(sample["kind"], record.kind());
            kinds.push(record.kind());
        }
        let all: Vec<&str> = Record::KINDS.iter().copied().filter(|k| *k != "decision").collect();
        assert_eq!(kinds, all);
    }
}
