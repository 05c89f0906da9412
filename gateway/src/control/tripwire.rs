//! Notices a key that spends ten times as fast as it used to: it may be in wrong hands, or in a loop.
//!
//! What a key spends in an hour is held against the mean of its own earlier hours in which it spent anything: together
//! with the keys that it was rotated from and to, as its limits are. A key trips once an hour at most; what follows is told in the log, on the trail and to `webhooks.notify_url`, and is
//! `keys.tripwire_action`. Hours are kept in memory: after a restart a key has to be known anew.

use super::actor::Actor;
use super::plane::Plane;
use crate::clock;
use crate::error::Failure;
use crate::notices::Told;
use http::StatusCode;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::store::RequestRecord;

/// How many times its hourly mean a key has to spend.
const TIMES: f64 = 10.0;
/// Hours in which it must have spent something before its mean says anything, and the most that the mean reaches back.
const KNOWN: u32 = 3;
const REACH: u32 = 168;
/// US dollars within an hour below which nobody is told.
const LEAST: f64 = 1.0;
/// Keys watched. Beyond that the one that was silent longest is forgotten. Of those that tripped in the present hour as
/// many are known besides: they are silent because they are refused.
const KEYS: usize = 16_384;
/// Trips that wait for what follows from them.
const QUEUE: usize = 64;
const HOUR_MS: i64 = 3_600_000;

/// What follows when a key trips: `keys.tripwire_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TripwireAction {
    /// It is told, and nothing else.
    #[default]
    Alert,
    /// The key is refused (429) until the hour is over.
    Throttle,
    /// The key is refused (403) until somebody sets `suspended: false`.
    Suspend,
}

impl TripwireAction {
    /// The strings of the configuration.
    pub const NAMES: &'static [&'static str] = &["alert", "throttle", "suspend"];

    /// The action of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "alert" => TripwireAction::Alert,
            "throttle" => TripwireAction::Throttle,
            "suspend" => TripwireAction::Suspend,
            _ => return None,
        })
    }

    /// The string of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TripwireAction::Alert => "alert",
            TripwireAction::Throttle => "throttle",
            TripwireAction::Suspend => "suspend",
        }
    }
}

/// A key that tripped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trip {
    /// Which one spent what was too much.
    key: String,
    /// Under whose name all of its line count.
    line: String,
    tenant: String,
    request: String,
    /// US dollars of this hour, and of its usual hour.
    spent: f64,
    usual: f64,
}

/// What a key spends.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Unix time in hours.
    hour: i64,
    /// US dollars in it.
    spent: f64,
    /// Mean of the hours before it in which something was spent.
    usual: f64,
    hours: u32,
    tripped: bool,
}

/// Keys that tripped in one hour.
#[derive(Debug, Default)]
struct Tripped {
    /// Unix time in hours.
    hour: i64,
    keys: HashSet<Arc<str>>,
}

impl Tripped {
    fn add(&mut self, key: &str, hour: i64) {
        if hour != self.hour {
            (self.hour, self.keys) = (hour, HashSet::new());
        }
        if self.keys.len() < KEYS {
            self.keys.insert(key.into());
        }
    }

    fn has(&self, key: &str, hour: i64) -> bool {
        self.hour == hour && self.keys.contains(key)
    }
}

impl Pace {
    fn turn(&mut self, hour: i64) {
        // A clock that steps back begins no hour anew.
        if hour <= self.hour {
            return;
        }
        if self.spent > 0.0 {
            self.hours = self.hours.saturating_add(1).min(REACH);
            // What is out of the usual makes it little more usual: whoever has the key would else raise the bar.
            let spent = if self.tripped { self.spent.min(2.0 * self.usual) } else { self.spent };
            self.usual += (spent - self.usual) / f64::from(self.hours);
        }
        (self.hour, self.spent, self.tripped) = (hour, 0.0, false);
    }
}

/// Watches what keys spend.
pub(crate) struct Tripwire {
    action: TripwireAction,
    paces: Cache<Arc<str>, Arc<Mutex<Pace>>>,
    tripped: Mutex<Tripped>,
    to: mpsc::Sender<Trip>,
}

/// What comes of it.
pub(crate) struct Trips(mpsc::Receiver<Trip>);

