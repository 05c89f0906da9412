//! The one writer of the statistics: outcomes in, snapshots out.

use super::cells::{Cells, Costs, K0};
use super::ease::Ease;
use super::forest::{Draws, PAST, Past, TREES};
use super::influence::{Influence, Sample};
use super::lines::Lines;
use super::point::Point;
use super::publish::Dirty;
use super::ridge::Ridge;
use super::shrinkage::Shrinkage;
use super::snapshot::{ArmStats, ByName, Change, Names, Statistics};
use super::soft::{self, Spoken};
use super::table::GROUP;
use super::tenants::Tenants;
use super::watch::Watched;
use super::{Count, state};
use std::sync::Arc;
use types::outcome::{Feedback, Outcome, Status};
use types::store::{Observer, Seq};

/// Name of the model of an arm whose workflow chooses its models itself.
pub(crate) const ANY_MODEL: &str = "*";

/// Bounds and constants of learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// γ: what an outcome weighs after the next one of its arm. Default 0.99.
    pub discount: f64,
    /// Arms kept, and models; one beyond that is not learned of. Default 1 024.
    pub arms: usize,
    /// Outcomes between two saved states. Default 256.
    pub save_every: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { discount: 0.99, arms: 1_024, save_every: 256 }
    }
}

/// A learner and the handle to what it publishes.
#[must_use]
pub fn learner(limits: Limits) -> (Learner, Statistics) {
    let statistics = Statistics::default();
    let mut learner = Learner {
        limits,
        names: Arc::default(),
        arms: Vec::new(),
        lines: Vec::new(),
        cells: vec![Cells::default(); TREES],
        past: Vec::new(),
        past_at: 0,
        draws: Draws::new(0x7475_726e),
        shrinkage: Shrinkage::default(),
        ease: Ease::default(),
        models: ByName::default(),
        influence: Influence::default(),
        of_tenants: Influence::default(),
        of_refusals: Influence::default(),
        tenants: Arc::default(),
        seen: [0; 8],
        spoken: Spoken::default(),
        opinion: Count::default(),
        costs: Costs::default(),
        ever: 0,
        changes: Vec::new(),
        blank: Arc::new(Lines::of(&Ridge::default().solve(f64::from(K0)))),
        version: 0,
        unsaved: 0,
        dirty: Dirty::default(),
        published: statistics.clone(),
    };
    learner.publish();
    learner.version = 0;
    (learner, statistics)
}

/// What is held of an arm.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) workflow: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) stats: Arc<ArmStats>,
    /// What its prior is worth, in outcomes, as of the last one.
    pub(super) strength: f64,
    pub(super) ridge: Ridge,
}

/// Folds outcomes into statistics. A pure fold over the log: the same records in the same order give the
/// same statistics, so what is learned after a restart equals what was learned before.
///
/// Memory is bounded: at most [`Limits::arms`] arms of about 12 KB, `TREES` trees of at most 65 536 entries
/// (node × arm) of 16 bytes, and 12 for what is published, twice while that is swapped: 63 MB; 2 048 past outcomes, 16 384
/// places (tenant × arm) of about 32 bytes. Trees have the fewer nodes the more arms there are.
#[derive(Clone, Debug)]
pub struct Learner {
    pub(super) limits: Limits,
    pub(super) names: Arc<Names>,
    pub(super) arms: Vec<Held>,
    /// Their linear parts as requests read them, by groups of arms.
    pub(super) lines: Vec<Arc<Lines>>,
    pub(super) cells: Vec<Cells>,
    pub(super) past: Vec<Past>,
    pub(super) past_at: usize,
    pub(super) draws: Draws,
    pub(super) shrinkage: Shrinkage,
    pub(super) ease: Ease,
    pub(super) models: ByName<Watched>,
    /// What keys say.
    pub(super) influence: Influence,
    /// What the outcomes of tenants weigh in what is common to all.
    pub(super) of_tenants: Influence,
    /// What the rules of tenants refuse of models, and let out.
    pub(super) of_refusals: Influence,
    pub(super) tenants: Arc<Tenants>,
    pub(super) seen: [u64; 8],
    pub(super) spoken: Spoken,
    pub(super) opinion: Count,
    pub(super) costs: Costs,
    pub(super) ever: u64,
    pub(super) changes: Vec<Change>,
    /// Those of a group without outcomes.
    pub(super) blank: Arc<Lines>,
    pub(super) version: u64,
    unsaved: u32,
    pub(super) dirty: Dirty,
    pub(super) published: Statistics,
}

