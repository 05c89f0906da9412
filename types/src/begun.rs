//! A call of a model that is about to be made: all that is left of a request whose process dies before its end.

use crate::completion::Usage;
use crate::decision::Decision;
use crate::outcome::{Account, Billed, Late, Outcome, RewardParts, Status, UNSETTLED, expiry};
use crate::profile::Cell;
use crate::run::{AtMost, CallRecord, Purpose, Run, Step, Verdict};
use crate::store::RequestRecord;
use crate::units::Usd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A line of the log from before a call. The line of the request's end stands for all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// What is the same of all calls of the request.
    pub of: Arc<Beginning>,
    /// The model that is called, `provider/model`.
    pub call: Arc<str>,
    /// What the call may cost at most; `None` = the price is unknown.
    pub reserved: Option<Usd>,
    /// Tokens that it may use at most; `None` = written by a version that did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// As [`Beginning::counters`], of limits of its model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<u64>,
    /// It is made after the response, and stands in no record of the request itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// What is known of a request before its first call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beginning {
    /// The request, as it will be recorded.
    pub request_id: String,
    /// Unix time in milliseconds at which it was decided.
    pub ts_ms: i64,
    /// Whose request.
    pub tenant: String,
    /// Identifier of the virtual key; empty = none was asked for.
    pub key: String,
    /// Labels, as the account of the request has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Where it is pooled.
    pub cell: Cell,
    /// The `model` of the request.
    pub model_asked: String,
    /// Workflow of the arm that was chosen.
    pub workflow: Arc<str>,
    /// Model of that arm.
    pub model: Arc<str>,
    /// Hash of the configuration that it was decided under.
    pub bundle: String,
    /// Milliseconds for which its record is kept; `None` = while there is room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// As in [`Account`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<u64>,
}

/// What an unsettled request says of itself.
const WHY: &str = "the process ended before this request did: what is known of it was written before its calls, and \
                   what they were allowed to cost counts as their cost";

/// What was paid for after the response of a request whose process ended meanwhile, as [`unsettled`] counts it, settled
/// now, at `ts_ms`. `None` = nothing was called.
#[must_use]
pub fn unsettled_late(calls: &[Begun], ts_ms: i64) -> Option<Late> {
    let request_id = calls.first()?.of.request_id.clone();
    Some(Late { request_id, ts_ms, calls: billed(calls), beside: Vec::new() })
}

/// The record of a request whose process ended before it did: each of its calls counts for what it was allowed to
/// cost. `None` = nothing was called.
#[must_use]
pub fn unsettled(calls: &[Begun]) -> Option<RequestRecord> {
    let of = &calls.first()?.of;
    let run = run(of, calls);
    let (cost_usd, cost_known) = run.cost();
    let outcome = Outcome {
        request_id: of.request_id.clone(),
        ts_ms: of.ts_ms,
        tenant: of.tenant.clone(),
        cell: of.cell,
        workflow: of.workflow.clone(),
        model: of.model.clone(),
        served_by: None,
        served_in: None,
        redacted: BTreeMap::new(),
        continued: false,
        status: Status::Failed,
        error: Some(UNSETTLED.to_owned()),
        verdict: Verdict::None,
        reward: None,
        parts: RewardParts::default(),
        usage: Usage::default(),
        cost_usd,
        cost_known,
        ttft_ms: None,
        total_ms: 0.0,
        overhead_ms: 0.0,
        calls: u32::try_from(calls.len()).unwrap_or(u32::MAX),
        repairs: 0,
        observations: Vec::new(),
        propensity: 0.0,
        basis: None,
        account: Some(account(of, calls)),
        expires_ms: of.retention_ms.map(|ms| expiry(of.ts_ms, ms)),
        learned: None,
    };
    Some(RequestRecord { decision: decision(of), run, outcome })
}

fn run(of: &Beginning, calls: &[Begun]) -> Run {
    let call = |(begun, attempt): (&Begun, u32)| CallRecord {
        attempt,
        at_most: begun.tokens.map(|tokens| AtMost { tokens, usd: begun.reserved.unwrap_or_default() }),
        ..CallRecord::lost(begun.call.clone(), Purpose::Unsettled, begun.reserved, "the process ended")
    };
    let step = Step {
        calls: calls.iter().zip(1..).map(call).collect(),
        note: Some(WHY.to_owned()),
        ..Step::new(UNSETTLED, "generate", "cancelled")
    };
    Run { workflow: of.workflow.to_string(), steps: vec![step], ..Run::default() }
}