/// The two ends.
pub(crate) fn tripwire(action: TripwireAction) -> (Tripwire, Trips) {
    let (to, from) = mpsc::channel(QUEUE);
    let paces = Cache::builder().max_capacity(KEYS as u64).eviction_policy(EvictionPolicy::lru()).build();
    (Tripwire { action, paces, tripped: Mutex::default(), to }, Trips(from))
}

impl Tripwire {
    fn tripped(&self) -> MutexGuard<'_, Tripped> {
        self.tripped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a request cost; `counted` says of a key under whose name its line counts. Never waits.
    pub(crate) fn saw(&self, record: &RequestRecord, counted: impl Fn(&str) -> String) {
        let Some(account) = record.outcome.account.as_ref().filter(|a| !a.key.is_empty()) else { return };
        let spent = record.outcome.cost_usd.dollars();
        let line = counted(&account.key);
        let Some((spent, usual)) = self.add(&line, spent, clock::unix_ms()) else { return };
        let trip = Trip {
            key: account.key.clone(),
            line,
            tenant: record.decision.tenant.clone(),
            request: record.decision.request_id.clone(),
            spent,
            usual,
        };
        if self.to.try_send(trip).is_err() {
            tracing::error!(
                key = account.key,
                "a key spends ten times its usual, and too many others do for it to be told"
            );
        }
    }

    /// So much was spent: what of this hour and what of a usual one, if that trips the key.
    fn add(&self, key: &str, usd: f64, now_ms: i64) -> Option<(f64, f64)> {
        let hour = now_ms.div_euclid(HOUR_MS);
        let pace = self.paces.get(key).unwrap_or_else(|| self.paces.get_with(key.into(), Arc::default));
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.turn(hour);
        pace.spent += usd.max(0.0);
        let trips = pace.hours >= KNOWN && pace.spent >= LEAST && pace.spent > TIMES * pace.usual;
        if !trips || pace.tripped {
            return None;
        }
        pace.tripped = true;
        self.tripped().add(key, pace.hour);
        Some((pace.spent, pace.usual))
    }

    /// What a key that is held is told.
    pub(super) fn refusal(&self, key: &str, now_ms: i64) -> Option<Failure> {
        let wait = self.holds(key, now_ms)?;
        let text = "the key spent ten times its usual within this hour; it works again when the hour is over";
        let mut failure = Failure::busy("spend_tripwire", text, wait);
        failure.status = StatusCode::TOO_MANY_REQUESTS;
        Some(failure)
    }

    /// How long a key is still refused because it tripped.
    fn holds(&self, key: &str, now_ms: i64) -> Option<Duration> {
        if self.action != TripwireAction::Throttle {
            return None;
        }
        let hour = now_ms.div_euclid(HOUR_MS);
        let tripped = self.tripped().has(key, hour);
        let left = HOUR_MS.saturating_sub(now_ms.rem_euclid(HOUR_MS));
        tripped.then(|| Duration::from_millis(left.unsigned_abs()))
    }
}

impl Trips {
    /// Tells of keys that trip, and suspends them where that is asked for, until the server stops.
    pub(crate) async fn run(
        mut self,
        plane: &Plane,
        told: &Told,
        action: TripwireAction,
        stop: CancellationToken,
    ) {
        loop {
            let trip = tokio::select! {
                () = stop.cancelled() => return,
                trip = self.0.recv() => trip,
            };
            let Some(trip) = trip else { return };
            tell(&trip, plane, told, action);
            if action != TripwireAction::Suspend {
                continue;
            }
            // Whoever spends by one of a line may have the others as well.
            for key in plane.directory().line(&trip.line) {
                if let Err(e) = plane.suspend_key(&Actor::tripwire(), &key).await {
                    tracing::error!(key, code = e.code, "a key that tripped could not be suspended");
                }
            }
        }
    }
}

fn tell(trip: &Trip, plane: &Plane, told: &Told, action: TripwireAction) {
    let Trip { key, tenant, request, spent, usual, .. } = trip;
    let text = format!(
        "key {key} spent {spent:.2} USD within this hour and {usual:.2} in its usual one (keys.tripwire_action: {})",
        action.as_str()
    );
    tracing::warn!(key, tenant, "{text}");
    let mut event = Actor::tripwire().event("key.tripped", key);
    (event.tenant, event.request) = (tenant.clone(), request.clone());
    event.detail.insert("action".to_owned(), action.as_str().into());
    event.detail.insert("spent_usd".to_owned(), format!("{spent:.6}").into());
    event.detail.insert("usual_usd".to_owned(), format!("{usual:.6}").into());
    plane.note(event);
    told.tripped(tenant, request, text);
}