impl Learner {
    /// The place of an arm; a new one gets a place while there is room.
    pub(super) fn arm(&mut self, workflow: &Arc<str>, model: &Arc<str>) -> Option<usize> {
        if let Some(at) = self.names.get(workflow).and_then(|m| m.get(model)) {
            return Some(*at);
        }
        let at = self.arms.len();
        if at >= self.limits.arms {
            return None;
        }
        Arc::make_mut(&mut self.names).entry(workflow.clone()).or_default().insert(model.clone(), at);
        self.arms.push(Held {
            workflow: workflow.clone(),
            model: model.clone(),
            stats: Arc::default(),
            strength: f64::from(K0),
            ridge: Ridge::default(),
        });
        self.lines.resize(self.arms.len().div_ceil(GROUP), self.blank.clone());
        // Room for more at once, so that the first arms do not copy the cells one by one.
        let room = self.arms.len().next_power_of_two().max(16).min(self.limits.arms);
        for c in &mut self.cells {
            c.widen(room);
        }
        self.dirty.all = true;
        Some(at)
    }

    /// What an arm has to share among those who speak of it.
    pub(super) fn sample(&self, arm: usize) -> Sample {
        let (n, ever) = self.arms.get(arm).map_or((0.0, 0.0), |h| (h.stats.total.n, h.stats.ever));
        Sample { arm: u32::try_from(arm).unwrap_or(u32::MAX), n, ever, discount: self.limits.discount }
    }

    pub(super) fn remember(&mut self, past: Past) {
        if self.past.len() < PAST {
            self.past.push(past);
            return;
        }
        if let Some(slot) = self.past.get_mut(self.past_at % PAST) {
            *slot = past;
        }
        self.past_at = (self.past_at + 1) % PAST;
    }

    pub(super) fn grow(&mut self, point: &Point) {
        for c in &mut self.cells {
            let most = c.most();
            if c.tree.len().saturating_add(2) > most {
                continue;
            }
            if Arc::make_mut(&mut c.tree).see(point, &self.past, most, &mut self.draws) {
                c.grown();
                self.dirty.all = true;
            }
        }
    }

    pub(super) fn touch(&mut self, arm: usize) {
        self.dirty.changed = true;
        if !self.dirty.arms.contains(&arm) {
            self.dirty.arms.push(arm);
        }
    }

    /// A request without an outcome: what cells may be cut by.
    #[cfg(test)]
    pub(super) fn offer(&mut self, point: &Point) {
        self.remember(Past { point: *point, arm: 0, reward: 0.5, share: 1.0 });
        self.grow(point);
    }

    /// Nodes of all trees, and entries (node × arm).
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        self.cells.iter().fold((0, 0), |(n, e), c| (n + c.tree.len(), e + c.entries()))
    }

    /// Everything learned, as [`Observer::restore`] takes it.
    ///
    /// # Errors
    /// It could not be written down.
    pub fn save(&self) -> Result<Vec<u8>, String> {
        state::save(self)
    }
}

impl Observer for Learner {
    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        state::restore(self, saved)?;
        let all: Vec<usize> = (0..self.arms.len()).collect();
        self.dirty = Dirty { changed: true, all: true, arms: all };
        // The picture of what was saved, under the version that it had.
        self.version = self.version.saturating_sub(1);
        self.publish();
        Ok(())
    }

    fn state(&self) -> Option<Vec<u8>> {
        self.save().inspect_err(|e| tracing::error!(error = %e, "statistics could not be saved")).ok()
    }

    fn outcome(&mut self, _seq: Seq, outcome: &Outcome) {
        // It says nothing of a model that our own process died.
        if outcome.is_unsettled() {
            return;
        }
        self.dirty.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        for seen in &outcome.observations {
            self.observe(seen, &outcome.cell, outcome.ts_ms);
        }
        self.learn_safety(outcome);
        if let Some(model) = Self::credited(outcome) {
            if outcome.status == Status::Delivered && soft::is_unchecked(&outcome.parts) {
                self.spoken.answered(outcome.cell.family, outcome.parts.judge.is_some());
            }
            self.learn_cost(outcome, &model);
            if let Some(reward) = outcome.reward {
                let worth = self.learn_reward(outcome, &model, reward.get(), 1.0, false);
                self.learn_answer(outcome, &model, reward.get(), worth);
                if let Some(score) = outcome.parts.judge {
                    self.watch_opinion(&model, outcome.cell.family, outcome.ts_ms, score, worth);
                }
            }
        }
        // A model that refuses what another one answers would otherwise be asked first for ever.
        if outcome.status == Status::Delivered && &*outcome.model != ANY_MODEL {
            for seen in outcome.observations.iter().filter(|o| o.refused) {
                self.learn_reward(outcome, &seen.model, 0.0, 1.0, false);
            }
        }
    }

    fn feedback(&mut self, _seq: Seq, before: &Outcome, all: &[Feedback]) -> Outcome {
        self.dirty.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        self.hear(before, all)
    }

    fn batch_done(&mut self) -> Option<Vec<u8>> {
        if self.dirty.changed {
            self.publish();
        }
        if self.unsaved < self.limits.save_every {
            return None;
        }
        self.unsaved = 0;
        match self.save() {
            Ok(bytes) => Some(bytes),
            Err(e) => {
                tracing::error!(error = %e, "statistics could not be saved; they are rebuilt from the log");
                None
            }
        }
    }
}
