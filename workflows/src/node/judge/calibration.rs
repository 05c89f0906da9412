//! From a judge's raw score to the probability that people accept the answer.

/// Reads a table: probabilities at evenly spaced raw scores from 0 to 1, in between by straight lines. Scores
/// and probabilities outside 0..=1 count as the nearer end.
pub(super) fn accepted(table: &[f64], score: f64) -> f64 {
    let steps = table.len().saturating_sub(1);
    let place = score.clamp(0.0, 1.0) * steps as f64;
    // Bounded by the length of the table.
    let low = (place.floor() as usize).min(steps);
    let at = |i: usize| table.get(i.min(steps)).copied().unwrap_or(score).clamp(0.0, 1.0);
    let (a, b) = (at(low), at(low.saturating_add(1)));
    a + (b - a) * (place - low as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_the_entries_it_is_a_straight_line() {
        let check = |table: &[f64], score: f64, want: f64| {
            assert!((accepted(table, score) - want).abs() < 1e-9, "{table:?} at {score}");
        };
        check(&[0.0, 0.2, 1.0], 0.5, 0.2);
        check(&[0.0, 0.2, 1.0], 0.75, 0.6);
        check(&[0.0, 0.2, 1.0], 0.25, 0.1);
        check(&[0.1, 0.9], 0.0, 0.1);
        check(&[0.1, 0.9], 1.0, 0.9);
        check(&[0.1, 0.9], 7.0, 0.9);
        check(&[0.5], 0.3, 0.5);
        check(&[-1.0, 3.0], 1.0, 1.0);
    }
}
