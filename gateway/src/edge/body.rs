//! Reading a body: how much, how fast, how long, and how much of all bodies together.

use crate::config::server::Edge;
use crate::error::Failure;
use crate::metrics::{Cut, Metrics};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body;
use http_body_util::BodyExt as _;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

/// Unit of the shared budget: a permit stands for so many bytes.
const UNIT: usize = 1024;
/// How long a body waits for others to leave.
const WAIT: Duration = Duration::from_secs(1);
/// How much of the budget a body has before more than that has come. It takes more as its bytes arrive, as much again
/// as has come and at most `STEP`: what a head declares costs its sender nothing, and must cost others nothing.
const FIRST: usize = 16 * UNIT;
const STEP: usize = 1024 * UNIT;
/// How often the rate of a slow body is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The bytes of all bodies in work.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    free: Arc<Semaphore>,
    all: usize,
    /// What one key may have of it.
    own: usize,
    /// What is left of that, of the keys that have some.
    keys: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

/// A share of the budget; free again when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    /// What its key has left.
    own: Option<Arc<Semaphore>>,
    permits: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Budget {
    /// `largest`: the largest body that is taken at all.
    pub(crate) fn new(bytes: usize, largest: usize) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        let own = (units / 4 * 3).max(largest.div_ceil(UNIT)).min(units);
        Budget {
            free: Arc::new(Semaphore::new(units)),
            all: units.saturating_mul(UNIT),
            own,
            keys: Arc::default(),
        }
    }

    /// Bytes in all, and bytes free.
    pub(crate) fn state(&self) -> (usize, usize) {
        (self.all, self.free.available_permits().saturating_mul(UNIT))
    }

    /// An empty share: of a key, which may not have all of the budget, or of nobody in particular.
    pub(crate) fn share(&self, key: Option<&str>) -> Share {
        Share { budget: self.clone(), own: key.map(|k| self.of_key(k)), permits: Vec::new(), bytes: 0 }
    }

    fn of_key(&self, key: &str) -> Arc<Semaphore> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = keys.get(key).and_then(Weak::upgrade) {
            return own;
        }
        // Whoever has nothing in work is forgotten.
        keys.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(self.own));
        keys.insert(key.to_owned(), Arc::downgrade(&own));
        own
    }
}

impl Share {
    /// Makes it hold at least `bytes`, if there is room for them now.
    pub(crate) fn try_extend(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.bytes).div_ceil(UNIT);
        let units = u32::try_from(missing).unwrap_or(u32::MAX);
        let pots = [self.own.clone(), Some(self.budget.free.clone())];
        let taken: Result<Vec<_>, _> =
            pots.into_iter().flatten().map(|pot| pot.try_acquire_many_owned(units)).collect();
        let Ok(taken) = taken else { return false };
        self.took(taken, missing);
        true
    }

    /// Makes it hold at least `bytes`, waiting a moment for others to leave.
    async fn extend(&mut self, bytes: usize) -> Result<(), Failure> {
        let missing = bytes.saturating_sub(self.bytes).div_ceil(UNIT);
        if missing == 0 {
            return Ok(());
        }
        let units = u32::try_from(missing).unwrap_or(u32::MAX);
        // The key's own first: who waits for that holds nothing that others could have.
        let pots = [self.own.clone(), Some(self.budget.free.clone())];
        let both = async {
            let mut taken = Vec::with_capacity(pots.len());
            for pot in pots.into_iter().flatten() {
                taken.push(pot.acquire_many_owned(units).await?);
            }
            Ok::<_, tokio::sync::AcquireError>(taken)
        };
        let taken = timeout(WAIT, both).await.ok().and_then(Result::ok).ok_or_else(full)?;
        self.took(taken, missing);
        Ok(())
    }

    fn took(&mut self, permits: Vec<OwnedSemaphorePermit>, units: usize) {
        for permit in permits {
            self.hold(permit);
        }
        self.bytes = self.bytes.saturating_add(units.saturating_mul(UNIT));
    }

    fn hold(&mut self, permit: OwnedSemaphorePermit) {
        let same = |held: &&mut OwnedSemaphorePermit| Arc::ptr_eq(held.semaphore(), permit.semaphore());
        match self.permits.iter_mut().find(same) {
            Some(held) => held.merge(permit),
            None => self.permits.push(permit),
        }
    }
}

