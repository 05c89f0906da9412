//! Numbers of several models side by side: one walk through a graph forecasts all of them.

use super::Estimate;
use std::ops::{Add, AddAssign, Mul, Sub};

/// How many models.
pub(super) const LANES: usize = 8;

/// A number of each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lanes([f64; LANES]);

impl Lanes {
    /// The same number of each.
    pub(super) const fn all(x: f64) -> Self {
        Lanes([x; LANES])
    }

    /// 1 − x.
    pub(super) fn rest(self) -> Self {
        Lanes::all(1.0) - self
    }

    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Lanes(self.0.map(f))
    }

    pub(super) fn min(self, o: Self) -> Self {
        self.zip(o, f64::min)
    }

    pub(super) fn max(self, o: Self) -> Self {
        self.zip(o, f64::max)
    }

    /// The mean of what `self` sums over a mass; 0 where there is next to none.
    pub(super) fn over(self, mass: Self) -> Self {
        self.zip(mass, |x, m| if m < 1e-9 { 0.0 } else { x / m })
    }

    pub(super) fn are_at_most(self, most: f64) -> bool {
        self.0.iter().all(|x| *x <= most)
    }

    /// `low` where it is at most so much, `high` elsewhere.
    pub(super) fn choose(self, most: f64, low: Self, high: Self) -> Self {
        let mut out = high;
        for ((out, x), low) in out.0.iter_mut().zip(self.0).zip(low.0) {
            *out = if x <= most { low } else { *out };
        }
        out
    }

    #[inline]
    fn zip(self, o: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let mut out = self;
        for (x, y) in out.0.iter_mut().zip(o.0) {
            *x = f(*x, y);
        }
        out
    }
}

impl Add for Lanes {
    type Output = Lanes;
    fn add(self, o: Lanes) -> Lanes {
        self.zip(o, |x, y| x + y)
    }
}

impl AddAssign for Lanes {
    fn add_assign(&mut self, o: Lanes) {
        *self = *self + o;
    }
}

impl Sub for Lanes {
    type Output = Lanes;
    fn sub(self, o: Lanes) -> Lanes {
        self.zip(o, |x, y| x - y)
    }
}

impl Mul for Lanes {
    type Output = Lanes;
    fn mul(self, o: Lanes) -> Lanes {
        self.zip(o, |x, y| x * y)
    }
}

impl Mul<f64> for Lanes {
    type Output = Lanes;
    fn mul(self, x: f64) -> Lanes {
        self * Lanes::all(x)
    }
}

/// [`Estimate`]s side by side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimates {
    pub(super) success: Lanes,
    pub(super) cost_usd: Lanes,
    pub(super) ttft_ms: Lanes,
    pub(super) total_ms: Lanes,
}

impl Estimates {
    /// The same one on each lane.
    pub(super) const fn all(e: Estimate) -> Self {
        Estimates {
            success: Lanes::all(e.success),
            cost_usd: Lanes::all(e.cost_usd),
            ttft_ms: Lanes::all(e.ttft_ms),
            total_ms: Lanes::all(e.total_ms),
        }
    }

    /// One on each lane, as far as they go.
    pub(super) fn of(list: impl Iterator<Item = Estimate>) -> Self {
        let mut out = Estimates::default();
        let Estimates { success, cost_usd, ttft_ms, total_ms } = &mut out;
        let lanes = success.0.iter_mut().zip(&mut cost_usd.0).zip(&mut ttft_ms.0).zip(&mut total_ms.0);
        for ((((success, cost), ttft), total), e) in lanes.zip(list) {
            (*success, *cost, *ttft, *total) = (e.success, e.cost_usd, e.ttft_ms, e.total_ms);
        }
        out
    }

    /// One after the other.
    pub(super) fn each(self) -> impl Iterator<Item = Estimate> {
        let lanes = self.success.0.into_iter().zip(self.cost_usd.0).zip(self.ttft_ms.0).zip(self.total_ms.0);
        lanes.map(|(((success, cost_usd), ttft_ms), total_ms)| Estimate {
            success,
            cost_usd,
            ttft_ms,
            total_ms,
        })
    }
}
