//! The keys of a provider and which of them may be used now.

use super::Settings;
use crate::dialect::{Auth, Wire};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;
use types::provider::{Error, ErrorKind};

/// Rest of a key that the vendor does not know: it does not get better by itself.
const UNKNOWN_KEY: Duration = Duration::from_secs(3600);
/// Rest of a key without credit.
const NO_CREDIT: Duration = Duration::from_secs(600);
/// Rest of a key over its rate, if the vendor does not say how long.
const OVER_RATE: Duration = Duration::from_secs(1);

/// Takes keys in turn. Without a lock: two calls at once may take the same key, which is harmless.
#[derive(Debug)]
pub(super) struct KeyPool {
    slots: Vec<Slot>,
    turn: AtomicUsize,
    epoch: Instant,
}

/// All headers of a call with this key (one without credentials, where the provider wants none).
#[derive(Debug)]
struct Slot {
    /// Credentials are marked sensitive: they do not print.
    headers: HeaderMap,
    /// Milliseconds since the pool's epoch.
    rests_until: AtomicU64,
}

impl KeyPool {
    pub(super) fn new(settings: &Settings, wire: Wire) -> Self {
        let common = common(settings, wire);
        let slot = |headers| Slot { headers, rests_until: AtomicU64::new(0) };
        let mut slots: Vec<Slot> = Vec::with_capacity(settings.keys().len().max(1));
        for key in settings.keys() {
            let mut headers = common.clone();
            let name = match wire.auth() {
                Auth::Bearer => AUTHORIZATION,
                Auth::Header(name) => HeaderName::from_static(name),
            };
            headers.insert(name, key.clone());
            slots.push(slot(headers));
        }
        if slots.is_empty() {
            slots.push(slot(common));
        }
        KeyPool { slots, turn: AtomicUsize::new(0), epoch: Instant::now() }
    }

    /// The next key in turn that does not rest, or the one that rests shortest: whether a provider may be
    /// called at all is not decided here.
    pub(super) fn pick(&self, now: Instant) -> usize {
        let n = self.slots.len().max(1);
        if n == 1 {
            return 0;
        }
        let now = self.millis(now);
        let first = self.turn.fetch_add(1, Relaxed) % n;
        let order = (0..n).map(|i| first.wrapping_add(i) % n);
        let rest = |i: usize| {
            self.slots.get(i).map_or(u64::MAX, |s| s.rests_until.load(Relaxed).saturating_sub(now))
        };
        order.min_by_key(|i| rest(*i)).unwrap_or(0)
    }

    pub(super) fn headers(&self, key: usize) -> HeaderMap {
        self.slots.get(key).map(|s| s.headers.clone()).unwrap_or_default()
    }

    /// Lets a key rest after what the vendor said of it.
    pub(super) fn rest(&self, key: usize, error: &Error, now: Instant) {
        let time = match error.kind {
            ErrorKind::RateLimited => error.retry_after.unwrap_or(OVER_RATE),
            ErrorKind::Quota => error.retry_after.unwrap_or(NO_CREDIT),
            ErrorKind::Auth if error.status == Some(401) => UNKNOWN_KEY,
            _ => return,
        };
        if let Some(slot) = self.slots.get(key) {
            let until = self.millis(now).saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            slot.rests_until.fetch_max(until, Relaxed);
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

fn common(settings: &Settings, wire: Wire) -> HeaderMap {
    let mut headers = HeaderMap::new();
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

    fn pool(keys: usize) -> KeyPool {
        let slot = || Slot { headers: HeaderMap::new(), rests_until: AtomicU64::new(0) };
        KeyPool {
            slots: (0..keys).map(|_| slot()).collect(),
            turn: AtomicUsize::new(0),
            epoch: Instant::now(),
        }
    }

    fn failed(kind: ErrorKind, status: u16, retry_after: Option<u64>) -> Error {
        Error {
            kind,
            status: Some(status),
            model: "p/m".into(),
            detail: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_take_turns_and_rest_after_a_refusal() {
        let pool = pool(3);
        let now = Instant::now();
        let picks = |n: usize, now| (0..n).map(|_| pool.pick(now)).collect::<Vec<_>>();
        assert_eq!(picks(4, now), [0, 1, 2, 0]);
        pool.rest(1, &failed(ErrorKind::RateLimited, 429, Some(30)), now);
        assert!(!picks(6, now).contains(&1));
        pool.rest(2, &failed(ErrorKind::Auth, 401, None), now);
        assert_eq!(picks(3, now), [0, 0, 0]);
        // Its own 403 may be about the model, not the key.
        pool.rest(0, &failed(ErrorKind::Auth, 403, None), now);
        assert_eq!(picks(1, now), [0]);
        pool.rest(0, &failed(ErrorKind::Quota, 402, None), now);
        assert_eq!(picks(2, now), [1, 1], "all rest: the one that rests shortest");
        assert!(picks(3, now + Duration::from_secs(31)).contains(&1));
    }
}