fn full() -> Failure {
    Failure::busy("body_budget", "too many bytes of requests are in work", WAIT).closing()
}

/// Refuses bodies that do not say they are JSON. A browser cannot send JSON to us from another page
/// without asking first; that is why a missing type is refused too.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let text = "expected `Content-Type: application/json`";
    let f = Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
    Err(f.param("content-type").closing())
}

/// Reads a whole body within the limits, and gives it with the share that it takes.
pub(crate) async fn read<B: Body<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    mut body: B,
    max: usize,
    edge: &Edge,
    mut share: Share,
    metrics: &Metrics,
) -> Result<(Bytes, Share), Failure> {
    let declared = declared(headers).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if declared.is_some_and(|n| n > max) {
        return Err(too_large(max));
    }
    if declared.is_some_and(|n| n > share.budget.all) {
        return Err(full());
    }
    let most = declared.unwrap_or(max);
    share.extend(most.min(FIRST)).await?;
    let mut pace = Pace::new(edge);
    let mut read = Gathered::default();
    loop {
        match timeout_at(pace.until(), body.frame()).await {
            Ok(None) => return Ok((read.finish(), share)),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                pace.received = pace.received.saturating_add(data.len());
                if pace.received > max {
                    return Err(too_large(max));
                }
                if pace.received > share.bytes {
                    let ahead = pace.received.clamp(FIRST, STEP);
                    let more = pace.received.saturating_add(ahead).min(most).max(pace.received);
                    share.extend(more).await?;
                }
                read.push(data);
            }
            Ok(Some(Err(_))) => {
                let text = "the body ended early, or its framing is broken";
                return Err(Failure::bad_request("body_lost", text).closing());
            }
            Err(_) => {
                if let Some(slow) = pace.too_slow() {
                    metrics.cut(Cut::BodyTimeout);
                    return Err(slow);
                }
            }
        }
    }
}

/// How fast a body comes, and how fast it has to.
struct Pace {
    started: Instant,
    deadline: Instant,
    next_look: Instant,
    /// Least bytes per second.
    rate: usize,
    received: usize,
}

impl Pace {
    fn new(edge: &Edge) -> Self {
        let started = Instant::now();
        Pace {
            started,
            deadline: started + edge.body_timeout,
            next_look: started + edge.body_rate_after,
            rate: edge.body_rate,
            received: 0,
        }
    }

    fn until(&self) -> Instant {
        self.deadline.min(self.next_look)
    }

    /// Looks at the clock; a failure if the body is late or slow.
    fn too_slow(&mut self) -> Option<Failure> {
        let now = Instant::now();
        let expected = self.rate as f64 * (now - self.started).as_secs_f64();
        self.next_look = now + LOOK;
        if now < self.deadline && self.received as f64 >= expected {
            return None;
        }
        let text = "the body comes too slowly";
        Some(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", text).closing())
    }
}

/// Pieces of a body; one piece is given back as it came, without a copy.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    rest: BytesMut,
}

impl Gathered {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = data;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(max: usize) -> Failure {
    let text = format!("the body is larger than {max} bytes");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", text).closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use futures_util::{StreamExt as _, stream};

    fn edge() -> Edge {
        Edge { body_rate: 100, ..Edge::default() }
    }

    async fn check(headers: &[(&str, &str)], body: Body, max: usize, want: Result<&str, u16>) {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.insert(http::HeaderName::try_from(*k).unwrap(), v.parse().unwrap());
        }
        let budget = Budget::new(2 * STEP, max);
        let got = read(&map, body, max, &edge(), budget.share(Some("key")), &Metrics::default()).await;
        let free = budget.state();
        match (got, want) {
            (Ok((bytes, share)), Ok(text)) => {
                assert_eq!(bytes, text);
                assert!(text.is_empty() || budget.state().1 < budget.state().0, "nothing held");
                drop(share);
                assert_eq!(budget.state().0, budget.state().1, "not given back");
            }
            (Err(f), Err(status)) => {
                assert_eq!(f.status.as_u16(), status, "{}", f.message);
                assert!(f.close && free.0 == free.1);
            }
            (got, want) => panic!("{got:?} {want:?}"),
        }
    }

