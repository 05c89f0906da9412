//! The keys of a provider: which may be used now, and what each has left.
//!
//! A key that the vendor refuses, throttles or does not know, or whose calls fail, rests, and the call goes out again
//! with another; only when none is left does the caller hear of it. What 401 and 402 say is about the key with every
//! model, anything else about the key with one.

use super::Settings;
use super::quota::{Counted, DayUsed, Headroom, Meter};
use super::settings::bare;
use crate::dialect::{Auth, Wire};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use rest::State;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use types::matrix::{KeyLimits, Model};
use types::provider::{Quota, Short};

mod known;
mod own;
mod rest;
mod standing;
mod taken;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use known::Accounts;
use known::Known;
pub use own::Counting;
pub(super) use own::{Most, Own};
pub(crate) use rest::Why;
pub use standing::{KeyState, Rest, Standing};
pub(super) use taken::Taken;
use told::Told;

/// Most keys of one provider: as many as a call can keep account of.
pub(super) const MAX_KEYS: usize = 64;

/// All keys of one provider.
#[derive(Debug)]
pub(super) struct KeyPool {
    /// The provider's name.
    provider: String,
    slots: Vec<Slot>,
    turn: AtomicUsize,
    /// Calls cost nothing, and limits of free tiers hold.
    free: bool,
    /// What a key may use of all models together.
    of_all: Option<KeyLimits>,
    /// Names of the keys that are too many.
    unused: Vec<String>,
    /// How often a call went on with another key.
    turns: Arc<AtomicU64>,
    /// The vendor has told of limits of its own.
    told: AtomicBool,
    /// Counts what keys with limits of their own use; `None` = no key has any, or nobody counts.
    counting: Option<Counting>,
}

/// All headers of a call with this key (one without credentials, where the provider wants none).
#[derive(Debug, Default)]
struct Slot {
    /// Credentials are marked sensitive: they do not print.
    headers: HeaderMap,
    /// Where its key came from: the name of a variable; empty where none is needed.
    name: String,
    in_flight: AtomicU32,
    /// What it may use, whatever others may.
    own: Own,
    /// What is known against it. Locked for some comparisons, and never across an await.
    known: Mutex<Known>,
    /// By model: what is used of its free tier; by [`OF_ALL`]: of that of all together.
    meters: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
    /// By model: what the vendor said last of its own limits.
    told: Mutex<HashMap<Arc<str>, Told>>,
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
    /// Only one of which no failure is known: it has failed with another already.
    pub(super) sound: bool,
}

/// Where what a key uses of all models together is counted; no model is called so.
pub(super) const OF_ALL: &str = "";
/// The meters of a key that a call of a model counts on: of all models together, and its own.
type Meters = [Option<Arc<Meter>>; 2];
type Counts = [Option<(Arc<Meter>, Counted)>; 2];

/// The keys that one call has tried, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

/// The keys that have no room for a call by limits of their own, and how long until the first of them may.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Full {
    keys: Tried,
    wait: Option<Duration>,
}

/// What limits leave of a key.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Of the tightest, 0..=1.
    ratio: f64,
    /// Zero if a call fits now.
    wait: Duration,
    /// Its part in the room of all keys together.
    weight: f64,
}

impl Room {
    /// Of a key without limits.
    const WHOLE: Room = Room { ratio: 1.0, wait: Duration::ZERO, weight: 1.0 };
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
    /// `turns` counts on for a provider that had other keys before.
    pub(super) fn new(
        settings: &Settings,
        wire: Wire,
        turns: Arc<AtomicU64>,
        accounts: &Accounts,
        counting: Option<&Counting>,
    ) -> Self {
        let now = Instant::now();
        let common = common(settings, wire);
        let mut slots: Vec<Slot> = Vec::with_capacity(settings.keys().len().max(1));
        for (key, from) in settings.keys().iter().zip(settings.names()).take(MAX_KEYS) {
            let mut headers = common.clone();
            let name = match wire.auth() {
                Auth::Bearer => AUTHORIZATION,
                Auth::Header(name) => HeaderName::from_static(name),
            };
            headers.insert(name, key.clone());
            let account = accounts.of(settings.authority(), bare(key), now);
            let known = Mutex::new(Known::new(account));
            let own = settings.own(from);
            slots.push(Slot { headers, name: from.clone(), known, own, ..Slot::default() });
        }
        if slots.is_empty() {
            slots.push(Slot { headers: common, ..Slot::default() });
        }
        let provider = settings.id().to_owned();
        let free = settings.is_free();
        let of_all = both(settings.limits()).map(Cow::into_owned);
        let unused: Vec<String> = settings.names().iter().skip(MAX_KEYS).cloned().collect();
        if !unused.is_empty() {
            tracing::warn!(%provider, used = MAX_KEYS, unused = unused.len(), "a provider has more keys than are used");
        }
        let (turn, told) = (AtomicUsize::new(0), AtomicBool::new(false));
        let counting = counting.filter(|_| slots.iter().any(|slot| !slot.own.is_none())).cloned();
        KeyPool { provider, slots, turn, free, of_all, unused, turns, told, counting }
    }

