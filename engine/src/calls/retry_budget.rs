//! How many calls may be made beyond the first of each question, over all requests: so that trouble at a provider
//! never multiplies what it is asked.
//!
//! Three bounds, each over the last ten seconds; the last is asked last:
//!
//! ```text
//! retries of a provider   ≤ budget · first calls to it + per_second · 10      another model of it counts as well
//! hedges                  ≤ hedges · first calls + 10, and none while only what matters is done
//! both, of all providers  ≤ 20 % of first calls + per_second · 10
//! ```
//!
//! A question that goes on to a provider it has not been put to is no retry: neither is asked twice. Repairs are other
//! questions, for they say what was wrong; their workflow bounds them. None asks again what a model has answered, and to
//! ask one again that failed is a retry ([`super::asked`]).

use crate::admit::Gate;
use crate::config::Retry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use types::matrix::Matrix;

/// Seconds over which calls are counted.
const SECONDS: usize = 10;
/// Hedges that need no calls before them.
const HEDGES_AT_FIRST: f64 = 10.0;
/// Retries and hedges together, of all providers: at most this share of first calls.
const TOGETHER: f64 = 0.2;

/// Retries and hedges since the start: how many the budget for extra calls let through, and how many not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Retries made.
    pub retries: u64,
    /// Retries for which there was no room.
    pub retries_refused: u64,
    /// Hedges made.
    pub hedges: u64,
    /// Hedges for which there was no room.
    pub hedges_refused: u64,
}

/// Room for calls beyond the first ones.
#[derive(Debug)]
pub(crate) struct Extra {
    retry: Retry,
    since: Instant,
    gate: Arc<Gate>,
    /// Shared with the configurations before and after, as the counts are.
    all: Arc<Shared>,
    /// By provider, in the order of the matrix.
    providers: Vec<Arc<Window>>,
    by_name: HashMap<String, Arc<Window>>,
}

/// What all providers have in common.
#[derive(Debug, Default)]
struct Shared {
    window: Window,
    made: [AtomicU64; 3],
    refused: [AtomicU64; 3],
}

/// Which call is meant; its place among the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    First,
    Retry,
    Hedge,
}

/// A call that is counted before it is made, so that calls beside it find no room twice. Dropped without having been made,
/// it counts no more.
#[derive(Debug)]
#[must_use = "a call that is dropped is counted no more"]
pub(super) struct Counted<'a> {
    extra: &'a Extra,
    /// `None` = any: a hedge goes where it finds somebody.
    provider: Option<usize>,
    second: u64,
    what: What,
    made: bool,
}

impl Counted<'_> {
    /// Whether it is a call beside a slow one.
    pub(super) fn is_hedge(&self) -> bool {
        self.what == What::Hedge
    }

    /// The call is made: it stays counted.
    pub(super) const fn made(&mut self) {
        self.made = true;
    }

    /// The vendor was not asked after all.
    pub(super) const fn unmade(&mut self) {
        self.made = false;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if self.made {
            count(&self.extra.all.made, self.what);
            return;
        }
        self.extra.all.window.give_back(self.second, self.what);
        if let Some(own) = self.provider.and_then(|p| self.extra.providers.get(p)) {
            own.give_back(self.second, self.what);
        }
    }
}

impl Extra {
    /// Room for the providers of a matrix; those that stay keep their counts.
    pub(crate) fn new(matrix: &Matrix, retry: Retry, gate: Arc<Gate>, old: Option<&Extra>) -> Self {
        let kept = |id: &str| old.and_then(|o| o.by_name.get(id)).cloned().unwrap_or_default();
        let providers: Vec<Arc<Window>> = matrix.providers().iter().map(|p| kept(&p.id)).collect();
        let names = matrix.providers().iter().map(|p| p.id.clone());
        Extra {
            retry,
            since: old.map_or_else(Instant::now, |o| o.since),
            gate,
            all: old.map_or_else(Arc::default, |o| o.all.clone()),
            by_name: names.zip(providers.iter().cloned()).collect(),
            providers,
        }
    }

