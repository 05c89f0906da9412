//! The keys of a provider: which may be used now, and what each has left.
//!
//! A key that the vendor refuses, throttles or does not know, or whose calls fail, rests, and the call goes out again
//! with another; only when none is left does the caller hear of it. What 401 and 402 say is about the key with every
//! model, anything else about the key with one.

use super::Settings;
use super::quota::{Counted, DayUsed, Meter};
use crate::dialect::{Auth, Wire};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use rest::{Health, Stamp, State};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use types::Usage;
use types::error::Blame;
use types::matrix::Model;
use types::provider::{Error, Quota, Short};

mod rest;
#[cfg(test)]
mod tests;

pub(crate) use rest::Why;

/// Rests of so long and longer are told in the log: shorter ones are the daily business of a busy pool.
const WORTH_TELLING: Duration = Duration::from_secs(30);
/// Most keys of one provider: as many as a call can keep account of.
pub(super) const MAX_KEYS: usize = 64;

/// All keys of one provider.
#[derive(Debug)]
pub(super) struct KeyPool {
    /// The provider's name.
    provider: String,
    slots: Vec<Slot>,
    turn: AtomicUsize,
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
    in_flight: AtomicU32,
    /// What is known against it. Locked for some comparisons, and never across an await.
    known: Mutex<Known>,
    /// By model: what is used of its free tier.
    meters: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
}

/// What is known against a key.
#[derive(Debug, Default)]
struct Known {
    /// With every model.
    key: Health,
    /// With one; nothing is known against it with those that are not here. Models of the matrix: bounded by its size.
    models: HashMap<Arc<str>, Health>,
}

/// A call that wants a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) model: &'a Model,
    /// About how many tokens it takes.
    pub(super) tokens: u64,
    /// When it began.
    pub(super) began: Instant,
    /// A key that has not been answered after so long is silent.
    pub(super) patience: Duration,
}

/// The keys that one call has tried, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