    /// Whether keys have limits of their own.
    pub(super) const fn has_limits(&self) -> bool {
        self.counting.is_some()
    }

    /// Whether a call that one key is refused may go on with another.
    pub(super) const fn has_others(&self) -> bool {
        self.slots.len() > 1
    }

    /// A key for a call: one that does not rest before one that does, then the one with the most left, then the one
    /// least in use, then in turn. The pool decides which key, not whether a provider may be called: where all rest, one
    /// whose rest passes by itself goes first, and of those the one that rests shortest. A call that has tried a key
    /// goes on only with keys that do not rest: so it comes past all that are dead once, and not again and again. One that
    /// failed goes on only with keys that have not failed a moment ago: all calls together find out once that a vendor is
    /// down, and not each by itself with all keys.
    ///
    /// # Errors
    /// All were tried, or none has anything left of the free tier.
    pub(super) fn take(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        (tried, full): (&mut Tried, &Full),
        now: Instant,
    ) -> Result<Taken, NoKey> {
        let Wanted { model, tokens, .. } = wanted;
        let goes_on = tried.any();
        let mut shortest: Option<Duration> = full.wait;
        let mut passed = Tried(tried.0 | full.keys.0);
        loop {
            let best = self.best(model, tokens, passed, now);
            let best = best.filter(|(_, state)| match state {
                State::Ready | State::Due => true,
                State::Doubtful => !wanted.sound,
                State::Resting(..) => !goes_on,
            });
            let Some((key, _)) = best else {
                return Err(shortest.map_or(NoKey::Tried, NoKey::UsedUp));
            };
            passed.add(key);
            let counted = match count(self.meters(key, model), tokens) {
                Ok(counted) => counted,
                Err(wait) => {
                    shortest = Some(shortest.map_or(wait, |s| s.min(wait)));
                    continue;
                }
            };
            tried.add(key);
            if goes_on {
                self.turns.fetch_add(1, Relaxed);
            }
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
                counted,
                claimed: None,
            });
        }
    }

    /// As [`KeyPool::take`], a key with room for the call by limits of its own, where it has any: what the call may use is
    /// set aside on them.
    ///
    /// # Errors
    /// As there; those without room are passed over as if they were not there.
    pub(super) async fn claim(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        most: Most,
        tried: &mut Tried,
    ) -> Result<Taken, NoKey> {
        let mut full = Full::default();
        loop {
            let before = *tried;
            let mut taken = self.take(wanted, (tried, &full), Instant::now())?;
            let Some(slot) = self.slots.get(taken.key) else { return Ok(taken) };
            let Some(counting) = &self.counting else { return Ok(taken) };
            match own::claim(slot, counting, most, unix_ms()).await {
                Ok(claimed) => {
                    taken.claimed = claimed;
                    return Ok(taken);
                }
                Err(wait) => {
                    taken.unserved(false);
                    full.keys.add(taken.key);
                    full.wait = Some(full.wait.map_or(wait, |w| w.min(wait)));
                    *tried = before;
                }
            }
        }
    }

    /// The key to take next, and its state.
    fn best(&self, model: &Model, tokens: u64, tried: Tried, now: Instant) -> Option<(usize, State)> {
        let state = |i: usize| self.slots.get(i).map_or(State::Ready, |s| s.known().state(&model.id, now));
        let n = self.slots.len();
        if n <= 1 {
            return (!tried.has(0)).then(|| (0, state(0)));
        }
        let limited = self.is_limited(model);
        let wall = unix_ms();
        let told = self.told.load(Relaxed);
        let first = self.turn.fetch_add(1, Relaxed) % n;
        let order = (0..n).map(|i| first.wrapping_add(i) % n).filter(|i| !tried.has(*i));
        let ranked = order.map(|i| {
            let state = state(i);
            let counted = if limited { room(&self.meters(i, model), wall, tokens).ratio } else { 1.0 };
            let counted = self.own_room(i, wall).map_or(counted, |own| own.ratio.min(counted));
            let said = self.slots.get(i).filter(|_| told).and_then(|s| s.told(&model.id, tokens, now));
            let used = 1.0 - said.map_or(counted, |said| said.min(counted));
            let busy = self.slots.get(i).map_or(u32::MAX, |s| s.in_flight.load(Relaxed));
            // Tenths of a limit are near enough to spread by; finer would hand all calls to one key.
            ((state.rank(), tenths(used), busy), (i, state))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, best)| best)
    }

    /// Whether what keys may use of the model is counted.
    fn is_limited(&self, model: &Model) -> bool {
        self.of_all.is_some() || self.limits(model).is_some()
    }

    /// What a key may use of a model.
    fn limits<'m>(&self, model: &'m Model) -> Option<Cow<'m, KeyLimits>> {
        both([model.free_tier.as_ref().filter(|_| self.free), model.limits.as_ref()])
    }

    fn meters(&self, key: usize, model: &Model) -> Meters {
        let Some(slot) = self.slots.get(key) else { return [None, None] };
        let of_all = self.of_all.as_ref().map(|limits| slot.meter(OF_ALL, limits));
        [of_all, self.limits(model).map(|limits| slot.meter(&model.id, &limits))]
    }

    /// What limits of its own leave of a key; `None` = it has none, or nobody counts.
    fn own_room(&self, key: usize, wall: i64) -> Option<Room> {
        let (slot, counting) = (self.slots.get(key)?, self.counting.as_ref()?);
        (!slot.own.is_none()).then(|| own::room(&slot.own.standing(counting, wall)))
    }

    /// Why there is no room where the meters say so.
    const fn short(&self) -> Short {
        if self.free { Short::UsedUp } else { Short::Limited }
    }

    /// How often a call went on with another key; to be counted on by the pool that comes after this one.
    pub(super) const fn turns(&self) -> &Arc<AtomicU64> {
        &self.turns
    }

    /// How each key stands.
    pub(super) fn states(&self, now: Instant) -> Vec<KeyState> {
        let mut all: Vec<KeyState> = self
            .slots
            .iter()
            .map(|slot| slot.standing(&self.provider, self.counting.as_ref(), now))
            .collect();
        all.extend(self.unused.iter().map(|name| KeyState {
            provider: self.provider.clone(),
            name: name.clone(),
            standing: Standing::Unused,
            models: Vec::new(),
            in_flight: 0,
            day_requests: 0,
            day_tokens: 0,
            limits: Vec::new(),
        }));
        all
    }

    /// What each key has used of the present day of each free tier: key, model or [`OF_ALL`], use.
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

    /// Goes on from what a key had used of the free tier of a model, or of all (`None`). A key that is not here any more
    /// is passed over.
    pub(super) fn resume(&self, key: &str, model: Option<&Model>, used: &DayUsed, now: i64) {
        let (name, limits) = match model {
            Some(model) => (&*model.id, self.limits(model)),
            None => (OF_ALL, self.of_all.as_ref().map(Cow::Borrowed)),
        };
        let slot = self.slots.iter().find(|s| s.name == key);
        if let (Some(slot), Some(limits)) = (slot, limits) {
            slot.meter(name, &limits).resume(now, used);
        }
    }

    /// What limits leave of a model over all keys that can be used: the share of what they may use together, by our own
    /// count and the vendor's word, and how long until a call fits by our count. Keys that are refused, without credit or
    /// failing keep nobody waiting: whether their model is asked is for its breaker to say. `None` = no limits are known.
    pub(super) fn headroom(&self, model: &Model, now: Instant) -> Option<Quota> {
        let (limited, told) = (self.is_limited(model), self.told.load(Relaxed));
        // Asked of every model at every request; most have no limits that are known.
        if !limited && !told && self.counting.is_none() {
            return None;
        }
        let wall = unix_ms();
        let (mut left, mut soonest, mut known) = (Vec::with_capacity(self.slots.len()), None, limited);
        for (i, slot) in self.slots.iter().enumerate() {
            let mut room = room(&self.meters(i, model), wall, 0);
            let mut short = self.short();
            let own = self.own_room(i, wall);
            if let Some(own) = own {
                known = true;
                if own.wait > room.wait {
                    (room.wait, short) = (own.wait, Short::Limited);
                }
                room.ratio = room.ratio.min(own.ratio);
            }
            if let Some(said) = slot.told(&model.id, 0, now).filter(|_| told) {
                (room.ratio, known) = (room.ratio.min(said), true);
            }
            let throttled = match slot.known().state(&model.id, now) {
                // A paid model that is throttled is left alone by its breaker.
                State::Resting(Why::Throttled, left) if limited => left,
                State::Resting(why, _) if !why.passes() => {
                    left.push((0.0, own.map(|own| own.weight)));
                    continue;
                }
                _ => Duration::ZERO,
            };
            let ratio = if throttled.is_zero() { room.ratio } else { 0.0 };
            left.push((ratio, own.map(|own| own.weight)));
            let why = if throttled > room.wait { Short::Throttled } else { short };
            let wait = throttled.max(room.wait);
            if soonest.is_none_or(|(other, _)| wait < other) {
                soonest = Some((wait, why));
            }
        }
        let (wait, why) = soonest.unwrap_or((Duration::ZERO, self.short()));
        known.then_some(Quota { ratio: together(&left, self.comparable()), wait, why })
    }

    /// Whether every key has a limit of its own, the first of each of the same metric and window: what is left of them can
    /// be summed up.
    fn comparable(&self) -> bool {
        let kinds: Vec<_> = self.slots.iter().map(|slot| slot.own.kind()).collect();
        kinds.first().is_some_and(|first| first.is_some() && kinds.iter().all(|kind| kind == first))
    }
}

