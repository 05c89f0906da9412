//! A journal as a run is repeated from it: records that must come again in the same order, and results that
//! are given to whoever asks the same.

use super::account::MODEL;
use super::again::last_anew;
use serde::Deserialize as _;
use serde_json::Value;
use std::collections::HashMap;
use types::run::CallRecord;
use types::runs::{Entry, Record, Spent, State};

/// The first point at which a repetition differs from what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Divergence {
    /// Sequence number of the record.
    pub seq: u64,
    /// What it says, in words; empty = the journal ends there.
    pub recorded: String,
    /// What the repetition did instead.
    pub found: String,
}

/// A result on record, for whoever asks the same.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pooled {
    /// Hash of what was asked.
    pub(super) digest: String,
    /// The record of the answer.
    pub(super) record: Record,
    pub(super) seq: u64,
}

/// What is recorded, and how far a repetition has come.
#[derive(Debug, Default)]
pub(super) struct Tape {
    strict: Vec<Entry>,
    position: usize,
    pool: HashMap<String, Pooled>,
    /// How often an effect went out again since its result was lost.
    retried: HashMap<String, u32>,
    /// What went out before the strict part and never came back: hashes of what was asked.
    lost: HashMap<String, String>,
    /// What was used before the strict part.
    before: Spent,
}

impl Tape {
    /// The tape of a journal: strict from the last point at which the run was walked anew (or began).
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let start = last_anew(&entries).map_or(0, |at| at.saturating_add(1));
        let mut pool = HashMap::new();
        let mut lost: HashMap<String, String> = HashMap::new();
        let mut retried: HashMap<String, u32> = HashMap::new();
        for entry in &entries {
            if let Record::CallIntent { effect, maybe_billed_twice: true, .. } = &entry.record {
                let n = retried.entry(effect.clone()).or_default();
                *n = n.saturating_add(1);
            }
        }
        let mut before = Spent::default();
        for entry in entries.iter().take(start) {
            add(&mut before, &entry.record);
            match &entry.record {
                Record::CallIntent { effect, digest, .. } => {
                    lost.insert(effect.clone(), digest.clone());
                }
                Record::CallResult { effect, .. } if !is_cancelled(&entry.record) => {
                    let digest = lost.remove(effect).unwrap_or_default();
                    let pooled = Pooled { digest, record: entry.record.clone(), seq: entry.seq };
                    pool.insert(effect.clone(), pooled);
                }
                Record::Resumed { retry, .. } => retry.iter().for_each(|effect| {
                    pool.remove(effect);
                }),
                _ => {}
            }
        }
        let mut strict: Vec<Entry> = entries.into_iter().skip(start).collect();
        if ended_from_outside(&strict).is_some() {
            let walked = |e: &Entry| !is_note(&e.record) && !is_cancelled(&e.record);
            let end = strict.iter().rposition(walked).map_or(0, |at| at.saturating_add(1));
            let tail = strict.split_off(end);
            tail.iter().for_each(|e| add(&mut before, &e.record));
            strict.extend(tail.into_iter().filter(|e| is_note(&e.record)));
        }
        // Notes are passed over, so what they say was used counts from the start.
        for entry in strict.iter().filter(|e| is_note(&e.record)) {
            add(&mut before, &entry.record);
        }
        Tape { strict, position: 0, pool, retried, lost, before }
    }

    /// What was used before anything of the strict part comes again.
    pub(super) fn spent_before(&self) -> Spent {
        self.before
    }

    /// What is on record as used, everything together.
    #[cfg(test)]
    pub(super) fn spent_in_all(&self) -> Spent {
        let mut spent = self.before;
        self.strict.iter().filter(|e| !is_note(&e.record)).for_each(|e| add(&mut spent, &e.record));
        spent
    }

    /// How often an effect went out again since its result was lost.
    pub(super) fn retried(&self, effect: &str) -> u32 {
        self.retried.get(effect).copied().unwrap_or(0)
    }

    /// Everything recorded has come again: from here on the run goes on by itself.
    pub(super) fn is_over(&mut self) -> bool {
        self.skip_notes();
        self.position >= self.strict.len()
    }

    /// The next record that must come.
    pub(super) fn next(&mut self) -> Option<&Entry> {
        self.skip_notes();
        self.strict.get(self.position)
    }

    /// It has come.
    pub(super) fn advance(&mut self) {
        self.position = self.position.saturating_add(1);
    }

    /// A result on record for an effect that asks what was asked then; it is given once.
    pub(super) fn take_pooled(&mut self, effect: &str, digest: &str) -> Option<Pooled> {
        if self.pool.get(effect).is_none_or(|p| p.digest != digest) {
            return None;
        }
        self.pool.remove(effect)
    }

    /// Whether an effect that asks this went out before the strict part, and nobody knows what became of it.
    pub(super) fn is_lost(&self, effect: &str, digest: &str) -> bool {
        self.lost.get(effect).is_some_and(|d| d == digest)
    }

    /// Sequence number at which the repetition stands.
    pub(super) fn seq(&self) -> u64 {
        match self.strict.get(self.position) {
            Some(entry) => entry.seq,
            None => self.strict.last().map_or(1, |e| e.seq.saturating_add(1)),
        }
    }

    /// The latest time that the run was told, nanoseconds since its start.
    pub(super) fn latest_nanos(&self) -> u64 {
        let time = |e: &Entry| match e.record {
            Record::Time { nanos, .. } => nanos,
            _ => 0,
        };
        self.strict.iter().map(time).max().unwrap_or(0)
    }

    /// Records that no repetition makes: of the worker, not of the walk.
    fn skip_notes(&mut self) {
        while self.strict.get(self.position).is_some_and(|e| is_note(&e.record)) {
            self.position = self.position.saturating_add(1);
        }
    }
}

