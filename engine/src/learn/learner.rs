//! The one writer of the statistics.

use super::snapshot::{ArmStats, ModelStats, Snapshot, Statistics};
use crate::outcome;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use types::axis::AxisValue;
use types::outcome::{Feedback, Outcome, Status};
use types::store::{Observer, Seq};

/// Name of the model of an arm whose workflow chooses its models itself.
pub(crate) const ANY_MODEL: &str = "*";

/// Time to the first token of a model that has never streamed, milliseconds: the matrix' default.
const TTFT_MS: f64 = 800.0;

/// Bounds and constants of learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// γ: what an outcome weighs after the next one. Default 0.99.
    pub discount: f64,
    /// Arms kept; an arm beyond that is not learned of, and counted. Default 4 096.
    pub arms: usize,
    /// Cells kept per arm; beyond that the one with the least evidence goes. Default 512.
    pub cells: usize,
    /// Outcomes between two saved states. Default 64.
    pub save_every: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { discount: 0.99, arms: 4_096, cells: 512, save_every: 64 }
    }
}

/// A learner and the handle to what it publishes.
#[must_use]
pub fn learner(limits: Limits) -> (Learner, Statistics) {
    let statistics = Statistics::default();
    let learner = Learner {
        limits,
        arms: HashMap::new(),
        models: HashMap::new(),
        seen: [0; 8],
        version: 0,
        unsaved: 0,
        changed: false,
        published: statistics.clone(),
    };
    (learner, statistics)
}

type Arms = HashMap<Arc<str>, HashMap<Arc<str>, Arc<ArmStats>>>;

/// Folds outcomes into statistics. A pure fold over the log: the same records in the same order give the
/// same statistics, so what is learned after a restart equals what was learned before.
#[derive(Debug)]
pub struct Learner {
    limits: Limits,
    arms: Arms,
    models: HashMap<Arc<str>, Arc<ModelStats>>,
    seen: [u64; 8],
    version: u64,
    unsaved: u32,
    changed: bool,
    published: Statistics,
}

/// What is saved; the version guards against a later format.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    version: u64,
    seen: [u64; 8],
    arms: Vec<(Arc<str>, Arc<str>, ArmStats)>,
    models: Vec<(Arc<str>, ModelStats)>,
}

const FORMAT: u32 = 1;

impl Learner {
    /// The arm that an outcome speaks of: the model that gave the first answer. When the chosen one could not
    /// be reached that is another; its absence is the breaker's business and no evidence against its answers.
    fn credited(outcome: &Outcome) -> Option<Arc<str>> {
        if &*outcome.model == ANY_MODEL {
            return Some(outcome.model.clone());
        }
        outcome.observations.iter().find(|o| o.ok).map(|o| o.model.clone())
    }

    fn arm(&mut self, workflow: &Arc<str>, model: &Arc<str>) -> Option<&mut ArmStats> {
        let known = self.arms.get(workflow).is_some_and(|m| m.contains_key(model));
        if !known && self.arms.values().map(HashMap::len).sum::<usize>() >= self.limits.arms {
            return None;
        }
        let arm = self.arms.entry(workflow.clone()).or_default().entry(model.clone()).or_default();
        Some(Arc::make_mut(arm))
    }

    fn learn_reward(&mut self, o: &Outcome, model: &Arc<str>, reward: f64) {
        let Limits { discount, cells, .. } = self.limits;
        let Some(arm) = self.arm(&o.workflow, model) else { return };
        arm.total.add(reward, discount);
        if let Some(f) = arm.families.get_mut(o.cell.family.index()) {
            f.add(reward, discount);
        }
        if arm.cells.len() >= cells && !arm.cells.contains_key(&o.cell) {
            let least =
                arm.cells.iter().min_by(|a, b| a.1.n.total_cmp(&b.1.n).then(a.0.cmp(b.0))).map(|(c, _)| *c);
            if let Some(c) = least {
                arm.cells.remove(&c);
            }
        }
        arm.cells.entry(o.cell).or_default().add(reward, discount);
    }

    /// What was said of the answer itself, beyond its reward.
    fn learn_answer(&mut self, o: &Outcome, model: &Arc<str>) {
        let discount = self.limits.discount;
        let Some(arm) = self.arm(&o.workflow, model) else { return };
        if let Some(c) = o.parts.contract {
            arm.contract.add(c, discount);
        }
        if let Some(q) = outcome::opinion(&o.parts) {
            arm.quality.add(q, discount);
        }
        if let Some(n) = self.seen.get_mut(o.cell.family.index()) {
            *n = n.saturating_add(1);
        }
    }