/// A key in use by one call.
#[derive(Debug)]
pub(super) struct Taken {
    pool: Arc<KeyPool>,
    key: usize,
    model: Arc<str>,
    /// Of the key, and of the key with the model.
    left: (Stamp, Stamp),
    /// By then it is silent.
    patient_until: Instant,
    /// What it says of its key is known.
    heard: bool,
    /// With what is counted for the call.
    meter: Option<(Arc<Meter>, Counted)>,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// Those that could be tried have been.
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
        let provider = settings.id().to_owned();
        KeyPool { provider, slots, turn: AtomicUsize::new(0), metered: settings.is_free() }
    }

    /// Whether a call that one key is refused may go on with another.
    pub(super) const fn has_others(&self) -> bool {
        self.slots.len() > 1
    }

    /// A key for a call: one that does not rest before one that does, then the one with the most left, then the one
    /// least in use, then in turn. The pool decides which key, not whether a provider may be called: where all rest, one
    /// whose rest passes by itself goes first, and of those the one that rests shortest. A call that has tried a key
    /// goes on only with keys that do not rest: so it comes past all that are dead once, and not again and again.
    ///
    /// # Errors
    /// All were tried, or none has anything left of the free tier.
    pub(super) fn take(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        tried: &mut Tried,
        now: Instant,
    ) -> Result<Taken, NoKey> {
        let Wanted { model, tokens, .. } = wanted;
        let goes_on = tried.any();
        let mut shortest: Option<Duration> = None;
        let mut passed = *tried;
        loop {
            let best = self.best(model, tokens, passed, now);
            let best = best.filter(|(_, state)| !goes_on || !matches!(state, State::Resting(..)));
            let Some((key, _)) = best else {
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
            let left = self.slots.get(key).map(|slot| {
                slot.in_flight.fetch_add(1, Relaxed);
                slot.known().leaves(&model.id, now)
            });
            let since = if goes_on { now } else { wanted.began };
            return Ok(Taken {
                pool: Arc::clone(self),
                key,
                model: model.id.clone(),
                left: left.unwrap_or_default(),
                patient_until: super::after(since, wanted.patience),
                heard: false,
                meter,
            });
        }
    }

    /// The key to take next, and its state.
    fn best(&self, model: &Model, tokens: u64, tried: Tried, now: Instant) -> Option<(usize, State)> {
        let state = |i: usize| self.slots.get(i).map_or(State::Ready, |s| s.known().state(&model.id, now));
        let n = self.slots.len();
        if n <= 1 {
            return (!tried.has(0)).then(|| (0, state(0)));
        }
        let wall = model.free_tier.as_ref().map(|_| unix_ms());
        let first = self.turn.fetch_add(1, Relaxed) % n;
        let order = (0..n).map(|i| first.wrapping_add(i) % n).filter(|i| !tried.has(*i));
        let ranked = order.map(|i| {
            let state = state(i);
            let used = match (wall, self.meter(i, model)) {
                (Some(wall), Some(m)) => 1.0 - m.headroom(wall, tokens).ratio,
                _ => 0.0,
            };
            let busy = self.slots.get(i).map_or(u32::MAX, |s| s.in_flight.load(Relaxed));
            // Tenths of a limit are near enough to spread by; finer would hand all calls to one key.
            ((state.rank(), tenths(used), busy), (i, state))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, best)| best)
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

    /// What is left of a model's free tier over all keys that can be used: the share, and how long until a call fits.
    /// Keys that are refused, without credit or failing keep nobody waiting: whether their model is asked is for its
    /// breaker to say. `None` = no limits are known.
    pub(super) fn headroom(&self, model: &Model, now: Instant) -> Option<Quota> {
        model.free_tier.as_ref().filter(|_| self.metered)?;
        let wall = unix_ms();
        let (mut sum, mut soonest) = (0.0, None);
        for (i, slot) in self.slots.iter().enumerate() {
            let room = self.meter(i, model)?.headroom(wall, 0);
            let throttled = match slot.known().state(&model.id, now) {
                State::Resting(Why::Throttled, left) => left,
                State::Resting(why, _) if !why.passes() => continue,
                _ => Duration::ZERO,
            };
            if throttled.is_zero() {
                sum += room.ratio;
            }
            let why = if throttled > room.wait { Short::Throttled } else { Short::UsedUp };
            let wait = throttled.max(room.wait);
            if soonest.is_none_or(|(other, _)| wait < other) {
                soonest = Some((wait, why));
            }
        }
        let keys = u32::try_from(self.slots.len().max(1)).unwrap_or(u32::MAX);
        let (wait, why) = soonest.unwrap_or((Duration::ZERO, Short::UsedUp));
        Some(Quota { ratio: sum / f64::from(keys), wait, why })
    }
}

impl Tried {
    fn add(&mut self, key: usize) {
        self.0 |= 1_u64.checked_shl(u32::try_from(key).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    pub(super) const fn any(self) -> bool {
        self.0 != 0
    }

    fn has(self, key: usize) -> bool {
        self.0 & 1_u64.checked_shl(u32::try_from(key).unwrap_or(u32::MAX)).unwrap_or(0) != 0
    }
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change leaves it consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn state(&self, model: &str, now: Instant) -> State {
        let of_key = self.key.state(now);
        self.models.get(model).map_or(of_key, |h| of_key.and(h.state(now)))
    }

    fn leaves(&mut self, model: &str, now: Instant) -> (Stamp, Stamp) {
        let of_model = self.models.get_mut(model).map_or(0, |h| h.leaves(now));
        (self.key.leaves(now), of_model)
    }

    /// True if that ends a rest.
    fn accepted(&mut self, model: &str, left: (Stamp, Stamp), now: Instant) -> bool {
        let of_key = self.key.accepted(left.0, now);
        let Some(health) = self.models.get_mut(model) else { return of_key };
        let ended = health.accepted(left.1, now) || of_key;
        if health.is_blank(now) {
            self.models.remove(model);
        }
        ended
    }

    /// How long the key rests, if a rest begins.
    fn failed(
        &mut self,
        model: &Arc<str>,
        left: (Stamp, Stamp),
        (why, told): (Why, Option<Duration>),
        now: Instant,
    ) -> Option<Duration> {
        if why.of_every_model() {
            return self.key.failed(left.0, why, told, now);
        }
        self.models.entry(model.clone()).or_default().failed(left.1, why, told, now)
    }

    fn unheard(&mut self, model: &str, left: (Stamp, Stamp)) {
        self.key.unheard(left.0);
        if let Some(health) = self.models.get_mut(model) {
            health.unheard(left.1);
        }
    }
}

impl Taken {
    pub(super) fn headers(&self) -> HeaderMap {
        self.slot().map(|s| s.headers.clone()).unwrap_or_default()
    }

    fn slot(&self) -> Option<&Slot> {
        self.pool.slots.get(self.key)
    }

    /// The vendor took the key: it answers, or finds fault with the request.
    pub(super) fn accepted(&mut self) {
        self.heard = true;
        let now = Instant::now();
        let Some(slot) = self.slot() else { return };
        if slot.known().accepted(&self.model, self.left, now) {
            tracing::debug!(provider = %self.pool.provider, key = %slot.name, model = %self.model, "a key is taken again");
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

    /// Takes note of what a failed call says of its key. True if the fault may be the key's, so that another may do.
    pub(super) fn failed(&mut self, error: &Error) -> bool {
        let Some(why) = Why::of(error) else {
            if error.status.is_some() && error.blame() == Blame::Client {
                self.accepted();
            }
            return false;
        };
        self.rests(why, error.retry_after);
        true
    }

    fn rests(&mut self, why: Why, told: Option<Duration>) {
        self.heard = true;
        let Some(slot) = self.slot() else { return };
        let rest = slot.known().failed(&self.model, self.left, (why, told), Instant::now());
        let (provider, key, model, why) = (&self.pool.provider, &slot.name, &self.model, why.as_str());
        match rest {
            Some(time) if time >= WORTH_TELLING => {
                let rests_s = time.as_secs();
                tracing::warn!(%provider, %key, %model, why, rests_s, "a key rests");
            }
            Some(time) => tracing::debug!(%provider, %key, %model, why, ?time, "a key rests"),
            None => {}
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Some(slot) = self.slot() else { return };
        slot.in_flight.fetch_sub(1, Relaxed);
        if self.heard {
            return;
        }
        if Instant::now() >= self.patient_until {
            self.rests(Why::Silent, None);
        } else {
            slot.known().unheard(&self.model, self.left);
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
