//! The reward of an answer: a weighted mean of what was observed of it, missing parts left out.

use std::collections::BTreeMap;
use types::UnitInterval;
use types::outcome::{Feedback, Outcome, RewardParts};

/// Weights of the parts: what was checked or said by people counts most, what only hints at it least.
const CONTRACT: f64 = 0.4;
const SEMANTIC: f64 = 0.2;
const JUDGE: f64 = 0.2;
const FEEDBACK: f64 = 0.4;
const NO_REPAIR: f64 = 0.1;
const NO_RETRY: f64 = 0.1;

/// reward = Σ wᵢ·xᵢ / Σ wᵢ over the observed parts i; `None` when nothing of substance was observed: that no
/// repair was needed or that nobody asked again says something only beside another part.
#[must_use]
pub fn reward(parts: &RewardParts) -> Option<UnitInterval> {
    let substance = [parts.contract, parts.semantic, parts.judge, parts.feedback];
    if substance.iter().all(Option::is_none) {
        return None;
    }
    let weighted = [
        (CONTRACT, parts.contract),
        (SEMANTIC, parts.semantic),
        (JUDGE, parts.judge),
        (FEEDBACK, parts.feedback),
        (NO_REPAIR, parts.no_repair),
        (NO_RETRY, parts.no_retry),
    ];
    let (sum, weight) = weighted
        .iter()
        .filter_map(|(w, x)| x.map(|x| (w, x.clamp(0.0, 1.0))))
        .fold((0.0, 0.0), |(sum, weight), (w, x)| (sum + w * x, weight + w));
    Some(UnitInterval::clamped(sum / weight))
}

/// What people and judges say: the mean of the judge's score and the feedback, where there is either.
#[must_use]
pub fn opinion(parts: &RewardParts) -> Option<f64> {
    match (parts.judge, parts.feedback) {
        (Some(a), Some(b)) => Some(f64::midpoint(a, b)),
        (a, b) => a.or(b),
    }
}

/// The outcome with all feedback on it: the mean over the principals, and of each the mean over its sources, so that
/// nobody outweighs others by naming many.
#[must_use]
pub fn with_feedback(outcome: &Outcome, all: &[Feedback]) -> Outcome {
    let mut after = outcome.clone();
    if let Some(mean) = feedback(all, |_| 1.0) {
        after.parts.feedback = Some(mean);
    }
    after.reward = reward(&after.parts);
    after
}

/// The mean of what was said, each word as far as `heard` says, 0..=1: over the principals, and of each over its sources.
/// `None` = nothing is heard.
pub(crate) fn feedback(all: &[Feedback], heard: impl Fn(&Feedback) -> f64) -> Option<f64> {
    // Of each principal: what is heard of its words, that times their scores, and how many there are.
    let mut by_principal: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for word in all {
        let (weight, sum, n) = by_principal.entry(&word.principal).or_default();
        let heard = heard(word);
        (*weight, *sum, *n) = (*weight + heard, *sum + heard * word.score.get(), *n + 1.0);
    }
    let heard = by_principal.values().filter(|(weight, ..)| *weight > 0.0);
    let (weight, sum) = heard.fold((0.0, 0.0), |(all, sum), (weight, scores, n)| {
        let principal = weight / n;
        (all + principal, sum + principal * (scores / weight))
    });
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use types::axis::{OutputContract, TaskFamily};
    use types::outcome::{CallObservation, Status};
    use types::profile::Cell;
    use types::{Usage, Usd, Verdict};

    /// An outcome of an arm with a contract that held as far as `reward` says.
    pub(crate) fn sample(workflow: &str, model: &str, reward: f64) -> Outcome {
        Outcome {
            request_id: "req_1".into(),
            ts_ms: 0,
            tenant: "default".into(),
            cell: Cell::plain(TaskFamily::Extraction, OutputContract::Schema),
            workflow: workflow.into(),
            model: model.into(),
            served_by: Some(model.into()),
            served_in: None,
            redacted: BTreeMap::new(),
            continued: false,
            status: Status::Delivered,
            error: None,
            verdict: Verdict::Passed,
            reward: UnitInterval::new(reward),
            parts: RewardParts { contract: Some(reward), ..RewardParts::default() },
            usage: Usage::default(),
            cost_usd: Usd::ZERO,
            cost_known: true,
            ttft_ms: None,
            total_ms: 10.0,
            overhead_ms: 0.1,
            calls: 1,
            repairs: 0,
            observations: vec![CallObservation {
                model: model.into(),
                ok: true,
                refused: false,
                cut: false,
                ttft_ms: Some(5.0),
                total_ms: 10.0,
                output_tokens: 3,
            }],
            propensity: 1.0,
            basis: None,
            account: None,
            expires_ms: None,
            learned: None,
        }
    }

    fn check(parts: RewardParts, expected: Option<f64>) {
        let got = reward(&parts).map(UnitInterval::get);
        match (got, expected) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{parts:?}: {a}"),
            (a, b) => assert_eq!(a, b, "{parts:?}"),
        }
    }

    #[test]
    fn missing_parts_are_left_out_and_the_rest_renormalised() {
        let none = RewardParts::default();
        check(none, None);
        check(RewardParts { no_repair: Some(1.0), ..none }, None);
        check(RewardParts { contract: Some(1.0), ..none }, Some(1.0));
        check(RewardParts { contract: Some(1.0), no_repair: Some(0.0), ..none }, Some(0.8));
        check(RewardParts { contract: Some(1.0), feedback: Some(0.0), ..none }, Some(0.5));
        check(RewardParts { judge: Some(0.5), feedback: Some(f64::INFINITY), ..none }, Some(0.5 / 0.6));
    }
}
