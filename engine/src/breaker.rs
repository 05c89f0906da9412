//! Keeps a failing model out: closed, open, half-open with a single probe.

use crate::concurrency::ConcurrencyLimit;
use crate::config;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use types::provider::{Error, ErrorKind};

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Everything.
    Closed,
    /// One probe.
    HalfOpen,
    /// Nothing, for so long.
    Open(Duration),
}

impl serde::Serialize for Circuit {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl Circuit {
    /// The factor on the utility: 1, 0.5, 0.
    #[must_use]
    pub const fn factor(self) -> f64 {
        match self {
            Circuit::Closed => 1.0,
            Circuit::HalfOpen => 0.5,
            Circuit::Open(_) => 0.0,
        }
    }

    /// The string used in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::HalfOpen => "half_open",
            Circuit::Open(_) => "open",
        }
    }
}

/// Breaker of one model.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: config::Breaker,
    state: Mutex<State>,
    /// As the state says it: every request asks every model's breaker, and nearly all are closed.
    closed: AtomicBool,
    room: Arc<ConcurrencyLimit>,
}

#[derive(Debug)]
struct State {
    window_start: Instant,
    calls: u32,
    failures: u32,
    in_a_row: u32,
    /// Out until then.
    open_until: Option<Instant>,
    /// The vendor named the end of the wait: by then the model is back, and nothing is left to be probed.
    told: bool,
    /// Times opened without a success between: the wait doubles with each.
    openings: u32,
    /// A probe is on its way.
    probing: bool,
    /// It was opened by what the vendor says of the key: not known there, or without credit.
    by_key: bool,
    /// Times that the keys were changed: what is said of the ones before counts no more.
    keys: u32,
}

/// Permission to make one call; tell how it went, or drop it: a call that was cut off says nothing of the model,
/// unless the model had been silent for longer than is patient.
#[derive(Debug)]
pub(crate) struct Permission<'a> {
    breaker: &'a Breaker,
    /// It is the one probe of a half-open breaker; only a probe closes it.
    probe: bool,
    /// The keys that it is made with.
    keys: u32,
    since: Instant,
    patience: Duration,
    told: bool,
}

impl Breaker {
    pub(crate) fn new(config: config::Breaker) -> Self {
        Breaker {
            config,
            state: Mutex::new(State {
                window_start: Instant::now(),
                calls: 0,
                failures: 0,
                in_a_row: 0,
                open_until: None,
                told: false,
                openings: 0,
                probing: false,
                by_key: false,
                keys: 0,
            }),
            closed: AtomicBool::new(true),
            room: Arc::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Counters stay meaningful even if a panic struck between two of them.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut s = self.lock();
        let out = change(&mut s);
        self.closed.store(s.open_until.is_none(), Ordering::Release);
        out
    }

    /// It lets everything through; asked without the clock, which costs more than the answer.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many calls the model bears beside each other.
    pub(crate) const fn room(&self) -> &Arc<ConcurrencyLimit> {
        &self.room
    }

    /// What it would let through now.
    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        self.change(|s| {
            s.wait_out(now);
            match s.open_until {
                None => Circuit::Closed,
                // Nobody knows how long a probe takes; a moment is the shortest worth waiting.
                Some(until) if now < until || s.probing => {
                    Circuit::Open(until.saturating_duration_since(now).max(Duration::from_secs(1)))
                }
                // At half its utility a model may never be chosen, and so never probed. A doubt that nobody has
                // asked about for so long no longer counts; the next call is still a single probe.
                Some(until) if now.saturating_duration_since(until) >= self.config.open_max => {
                    Circuit::Closed
                }
                Some(_) => Circuit::HalfOpen,
            }
        })
    }

    /// Calls and failures of the present window.
    pub(crate) fn counts(&self, now: Instant) -> (u32, u32) {
        let s = self.lock();
        let old = now.saturating_duration_since(s.window_start) >= self.config.window;
        if old { (0, 0) } else { (s.calls, s.failures) }
    }

    /// Permission for one call, or `None` while the model is out. A call that is cut off after `patience` without
    /// an answer counts as a failure.
    pub(crate) fn permit(&self, now: Instant, patience: Duration) -> Option<Permission<'_>> {
        let (probe, keys) = self.change(|s| {
            s.wait_out(now);
            let probe = match s.open_until {
                Some(until) if now < until || s.probing => return None,
                Some(_) => true,
                None => false,
            };
            s.probing |= probe;
            Some((probe, s.keys))
        })?;
        Some(Permission { breaker: self, probe, keys, since: now, patience, told: false })
    }

    /// Its model is called with other keys from now on: what a vendor said of the ones before keeps nobody out any more.
    pub(crate) fn rekeyed(&self) {
        self.change(|s| {
            s.keys = s.keys.wrapping_add(1);
            if s.by_key {
                s.probed();
                (s.by_key, s.told) = (false, false);
            }
        });
    }
}

