//! How much easier or harder a request is than others, for all arms alike.
//!
//! Where nothing succeeds often, an arm that was never tried would look best for no other reason than its prior, and an
//! arm that was tried there alone would look bad everywhere. So what all arms have in common on a request is learned
//! beside them, as the second way of a two-way layout:
//!
//! ```text
//! e = reward − prior − surprise of the arm       w: ridge over e of all arms (`super::ridge`)
//! ease(x) = wᵀ(φ(x) − mean φ of the requests)    0 on the usual request: levels are the arms' own business
//! ```
//!
//! It counts for an arm as far as its own outcomes leave the prior in force there (`super::snapshot`).

use super::lines::Place;
use super::point::Point;
use super::ridge::{Ridge, Solved};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What no difference between requests weighs, in outcomes: one outcome scatters by 1/4, and requests differ by some 0.15,
/// so that it is s²/τ² = 0.25/0.0225.
const STRENGTH: f64 = 11.0;
/// What the arms' own surprises are shrunk by before they are taken out, in outcomes.
pub(super) const K_SURPRISE: f64 = 4.0;
/// What an outcome weighs after the next one: about the last 1 000 count, of all arms together.
const DISCOUNT: f64 = 0.999;

/// What is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ease {
    ridge: Ridge,
    /// Requests, discounted, and the sum of their φ.
    requests: f64,
    sum: Vec<f64>,
}

impl Ease {
    /// An outcome was `beyond` prior and surprise of its arm; `weight` of it counts.
    pub(super) fn add(&mut self, p: &Point, beyond: f64, weight: f64) {
        // As everywhere, a part of an outcome ages the others by that part only.
        self.count(p, beyond, DISCOUNT.powf(weight), weight);
    }

    fn count(&mut self, p: &Point, beyond: f64, discount: f64, weight: f64) {
        self.ridge.add(p, beyond, discount, weight);
        self.requests = self.requests * discount + weight;
        let phi = p.full();
        self.sum.resize(phi.len(), 0.0);
        for (sum, x) in self.sum.iter_mut().zip(phi) {
            *sum = *sum * discount + weight * x;
        }
    }

    /// A counted outcome is worth `difference` more.
    pub(super) fn revise(&mut self, p: &Point, difference: f64) {
        self.ridge.revise(p, difference);
    }

    /// Learns outcomes of a table, with what they were beyond their arms.
    pub(super) fn study<'a>(&mut self, outcomes: impl Iterator<Item = (&'a Point, f64)>) {
        outcomes.for_each(|(p, beyond)| self.count(p, beyond, 1.0, 1.0));
    }

    /// Whether what was read from a file can be used.
    pub(super) fn is_sound(&self) -> bool {
        self.ridge.is_sound() && self.requests.is_finite() && self.sum.iter().all(|x| x.is_finite())
    }

    /// Solves for the weights: what routing reads.
    pub(super) fn publish(&self) -> Published {
        let solved = self.ridge.solve(STRENGTH);
        let usual = solved.along(&self.sum) / self.requests.max(f64::MIN_POSITIVE);
        Published { solved: Some(Arc::new(solved)), usual }
    }
}

/// What routing reads of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    solved: Option<Arc<Solved>>,
    usual: f64,
}

impl Published {
    /// How much more than elsewhere arms succeed at a place, −1..=1.
    pub(super) fn at(&self, place: &Place) -> f64 {
        self.solved.as_ref().map_or(0.0, |s| s.mean(place) - self.usual).clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Features;
    use types::axis::TaskFamily;

    fn point(family: TaskFamily) -> Point {
        Point::new(Features::default(), family, None)
    }

    #[test]
    fn a_family_in_which_all_fail_is_hard_and_the_usual_request_is_neither() {
        let mut ease = Ease::default();
        let (hard, usual) = (point(TaskFamily::Planning), point(TaskFamily::Chat));
        for i in 0..400 {
            ease.add(if i % 2 == 0 { &hard } else { &usual }, if i % 2 == 0 { -0.3 } else { 0.3 }, 1.0);
        }
        let now = ease.publish();
        let (a, b) = (now.at(&Place::of(&hard)), now.at(&Place::of(&usual)));
        assert!(a < -0.2 && b > 0.2, "{a} {b}");
        let mut words = ease.clone();
        (0..20_000).for_each(|_| words.add(&usual, 0.3, 0.001));
        let after = words.publish();
        let apart = |e: &Published| e.at(&Place::of(&usual)) - e.at(&Place::of(&hard));
        assert!(apart(&after) > 0.9 * apart(&now), "twenty outcomes in crumbs weigh no more than twenty");
        let mut one = Ease::default();
        let alike: Vec<Point> = vec![usual; 300];
        one.study(alike.iter().map(|p| (p, 0.4)));
        let level = one.publish().at(&Place::of(&usual));
        assert!(level.abs() < 1e-5, "a level that all requests share is no ease: {level}");
    }
}
