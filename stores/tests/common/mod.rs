//! Sample records, and an observer that sums what it is told.
#![allow(dead_code, reason = "each test binary uses its part")]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use types::axis::{OutputContract, TaskFamily};
use types::begun::{Beginning, Begun};
use types::completion::Usage;
use types::decision::{Arm, Decision, Terms};
use types::outcome::{Account, Feedback, Outcome, RewardParts, Status};
use types::profile::Cell;
use types::run::Purpose;
use types::run::{CallRecord, Run, Step, Verdict};
use types::store::{Observer, Record, RequestRecord, Seq};
use types::{UnitInterval, Usd};

pub(crate) const MODEL: &str = "simulated/small";

fn cell() -> Cell {
    Cell::plain(TaskFamily::Extraction, OutputContract::Schema)
}

fn decision(id: &str) -> Decision {
    let terms = Terms {
        success: 0.8,
        bonus: 0.1,
        optimistic: 0.9,
        quality: 1.0,
        schema: 0.97,
        cost: 0.99,
        latency: 0.5,
        in_time: 0.75,
        safety: 1.0,
        preference: 1.0,
        circuit: 1.0,
        price: 0.0,
        switching: 0.0,
        prior: 0.6,
        strength: 8.0,
    };
    let arm = Arm {
        workflow: "default".into(),
        model: MODEL.into(),
        utility: 0.3,
        terms,
        expected_cost_usd: Some(Usd::from_nanos(12_345)),
        cost_correction: 1.0,
        outcomes: 7.5,
        propensity: 0.95,
    };
    Decision {
        request_id: id.to_owned(),
        ts_ms: 1_700_000_000_000,
        tenant: "acme".to_owned(),
        key: String::new(),
        engine_version: "".into(),
        model_asked: "auto".to_owned(),
        profile: Vec::new(),
        cell: cell(),
        est_input_tokens: 300,
        rules: Vec::new(),
        actions: Vec::new(),
        inputs: BTreeMap::new(),
        denials: Vec::new(),
        options: BTreeMap::new(),
        arms: vec![arm; 3],
        excluded: Vec::new(),
        unavailable: Arc::default(),
        chosen: Some(0),
        why: "best expected utility".to_owned(),
        propensity: 0.95,
        epsilon: 0.05,
        explored: false,
        seed: u64::MAX,
        lambda: 1.0,
        cost_ref_usd: Usd::from_dollars(0.01),
        reference: None,
        statistics: 3,
        bundle: "abc".to_owned(),
        ended_under: None,
        premium: None,
        tags: BTreeMap::from([("team".to_owned(), "größe \u{0}".to_owned())]),
        left_out: BTreeMap::new(),
    }
}

fn run(usage: Usage) -> Run {
    let call = CallRecord {
        model: MODEL.into(),
        purpose: Purpose::Primary,
        attempt: 1,
        error: None,
        usage,
        cost_usd: Some(Usd::from_nanos(12_345)),
        at_most: None,
        beyond_usd: None,
        ttft_ms: Some(12.25),
        total_ms: 30.5,
        unread_ms: 0.5,
        started_ms: 0.25,
        adjusted: Vec::new(),
        reported_model: "small-1".to_owned(),
    };
    let step = Step { duration_ms: 31.0, calls: vec![call], ..Step::new("answer", "generate", "ok") };
    Run {
        workflow: "default".to_owned(),
        steps: vec![step],
        verdict: Verdict::Passed,
        served_by: Some(MODEL.into()),
        ..Run::default()
    }
}

/// A request with `tokens` output tokens.
pub(crate) fn request(id: &str, tokens: u32) -> RequestRecord {
    let usage = Usage { input: 300, output: tokens, ..Usage::default() };
    let outcome = Outcome {
        request_id: id.to_owned(),
        ts_ms: 1_700_000_000_000 + i64::from(tokens) * 1_000,
        tenant: "acme".to_owned(),
        cell: cell(),
        workflow: "default".into(),
        model: MODEL.into(),
        served_by: Some(MODEL.into()),
        served_in: None,
        redacted: BTreeMap::new(),
        continued: false,
        status: Status::Delivered,
        error: None,
        verdict: Verdict::Passed,
        reward: UnitInterval::new(0.75),
        parts: RewardParts { contract: Some(0.75), ..RewardParts::default() },
        usage,
        cost_usd: Usd::from_nanos(12_345),
        cost_known: true,
        ttft_ms: Some(12.25),
        total_ms: 31.5,
        overhead_ms: 1.0,
        calls: 1,
        repairs: 0,
        observations: Vec::new(),
        propensity: 0.95,
        basis: None,
        account: None,
        expires_ms: None,
        learned: None,
    };
    RequestRecord { decision: decision(id), run: run(usage), outcome }
}

