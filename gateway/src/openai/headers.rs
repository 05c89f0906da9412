//! The headers of an answer: what decided, what served, what it cost, what is left.

use engine::{Head, Tail};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

const DECISION: HeaderName = HeaderName::from_static("x-turnout-decision");
const MODEL: HeaderName = HeaderName::from_static("x-turnout-model");
const WORKFLOW: HeaderName = HeaderName::from_static("x-turnout-workflow");
const OVERHEAD: HeaderName = HeaderName::from_static("x-turnout-overhead-ms");
const COST: HeaderName = HeaderName::from_static("x-turnout-cost-usd");
const CACHE: HeaderName = HeaderName::from_static("x-turnout-cache");
const VERDICT: HeaderName = HeaderName::from_static("x-turnout-verdict");
const BUNDLE: HeaderName = HeaderName::from_static("x-turnout-bundle");
const SIMULATED: HeaderName = HeaderName::from_static("x-turnout-simulated");

/// What is known before the first byte.
pub(crate) fn head(headers: &mut HeaderMap, head: &Head) {
    put(headers, DECISION, &head.request_id);
    put(headers, MODEL, &head.model);
    put(headers, WORKFLOW, &head.workflow);
    put(headers, OVERHEAD, &format!("{:.3}", head.overhead_ms));
    put(headers, BUNDLE, &head.bundle);
    headers.insert(CACHE, HeaderValue::from_static("miss"));
    if head.simulated {
        headers.insert(SIMULATED, HeaderValue::from_static("true"));
    }
}

/// What is known when everything has ended.
pub(crate) fn tail(headers: &mut HeaderMap, tail: &Tail) {
    if tail.cost_known {
        put(headers, COST, &tail.cost.to_string());
    }
    headers.insert(VERDICT, HeaderValue::from_static(tail.verdict.as_str()));
}

/// What the limiters of this process have left. Requests: those in work at once, free again when one
/// ends. Tokens: the bytes of bodies in work at once, at four bytes a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) requests: (usize, usize),
    pub(crate) tokens: (usize, usize),
}

impl Allowance {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        let mut kind = |what: &str, (limit, left): (usize, usize)| {
            // Both limiters free up as soon as a request ends; a client that finds none left waits a second.
            let reset = if left > 0 { Duration::ZERO } else { Duration::from_secs(1) };
            let values =
                [("limit", limit.to_string()), ("remaining", left.to_string()), ("reset", duration(reset))];
            for (part, value) in values {
                if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{part}-{what}")) {
                    put(headers, name, &value);
                }
            }
        };
        kind("requests", self.requests);
        kind("tokens", self.tokens);
    }
}

/// A duration as OpenAI writes resets: `12ms`, `6s`, `1m30s`.
pub(crate) fn duration(d: Duration) -> String {
    let (s, ms) = (d.as_secs(), d.subsec_millis());
    match (s / 60, s % 60, ms) {
        (0, 0, 0) => "0s".to_owned(),
        (0, 0, ms) => format!("{ms}ms"),
        (0, s, _) => format!("{s}s"),
        (m, s, _) => format!("{m}m{s}s"),
    }
}

/// Text that no header may hold is left out: it could only come from a broken configuration.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_are_durations() {
        for (ms, want) in [(0, "0s"), (12, "12ms"), (6_000, "6s"), (90_000, "1m30s"), (3_600_000, "60m0s")] {
            assert_eq!(duration(Duration::from_millis(ms)), want);
        }
    }
}