/// What each model may have been paid for.
fn billed(calls: &[Begun]) -> Vec<Billed> {
    let mut billed: Vec<Billed> = Vec::new();
    for begun in calls {
        let cost_usd = begun.reserved.unwrap_or_default();
        let unpriced = u32::from(begun.reserved.is_none());
        match billed.iter_mut().find(|b| b.model == begun.call) {
            Some(b) => {
                b.calls = b.calls.saturating_add(1);
                b.unpriced = b.unpriced.saturating_add(unpriced);
                b.cost_usd = b.cost_usd.plus(cost_usd);
                b.estimated = b.calls;
                b.estimated_usd = b.cost_usd;
            }
            None => {
                let model = begun.call.clone();
                // What is set aside is the most that it may cost.
                let (estimated, estimated_usd) = (1, cost_usd);
                let one = Billed {
                    model,
                    calls: 1,
                    unpriced,
                    cost_usd,
                    estimated,
                    estimated_usd,
                    ..Billed::default()
                };
                billed.push(one);
            }
        }
    }
    billed
}

fn account(of: &Beginning, calls: &[Begun]) -> Account {
    let of_models = calls.iter().flat_map(|begun| &begun.counters);
    let mut counters: Vec<u64> = of.counters.iter().chain(of_models).copied().collect();
    counters.sort_unstable();
    counters.dedup();
    let (key, tags) = (of.key.clone(), of.tags.clone());
    Account { key, tags, calls: billed(calls), counters, ..Account::default() }
}

fn decision(of: &Beginning) -> Decision {
    Decision {
        request_id: of.request_id.clone(),
        ts_ms: of.ts_ms,
        tenant: of.tenant.clone(),
        key: of.key.clone(),
        engine_version: "".into(),
        model_asked: of.model_asked.clone(),
        profile: Vec::new(),
        cell: of.cell,
        est_input_tokens: 0,
        rules: Vec::new(),
        actions: Vec::new(),
        inputs: BTreeMap::new(),
        denials: Vec::new(),
        options: BTreeMap::new(),
        arms: Vec::new(),
        excluded: Vec::new(),
        unavailable: Arc::default(),
        chosen: None,
        why: WHY.to_owned(),
        propensity: 0.0,
        epsilon: 0.0,
        explored: false,
        seed: 0,
        lambda: 0.0,
        cost_ref_usd: Usd::ZERO,
        reference: None,
        statistics: 0,
        bundle: of.bundle.clone(),
        ended_under: None,
        premium: None,
        tags: of.tags.clone(),
        left_out: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::{OutputContract, TaskFamily};

    #[test]
    fn every_call_counts_for_what_it_was_allowed_to_cost() {
        let cell = Cell::plain(TaskFamily::Chat, OutputContract::Prose);
        let of = Arc::new(Beginning {
            request_id: "r".to_owned(),
            ts_ms: 5,
            tenant: "acme".to_owned(),
            key: "k".to_owned(),
            tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
            cell,
            model_asked: "auto".to_owned(),
            workflow: "default".into(),
            model: "p/m".into(),
            bundle: "b".to_owned(),
            retention_ms: Some(60_000),
            counters: vec![7],
        });
        let begun = |call: &str, reserved: Option<i64>| Begun {
            of: of.clone(),
            call: call.into(),
            reserved: reserved.map(Usd::from_nanos),
            tokens: Some(100),
            counters: vec![9],
            late: false,
        };
        assert!(unsettled(&[]).is_none());
        let record = unsettled(&[begun("p/m", Some(7)), begun("p/n", None), begun("p/m", Some(4))]).unwrap();
        let o = &record.outcome;
        assert_eq!(o.expires_ms, Some(60_005));
        assert!(o.is_unsettled() && o.status == Status::Failed && o.reward.is_none());
        assert_eq!((o.cost_usd, o.cost_known, o.calls), (Usd::from_nanos(11), false, 3));
        let account = o.account.as_ref().unwrap();
        let billed: Vec<_> =
            account.calls.iter().map(|b| (&*b.model, b.calls, b.unpriced, b.cost_usd.nanos())).collect();
        assert_eq!(billed, [("p/m", 2, 0, 11), ("p/n", 1, 1, 0)]);
        assert_eq!((account.key.as_str(), account.tags.len()), ("k", 1));
        assert_eq!(account.counters, [7, 9]);
        let tokens: u64 = record.run.calls().map(|c| c.counted().tokens).sum();
        assert_eq!((record.run.calls().count(), tokens, o.usage), (3, 300, Usage::default()));
        let late = unsettled_late(&[begun("p/m", Some(7))], 9).unwrap();
        assert_eq!((late.request_id.as_str(), late.calls[0].cost_usd.nanos(), late.ts_ms), ("r", 7, 9));
        let line = begun("p/m", Some(7));
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Begun>(&text).unwrap(), line);
    }
}
