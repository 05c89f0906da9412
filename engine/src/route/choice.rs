//! The choice among scored arms: the best, but for a small randomised share among the best few.

use rand::{Rng, RngExt as _};

/// Which arm, and how likely each was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Position of the choice.
    pub(crate) chosen: usize,
    /// The draw went to another arm than the best.
    pub(crate) explored: bool,
    /// π(a) per arm: (1−ε)·[a = argmax] + ε/|top| for a in top; sums to 1.
    pub(crate) propensity: Vec<f64>,
    /// ε in force: 0 when there is nothing to choose from.
    pub(crate) epsilon: f64,
}

/// Chooses from utilities in falling order; `None` when there are none. `top` is the first `arms` of those
/// whose utility is at most `slack` below the best.
pub(crate) fn draw(
    utilities: &[f64],
    epsilon: f64,
    arms: usize,
    slack: f64,
    rng: &mut impl Rng,
) -> Option<Draw> {
    let best = *utilities.first()?;
    let top = utilities.iter().take(arms.max(1)).take_while(|u| best - **u <= slack).count().max(1);
    let epsilon = if top > 1 { epsilon.clamp(0.0, 1.0) } else { 0.0 };
    let mut chosen = 0;
    if epsilon > 0.0 && rng.random::<f64>() < epsilon {
        chosen = rng.random_range(0..top);
    }
    let share = epsilon / top as f64;
    let propensity = (0..utilities.len())
        .map(|i| {
            if i == 0 {
                1.0 - epsilon + share
            } else if i < top {
                share
            } else {
                0.0
            }
        })
        .collect();
    Some(Draw { chosen, explored: chosen != 0, propensity, epsilon })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    proptest! {
        #[test]
        fn propensities_sum_to_one(mut u in prop::collection::vec(-1.0_f64..1.0, 1..30), eps in 0.0_f64..0.5, arms in 1_usize..5, slack in 0.0_f64..1.0, seed: u64) {
            u.sort_by(|a, b| b.total_cmp(a));
            let d = draw(&u, eps, arms, slack, &mut StdRng::seed_from_u64(seed)).unwrap();
            prop_assert!((d.propensity.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(d.propensity[d.chosen] > 0.0);
            prop_assert!(u[0] - u[d.chosen] <= slack);
        }
    }

    #[test]
    fn frequencies_match_the_stated_propensities() {
        let mut rng = StdRng::seed_from_u64(7);
        let u = [0.9, 0.85, 0.8, 0.75, 0.1];
        let mut counts = [0_f64; 5];
        let n = 200_000;
        let mut stated = Vec::new();
        for _ in 0..n {
            let d = draw(&u, 0.2, 3, 0.2, &mut rng).unwrap();
            counts[d.chosen] += 1.0;
            stated = d.propensity;
        }
        for (c, p) in counts.iter().zip(&stated) {
            let sd = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((c / f64::from(n) - p).abs() <= 4.0 * sd, "{counts:?} {stated:?}");
        }
    }

    #[test]
    fn nothing_is_explored_where_it_is_forbidden_or_pointless() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..1000 {
            assert_eq!(draw(&[0.5, 0.5], 0.0, 3, 0.1, &mut rng).unwrap().chosen, 0);
            assert_eq!(draw(&[0.5, 0.1], 0.5, 3, 0.1, &mut rng).unwrap().epsilon, 0.0);
        }
        assert!(draw(&[], 0.1, 3, 0.1, &mut rng).is_none());
    }
}
