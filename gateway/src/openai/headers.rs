//! The headers of an answer: what decided, what served, what it cost, what is left.

use engine::{Head, Sum};
use http::Version;
use http::header::{HeaderMap, HeaderName, HeaderValue, TE, TRAILER};
use types::Usd;
use types::limits::{Metric, Standing};

/// The identifier of the record that tells how the answer, or the refusal, came about.
pub(crate) const DECISION: HeaderName = HeaderName::from_static("x-turnout-decision");
/// The run that a request has become.
pub(crate) const RUN: HeaderName = HeaderName::from_static("x-turnout-run");
const MODEL: HeaderName = HeaderName::from_static("x-turnout-model");
const WORKFLOW: HeaderName = HeaderName::from_static("x-turnout-workflow");
const OVERHEAD: HeaderName = HeaderName::from_static("x-turnout-overhead-ms");
const COST: HeaderName = HeaderName::from_static("x-turnout-cost-usd");
const CACHE: HeaderName = HeaderName::from_static("x-turnout-cache");
const VERDICT: HeaderName = HeaderName::from_static("x-turnout-verdict");
/// Names the configuration under which a request was decided.
pub(crate) const BUNDLE: HeaderName = HeaderName::from_static("x-turnout-bundle");
const SIMULATED: HeaderName = HeaderName::from_static("x-turnout-simulated");

/// What is known before the first byte.
pub(crate) fn head(headers: &mut HeaderMap, head: &Head) {
    put(headers, DECISION, &head.request_id);
    if !head.model.is_empty() {
        put(headers, MODEL, &head.model);
    }
    put(headers, WORKFLOW, &head.workflow);
    headers.insert(OVERHEAD, thousandths(head.overhead_ms));
    put(headers, BUNDLE, &head.bundle);
    headers.insert(CACHE, HeaderValue::from_static("miss"));
    of_rules(headers, head.headers.iter().map(|(name, value)| (&**name, &**value)));
    if head.simulated {
        headers.insert(SIMULATED, HeaderValue::from_static("true"));
    }
}

/// What rules add to the head of an answer.
pub(crate) fn of_rules<'h>(headers: &mut HeaderMap, added: impl Iterator<Item = (&'h str, &'h str)>) {
    for (name, value) in added {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            put(headers, name, value);
        }
    }
}

/// What is known when everything has ended.
pub(crate) fn sum(headers: &mut HeaderMap, sum: &Sum) {
    if sum.cost_known {
        put(headers, COST, &sum.cost.to_string());
    }
    headers.insert(VERDICT, HeaderValue::from_static(sum.verdict.as_str()));
}

/// Whether the client takes fields behind the body, where what is known only at the end has its place.
pub(crate) fn takes_trailers(version: Version, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    version > Version::HTTP_10 && codings.any(|c| c.trim().eq_ignore_ascii_case("trailers"))
}

/// Names the fields of [`sum`] that come behind the body.
pub(crate) fn announce_sum(headers: &mut HeaderMap) {
    headers.insert(TRAILER, HeaderValue::from_static("x-turnout-cost-usd, x-turnout-verdict"));
}

const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const USD: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-usd"),
    HeaderName::from_static("x-ratelimit-remaining-usd"),
    HeaderName::from_static("x-ratelimit-reset-usd"),
];

/// What the limiters of this process have left. Requests: those in work at once, free again when one
/// ends. Tokens: the bytes of bodies in work at once, at four bytes a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) requests: (usize, usize),
    pub(crate) tokens: (usize, usize),
}

impl Allowance {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        for (names, (limit, left)) in [(&REQUESTS, self.requests), (&TOKENS, self.tokens)] {
            let [of_limit, of_rest, of_reset] = names;
            headers.insert(of_limit, number(limit));
            headers.insert(of_rest, number(left));
            // Durations as OpenAI writes them. Both limiters free up as soon as a request ends; a client that
            // finds none left waits a second.
            let reset =
                if left > 0 { HeaderValue::from_static("0s") } else { HeaderValue::from_static("1s") };
            headers.insert(of_reset, reset);
        }
    }
}

/// A number that is not negative, to three decimals.
fn thousandths(x: f64) -> HeaderValue {
    // Saturates, and NaN is 0.
    decimal((x * 1e3).round() as u64, 3)
}

/// A whole number.
pub(crate) fn number(n: usize) -> HeaderValue {
    decimal(n as u64, 0)
}

