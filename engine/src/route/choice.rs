//! The choice among scored arms: the best, but for a small randomised share among the best few.

use rand::{Rng, RngExt as _};

/// How much further below the best than others an arm may lie whose model was seen to change: at the usual slack of a fifth
/// of the best value, half of it. What is believed of it is what it was before.
const WIDER: f64 = 2.5;

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
/// whose utility is at most `slack` below the best, and the first one below them that is `reopened`, if it is at most
/// [`WIDER`] times as far below.
pub(crate) fn draw(
    utilities: &[f64],
    epsilon: f64,
    arms: usize,
    slack: f64,
    reopened: impl Fn(usize) -> bool,
    rng: &mut impl Rng,
) -> Option<Draw> {
    let best = *utilities.first()?;
    let near = |times: f64| utilities.iter().take_while(move |u| best - **u <= times * slack);
    let first = near(1.0).take(arms.max(1)).count().max(1);
    // Where one arm is all that may be drawn, nothing is to be tried out.
    let also = (first..near(WIDER).count()).find(|i| arms > 1 && epsilon > 0.0 && reopened(*i));
    let top = first + usize::from(also.is_some());
    let epsilon = if top > 1 { epsilon.clamp(0.0, 1.0) } else { 0.0 };
    let mut chosen = 0;
    if epsilon > 0.0 && rng.random::<f64>() < epsilon {
        let drawn = rng.random_range(0..top);
        chosen = also.filter(|_| drawn == first).unwrap_or(drawn);
    }
    let share = epsilon / top as f64;
    let propensity = (0..utilities.len())
        .map(|i| {
            if i == 0 {
                1.0 - epsilon + share
            } else if i < first || also == Some(i) {
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
        fn propensities_sum_to_one(mut u in prop::collection::vec(-1.0_f64..1.0, 1..30), eps in 0.0_f64..0.5, arms in 1_usize..5, slack in 0.0_f64..1.0, changed in 0_usize..40, seed: u64) {
            u.sort_by(|a, b| b.total_cmp(a));
            let d = draw(&u, eps, arms, slack, |i| i == changed, &mut StdRng::seed_from_u64(seed)).unwrap();
            prop_assert!((d.propensity.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(d.propensity[d.chosen] > 0.0);
            let most = if d.chosen == changed { WIDER * slack } else { slack };
            prop_assert!(u[0] - u[d.chosen] <= most);
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
            let d = draw(&u, 0.2, 3, 0.2, |i| i == 3, &mut rng).unwrap();
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
            assert_eq!(draw(&[0.5, 0.5], 0.0, 3, 0.1, |_| true, &mut rng).unwrap().chosen, 0);
            assert_eq!(draw(&[0.5, 0.1], 0.5, 3, 0.1, |_| true, &mut rng).unwrap().epsilon, 0.0);
        }
        assert!(draw(&[], 0.1, 3, 0.1, |_| true, &mut rng).is_none());
    }

    #[test]
    fn an_arm_whose_model_changed_is_drawn_with_the_best_few() {
        let u = [0.9, 0.88, 0.87, 0.86, 0.7, 0.2];
        let propensity = |arms: usize, changed: &[usize]| {
            let d =
                draw(&u, 0.2, arms, 0.1, |i| changed.contains(&i), &mut StdRng::seed_from_u64(1)).unwrap();
            d.propensity.iter().map(|p| (p * 1e3).round() / 1e3).collect::<Vec<_>>()
        };
        assert_eq!(propensity(3, &[]), [0.867, 0.067, 0.067, 0.0, 0.0, 0.0]);
        assert_eq!(propensity(3, &[4, 5]), [0.85, 0.05, 0.05, 0.0, 0.05, 0.0], "the first of them");
        assert_eq!(propensity(3, &[1]), propensity(3, &[]), "which is drawn anyhow");
        assert_eq!(propensity(3, &[5]), propensity(3, &[]), "not the hopeless");
        assert_eq!(propensity(1, &[4]), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "nothing is tried out there");
    }
}
