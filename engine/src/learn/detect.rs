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
    /// Cost against what was forecast.
    Cost,
    /// Time per token.
    Latency,
}

impl Aspect {
    /// The string used in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Aspect::Success => "success",
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

impl Test {
    /// A reward that came as a surprise of `z` deviations; an alarm starts the test anew.
    pub(super) fn reward(&mut self, z: f64) -> Option<Way> {
        self.see(z, REWARD)
    }

    fn see(&mut self, z: f64, (delta, threshold): (f64, f64)) -> Option<Way> {
        let z = z.clamp(-CLIP, CLIP);
        self.down = (self.down - z - delta).max(0.0);
        self.up = (self.up + z - delta).max(0.0);
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
    (reward - p) / (p * (1.0 - p)).max(LEAST_VARIANCE).sqrt()
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
            alarm = self.test.see((x - self.mean) / deviation, AMOUNT);
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
        (0..most).find(|_| t.reward(surprise(f64::from(u8::from(rng.random::<f64>() < p)), 0.9)).is_some())
    }

    #[test]
    fn it_sees_a_fall_soon_and_is_quiet_otherwise() {
        let seen: Vec<_> = (0..40).map(|s| run(0.5, 200, s)).collect();
        assert!(seen.iter().all(|s| s.is_some_and(|n| n < 80)), "{seen:?}");
        let false_alarms = (0..40).filter(|s| run(0.9, 2_000, *s).is_some()).count();
        assert!(false_alarms <= 1, "{false_alarms} of 40 in 2 000 outcomes each");
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