/// A streamed answer that has begun: how it ends is yet to be told. One that nobody reads to its end says nothing.
#[derive(Debug)]
pub(crate) struct Answering {
    breaker: Arc<Breaker>,
    probe: bool,
}

impl Answering {
    /// An answer to the call that the permission was given for.
    pub(crate) fn of(breaker: &Arc<Breaker>, permission: &Permission<'_>) -> Answering {
        Answering { breaker: breaker.clone(), probe: permission.probe }
    }

    /// It came to its end.
    pub(crate) fn ended(&self, now: Instant) {
        self.breaker.room.answered(now);
        self.breaker.change(|s| s.succeed(self.breaker.config.window, now));
    }

    /// It broke off. That of a probe keeps the model out again, unless others have done so by now.
    pub(crate) fn broke(&self, error: &Error, now: Instant) {
        self.breaker.room.failed(error, now);
        self.breaker.change(|s| {
            let probe = self.probe && s.open_until.is_none();
            s.fail(self.breaker.config, error.kind, error.retry_after, now, 0.5, probe);
        });
    }
}

impl Permission<'_> {
    /// The call was answered.
    pub(crate) fn succeeded(mut self, now: Instant) {
        self.told = true;
        self.breaker.room.answered(now);
        self.breaker.change(|s| {
            if self.probe {
                s.probed();
            }
            s.succeed(self.breaker.config.window, now);
        });
    }

    /// The call is being answered: others need not wait for the end of it, of which [`Answering`] tells.
    pub(crate) fn began(mut self) {
        self.told = true;
        if self.probe {
            self.breaker.change(State::probed);
        }
    }

    /// The call failed. `jitter` in 0..1 spreads the probes of many replicas.
    pub(crate) fn failed(mut self, error: &Error, now: Instant, jitter: f64) {
        self.told = true;
        self.breaker.room.failed(error, now);
        let c = self.breaker.config;
        self.breaker.change(|s| {
            if is_of_key(error.kind) && s.keys != self.keys {
                s.probing &= !self.probe;
            } else {
                s.fail(c, error.kind, error.retry_after, now, jitter, self.probe);
            }
        });
    }
}

impl Drop for Permission<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.since) >= self.patience;
        self.breaker.change(|s| {
            if silent {
                s.fail(self.breaker.config, ErrorKind::FirstTokenTimeout, None, now, 0.5, self.probe);
            } else if self.probe {
                s.probing = false;
            }
        });
    }
}

impl State {
    /// The end of a wait that the vendor named is the end of it.
    fn wait_out(&mut self, now: Instant) {
        if self.told && self.open_until.is_some_and(|until| now >= until) {
            self.open_until = None;
            self.told = false;
        }
    }

    /// The probe was answered.
    fn probed(&mut self) {
        self.open_until = None;
        self.probing = false;
    }

    fn succeed(&mut self, window: Duration, now: Instant) {
        self.wait_out(now);
        self.roll(window, now);
        self.calls = self.calls.saturating_add(1);
        // A call from before it opened does not cut the wait short.
        if self.open_until.is_none() {
            self.in_a_row = 0;
            self.openings = 0;
        }
    }

    fn fail(
        &mut self,
        c: config::Breaker,
        kind: ErrorKind,
        retry_after: Option<Duration>,
        now: Instant,
        jitter: f64,
        probe: bool,
    ) {
        if probe {
            self.probing = false;
        }
        if !kind.counts_for_breaker() {
            // The model answered; what it refused is the request's doing.
            if probe {
                self.open_until = None;
            }
            return;
        }
        self.wait_out(now);
        // To be asked again at once is no wait.
        let wait = retry_after.filter(|r| !r.is_zero());
        let told = wait.map(|r| now + r.min(c.open_max.max(Duration::from_secs(120))));
        if let (Some(until), false) = (self.open_until, probe) {
            // A call from before it opened: known already, but for a longer wait.
            self.open_until = Some(told.map_or(until, |t| t.max(until)));
            return;
        }
        self.roll(c.window, now);
        self.calls = self.calls.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let share = f64::from(self.failures) / f64::from(self.calls.max(1));
        let tripped = self.in_a_row >= c.consecutive || self.calls >= c.min_calls && share >= c.failure_share;
        // A wrong key or an empty account does not mend within seconds; asking again only costs time.
        let hopeless = is_of_key(kind);
        if told.is_some() {
            self.by_key = hopeless;
            self.open_until = told;
            self.told = !hopeless;
        } else if probe || tripped || hopeless {
            let doubled = c.open.saturating_mul(1_u32.checked_shl(self.openings.min(16)).unwrap_or(u32::MAX));
            let base = if hopeless { c.open_max } else { doubled.min(c.open_max) };
            self.openings = self.openings.saturating_add(1);
            self.open_until = Some(now + base.mul_f64(1.0 + 0.2 * jitter.clamp(0.0, 1.0)));
            self.told = false;
            self.by_key = hopeless;
            self.calls = 0;
            self.failures = 0;
            self.in_a_row = 0;
        }
    }

