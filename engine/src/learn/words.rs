//! What people and judges say of an answer, into the statistics.
//!
//! A word may come long after its outcome was counted, and the bound on its speaker (`super::influence`) may let only a
//! part `a` of it in. So what is counted of a request is kept with it, and moves by that part towards what is heard of
//! it:
//!
//! ```text
//! (n, s) ← (1 − a)·(n, s) + a·(1, r)      n: how much of the outcome is counted; s: its reward; r: reward of what is heard
//! ```
//!
//! What a bound kept out is on record and never in r, so that it neither cancels nor turns round what others say.

use super::Count;
use super::influence::KEY;
use super::learner::Learner;
use super::lesson::Lesson;
use super::soft;
use crate::outcome;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::UnitInterval;
use types::outcome::{Feedback, Learned, Outcome};

/// What is counted of an outcome as it was told.
pub(super) fn told(outcome: &Outcome, worth: f64) -> Learned {
    let reward = outcome.reward.map(UnitInterval::get);
    let opinion = outcome::opinion(&outcome.parts).filter(|_| reward.is_some());
    let (counted, reward) = (if reward.is_some() { 1.0 } else { 0.0 }, reward.unwrap_or(0.0));
    let rated = if opinion.is_some() { reward } else { 0.0 };
    Learned { counted, reward, rated, opinion: rated * opinion.unwrap_or(0.0), worth, heard: BTreeMap::new() }
}

impl Learner {
    /// Learns the last word of `all`, as far as its speaker may speak. What the outcome's record holds from then on.
    pub(super) fn hear(&mut self, before: &Outcome, all: &[Feedback]) -> Outcome {
        let mut after = outcome::with_feedback(before, all);
        let (Some(model), Some(word)) = (Self::credited(before), all.last()) else { return after };
        let Some(arm) = self.arm(&after.workflow, &model) else { return after };
        if soft::is_unchecked(&before.parts) && outcome::opinion(&before.parts).is_none() {
            self.spoken.spoken_of(before.cell.family);
        }
        let worth = self.worth(before);
        // What was let in by half of what its tenant brought has half a say: the outcome itself does not hold how much.
        let counted = |outcome: &Outcome| self.of_tenants.part(&outcome.tenant, self.sample(arm).arm);
        let told = |outcome: &Outcome| told(outcome, worth * counted(outcome));
        let mut learned = before.learned.as_deref().cloned().unwrap_or_else(|| told(before));
        let share = self.influence.allow(KEY, word.speaker(), self.sample(arm), word.ts_ms, worth) / worth;
        if share < 1.0 {
            learned.heard.insert(word.speaker().to_owned(), share);
        } else {
            learned.heard.remove(word.speaker());
        }
        if share > 0.0 {
            let heard = |w: &Feedback| learned.heard.get(w.speaker()).copied().unwrap_or(1.0);
            let mut parts = after.parts;
            parts.feedback = outcome::feedback(all, heard);
            let heard = Outcome { reward: outcome::reward(&parts), parts, ..after.clone() };
            self.move_towards(&heard, &model, share, &mut learned);
            self.watch_opinion(&model, before.cell.family, word.ts_ms, word.score.get(), share);
        }
        after.learned = Some(Box::new(learned));
        after
    }

    /// What is counted of an outcome moves by `share` towards what is `heard` of it.
    pub(super) fn move_towards(
        &mut self,
        heard: &Outcome,
        model: &Arc<str>,
        share: f64,
        learned: &mut Learned,
    ) {
        let Some(reward) = heard.reward.map(UnitInterval::get) else { return };
        let (more, held) = (share * (1.0 - learned.counted), learned.counted);
        let difference = share * (held * reward - learned.reward);
        if held <= 0.0 {
            self.saw(heard);
        }
        if more > 0.0 {
            let worth = self.learn_reward(heard, model, reward, more, true);
            learned.worth = (held * learned.worth + more * worth) / (held + more);
            learned.counted += more;
            learned.reward += more * reward;
        }
        if held > 0.0
            && let Some(l) = self.lesson(heard, model, reward, 1.0)
        {
            self.revise(&l, &heard.tenant, difference, learned.worth);
            learned.reward += difference;
        }
        let Some(opinion) = outcome::opinion(&heard.parts) else { return };
        let rated = share * (reward - learned.rated);
        let said = share * (reward * opinion - learned.opinion);
        learned.rated += rated;
        learned.opinion += said;
        let (arm, discount) = (self.arm(&heard.workflow, model), self.limits.discount);
        let shift = |c: &mut Count| c.shift(rated * learned.worth, said * learned.worth, discount);
        if let Some(held) = arm.and_then(|arm| self.arms.get_mut(arm)) {
            shift(&mut Arc::make_mut(&mut held.stats).quality);
            shift(&mut self.opinion);
        }
    }

    /// A counted outcome is worth `difference` more: it is applied where it was counted, in what is common as far as the
    /// outcome counts there.
    fn revise(&mut self, l: &Lesson, tenant: &str, difference: f64, worth: f64) {
        Arc::make_mut(&mut self.tenants).revise(tenant, l.arm, difference);
        let difference = difference * worth;
        let Some(held) = self.arms.get_mut(l.arm) else { return };
        held.ridge.revise(&l.point, difference);
        let stats = Arc::make_mut(&mut held.stats);
        stats.total.revise(0.0, difference);
        stats.surprise.e += difference;
        let model = held.model.clone();
        for c in &mut self.cells {
            c.revise(&l.point, l.arm, difference as f32);
        }
        self.ease.revise(&l.point, difference);
        if let Some(m) = self.models.get_mut(&model) {
            m.late.e += difference;
            Arc::make_mut(&mut m.stats).surprise.e += difference;
        }
        self.touch(l.arm);
    }
}