/// Adds what a record says was used. What was only taken over from an earlier walk was paid then.
fn add(spent: &mut Spent, record: &Record) {
    match record {
        Record::CallResult { result, cost, tokens, .. } if result.get("from").is_none() => {
            spent.usd = spent.usd.plus(cost.unwrap_or_default());
            spent.tokens = spent.tokens.saturating_add(*tokens);
            spent.calls = spent.calls.saturating_add(calls_in(result));
        }
        // The result that was lost is settled at what was set aside for it.
        Record::CallIntent { maybe_billed_twice: true, reservation, effect, .. } => {
            spent.usd = spent.usd.plus(*reservation);
            // Calls of tools and checks are none of a model.
            spent.calls = spent.calls.saturating_add(u32::from(effect.ends_with(MODEL)));
        }
        _ => {}
    }
}

/// The result of a run that did not come to its end but was ended by somebody, or by its time, or could not go on.
/// What its walk then let go of stands at the end of the record, and no repetition lets go of it: it waits there.
pub(super) fn ended_from_outside(entries: &[Entry]) -> Option<&Value> {
    let mut last = entries.iter().rev().map(|e| &e.record);
    match (last.next()?, last.next()) {
        (Record::RunFinished { state: State::Cancelled | State::Expired, result }, _)
        | (Record::RunFinished { state: State::Failed, result }, Some(Record::Resumed { .. })) => {
            Some(result)
        }
        _ => None,
    }
}

/// The model calls that a result took; none where it was only taken over, for what was paid then.
pub(super) fn paid_calls(result: &Value) -> Vec<CallRecord> {
    let calls = result.get("calls").filter(|_| result.get("from").is_none());
    calls.and_then(|calls| Vec::deserialize(calls).ok()).unwrap_or_default()
}

/// How many model calls a result took.
pub(super) fn calls_in(result: &Value) -> u32 {
    let calls = result.get("calls").and_then(Value::as_array).map_or(0, Vec::len);
    u32::try_from(calls).unwrap_or(u32::MAX)
}