    fn revise(&mut self, before: &Outcome, after: &Outcome, model: &Arc<str>) {
        let (Some(was), Some(is)) = (before.reward, after.reward) else { return };
        let discount = self.limits.discount;
        let Some(arm) = self.arm(&after.workflow, model) else { return };
        arm.total.revise(was.get(), is.get());
        if let Some(f) = arm.families.get_mut(after.cell.family.index()) {
            f.revise(was.get(), is.get());
        }
        if let Some(c) = arm.cells.get_mut(&after.cell) {
            c.revise(was.get(), is.get());
        }
        match (outcome::opinion(&before.parts), outcome::opinion(&after.parts)) {
            (None, Some(q)) => arm.quality.add(q, discount),
            (Some(a), Some(b)) => arm.quality.revise(a, b),
            _ => {}
        }
    }

    fn publish(&mut self) {
        self.version = self.version.saturating_add(1);
        self.published.publish(Snapshot {
            version: self.version,
            arms: self.arms.clone(),
            models: self.models.clone(),
            seen: self.seen,
        });
    }

    fn state(&self) -> State {
        let mut arms: Vec<_> = self
            .arms
            .iter()
            .flat_map(|(w, models)| models.iter().map(|(m, a)| (w.clone(), m.clone(), (**a).clone())))
            .collect();
        arms.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut models: Vec<_> = self.models.iter().map(|(m, s)| (m.clone(), (**s).clone())).collect();
        models.sort_by(|a, b| a.0.cmp(&b.0));
        State { format: FORMAT, version: self.version, seen: self.seen, arms, models }
    }
}

