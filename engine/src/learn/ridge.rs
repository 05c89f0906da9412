//! The linear part: how an arm does against its prior as a linear function of the request, with its doubt.
//!
//! Bayesian ridge regression on the residual e = y − prior (Li et al. 2010, Abbasi-Yadkori et
//! al. 2011), kept as sufficient statistics, so that discounting is a product and merging a sum:
//!
//! ```text
//! S = Σ γ^age φφᵀ      b = Σ γ^age φ·e      A = α·k·I + S      w = A⁻¹b      doubt² = φᵀA⁻¹φ
//! ```
//!
//! It generalises from a handful of outcomes, which cells cannot, and says where an arm has not been tried;
//! with more outcomes the cells know better, and take over (`super::snapshot`).

use super::lines::Place;
use super::point::{DENSE, DIMENSIONS, Point};
use serde::{Deserialize, Serialize};

/// Entries of a symmetric matrix that are kept.
pub(super) const PACKED: usize = DIMENSIONS * (DIMENSIONS + 1) / 2;
/// α: what the prior, no deviation from the matrix, weighs for each outcome k that it is worth. A request is about so
/// long, |φ|² ≈ 4.5, that without outcomes φᵀA⁻¹φ is 1/k: a prior is worth as much here as in the cells.
const ALPHA: f64 = 4.5;
/// Least k: with none at all nothing would be known where nothing was tried.
const LEAST: f64 = 0.25;
/// Lanes of one step over a row.
const LANES: usize = 8;

/// Place of an entry of the lower triangle, row by row.
pub(super) const fn packed(i: usize, j: usize) -> usize {
    if i >= j { i * (i + 1) / 2 + j } else { j * (j + 1) / 2 + i }
}

/// Sufficient statistics of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ridge {
    s: Vec<f64>,
    b: Vec<f64>,
}

impl Default for Ridge {
    fn default() -> Self {
        Ridge { s: vec![0.0; PACKED], b: vec![0.0; DIMENSIONS] }
    }
}

impl Ridge {
    /// Whether the statistics have the size that this version reads.
    pub(super) fn is_sound(&self) -> bool {
        self.s.len() == PACKED && self.b.len() == DIMENSIONS
    }

    /// Takes an outcome in, `weight` of it: all earlier ones weigh `discount` as much from now on.
    pub(super) fn add(&mut self, p: &Point, residual: f64, discount: f64, weight: f64) {
        self.scale(discount);
        let phi = p.full();
        for (i, x) in phi.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            let row = self.s.get_mut(packed(i, 0)..=packed(i, i)).unwrap_or(&mut []);
            for (s, y) in row.iter_mut().zip(&phi) {
                *s += weight * x * y;
            }
        }
        self.revise(p, residual * weight);
    }

    /// An outcome that was counted is worth `difference` more.
    pub(super) fn revise(&mut self, p: &Point, difference: f64) {
        for (b, x) in self.b.iter_mut().zip(p.full()) {
            *b += x * difference;
        }
    }

    /// All that was learned weighs `factor` as much.
    pub(super) fn scale(&mut self, factor: f64) {
        if factor != 1.0 {
            self.s.iter_mut().chain(&mut self.b).for_each(|x| *x *= factor);
        }
    }

    /// Solves for the weights and the inverse under a prior worth `strength` outcomes.
    pub(super) fn solve(&self, strength: f64) -> Solved {
        let inverse = invert(&self.s, alpha(strength));
        let mut weights = [0.0_f32; DIMENSIONS];
        for (i, w) in weights.iter_mut().enumerate() {
            let sum: f64 = self.b.iter().enumerate().map(|(j, b)| entry(&inverse, i, j) * b).sum();
            *w = sum as f32;
        }
        Solved { weights, inverse }
    }
}

/// α·k.
pub(super) fn alpha(strength: f64) -> f64 {
    ALPHA * strength.max(LEAST)
}