/// The share that is left over all keys, of each its own share and its weight.
fn together(left: &[(f64, Option<f64>)], weighed: bool) -> f64 {
    let weight = |w: &Option<f64>| w.filter(|_| weighed).unwrap_or(1.0);
    let whole: f64 = left.iter().map(|(_, w)| weight(w)).sum();
    left.iter().map(|(ratio, w)| ratio * weight(w)).sum::<f64>() / whole.max(f64::MIN_POSITIVE)
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

/// What holds of two limits, where any does.
fn both([a, b]: [Option<&KeyLimits>; 2]) -> Option<Cow<'_, KeyLimits>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Cow::Owned(a.both(b))),
        (one, other) => one.or(other).map(Cow::Borrowed),
    }
}

/// What is left on all meters together.
fn room(meters: &Meters, now: i64, tokens: u64) -> Headroom {
    let each = meters.iter().flatten().map(|m| m.headroom(now, tokens));
    each.fold(Headroom { ratio: 1.0, wait: Duration::ZERO }, |all, m| Headroom {
        ratio: all.ratio.min(m.ratio),
        wait: all.wait.max(m.wait),
    })
}

/// Counts a request on all meters or, if one has no room for it, on none.
///
/// # Errors
/// How long until they have.
fn count([of_all, own]: Meters, tokens: u64) -> Result<Counts, Duration> {
    if of_all.is_none() && own.is_none() {
        return Ok([None, None]);
    }
    let now = unix_ms();
    let take = |m: &Option<Arc<Meter>>| match m {
        Some(m) => m.take(now, tokens).map(|counted| Some((m.clone(), counted))),
        None => Some(None),
    };
    let counted = take(&of_all).and_then(|first| match take(&own) {
        Some(second) => Some([first, second]),
        None => {
            if let Some((m, counted)) = first {
                m.give_back(now, &counted, false);
            }
            None
        }
    });
    counted.ok_or_else(|| room(&[of_all, own], now, tokens).wait)
}

impl Slot {
    fn meter(&self, name: &str, limits: &KeyLimits) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = meters.get(name).filter(|m| m.is_of(limits)) {
            return Arc::clone(meter);
        }
        let fresh = Arc::new(Meter::new(limits));
        // One entry per model of the matrix: bounded by its size.
        if let Some(before) = meters.insert(Arc::from(name), fresh.clone()) {
            // Other limits since a reload; what was used of the day stays used.
            let now = unix_ms();
            if let Some(used) = before.day(now) {
                fresh.resume(now, &used);
            }
        }
        fresh
    }

    /// The share that the vendor's own limits leave of a model for a call of so many tokens, as far as it has said so.
    fn told(&self, model: &str, tokens: u64, now: Instant) -> Option<f64> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(model)?.left(tokens, now)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change leaves it consistent.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 0..=1 in tenths is 0..=10"
)]
fn tenths(share: f64) -> u8 {
    // Where nothing is left is worse than where little is.
    if share >= 1.0 { 11 } else { (share * 10.0).round() as u8 }
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
