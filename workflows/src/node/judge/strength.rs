//! Strengths from comparisons of two.

/// Rounds of the iteration; it is far beyond what so few answers need to settle.
const ROUNDS: usize = 200;
/// Every two answers that were compared count as having drawn so much of a game besides: without it, one that
/// won every comparison would be infinitely strong.
const DRAWN: f64 = 0.1;

/// A comparison of two: positions, and what the first of them got, 0..=1.
pub(super) type Duel = (usize, usize, f64);

/// How each of `n` answers stands, 0..=1: the probability of winning against the others, on average.
///
/// Bradley and Terry (1952): i beats j with probability pᵢ/(pᵢ+pⱼ). The strengths p are found by the iteration
/// pᵢ ← wᵢ / Σⱼ nᵢⱼ/(pᵢ+pⱼ) (Zermelo 1929; Hunter 2004, eq. 3), with wᵢ the wins of i, a tie being half of one,
/// and nᵢⱼ the comparisons of i with j.
pub(super) fn standings(n: usize, duels: &[Duel]) -> Vec<f64> {
    let mut strength = vec![1.0_f64; n];
    for _ in 0..ROUNDS {
        let next: Vec<f64> = (0..n)
            .map(|i| {
                let at = |j: usize| strength.get(j).copied().unwrap_or(1.0);
                let (mut wins, mut met) = (0.0, 0.0);
                for (a, b, v) in duels.iter().copied().filter(|(a, b, _)| *a == i || *b == i) {
                    let (other, got) = if a == i { (b, v) } else { (a, 1.0 - v) };
                    wins += got + DRAWN / 2.0;
                    met += (1.0 + DRAWN) / (at(i) + at(other));
                }
                if met > 0.0 { wins / met } else { at(i) }
            })
            .collect();
        let sum: f64 = next.iter().sum();
        strength = next.into_iter().map(|p| p * n as f64 / sum.max(f64::MIN_POSITIVE)).collect();
    }
    let others = n.saturating_sub(1).max(1) as f64;
    let against = |i: usize, p: f64| -> f64 {
        let each = strength.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, q)| p / (p + q));
        each.sum::<f64>() / others
    };
    strength.iter().enumerate().map(|(i, p)| against(i, *p)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(n: usize, duels: &[Duel]) -> Vec<usize> {
        let s = standings(n, duels);
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|a, b| s[*b].total_cmp(&s[*a]));
        order
    }

    #[test]
    fn who_wins_more_stands_higher() {
        assert_eq!(order(3, &[(0, 1, 0.0), (0, 2, 0.0), (1, 2, 1.0)]), [1, 2, 0]);
        let tied = standings(2, &[(0, 1, 0.5)]);
        assert!((tied[0] - 0.5).abs() < 1e-9 && (tied[1] - 0.5).abs() < 1e-9, "{tied:?}");
        // A win over a strong one counts for more than one over a weak one.
        let s = standings(4, &[(0, 1, 1.0), (1, 2, 1.0), (1, 3, 1.0), (2, 3, 1.0)]);
        assert!(s[0] > s[1] && s[1] > s[2] && s[2] > s[3], "{s:?}");
        assert_eq!(standings(1, &[]).len(), 1);
    }

    proptest! {
        #[test]
        fn standings_are_shares_and_turn_with_the_comparisons(
            duels in prop::collection::vec((0..4_usize, 0..4_usize, 0.0..=1.0_f64), 0..12)
        ) {
            let duels: Vec<Duel> = duels.into_iter().filter(|(a, b, _)| a != b).collect();
            let turned: Vec<Duel> = duels.iter().map(|(a, b, v)| (*b, *a, 1.0 - v)).collect();
            let (s, t) = (standings(4, &duels), standings(4, &turned));
            prop_assert!(s.iter().all(|x| (0.0..=1.0).contains(x)), "{:?}", s);
            prop_assert!(s.iter().zip(&t).all(|(a, b)| (a - b).abs() < 1e-9));
            prop_assert!((s.iter().sum::<f64>() - 2.0).abs() < 1e-6, "six duels of one point each: {:?}", s);
        }
    }
}
