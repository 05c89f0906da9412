//! A request where the learner stands it: its numbers, its task family, its sub-label.

use super::forest::Draws;
use types::Features;
use types::axis::{AxisValue, TaskFamily};
use types::profile::{Cell, SubLabel};

/// Sub-labels, in the order of their places.
const SUBS: [SubLabel; 5] = [
    SubLabel::Math,
    SubLabel::Creative,
    SubLabel::Summarisation,
    SubLabel::Translation,
    SubLabel::KnowledgeQa,
];
/// Families and sub-labels.
pub(super) const KINDS: usize = 8 + SUBS.len();
/// Coordinates of a point: every number, then a flag per kind.
pub(super) const AXES: usize = Features::COUNT + KINDS;
/// Numbers that the linear part reads.
const LINEAR: usize = 23;
/// Entries of the linear part that every request fills: the constant and the numbers.
pub(super) const DENSE: usize = LINEAR + 1;
/// Entries of the linear part.
pub(super) const DIMENSIONS: usize = DENSE + KINDS;
/// What a deviation of a number weighs against a kind in the linear part's prior: the kind says more.
const SCALE: f32 = 0.35;

/// A request as coordinates that cells are cut by, each in steps of the features' scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Point {
    features: Features,
    /// Place of the family, and of the sub-label among [`SUBS`] with 255 for none.
    family: u8,
    sub: u8,
}

impl Point {
    pub(crate) fn new(features: Features, family: TaskFamily, sub: Option<SubLabel>) -> Self {
        let place = sub.and_then(|s| SUBS.iter().position(|x| *x == s));
        Point {
            features,
            family: u8::try_from(family.index()).unwrap_or(0),
            sub: place.and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX),
        }
    }

    pub(crate) fn of_cell(features: Features, cell: &Cell) -> Self {
        Point::new(features, cell.family, cell.sub)
    }

    /// A coordinate; flags stand at the ends of the scale.
    pub(super) fn at(&self, axis: u8) -> i8 {
        let axis = usize::from(axis);
        if let Some(step) = self.features.steps().get(axis) {
            return *step;
        }
        let kind = axis.saturating_sub(Features::COUNT);
        let set = usize::from(self.family) == kind || self.sub_kind() == Some(kind);
        if set { 127 } else { -127 }
    }

    /// A random one of the axes on which two requests differ.
    pub(super) fn apart(&self, other: &Point, draws: &mut Draws) -> Option<u8> {
        let axes = || (0..AXES).filter_map(|a| u8::try_from(a).ok()).filter(|a| self.at(*a) != other.at(*a));
        let n = axes().count();
        if n == 0 {
            return None;
        }
        axes().nth(draws.below(n))
    }

    /// The finest kind of a request: its sub-label if it has one, else its family.
    pub(super) fn kind(&self) -> usize {
        self.sub_kind().unwrap_or_else(|| self.family_kind())
    }

    pub(super) fn family_kind(&self) -> usize {
        usize::from(self.family).min(7)
    }

    pub(super) fn sub_kind(&self) -> Option<usize> {
        (usize::from(self.sub) < SUBS.len()).then(|| 8 + usize::from(self.sub))
    }

    /// What every request fills of the linear part.
    pub(super) fn dense(&self) -> [f32; DENSE] {
        let values = self.features.values();
        let mut out = [1.0; DENSE];
        for (o, v) in out.iter_mut().skip(1).zip(values) {
            *o = v * SCALE;
        }
        out
    }

    /// The whole linear part.
    pub(super) fn full(&self) -> [f64; DIMENSIONS] {
        let mut out = [0.0; DIMENSIONS];
        for (o, v) in out.iter_mut().zip(self.dense()) {
            *o = f64::from(v);
        }
        for kind in [Some(self.family_kind()), self.sub_kind()].into_iter().flatten() {
            if let Some(o) = out.get_mut(DENSE + kind) {
                *o = 1.0;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_one_flag_and_numbers_keep_their_steps() {
        let mut v = [0.0; Features::COUNT];
        v[3] = 1.5;
        let p = Point::new(Features::from_values(&v), TaskFamily::Chat, Some(SubLabel::Math));
        let flags: Vec<u8> = (0..AXES as u8).filter(|a| p.at(*a) == 127).collect();
        assert_eq!(flags, [32, 40]);
        assert_eq!(p.at(3), 64);
        let full = p.full();
        assert_eq!((full[0], full[DENSE], full[DENSE + 8]), (1.0, 1.0, 1.0));
        assert!((full[4] - f64::from(64.0_f32 * Features::STEP * SCALE)).abs() < 1e-6);
        assert_eq!(full.iter().filter(|x| **x != 0.0).count(), 4);
    }
}
