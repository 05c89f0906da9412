//! Units that live in the type: money and shares.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount of money in nano-dollars (10⁻⁹ USD). Integers, so that sums are exact and order never matters.
///
/// Written in JSON and YAML as US dollars with up to nine decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    /// No money at all.
    pub const ZERO: Usd = Usd(0);
    /// The largest amount that can be written.
    pub const MAX: Usd = Usd(i64::MAX);

    /// From nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Usd(nanos)
    }

    /// From dollars, rounded to the nearest nano-dollar; non-finite input is zero, overflow saturates.
    #[must_use]
    pub fn from_dollars(dollars: f64) -> Self {
        // `as` saturates and turns NaN into 0, which is the stated behaviour.
        Usd((dollars * 1e9).round() as i64)
    }

    /// Nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Dollars, for display and for the utility's arithmetic.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Sum that saturates instead of wrapping.
    #[must_use]
    pub const fn plus(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }

    /// Difference, never below zero.
    #[must_use]
    pub const fn minus(self, other: Usd) -> Usd {
        let d = self.0.saturating_sub(other.0);
        Usd(if d < 0 { 0 } else { d })
    }
}

impl std::iter::Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(iter: I) -> Usd {
        iter.fold(Usd::ZERO, Usd::plus)
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NANOS: u64 = 1_000_000_000;
        // By whole numbers: exact, and a fraction of what printing a float costs.
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        write!(f, "{}", nanos / NANOS)?;
        let (mut rest, mut digits) = (nanos % NANOS, 9);
        if rest == 0 {
            return Ok(());
        }
        while rest % 10 == 0 {
            rest /= 10;
            digits -= 1;
        }
        write!(f, ".{rest:0digits$}")
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.dollars())
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        f64::deserialize(d).map(Usd::from_dollars)
    }
}

/// A number in 0..=1, checked once here.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct UnitInterval(f64);

impl UnitInterval {
    /// 0.
    pub const ZERO: UnitInterval = UnitInterval(0.0);
    /// 1.
    pub const ONE: UnitInterval = UnitInterval(1.0);

    /// `None` outside 0..=1 and for NaN.
    #[must_use]
    pub fn new(x: f64) -> Option<Self> {
        (0.0..=1.0).contains(&x).then_some(UnitInterval(x))
    }

    /// The nearest number in 0..=1; NaN becomes 0.
    #[must_use]
    pub fn clamped(x: f64) -> Self {
        UnitInterval(if x.is_nan() { 0.0 } else { x.clamp(0.0, 1.0) })
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for UnitInterval {
    type Error = String;
    fn try_from(x: f64) -> Result<Self, String> {
        UnitInterval::new(x).ok_or_else(|| format!("{x} is outside 0..=1"))
    }
}

impl From<UnitInterval> for f64 {
    fn from(x: UnitInterval) -> f64 {
        x.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_to_the_nano_dollar() {
        assert_eq!(Usd::from_dollars(0.000_000_001).nanos(), 1);
        assert_eq!(Usd::from_dollars(f64::NAN), Usd::ZERO);
        assert_eq!(Usd::from_dollars(1.5).to_string(), "1.5");
        assert_eq!(Usd::ZERO.to_string(), "0");
        assert_eq!(Usd::from_nanos(3).minus(Usd::from_nanos(5)), Usd::ZERO);
    }

    #[test]
    fn shares_outside_the_interval_are_refused() {
        assert!(UnitInterval::new(1.01).is_none());
        assert!(UnitInterval::new(f64::NAN).is_none());
        assert_eq!(UnitInterval::clamped(-3.0), UnitInterval::ZERO);
    }
}
