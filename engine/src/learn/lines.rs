//! The linear parts of arms as requests read them: in groups, so that one pass over a request's numbers says of all
//! arms of a group what their regressions (`super::ridge`) say.

use super::point::{DENSE, DIMENSIONS, Point};
use super::ridge::{PACKED, Solved, alpha, packed};
use super::table::{Each, GROUP, add};

/// Weights and inverses of the arms of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lines {
    weights: Vec<Each>,
    /// The lower triangle, row by row, with what lies off the diagonal doubled.
    inverse: Vec<Each>,
}

/// What the linear parts of a group say of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lined {
    /// wᵀφ: how much better than its prior an arm is believed to do.
    pub(super) mean: Each,
    /// φᵀA⁻¹φ.
    pub(super) doubt: Each,
}

impl Lines {
    /// A group whose arms all have the same.
    pub(super) fn of(solved: &Solved) -> Self {
        let mut all = Lines { weights: vec![[0.0; GROUP]; DIMENSIONS], inverse: vec![[0.0; GROUP]; PACKED] };
        (0..GROUP).for_each(|arm| all.set(arm, solved));
        all
    }

    /// An arm has these now.
    pub(super) fn set(&mut self, arm: usize, solved: &Solved) {
        let at = arm % GROUP;
        for (each, w) in self.weights.iter_mut().zip(solved.weights) {
            each.get_mut(at).into_iter().for_each(|slot| *slot = w);
        }
        for i in 0..DIMENSIONS {
            for j in 0..=i {
                let x = solved.inverse.get(packed(i, j)).copied().unwrap_or(0.0) as f32;
                let slot = self.inverse.get_mut(packed(i, j)).and_then(|each| each.get_mut(at));
                slot.into_iter().for_each(|slot| *slot = if i == j { x } else { 2.0 * x });
            }
        }
    }

    pub(super) fn at(&self, place: &Place) -> Lined {
        let (dense, kinds) = self.weights.split_at(DENSE);
        let mut mean = along(dense, &place.dense);
        let mut doubt = [0.0; GROUP];
        for (i, x) in place.dense.iter().enumerate() {
            add_times(&mut doubt, &along(self.row(i), &place.dense), *x);
        }
        // A kind is a flag: its entry is 1.
        for kind in place.kinds() {
            kinds.get(kind).into_iter().for_each(|w| add(&mut mean, w));
            let row = self.row(DENSE + kind);
            add(&mut doubt, &along(row, &place.dense));
            for other in place.kinds() {
                row.get(DENSE + other).into_iter().for_each(|a| add(&mut doubt, a));
            }
        }
        Lined { mean, doubt }
    }

    /// A row of the lower triangle, up to the diagonal.
    fn row(&self, i: usize) -> &[Each] {
        self.inverse.get(packed(i, 0)..=packed(i, i)).unwrap_or_default()
    }
}

/// Sum of the entries of a row, each times a number, as far as either goes.
fn along(row: &[Each], numbers: &[f32]) -> Each {
    let mut sum = [0.0; GROUP];
    for (each, x) in row.iter().zip(numbers) {
        add_times(&mut sum, each, *x);
    }
    sum
}

fn add_times(sum: &mut Each, each: &Each, x: f32) {
    for (sum, y) in sum.iter_mut().zip(each) {
        *sum += x * y;
    }
}

/// A request as the linear part reads it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) dense: [f32; DENSE],
    pub(super) family: usize,
    pub(super) sub: Option<usize>,
    /// |φ|².
    square: f64,
}

impl Place {
    pub(super) fn of(p: &Point) -> Self {
        let (dense, sub) = (p.dense(), p.sub_kind());
        let kinds = 1 + u8::from(sub.is_some());
        let square = dense.iter().map(|x| x * x).sum::<f32>() + f32::from(kinds);
        Place { dense, family: p.family_kind(), sub, square: f64::from(square) }
    }

    fn kinds(&self) -> impl Iterator<Item = usize> {
        [Some(self.family), self.sub].into_iter().flatten()
    }

    /// φᵀA⁻¹φ of an arm without outcomes whose prior is worth `strength`: |φ|²/(α·k).
    pub(super) fn untried(&self, strength: f64) -> f64 {
        self.square / alpha(strength)
    }
}