    fn pieces(list: &[&'static str]) -> Body {
        let list: Vec<Result<&'static str, std::io::Error>> = list.iter().map(|s| Ok(*s)).collect();
        Body::from_stream(stream::iter(list))
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_bounded_in_size() {
        check(&[], Body::from("abc"), 3, Ok("abc")).await;
        check(&[], pieces(&["a", "", "bc"]), 3, Ok("abc")).await;
        check(&[], Body::empty(), 3, Ok("")).await;
        check(&[], pieces(&["ab", "cd"]), 3, Err(413)).await;
        // Refused from what is declared; the body would never come.
        let never = || Body::from_stream(stream::pending::<Result<&'static str, std::io::Error>>());
        check(&[("content-length", "4")], never(), 3, Err(413)).await;
        check(&[("content-length", "3145728")], never(), 4 * STEP, Err(503)).await;
        check(&[("content-length", "4")], never(), 8, Err(408)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn slow_and_broken_bodies_are_cut() {
        let drip = |bytes: usize| {
            let piece = "x".repeat(bytes);
            let drops = stream::unfold(piece, |p| async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Some((Ok::<_, std::io::Error>(p.clone()), p))
            });
            Body::from_stream(drops.take(30))
        };
        let begin = Instant::now();
        check(&[], drip(1), 1 << 20, Err(408)).await;
        assert_eq!(begin.elapsed().as_secs(), 10, "looked at after ten seconds, not at the deadline");
        let wanted = "x".repeat(30 * 60);
        check(&[], drip(60), 1 << 20, Ok(&wanted)).await;
        let lost = stream::iter([Ok("x"), Err(std::io::Error::other("gone"))]);
        check(&[], Body::from_stream(lost), 100, Err(400)).await;
    }

    /// A body of which so many bytes come, and then no more.
    fn waits(bytes: usize) -> Body {
        let come = stream::iter([Ok::<_, std::io::Error>("x".repeat(bytes))]);
        Body::from_stream(come.chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_what_has_come_of_it_and_not_what_it_declares() {
        for (declared, come, taken) in [
            (4 * STEP, 1, FIRST),
            (4 * STEP, FIRST + UNIT, 2 * FIRST + 2 * UNIT),
            (4 * STEP, 2 * STEP, 3 * STEP),
            (UNIT, 1, UNIT),
        ] {
            let budget = Budget::new(8 * STEP, 4 * STEP);
            let headers = HeaderMap::from_iter([(CONTENT_LENGTH, declared.into())]);
            let metrics = Metrics::default();
            let edge = edge();
            let reads = read(&headers, waits(come), 4 * STEP, &edge, budget.share(None), &metrics);
            let mut reads = std::pin::pin!(reads);
            assert!(timeout(Duration::from_secs(2), reads.as_mut()).await.is_err(), "it ended");
            let (all, free) = budget.state();
            assert_eq!(all - free, taken, "{declared} {come}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_leaves_something_to_the_others() {
        let budget = Budget::new(8 * STEP, STEP);
        let mut most = budget.share(Some("a"));
        most.extend(6 * STEP).await.unwrap();
        let mut more = budget.share(Some("a"));
        assert_eq!(more.extend(UNIT).await.unwrap_err().code, "body_budget");
        let mut other = budget.share(Some("b"));
        other.extend(2 * STEP).await.unwrap();
        assert_eq!(budget.state().1, 0);
        drop(most);
        more.extend(6 * STEP).await.unwrap();
        drop((more, other));
        assert_eq!(budget.state().0, budget.state().1, "not given back");
        assert!(budget.share(Some("c")).own.is_some());
        assert_eq!(budget.keys.lock().unwrap().len(), 1, "keys without a share are kept");
        // Whatever the share of a key is, one body fits.
        Budget::new(4 * STEP, 4 * STEP).share(Some("a")).extend(4 * STEP).await.unwrap();
    }

    #[test]
    fn only_json_is_taken() {
        for (given, ok) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/jsonp"), false),
            (None, false),
        ] {
            let mut h = HeaderMap::new();
            if let Some(g) = given {
                h.insert(CONTENT_TYPE, g.parse().unwrap());
            }
            assert_eq!(require_json(&h).is_ok(), ok, "{given:?}");
        }
    }
}
