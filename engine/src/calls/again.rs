//! After a call that failed: the same model again after a pause, another one, or none.

use super::Calls;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::time::Instant;
use types::provider::{Error, ErrorKind};
use workflows::Ask;

/// What the loop over candidates does next.
pub(super) enum Next {
    Again(Duration),
    Another,
    GiveUp,
}

impl Calls {
    /// Another candidate is the better retry; the same one again only where there is no other.
    pub(super) fn next(
        &self,
        e: &Error,
        ask: &Ask,
        tries: u32,
        more: bool,
        deadline: Instant,
        rng: &mut StdRng,
    ) -> Next {
        // The provider's own limit on a whole call leaves time for another model, ours does not.
        let timed_out = e.kind == ErrorKind::TotalTimeout && Instant::now() < deadline;
        if !e.kind.another_may_do() && !timed_out {
            return Next::GiveUp;
        }
        if more {
            return Next::Another;
        }
        let mut usual = self.reach.retry;
        let own = ask.retry.as_deref();
        // A policy knows better than the settings, a node better than a policy.
        let policy = self.ceilings.retry;
        usual.backoff = policy.and_then(|p| p.backoff_ms).map_or(usual.backoff, Duration::from_millis);
        let set = policy.map_or(usual.max_attempts, |p| p.max);
        let most = own.and_then(|r| r.max_attempts).unwrap_or(set);
        if !e.retryable() || tries >= most || own.is_some_and(|r| !r.covers(code(e.kind))) {
            return Next::GiveUp;
        }
        let pause = match own {
            Some(r) => r.pause(tries, rng.random()),
            None => {
                let ceiling = usual.backoff.saturating_mul(1 << tries.saturating_sub(1).min(10));
                ceiling.min(usual.backoff_max).mul_f64(rng.random())
            }
        };
        let asked = e.retry_after.filter(|_| own.is_none_or(|r| r.respect_retry_after));
        let wait = asked.unwrap_or(pause);
        if Instant::now() + wait >= deadline { Next::GiveUp } else { Next::Again(wait) }
    }
}

/// A failure by the name that workflow files give it.
const fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimited | ErrorKind::FreeTier => "rate_limited",
        ErrorKind::FirstTokenTimeout | ErrorKind::InterTokenTimeout | ErrorKind::TotalTimeout => "timeout",
        ErrorKind::StreamLost => "stream_lost",
        ErrorKind::Malformed | ErrorKind::TooLarge => "malformed",
        _ => "unavailable",
    }
}
