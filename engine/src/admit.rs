//! Who may come in: the bound on requests in flight, the queue before it, and the refusal of new work during shutdown.

mod brownout;
mod class;
mod queue;

use crate::error::{Error, Kind};
use brownout::Brownout;
use queue::Queue;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Counts what is in flight.
#[derive(Debug)]
pub(crate) struct Gate {
    in_flight: AtomicUsize,
    max: usize,
    draining: AtomicBool,
    brownout: Brownout,
    queue: Mutex<Queue>,
    /// As the queue says: who leaves asks, and mostly nobody waits.
    waiting: AtomicUsize,
    /// Longest wait for a place.
    patience: Duration,
}

/// A place among the requests in flight; dropping it gives the place to who waits, or back.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

/// Who asks for a place.
#[derive(Clone, Debug)]
pub(crate) struct Asks {
    /// Whose request it is: tenants take turns.
    pub(crate) tenant: Arc<str>,
    /// Share of all places (0..=1) that it may take; what lies above is kept for others.
    pub(crate) share: f64,
    /// When its answer would come too late.
    pub(crate) until: Option<Instant>,
}

impl Gate {
    /// A gate of so many places, before which so many requests may wait so long.
    pub(crate) fn new(max: usize, (queue, patience): (usize, Duration)) -> Arc<Self> {
        Arc::new(Gate {
            in_flight: AtomicUsize::new(0),
            max,
            draining: AtomicBool::new(false),
            brownout: Brownout::new(),
            queue: Mutex::new(Queue::new(queue)),
            waiting: AtomicUsize::new(0),
            patience,
        })
    }

    /// So many places are that share of all of them; at least one, however few there are.
    fn most(&self, share: f64) -> usize {
        ((self.max as f64 * share) as usize).clamp(1, self.max.max(1))
    }

    /// A place, if fewer than `most` are taken. Check and act are one step; gives how many are taken.
    fn take(&self, most: usize) -> Result<usize, usize> {
        // Who leaves and who begins to wait each write their own number and read the other's: only in one order of all
        // four does no one miss the other.
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        self.in_flight.fetch_update(set, fetch, |n| (n < most).then_some(n.saturating_add(1)))
    }

    /// A place at once, or why there is none. Nobody overtakes those who wait.
    pub(crate) fn enter(self: &Arc<Self>, share: f64) -> Result<Permit, Error> {
        if self.is_draining() {
            return Err(refuse(Kind::ShuttingDown));
        }
        if self.waiting() > 0 {
            return Err(refuse(Kind::Overloaded));
        }
        let entered = self.take(self.most(share));
        let (Ok(now) | Err(now)) = entered;
        self.brownout.note(now, self.max, Duration::ZERO);
        entered.map(|_| Permit(self.clone())).map_err(|_| refuse(Kind::Overloaded))
    }

    /// A place, waited for where there is none at once.
    ///
    /// # Errors
    /// None became free in time, too many wait, or nobody comes in any more.
    pub(crate) async fn admit(self: &Arc<Self>, asks: Asks) -> Result<Permit, Error> {
        match self.enter(asks.share) {
            Err(Error { kind: Kind::Overloaded, .. }) => self.wait(asks).await,
            ended => ended,
        }
    }

    /// Waits for a place in turn.
    async fn wait(self: &Arc<Self>, asks: Asks) -> Result<Permit, Error> {
        let began = Instant::now();
        let latest = began + self.patience;
        let latest = asks.until.map_or(latest, |until| until.min(latest));
        if latest <= began {
            return Err(refuse(Kind::Overloaded));
        }
        let (to, place) = oneshot::channel();
        let ticket = self.change(|queue| {
            // Asked under the lock: whoever shuts the door empties the queue under it afterwards.
            if self.is_draining() {
                return Err(refuse(Kind::ShuttingDown));
            }
            queue.push(asks.tenant, self.most(asks.share), to).ok_or_else(|| refuse(Kind::Overloaded))
        })?;
        let leaves = Leaves { gate: self, ticket };
        // One may have become free before this request stood in the queue.
        self.hand_out();
        let given = timeout_at(latest, place).await;
        drop(leaves);
        self.brownout.note(self.in_flight(), self.max, began.elapsed());
        match given {
            Ok(Ok(place)) => place,
            // Nobody who waits is forgotten, but by the end of the process.
            Ok(Err(_)) => Err(refuse(Kind::ShuttingDown)),
            Err(_) => Err(refuse(Kind::Overloaded)),
        }
    }

