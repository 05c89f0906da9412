//! The one writer of the statistics: outcomes in, snapshots out.

use super::cells::{Cells, Costs, K0, RATIO};
use super::detect::{Aspect, Gauges, Test, Way, surprise};
use super::forest::{Draws, PAST, Past, TREES};
use super::influence::{Influence, Sample};
use super::point::Point;
use super::ridge::{Ridge, Solved};
use super::shrinkage::{GRID, Shrinkage};
use super::snapshot::{ArmStats, ByName, Change, ModelStats, Names, Snapshot, Statistics};
use super::{Count, state};
use crate::outcome;
use std::sync::Arc;
use types::Features;
use types::axis::{AxisValue, TaskFamily};
use types::outcome::{Basis, CallObservation, Feedback, Outcome, Status};
use types::profile::Cell;
use types::store::{Observer, Seq};

/// Name of the model of an arm whose workflow chooses its models itself.
pub(crate) const ANY_MODEL: &str = "*";

/// Time to the first token of a model that has never streamed, milliseconds: the matrix' default.
const TTFT_MS: f64 = 800.0;
/// Prior of an outcome whose record does not hold it: the matrix' default.
const PRIOR: f64 = 0.6;
/// What remains of what was learned of a model that has changed, and of the trust in its prior.
const KEPT: f64 = 0.2;
/// Outcomes for which a model that has changed is tried out more.
const REOPENED: u32 = 30;
/// Changes remembered.
const CHANGES: usize = 64;
/// The linear part, which has fewer outcomes to live on, forgets so much slower than the cells.
const SLOWER: f64 = 0.2;

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
        cells: vec![Cells::default(); TREES],
        past: Vec::new(),
        past_at: 0,
        draws: Draws::new(0x7475_726e),
        shrinkage: Shrinkage::default(),
        models: ByName::default(),
        influence: Influence::default(),
        seen: [0; 8],
        opinion: Count::default(),
        costs: Costs::default(),
        ever: 0,
        changes: Vec::new(),
        blank: Arc::new(Solved::default()),
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
    pub(super) ridge: Ridge,
    pub(super) solved: Arc<Solved>,
}

/// What is held of a model.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Watched {
    pub(super) stats: Arc<ModelStats>,
    success: Test,
    cost: Gauges,
    latency: Gauges,
    /// Surprise of late by family, to tell which one moved.
    by_family: [f64; 8],
}

/// What has to be prepared anew before the next publication.
#[derive(Clone, Debug, Default)]
struct Dirty {
    changed: bool,
    all: bool,
    arms: Vec<usize>,
}

/// Folds outcomes into statistics. A pure fold over the log: the same records in the same order give the
/// same statistics, so what is learned after a restart equals what was learned before.
///
/// Memory is bounded: at most [`Limits::arms`] arms of about 12 KB, `TREES` trees of at most 65 536 entries
/// (node × arm) of 16 bytes with as much again for what is published, 2 048 past outcomes.
#[derive(Clone, Debug)]
pub struct Learner {
    pub(super) limits: Limits,
    pub(super) names: Arc<Names>,
    pub(super) arms: Vec<Held>,
    pub(super) cells: Vec<Cells>,
    pub(super) past: Vec<Past>,
    pub(super) past_at: usize,
    pub(super) draws: Draws,
    pub(super) shrinkage: Shrinkage,
    pub(super) models: ByName<Watched>,
    pub(super) influence: Influence,
    pub(super) seen: [u64; 8],
    pub(super) opinion: Count,
    pub(super) costs: Costs,
    pub(super) ever: u64,
    pub(super) changes: Vec<Change>,
    blank: Arc<Solved>,
    pub(super) version: u64,
    unsaved: u32,
    dirty: Dirty,
    published: Statistics,
}

/// One thing to learn: where, of whom, how it came out.
struct Lesson {
    point: Point,
    family: TaskFamily,
    arm: usize,
    prior: f64,
    reward: f64,
    /// How much of it counts, 0..=1.
    weight: f64,
}

impl Learner {
    /// The arm that an outcome speaks of: the model that gave the first answer. When the chosen one could not
    /// be reached that is another; its absence is the breaker's business and no evidence against its answers.
    fn credited(outcome: &Outcome) -> Option<Arc<str>> {
        if &*outcome.model == ANY_MODEL {
            return Some(outcome.model.clone());
        }
        outcome.observations.iter().find(|o| o.ok).map(|o| o.model.clone())
    }

