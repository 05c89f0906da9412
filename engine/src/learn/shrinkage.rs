//! How much the level above weighs: k, estimated from how well each k would have foretold the outcomes.
//!
//! Empirical Bayes: the probability that a k gives to all outcomes so far, each foretold from those before it,
//! is its (discounted) marginal likelihood; for Bernoulli outcomes under a Beta prior this is the
//! beta-binomial likelihood by the chain rule. The best k of a grid is in force, off the request path.

use serde::{Deserialize, Serialize};

/// The grid.
pub(super) const GRID: [f32; 4] = [6.0, 12.0, 24.0, 48.0];
/// In force until there is evidence.
const FIRST: usize = 1;
/// What an outcome's log likelihood weighs after the next one: about the last 2 000 count.
const DISCOUNT: f64 = 0.9995;
/// How much better another k must be, in nats, before it takes over.
const MARGIN: f64 = 2.0;

/// Log losses of the grid, and which k is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shrinkage {
    losses: [f64; GRID.len()],
    at: usize,
}

impl Default for Shrinkage {
    fn default() -> Self {
        Shrinkage { losses: [0.0; GRID.len()], at: FIRST }
    }
}

impl Shrinkage {
    /// The k in force.
    pub(super) fn k(&self) -> f32 {
        GRID.get(self.at).copied().unwrap_or(12.0)
    }

    /// An outcome came out as `reward` where each k had foretold so much. Whether another k is in force now.
    pub(super) fn see(&mut self, foretold: [f32; GRID.len()], reward: f64) -> bool {
        for (loss, p) in self.losses.iter_mut().zip(foretold) {
            let p = f64::from(p).clamp(0.01, 0.99);
            *loss = *loss * DISCOUNT - reward * p.ln() - (1.0 - reward) * (1.0 - p).ln();
        }
        let best = self.losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let now = self.losses.get(self.at).copied().unwrap_or(f64::INFINITY);
        match best {
            Some((i, loss)) if i != self.at && loss + MARGIN < now => {
                self.at = i;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_k_that_foretells_best_takes_over() {
        let mut s = Shrinkage::default();
        assert_eq!(s.k(), 12.0);
        for _ in 0..300 {
            s.see([0.3, 0.4, 0.5, 0.7], 1.0);
        }
        assert_eq!(s.k(), 48.0);
        for _ in 0..3_000 {
            s.see([0.9, 0.4, 0.5, 0.7], 1.0);
        }
        assert_eq!(s.k(), 6.0);
    }
}