/// A call of a request that may cost so many nano-dollars.
pub(crate) fn begun(id: &str, nanos: i64) -> Begun {
    let of = Beginning {
        request_id: id.to_owned(),
        ts_ms: 1_700_000_000_000,
        tenant: "acme".to_owned(),
        key: "k1".to_owned(),
        tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        cell: cell(),
        model_asked: "auto".to_owned(),
        workflow: "default".into(),
        model: MODEL.into(),
        bundle: "abc".to_owned(),
        retention_ms: None,
        counters: Vec::new(),
    };
    let (call, reserved) = (MODEL.into(), Some(Usd::from_nanos(nanos)));
    Begun { of: Arc::new(of), call, reserved, tokens: None, counters: Vec::new(), late: false }
}

pub(crate) fn request_line(id: &str, tokens: u32) -> Record {
    Record::Request(Box::new(request(id, tokens)))
}

/// As [`request_line`], erased at `due_ms`; everywhere where it can quote somebody it says `mark`.
pub(crate) fn expiring(id: &str, tokens: u32, due_ms: i64, mark: &str) -> Record {
    let mut r = request(id, tokens);
    let tags = BTreeMap::from([(mark.to_owned(), mark.to_owned())]);
    r.decision.tags.clone_from(&tags);
    r.decision.why = mark.to_owned();
    r.run.steps.iter_mut().for_each(|step| step.note = Some(mark.to_owned()));
    r.outcome.account = Some(Account { key: "k1".to_owned(), tags, ..Account::default() });
    r.outcome.expires_ms = Some(due_ms);
    Record::Request(Box::new(r))
}

/// As [`word_line`], for a reason.
pub(crate) fn saying(id: &str, source: &str, score: u32, reason: &str) -> Record {
    Record::Feedback(Feedback { reason: Some(reason.to_owned()), ..word(id, source, score) })
}

/// `score` in hundredths.
pub(crate) fn word(id: &str, source: &str, score: u32) -> Feedback {
    Feedback {
        request_id: id.to_owned(),
        ts_ms: 1_700_000_100_000,
        score: UnitInterval::clamped(f64::from(score) / 100.0),
        reason: None,
        principal: String::new(),
        source: source.to_owned(),
    }
}

pub(crate) fn word_line(id: &str, source: &str, score: u32) -> Record {
    Record::Feedback(word(id, source, score))
}

/// Mean of the words that count, in hundredths.
pub(crate) fn points(all: &[Feedback]) -> u64 {
    let sum: f64 = all.iter().map(|f| f.score.get()).sum();
    (sum * 100.0 / all.len() as f64).round() as u64
}

/// What an observer was told: integers, so that sums are exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub(crate) outcomes: u64,
    pub(crate) tokens: u64,
    pub(crate) words: u64,
    /// Sum of [`points`] over all words told.
    pub(crate) points: u64,
    /// The position went back.
    pub(crate) disorder: u64,
    pub(crate) last: Seq,
}

/// How often the observer gives its state: each n-th batch; 0 = never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SaveEvery(pub(crate) u32);

/// Sums into what its maker can see.
pub(crate) struct Summing {
    pub(crate) sums: Arc<Mutex<Sums>>,
    pub(crate) save: SaveEvery,
    pub(crate) batches: u32,
}

pub(crate) fn summing(save: SaveEvery) -> (Arc<Mutex<Sums>>, Box<Summing>) {
    let sums = Arc::new(Mutex::new(Sums::default()));
    (Arc::clone(&sums), Box::new(Summing { sums, save, batches: 0 }))
}

impl Observer for Summing {
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        *self.sums.lock().unwrap() = serde_json::from_slice(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn state(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&*self.sums.lock().unwrap()).ok()
    }

    fn outcome(&mut self, seq: Seq, outcome: &Outcome) {
        let mut sums = self.sums.lock().unwrap();
        sums.outcomes += 1;
        sums.tokens += u64::from(outcome.usage.output);
        sums.disorder += u64::from(seq < sums.last);
        sums.last = seq;
    }

    fn feedback(&mut self, seq: Seq, outcome: &Outcome, all: &[Feedback]) -> Outcome {
        let mut sums = self.sums.lock().unwrap();
        sums.words += 1;
        sums.points += points(all);
        sums.disorder += u64::from(seq < sums.last);
        sums.last = seq;
        let mean = points(all) as f64 / 100.0;
        let mut outcome = outcome.clone();
        outcome.parts.feedback = Some(mean);
        outcome.reward = Some(UnitInterval::clamped(mean));
        outcome
    }

    fn batch_done(&mut self) -> Option<Vec<u8>> {
        self.batches += 1;
        let due = self.save.0 > 0 && self.batches.is_multiple_of(self.save.0);
        due.then(|| serde_json::to_vec(&*self.sums.lock().unwrap()).unwrap())
    }
}

/// Waits for a future, on a runtime of its own.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
