//! Classes of requests: who gives way to whom where there is much to do.

use super::{Gate, Permit, refuse};
use crate::error::{Error, Kind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use types::directives::Priority;

/// Most requests that wait for a place.
const MOST: usize = 1_024;
/// Longest wait for one.
const LONGEST: Duration = Duration::from_secs(2);
/// How often one that waits looks.
const LOOK: Duration = Duration::from_millis(20);

/// Share of the places up to which a class is let in.
const fn share(class: Priority) -> f64 {
    match class {
        Priority::Batch => 0.8,
        Priority::Normal => 0.95,
        Priority::Interactive => 1.0,
    }
}

impl Gate {
    /// Keeps the place of a request of that class, or gives it up and waits until one is free that its class may
    /// take: so that waiting takes nothing from those who are served. `own` = share of all places that its tenant may
    /// take; `until` = when its answer would come too late.
    ///
    /// # Errors
    /// None became free in time, or too many wait.
    pub(crate) async fn give_way(
        self: &Arc<Self>,
        permit: Permit,
        class: Priority,
        own: f64,
        until: Option<Instant>,
    ) -> Result<Permit, Error> {
        let share = own * share(class);
        if self.in_flight() <= self.most(share) {
            return Ok(permit);
        }
        drop(permit);
        let taken = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < MOST).then_some(n.saturating_add(1)));
        if taken.is_err() {
            return Err(refuse(Kind::Overloaded));
        }
        let _waits = Waits(self);
        let latest = Instant::now() + LONGEST;
        let latest = until.map_or(latest, |u| u.min(latest));
        loop {
            match self.enter(share) {
                Err(Error { kind: Kind::Overloaded, .. }) if Instant::now() < latest => {}
                ended => return ended,
            }
            sleep_until((Instant::now() + LOOK).min(latest)).await;
        }
    }
}

/// One of those that wait.
struct Waits<'a>(&'a Gate);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn batch_gives_way_first_and_interactive_never() {
        let gate = Gate::new(10);
        let mut held: Vec<_> = (0..8).map(|_| gate.enter(1.0).unwrap()).collect();
        let own = held.pop().unwrap();
        // Eight of ten are taken, its own included: that is its class's share.
        held.push(gate.give_way(own, Priority::Batch, 1.0, None).await.unwrap());
        held.push(gate.enter(1.0).unwrap());
        let before = Instant::now();
        let own = held.pop().unwrap();
        assert!(gate.give_way(own, Priority::Normal, 1.0, None).await.is_ok_and(|p| {
            held.push(p);
            true
        }));
        let own = held.pop().unwrap();
        let refused = gate.give_way(own, Priority::Batch, 1.0, None).await;
        // Eight others stay: none of its class's places came free, and its own was free meanwhile.
        assert!(matches!(refused.unwrap_err().kind, Kind::Overloaded));
        assert_eq!((Instant::now() - before, gate.in_flight()), (LONGEST, 8));
        held.extend((0..2).map(|_| gate.enter(1.0).unwrap()));
        let own = held.pop().unwrap();
        let kept = gate.give_way(own, Priority::Interactive, 1.0, None).await.unwrap();
        assert_eq!((gate.in_flight(), gate.waiting.load(Ordering::Acquire)), (10, 0));
        drop((kept, held));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_when_a_place_is_free_and_no_longer_than_it_matters() {
        let gate = Gate::new(10);
        let mut held: Vec<_> = (0..9).map(|_| gate.enter(1.0).unwrap()).collect();
        let own = gate.enter(1.0).unwrap();
        let other = gate.clone();
        let free = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(other.waiting.load(Ordering::Acquire), 1);
            held.truncate(7);
        };
        let (let_in, ()) = tokio::join!(gate.give_way(own, Priority::Batch, 1.0, None), free);
        assert!(let_in.is_ok());
        held.extend((0..2).map(|_| gate.enter(1.0).unwrap()));
        let before = Instant::now();
        let soon = before + Duration::from_millis(100);
        assert!(gate.give_way(let_in.unwrap(), Priority::Batch, 1.0, Some(soon)).await.is_err());
        assert_eq!(Instant::now(), soon);
        gate.drain();
        let own = held.pop().unwrap();
        held.push(gate.give_way(own, Priority::Interactive, 1.0, None).await.unwrap());
    }
}