#[cfg(test)]
mod tests {
    use super::super::settled::tests::cut_off;
    use super::*;
    use crate::control::keys::{Known, Rotation, Spec};
    use crate::control::plane::Opening;
    use serde_json::Value;
    use std::sync::Arc;
    use stores::control::ControlMemory;
    use types::Usd;

    /// Spends in hours from 100 on; the last amount is what may trip.
    fn check(hours: &[f64], trips: Option<(f64, f64)>) {
        let (wire, _trips) = tripwire(TripwireAction::Throttle);
        let mut last = None;
        let mut now = 0;
        for (hour, usd) in (100..).zip(hours) {
            now = hour * HOUR_MS + 600_000;
            last = wire.add("k", *usd, now);
        }
        assert_eq!(last, trips, "{hours:?}");
        assert_eq!(wire.holds("k", now), trips.map(|_| Duration::from_secs(3_000)), "{hours:?}");
        assert_eq!(wire.holds("k", now + HOUR_MS), None);
        assert_eq!(wire.holds("another", now), None);
        assert!(trips.is_none() || wire.add("k", 1_000.0, now).is_none(), "once an hour");
    }

    #[test]
    fn a_key_trips_at_ten_times_its_own_mean() {
        check(&[1.0, 2.0, 3.0, 20.5], Some((20.5, 2.0)));
        check(&[1.0, 2.0, 3.0, 20.0], None);
        // Hours without spending are no part of the mean: a job of the night is no alarm.
        check(&[2.0, 0.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0], None);
        check(&[2.0, 2.0, 2.0, 200.0, 26.0], Some((26.0, 2.5)));
        // Nobody knows yet what is usual, or it is not worth a word.
        check(&[0.01, 0.01, 50.0], None);
        check(&[0.001, 0.001, 0.001, 0.9], None);
    }

    #[test]
    fn only_so_many_keys_are_watched_and_only_throttling_refuses() {
        let (wire, _trips) = tripwire(TripwireAction::Alert);
        for i in 0..KEYS + 10 {
            wire.add(&format!("k{i}"), 0.1, HOUR_MS * i64::try_from(i).unwrap());
        }
        wire.paces.run_pending_tasks();
        assert_eq!(wire.paces.entry_count(), KEYS as u64);
        for hour in 0..3 {
            wire.add("k", 0.1, (20_000 + hour) * HOUR_MS);
        }
        assert!(wire.add("k", 5.0, 20_003 * HOUR_MS).is_some());
        assert_eq!(wire.holds("k", 20_003 * HOUR_MS), None);
    }

    #[test]
    fn a_key_that_tripped_is_held_however_many_others_come() {
        let (wire, _trips) = tripwire(TripwireAction::Throttle);
        for (hour, usd) in [(100, 1.0), (101, 1.0), (102, 1.0), (103, 50.0)] {
            wire.add("k", usd, hour * HOUR_MS);
        }
        let now = 103 * HOUR_MS + 60_000;
        for i in 0..2 * KEYS {
            wire.add(&format!("k{i}"), 0.1, now);
        }
        wire.paces.run_pending_tasks();
        assert!(!wire.paces.contains_key("k"), "it was silent longest");
        assert!(wire.holds("k", now).is_some());
        assert_eq!(wire.holds("k", now + HOUR_MS), None);
    }

    fn known() -> Known {
        Known {
            models: Vec::new(),
            ready: Vec::new(),
            pools: Vec::new(),
            selects: Box::new(|_| true),
            workflows: Vec::new(),
            default_budget: 1.0,
        }
    }

    /// What a key spent that dies in the middle of its request, for want of a whole one.
    fn record(key: &str, usd: f64) -> RequestRecord {
        cut_off(("req_1", clock::unix_ms()), ("default", key), (Usd::from_dollars(usd), None))
    }

