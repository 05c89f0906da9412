//! Durations, and token counts, as log-normal quantities that are learned.
//!
//! Mean and variance of the logarithm are kept by Welford's update (1962) with exponential forgetting; a prior is
//! blended in as measurements of its own.

use serde::{Deserialize, Serialize};

/// A duration as the mean and variance of its logarithm, discounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    n: f64,
    mean: f64,
    m2: f64,
}

impl Latency {
    /// Takes one measurement in, in milliseconds.
    pub fn add(&mut self, ms: f64, discount: f64) {
        if !ms.is_finite() || ms <= 0.0 {
            return;
        }
        let x = ms.ln();
        self.n = self.n * discount + 1.0;
        let d = x - self.mean;
        self.mean += d / self.n;
        self.m2 = self.m2 * discount + d * (x - self.mean);
    }

    /// Measurements behind it, discounted.
    #[must_use]
    pub const fn n(&self) -> f64 {
        self.n
    }

    /// 95th percentile of a log-normal, in milliseconds: exp(μ + 1.645σ). The prior median counts as five
    /// measurements with σ = 0.5.
    #[must_use]
    pub fn p95(&self, prior_ms: f64) -> f64 {
        let (mean, sd) = self.blend(prior_ms);
        (mean + 1.645 * sd).exp()
    }

    /// Median of a log-normal, in milliseconds: exp(μ).
    #[must_use]
    pub fn median(&self, prior_ms: f64) -> f64 {
        self.blend(prior_ms).0.exp()
    }

    /// Median of what was measured alone, in milliseconds; `None` = nothing was.
    pub(super) fn measured(&self) -> Option<f64> {
        (self.n > 0.0).then(|| self.mean.exp())
    }

    /// Logarithm of that.
    pub(super) fn measured_ln(&self) -> Option<f64> {
        (self.n > 0.0).then_some(self.mean)
    }

    /// σ: how far single measurements scatter, as a deviation of the logarithm. The usual 0.5 counts as five of them.
    pub(super) fn spread(&self) -> f64 {
        self.blend(1.0).1
    }

    /// All measurements weigh `factor` as much.
    pub(super) fn scale(&mut self, factor: f64) {
        (self.n, self.m2) = (self.n * factor, self.m2 * factor);
    }

    fn blend(&self, prior_ms: f64) -> (f64, f64) {
        const PRIOR_N: f64 = 5.0;
        const PRIOR_SD: f64 = 0.5;
        let prior = prior_ms.max(1.0).ln();
        let n = PRIOR_N + self.n;
        let mean = (PRIOR_N * prior + self.n * self.mean) / n;
        let variance = (PRIOR_N * PRIOR_SD * PRIOR_SD + self.m2) / n;
        (mean, variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_move_from_the_prior_to_the_evidence() {
        let mut l = Latency::default();
        assert!((l.median(200.0) - 200.0).abs() < 1e-6);
        for _ in 0..200 {
            l.add(1_000.0, 0.99);
        }
        assert!(l.median(200.0) > 900.0 && l.p95(200.0) > l.median(200.0));
    }
}
