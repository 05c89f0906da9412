//! What is believed of an arm for one request: prior and outcomes, shrunk cell to family to arm.

use super::Config;
use crate::learn::{ArmStats, Snapshot};
use types::axis::{AxisValue, TaskFamily};
use types::profile::Cell;

/// Belief in the success of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Belief {
    /// θ, 0.01..=0.99.
    pub(crate) mean: f64,
    /// Its standard deviation.
    pub(crate) sd: f64,
    /// Outcomes in this cell, discounted.
    pub(crate) n: f64,
}

/// Hierarchical Beta shrinkage (`routing.md` §3; Hong et al. 2022), with a prior per family. With discounted
/// successes s and trials n at each level:
///
/// ```text
/// r    = Σ_f (s_f − n_f·c_f) / (k0 + n)            how the arm does against its priors, over all families
/// θ_f  = (k1·clip(c_f + r) + s_f) / (k1 + n_f)
/// θ    = (k2·θ_f + s_g) / (k2 + n_g)
/// sd²  = θ(1−θ) / (κ + n_g + 1),  κ = min(k2, k0 + n)
/// ```
///
/// c_f is the prior of family f and k0 its strength. With one prior for all families this is the page's
/// θ_m → θ_mf → θ_mg. κ keeps an arm nobody has tried as uncertain as its prior is weak.
pub(crate) fn believe(
    config: &Config,
    stats: Option<&ArmStats>,
    cell: &Cell,
    prior: impl Fn(TaskFamily) -> f64,
    strength: f64,
) -> Belief {
    let c = prior(cell.family);
    let Some(a) = stats else {
        let mean = c.clamp(0.01, 0.99);
        let kappa = config.k_cell.min(strength);
        return Belief { mean, sd: (mean * (1.0 - mean) / (kappa + 1.0)).sqrt(), n: 0.0 };
    };
    let surprise: f64 = TaskFamily::ALL
        .iter()
        .zip(&a.families)
        .filter(|(_, k)| k.n > 0.0)
        .map(|(f, k)| k.s - k.n * prior(*f))
        .sum();
    // Each level discounts on its own, so the families' trials, not the total's, belong to the sum above.
    let n: f64 = a.families.iter().map(|k| k.n).sum();
    let shifted = (c + surprise / (strength + n)).clamp(0.01, 0.99);
    let family = a.family(cell.family).posterior(shifted, config.k_family);
    let counts = a.cells.get(cell).copied().unwrap_or_default();
    let mean = counts.posterior(family, config.k_cell).clamp(0.01, 0.99);
    let kappa = config.k_cell.min(strength + n);
    Belief { mean, sd: (mean * (1.0 - mean) / (kappa + counts.n + 1.0)).sqrt(), n: counts.n }
}

/// β of the bonus: wider while the family has hardly been seen.
pub(crate) fn beta(config: &Config, snapshot: &Snapshot, family: TaskFamily) -> f64 {
    if snapshot.seen_in(family) < config.young { config.beta_young } else { config.beta }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::axis::{OutputContract, ToolDependence};
    use types::profile::LengthBand;

    fn cell(family: TaskFamily) -> Cell {
        Cell {
            family,
            sub: None,
            contract: OutputContract::Prose,
            tools: ToolDependence::None,
            length: LengthBand::S,
        }
    }

    fn told(outcomes: &[(TaskFamily, f64)]) -> ArmStats {
        let mut a = ArmStats::default();
        for (f, r) in outcomes {
            a.total.add(*r, 0.99);
            a.families[f.index()].add(*r, 0.99);
            a.cells.entry(cell(*f)).or_default().add(*r, 0.99);
        }
        a
    }

    fn mean(a: &ArmStats, f: TaskFamily) -> f64 {
        believe(&Config::default(), Some(a), &cell(f), |_| 0.6, 8.0).mean
    }

    #[test]
    fn evidence_moves_its_own_cell_most_and_the_other_families_a_little() {
        let a = told(&[(TaskFamily::Coding, 0.0); 40]);
        let (own, other) = (mean(&a, TaskFamily::Coding), mean(&a, TaskFamily::Chat));
        assert!(own < 0.15, "{own}");
        assert!(other < 0.6 && other > own, "{other}");
    }

    #[test]
    fn doubt_shrinks_with_evidence() {
        let c = Config::default();
        let none = believe(&c, None, &cell(TaskFamily::Chat), |_| 0.6, 8.0);
        let some = told(&[(TaskFamily::Chat, 0.6); 60]);
        let some = believe(&c, Some(&some), &cell(TaskFamily::Chat), |_| 0.6, 8.0);
        assert!(some.sd < none.sd);
        assert!((some.mean - 0.6).abs() < 1e-9);
    }
}
