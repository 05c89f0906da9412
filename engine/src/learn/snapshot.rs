//! What routing reads: an immutable picture of what was learned, swapped whole.

use super::Count;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use types::axis::{AxisValue, TaskFamily};
use types::profile::Cell;

/// What was learned of one arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmStats {
    /// Over everything.
    pub total: Count,
    /// Per task family, in the order of `TaskFamily::ALL`.
    pub families: [Count; 8],
    /// Per cell.
    #[serde(with = "cells")]
    pub cells: HashMap<Cell, Count>,
    /// Contract held at delivery, where there was one to hold.
    pub contract: Count,
    /// Judge and feedback, given an answer.
    pub quality: Count,
}

impl ArmStats {
    /// Counts of a family.
    #[must_use]
    pub fn family(&self, family: TaskFamily) -> Count {
        self.families.get(family.index()).copied().unwrap_or_default()
    }
}

/// Cells as a list: JSON has no composite keys.
mod cells {
    use super::{Cell, Count, HashMap};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(map: &HashMap<Cell, Count>, s: S) -> Result<S::Ok, S::Error> {
        let mut list: Vec<(&Cell, &Count)> = map.iter().collect();
        list.sort_by_key(|(c, _)| **c);
        s.collect_seq(list)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<HashMap<Cell, Count>, D::Error> {
        Ok(Vec::<(Cell, Count)>::deserialize(d)?.into_iter().collect())
    }
}

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

/// What was learned of one model, whatever the workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStats {
    /// Time to the first content.
    pub ttft: Latency,
    /// Milliseconds per output token.
    pub per_token: Latency,
    /// Output tokens.
    pub output_tokens: Latency,
    /// Calls that were answered.
    pub answered: Count,
}

/// A picture of everything learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Grows with every publication.
    pub version: u64,
    /// By workflow, then model.
    pub arms: HashMap<Arc<str>, HashMap<Arc<str>, Arc<ArmStats>>>,
    /// By model.
    pub models: HashMap<Arc<str>, Arc<ModelStats>>,
    /// Outcomes per family, in the order of `TaskFamily::ALL`, undiscounted.
    pub seen: [u64; 8],
}

impl Snapshot {
    /// What was learned of an arm.
    #[must_use]
    pub fn arm(&self, workflow: &str, model: &str) -> Option<&Arc<ArmStats>> {
        self.arms.get(workflow)?.get(model)
    }

    /// Outcomes seen in a family.
    #[must_use]
    pub fn seen_in(&self, family: TaskFamily) -> u64 {
        self.seen.get(family.index()).copied().unwrap_or_default()
    }
}

/// Handle to the snapshot in force; cheap to clone, read without locks.
#[derive(Clone, Debug, Default)]
pub struct Statistics(Arc<ArcSwap<Snapshot>>);

impl Statistics {
    /// The snapshot in force.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
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

    #[test]
    fn arm_statistics_survive_json() {
        let mut a = ArmStats::default();
        a.total.add(1.0, 0.99);
        let cell = Cell {
            family: TaskFamily::Coding,
            sub: None,
            contract: types::axis::OutputContract::Prose,
            tools: types::axis::ToolDependence::None,
            length: types::profile::LengthBand::S,
        };
        a.cells.entry(cell).or_default().add(0.5, 0.99);
        let back: ArmStats = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(back, a);
    }
}
