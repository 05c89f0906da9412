//! Whether models still do what they did: what each answer says of speed, alarms, and what follows from one.

use super::detect::{Aspect, Drift, Gauges, Test, Way, surprise};
use super::learner::Learner;
use super::lesson::Lesson;
use super::point::Point;
use super::snapshot::{Change, ModelStats};
use super::{Count, Surprise};
use std::sync::Arc;
use types::Features;
use types::axis::{AxisValue, TaskFamily};
use types::outcome::CallObservation;
use types::profile::Cell;

/// Time to the first token of a model that has never streamed, milliseconds: the matrix' default.
const TTFT_MS: f64 = 800.0;
/// Milliseconds of an answer that say nothing of its model: what waits for a processor or a packet here. A change by a few of
/// them is none, however much it is of an answer that takes as many; of one that takes a second it is hardly a part.
const NOISE_MS: f64 = 50.0;
/// What remains of what was learned of a model that has changed, and of the trust in its prior.
const KEPT: f64 = 0.2;
/// Trust in the prior of a model that is known to be another. With none at all, outcomes could not be told from the prior
/// that they are weighed against.
const UNTRUSTED: f64 = 0.05;
/// Outcomes as of which nothing more was said: what words made of outcomes is shrunk to nothing by so many.
const UNSPOKEN: f64 = 8.0;
/// Outcomes for which a model that has changed is tried out more.
const REOPENED: u32 = 30;
/// Changes remembered.
const CHANGES: usize = 64;

/// What is held of a model.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Watched {
    pub(super) stats: Arc<ModelStats>,
    pub(super) success: Test,
    pub(super) cost: Gauges,
    pub(super) latency: Gauges,
    /// Surprise of late by family, to tell which one moved.
    by_family: [f64; 8],
    // States of earlier versions hold none of these.
    /// Of each family, by itself.
    #[serde(default)]
    families: [Drift; 8],
    /// What judges and people say.
    #[serde(default)]
    opinion: Drift,
    /// What words that came later made of counted outcomes.
    #[serde(default)]
    pub(super) late: Surprise,
    /// Answers that went out or were refused ever, undiscounted.
    #[serde(default)]
    pub(super) let_out: f64,
}

impl Watched {
    /// What was counted in a row is no stream to be surprised by.
    pub(super) fn forget_the_stream(&mut self) {
        (self.cost, self.latency) = <_>::default();
        self.begin_anew();
    }

    /// Starts what watches its answers anew.
    fn begin_anew(&mut self) {
        (self.success, self.by_family, self.families, self.opinion) = <_>::default();
    }
}

impl Learner {
    /// Tests whether the model still does what is believed of it.
    pub(super) fn watch(&mut self, l: &Lesson, believed: f64) {
        let Some(model) = self.arms.get(l.arm).map(|h| h.model.clone()) else { return };
        let (discount, weight) = (self.limits.discount, l.weight.min(1.0));
        let watched = self.models.entry(model.clone()).or_default();
        // Beliefs are of answers with all that is said of them, and this one may still be spoken of.
        let yet = if l.late { 0.0 } else { watched.late.mean(0.0, UNSPOKEN) };
        if !l.late {
            watched.late.add(0.0, discount.powf(weight), weight);
        }
        let z = surprise(l.reward, (believed - yet).clamp(0.0, 1.0));
        for (i, late) in watched.by_family.iter_mut().enumerate() {
            *late = *late * 0.95 + if i == l.family.index() { weight * z } else { 0.0 };
        }
        let of_family = watched.families.get_mut(l.family.index());
        let moved = of_family.and_then(|f| f.reward(z, discount, weight));
        if let Some(way) = watched.success.reward(z, weight) {
            let family = loudest(&watched.by_family);
            self.changed(&model, Change::of(&model, Aspect::Success, way, family, l.ts_ms));
        } else if let Some(way) = moved {
            let change = Change::of(&model, Aspect::Success, way, l.family, l.ts_ms);
            self.changed(&model, Change { alone: true, ..change });
        }
    }

    /// A judge or somebody said of an answer of a model how good it is; `weight` of it counts.
    pub(super) fn watch_opinion(
        &mut self,
        model: &Arc<str>,
        family: TaskFamily,
        ts_ms: i64,
        score: f64,
        weight: f64,
    ) {
        let discount = self.limits.discount;
        let Some(watched) = self.models.get_mut(model).filter(|_| weight > 0.0) else { return };
        if let Some(way) = watched.opinion.score(score, discount, weight.min(1.0)) {
            self.changed(model, Change::of(model, Aspect::Opinion, way, family, ts_ms));
        }
    }

