//! Whether a model still does what it did: a two-sided Page-Hinkley test on standardised residuals.
//!
//! With z the surprise of an outcome in deviations of what was expected (Page 1954; Hinkley 1971):
//!
//! ```text
//! down ← max(0, down − z − δ)      up ← max(0, up + z − δ)      alarm when either passes h
//! ```
//!
//! δ ignores drifts that discounting follows by itself; h sets how rare a false alarm is: about one in 50 000
//! outcomes where beliefs are right, while a fall by half is seen within some twenty to fifty.

use super::Surprise;
use super::point::KINDS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// δ and h for surprises whose expectation is a belief.
const REWARD: (f64, f64) = (0.3, 18.0);
/// δ and h for quantities that are compared with their own past, whose mean is itself an estimate.
const AMOUNT: (f64, f64) = (0.5, 15.0);
/// One outcome says no more than so many deviations, or a rare event would be an alarm by itself.
const CLIP: f64 = 3.0;
/// Least variance of an outcome: beliefs near 0 or 1 are never that sure.
const LEAST_VARIANCE: f64 = 0.15;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Reward of its answers.
    Success,
    /// What judges and people say of its answers.
    Opinion,
    /// Cost against what was forecast.
    Cost,
    /// Time per token.
    Latency,
}

impl Aspect {
    /// All of them.
    pub const ALL: [Aspect; 4] = [Aspect::Success, Aspect::Opinion, Aspect::Cost, Aspect::Latency];

    /// The string used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Aspect::Success => "success",
            Aspect::Opinion => "opinion",
            Aspect::Cost => "cost",
            Aspect::Latency => "latency",
        }
    }
}

/// One test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    down: f64,
    up: f64,
}

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Less than expected.
    Down,
    /// More than expected.
    Up,
}

impl Way {
    /// Both.
    pub const ALL: [Way; 2] = [Way::Down, Way::Up];

    /// The string used in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Way::Down => "down",
            Way::Up => "up",
        }
    }
}

/// How often a model was seen to change, by aspect and way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes([[u64; Way::ALL.len()]; Aspect::ALL.len()]);

impl Changes {
    pub(super) fn add(&mut self, aspect: Aspect, way: Way) {
        for ((_, _, is), n) in Self::kinds(aspect, way).zip(self.0.iter_mut().flatten()) {
            *n = n.saturating_add(u64::from(is));
        }
    }

    /// Every kind of change in the order of the counts, and whether it is this one.
    fn kinds(aspect: Aspect, way: Way) -> impl Iterator<Item = (Aspect, Way, bool)> {
        let all = Aspect::ALL.into_iter().flat_map(|a| Way::ALL.into_iter().map(move |w| (a, w)));
        all.map(move |(a, w)| (a, w, (a, w) == (aspect, way)))
    }

    /// Every kind of change with how often there was one.
    pub fn iter(&self) -> impl Iterator<Item = (Aspect, Way, u64)> {
        let kinds = Self::kinds(Aspect::Success, Way::Down);
        kinds.zip(self.0.iter().flatten()).map(|((a, w, _), n)| (a, w, *n))
    }
}

impl Test {
    /// A reward that came as a surprise of `z` deviations, `weight` of it; an alarm starts the test anew.
    pub(super) fn reward(&mut self, z: f64, weight: f64) -> Option<Way> {
        self.see(z, weight, REWARD)
    }

    fn see(&mut self, z: f64, weight: f64, (delta, threshold): (f64, f64)) -> Option<Way> {
        let z = z.clamp(-CLIP, CLIP);
        self.down = (self.down + weight * (-z - delta)).max(0.0);
        self.up = (self.up + weight * (z - delta)).max(0.0);
        let way = if self.down > threshold {
            Way::Down
        } else if self.up > threshold {
            Way::Up
        } else {
            return None;
        };
        *self = Test::default();
        Some(way)
    }
}

/// Surprise of a reward where `p` was believed.
pub(super) fn surprise(reward: f64, p: f64) -> f64 {
    (reward - p) / deviation(p)
}

/// Deviation of an outcome where `p` is believed.
fn deviation(p: f64) -> f64 {
    (p * (1.0 - p)).max(LEAST_VARIANCE).sqrt()
}

/// Rewards, or scores, that are compared with their own past: where beliefs are pooled they may be off in one family for
/// ever, and that is no change; and of what people say there is no belief.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Drift {
    past: Surprise,
    test: Test,
}

impl Drift {
    /// Outcomes before it can be surprised.
    const SETTLED: f64 = 30.0;

    /// A reward that came as a surprise of `z` deviations, `weight` of it.
    pub(super) fn reward(&mut self, z: f64, discount: f64, weight: f64) -> Option<Way> {
        self.see(z.clamp(-CLIP, CLIP), discount, weight, |_| 1.0)
    }

    /// Somebody gave a score of 0..=1, `weight` of it.
    pub(super) fn score(&mut self, score: f64, discount: f64, weight: f64) -> Option<Way> {
        self.see(score, discount, weight, deviation)
    }

    fn see(&mut self, x: f64, discount: f64, weight: f64, deviation: impl Fn(f64) -> f64) -> Option<Way> {
        let mut alarm = None;
        if self.past.n >= Self::SETTLED {
            let mean = self.past.mean(0.0, 0.0);
            alarm = self.test.see((x - mean) / deviation(mean), weight, AMOUNT);
        }
        self.past.add(x, discount.powf(weight), weight);
        if alarm.is_some() {
            *self = Drift::default();
        }
        alarm
    }
}

