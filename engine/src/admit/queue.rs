//! Who waits for a place: tenants in turn, each of them first come, first served.

use super::Permit;
use crate::error::{Error, Kind};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where the answer to somebody who waits goes.
pub(super) type To = oneshot::Sender<Result<Permit, Error>>;

/// Requests that wait for a place, fair between tenants.
#[derive(Debug)]
pub(super) struct Queue {
    /// The next in turn at the front; none is empty.
    lanes: VecDeque<Lane>,
    waiting: usize,
    room: usize,
    tickets: u64,
}

/// Those of one tenant that may take equally many places.
#[derive(Debug)]
struct Lane {
    tenant: Arc<str>,
    most: usize,
    waiters: VecDeque<(u64, To)>,
}

impl Queue {
    /// At most `room` may wait in it.
    pub(super) const fn new(room: usize) -> Self {
        Queue { lanes: VecDeque::new(), waiting: 0, room, tickets: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    /// Lets somebody wait who may take one of `most` places; gives a ticket. Where the queue is full, the newest of the
    /// tenant of which most wait gives way to one of which fewer do. `None` = there is no room.
    pub(super) fn push(&mut self, tenant: Arc<str>, most: usize, to: To) -> Option<u64> {
        if self.waiting >= self.room {
            self.make_room(&tenant)?;
        }
        self.tickets = self.tickets.wrapping_add(1);
        let waiter = (self.tickets, to);
        self.waiting = self.waiting.saturating_add(1);
        match self.lanes.iter_mut().find(|l| l.tenant == tenant && l.most == most) {
            Some(lane) => lane.waiters.push_back(waiter),
            None => self.lanes.push_back(Lane { tenant, most, waiters: VecDeque::from([waiter]) }),
        }
        Some(self.tickets)
    }

    fn make_room(&mut self, tenant: &str) -> Option<()> {
        let own: usize = self.lanes.iter().filter(|l| &*l.tenant == tenant).map(|l| l.waiters.len()).sum();
        let (at, longest) = self.lanes.iter().enumerate().max_by_key(|(_, l)| l.waiters.len())?;
        if longest.waiters.len() <= own.saturating_add(1) {
            return None;
        }
        let (_, to) = self.lanes.get_mut(at)?.waiters.pop_back()?;
        self.waiting = self.waiting.saturating_sub(1);
        drop(to.send(Err(super::refuse(Kind::Overloaded))));
        Some(())
    }

    /// The next one for whom `take` finds a place; its tenant is at the end of the turn then.
    pub(super) fn next(&mut self, take: impl Fn(usize) -> bool) -> Option<To> {
        let at = self.lanes.iter().position(|l| take(l.most))?;
        let mut lane = self.lanes.remove(at)?;
        let next = lane.waiters.pop_front();
        if !lane.waiters.is_empty() {
            self.lanes.push_back(lane);
        }
        self.waiting = self.waiting.saturating_sub(1);
        next.map(|(_, to)| to)
    }

    /// The one with that ticket waits no more.
    pub(super) fn remove(&mut self, ticket: u64) {
        for lane in &mut self.lanes {
            if let Some(at) = lane.waiters.iter().position(|(t, _)| *t == ticket) {
                lane.waiters.remove(at);
                self.waiting = self.waiting.saturating_sub(1);
            }
        }
        self.lanes.retain(|l| !l.waiters.is_empty());
    }

    /// Takes everybody out of it.
    pub(super) fn empty(&mut self) -> Vec<To> {
        self.waiting = 0;
        self.lanes.drain(..).flat_map(|l| l.waiters).map(|(_, to)| to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Place = oneshot::Receiver<Result<Permit, Error>>;

    fn wait(queue: &mut Queue, tenant: &str) -> Option<(u64, Place)> {
        let (to, place) = oneshot::channel();
        queue.push(tenant.into(), 5, to).map(|ticket| (ticket, place))
    }

    #[test]
    fn a_full_queue_makes_room_for_those_of_whom_few_wait() {
        let mut queue = Queue::new(4);
        let mut of_a: Vec<_> = (0..4).map(|_| wait(&mut queue, "a").unwrap().1).collect();
        assert!(wait(&mut queue, "a").is_none(), "the newest is refused");
        let of_b: Vec<_> = (0..2).map(|_| wait(&mut queue, "b").unwrap()).collect();
        assert!(wait(&mut queue, "b").is_none(), "each has half of it");
        for (i, place) in of_a.iter_mut().enumerate() {
            assert_eq!(place.try_recv().is_ok(), i >= 2, "the newest of a gave way: {i}");
        }
        queue.remove(of_b.first().unwrap().0);
        queue.remove(99);
        assert_eq!((queue.len(), queue.lanes.len()), (3, 2));
        assert_eq!(queue.empty().len(), 3);
        assert!(queue.next(|_| true).is_none() && queue.len() == 0);
        assert!(wait(&mut Queue::new(0), "a").is_none());
    }
}
