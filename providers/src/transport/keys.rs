//! The keys of a provider: which may be used now, and what each has left.
//!
//! A key that the vendor refuses, throttles or does not know rests, and the call goes out again with another;
//! only when none is left does the caller hear of it.

use super::Settings;
use super::quota::{Counted, DayUsed, Meter};
use crate::dialect::{Auth, Wire};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use types::Usage;
use types::matrix::Model;
use types::provider::{Error, ErrorKind};

/// Rest of a key that the vendor does not know: it does not get better by itself.
const UNKNOWN_KEY: Duration = Duration::from_secs(3600);
/// Rest of a key without credit.
const NO_CREDIT: Duration = Duration::from_secs(600);
/// Rest of a key over its rate, if the vendor does not say how long.
const OVER_RATE: Duration = Duration::from_secs(1);
/// While a key that rested is tried again, nobody else takes it for so long.
const PROBE: Duration = Duration::from_secs(10);
/// Most keys of one provider: as many as a call can keep account of.
pub(super) const MAX_KEYS: usize = 64;

/// All keys of one provider. No lock on the way of a call, but for the counts of a free tier.
#[derive(Debug)]
pub(super) struct KeyPool {
    slots: Vec<Slot>,
    turn: AtomicUsize,
    epoch: Instant,
    /// Limits of free tiers hold; where calls are paid for, the vendor's own limits are others.
    metered: bool,
}

/// All headers of a call with this key (one without credentials, where the provider wants none).
#[derive(Debug, Default)]
struct Slot {
    /// Credentials are marked sensitive: they do not print.
    headers: HeaderMap,
    /// Where its key came from: the name of a variable; empty where none is needed.
    name: String,
    /// Milliseconds since the pool's epoch.
    rests_until: AtomicU64,
    /// The vendor refused the key and has not taken it since.
    refused: AtomicBool,
    in_flight: AtomicU32,
    /// By model: what is used of its free tier.
    meters: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
}

/// The keys that one call has tried, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

/// A key in use by one call.
#[derive(Debug)]
pub(super) struct Taken {
    pool: Arc<KeyPool>,
    key: usize,
    /// With what is counted for the call.
    meter: Option<(Arc<Meter>, Counted)>,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// Each has been tried.
    Tried,
    /// Each has used up its share of a free tier; so long until one has not.
    UsedUp(Duration),
}

impl KeyPool {
    pub(super) fn new(settings: &Settings, wire: Wire) -> Self {
        let common = common(settings, wire);
        let mut slots: Vec<Slot> = Vec::with_capacity(settings.keys().len().max(1));
        for (key, from) in settings.keys().iter().zip(settings.names()).take(MAX_KEYS) {
            let mut headers = common.clone();
            let name = match wire.auth() {
                Auth::Bearer => AUTHORIZATION,
                Auth::Header(name) => HeaderName::from_static(name),
            };
            headers.insert(name, key.clone());
            slots.push(Slot { headers, name: from.clone(), ..Slot::default() });
        }
        if slots.is_empty() {
            slots.push(Slot { headers: common, ..Slot::default() });
        }
        KeyPool { slots, turn: AtomicUsize::new(0), epoch: Instant::now(), metered: settings.is_free() }
    }

    /// A key for a call of about so many tokens: one that does not rest before one that does, then the one
    /// with the most left, then the one least in use, then in turn. The pool decides which key, not whether
    /// a provider may be called: where all rest, the one that rests shortest goes.
    ///
    /// # Errors
    /// All were tried, or none has anything left of the free tier.
    pub(super) fn take(
        self: &Arc<Self>,
        model: &Model,
        tokens: u64,
        tried: &mut Tried,
        now: Instant,
    ) -> Result<Taken, NoKey> {
        let mut shortest: Option<Duration> = None;
        let mut passed = *tried;
        loop {
            let Some(key) = self.best(model, tokens, passed, now) else {
                return Err(shortest.map_or(NoKey::Tried, NoKey::UsedUp));
            };
            passed.add(key);
            let meter = self.meter(key, model);
            let meter = match meter {
                Some(m) => {
                    let wall = unix_ms();
                    let Some(counted) = m.take(wall, tokens) else {
                        let wait = m.headroom(wall, tokens).wait;
                        shortest = Some(shortest.map_or(wait, |s| s.min(wait)));
                        continue;
                    };
                    Some((m, counted))
                }
                None => None,
            };
            tried.add(key);
            if let Some(slot) = self.slots.get(key) {
                slot.in_flight.fetch_add(1, Relaxed);
                if slot.refused.load(Relaxed) {
                    slot.rest(self.millis(now).saturating_add(millis(PROBE)));
                }
            }
            return Ok(Taken { pool: Arc::clone(self), key, meter });
        }
    }

