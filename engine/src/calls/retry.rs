//! After a call that failed: the same model again after a pause, another one, or none.

use super::Calls;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;
use tokio::time::Instant;
use types::directives::RetryRule;
use types::provider::{Error, ErrorKind};
use workflows::{Ask, Retry};

/// What the loop over candidates does next.
pub(super) enum Next {
    Again(Duration),
    Another,
    /// It would be the same one again, and the run is over before it might be asked.
    NoTime,
    GiveUp,
}

impl Calls {
    /// Another candidate is the better retry; the same one again only where there is no other. `made`: the calls that
    /// were made for the question, `tries`: those of this candidate.
    pub(super) fn next(
        &self,
        e: &Error,
        ask: &Ask,
        (made, tries): (u32, u32),
        more: bool,
        deadline: Instant,
        rng: &mut StdRng,
    ) -> Next {
        // The provider's own limit on a whole call leaves time for another model, ours does not.
        let timed_out = e.kind == ErrorKind::TotalTimeout && Instant::now() < deadline;
        if !e.kind.another_may_do() && !timed_out {
            return Next::GiveUp;
        }
        let own = ask.retry.as_deref();
        let policy = self.ceilings.retry.as_ref();
        if self.ends_with(ask, e.kind, made) {
            return Next::GiveUp;
        }
        if more {
            return Next::Another;
        }
        let usual = self.reach.retry;
        let most = policy.map_or(usual.max_attempts, |p| p.max);
        // What a node says of their number was kept above.
        let counted = own.is_some_and(|r| r.max_attempts.is_some());
        if !e.retryable() || !counted && tries >= most {
            return Next::GiveUp;
        }
        let pause = match own {
            Some(r) => r.pause(tries, rng.random()),
            None => pauses(policy, (usual.backoff, usual.backoff_max)).pause(tries, rng.random()),
        };
        let asked = e.retry_after.filter(|_| self.heeds(ask));
        let wait = asked.unwrap_or(pause);
        let then = Instant::now() + wait;
        match self.end_of_run(ask) {
            Some(end) if then >= end => Next::NoTime,
            _ if then >= deadline => Next::GiveUp,
            _ => Next::Again(wait),
        }
    }
}

impl Calls {
    /// Whether nothing follows on such a failure, whatever could be asked yet, when so many calls were `made` for the question.
    pub(super) fn ends_with(&self, ask: &Ask, kind: ErrorKind, made: u32) -> bool {
        // A policy knows better than the settings, a node better than a policy.
        match (ask.retry.as_deref(), &self.ceilings.retry) {
            (Some(own), _) => forbids(own, kind, made),
            (None, Some(rule)) => passes_over(rule, kind),
            (None, None) => false,
        }
    }

    /// Whether another model may serve a further attempt.
    pub(super) fn reroutes(&self, ask: &Ask) -> bool {
        let policy = || self.ceilings.retry.as_ref().is_none_or(|rule| !rule.stays);
        ask.retry.as_ref().map_or_else(policy, |own| own.reroute)
    }

    /// Whether a pause that a vendor asks for is kept.
    pub(super) fn heeds(&self, ask: &Ask) -> bool {
        let policy = || self.ceilings.retry.as_ref().is_none_or(|rule| !rule.impatient);
        ask.retry.as_ref().map_or_else(policy, |own| own.respect_retry_after)
    }
}

/// The pauses where no node says anything of them: those of a policy, as far as it does, else the first and the longest of
/// the settings.
fn pauses(policy: Option<&RetryRule>, (first, longest): (Duration, Duration)) -> Retry {
    let ms = |ms: Option<u64>, usual| ms.map_or(usual, Duration::from_millis);
    let initial = ms(policy.and_then(|p| p.backoff_ms), first);
    let usual = Retry { initial, max: longest, ..Retry::default() };
    match policy {
        None => usual,
        Some(p) => Retry {
            factor: p.factor.unwrap_or(usual.factor),
            max: ms(p.backoff_max_ms, longest),
            jitter: !p.exact,
            ..usual
        },
    }
}

/// Whether a policy has nothing tried again after that failure. A model that cannot serve the request at all is left for
/// another one all the same.
fn passes_over(rule: &RetryRule, kind: ErrorKind) -> bool {
    !rule.codes.is_empty() && kind.retry_name().is_some_and(|code| !rule.codes.iter().any(|c| c == code))
}

/// Whether a node forbids another call after that failure. What it says holds for all models together: to ask another one
/// is an attempt as well. A model that cannot serve the request at all is left for another one all the same.
fn forbids(retry: &Retry, kind: ErrorKind, made: u32) -> bool {
    let spent = retry.max_attempts.is_some_and(|most| made >= most);
    kind.retry_name().is_some_and(|code| spent || !retry.covers(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_what_is_tried_again_and_after_which_pause() {
        let rule = RetryRule { codes: vec!["timeout".to_owned()], ..RetryRule::default() };
        for (kind, want) in [
            (ErrorKind::FirstTokenTimeout, false),
            (ErrorKind::RateLimited, true),
            (ErrorKind::Unavailable, true),
            // Nothing that another attempt mends.
            (ErrorKind::Auth, false),
        ] {
            assert_eq!(passes_over(&rule, kind), want, "{kind:?}");
            assert!(!passes_over(&RetryRule::default(), kind), "{kind:?}");
        }
        let ms = |rule: Option<&RetryRule>, draw: f64| -> Vec<u128> {
            let pauses = pauses(rule, (Duration::from_millis(200), Duration::from_secs(1)));
            (1..5).map(|n| pauses.pause(n, draw).as_millis()).collect()
        };
        assert_eq!(ms(None, 1.0), [200, 400, 800, 1_000]);
        assert_eq!(ms(None, 0.5), [100, 200, 400, 500]);
        let short = RetryRule { backoff_ms: Some(10), ..RetryRule::default() };
        assert_eq!(ms(Some(&short), 1.0), [10, 20, 40, 80]);
        let exact = RetryRule { factor: Some(3.0), backoff_max_ms: Some(50), exact: true, ..short };
        assert_eq!(ms(Some(&exact), 0.1), [10, 30, 50, 50]);
    }

    #[test]
    fn what_a_node_says_of_attempts_holds_for_all_models_together() {
        let check = |most: Option<u32>, codes: &[&str], kind: ErrorKind, made: u32, want: bool| {
            let codes = codes.iter().map(ToString::to_string).collect();
            let retry = Retry { max_attempts: most, codes, ..Retry::default() };
            assert_eq!(forbids(&retry, kind, made), want, "{retry:?} {kind:?} {made}");
        };
        check(None, &[], ErrorKind::Unavailable, 9, false);
        check(Some(2), &[], ErrorKind::Unavailable, 1, false);
        check(Some(2), &[], ErrorKind::Unavailable, 2, true);
        check(Some(1), &[], ErrorKind::Auth, 1, false);
        check(None, &["rate_limited"], ErrorKind::Connect, 1, true);
        check(None, &["rate_limited"], ErrorKind::RateLimited, 1, false);
        check(None, &["rate_limited"], ErrorKind::ContextOverflow, 1, false);
    }
}
