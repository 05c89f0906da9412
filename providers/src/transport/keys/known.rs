//! What is known against a key: with every model, and with one.

use super::Why;
use super::rest::{Health, Stamp, State};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is known against a key.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// With every model.
    pub(super) key: Health,
    /// With one; nothing is known against it with those that are not here. Models of the matrix: bounded by its size.
    pub(super) models: HashMap<Arc<str>, Health>,
}

impl Known {
    pub(super) fn state(&self, model: &str, now: Instant) -> State {
        let of_key = self.key.state(now);
        self.models.get(model).map_or(of_key, |h| of_key.and(h.state(now)))
    }

    pub(super) fn leaves(&mut self, model: &str, now: Instant) -> (Stamp, Stamp) {
        let of_model = self.models.get_mut(model).map_or(0, |h| h.leaves(now));
        (self.key.leaves(now), of_model)
    }

    /// True if that ends a rest.
    pub(super) fn accepted(&mut self, model: &str, left: (Stamp, Stamp), now: Instant) -> bool {
        let of_key = self.key.accepted(left.0, now);
        let Some(health) = self.models.get_mut(model) else { return of_key };
        let ended = health.accepted(left.1, now) || of_key;
        if health.is_blank(now) {
            self.models.remove(model);
        }
        ended
    }

    /// How long the key rests, if a rest begins.
    pub(super) fn failed(
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

    pub(super) fn unheard(&mut self, model: &str, left: (Stamp, Stamp)) {
        self.key.unheard(left.0);
        if let Some(health) = self.models.get_mut(model) {
            health.unheard(left.1);
        }
    }
}