    fn best(&self, model: &Model, tokens: u64, tried: Tried, now: Instant) -> Option<usize> {
        let n = self.slots.len();
        if n <= 1 {
            return (!tried.has(0)).then_some(0);
        }
        let now = self.millis(now);
        let wall = model.free_tier.as_ref().map(|_| unix_ms());
        let first = self.turn.fetch_add(1, Relaxed) % n;
        let order = (0..n).map(|i| first.wrapping_add(i) % n).filter(|i| !tried.has(*i));
        let rank = |i: &usize| {
            let slot = self.slots.get(*i);
            let rest = slot.map_or(u64::MAX, |s| s.rests_until.load(Relaxed).saturating_sub(now));
            let used = match (wall, self.meter(*i, model)) {
                (Some(wall), Some(m)) => 1.0 - m.headroom(wall, tokens).ratio,
                _ => 0.0,
            };
            let busy = slot.map_or(u32::MAX, |s| s.in_flight.load(Relaxed));
            // Tenths of a limit are near enough to spread by; finer would hand all calls to one key.
            (rest, tenths(used), busy)
        };
        order.min_by_key(rank)
    }

    fn meter(&self, key: usize, model: &Model) -> Option<Arc<Meter>> {
        let limits = model.free_tier.as_ref().filter(|_| self.metered)?;
        let mut meters = self.slots.get(key)?.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = meters.get(&model.id) {
            if meter.is_of(limits) {
                return Some(Arc::clone(meter));
            }
            // Other limits since a reload; what was used of the day stays used.
            let (fresh, now) = (Meter::new(limits), unix_ms());
            if let Some(used) = meter.day(now) {
                fresh.resume(now, &used);
            }
            meters.insert(model.id.clone(), Arc::new(fresh));
        }
        // One entry per model of the matrix: bounded by its size.
        Some(Arc::clone(meters.entry(model.id.clone()).or_insert_with(|| Arc::new(Meter::new(limits)))))
    }

    /// What each key has used of the present day of each model's free tier: key, model, use.
    pub(super) fn days(&self, now: i64) -> Vec<(String, Arc<str>, DayUsed)> {
        let mut all = Vec::new();
        for slot in &self.slots {
            let meters = slot.meters.lock().unwrap_or_else(PoisonError::into_inner);
            let used =
                meters.iter().filter_map(|(model, m)| Some((slot.name.clone(), model.clone(), m.day(now)?)));
            all.extend(used);
        }
        all
    }

    /// Goes on from what a key had used of a model's free tier. A key that is not here any more is passed over.
    pub(super) fn resume(&self, key: &str, model: &Model, used: &DayUsed, now: i64) {
        let at = self.slots.iter().position(|s| s.name == key);
        if let Some(meter) = at.and_then(|i| self.meter(i, model)) {
            meter.resume(now, used);
        }
    }

    /// What is left of a model's free tier over all keys that do not rest: the share, and how long until a
    /// call fits. `None` = no limits are known.
    pub(super) fn headroom(&self, model: &Model, now: Instant) -> Option<(f64, Duration)> {
        model.free_tier.as_ref().filter(|_| self.metered)?;
        let (ms, wall) = (self.millis(now), unix_ms());
        let (mut sum, mut wait) = (0.0, Duration::MAX);
        for (i, slot) in self.slots.iter().enumerate() {
            let rest = Duration::from_millis(slot.rests_until.load(Relaxed).saturating_sub(ms));
            let room = self.meter(i, model)?.headroom(wall, 0);
            if rest.is_zero() {
                sum += room.ratio;
            }
            wait = wait.min(rest.max(room.wait));
        }
        let keys = u32::try_from(self.slots.len().max(1)).unwrap_or(u32::MAX);
        Some((sum / f64::from(keys), wait))
    }

    fn millis(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.epoch))
    }
}

