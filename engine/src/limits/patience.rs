//! Waiting for what requests in work have set aside and mostly give back.

use super::SOON;
use crate::admit::Gate;
use crate::error::{Error, Kind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use types::limits::Metric;

/// Share of all places that may be held by those that wait: one in so many.
const SHARE: usize = 8;
/// How often one that waits looks.
const LOOK: Duration = Duration::from_millis(50);

/// Counts those that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience(Arc<AtomicUsize>);

/// How the calls of a request wait.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) patience: Patience,
    pub(crate) gate: Arc<Gate>,
    /// For so long at most, all of them together.
    pub(crate) most: Duration,
}

impl Waits {
    /// A call that begins now and has to be made until a moment, where others have waited so long.
    pub(super) fn until(&self, latest: Instant, waited: Duration) -> Waiting<'_> {
        let left = self.most.saturating_sub(waited);
        self.patience.until(latest.min(Instant::now() + left), &self.gate)
    }
}

/// A place among them.
struct Place<'a>(&'a Patience);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// One request that may have to wait.
pub(crate) struct Waiting<'a> {
    patience: &'a Patience,
    gate: &'a Gate,
    latest: Instant,
    /// It has waited, and left what it held.
    left: bool,
}

/// Whether a refusal passes as soon as requests in work give back what they do not use; of one that has `left` its
/// place for it, also as soon as they end: who keeps a place and waits for another one may be waited for by who has that.
fn passes(error: &Error, left: bool) -> bool {
    let counts = error.limit.as_ref().map(|standing| standing.limit.metric);
    let comes_back = match counts {
        Some(Metric::Usd | Metric::Tokens) => true,
        Some(Metric::Concurrency) => left,
        Some(Metric::Requests) | None => false,
    };
    matches!(error.kind, Kind::Limit { budget: false, .. })
        && comes_back
        && error.retry_after.is_some_and(|wait| wait <= SOON)
}

impl Patience {
    fn enter(&self, gate: &Gate) -> Option<Place<'_>> {
        let most = gate.max().div_ceil(SHARE);
        let entered = self.0.fetch_update(Relaxed, Relaxed, |n| (n < most).then_some(n.saturating_add(1)));
        entered.is_ok().then(|| Place(self))
    }

    /// Of a request that may wait until a moment.
    pub(crate) const fn until<'a>(&'a self, latest: Instant, gate: &'a Gate) -> Waiting<'a> {
        Waiting { patience: self, gate, latest, left: false }
    }
}

impl Waiting<'_> {
    /// Waits a little after a refusal, if only what requests in work have set aside stands behind it and there is time;
    /// false = the refusal stands. While most places are taken nobody waits, and never more than their share. Whoever waits
    /// first does `leave` what it holds, if it can.
    pub(crate) async fn helps(&mut self, refused: &Error, leave: Option<impl FnOnce()>) -> bool {
        let now = Instant::now();
        if !passes(refused, self.left) || self.gate.is_busy() || now >= self.latest {
            return false;
        }
        // Held while it waits, and not while a model answers.
        let Some(_place) = self.patience.enter(self.gate) else { return false };
        if let Some(leave) = leave {
            leave();
            self.left = true;
        }
        sleep_until((now + LOOK).min(self.latest)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::limits::{Limit, Standing, Window};

    fn refusal(metric: Metric, wait: Duration) -> Error {
        let limit = Limit::rate("key:k", metric, 1.0, Window::Day).unwrap();
        let standing = Standing { limit, used: 0, in_work: 0, at_most: 0, resets_in: wait, pace_per_h: None };
        let kind = Kind::Limit {
            limit: String::new(),
            left: String::new(),
            budget: metric == Metric::Usd && wait > SOON,
        };
        Error { retry_after: Some(wait), limit: Some(Box::new(standing)), ..Error::from(kind) }
    }

    /// How often it was tried, for how long, and how that ended.
    async fn check(gate: &Gate, patience: &Patience, refused: Error, free_at: u64) -> (u32, Duration, bool) {
        let (begun, mut tries) = (Instant::now(), 0);
        let mut waiting = patience.until(begun + Duration::from_millis(220), gate);
        let mut left = 0;
        loop {
            tries += 1;
            if begun.elapsed() >= Duration::from_millis(free_at) {
                return (tries, begun.elapsed(), true);
            }
            if !waiting.helps(&refused, Some(|| left += 1)).await {
                assert_eq!(left, tries - 1, "who does not wait keeps what it holds");
                return (tries, begun.elapsed(), false);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_comes_back_is_waited_for_and_only_for_so_long() {
        let (gate, patience) = (Gate::new(10, (0, Duration::ZERO)), Patience::default());
        let ms = Duration::from_millis;
        let soon = || refusal(Metric::Usd, SOON);
        assert_eq!(check(&gate, &patience, soon(), 100).await, (3, ms(100), true));
        assert_eq!(check(&gate, &patience, soon(), 1_000).await, (6, ms(220), false));
        assert_eq!(check(&gate, &patience, refusal(Metric::Tokens, SOON), 60).await, (3, ms(100), true));
        for other in
            [refusal(Metric::Usd, ms(9_000)), refusal(Metric::Concurrency, SOON), Kind::Overloaded.into()]
        {
            assert_eq!(check(&gate, &patience, other, 1).await, (1, ms(0), false));
        }
        // Two of ten places may be held by those that wait.
        let waits: Vec<_> = std::iter::from_fn(|| patience.enter(&gate)).take(9).collect();
        assert_eq!((waits.len(), check(&gate, &patience, soon(), 60).await.0), (2, 1));
        drop(waits);
        let held: Vec<_> = (0..8).map(|_| gate.enter(1.0).unwrap()).collect();
        assert_eq!(check(&gate, &patience, soon(), 60).await.0, 1, "most places are taken");
        drop(held);
        assert_eq!(patience.0.load(Relaxed), 0);
    }
}