    /// Gives free places to those who wait for them.
    fn hand_out(self: &Arc<Self>) {
        while let Some(to) = self.change(|queue| queue.next(|most| self.take(most).is_ok())) {
            // Who has left meanwhile gives the place back at once, by dropping it.
            drop(to.send(Ok(Permit(self.clone()))));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change leaves the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.lock();
        let out = change(&mut queue);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        out
    }

    /// Whether there has been so much to do for some time that what only improves is left out.
    pub(crate) fn in_brownout(&self) -> bool {
        self.brownout.is_on(self.in_flight(), self.max)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let waiting = self.change(Queue::empty);
        for to in waiting {
            drop(to.send(Err(refuse(Kind::ShuttingDown))));
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Requests that wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Whether what nobody waits for has to wait: from four fifths of the places on.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_draining() || self.in_flight().saturating_mul(5) >= self.max.saturating_mul(4)
    }
}

/// A refusal for now: trying again soon may help.
pub(crate) fn refuse(kind: Kind) -> Error {
    Error { retry_after: Some(Duration::from_secs(1)), ..Error::from(kind) }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting() > 0 {
            self.0.hand_out();
        }
    }
}

/// Somebody who waits; no longer, once dropped.
struct Leaves<'a> {
    gate: &'a Gate,
    ticket: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        // Whoever was called is in the queue no more.
        if self.gate.waiting() > 0 {
            self.gate.change(|queue| queue.remove(self.ticket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    pub(super) fn gate(max: usize) -> Arc<Gate> {
        Gate::new(max, (4, Duration::from_secs(2)))
    }

    fn asks(tenant: &str, share: f64) -> Asks {
        Asks { tenant: tenant.into(), share, until: None }
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_take_turns_and_nobody_overtakes_those_who_wait() {
        let gate = gate(1);
        let first = gate.enter(1.0).unwrap();
        let mut order = Vec::new();
        let mut held = vec![first];
        let mut waits = JoinSet::new();
        for (i, tenant) in ["a", "a", "b"].into_iter().enumerate() {
            let (gate, asks) = (gate.clone(), asks(tenant, 1.0));
            waits.spawn(async move { gate.admit(asks).await.map(|permit| (i, permit)) });
            // In this order.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((gate.waiting(), gate.in_flight()), (3, 1));
        assert!(gate.enter(1.0).is_err(), "it would overtake");
        while !waits.is_empty() {
            held.clear();
            let (i, permit) = waits.join_next().await.unwrap().unwrap().unwrap();
            order.push(i);
            held.push(permit);
        }
        assert_eq!(order, [0, 2, 1]);
        drop(held);
        assert_eq!((gate.waiting(), gate.in_flight()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_as_soon_as_there_is_a_place_and_no_longer_than_it_matters() {
        let gate = gate(1);
        let before = Instant::now();
        let held = gate.enter(1.0).unwrap();
        assert!(matches!(gate.admit(asks("a", 1.0)).await.unwrap_err().kind, Kind::Overloaded));
        assert_eq!(before.elapsed(), Duration::from_secs(2));
        let soon = Asks { until: Some(Instant::now() + Duration::from_millis(30)), ..asks("a", 1.0) };
        let before = Instant::now();
        assert!(gate.admit(soon.clone()).await.is_err());
        assert_eq!(before.elapsed(), Duration::from_millis(30));
        let before = Instant::now();
        assert!(gate.admit(soon).await.is_err(), "its answer would come too late");
        assert_eq!((before.elapsed(), gate.waiting()), (Duration::ZERO, 0));
        let free = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            drop(held);
        };
        let before = Instant::now();
        let (let_in, ()) = tokio::join!(gate.admit(asks("a", 1.0)), free);
        assert_eq!((before.elapsed(), gate.in_flight()), (Duration::from_millis(700), 1));
        drop(let_in);
        assert_eq!(gate.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_queue_takes_no_place_and_a_shutdown_empties_it() {
        let gate = gate(1);
        let held = gate.enter(1.0).unwrap();
        let leaves = tokio::time::timeout(Duration::from_millis(5), gate.admit(asks("a", 1.0)));
        assert!(leaves.await.is_err());
        assert_eq!(gate.waiting(), 0);
        let (of, asked) = (gate.clone(), asks("a", 1.0));
        let mut waits = JoinSet::new();
        waits.spawn(async move { of.admit(asked).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        gate.drain();
        assert!(matches!(waits.join_next().await.unwrap().unwrap().unwrap_err().kind, Kind::ShuttingDown));
        drop(held);
        assert_eq!((gate.waiting(), gate.in_flight()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_share_keeps_nobody_from_the_rest() {
        let gate = gate(10);
        let mut held: Vec<_> = (0..7).map(|_| gate.enter(1.0).unwrap()).collect();
        let (of, asked) = (gate.clone(), asks("small", 0.7));
        let mut small = JoinSet::new();
        small.spawn(async move { of.admit(asked).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        let before = Instant::now();
        held.push(gate.admit(asks("large", 1.0)).await.unwrap());
        assert_eq!((before.elapsed(), gate.waiting()), (Duration::ZERO, 1));
        held.truncate(6);
        drop(small.join_next().await.unwrap().unwrap().unwrap());
        drop(held);
        assert_eq!(gate.in_flight(), 0);
    }

    #[test]
    fn what_lies_above_a_share_is_kept_for_others() {
        let gate = gate(10);
        let held: Vec<_> = std::iter::from_fn(|| gate.enter(0.7).ok()).take(20).collect();
        assert_eq!(held.len(), 7);
        let more: Vec<_> = std::iter::from_fn(|| gate.enter(1.0).ok()).take(20).collect();
        assert_eq!(more.len(), 3);
        drop((held, more));
        assert!(super::tests::gate(1).enter(0.1).is_ok());
    }

    #[test]
    fn the_bound_holds_and_places_come_back() {
        let gate = gate(2);
        let (a, _b) = (gate.enter(1.0).unwrap(), gate.enter(1.0).unwrap());
        assert!(matches!(gate.enter(1.0).unwrap_err().kind, Kind::Overloaded));
        drop(a);
        let _c = gate.enter(1.0).unwrap();
        gate.drain();
        assert!(matches!(gate.enter(1.0).unwrap_err().kind, Kind::ShuttingDown));
        assert_eq!(gate.in_flight(), 2);
        let gate = super::tests::gate(10);
        let _held: Vec<_> = (0..7).map(|_| gate.enter(1.0).unwrap()).collect();
        assert!(!gate.is_busy());
        let _one = gate.enter(1.0).unwrap();
        assert!(gate.is_busy());
    }
}