    fn roll(&mut self, window: Duration, now: Instant) {
        if now.saturating_duration_since(self.window_start) >= window {
            self.window_start = now;
            self.calls = 0;
            self.failures = 0;
        }
    }
}

/// Whether a failure is of the key that the call was made with.
const fn is_of_key(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Auth | ErrorKind::Quota)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Duration = Duration::from_secs(30);

    /// Time until a probe is let through.
    fn wait(b: &Breaker, now: Instant) -> Duration {
        b.lock().open_until.map_or(Duration::ZERO, |u| u.saturating_duration_since(now))
    }

    fn failure(kind: ErrorKind, retry_after: Option<Duration>) -> Error {
        let model = types::matrix::Model::new("a/b", 0, (1_000, 100));
        Error { retry_after, ..Error::new(kind, &model, "") }
    }

    fn fail(b: &Breaker, now: Instant, kind: ErrorKind) {
        if let Some(permission) = b.permit(now, PATIENT) {
            permission.failed(&failure(kind, None), now, 0.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn five_in_a_row_open_it_and_one_probe_goes_through() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        for _ in 0..5 {
            assert_eq!(b.circuit(t), Circuit::Closed);
            fail(&b, t, ErrorKind::Unavailable);
        }
        assert!(matches!(b.circuit(t), Circuit::Open(_)));
        assert!(b.permit(t, PATIENT).is_none());
        let later = t + Duration::from_millis(1_001);
        assert_eq!(b.circuit(later), Circuit::HalfOpen);
        let probe = b.permit(later, PATIENT).unwrap();
        assert!(b.permit(later, PATIENT).is_none(), "a second probe");
        probe.failed(&failure(ErrorKind::Connect, None), later, 0.0);
        assert_eq!(wait(&b, later), Duration::from_secs(2), "the wait doubles");
        let later = later + Duration::from_secs(3);
        b.permit(later, PATIENT).unwrap().succeeded(later);
        assert_eq!(b.circuit(later), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_mistakes_never_open_it_and_a_wrong_key_does_at_once() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        for _ in 0..50 {
            fail(&b, t, ErrorKind::BadRequest);
        }
        assert_eq!(b.circuit(t), Circuit::Closed);
        fail(&b, t, ErrorKind::Auth);
        assert!(matches!(b.circuit(t), Circuit::Open(_)));
        assert_eq!(wait(&b, t), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn other_keys_close_what_the_ones_before_opened_and_nothing_else() {
        let t = Instant::now();
        for (kind, told) in [(ErrorKind::Auth, None), (ErrorKind::Quota, None), (ErrorKind::Quota, Some(90))]
        {
            let b = Breaker::new(config::Breaker::default());
            let early = b.permit(t, PATIENT).unwrap();
            b.permit(t, PATIENT).unwrap().failed(&failure(kind, told.map(Duration::from_secs)), t, 0.0);
            assert!(matches!(b.circuit(t), Circuit::Open(_)), "{kind:?}");
            b.rekeyed();
            assert_eq!((b.circuit(t), b.is_closed()), (Circuit::Closed, true), "{kind:?}");
            early.failed(&failure(kind, None), t, 0.0);
            assert_eq!(b.circuit(t), Circuit::Closed, "{kind:?} of a call with the keys before");
            fail(&b, t, kind);
            assert!(matches!(b.circuit(t), Circuit::Open(_)), "{kind:?} of the other keys");
        }
        let b = Breaker::new(config::Breaker::default());
        for _ in 0..5 {
            fail(&b, t, ErrorKind::Unavailable);
        }
        b.rekeyed();
        assert!(matches!(b.circuit(t), Circuit::Open(_)), "what is away is not brought back by a key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_told_is_waited_out_and_leaves_no_doubt() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        let told = |secs| failure(ErrorKind::RateLimited, Some(Duration::from_secs(secs)));
        b.permit(t, PATIENT).unwrap().failed(&told(0), t, 0.0);
        assert_eq!((b.circuit(t), b.is_closed()), (Circuit::Closed, true), "no wait was told");
        b.permit(t, PATIENT).unwrap().failed(&told(7), t, 0.0);
        assert_eq!((wait(&b, t), b.is_closed()), (Duration::from_secs(7), false));
        let later = t + Duration::from_secs(7);
        assert!(b.permit(t + Duration::from_millis(6_999), PATIENT).is_none());
        assert_eq!((b.circuit(later), b.is_closed()), (Circuit::Closed, true));
        let beside = [b.permit(later, PATIENT), b.permit(later, PATIENT)];
        assert!(beside.iter().all(Option::is_some), "no single probe: others need not wait for its answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_probe_frees_its_place() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        fail(&b, t, ErrorKind::Auth);
        let later = t + Duration::from_secs(31);
        drop(b.permit(later, PATIENT).unwrap());
        assert_eq!(b.circuit(later), Circuit::HalfOpen);
    }

    /// A stream that begins: gives its end.
    fn begin(b: &Arc<Breaker>, now: Instant) -> Answering {
        let permission = b.permit(now, PATIENT).unwrap();
        let answering = Answering::of(b, &permission);
        permission.began();
        answering
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_break_open_it_and_one_that_ends_well_tells_of_health() {
        let b = Arc::new(Breaker::new(config::Breaker::default()));
        let t = Instant::now();
        let lost = failure(ErrorKind::StreamLost, None);
        for n in 0..4 {
            begin(&b, t).broke(&lost, t);
            assert_eq!((b.circuit(t), b.counts(t)), (Circuit::Closed, (n + 1, n + 1)), "each counts once");
        }
        begin(&b, t).ended(t);
        for _ in 0..4 {
            begin(&b, t).broke(&lost, t);
        }
        drop(begin(&b, t));
        assert_eq!(b.circuit(t), Circuit::Closed);
        begin(&b, t).broke(&lost, t);
        assert!(matches!(b.circuit(t), Circuit::Open(_)), "five in a row, though each had begun");
        // What the probe begins lets others through, and shuts them out again where it breaks.
        let later = t + Duration::from_secs(2);
        let probe = begin(&b, later);
        assert_eq!(b.circuit(later), Circuit::Closed);
        probe.broke(&lost, later);
        assert!(wait(&b, later) >= Duration::from_secs(2), "for twice as long");
        let last = later + Duration::from_secs(3);
        begin(&b, last).ended(last);
        assert_eq!(b.circuit(last), Circuit::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_from_before_it_opened_neither_closes_it_nor_frees_the_probes_place() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        let early: Vec<_> = (0..4).map(|_| b.permit(t, PATIENT).unwrap()).collect();
        let told = failure(ErrorKind::Quota, Some(Duration::from_secs(7)));
        b.permit(t, PATIENT).unwrap().failed(&told, t, 0.0);
        let mut early = early.into_iter();
        early.next().unwrap().succeeded(t);
        early.next().unwrap().failed(&failure(ErrorKind::BadRequest, None), t, 0.0);
        early.next().unwrap().failed(&failure(ErrorKind::Unavailable, None), t, 0.0);
        assert_eq!(wait(&b, t), Duration::from_secs(7));
        let later = t + Duration::from_secs(7);
        let _probe = b.permit(later, PATIENT).unwrap();
        drop(early);
        assert!(b.permit(later, PATIENT).is_none(), "a second probe");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_call_cut_off_after_long_silence_counts() {
        let b = Breaker::new(config::Breaker::default());
        for _ in 0..50 {
            drop(b.permit(Instant::now(), PATIENT).unwrap());
        }
        assert_eq!(b.circuit(Instant::now()), Circuit::Closed);
        for _ in 0..5 {
            let permission = b.permit(Instant::now(), PATIENT).unwrap();
            tokio::time::advance(PATIENT).await;
            drop(permission);
        }
        assert!(matches!(b.circuit(Instant::now()), Circuit::Open(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_doubt_that_nobody_asks_about_no_longer_counts_but_is_still_probed_once() {
        let b = Breaker::new(config::Breaker::default());
        let t = Instant::now();
        fail(&b, t, ErrorKind::Auth);
        assert_eq!(b.circuit(t + Duration::from_secs(31)), Circuit::HalfOpen);
        let later = t + Duration::from_secs(61);
        assert_eq!(b.circuit(later), Circuit::Closed);
        let _probe = b.permit(later, PATIENT).unwrap();
        assert!(b.permit(later, PATIENT).is_none() && matches!(b.circuit(later), Circuit::Open(_)));
    }
}