impl Observer for Learner {
    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let state: State = serde_json::from_slice(state).map_err(|e| format!("saved statistics: {e}"))?;
        if state.format != FORMAT {
            return Err(format!(
                "saved statistics have format {}, this version reads {FORMAT}",
                state.format
            ));
        }
        self.version = state.version;
        self.seen = state.seen;
        self.arms.clear();
        for (w, m, a) in state.arms {
            self.arms.entry(w).or_default().insert(m, Arc::new(a));
        }
        self.models = state.models.into_iter().map(|(m, s)| (m, Arc::new(s))).collect();
        self.publish();
        Ok(())
    }

    fn outcome(&mut self, _seq: Seq, outcome: &Outcome) {
        self.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        let discount = self.limits.discount;
        for seen in &outcome.observations {
            if !self.models.contains_key(&seen.model) && self.models.len() >= self.limits.arms {
                continue;
            }
            let m = Arc::make_mut(self.models.entry(seen.model.clone()).or_default());
            m.answered.add(if seen.ok { 1.0 } else { 0.0 }, discount);
            if !seen.ok {
                continue;
            }
            // An answer in one piece does not say when it began: its whole time is not that of its first
            // token, or a model would look slower the longer it was asked to write.
            if let Some(first) = seen.ttft_ms {
                m.ttft.add(first, discount);
            }
            if seen.output_tokens > 0 {
                m.output_tokens.add(f64::from(seen.output_tokens), discount);
                let begun = seen.ttft_ms.unwrap_or_else(|| m.ttft.median(TTFT_MS).min(seen.total_ms * 0.9));
                m.per_token.add((seen.total_ms - begun) / f64::from(seen.output_tokens), discount);
            }
        }
        if let (Some(reward), Some(model)) = (outcome.reward, Self::credited(outcome)) {
            self.learn_reward(outcome, &model, reward.get());
            self.learn_answer(outcome, &model);
        }
        // A model that refuses what another one answers would otherwise be asked first for ever.
        if outcome.status == Status::Delivered && &*outcome.model != ANY_MODEL {
            for seen in outcome.observations.iter().filter(|o| o.refused) {
                self.learn_reward(outcome, &seen.model, 0.0);
            }
        }
    }

    fn feedback(&mut self, _seq: Seq, before: &Outcome, all: &[Feedback]) -> Outcome {
        self.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        let after = outcome::with_feedback(before, all);
        if let Some(model) = Self::credited(before) {
            match (before.reward, after.reward) {
                (None, Some(r)) => {
                    self.learn_reward(&after, &model, r.get());
                    self.learn_answer(&after, &model);
                }
                _ => self.revise(before, &after, &model),
            }
        }
        after
    }

    fn batch_done(&mut self) -> Option<Vec<u8>> {
        if std::mem::take(&mut self.changed) {
            self.publish();
        }
        if self.unsaved < self.limits.save_every {
            return None;
        }
        self.unsaved = 0;
        match serde_json::to_vec(&self.state()) {
            Ok(bytes) => Some(bytes),
            Err(e) => {
                tracing::error!(error = %e, "statistics could not be saved; they are rebuilt from the log");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::sample;
    use types::UnitInterval;

    fn saving() -> (Learner, Statistics) {
        learner(Limits { save_every: 1, ..Limits::default() })
    }

    #[test]
    fn what_is_learned_after_a_restart_equals_what_was_learned_before() {
        let (mut a, stats) = saving();
        for i in 0..50_u32 {
            a.outcome(u64::from(i), &sample("w", if i % 3 == 0 { "p/a" } else { "p/b" }, f64::from(i % 2)));
        }
        let state = a.batch_done().expect("a state");
        let (mut b, again) = saving();
        b.restore(&state).unwrap();
        let (x, y) = (stats.load(), again.load());
        assert_eq!((&x.arms, &x.models, x.seen), (&y.arms, &y.models, y.seen));
        assert!(b.restore(b"{}").is_err());
    }

    #[test]
    fn feedback_counts_an_outcome_once_and_moves_it() {
        let (mut l, stats) = saving();
        let mut o = sample("w", "p/a", 0.0);
        o.reward = None;
        o.parts = types::outcome::RewardParts::default();
        l.outcome(1, &o);
        let word = |score: f64| Feedback {
            request_id: o.request_id.clone(),
            ts_ms: 0,
            score: UnitInterval::clamped(score),
            reason: None,
            source: "user".into(),
        };
        let first = l.feedback(2, &o, &[word(1.0)]);
        let second = l.feedback(3, &first, &[word(0.25)]);
        l.batch_done();
        let c = stats.load().arm("w", "p/a").expect("learned").total;
        assert_eq!((c.n, c.s), (1.0, 0.25));
        assert_eq!(second.reward, UnitInterval::new(0.25));
    }

    #[test]
    fn an_unreachable_model_is_not_blamed_for_the_answer_of_another() {
        let (mut l, stats) = saving();
        let mut o = sample("w", "p/a", 1.0);
        let ok = o.observations[0].clone();
        o.observations = vec![
            types::outcome::CallObservation { ok: false, ..ok.clone() },
            types::outcome::CallObservation { model: "p/b".into(), ..ok },
        ];
        l.outcome(1, &o);
        l.batch_done();
        let s = stats.load();
        assert!(s.arm("w", "p/a").is_none());
        assert_eq!(s.arm("w", "p/b").map(|a| a.total.n), Some(1.0));
        assert_eq!(s.models.get("p/a").map(|m| m.answered.s), Some(0.0));
    }

    #[test]
    fn the_time_of_a_whole_answer_is_not_that_of_its_first_token() {
        let (mut l, stats) = saving();
        for i in 0..50 {
            let mut o = sample("w", "p/a", 1.0);
            let call = &mut o.observations[0];
            (call.ttft_ms, call.total_ms, call.output_tokens) = (None, 20_800.0, 1_000);
            l.outcome(i, &o);
        }
        l.batch_done();
        let s = stats.load();
        let m = s.models.get("p/a").expect("seen");
        assert_eq!(m.ttft.n(), 0.0);
        let per_token = m.per_token.median(16.0);
        assert!((15.0..=21.0).contains(&per_token), "{per_token}");
    }

    #[test]
    fn a_model_that_refuses_what_another_answers_loses_its_place() {
        let (mut l, stats) = saving();
        let mut o = sample("w", "p/a", 1.0);
        let answered = types::outcome::CallObservation { model: "p/b".into(), ..o.observations[0].clone() };
        let refused =
            types::outcome::CallObservation { ok: false, refused: true, ..o.observations[0].clone() };
        o.observations = vec![refused, answered];
        l.outcome(1, &o);
        o.status = Status::Failed;
        l.outcome(2, &o);
        l.batch_done();
        let s = stats.load();
        assert_eq!(
            s.arm("w", "p/a").map(|a| (a.total.n, a.total.s)),
            Some((1.0, 0.0)),
            "not by a total failure"
        );
        assert_eq!(s.arm("w", "p/b").map(|a| a.total.s), Some(1.99));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut l, stats) = learner(Limits { arms: 10, cells: 2, ..Limits::default() });
        for i in 0..100 {
            l.outcome(i, &sample("w", &format!("p/{i}"), 1.0));
        }
        l.batch_done();
        assert_eq!(stats.load().arms.values().map(HashMap::len).sum::<usize>(), 10);
    }
}