fn entry(matrix: &[f64], i: usize, j: usize) -> f64 {
    matrix.get(packed(i, j)).copied().unwrap_or(0.0)
}

/// A row of a square matrix.
type Row = [f64; DIMENSIONS];
static NOTHING: Row = [0.0; DIMENSIONS];

fn row(matrix: &[Row; DIMENSIONS], i: usize) -> &Row {
    matrix.get(i).unwrap_or(&NOTHING)
}

/// (α·I + S)⁻¹ by Cholesky: A = LLᵀ, A⁻¹ = L⁻ᵀL⁻¹. A is positive definite, for α is above 0. L⁻¹ is kept by its columns,
/// so that every sum runs along two rows.
fn invert(s: &[f64], alpha: f64) -> Vec<f64> {
    let (mut l, mut columns) = ([NOTHING; DIMENSIONS], [NOTHING; DIMENSIONS]);
    for i in 0..DIMENSIONS {
        let mut own: Row = NOTHING;
        for j in 0..=i {
            let other = if i == j { &own } else { row(&l, j) };
            let rest = entry(s, i, j) - along(&own, other, 0, j);
            let x = match i == j {
                true => (rest + alpha).max(1e-9).sqrt(),
                false => rest / other.get(j).copied().unwrap_or(1.0),
            };
            if let Some(e) = own.get_mut(j) {
                *e = x;
            }
        }
        if let Some(r) = l.get_mut(i) {
            *r = own;
        }
    }
    for (j, column) in columns.iter_mut().enumerate() {
        for i in j..DIMENSIONS {
            let own = row(&l, i);
            let diagonal = own.get(i).copied().unwrap_or(1.0);
            let x = if i == j { 1.0 } else { -along(own, column, j, i) } / diagonal;
            if let Some(e) = column.get_mut(i) {
                *e = x;
            }
        }
    }
    let mut out = Vec::with_capacity(PACKED);
    for (i, a) in columns.iter().enumerate() {
        out.extend(columns.iter().take(i + 1).map(|b| along(a, b, i, DIMENSIONS)));
    }
    out
}

/// Sum of products of two rows from one place up to another.
fn along(a: &Row, b: &Row, from: usize, to: usize) -> f64 {
    let (a, b) = (a.get(from..to).unwrap_or_default(), b.get(from..to).unwrap_or_default());
    let (a, b) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut lanes = [0.0; 4];
    for (x, y) in a.0.iter().zip(b.0) {
        for ((l, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *l += x * y;
        }
    }
    lanes.iter().sum::<f64>() + a.1.iter().zip(b.1).map(|(x, y)| x * y).sum::<f64>()
}

/// Weights and inverse of one arm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Solved {
    pub(super) weights: [f32; DIMENSIONS],
    /// Its lower triangle, row by row.
    pub(super) inverse: Vec<f64>,
}

impl Solved {
    /// wᵀφ: how much better than its prior the arm is believed to do.
    pub(super) fn mean(&self, at: &Place) -> f64 {
        let (dense, kinds) = self.weights.split_at(DENSE);
        let kind = |k: usize| kinds.get(k).copied().unwrap_or(0.0);
        f64::from(dot(dense, &at.dense) + kind(at.family) + at.sub.map_or(0.0, kind))
    }

    /// wᵀx of a whole vector.
    pub(super) fn along(&self, x: &[f64]) -> f64 {
        self.weights.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()
    }
}