/// A record that the worker makes beside the walk.
pub(super) fn is_note(record: &Record) -> bool {
    matches!(
        record,
        Record::RunStarted { .. }
            | Record::Decision { .. }
            | Record::Suspended { .. }
            | Record::Resumed { .. }
            | Record::Stream { .. }
            | Record::RunFinished { .. }
            | Record::CallIntent { maybe_billed_twice: true, .. }
    )
}

/// The answer was no longer needed and never came.
pub(super) fn is_cancelled(record: &Record) -> bool {
    matches!(record, Record::CallResult { result, .. } if result.get("cancelled").is_some())
}

/// Whether a repetition that makes `found` does what was `recorded`. What depends on the outside (results,
/// costs, money set aside) is taken from the record and not compared.
pub(super) fn is_same(recorded: &Record, found: &Record) -> bool {
    match (recorded, found) {
        (
            Record::CallIntent { effect: a, digest: x, purpose: p, .. },
            Record::CallIntent { effect: b, digest: y, purpose: q, .. },
        ) => a == b && x == y && p == q,
        (Record::CallResult { effect: a, .. }, Record::CallResult { effect: b, .. }) => {
            a == b && is_cancelled(recorded) == is_cancelled(found)
        }
        (
            Record::Time { frame, what, index, attempt, .. },
            Record::Time { frame: f, what: w, index: i, attempt: a, .. },
        ) => frame == f && what == w && index == i && attempt == a,
        (a, b) => a == b,
    }
}