/// `n` over ten to the power of `places`. Written by hand because every answer has half a dozen of these, and
/// formatting costs more than the headers themselves.
fn decimal(mut n: u64, places: usize) -> HeaderValue {
    // The longest number has twenty digits.
    let mut text = [b'0'; 24];
    let mut written = 0;
    for place in text.iter_mut().rev() {
        if places > 0 && written == places {
            *place = b'.';
        } else {
            *place = b'0' + (n % 10) as u8;
            n /= 10;
        }
        written += 1;
        let whole = if places > 0 { places + 1 } else { 0 };
        if n == 0 && written > whole {
            break;
        }
    }
    let text = text.get(text.len().saturating_sub(written)..).unwrap_or_default();
    HeaderValue::from_bytes(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Rates of the key and its tenant: of each kind the one that is used up most, as it counts for requests that are not
/// premium, which is how it refuses them, too.
pub(crate) fn standing(headers: &mut HeaderMap, all: &[Standing]) {
    let all: Vec<Standing> =
        all.iter().map(|s| Standing { limit: s.limit.ordinary(), ..s.clone() }).collect();
    for metric in [Metric::Requests, Metric::Tokens, Metric::Usd] {
        let of_kind = all.iter().filter(|s| s.limit.metric == metric);
        let share = |s: &&Standing| s.left().saturating_mul(1_000_000) / s.limit.ceiling.max(1);
        if let Some(tightest) = of_kind.min_by_key(share) {
            reached(headers, tightest);
        }
    }
}

/// The limit that refused the request, whoever set it: its figures stand in place of all others of its kind. Places
/// in work count as requests.
pub(crate) fn reached(headers: &mut HeaderMap, s: &Standing) {
    let (names, whole) = match s.limit.metric {
        Metric::Requests | Metric::Concurrency => (&REQUESTS, true),
        Metric::Tokens => (&TOKENS, true),
        Metric::Usd => (&USD, false),
    };
    let written = |n: u64| match whole {
        true => n.to_string(),
        false => Usd::from_nanos(i64::try_from(n).unwrap_or(i64::MAX)).to_string(),
    };
    let [of_limit, of_rest, of_reset] = names;
    put(headers, of_limit.clone(), &written(s.limit.ceiling));
    put(headers, of_rest.clone(), &written(s.left()));
    put(headers, of_reset.clone(), &millis(s));
}

fn millis(s: &Standing) -> String {
    format!("{}ms", s.resets_in.as_millis())
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
    fn numbers_are_written_as_they_are() {
        for n in [0, 1, 9, 10, 134_217_728, usize::MAX] {
            assert_eq!(number(n), n.to_string(), "{n}");
        }
    }

    #[test]
    fn milliseconds_have_three_decimals() {
        for (x, text) in [
            (0.0, "0.000"),
            (0.0004, "0.000"),
            (0.0006, "0.001"),
            (0.4161, "0.416"),
            (9.9999, "10.000"),
            (123_456.789, "123456.789"),
            (f64::NAN, "0.000"),
            (-1.0, "0.000"),
            (f64::INFINITY, "18446744073709551.615"),
        ] {
            assert_eq!(thousandths(x), text, "{x}");
        }
    }

    #[test]
    fn of_each_kind_the_limit_that_is_used_up_most_is_told() {
        let stands = |metric, amount, used| {
            let window = types::limits::Window::Day;
            let limit = types::limits::Limit::rate("key:k", metric, amount, window).unwrap();
            let resets_in = std::time::Duration::from_secs(60);
            Standing { limit, used, in_work: 0, at_most: 0, resets_in, pace_per_h: None }
        };
        let mut headers = HeaderMap::new();
        standing(
            &mut headers,
            &[
                stands(Metric::Usd, 10.0, 2_500_000_000),
                stands(Metric::Usd, 100.0, 2_500_000_000),
                stands(Metric::Requests, 9.0, 3),
            ],
        );
        let said = |name: &str| headers.get(format!("x-ratelimit-{name}")).and_then(|v| v.to_str().ok());
        assert_eq!(
            (said("limit-usd"), said("remaining-usd"), said("reset-usd")),
            (Some("10"), Some("7.5"), Some("60000ms"))
        );
        assert_eq!((said("limit-requests"), said("remaining-requests")), (Some("9"), Some("6")));
        assert_eq!(said("limit-tokens"), None);
    }

    #[test]
    fn what_is_held_back_for_premium_requests_is_not_told_as_left_to_others() {
        let limit = types::limits::Limit::rate("key:k", Metric::Usd, 10.0, types::limits::Window::Day);
        let limit = limit.unwrap().reserving(0.9);
        let resets_in = std::time::Duration::from_secs(60);
        let stands =
            Standing { limit, used: 250_000_000, in_work: 0, at_most: 0, resets_in, pace_per_h: None };
        let mut headers = HeaderMap::new();
        standing(&mut headers, &[stands]);
        let said = |name: &str| headers.get(format!("x-ratelimit-{name}")).and_then(|v| v.to_str().ok());
        assert_eq!((said("limit-usd"), said("remaining-usd")), (Some("1"), Some("0.75")));
    }

    #[test]
    fn what_is_left_is_told_as_openai_tells_it() {
        let mut headers = HeaderMap::new();
        Allowance { requests: (4, 0), tokens: (100, 60) }.write(&mut headers);
        let said = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        assert_eq!(said("x-ratelimit-remaining-requests"), Some("0"));
        assert_eq!(said("x-ratelimit-reset-requests"), Some("1s"));
        assert_eq!(said("x-ratelimit-limit-tokens"), Some("100"));
        assert_eq!(said("x-ratelimit-remaining-tokens"), Some("60"));
        assert_eq!(said("x-ratelimit-reset-tokens"), Some("0s"));
    }
}
