//! What is minimised: weighted cross-entropy plus the squared distance from the start.

use super::lbfgs::Function;
use crate::dense;
use crate::grams::BUCKETS;
use crate::model::CLASSES;

/// A number per class, exact enough to sum over thousands of requests.
pub(super) type Row = [f64; CLASSES];

/// Rows of weights: bias, dense, n-grams.
pub(super) const ROWS: usize = 1 + dense::COUNT + BUCKETS;

/// One request as numbers.
pub(super) struct Point {
    pub(super) numbers: Vec<(usize, f64)>,
    pub(super) class: usize,
    pub(super) weight: f64,
}

/// The requests, the start, and how strongly it draws back.
pub(super) struct Objective {
    pub(super) points: Vec<Point>,
    pub(super) start: Vec<f64>,
    pub(super) dense_penalty: f64,
    pub(super) gram_penalty: f64,
}

/// The bias is hardly drawn back: how common a family is says the weighting, not the start.
const BIAS_PENALTY: f64 = 1e-3;

impl Function for Objective {
    fn at(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let mut value = self.draw_back(x, gradient);
        let (rows, _) = x.as_chunks::<CLASSES>();
        let (slopes, _) = gradient.as_chunks_mut::<CLASSES>();
        for point in &self.points {
            let mut odds: Row = [0.0; CLASSES];
            for (row, v) in &point.numbers {
                let Some(weights) = rows.get(*row) else { continue };
                odds.iter_mut().zip(weights).for_each(|(o, w)| *o += v * w);
            }
            let (mut errors, loss) = cross_entropy(odds, point.class);
            value += point.weight * loss;
            errors.iter_mut().for_each(|e| *e *= point.weight);
            for (row, v) in &point.numbers {
                let Some(slope) = slopes.get_mut(*row) else { continue };
                slope.iter_mut().zip(errors).for_each(|(s, e)| *s += v * e);
            }
        }
        value
    }
}

impl Objective {
    /// Half the penalty times the squared distance from the start, and its gradient.
    fn draw_back(&self, x: &[f64], gradient: &mut [f64]) -> f64 {
        let mut value = 0.0;
        for (i, ((x, start), slope)) in x.iter().zip(&self.start).zip(gradient).enumerate() {
            let penalty = match i / CLASSES {
                0 => BIAS_PENALTY,
                row if row <= dense::COUNT => self.dense_penalty,
                _ => self.gram_penalty,
            };
            let off = x - start;
            value += 0.5 * penalty * off * off;
            *slope = penalty * off;
        }
        value
    }
}

/// Probability minus truth per class, and the loss.
fn cross_entropy(odds: Row, class: usize) -> (Row, f64) {
    let top = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let raised = odds.map(|o| (o - top).exp());
    let sum: f64 = raised.iter().sum();
    let mut errors = raised.map(|r| r / sum);
    let loss = errors.get(class).map_or(0.0, |p| -p.max(1e-300).ln());
    if let Some(e) = errors.get_mut(class) {
        *e -= 1.0;
    }
    (errors, loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_value() {
        let numbers = vec![(0, 1.0), (3, 0.5), (1 + dense::COUNT + 7, 0.8)];
        let objective = Objective {
            points: vec![Point { numbers, class: 2, weight: 1.5 }],
            start: vec![0.1; ROWS * CLASSES],
            dense_penalty: 2.0,
            gram_penalty: 3.0,
        };
        let mut x: Vec<f64> = (0..ROWS * CLASSES).map(|i| (i % 13) as f64 / 13.0).collect();
        let mut gradient = vec![0.0; x.len()];
        objective.at(&x, &mut gradient);
        let mut ignored = gradient.clone();
        for i in [2, 5, 3 * CLASSES + 2, (1 + dense::COUNT + 7) * CLASSES + 4, 40 * CLASSES] {
            let h = 1e-5;
            let old = x[i];
            x[i] = old + h;
            let up = objective.at(&x, &mut ignored);
            x[i] = old - h;
            let down = objective.at(&x, &mut ignored);
            x[i] = old;
            let slope = (up - down) / (2.0 * h);
            assert!((slope - gradient[i]).abs() < 1e-4, "{i}: {slope} {}", gradient[i]);
        }
    }
}
