//! One outcome into the statistics: what it says of which arm, and everywhere it is counted.

use super::cells::{K0, RATIO};
use super::detect::Aspect;
use super::ease::K_SURPRISE;
use super::forest::Past;
use super::influence::{Sample, TENANT, place_of};
use super::learner::{ANY_MODEL, Held, Learner};
use super::point::Point;
use super::shrinkage::GRID;
use super::snapshot::Change;
use super::soft;
use crate::approvals::is_of_approval;
use crate::outcome;
use std::sync::Arc;
use types::Features;
use types::axis::{AxisValue, TaskFamily};
use types::outcome::{Basis, Outcome, Status};

/// Prior of an outcome whose record does not hold it: the matrix' default.
const PRIOR: f64 = 0.6;
/// The linear part, which has fewer outcomes to live on, forgets so much slower than the cells.
const SLOWER: f64 = 0.2;

/// One thing to learn: where, of whom, how it came out.
pub(super) struct Lesson {
    pub(super) point: Point,
    pub(super) family: TaskFamily,
    pub(super) arm: usize,
    pub(super) prior: f64,
    /// What that is worth, in outcomes.
    pub(super) strength: f64,
    pub(super) reward: f64,
    /// As how many outcomes it counts.
    pub(super) weight: f64,
    /// It is what was said of an answer afterwards.
    pub(super) late: bool,
    /// When it came out, Unix milliseconds.
    pub(super) ts_ms: i64,
}

impl Learner {
    /// The arm that an outcome speaks of: the model that gave the first answer. When the chosen one could not
    /// be reached that is another; its absence is the breaker's business and no evidence against its answers.
    pub(super) fn credited(outcome: &Outcome) -> Option<Arc<str>> {
        if &*outcome.model == ANY_MODEL {
            return Some(outcome.model.clone());
        }
        outcome.observations.iter().find(|o| o.ok).map(|o| o.model.clone())
    }

    pub(super) fn lesson(
        &mut self,
        o: &Outcome,
        model: &Arc<str>,
        reward: f64,
        weight: f64,
    ) -> Option<Lesson> {
        let arm = self.arm(&o.workflow, model)?;
        let basis = o.basis.unwrap_or(Basis {
            features: Features::default(),
            prior: PRIOR,
            strength: f64::from(K0),
            forecast_usd: None,
        });
        let point = Point::of_cell(basis.features, &o.cell);
        let prior = if basis.prior.is_finite() { basis.prior.clamp(0.01, 0.99) } else { PRIOR };
        let strength = if basis.strength.is_finite() { basis.strength } else { f64::from(K0) };
        Some(Lesson {
            point,
            family: o.cell.family,
            arm,
            prior,
            strength,
            reward,
            weight,
            late: false,
            ts_ms: o.ts_ms,
        })
    }

    /// What its cells say of an arm, under every k of the grid and under the one in force.
    pub(super) fn foretell(&self, l: &Lesson) -> ([f32; GRID.len()], f32) {
        let Some(held) = self.arms.get(l.arm) else { return ([0.5; GRID.len()], 0.5) };
        let prior = (l.prior + self.surprise(held)) as f32;
        let root = self.root(held);
        let mean = |k: f32| {
            let sum: f32 = self.cells.iter().map(|c| c.believe(&l.point, l.arm, prior, root, k)).sum();
            (sum / self.cells.len().max(1) as f32).clamp(0.01, 0.99)
        };
        let grid = GRID.map(mean);
        let now = GRID.iter().position(|k| *k == self.shrinkage.k()).and_then(|i| grid.get(i));
        (grid, now.copied().unwrap_or(0.5))
    }

    /// What outcomes of an arm were beyond its prior, shrunk to those of its model.
    fn surprise(&self, held: &Held) -> f64 {
        let k = f64::from(K0);
        let of_model = self.models.get(&held.model).map_or(0.0, |m| m.stats.surprise.mean(0.0, k));
        held.stats.surprise.mean(of_model, k)
    }

    /// What the prior weighs at the root, as far as it is still trusted. Cells never rest on less than the usual: one
    /// outcome says little of a cell.
    pub(super) fn root(&self, held: &Held) -> f32 {
        let trust = self.models.get(&held.model).map_or(1.0, |m| m.stats.trust());
        K0.max(held.strength as f32) * trust as f32
    }

    /// `own` is what counts of it for the tenant, whatever counts for all.
    fn learn(&mut self, l: &Lesson, tenant: &str, own: f64) {
        let discount = self.limits.discount;
        let (grid, believed) = self.foretell(l);
        let beyond = l.reward - f64::from(believed);
        Arc::make_mut(&mut self.tenants).add(tenant, l.arm, beyond, discount, own);
        if l.weight <= 0.0 {
            return;
        }
        self.dirty.all |= self.shrinkage.see(grid, l.reward);
        self.watch(l, f64::from(believed));
        if let Some(held) = self.arms.get(l.arm) {
            let own = held.stats.surprise.mean(0.0, K_SURPRISE);
            self.ease.add(&l.point, l.reward - l.prior - own, l.weight);
        }
        self.count(l, discount);
        self.remember(Past {
            point: l.point,
            arm: u32::try_from(l.arm).unwrap_or(u32::MAX),
            reward: l.reward as f32,
            share: 1.0,
        });
        self.grow(&l.point);
    }

