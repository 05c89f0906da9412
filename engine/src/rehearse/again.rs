//! Whether a call of a test that failed is made again, as the engine would have it.

use super::case::{NO_CANDIDATE, Reply, error_kind};
use super::pieces;
use std::time::Duration;
use workflows::Ask;

/// Failures that may pass by themselves, in the words of `retry.codes`.
const PASSING: [&str; 5] = ["rate_limited", "unavailable", "timeout", "stream_lost", "malformed"];

/// The pause before another attempt, where the node asks for one after that failure: none where another model is asked,
/// else the whole of what its `backoff` allows. `models`: how many may be asked.
pub(super) fn again(reply: &Reply, ask: &Ask, tries: u32, models: usize) -> Option<Duration> {
    let retry = ask.retry.as_deref()?;
    let kind = match reply {
        Reply::Error(fault) if !fault.last && fault.kind != NO_CANDIDATE => fault.kind.as_str(),
        Reply::Stream(all) => pieces::broken(all)?,
        _ => return None,
    };
    let elsewhere = retry.reroute && usize::try_from(tries).is_ok_and(|tries| tries < models);
    let allowed = match PASSING.contains(&kind) {
        true => retry.covers(kind) && retry.max_attempts.is_none_or(|most| tries < most),
        false => elsewhere && error_kind(kind).another_may_do(),
    };
    allowed.then(|| if elsewhere { Duration::ZERO } else { retry.pause(tries, 1.0) })
}