    /// From a record to all that follows: a notice, a line of the trail, and what the key is told then.
    async fn follows(action: TripwireAction, refused: Option<(u16, &str)>, actions: &[&str]) {
        let data = tempfile::tempdir().unwrap();
        let (wire, trips) = tripwire(action);
        let wire = Arc::new(wire);
        let opening = Opening {
            store: Arc::new(ControlMemory::default()),
            data: Some(data.path()),
            master: None,
            master_before: None,
            anchor: None,
            tripwire: wire.clone(),
        };
        let plane = Plane::open(opening).await.unwrap();
        let made = plane.create_key(&Actor::local(), Spec::default(), &known()).await.unwrap();
        let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
        for hours_ago in [3, 2, 1] {
            assert_eq!(wire.add(id, 0.5, clock::unix_ms() - hours_ago * HOUR_MS), None);
        }
        assert!(plane.authenticate(Some(text)).is_ok());
        let counted = |key: &str| plane.directory().counted(key);
        wire.saw(&record(id, 6.0), counted);

        let (told, mut notices) = crate::notices::channel(Arc::default());
        let stop = CancellationToken::new();
        let lines = || {
            let text = std::fs::read_to_string(data.path().join("audit/admin-000001.jsonl")).unwrap();
            let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
            lines.filter(|l| l["actor"]["id"] == "tripwire").collect::<Vec<_>>()
        };
        let look = async {
            while lines().len() < actions.len() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(trips.run(&plane, &told, action, stop.clone()), look) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        let found: Vec<_> = lines().iter().map(|l| l["action"].as_str().unwrap().to_owned()).collect();
        assert_eq!(found, actions);
        let tripped = &lines()[0];
        assert_eq!((&tripped["target"], &tripped["request"]), (&Value::from(id), &Value::from("req_1")));
        assert_eq!(tripped["detail"]["spent_usd"], "6.000000");
        let (rule, message) = notices.waiting().unwrap();
        assert!(rule == "tripwire" && message.contains(id) && message.contains(action.as_str()), "{message}");
        assert_eq!(notices.waiting(), None, "once an hour");
        let refusal = plane.authenticate(Some(text)).err();
        let said = refusal.as_ref().map(|f| (f.failure.status.as_u16(), &*f.failure.code));
        assert_eq!(said, refused, "{action:?}");
    }

    /// A key that was rotated has the history of its line, and what follows is for all of it.
    #[tokio::test]
    async fn a_successor_trips_at_what_its_line_spends() {
        for action in [TripwireAction::Throttle, TripwireAction::Suspend] {
            let (wire, trips) = tripwire(action);
            let wire = Arc::new(wire);
            let opening = Opening {
                store: Arc::new(ControlMemory::default()),
                data: None,
                master: None,
                master_before: None,
                anchor: None,
                tripwire: wire.clone(),
            };
            let plane = Plane::open(opening).await.unwrap();
            let made = plane.create_key(&Actor::local(), Spec::default(), &known()).await.unwrap();
            let (id, old) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
            for hours_ago in [3, 2, 1] {
                assert_eq!(wire.add(id, 0.5, clock::unix_ms() - hours_ago * HOUR_MS), None);
            }
            let next = plane.rotate_key(&Actor::local(), id, &Rotation::default()).await.unwrap();
            let (next, new) = (next["id"].as_str().unwrap(), next["key"].as_str().unwrap());
            let works =
                |text: &str| plane.authenticate(Some(text)).map_err(|f| f.failure.code.to_string()).err();
            assert_eq!((works(old), works(new)), (None, None));
            let counted = |key: &str| plane.directory().counted(key);
            wire.saw(&record(next, 6.0), counted);
            let (told, _notices) = crate::notices::channel(Arc::default());
            let stop = CancellationToken::new();
            let refused = match action {
                TripwireAction::Suspend => "key_suspended",
                _ => "spend_tripwire",
            };
            let look = async {
                while works(old).as_deref() != Some(refused) || works(new).as_deref() != Some(refused) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                stop.cancel();
            };
            let both = async { tokio::join!(trips.run(&plane, &told, action, stop.clone()), look) };
            tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_follows_when_a_key_trips_is_what_was_asked_for() {
        follows(TripwireAction::Alert, None, &["key.tripped"]).await;
        follows(TripwireAction::Throttle, Some((429, "spend_tripwire")), &["key.tripped"]).await;
        follows(TripwireAction::Suspend, Some((403, "key_suspended")), &["key.tripped", "key.suspend"]).await;
    }
}
