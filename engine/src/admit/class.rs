//! Classes of requests: who gives way to whom where there is much to do.

use super::{Asks, Gate, Permit};
use crate::error::Error;
use std::sync::Arc;
use types::directives::Priority;

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
    /// take: so that waiting takes nothing from those who are served. The share of who `asks` is that of its tenant.
    ///
    /// # Errors
    /// None became free in time, or too many wait.
    pub(crate) async fn give_way(
        self: &Arc<Self>,
        permit: Permit,
        class: Priority,
        asks: Asks,
    ) -> Result<Permit, Error> {
        let share = asks.share * share(class);
        if self.in_flight() <= self.most(share) {
            return Ok(permit);
        }
        drop(permit);
        self.wait(Asks { share, ..asks }).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gate;
    use super::*;
    use crate::error::Kind;
    use std::time::Duration;
    use tokio::time::Instant;

    const LONGEST: Duration = Duration::from_secs(2);

    fn asks(until: Option<Instant>) -> Asks {
        Asks { tenant: "a".into(), share: 1.0, until }
    }

    #[tokio::test(start_paused = true)]
    async fn batch_gives_way_first_and_interactive_never() {
        let gate = gate(10);
        let mut held: Vec<_> = (0..8).map(|_| gate.enter(1.0).unwrap()).collect();
        let own = held.pop().unwrap();
        // Eight of ten are taken, its own included: that is its class's share.
        held.push(gate.give_way(own, Priority::Batch, asks(None)).await.unwrap());
        held.push(gate.enter(1.0).unwrap());
        let before = Instant::now();
        let own = held.pop().unwrap();
        assert!(gate.give_way(own, Priority::Normal, asks(None)).await.is_ok_and(|p| {
            held.push(p);
            true
        }));
        let own = held.pop().unwrap();
        let refused = gate.give_way(own, Priority::Batch, asks(None)).await;
        // Eight others stay: none of its class's places came free, and its own was free meanwhile.
        assert!(matches!(refused.unwrap_err().kind, Kind::Overloaded));
        assert_eq!((Instant::now() - before, gate.in_flight()), (LONGEST, 8));
        held.extend((0..2).map(|_| gate.enter(1.0).unwrap()));
        let own = held.pop().unwrap();
        let kept = gate.give_way(own, Priority::Interactive, asks(None)).await.unwrap();
        assert_eq!((gate.in_flight(), gate.waiting()), (10, 0));
        drop((kept, held));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_when_a_place_is_free_and_no_longer_than_it_matters() {
        let gate = gate(10);
        let mut held: Vec<_> = (0..9).map(|_| gate.enter(1.0).unwrap()).collect();
        let own = gate.enter(1.0).unwrap();
        let other = gate.clone();
        let free = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(other.waiting(), 1);
            held.truncate(7);
        };
        let (let_in, ()) = tokio::join!(gate.give_way(own, Priority::Batch, asks(None)), free);
        assert!(let_in.is_ok());
        held.extend((0..2).map(|_| gate.enter(1.0).unwrap()));
        let before = Instant::now();
        let soon = before + Duration::from_millis(100);
        assert!(gate.give_way(let_in.unwrap(), Priority::Batch, asks(Some(soon))).await.is_err());
        assert_eq!(Instant::now(), soon);
        gate.drain();
        let own = held.pop().unwrap();
        held.push(gate.give_way(own, Priority::Interactive, asks(None)).await.unwrap());
    }
}