    /// A model has changed: what was learned of that aspect, and its prior, are worth little now.
    pub(super) fn changed(&mut self, model: &Arc<str>, change: Change) {
        let Change { aspect, way, family, alone, .. } = change;
        tracing::warn!(%model, aspect = aspect.as_str(), ?way, %family, alone, "a model no longer does what it did");
        if self.changes.len() >= CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(Change { at: self.ever, ..change });
        let watched = self.models.entry(model.clone()).or_default();
        let stats = Arc::make_mut(&mut watched.stats);
        stats.changes.add(aspect, way);
        let (successes, costs) = match aspect {
            Aspect::Success if alone => {
                stats.reopened = REOPENED;
                return self.forget_in(model, family);
            }
            Aspect::Success | Aspect::Opinion => {
                stats.surprise.scale(KEPT);
                stats.forms.scale(KEPT);
                stats.reopened = REOPENED;
                stats.trust = Some(KEPT);
                watched.begin_anew();
                (KEPT, 1.0)
            }
            Aspect::Cost => {
                stats.cost = Count::default();
                (1.0, 0.0)
            }
            Aspect::Latency => {
                stats.ttft.scale(KEPT);
                stats.per_token.scale(KEPT);
                stats.whole.scale(KEPT);
                (1.0, 1.0)
            }
        };
        for arm in self.arms_of(model) {
            if let Some(held) = self.arms.get_mut(arm) {
                held.ridge.scale(successes);
                let stats = Arc::make_mut(&mut held.stats);
                stats.total.scale(successes);
                stats.surprise.scale(successes);
                stats.forms.scale(successes);
                stats.quality.scale(successes);
            }
            for accounts in [&mut self.influence, &mut self.of_tenants] {
                accounts.scale(u32::try_from(arm).unwrap_or(u32::MAX), successes);
            }
            Arc::make_mut(&mut self.tenants).scale(arm, successes);
            for c in &mut self.cells {
                c.scale(arm, successes as f32, costs as f32);
            }
            self.touch(arm);
        }
    }

    /// What the cells of late requests of a family know of a model is worth little now; others keep what they know.
    fn forget_in(&mut self, model: &Arc<str>, family: TaskFamily) {
        let arms = self.arms_of(model);
        let kind = Point::new(Features::default(), family, None).family_kind();
        for c in &mut self.cells {
            let here = self.past.iter().map(|p| &p.point).filter(|p| p.family_kind() == kind);
            c.scale_at(here, &arms, KEPT as f32);
        }
        arms.into_iter().for_each(|arm| self.touch(arm));
    }

    fn arms_of(&self, model: &Arc<str>) -> Vec<usize> {
        self.arms.iter().enumerate().filter(|(_, h)| h.model == *model).map(|(at, _)| at).collect()
    }

    pub(super) fn observe(&mut self, seen: &CallObservation, cell: &Cell, now_ms: i64) {
        let family = cell.family;
        let point = Point::of_cell(Features::default(), cell);
        if !self.models.contains_key(&seen.model) && self.models.len() >= self.limits.arms {
            return;
        }
        let discount = self.limits.discount;
        let watched = self.models.entry(seen.model.clone()).or_default();
        let m = Arc::make_mut(&mut watched.stats);
        m.answered.add(if seen.ok { 1.0 } else { 0.0 }, discount);
        if seen.cut {
            m.whole.cut_off(seen.total_ms, discount, now_ms);
        }
        if !seen.ok {
            return;
        }
        m.whole.answered(seen.total_ms, seen.output_tokens, discount, now_ms);
        // An answer in one piece does not say when it began: its whole time is not that of its first
        // token, or a model would look slower the longer it was asked to write.
        if let Some(first) = seen.ttft_ms {
            m.ttft.add(first, discount);
        } else if seen.total_ms < m.ttft.median(TTFT_MS) {
            // But it had begun before it ended.
            m.ttft.add(seen.total_ms, discount);
        }
        if seen.output_tokens == 0 {
            return;
        }
        m.output_tokens.add(f64::from(seen.output_tokens), discount);
        let begun = seen.ttft_ms.unwrap_or_else(|| m.ttft.median(TTFT_MS).min(seen.total_ms * 0.9));
        let (writes, tokens) = (seen.total_ms - begun, f64::from(seen.output_tokens));
        m.per_token.add(writes / tokens, discount);
        if let Some(way) = watched.latency.see(point.kind(), (writes + NOISE_MS) / tokens, discount) {
            self.changed(&seen.model, Change::of(&seen.model, Aspect::Latency, way, family, now_ms));
        }
    }

    /// From now on believes of a model what is believed of another: an operator knows that it was replaced.
    pub fn liken(&mut self, model: &str, like: &str) {
        let other = self.models.get(like).map(|w| w.stats.clone()).unwrap_or_default();
        if let Some(w) = self.models.get_mut(model) {
            w.stats = other;
            Arc::make_mut(&mut w.stats).trust = Some(UNTRUSTED);
            w.begin_anew();
            w.late = Surprise::default();
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
            Arc::make_mut(&mut self.tenants).scale(to, 0.0);
            self.touch(to);
        }
        self.dirty.all = true;
    }
}

impl Change {
    pub(super) fn of(model: &Arc<str>, aspect: Aspect, way: Way, family: TaskFamily, ts_ms: i64) -> Change {
        Change { model: model.clone(), aspect, way, family, alone: false, ts_ms, at: 0 }
    }
}

/// The family whose late surprises are largest.
fn loudest(by_family: &[f64; 8]) -> TaskFamily {
    let largest = TaskFamily::ALL.iter().zip(by_family).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    largest.map_or(TaskFamily::Chat, |(f, _)| *f)
}