/// A quantity of one model, gauged apart for each kind of request: what long answers cost is no news of short ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Gauges(BTreeMap<u8, Gauge>);

impl Gauges {
    /// Takes a positive quantity in; an alarm forgets the past of all kinds, for the model is another.
    pub(super) fn see(&mut self, kind: usize, x: f64, discount: f64) -> Option<Way> {
        let kind = u8::try_from(kind.min(KINDS)).unwrap_or(u8::MAX);
        let alarm = self.0.entry(kind).or_default().see(x, discount);
        if alarm.is_some() {
            self.0.clear();
            self.0.entry(kind).or_default().see(x, discount);
        }
        alarm
    }
}

/// A quantity whose surprises are measured against its own past: mean and variance of its logarithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Gauge {
    n: f64,
    mean: f64,
    m2: f64,
    test: Test,
}

impl Gauge {
    /// Outcomes before it can be surprised.
    const SETTLED: f64 = 30.0;
    /// Least deviation of the logarithm: fifteen per cent.
    const LEAST: f64 = 0.15;

    fn see(&mut self, x: f64, discount: f64) -> Option<Way> {
        if !x.is_finite() || x <= 0.0 {
            return None;
        }
        let x = x.ln();
        let mut alarm = None;
        if self.n >= Self::SETTLED {
            let deviation = (self.m2 / self.n).sqrt().max(Self::LEAST);
            alarm = self.test.see((x - self.mean) / deviation, 1.0, AMOUNT);
        }
        self.n = self.n * discount + 1.0;
        let d = x - self.mean;
        self.mean += d / self.n;
        self.m2 = self.m2 * discount + d * (x - self.mean);
        alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng};

    /// Outcomes until an alarm when the truth is `p` and 0.9 is believed.
    fn run(p: f64, most: usize, seed: u64) -> Option<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut t = Test::default();
        (0..most)
            .find(|_| t.reward(surprise(f64::from(u8::from(rng.random::<f64>() < p)), 0.9), 1.0).is_some())
    }

    #[test]
    fn it_sees_a_fall_soon_and_is_quiet_otherwise() {
        let seen: Vec<_> = (0..40).map(|s| run(0.5, 200, s)).collect();
        assert!(seen.iter().all(|s| s.is_some_and(|n| n < 80)), "{seen:?}");
        let false_alarms = (0..40).filter(|s| run(0.9, 2_000, *s).is_some()).count();
        assert!(false_alarms <= 1, "{false_alarms} of 40 in 2 000 outcomes each");
    }

    #[test]
    fn a_family_that_is_always_off_is_no_change_and_one_that_falls_is() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut draw = |p: f64| f64::from(u8::from(rng.random::<f64>() < p));
        let (mut off, mut scores) = (Drift::default(), Drift::default());
        for i in 0..20_000 {
            // 0.9 is believed where 0.6 is true; people are content with four of five.
            assert_eq!(off.reward(surprise(draw(0.6), 0.9), 0.99, 1.0), None, "{i}");
            assert_eq!(scores.score(draw(0.8), 0.99, 1.0), None, "{i}");
        }
        let mut first = |mut see: Box<dyn FnMut(f64) -> Option<Way> + '_>, p: f64| {
            (0..100).find_map(|i| see(draw(p)).map(|w| (i, w)))
        };
        let fell = first(Box::new(|x| off.reward(surprise(x, 0.9), 0.99, 1.0)), 0.1);
        assert!(fell.is_some_and(|(i, w)| i < 60 && w == Way::Down), "{fell:?}");
        let said = first(Box::new(|x| scores.score(x, 0.99, 1.0)), 0.1);
        assert!(said.is_some_and(|(i, w)| i < 60 && w == Way::Down), "{said:?}");
    }

    #[test]
    fn crumbs_of_outcomes_tell_as_much_as_the_whole_of_them() {
        let alarm = |weight: f64| {
            let mut t = Test::default();
            (1..100_000).find(|_| t.reward(-1.0, weight).is_some()).map(|n| f64::from(n) * weight)
        };
        assert!((alarm(0.01).unwrap() - alarm(1.0).unwrap()).abs() <= 1.0);
        assert_eq!((0..10_000).find(|_| Test::default().reward(-3.0, 0.0).is_some()), None);
    }

    #[test]
    fn every_change_is_counted_under_its_own_name() {
        let mut c = Changes::default();
        c.add(Aspect::Cost, Way::Up);
        c.add(Aspect::Cost, Way::Up);
        c.add(Aspect::Opinion, Way::Down);
        let seen: Vec<_> = c.iter().filter(|(.., n)| *n > 0).collect();
        assert_eq!(seen, [(Aspect::Opinion, Way::Down, 1), (Aspect::Cost, Way::Up, 2)]);
    }

    #[test]
    fn a_price_that_doubles_is_seen_and_scatter_is_not() {
        let mut g = Gauges::default();
        let mut rng = StdRng::seed_from_u64(1);
        for i in 0..20_000 {
            // Kinds differ, and the second one comes late.
            let kind = usize::from(i > 5_000 && i % 3 == 0);
            let usual = if kind == 0 { 1.0 } else { 7.0 };
            assert_eq!(g.see(kind, usual * rng.random_range(-0.5..0.5_f64).exp(), 0.99), None, "{i}");
        }
        let after =
            (0..60).find_map(|i| g.see(0, 2.0 * rng.random_range(-0.5..0.5_f64).exp(), 0.99).map(|w| (i, w)));
        assert!(after.is_some_and(|(i, w)| i < 30 && w == Way::Up), "{after:?}");
    }
}