    /// A question is put to a provider for the first time.
    pub(super) fn first(&self, provider: usize, now: Instant) -> Counted<'_> {
        let second = self.second(now);
        if let Some(own) = self.providers.get(provider) {
            own.take(second, What::First, |_| true);
        }
        self.all.window.take(second, What::First, |_| true);
        Counted { extra: self, provider: Some(provider), second, what: What::First, made: false }
    }

    /// Room to put a question to a provider once more.
    pub(super) fn again(&self, provider: usize, now: Instant) -> Option<Counted<'_>> {
        let (second, floor) = (self.second(now), self.floor());
        let own = self.providers.get(provider)?;
        let mut room = own.take(second, What::Retry, |s| s.retries <= self.retry.budget * s.first + floor);
        if room && !self.together(second, What::Retry) {
            own.give_back(second, What::Retry);
            room = false;
        }
        self.granted(room, second, What::Retry, Some(provider))
    }

    /// Room to put a question to somebody else beside one that is slow.
    pub(super) fn hedge(&self, now: Instant) -> Option<Counted<'_>> {
        let second = self.second(now);
        let room = !self.gate.in_brownout() && self.together(second, What::Hedge);
        self.granted(room, second, What::Hedge, None)
    }

    /// Room among the further calls of all providers.
    fn together(&self, second: u64, what: What) -> bool {
        let floor = self.floor();
        self.all.window.take(second, what, |s| {
            let hedges = s.hedges <= self.retry.hedges * s.first + HEDGES_AT_FIRST;
            (hedges || what == What::Retry) && s.retries + s.hedges <= TOGETHER * s.first + floor
        })
    }

    /// What came of it so far.
    pub(crate) fn counts(&self) -> Counts {
        let [_, retries, hedges] = self.all.made.each_ref().map(|n| n.load(Relaxed));
        let [_, retries_refused, hedges_refused] = self.all.refused.each_ref().map(|n| n.load(Relaxed));
        Counts { retries, retries_refused, hedges, hedges_refused }
    }

    /// A further call, if there was room for it; that there was none is counted.
    fn granted(&self, room: bool, second: u64, what: What, provider: Option<usize>) -> Option<Counted<'_>> {
        if !room {
            count(&self.all.refused, what);
            return None;
        }
        Some(Counted { extra: self, provider, second, what, made: false })
    }

    fn floor(&self) -> f64 {
        f64::from(self.retry.budget_per_second) * SECONDS as f64
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }
}

fn count(counts: &[AtomicU64; 3], what: What) {
    if let Some(n) = counts.get(what as usize) {
        n.fetch_add(1, Relaxed);
    }
}

/// First and further calls of the last seconds.
#[derive(Debug, Default)]
struct Window(Mutex<Slots>);

/// By second, modulo their number.
type Slots = [Slot; SECONDS];

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    calls: [u32; 3],
}

/// Calls of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    first: f64,
    retries: f64,
    hedges: f64,
}

impl Window {
    /// Counts one more call if the sums, with it, are allowed: check and act are one step.
    fn take(&self, second: u64, what: What, allowed: impl FnOnce(Sums) -> bool) -> bool {
        let mut slots = self.lock();
        let mut sums = sums(&slots, second);
        match what {
            What::First => sums.first += 1.0,
            What::Retry => sums.retries += 1.0,
            What::Hedge => sums.hedges += 1.0,
        }
        let room = allowed(sums);
        if room && let Some(n) = slot(&mut slots, second).and_then(|s| s.calls.get_mut(what as usize)) {
            *n = n.saturating_add(1);
        }
        room
    }

