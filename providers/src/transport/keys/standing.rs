//! How a key stands, for those who operate the server.

use super::{Counting, OF_ALL, Slot, Why, unix_ms};
use crate::transport::quota::Meter;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::control::Quota;

/// A key of a provider, and how it stands. Never its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyState {
    /// The provider.
    pub provider: String,
    /// The name of the variable that holds it; empty where the provider needs none.
    pub name: String,
    /// What it can be used for.
    pub standing: Standing,
    /// The models with which it rests.
    pub models: Vec<(String, Rest)>,
    /// Calls under way with it.
    pub in_flight: u32,
    /// Requests of the vendor's present day that are counted under free tiers and other limits.
    pub day_requests: u32,
    /// Likewise tokens, input and output.
    pub day_tokens: u64,
    /// Limits of its own, each with what is used and set aside of it: requests, tokens, nano-dollars, calls.
    pub limits: Vec<(Quota, u64)>,
}

/// What a key can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every model that is not named beside it.
    Usable,
    /// For now nothing.
    Resting(Rest),
    /// Nothing: its provider has more keys than a call can go through.
    Unused,
}

/// The rest of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// `refused`, `no_credit`, `forbidden`, `no_model`, `throttled`, `failing` or `silent`.
    pub why: &'static str,
    /// Time left; zero: it is over, and nobody has been answered since.
    pub left: Duration,
}

impl KeyState {
    /// The string used in lists and metrics: `ready`, `partly` (it rests with some models), `resting` or `unused`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self.standing {
            Standing::Usable if self.models.is_empty() => "ready",
            Standing::Usable => "partly",
            Standing::Resting(_) => "resting",
            Standing::Unused => "unused",
        }
    }
}

impl Slot {
    pub(super) fn standing(&self, provider: &str, counting: Option<&Counting>, now: Instant) -> KeyState {
        let rest = |(why, left): (Why, Duration)| Rest { why: why.as_str(), left };
        let known = self.known();
        let standing = known.whole(now).map_or(Standing::Usable, |found| Standing::Resting(rest(found)));
        let each = known.models.iter();
        let mut models: Vec<(String, Rest)> =
            each.filter_map(|(model, h)| Some((model.to_string(), rest(h.known(now)?)))).collect();
        drop(known);
        models.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut day_requests, mut day_tokens) = (0_u32, 0_u64);
        let (meters, wall) = (self.meters.lock().unwrap_or_else(PoisonError::into_inner), unix_ms());
        // What counts under the tier of all models together counts there alone, where there is one.
        let of_all = meters.get(OF_ALL).into_iter();
        let counted: Vec<&Arc<Meter>> =
            if of_all.len() > 0 { of_all.collect() } else { meters.values().collect() };
        for used in counted.iter().filter_map(|m| m.day(wall)) {
            day_requests = day_requests.saturating_add(used.requests);
            day_tokens = day_tokens.saturating_add(used.tokens);
        }
        let (provider, name) = (provider.to_owned(), self.name.clone());
        let in_flight = self.in_flight.load(Relaxed);
        let limits = self.own.told(counting, wall);
        KeyState { provider, name, standing, models, in_flight, day_requests, day_tokens, limits }
    }
}
