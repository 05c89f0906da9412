//! Discounted counts: what remains of past outcomes.

use serde::{Deserialize, Serialize};
use types::axis::{AxisValue, OutputContract};

/// Discounted trials and successes: with each new outcome all earlier ones weigh γ as much, so `n` tends
/// to 1/(1−γ), 100 at the default of 0.99.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Trials.
    pub n: f64,
    /// Successes; a quality in 0..=1 counts fractionally.
    pub s: f64,
}

impl Count {
    /// Takes one outcome in.
    pub fn add(&mut self, reward: f64, discount: f64) {
        self.add_part(reward, discount, 1.0);
    }

    /// Takes `weight` of an outcome in, 0..=1.
    pub fn add_part(&mut self, reward: f64, discount: f64, weight: f64) {
        self.n = self.n * discount + weight;
        self.s = self.s * discount + weight * reward.clamp(0.0, 1.0);
    }

    /// Takes a quantity in that is no share, such as a ratio of costs.
    pub(super) fn add_amount(&mut self, x: f64, discount: f64) {
        self.n = self.n * discount + 1.0;
        self.s = self.s * discount + x;
    }

    /// All that was counted weighs `factor` as much.
    pub fn scale(&mut self, factor: f64) {
        (self.n, self.s) = (self.n * factor, self.s * factor);
    }

    /// An outcome counted earlier is worth something else now. Its discount since then is not known, so the
    /// whole difference is applied, and the mean stays within 0..=1.
    pub fn revise(&mut self, before: f64, now: f64) {
        self.s = (self.s + now - before).clamp(0.0, self.n);
    }

    /// What was counted of an outcome is `trials` and `successes` more, or less, than it was.
    pub(super) fn shift(&mut self, trials: f64, successes: f64, discount: f64) {
        let before = if trials > 0.0 { discount.powf(trials) } else { 1.0 };
        self.n = (self.n * before + trials).max(0.0);
        self.s = (self.s * before + successes).clamp(0.0, self.n);
    }

    /// Posterior mean with a prior of mean `prior` worth `strength` trials: (k·c + s) / (k + n).
    #[must_use]
    pub fn posterior(&self, prior: f64, strength: f64) -> f64 {
        (strength * prior + self.s) / (strength + self.n)
    }
}

/// How often an answer's form held, by the contract that it was to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forms([Count; OutputContract::ALL.len()]);

impl Forms {
    /// Takes `weight` of an outcome in: all earlier ones of its contract weigh `discount` as much from now on.
    pub(super) fn add(&mut self, contract: OutputContract, held: f64, discount: f64, weight: f64) {
        let slot = self.0.get_mut(contract.index());
        slot.into_iter().for_each(|c| c.add_part(held, discount, weight));
    }

    /// All that was counted weighs `factor` as much.
    pub(super) fn scale(&mut self, factor: f64) {
        self.0.iter_mut().for_each(|c| c.scale(factor));
    }

    /// Of one contract.
    #[must_use]
    pub fn of(&self, contract: OutputContract) -> Count {
        self.0.get(contract.index()).copied().unwrap_or_default()
    }
}

/// How outcomes compare with what was expected before any evidence: discounted trials, and the sum of reward
/// less prior.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Surprise {
    /// Trials.
    pub n: f64,
    /// Σ (reward − prior).
    pub e: f64,
}

impl Surprise {
    pub(super) fn add(&mut self, residual: f64, discount: f64, weight: f64) {
        self.n = self.n * discount + weight;
        self.e = self.e * discount + weight * residual;
    }

    pub(super) fn scale(&mut self, factor: f64) {
        (self.n, self.e) = (self.n * factor, self.e * factor);
    }

    /// Mean surprise, shrunk to `above` worth `strength` trials.
    #[must_use]
    pub fn mean(&self, above: f64, strength: f64) -> f64 {
        (strength * above + self.e) / (strength + self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_outcomes_fade_and_revisions_stay_in_range() {
        let mut c = Count::default();
        for _ in 0..10_000 {
            c.add(1.0, 0.99);
        }
        assert!((c.n - 100.0).abs() < 1e-6 && (c.s - c.n).abs() < 1e-9);
        for _ in 0..500 {
            c.add(0.0, 0.99);
        }
        assert!(c.posterior(0.5, 8.0) < 0.06);
        c.revise(0.0, 5_000.0);
        assert_eq!(c.s, c.n);
    }
}
