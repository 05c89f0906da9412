//! The choice among scored arms: the best, but for a small randomised share among the best few, each as far as it may
//! yet turn out to be the best.

use rand::{Rng, RngExt as _};
use statrs::distribution::{ContinuousCDF as _, Normal};

/// How much further below the best than others an arm may lie whose model was seen to change: at the usual slack of a fifth
/// of the best value, half of it. What is believed of it is what it was before.
const WIDER: f64 = 2.5;

/// The least share of its turn that an arm keeps among the best few, however sure it is that another is better: models
/// change, and what another λ would have earned is estimated from what was drawn.
const LEAST_CHANCE: f64 = 0.1;

/// Share of its turn at which an arm is drawn that is believed to lie `gap` below the best, where beliefs in the two may be
/// off by `doubts`, standard deviations: 2Φ(−gap/√(d₀² + d²)), the chance of a belief that is off by more than that, and
/// [`LEAST_CHANCE`] at least. 1 where nobody asked how far beliefs may be off.
pub(crate) fn chance(gap: f64, doubts: (f64, f64)) -> f64 {
    let sd = doubts.0.hypot(doubts.1);
    if sd <= 0.0 {
        return 1.0;
    }
    (2.0 * Normal::standard().cdf(-gap.max(0.0) / sd)).max(LEAST_CHANCE)
}

/// Which arm, and how likely each was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Draw {
    /// Position of the choice.
    pub(crate) chosen: usize,
    /// The draw went to another arm than the best.
    pub(crate) explored: bool,
    /// π(a) per arm: ε/|top| times its chance for a in top, what is left for the best; sums to 1.
    pub(crate) propensity: Vec<f64>,
    /// ε in force: 0 when there is nothing to choose from.
    pub(crate) epsilon: f64,
}

/// Chooses from utilities in falling order; `None` when there are none. `top` is the first `arms` of those
/// whose utility is at most `slack` below the best, and the first one below them that is `reopened`, if it is at most
/// [`WIDER`] times as far below. Each of them has its turn equally often, and is drawn in the share `chance` of its turns,
/// 0..=1: otherwise, too, the best is.
pub(crate) fn draw(
    utilities: &[f64],
    epsilon: f64,
    arms: usize,
    slack: f64,
    reopened: impl Fn(usize) -> bool,
    chance: impl Fn(usize) -> f64,
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
        let turn = rng.random_range(0..top);
        let arm = also.filter(|_| turn == first).unwrap_or(turn);
        if rng.random::<f64>() < chance(arm) {
            chosen = arm;
        }
    }
    let share = epsilon / top as f64;
    let drawn = |i: usize| i > 0 && (i < first || also == Some(i));
    let of = |i: usize| if drawn(i) { share * chance(i).clamp(0.0, 1.0) } else { 0.0 };
    let mut propensity: Vec<f64> = (0..utilities.len()).map(of).collect();
    let others: f64 = propensity.iter().sum();
    if let Some(of_best) = propensity.first_mut() {
        *of_best = 1.0 - others;
    }
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
        fn propensities_sum_to_one(mut u in prop::collection::vec(-1.0_f64..1.0, 1..30), eps in 0.0_f64..0.5, arms in 1_usize..5, slack in 0.0_f64..1.0, changed in 0_usize..40, doubt in 0.0_f64..0.3, seed: u64) {
            u.sort_by(|a, b| b.total_cmp(a));
            let d = draw(&u, eps, arms, slack, |i| i == changed, |i| chance(u[0] - u[i], (doubt, doubt)), &mut StdRng::seed_from_u64(seed)).unwrap();
            prop_assert!(d.propensity.iter().all(|p| *p >= 0.0));
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
            let d = draw(&u, 0.2, 3, 0.2, |i| i == 3, |i| [1.0, 0.6, 0.1, 0.8][i], &mut rng).unwrap();
            counts[d.chosen] += 1.0;
            stated = d.propensity;
        }
        for (c, p) in counts.iter().zip(&stated) {
            let sd = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((c / f64::from(n) - p).abs() <= 4.0 * sd, "{counts:?} {stated:?}");
        }
    }

    #[test]
    fn what_is_surely_worse_is_drawn_less_and_never_not_at_all() {
        assert_eq!(chance(0.0, (0.1, 0.1)), 1.0, "as good as the best");
        assert_eq!(chance(-0.1, (0.1, 0.1)), 1.0, "and better but for the bonus");
        assert_eq!(chance(0.3, (0.0, 0.0)), 1.0, "nobody asked how sure that is");
        assert_eq!(chance(0.5, (0.06, 0.08)), LEAST_CHANCE, "five deviations");
        assert!((chance(0.1, (0.06, 0.08)) - 0.317).abs() < 1e-3, "one deviation");
        let shares: Vec<f64> = (0..40).map(|i| chance(0.1, (0.01 * f64::from(i + 1), 0.0))).collect();
        assert!(shares.is_sorted() && shares[0] == LEAST_CHANCE, "{shares:?}");
        let d = draw(&[0.9, 0.8], 0.2, 3, 0.2, |_| false, |_| 0.25, &mut StdRng::seed_from_u64(1)).unwrap();
        assert!((d.propensity[1] - 0.025).abs() < 1e-12 && d.epsilon == 0.2, "{d:?}");
    }

    #[test]
    fn outcomes_that_tell_arms_apart_end_what_trying_them_costs() {
        // Two arms, 0.8 and 0.65, with as many outcomes each as the step; what drawing costs over 20 000 requests.
        let regret = |of: &dyn Fn(f64) -> f64| -> f64 {
            (1..20_000).map(|n| 0.025 * of((0.2 / f64::from(n)).sqrt()) * 0.15).sum()
        };
        let (even, narrowed) = (regret(&|_| 1.0), regret(&|sd| chance(0.15, (sd, sd))));
        assert!(narrowed < 1.1 * LEAST_CHANCE * even, "{narrowed} of {even}");
    }

    #[test]
    fn nothing_is_explored_where_it_is_forbidden_or_pointless() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..1000 {
            assert_eq!(draw(&[0.5, 0.5], 0.0, 3, 0.1, |_| true, |_| 1.0, &mut rng).unwrap().chosen, 0);
            assert_eq!(draw(&[0.5, 0.1], 0.5, 3, 0.1, |_| true, |_| 1.0, &mut rng).unwrap().epsilon, 0.0);
        }
        assert!(draw(&[], 0.1, 3, 0.1, |_| true, |_| 1.0, &mut rng).is_none());
    }

    #[test]
    fn an_arm_whose_model_changed_is_drawn_with_the_best_few() {
        let u = [0.9, 0.88, 0.87, 0.86, 0.7, 0.2];
        let propensity = |arms: usize, changed: &[usize]| {
            let mut rng = StdRng::seed_from_u64(1);
            let d = draw(&u, 0.2, arms, 0.1, |i| changed.contains(&i), |_| 1.0, &mut rng).unwrap();
            d.propensity.iter().map(|p| (p * 1e3).round() / 1e3).collect::<Vec<_>>()
        };
        assert_eq!(propensity(3, &[]), [0.867, 0.067, 0.067, 0.0, 0.0, 0.0]);
        assert_eq!(propensity(3, &[4, 5]), [0.85, 0.05, 0.05, 0.0, 0.05, 0.0], "the first of them");
        assert_eq!(propensity(3, &[1]), propensity(3, &[]), "which is drawn anyhow");
        assert_eq!(propensity(3, &[5]), propensity(3, &[]), "not the hopeless");
        assert_eq!(propensity(1, &[4]), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], "nothing is tried out there");
    }
}