/// A record in words, for reports.
pub(super) fn words(record: &Record) -> String {
    match record {
        Record::NodeStarted { frame, .. } => format!("node_started {frame}"),
        Record::NodeResolved { frame, outcome, .. } => format!("node_resolved {frame}: {outcome}"),
        Record::Edge { from, to, live } => {
            format!("edge {from} -> {to}: {}", if *live { "live" } else { "dead" })
        }
        Record::CallIntent { effect, digest, .. } => {
            format!("call_intent {effect} ({})", digest.get(..12).unwrap_or(digest))
        }
        Record::CallResult { effect, .. } if is_cancelled(record) => {
            format!("call_result {effect}: cancelled")
        }
        Record::CallResult { effect, .. } => format!("call_result {effect}"),
        Record::Time { frame, what, index, attempt, .. } => {
            format!("time {frame} {what} {index}.{attempt}")
        }
        Record::ValidatorResult { frame, verdict, .. } => format!("validator_result {frame}: {verdict}"),
        Record::Budget { budget } => format!("budget {budget}"),
        other => other.kind().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use types::Usd;
    use types::runs::{PlanChoice, SideEffect};

    fn entries(records: Vec<Record>) -> Vec<Entry> {
        (1..).zip(records).map(|(seq, record)| Entry { seq, ts_ms: 0, epoch: 1, record }).collect()
    }

    fn intent(effect: &str, digest: &str, twice: bool) -> Record {
        Record::CallIntent {
            effect: effect.into(),
            purpose: "p".into(),
            digest: digest.into(),
            reservation: Usd::ZERO,
            side_effect: SideEffect::None,
            maybe_billed_twice: twice,
        }
    }

    fn result(effect: &str, result: serde_json::Value) -> Record {
        Record::CallResult { effect: effect.into(), result, cost: None, tokens: 0 }
    }

    fn resumed(anew: bool, retry: &[&str]) -> Record {
        let retry = retry.iter().map(|s| (*s).to_owned()).collect();
        Record::Resumed { why: "asked".into(), plan: PlanChoice::Pinned, posts: vec![], anew, retry }
    }

    #[test]
    fn a_lost_call_of_a_tool_is_none_of_a_model() {
        let mut spent = Spent::default();
        for (effect, calls) in [("a#0.2:tool", 0), ("a#0.2:model", 1)] {
            add(&mut spent, &intent(effect, "x", true));
            assert_eq!(spent.calls, calls, "{effect}");
        }
    }

    #[test]
    fn notes_are_passed_over() {
        let node = Record::NodeStarted { frame: "a".into(), node: "set".into() };
        let mut tape = Tape::new(entries(vec![
            resumed(false, &[]),
            node.clone(),
            intent("a", "d", true),
            Record::Stream { offset: 0, text: "x".into() },
        ]));
        assert_eq!(tape.next().map(|e| e.seq), Some(2));
        assert!(is_same(&tape.next().unwrap().record.clone(), &node));
        tape.advance();
        assert!(tape.is_over() && tape.next().is_none());
        assert_eq!(tape.seq(), 5);
    }

    #[test]
    fn what_was_answered_before_a_new_walk_is_given_to_who_asks_the_same() {
        let mut tape = Tape::new(entries(vec![
            intent("a", "d1", false),
            result("a", json!(1)),
            intent("b", "d2", false),
            result("b", json!({"cancelled": true})),
            intent("c", "d3", false),
            result("c", json!(3)),
            resumed(true, &["c"]),
            Record::NodeStarted { frame: "a".into(), node: "set".into() },
        ]));
        assert_eq!(tape.next().map(|e| e.seq), Some(8));
        assert!(tape.take_pooled("a", "other").is_none(), "it asks something else");
        assert_eq!(tape.take_pooled("a", "d1").unwrap().record, result("a", json!(1)));
        assert!(tape.take_pooled("a", "d1").is_none(), "once");
        assert!(tape.take_pooled("b", "d2").is_none() && tape.take_pooled("c", "d3").is_none());
    }

    #[test]
    fn what_went_out_and_never_came_back_is_lost_to_who_asks_the_same() {
        let tape = Tape::new(entries(vec![
            intent("a", "d1", false),
            result("a", json!(1)),
            intent("b", "d2", false),
            result("b", json!({"cancelled": true})),
            intent("c", "d3", false),
            resumed(true, &[]),
            intent("d", "d4", false),
        ]));
        let lost = |effect, digest| tape.is_lost(effect, digest);
        assert!(lost("b", "d2") && lost("c", "d3"));
        assert!(!lost("a", "d1") && !lost("c", "other") && !lost("d", "d4"));
    }

    #[test]
    fn what_was_let_go_of_when_somebody_ended_the_run_need_not_come_again() {
        let end = |state| Record::RunFinished { state, result: json!({"error": 1}) };
        let cancelled = |effect| result(effect, json!({"cancelled": true}));
        let journal = |state| {
            entries(vec![
                intent("a", "d1", false),
                intent("b", "d2", false),
                cancelled("a"),
                intent("c", "d3", false),
                cancelled("b"),
                cancelled("c"),
                end(state),
            ])
        };
        for (state, strict) in [(State::Cancelled, 4), (State::Expired, 4), (State::Failed, 6)] {
            let mut tape = Tape::new(journal(state));
            (0..strict).for_each(|n| {
                assert!(!tape.is_over(), "{state:?}: {n}");
                tape.advance();
            });
            assert!(tape.is_over(), "{state:?}");
            assert_eq!(tape.seq(), 8, "{state:?}");
        }
    }

    #[test]
    fn what_comes_from_outside_is_not_compared() {
        assert!(is_same(&result("a", json!(1)), &result("a", json!(2))));
        assert!(!is_same(&result("a", json!(1)), &result("b", json!(1))));
        assert!(!is_same(&result("a", json!(1)), &result("a", json!({"cancelled": true}))));
        assert!(!is_same(&intent("a", "d1", false), &intent("a", "d2", false)));
        let edge = |live| Record::Edge { from: "a".into(), to: "b".into(), live };
        assert!(is_same(&edge(true), &edge(true)) && !is_same(&edge(true), &edge(false)));
    }
}