impl Tried {
    fn add(&mut self, key: usize) {
        self.0 |= 1_u64.checked_shl(u32::try_from(key).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    fn has(self, key: usize) -> bool {
        self.0 & 1_u64.checked_shl(u32::try_from(key).unwrap_or(u32::MAX)).unwrap_or(0) != 0
    }
}

impl Slot {
    fn rest(&self, until: u64) {
        self.rests_until.fetch_max(until, Relaxed);
    }
}

impl Taken {
    pub(super) fn headers(&self) -> HeaderMap {
        self.slot().map(|s| s.headers.clone()).unwrap_or_default()
    }

    fn slot(&self) -> Option<&Slot> {
        self.pool.slots.get(self.key)
    }

    /// The vendor took the key.
    pub(super) fn accepted(&self) {
        if let Some(slot) = self.slot()
            && slot.refused.swap(false, Relaxed)
        {
            slot.rests_until.store(0, Relaxed);
        }
    }

    /// What was really used.
    pub(super) fn used(&self, usage: &Usage) {
        // What cannot be says nothing: what was taken for the call stays taken.
        if let Some((meter, counted)) = self.meter.as_ref().filter(|_| usage.why.is_none()) {
            // A stream may report more than once, each time the whole.
            meter.correct(unix_ms(), counted, usage.total());
        }
    }

    /// Lets the key rest after what the vendor said of it. True if the fault is the key's: another may do.
    pub(super) fn refused(&self, error: &Error, now: Instant) -> bool {
        let time = match error.kind {
            ErrorKind::RateLimited => error.retry_after.unwrap_or(OVER_RATE),
            ErrorKind::Quota => error.retry_after.unwrap_or(NO_CREDIT),
            ErrorKind::Auth if error.status == Some(401) => UNKNOWN_KEY,
            // It may be about the model: this key stays in use for others.
            ErrorKind::Auth => Duration::ZERO,
            _ => return false,
        };
        if let Some(slot) = self.slot().filter(|_| !time.is_zero()) {
            slot.refused.store(true, Relaxed);
            slot.rest(self.pool.millis(now).saturating_add(millis(time)));
        }
        true
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(slot) = self.slot() {
            slot.in_flight.fetch_sub(1, Relaxed);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 0..=1 in tenths is 0..=10"
)]
fn tenths(share: f64) -> u8 {
    (share * 10.0).round() as u8
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn common(settings: &Settings, wire: Wire) -> HeaderMap {
    // Room for what is added on the way: a copy that grows costs more than the copy.
    let mut headers = HeaderMap::with_capacity(16);
    headers.extend(settings.host().map(|host| (HOST, host)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("turnout/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in wire.headers() {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    for (name, value) in settings.headers() {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::matrix::FreeTier;

    fn pool(keys: usize) -> Arc<KeyPool> {
        Arc::new(KeyPool {
            slots: (0..keys).map(|_| Slot::default()).collect(),
            turn: AtomicUsize::new(0),
            epoch: Instant::now(),
            metered: true,
        })
    }

    fn failed(kind: ErrorKind, status: u16, retry_after: Option<u64>) -> Error {
        Error {
            status: Some(status),
            retry_after: retry_after.map(Duration::from_secs),
            ..Error::new(kind, &crate::dialect::tests::model("m"), "")
        }
    }

    fn take(pool: &Arc<KeyPool>, now: Instant) -> Taken {
        pool.take(&crate::dialect::tests::model("m"), 10, &mut Tried::default(), now).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn keys_take_turns_and_rest_after_a_refusal() {
        let pool = pool(3);
        let now = Instant::now();
        let picks = |n: usize, now| (0..n).map(|_| take(&pool, now).key).collect::<Vec<_>>();
        assert_eq!(picks(4, now), [0, 1, 2, 0]);
        let of = |key| Taken { pool: pool.clone(), key, meter: None };
        let refuse = |key: usize, e: &Error| {
            pool.slots[key].in_flight.fetch_add(1, Relaxed);
            of(key).refused(e, now)
        };
        assert!(refuse(1, &failed(ErrorKind::RateLimited, 429, Some(30))));
        assert!(!picks(6, now).contains(&1));
        assert!(refuse(2, &failed(ErrorKind::Auth, 401, None)));
        assert_eq!(picks(3, now), [0, 0, 0]);
        assert!(refuse(0, &failed(ErrorKind::Auth, 403, None)), "another key may do");
        assert_eq!(picks(1, now), [0], "a 403 may be about the model, not the key");
        assert!(!refuse(0, &failed(ErrorKind::Unavailable, 503, None)), "no key mends that");
        assert!(refuse(0, &failed(ErrorKind::Quota, 402, None)));
        assert_eq!(picks(1, now), [1], "all rest: the one that rests shortest");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rested_is_tried_by_one_call_first() {
        let pool = pool(2);
        let now = Instant::now();
        take(&pool, now).refused(&failed(ErrorKind::RateLimited, 429, Some(5)), now);
        let later = now + Duration::from_secs(6);
        let (a, b, c) = (take(&pool, later), take(&pool, later), take(&pool, later));
        let probing = [&a, &b, &c].into_iter().filter(|t| t.key == 0).count();
        assert_eq!(probing, 1, "one probe");
        [&a, &b, &c].into_iter().find(|t| t.key == 0).unwrap().accepted();
        drop((a, b, c));
        assert!((0..2).map(|_| take(&pool, later).key).any(|k| k == 0), "it is back");
    }

    #[tokio::test(start_paused = true)]
    async fn limits_of_keys_add_up_and_the_one_with_more_left_goes_first() {
        let pool = pool(2);
        let now = Instant::now();
        let mut model = crate::dialect::tests::model("m");
        model.free_tier = Some(FreeTier { rpd: Some(10), ..FreeTier::default() });
        let take = || pool.take(&model, 10, &mut Tried::default(), now).map(|t| t.key);
        let taken: Vec<usize> = std::iter::from_fn(|| take().ok()).take(100).collect();
        assert_eq!(taken.len(), 20, "twice ten");
        let first_ten = taken.iter().take(10).filter(|k| **k == 0).count();
        assert!((4..=6).contains(&first_ten), "spread from the start: {taken:?}");
        assert!(matches!(take(), Err(NoKey::UsedUp(wait)) if !wait.is_zero()));
        let (left, wait) = pool.headroom(&model, now).unwrap();
        assert!(left == 0.0 && !wait.is_zero());
    }
}
