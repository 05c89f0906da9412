//! Who may come in: the bound on requests in flight, and the refusal of new work during shutdown.

mod brownout;
mod class;

use crate::error::{Error, Kind};
use brownout::Brownout;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Counts what is in flight.
#[derive(Debug)]
pub(crate) struct Gate {
    in_flight: AtomicUsize,
    /// Requests that gave their place up and wait for another.
    waiting: AtomicUsize,
    max: usize,
    draining: AtomicBool,
    brownout: Brownout,
}

/// A place among the requests in flight; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

impl Gate {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let (in_flight, waiting, draining) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Gate { in_flight, waiting, max, draining, brownout: Brownout::new() })
    }

    /// So many places are that share of all of them; at least one, however few there are.
    fn most(&self, share: f64) -> usize {
        ((self.max as f64 * share) as usize).clamp(1, self.max.max(1))
    }

    /// A place, or why there is none. Check and act are one step. `share` of all places (0..=1) may be taken by
    /// who asks: what lies above is kept for others.
    pub(crate) fn enter(self: &Arc<Self>, share: f64) -> Result<Permit, Error> {
        if self.draining.load(Ordering::Acquire) {
            return Err(refuse(Kind::ShuttingDown));
        }
        let most = self.most(share);
        let entered =
            self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < most).then_some(n + 1));
        let (Ok(now) | Err(now)) = entered;
        self.brownout.note(now, self.max);
        match entered {
            Ok(_) => Ok(Permit(self.clone())),
            Err(_) => Err(refuse(Kind::Overloaded)),
        }
    }

    /// Whether there has been so much to do for some time that what only improves is left out.
    pub(crate) fn in_brownout(&self) -> bool {
        self.brownout.is_on(self.in_flight(), self.max)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Whether what nobody waits for has to wait: from four fifths of the places on.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_draining() || self.in_flight().saturating_mul(5) >= self.max.saturating_mul(4)
    }
}

fn refuse(kind: Kind) -> Error {
    Error { retry_after: Some(Duration::from_secs(1)), ..Error::from(kind) }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_a_share_is_kept_for_others() {
        let gate = Gate::new(10);
        let held: Vec<_> = std::iter::from_fn(|| gate.enter(0.7).ok()).take(20).collect();
        assert_eq!(held.len(), 7);
        let more: Vec<_> = std::iter::from_fn(|| gate.enter(1.0).ok()).take(20).collect();
        assert_eq!(more.len(), 3);
        drop((held, more));
        assert!(Gate::new(1).enter(0.1).is_ok());
    }

    #[test]
    fn the_bound_holds_and_places_come_back() {
        let gate = Gate::new(2);
        let (a, _b) = (gate.enter(1.0).unwrap(), gate.enter(1.0).unwrap());
        assert!(matches!(gate.enter(1.0).unwrap_err().kind, Kind::Overloaded));
        drop(a);
        let _c = gate.enter(1.0).unwrap();
        gate.drain();
        assert!(matches!(gate.enter(1.0).unwrap_err().kind, Kind::ShuttingDown));
        assert_eq!(gate.in_flight(), 2);
        let gate = Gate::new(10);
        let _held: Vec<_> = (0..7).map(|_| gate.enter(1.0).unwrap()).collect();
        assert!(!gate.is_busy());
        let _one = gate.enter(1.0).unwrap();
        assert!(gate.is_busy());
    }
}