/// Sum of products over the shorter of two rows, in lanes that the compiler turns into vector instructions;
/// a plain sum of floats it may not reorder.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for (x, y) in a.iter().zip(b) {
        for ((l, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *l += x * y;
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng};
    use types::Features;
    use types::axis::{AxisValue, TaskFamily};
    use types::profile::SubLabel;

    /// wᵀφ and √(φᵀA⁻¹φ) of an arm.
    fn read(lines: &Lines, arm: usize, at: &Place) -> (f64, f64) {
        let known = lines.at(at);
        (f64::from(known.mean[arm]), f64::from(known.doubt[arm]).sqrt())
    }

    fn point(rng: &mut StdRng) -> Point {
        let mut v = [0.0; Features::COUNT];
        v.iter_mut().for_each(|x| *x = rng.random_range(-3.0..3.0));
        let family = TaskFamily::ALL[rng.random_range(0..8)];
        let sub = rng.random::<bool>().then_some(SubLabel::Math);
        Point::new(Features::from_values(&v), family, sub)
    }

    #[test]
    fn the_layout_for_reading_says_what_the_matrix_says() {
        assert_eq!(DENSE % LANES, 0, "a row that is no whole number of lanes would lose its end");
        let mut rng = StdRng::seed_from_u64(3);
        let mut r = Ridge::default();
        for _ in 0..60 {
            let p = point(&mut rng);
            r.add(&p, rng.random_range(-1.0..1.0), 0.99, 1.0);
        }
        let inverse = invert(&r.s, alpha(3.0));
        let solved = r.solve(3.0);
        let mut lines = Lines::of(&Ridge::default().solve(3.0));
        lines.set(5, &solved);
        for _ in 0..20 {
            let p = point(&mut rng);
            let phi = p.full();
            let (mut mean, mut square) = (0.0, 0.0);
            for i in 0..DIMENSIONS {
                for j in 0..DIMENSIONS {
                    mean += phi[i] * entry(&inverse, i, j) * r.b[j];
                    square += phi[i] * entry(&inverse, i, j) * phi[j];
                }
            }
            let at = Place::of(&p);
            assert!((solved.mean(&at) - mean).abs() < 1e-4, "{} {mean}", solved.mean(&at));
            let (of_lines, doubt) = read(&lines, 5, &at);
            assert!((of_lines - mean).abs() < 1e-4, "{of_lines} {mean}");
            assert!((doubt - square.sqrt()).abs() < 1e-4, "{doubt} {}", square.sqrt());
            assert_eq!(read(&lines, 4, &at), read(&lines, 6, &at), "its neighbours are as they were");
            assert_eq!(read(&lines, 4, &at).0, 0.0);
        }
    }

    #[test]
    fn the_inverse_is_one() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut r = Ridge::default();
        for _ in 0..40 {
            let p = point(&mut rng);
            r.add(&p, 0.5, 1.0, 1.0);
        }
        let inverse = invert(&r.s, 20.0);
        for i in 0..DIMENSIONS {
            for j in 0..DIMENSIONS {
                let a = |k: usize| entry(&r.s, i, k) + if i == k { 20.0 } else { 0.0 };
                let x: f64 = (0..DIMENSIONS).map(|k| a(k) * entry(&inverse, k, j)).sum();
                assert!((x - if i == j { 1.0 } else { 0.0 }).abs() < 1e-8, "{i} {j} {x}");
            }
        }
    }

    #[test]
    fn it_learns_a_line_and_doubts_less_where_it_has_been() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut r = Ridge::default();
        let truth = |p: &Point| 0.2 - 0.1 * f64::from(p.dense()[4] / 0.35);
        let known: Vec<Point> = (0..800).map(|_| point(&mut rng)).collect();
        let first = Place::of(&known[0]);
        let doubt = |r: &Ridge, at: &Place| read(&Lines::of(&r.solve(8.0)), 0, at).1;
        let before = doubt(&Ridge::default(), &first);
        assert!((before - first.untried(8.0).sqrt()).abs() < 1e-6, "{before}");
        for p in &known {
            r.add(p, truth(p), 1.0, 1.0);
        }
        let solved = r.solve(8.0);
        for p in &known[..20] {
            let at = Place::of(p);
            assert!((solved.mean(&at) - truth(p)).abs() < 0.05);
            assert!(doubt(&r, &at) < before / 2.0);
        }
    }
}
