//! How one limit stands, as the control API says it.

use serde_json::{Value, json};
use std::time::Duration;
use types::Usd;
use types::limits::{Limit, Metric, Standing};

/// Money in dollars, everything else as it is counted.
fn amount(limit: &Limit, n: u64) -> Value {
    match limit.metric {
        Metric::Usd => json!(Usd::from_nanos(i64::try_from(n).unwrap_or(i64::MAX))),
        _ => json!(n),
    }
}

/// The pace in the unit of the limit, rounded to what can be read.
fn pace(limit: &Limit, per_h: f64) -> Value {
    match limit.metric {
        Metric::Usd => json!(Usd::from_dollars(per_h / 1e9)),
        _ => json!((per_h * 1e3).round() / 1e3),
    }
}

/// Seconds until all of it is free again, begun ones counted; `null` where nothing has to come back, or nobody knows
/// when.
fn resets_in(s: &Standing) -> Value {
    match (s.limit.metric, s.resets_in) {
        (Metric::Concurrency, _) | (_, Duration::ZERO) => Value::Null,
        (_, wait) => json!(wait.as_millis().div_ceil(1_000)),
    }
}

/// Over what time it counts; `null` for what is in work, which counts while it lasts.
fn window(limit: &Limit) -> Value {
    match limit.metric {
        Metric::Concurrency => Value::Null,
        _ => json!(limit.window.to_string()),
    }
}

/// One row of `GET /admin/v1/budgets`.
pub(crate) fn row(tenant: &str, s: &Standing, now_ms: i64) -> Value {
    let held = s.limit.reserved > 0;
    let runs_out = s.runs_out_in().map(|d| d.as_secs());
    let at = runs_out.and_then(|secs| {
        let ms = now_ms.saturating_add(i64::try_from(secs.saturating_mul(1_000)).ok()?);
        jiff::Timestamp::from_millisecond(ms).ok().map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    });
    json!({
        "tenant": tenant, "holder": &*s.limit.holder, "metric": s.limit.metric,
        "limit": amount(&s.limit, s.limit.ceiling), "used": amount(&s.limit, s.used),
        "in_work": amount(&s.limit, s.in_work), "at_most": amount(&s.limit, s.at_most),
        "left": amount(&s.limit, s.left()), "reserved_premium": held.then(|| amount(&s.limit, s.limit.reserved)),
        "ordinary_left": held.then(|| amount(&s.limit, s.ordinary_left())), "window": window(&s.limit),
        "resets_in_s": resets_in(s), "state": s.pressure(),
        "pace_per_h": s.pace_per_h.map(|p| pace(&s.limit, p)), "runs_out_in_s": runs_out, "runs_out_at": at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::limits::Window;

    #[test]
    fn a_budget_that_does_not_last_says_when_it_ends() {
        let limit = Limit::rate("tenant:acme", Metric::Usd, 10.0, Window::Day).unwrap();
        let standing = Standing {
            limit,
            used: 6_000_000_000,
            in_work: 0,
            at_most: 0,
            resets_in: Duration::from_secs(36_000),
            pace_per_h: Some(1e9),
        };
        let said = row("acme", &standing, 1_782_907_200_000);
        assert_eq!(
            (&said["state"], &said["left"], &said["pace_per_h"]),
            (&json!("amber"), &json!(4.0), &json!(1.0))
        );
        assert_eq!(
            (&said["runs_out_in_s"], &said["runs_out_at"]),
            (&json!(14_400), &json!("2026-07-01T16:00:00Z"))
        );
        assert_eq!((&said["reserved_premium"], &said["ordinary_left"]), (&Value::Null, &Value::Null));
        let cut_off = Standing { in_work: 2_000_000_000, at_most: 1_500_000_000, ..standing.clone() };
        let told = row("acme", &cut_off, 0);
        assert_eq!(
            (&told["used"], &told["in_work"], &told["at_most"]),
            (&json!(6.0), &json!(2.0), &json!(1.5))
        );
        let held = Standing { limit: standing.limit.clone().reserving(0.25), ..standing.clone() };
        let said = row("acme", &held, 0);
        assert_eq!(
            (&said["left"], &said["reserved_premium"], &said["ordinary_left"]),
            (&json!(4.0), &json!(2.5), &json!(1.5))
        );
        let places = Limit::rate("tenant:acme", Metric::Concurrency, 2.0, Window::Sliding(1)).unwrap();
        let said = row("acme", &Standing { limit: places, ..standing.clone() }, 0);
        assert_eq!((&said["window"], &said["resets_in_s"]), (&Value::Null, &Value::Null));
        let idle = Standing { pace_per_h: Some(0.0), ..standing };
        assert_eq!(row("acme", &idle, 0)["runs_out_at"], Value::Null);
    }

    #[test]
    fn a_limit_says_when_it_is_free_again_where_that_means_anything() {
        let check = |metric, window, ms, want: Value| {
            let limit = Limit::rate("key:a", metric, 10.0, window).unwrap();
            let resets_in = Duration::from_millis(ms);
            let said = row(
                "acme",
                &Standing { limit, used: 0, in_work: 0, at_most: 0, resets_in, pace_per_h: None },
                0,
            );
            assert_eq!(said["resets_in_s"], want, "{metric:?} {ms}");
        };
        check(Metric::Usd, Window::Day, 36_000_000, json!(36_000));
        check(Metric::Requests, Window::Sliding(1_000), 0, Value::Null);
        check(Metric::Requests, Window::Sliding(1_000), 300, json!(1));
        check(Metric::Concurrency, Window::Sliding(0), 1_000, Value::Null);
    }
}