    /// The place of an arm; a new one gets a place while there is room.
    fn arm(&mut self, workflow: &Arc<str>, model: &Arc<str>) -> Option<usize> {
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
            ridge: Ridge::default(),
            solved: self.blank.clone(),
        });
        // Room for more at once, so that the first arms do not copy the cells one by one.
        let room = self.arms.len().next_power_of_two().max(16).min(self.limits.arms);
        for c in &mut self.cells {
            c.widen(room);
        }
        self.dirty.all = true;
        Some(at)
    }

    fn lesson(&mut self, o: &Outcome, model: &Arc<str>, reward: f64, weight: f64) -> Option<Lesson> {
        let arm = self.arm(&o.workflow, model)?;
        let basis =
            o.basis.unwrap_or(Basis { features: Features::default(), prior: PRIOR, forecast_usd: None });
        let point = Point::of_cell(basis.features, &o.cell);
        let prior = if basis.prior.is_finite() { basis.prior.clamp(0.01, 0.99) } else { PRIOR };
        Some(Lesson { point, family: o.cell.family, arm, prior, reward, weight })
    }

    /// What its cells say of an arm, under every k of the grid and under the one in force.
    fn foretell(&self, l: &Lesson) -> ([f32; GRID.len()], f32) {
        let Some(held) = self.arms.get(l.arm) else { return ([0.5; GRID.len()], 0.5) };
        let of_model =
            self.models.get(&held.model).map_or(0.0, |m| m.stats.surprise.mean(0.0, f64::from(K0)));
        let prior = (l.prior + held.stats.surprise.mean(of_model, f64::from(K0))) as f32;
        let root = self.root(&held.model);
        let mean = |k: f32| {
            let sum: f32 = self.cells.iter().map(|c| c.believe(&l.point, l.arm, prior, root, k)).sum();
            (sum / self.cells.len().max(1) as f32).clamp(0.01, 0.99)
        };
        let grid = GRID.map(mean);
        let now = GRID.iter().position(|k| *k == self.shrinkage.k()).and_then(|i| grid.get(i));
        (grid, now.copied().unwrap_or(0.5))
    }

    /// What the prior weighs at the root.
    fn root(&self, model: &str) -> f32 {
        K0 * self.models.get(model).map_or(1.0, |m| m.stats.trust()) as f32
    }

    fn learn(&mut self, l: &Lesson, discount: f64) {
        let (grid, believed) = self.foretell(l);
        self.dirty.all |= self.shrinkage.see(grid, l.reward);
        self.watch(l, f64::from(believed));
        self.count(l, discount);
        self.remember(Past {
            point: l.point,
            arm: u32::try_from(l.arm).unwrap_or(u32::MAX),
            reward: l.reward as f32,
        });
        self.grow(&l.point);
    }

    /// Counts an outcome everywhere it belongs.
    fn count(&mut self, l: &Lesson, discount: f64) {
        let residual = l.reward - l.prior;
        // A part of an outcome ages the others by that part only: many small words would drown them otherwise.
        let discount = if l.weight < 1.0 { discount.powf(l.weight) } else { discount };
        let Some(held) = self.arms.get_mut(l.arm) else { return };
        let stats = Arc::make_mut(&mut held.stats);
        stats.total.add_part(l.reward, discount, l.weight);
        stats.surprise.add(residual, discount, l.weight);
        stats.ever += l.weight;
        held.ridge.add(&l.point, residual, 1.0 - (1.0 - discount) * SLOWER, l.weight);
        let model = held.model.clone();
        for c in &mut self.cells {
            c.add(&l.point, l.arm, l.reward as f32, discount as f32, l.weight as f32);
        }
        let watched = self.models.entry(model).or_default();
        let stats = Arc::make_mut(&mut watched.stats);
        stats.surprise.add(residual, discount, l.weight);
        stats.reopened = stats.reopened.saturating_sub(1);
        self.ever = self.ever.saturating_add(1);
        self.touch(l.arm);
    }

    fn remember(&mut self, past: Past) {
        if self.past.len() < PAST {
            self.past.push(past);
            return;
        }
        if let Some(slot) = self.past.get_mut(self.past_at % PAST) {
            *slot = past;
        }
        self.past_at = (self.past_at + 1) % PAST;
    }

    fn grow(&mut self, point: &Point) {
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

    fn touch(&mut self, arm: usize) {
        self.dirty.changed = true;
        if !self.dirty.arms.contains(&arm) {
            self.dirty.arms.push(arm);
        }
    }

    /// Tests whether the model still does what is believed of it.
    fn watch(&mut self, l: &Lesson, believed: f64) {
        let Some(model) = self.arms.get(l.arm).map(|h| h.model.clone()) else { return };
        if l.weight < 1.0 {
            return;
        }
        let z = surprise(l.reward, believed);
        let watched = self.models.entry(model.clone()).or_default();
        for (i, late) in watched.by_family.iter_mut().enumerate() {
            *late = *late * 0.95 + if i == l.family.index() { z } else { 0.0 };
        }
        if let Some(way) = watched.success.reward(z) {
            let family = loudest(&watched.by_family);
            self.changed(&model, Aspect::Success, way, family);
        }
    }

    /// A model has changed: what was learned of that aspect, and its prior, are worth little now.
    fn changed(&mut self, model: &Arc<str>, aspect: Aspect, way: Way, family: TaskFamily) {
        tracing::warn!(%model, aspect = aspect.as_str(), ?way, %family, "a model no longer does what it did");
        if self.changes.len() >= CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(Change { model: model.clone(), aspect, way, family, at: self.ever });
        let watched = self.models.entry(model.clone()).or_default();
        let stats = Arc::make_mut(&mut watched.stats);
        let (successes, costs) = match aspect {
            Aspect::Success => {
                stats.surprise.scale(KEPT);
                stats.reopened = REOPENED;
                stats.trust = Some(KEPT);
                (KEPT, 1.0)
            }
            Aspect::Cost => {
                stats.cost = Count::default();
                (1.0, 0.0)
            }
            Aspect::Latency => {
                stats.ttft.scale(KEPT);
                stats.per_token.scale(KEPT);
                (1.0, 1.0)
            }
        };
        let arms: Vec<usize> =
            self.arms.iter().enumerate().filter(|(_, h)| h.model == *model).map(|(i, _)| i).collect();
        for arm in arms {
            if let Some(held) = self.arms.get_mut(arm) {
                held.ridge.scale(successes);
                let stats = Arc::make_mut(&mut held.stats);
                stats.total.scale(successes);
                stats.surprise.scale(successes);
            }
            self.influence.scale(u32::try_from(arm).unwrap_or(u32::MAX), successes);
            for c in &mut self.cells {
                c.scale(arm, successes as f32, costs as f32);
            }
            self.touch(arm);
        }
    }

    /// What an outcome cost against its forecast.
    fn learn_cost(&mut self, o: &Outcome, model: &Arc<str>) {
        let Some(basis) = o.basis.filter(|_| o.cost_known && *model == o.model) else { return };
        let Some(forecast) = basis.forecast_usd.map(types::Usd::dollars).filter(|f| *f > 0.0) else { return };
        let real = o.cost_usd.dollars();
        let Some(arm) = self.arm(&o.workflow, model).filter(|_| real > 0.0) else { return };
        let point = Point::of_cell(basis.features, &o.cell);
        let discount = self.limits.discount;
        // What all arms have in common, the length of answers mostly, is learned from all of them.
        let common = self.costs.of(point.kind());
        let whole = (real / forecast).clamp(f64::from(RATIO.0), f64::from(RATIO.1));
        self.costs.add(point.kind(), whole, discount);
        let ratio = whole / common;
        for c in &mut self.cells {
            c.add_cost(&point, arm, ratio as f32, discount as f32);
        }
        self.touch(arm);
        let watched = self.models.entry(model.clone()).or_default();
        Arc::make_mut(&mut watched.stats).cost.add_amount(ratio, discount);
        if let Some(way) = watched.cost.see(point.kind(), whole, discount) {
            self.changed(model, Aspect::Cost, way, o.cell.family);
            for c in &mut self.cells {
                c.add_cost(&point, arm, ratio as f32, discount as f32);
            }
        }
    }

    /// What was said of the answer itself, beyond its reward.
    fn learn_answer(&mut self, o: &Outcome, model: &Arc<str>) {
        let discount = self.limits.discount;
        if let Some(n) = self.seen.get_mut(o.cell.family.index()) {
            *n = n.saturating_add(1);
        }
        let Some(arm) = self.arm(&o.workflow, model) else { return };
        let Some(held) = self.arms.get_mut(arm) else { return };
        let stats = Arc::make_mut(&mut held.stats);
        if let Some(c) = o.parts.contract {
            stats.contract.add(c, discount);
        }
        if let Some(q) = outcome::opinion(&o.parts) {
            stats.quality.add(q, discount);
            self.opinion.add(q, discount);
        }
    }

    fn learn_reward(&mut self, o: &Outcome, model: &Arc<str>, reward: f64, weight: f64) {
        if let Some(lesson) = self.lesson(o, model, reward, weight) {
            self.learn(&lesson, self.limits.discount);
        }
    }

    /// A counted outcome is worth something else: the difference is applied where it was counted.
    fn revise(&mut self, before: &Outcome, after: &Outcome, model: &Arc<str>, weight: f64) {
        let (Some(was), Some(is)) = (before.reward, after.reward) else { return };
        let Some(l) = self.lesson(after, model, is.get(), weight) else { return };
        let difference = (is.get() - was.get()) * weight;
        let Some(held) = self.arms.get_mut(l.arm) else { return };
        held.ridge.revise(&l.point, difference);
        let stats = Arc::make_mut(&mut held.stats);
        stats.total.revise(was.get(), was.get() + difference);
        stats.surprise.e += difference;
        match (outcome::opinion(&before.parts), outcome::opinion(&after.parts)) {
            (None, Some(q)) => stats.quality.add_part(q, self.limits.discount, weight),
            (Some(a), Some(b)) => stats.quality.revise(a, a + (b - a) * weight),
            _ => {}
        }
        for c in &mut self.cells {
            c.revise(&l.point, l.arm, difference as f32);
        }
        if let Some(m) = self.models.get_mut(model) {
            Arc::make_mut(&mut m.stats).surprise.e += difference;
        }
        self.touch(l.arm);
    }

    fn observe(&mut self, seen: &CallObservation, cell: &Cell) {
        let family = cell.family;
        let point = Point::of_cell(Features::default(), cell);
        if !self.models.contains_key(&seen.model) && self.models.len() >= self.limits.arms {
            return;
        }
        let discount = self.limits.discount;
        let watched = self.models.entry(seen.model.clone()).or_default();
        let m = Arc::make_mut(&mut watched.stats);
        m.answered.add(if seen.ok { 1.0 } else { 0.0 }, discount);
        if !seen.ok {
            return;
        }
        // An answer in one piece does not say when it began: its whole time is not that of its first
        // token, or a model would look slower the longer it was asked to write.
        if let Some(first) = seen.ttft_ms {
            m.ttft.add(first, discount);
        }
        if seen.output_tokens == 0 {
            return;
        }
        m.output_tokens.add(f64::from(seen.output_tokens), discount);
        let begun = seen.ttft_ms.unwrap_or_else(|| m.ttft.median(TTFT_MS).min(seen.total_ms * 0.9));
        let per_token = (seen.total_ms - begun) / f64::from(seen.output_tokens);
        m.per_token.add(per_token, discount);
        if let Some(way) = watched.latency.see(point.kind(), per_token, discount) {
            self.changed(&seen.model, Aspect::Latency, way, family);
        }
    }

    /// From now on believes of a model what is believed of another: an operator knows that it was replaced.
    pub fn liken(&mut self, model: &str, like: &str) {
        let other = self.models.get(like).map(|w| w.stats.clone()).unwrap_or_default();
        if let Some(w) = self.models.get_mut(model) {
            w.stats = other;
            Arc::make_mut(&mut w.stats).trust = Some(0.0);
            (w.success, w.by_family) = <_>::default();
        }
        let pairs: Vec<(usize, Option<usize>)> = self
            .arms
            .iter()
            .enumerate()
            .filter(|(_, h)| &*h.model == model)
            .map(|(at, h)| (at, self.names.get(&h.workflow).and_then(|m| m.get(like)).copied()))
            .collect();
        for (to, from) in pairs {
            let source = from.and_then(|f| self.arms.get(f)).map(|h| (h.stats.clone(), h.ridge.clone()));
            let (stats, ridge) = source.unwrap_or_default();
            if let Some(held) = self.arms.get_mut(to) {
                (held.stats, held.ridge) = (stats, ridge);
            }
            for c in &mut self.cells {
                c.liken(to, from);
            }
            self.touch(to);
        }
        self.dirty.all = true;
    }

    /// Learns a table of outcomes as a prior: the cells are cut first, knowing all of them, then everything is
    /// counted, undiscounted. Outcomes of one request stand together.
    pub fn study(&mut self, outcomes: &[Outcome]) {
        let mut lessons = Vec::with_capacity(outcomes.len());
        let mut requests: Vec<Point> = Vec::new();
        let mut last = "";
        for o in outcomes {
            let (Some(reward), Some(model)) = (o.reward, Self::credited(o)) else { continue };
            let Some(lesson) = self.lesson(o, &model, reward.get(), 1.0) else { continue };
            if o.request_id != last {
                last = &o.request_id;
                requests.push(lesson.point);
            }
            lessons.push((o, model, lesson));
        }
        let past = |(_, _, l): &(&Outcome, Arc<str>, Lesson)| Past {
            point: l.point,
            arm: u32::try_from(l.arm).unwrap_or(u32::MAX),
            reward: l.reward as f32,
        };
        // Cells are cut with all of the table in view; what is kept afterwards is an even sample of it.
        self.past = lessons.iter().map(past).collect();
        for p in &requests {
            self.grow(p);
        }
        let step = self.past.len().div_ceil(PAST).max(1);
        self.past = std::mem::take(&mut self.past).into_iter().step_by(step).collect();
        self.past_at = 0;
        for (o, model, lesson) in lessons {
            self.dirty.all |= {
                let (grid, _) = self.foretell(&lesson);
                self.shrinkage.see(grid, lesson.reward)
            };
            self.count(&lesson, 1.0);
            self.learn_cost(o, &model);
            self.learn_answer(o, &model);
        }
        // What was counted in a row is no stream to be surprised by.
        for m in self.models.values_mut() {
            (m.cost, m.success, m.latency) = <_>::default();
        }
        self.changes.clear();
        self.publish();
    }

    fn publish(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for arm in &dirty.arms {
            if let Some(held) = self.arms.get_mut(*arm) {
                held.solved = Arc::new(held.ridge.solve());
            }
        }
        let roots: Vec<f32> = self.arms.iter().map(|h| self.root(&h.model)).collect();
        let k = self.shrinkage.k();
        let whole = dirty.all || dirty.arms.len() > 4;
        for c in &mut self.cells {
            if whole {
                c.prepare(None, &roots, k);
            } else {
                dirty.arms.iter().for_each(|arm| c.prepare(Some(*arm), &roots, k));
            }
        }
        self.version = self.version.saturating_add(1);
        self.published.publish(Snapshot {
            version: self.version,
            names: self.names.clone(),
            arms: self.arms.iter().map(|h| h.stats.clone()).collect(),
            linear: self.arms.iter().map(|h| h.solved.clone()).collect(),
            blank: self.blank.clone(),
            trees: self.cells.iter().map(|c| (c.tree.clone(), c.table.clone())).collect(),
            models: Arc::new(self.models.iter().map(|(m, w)| (m.clone(), w.stats.clone())).collect()),
            seen: self.seen,
            opinion: self.opinion,
            costs: self.costs.clone(),
            changes: Arc::new(self.changes.clone()),
        });
    }

    /// A request without an outcome: what cells may be cut by.
    #[cfg(test)]
    pub(super) fn offer(&mut self, point: &Point) {
        self.remember(Past { point: *point, arm: 0, reward: 0.5 });
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

/// The family whose late surprises are largest.
fn loudest(by_family: &[f64; 8]) -> TaskFamily {
    let largest = TaskFamily::ALL.iter().zip(by_family).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    largest.map_or(TaskFamily::Chat, |(f, _)| *f)
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

    fn outcome(&mut self, _seq: Seq, outcome: &Outcome) {
        self.dirty.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        for seen in &outcome.observations {
            self.observe(seen, &outcome.cell);
        }
        if let Some(model) = Self::credited(outcome) {
            self.learn_cost(outcome, &model);
            if let Some(reward) = outcome.reward {
                self.learn_reward(outcome, &model, reward.get(), 1.0);
                self.learn_answer(outcome, &model);
            }
        }
        // A model that refuses what another one answers would otherwise be asked first for ever.
        if outcome.status == Status::Delivered && &*outcome.model != ANY_MODEL {
            for seen in outcome.observations.iter().filter(|o| o.refused) {
                self.learn_reward(outcome, &seen.model, 0.0, 1.0);
            }
        }
    }

    fn feedback(&mut self, _seq: Seq, before: &Outcome, all: &[Feedback]) -> Outcome {
        self.dirty.changed = true;
        self.unsaved = self.unsaved.saturating_add(1);
        let after = outcome::with_feedback(before, all);
        let (Some(model), Some(word)) = (Self::credited(before), all.last()) else { return after };
        let Some(arm) = self.arm(&after.workflow, &model) else { return after };
        let place = u32::try_from(arm).unwrap_or(u32::MAX);
        let (sample, ever) = self.arms.get(arm).map_or((0.0, 0.0), |h| (h.stats.total.n, h.stats.ever));
        let of = Sample { arm: place, n: sample, ever, discount: self.limits.discount };
        let weight = self.influence.allow(&word.source, of, word.ts_ms);
        if weight <= 0.0 {
            return after;
        }
        match (before.reward, after.reward) {
            (None, Some(r)) => {
                self.learn_reward(&after, &model, r.get(), weight);
                self.learn_answer(&after, &model);
            }
            _ => self.revise(before, &after, &model, weight),
        }
        after
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
