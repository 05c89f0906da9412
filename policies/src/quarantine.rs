//! Keeps a policy from running that has reached its limits too often.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many failures …
const FAILURES: usize = 3;
/// … within so long put a policy away until it is loaded again.
const WITHIN: Duration = Duration::from_secs(60);

/// What is known of one policy.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<Duration>,
    away: bool,
}

impl Quarantine {
    /// Whether the policy is put away.
    pub(crate) fn is_away(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).away
    }

    /// Counts a limit reached at `now`; whether that puts the policy away.
    pub(crate) fn failed(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures.retain(|at| now.saturating_sub(*at) < WITHIN);
        state.failures.push_back(now);
        let first = !state.away && state.failures.len() >= FAILURES;
        state.away |= first;
        first
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
        assert!(!q.is_away());
        assert!(q.failed(at(62)) && q.is_away());
        assert!(!q.failed(at(63)), "told once");
    }
}
