//! Keeps a policy from running for a while that has reached its limits too often.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many failures …
const FAILURES: usize = 3;
/// … within so long put a policy away …
const WITHIN: Duration = Duration::from_secs(60);
/// … for so long, or until it is loaded again.
pub(crate) const AWAY: Duration = Duration::from_secs(60);

/// What is known of one policy.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Duration>,
    /// When it may run again.
    until: Option<Duration>,
    /// How often it was put away.
    times: u64,
}

impl Quarantine {
    /// Whether the policy is put away at `now`. One whose time is over begins with a clean slate.
    pub(crate) fn is_away(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.until.is_some_and(|until| now >= until) {
            state.until = None;
            state.failures.clear();
        }
        state.until.is_some()
    }

    /// How often it was put away since it was loaded.
    pub(crate) fn times(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).times
    }

    /// Counts a limit reached at `now`; whether that puts the policy away.
    pub(crate) fn failed(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures.retain(|at| now.saturating_sub(*at) < WITHIN);
        state.failures.push_back(now);
        let first = state.until.is_none() && state.failures.len() >= FAILURES;
        if first {
            state.until = Some(now.saturating_add(AWAY));
            state.times = state.times.saturating_add(1);
        }
        first
    }

    /// Lets the policy run again at once.
    pub(crate) fn release(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.until = None;
        state.failures.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_minute_put_it_away() {
        let q = Quarantine::default();
        let at = Duration::from_secs;
        assert!(!q.failed(at(0)) && !q.failed(at(30)) && !q.failed(at(61)));
        assert!(!q.is_away(at(61)));
        assert!(q.failed(at(62)) && q.is_away(at(62)));
        assert!(!q.failed(at(63)), "told once");
    }

    #[test]
    fn it_comes_back_after_its_time_or_when_it_is_let_go() {
        let q = Quarantine::default();
        let at = Duration::from_secs;
        let fail = |from: u64| (from..from + 3).map(|s| q.failed(at(s))).filter(|away| *away).count();
        assert_eq!(fail(0), 1);
        assert!(q.is_away(at(61)) && !q.is_away(at(62)));
        // One more failure does not put it away again at once.
        assert!(!q.failed(at(62)));
        assert_eq!((fail(63), q.times()), (1, 2));
        q.release();
        assert!(!q.is_away(at(66)));
    }
}