    /// Counts an outcome everywhere it belongs.
    pub(super) fn count(&mut self, l: &Lesson, discount: f64) {
        let residual = l.reward - l.prior;
        let discount = aged(discount, l.weight);
        let Some(held) = self.arms.get_mut(l.arm) else { return };
        held.strength = l.strength;
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

    /// What an outcome cost against its forecast.
    pub(super) fn learn_cost(&mut self, o: &Outcome, model: &Arc<str>) {
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
            self.changed(model, Change::of(model, Aspect::Cost, way, o.cell.family, o.ts_ms));
            for c in &mut self.cells {
                c.add_cost(&point, arm, ratio as f32, discount as f32);
            }
        }
    }

    /// What is known of the answer itself, beyond its reward, as far as it counts: `worth`. An opinion counts as far as the
    /// answer was a success, for Q is what is thought of successes: how many there are stands in the reward.
    pub(super) fn learn_answer(&mut self, o: &Outcome, model: &Arc<str>, reward: f64, worth: f64) {
        self.saw(o);
        let Some(arm) = self.arm(&o.workflow, model).filter(|_| worth > 0.0) else { return };
        let discount = self.limits.discount;
        let Some(held) = self.arms.get_mut(arm) else { return };
        let stats = Arc::make_mut(&mut held.stats);
        if let Some(held) = o.parts.contract {
            let (contract, discount) = (o.cell.contract, aged(discount, worth));
            stats.forms.add(contract, held, discount, worth);
            let watched = self.models.entry(model.clone()).or_default();
            Arc::make_mut(&mut watched.stats).forms.add(contract, held, discount, worth);
        }
        if let Some(q) = outcome::opinion(&o.parts) {
            let rated = worth * reward;
            stats.quality.shift(rated, rated * q, discount);
            self.opinion.shift(rated, rated * q, discount);
        }
    }

    /// Whether what a model said went out, or a rule refused it: its answer, or the tool that it called. What one tenant's
    /// requests say is bound as its outcomes are, either way, so that who is bound is not known by its refusals alone. That a
    /// person has yet to agree, or did not, is no word of a rule on what the model said.
    pub(super) fn learn_safety(&mut self, o: &Outcome) {
        let (model, safe) = match o.status {
            Status::Delivered => (o.served_by.as_ref(), 1.0),
            Status::Denied if o.error.as_deref().is_some_and(is_of_approval) => return,
            Status::Denied => (o.observations.iter().rfind(|c| c.ok).map(|c| &c.model), 0.0),
            _ => return,
        };
        let discount = self.limits.discount;
        let Some(watched) = model.and_then(|m| self.models.get_mut(m)) else { return };
        let stats = Arc::make_mut(&mut watched.stats);
        let (arm, ever) = (place_of(model.map_or("", |m| m)), watched.let_out);
        let sample = Sample { arm, n: stats.safe.n, ever, discount };
        let weight = self.of_refusals.allow(TENANT, &o.tenant, sample, o.ts_ms, 1.0);
        stats.safe.add_part(safe, aged(discount, weight), weight);
        watched.let_out += weight;
    }

    /// What a whole outcome counts as, before any bound.
    pub(super) fn worth(&self, o: &Outcome) -> f64 {
        if soft::is_unchecked(&o.parts) { self.spoken.worth(o.cell.family) } else { 1.0 }
    }

    /// A request has a reward, be it of a word that came later.
    pub(super) fn saw(&mut self, o: &Outcome) {
        if let Some(n) = self.seen.get_mut(o.cell.family.index()) {
            *n = n.saturating_add(1);
        }
    }

    /// Learns a reward, `weight` of it; `late` if it is what was said of an answer afterwards. How much of that counts in
    /// what is common to all tenants, in outcomes.
    pub(super) fn learn_reward(
        &mut self,
        o: &Outcome,
        model: &Arc<str>,
        reward: f64,
        weight: f64,
        late: bool,
    ) -> f64 {
        let Some(mut lesson) = self.lesson(o, model, reward, weight) else { return 0.0 };
        lesson.late = late;
        let sample = self.sample(lesson.arm);
        let worth = self.of_tenants.allow(TENANT, &o.tenant, sample, o.ts_ms, self.worth(o));
        lesson.weight *= worth;
        self.learn(&lesson, &o.tenant, weight);
        worth
    }
}

/// What earlier outcomes weigh after `weight` of another one. A part of an outcome ages the others by that part only: many
/// small words would drown them otherwise.
fn aged(discount: f64, weight: f64) -> f64 {
    if weight == 1.0 { discount } else { discount.powf(weight) }
}