    /// What was counted in a second was not made after all. One so long ago that it counts no more has left its place.
    fn give_back(&self, second: u64, what: What) {
        let mut slots = self.lock();
        let slot = slots.iter_mut().find(|s| s.second == second);
        if let Some(n) = slot.and_then(|s| s.calls.get_mut(what as usize)) {
            *n = n.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Counters stay meaningful even if a panic struck between two of them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot(slots: &mut Slots, second: u64) -> Option<&mut Slot> {
    let at = usize::try_from(second % SECONDS as u64).ok()?;
    let slot = slots.get_mut(at)?;
    if slot.second != second {
        *slot = Slot { second, ..Slot::default() };
    }
    Some(slot)
}

fn sums(slots: &Slots, second: u64) -> Sums {
    let young = slots.iter().filter(|s| s.second.saturating_add(SECONDS as u64) > second);
    young.fold(Sums::default(), |all, s| {
        let [first, retries, hedges] = s.calls.map(f64::from);
        Sums { first: all.first + first, retries: all.retries + retries, hedges: all.hedges + hedges }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use types::matrix::{Dialect, Provider};

    fn extra(per_second: u32) -> Extra {
        let providers =
            vec![Provider::new("a", Dialect::OpenaiChat), Provider::new("b", Dialect::OpenaiChat)];
        let retry = Retry { budget_per_second: per_second, ..Retry::default() };
        Extra::new(&Matrix::new(providers, Vec::new()), retry, Gate::new(10, (0, Duration::ZERO)), None)
    }

    fn granted<'a>(n: usize, mut take: impl FnMut() -> Option<Counted<'a>>) -> usize {
        (0..n).filter_map(|_| take()).map(made).count()
    }

    fn made(mut call: Counted<'_>) {
        call.made();
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_tenth_of_the_calls_to_their_provider() {
        let e = extra(0);
        let now = Instant::now();
        (0..1_000).for_each(|_| made(e.first(0, now)));
        assert_eq!(granted(1_000, || e.again(0, now)), 100);
        assert_eq!(granted(10, || e.again(1, now)), 0, "nobody called it");
        assert_eq!((e.counts().retries, e.counts().retries_refused), (100, 910));
    }

    #[tokio::test(start_paused = true)]
    async fn few_calls_may_always_be_made_again_and_old_ones_do_not_count() {
        let e = extra(3);
        assert_eq!(granted(100, || e.again(0, Instant::now())), 30);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(granted(100, || e.again(0, Instant::now())), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(granted(100, || e.again(0, Instant::now())), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn all_further_calls_together_are_a_fifth() {
        let e = extra(0);
        let now = Instant::now();
        for provider in [0, 1] {
            (0..400).for_each(|_| made(e.first(provider, now)));
        }
        let hedges = granted(1_000, || e.hedge(now));
        assert_eq!(hedges, 50, "a twentieth of 800, and ten at first");
        let retries = granted(1_000, || e.again(0, now)) + granted(1_000, || e.again(1, now));
        assert_eq!(retries, 80);
        let few = Extra { retry: Retry { hedges: 0.01, ..e.retry }, ..extra(0) };
        (0..1_000).for_each(|_| made(few.first(0, now)));
        assert_eq!(granted(1_000, || few.hedge(now)), 20, "a hundredth, and ten at first");
        let broad = Extra { retry: Retry { budget: 1.0, ..e.retry }, ..extra(0) };
        (0..1_000).for_each(|_| made(broad.first(0, now)));
        assert_eq!(granted(1_000, || broad.again(0, now)), 200, "whatever the operator allows one provider");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_made_takes_no_room() {
        let e = extra(1);
        for _ in 0..100 {
            assert!(e.again(0, Instant::now()).is_some() && e.hedge(Instant::now()).is_some());
            drop(e.first(0, Instant::now()));
        }
        assert_eq!(e.counts(), Counts::default());
        let mut begun = e.again(0, Instant::now()).unwrap();
        begun.made();
        assert_eq!(granted(100, || e.again(0, Instant::now())), 9, "no more first calls, and one under way");
        begun.unmade();
        drop(begun);
        assert_eq!(granted(100, || e.again(0, Instant::now())), 1);
        let early = e.hedge(Instant::now());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(granted(1, || e.again(0, Instant::now())), 1);
        drop(early);
        assert_eq!(granted(100, || e.again(0, Instant::now())), 9, "the second that it was of is long over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_configuration_keeps_the_counts() {
        let e = extra(3);
        let now = Instant::now();
        granted(100, || e.again(0, now));
        let turned = vec![Provider::new("b", Dialect::OpenaiChat), Provider::new("a", Dialect::OpenaiChat)];
        let next = Extra::new(
            &Matrix::new(turned, Vec::new()),
            e.retry,
            Gate::new(10, (0, Duration::ZERO)),
            Some(&e),
        );
        assert!(next.again(1, now).is_none(), "a has had its thirty");
        assert_eq!(next.counts().retries, 30);
    }
}
