//! Whether models still do what they did: what each answer says of speed, alarms, and what follows from one.

use super::Count;
use super::detect::{Aspect, Gauges, Test, Way, surprise};
use super::learner::Learner;
use super::lesson::Lesson;
use super::point::Point;
use super::snapshot::{Change, ModelStats};
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
}

impl Learner {
    /// Tests whether the model still does what is believed of it.
    pub(super) fn watch(&mut self, l: &Lesson, believed: f64) {
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
    pub(super) fn changed(&mut self, model: &Arc<str>, aspect: Aspect, way: Way, family: TaskFamily) {
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
                stats.whole.scale(KEPT);
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
            self.changed(&seen.model, Aspect::Latency, way, family);
        }
    }

    /// From now on believes of a model what is believed of another: an operator knows that it was replaced.
    pub fn liken(&mut self, model: &str, like: &str) {
        let other = self.models.get(like).map(|w| w.stats.clone()).unwrap_or_default();
        if let Some(w) = self.models.get_mut(model) {
            w.stats = other;
            Arc::make_mut(&mut w.stats).trust = Some(UNTRUSTED);
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
            Arc::make_mut(&mut self.tenants).scale(to, 0.0);
            self.touch(to);
        }
        self.dirty.all = true;
    }
}

/// The family whose late surprises are largest.
fn loudest(by_family: &[f64; 8]) -> TaskFamily {
    let largest = TaskFamily::ALL.iter().zip(by_family).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
    largest.map_or(TaskFamily::Chat, |(f, _)| *f)
}
