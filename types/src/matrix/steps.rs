//! Prices of long requests: what holds beyond each of several thresholds.

use super::{Above, Rates};
use serde::{Serialize, Serializer};

/// Prices by the length of a request, the lowest threshold first. A list in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steps([Option<Above>; Steps::MOST]);

impl Steps {
    /// Most thresholds: one more than the longest price list that is known.
    pub const MOST: usize = 4;
    /// Requests of any length cost the same.
    pub const NONE: Steps = Steps([None; Steps::MOST]);

    /// The prices beyond each threshold; `None` = there are more than [`Steps::MOST`], or one is no higher than the one
    /// before it.
    #[must_use]
    pub fn new(all: &[Above]) -> Option<Steps> {
        let rise = all.windows(2).all(|two| matches!(two, [a, b] if a.tokens < b.tokens));
        if !rise || all.len() > Self::MOST {
            return None;
        }
        let mut steps = Steps::NONE;
        for (place, step) in steps.0.iter_mut().zip(all) {
            *place = Some(*step);
        }
        Some(steps)
    }

    /// All of them, the lowest threshold first.
    pub fn iter(&self) -> impl Iterator<Item = &Above> {
        self.0.iter().flatten()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Those that a request of so many tokens of input has passed, the lowest first; the last one is what it costs.
    pub(super) fn passed(&self, input: u32) -> impl Iterator<Item = Rates> {
        self.iter().filter(move |step| input > step.tokens).map(|step| step.rates)
    }
}

impl Serialize for Steps {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Usage;
    use crate::matrix::Price;
    use crate::units::Usd;

    fn step(tokens: u32, input: f64) -> Above {
        Above { tokens, rates: Rates::new(input, 10.0 * input) }
    }

    #[test]
    fn thresholds_rise_and_are_few() {
        let check = |tokens: &[u32], good: bool| {
            let all: Vec<Above> = tokens.iter().map(|n| step(*n, 1.0)).collect();
            assert_eq!(Steps::new(&all).is_some(), good, "{tokens:?}");
        };
        check(&[], true);
        check(&[1], true);
        check(&[1, 2, 3, 4], true);
        check(&[1, 1], false);
        check(&[2, 1], false);
        check(&[1, 2, 3, 4, 5], false);
        assert_eq!(Steps::new(&[]), Some(Steps::NONE));
    }

    #[test]
    fn the_highest_threshold_that_is_passed_holds_and_the_dearest_passed_is_set_aside() {
        // The middle step is dearer than the last: what is set aside covers both, since the vendor counts for itself.
        let above = Steps::new(&[step(32_000, 2.0), step(128_000, 4.0), step(256_000, 3.0)]).unwrap();
        let p = Price { above, ..Price::new(1.0, 10.0) };
        for (input, cost, most) in [
            (32_000, 1.0, 1.0),
            (32_001, 2.0, 2.0),
            (128_000, 2.0, 2.0),
            (128_001, 4.0, 4.0),
            (256_000, 4.0, 4.0),
            (256_001, 3.0, 4.0),
        ] {
            let u = Usage { input, output: 100, ..Usage::default() };
            let of = |rate: f64| Usd::from_dollars((f64::from(input) * rate + 1_000.0 * rate) / 1e6);
            assert_eq!((p.cost(&u), p.most(&u)), (of(cost), of(most)), "{input}");
            assert_eq!(p.of_request(&u).0.input, cost, "forecasts go by it, too: {input}");
        }
        let told = serde_json::to_value(p).unwrap();
        assert_eq!(told["above"].as_array().map(Vec::len), Some(3), "{told}");
        assert_eq!(told["above"][1]["tokens"], 128_000);
        assert!(serde_json::to_value(Price::new(1.0, 1.0)).unwrap().get("above").is_none());
    }
}
