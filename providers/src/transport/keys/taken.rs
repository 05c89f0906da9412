//! A key in use by one call, and what becomes of it by what the call hears.

use super::known::Left;
use super::own::Claimed;
use super::told::Told;
use super::{Counts, KeyPool, Slot, Why, unix_ms};
use http::HeaderMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use types::Usage;
use types::error::Blame;
use types::provider::Error;

/// Rests of so long and longer are told in the log: shorter ones are the daily business of a busy pool.
const WORTH_TELLING: Duration = Duration::from_secs(30);
/// A vendor that says of a model that it can be asked again after so long says that its quota is used up.
const LONG: Duration = Duration::from_secs(3600);

/// A key in use by one call.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(super) pool: Arc<KeyPool>,
    pub(super) key: usize,
    pub(super) model: Arc<str>,
    /// What was known of the key by then.
    pub(super) left: Left,
    /// By then it is silent.
    pub(super) patient_until: Instant,
    /// What it says of its key is known.
    pub(super) heard: bool,
    /// With what is counted for the call.
    pub(super) counted: Counts,
    /// And what is set aside on limits of the key's own.
    pub(super) claimed: Option<Claimed>,
}

impl Taken {
    pub(crate) fn headers(&self) -> HeaderMap {
        self.slot().map(|s| s.headers.clone()).unwrap_or_default()
    }

    fn slot(&self) -> Option<&Slot> {
        self.pool.slots.get(self.key)
    }

    /// Takes note of what the head of an answer says of the vendor's own limits.
    pub(crate) fn told(&self, head: &HeaderMap) {
        let Some(told) = Told::read(head, Instant::now(), SystemTime::now()) else { return };
        let Some(slot) = self.slot() else { return };
        self.pool.told.store(true, Relaxed);
        // Models of the matrix: bounded by its size.
        slot.told.lock().unwrap_or_else(PoisonError::into_inner).insert(self.model.clone(), told);
    }

    /// The vendor took the key: it answers, or finds fault with the request.
    pub(crate) fn accepted(&mut self) {
        self.heard = true;
        let now = Instant::now();
        let Some(slot) = self.slot() else { return };
        if slot.known().accepted(&self.model, self.left, now) {
            tracing::debug!(provider = %self.pool.provider, key = %slot.name, model = %self.model, "a key is taken again");
        }
    }

    /// What was really used.
    pub(crate) fn used(&mut self, usage: &Usage) {
        if let Some(claimed) = &mut self.claimed {
            claimed.used(usage);
        }
        // What cannot be says nothing: what was taken for the call stays taken.
        for (meter, counted) in self.counted.iter().flatten().filter(|_| usage.why.is_none()) {
            // A stream may report more than once, each time the whole.
            meter.correct(unix_ms(), counted, usage.total());
        }
    }

    /// So many bytes of the answer have come by now.
    pub(crate) fn said(&mut self, bytes: usize) {
        if let Some(claimed) = &mut self.claimed {
            claimed.said(bytes);
        }
    }

    /// All of the answer has come.
    pub(crate) fn ended(&mut self) {
        if let Some(claimed) = &mut self.claimed {
            claimed.ended();
        }
    }

    /// The vendor has not served the call: its tokens are given back, and the request where it was not even `sent`. Many
    /// vendors count requests that they refuse.
    pub(crate) fn unserved(&mut self, sent: bool) {
        if let Some(claimed) = &mut self.claimed {
            claimed.unserved(sent);
        }
        for (meter, counted) in self.counted.iter().flatten() {
            meter.give_back(unix_ms(), counted, sent);
        }
    }

    /// Takes note of what a failed call says of its key. True if the fault may be the key's, so that another may do.
    pub(crate) fn failed(&mut self, error: &Error) -> bool {
        let Some(why) = Why::of(error) else {
            if error.status.is_some() && error.blame() == Blame::Client {
                self.accepted();
            }
            return false;
        };
        let long = error.retry_after.filter(|t| why == Why::Throttled && *t >= LONG);
        if error.daily || long.is_some() {
            // Of the model where it has a tier of its own, else of all: it is remembered with what was used of the day. What
            // stands in `limits` for paid keys is no tier that vendors count by: there models rest one by one.
            let [of_all, own] = &self.counted;
            let narrowest = own.as_ref().or(of_all.as_ref().filter(|_| self.pool.free));
            narrowest.inspect(|(meter, _)| meter.close(unix_ms(), long));
        }
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
