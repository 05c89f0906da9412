//! What a client is told of a limit that has no room: which one, for how long, and whether waiting helps.

use super::Counters;
use super::each::MEND;
use super::usd;
use crate::error::{Error, Kind};
use crate::who::Who;
use std::time::Duration;
use types::limits::{Amount, Limit, Metric, Reached, Refused, Shortage, Standing, Window};

/// What a client is told of a limit that has no room for the least that is needed.
pub(super) async fn refusal(store: &Counters, who: &Who, (refused, least): (Refused, Amount)) -> Error {
    let standing = match refused.last() {
        Some(Reached { tenant, limit, .. }) => {
            store.standing(tenant, std::slice::from_ref(limit)).await.pop()
        }
        None => None,
    };
    refusal_of(who, (refused, least), standing)
}

/// The same of a limit of which it is known how it stands.
pub(super) fn refusal_of(
    who: &Who,
    (refused, least): (Refused, Amount),
    standing: Option<Standing>,
) -> Error {
    let limit = refused.last().map(|reached| reached.limit.clone());
    let error = told(who, refused, least);
    let Some(limit) = limit else { return error };
    // Of requests and places it is always one.
    let counts = matches!(limit.metric, Metric::Tokens | Metric::Usd);
    let needs = Some(least.of(limit.metric)).filter(|needs| counts && *needs > 0);
    let standing = match limit.is_over_all() {
        // How much the others have used is not told.
        true => standing.map(|stands| Standing {
            used: limit.ceiling,
            in_work: 0,
            at_most: 0,
            pace_per_h: None,
            ..stands
        }),
        false => standing,
    };
    let used = standing.as_ref().filter(|_| !limit.is_over_all()).map(|stands| stands.used);
    let short = Some(Box::new(Shortage { limit, used, needs, about: false }));
    Error { limit: standing.map(Box::new), short, ..error }
}

/// When what is set aside for requests in work may have come back.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Why a limit admits a request at no time, by the least that this needs; `None` = it may once more of it is free.
fn never_fits(limit: &Limit, said: &str, least: Amount) -> Option<Error> {
    let (needs, metric) = (least.of(limit.metric), limit.metric);
    // One request is the least that there is, and limits admit it.
    if needs <= limit.ceiling || !matches!(metric, Metric::Tokens | Metric::Usd) {
        return None;
    }
    let needs = format!("at least {}", metric.told(needs));
    Some(Kind::TooLarge { limit: said.to_owned(), needs, mend: MEND, budget: metric == Metric::Usd }.into())
}

/// How a limit stands that has no room for the least that a request needs, and for how long.
fn state(Reached { limit, left, retry_after, .. }: &Reached, needs: u64, passes: bool) -> String {
    let metric = limit.metric;
    // The next request needs one more, whatever is left of it; and nobody knows what the others use.
    if needs <= *left || !matches!(metric, Metric::Tokens | Metric::Usd) {
        return "is reached".to_owned();
    }
    let needs = metric.told(needs);
    if limit.is_over_all() {
        return format!("is reached: the request needs at least {needs}");
    }
    let until = match limit.window {
        _ if passes => String::new(),
        Window::Day => " until midnight UTC".to_owned(),
        Window::Month => " until the month ends (UTC)".to_owned(),
        _ => format!("; enough is free in {} s", retry_after.as_millis().div_ceil(1_000)),
    };
    match left {
        0 => format!("is reached: the request needs at least {needs}, and nothing is left{until}"),
        left => {
            format!(
                "has too little left: the request needs at least {needs}, and {} are left{until}",
                metric.told(*left)
            )
        }
    }
}

fn told(who: &Who, refused: Refused, least: Amount) -> Error {
    let reached = match refused {
        Refused::Reached(all) => all.into_iter().next().ok_or_else(|| "no limit is named".to_owned()),
        Refused::Away(why) => Err(why),
    };
    match reached {
        Ok(reached) => {
            let Reached { limit, left, free, retry_after, .. } = &reached;
            let passes = free > left && *retry_after <= SOON;
            let budget = limit.metric == Metric::Usd && !passes;
            let mut all = who.principal.limits.iter().chain(who.principal.partial.iter().map(|(_, l)| l));
            let held = all.find(|l| l.counts_with(limit) && l.ceiling > limit.ceiling);
            let said = match held {
                None => limit.to_string(),
                Some(whole) => {
                    let (all, held) = (usd(whole.ceiling), usd(whole.reserved));
                    format!("{limit} ({all} less {held} USD that are held back for premium requests)")
                }
            };
            if let Some(error) = never_fits(limit, &said, least) {
                return error;
            }
            let said = match passes && limit.metric != Metric::Concurrency {
                true => format!(
                    "{said} (with what is set aside for requests in work, which give back what they do not use)"
                ),
                false => said,
            };
            let left = state(&reached, least.of(limit.metric), passes);
            let mut error: Error = Kind::Limit { limit: said, left, budget }.into();
            error.retry_after = Some(*retry_after);
            error
        }
        Err(why) => {
            tracing::error!("limits cannot be checked: {why}");
            Error { retry_after: Some(SOON), ..Error::from(Kind::LimitsAway) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use types::Clock;

    #[tokio::test]
    async fn a_refusal_says_how_much_is_needed_and_how_much_is_left_until_when() {
        let check = async |metric, amount, used: u64, needs: u64, want: &str| {
            let counted = Arc::new(stores::limits::Counters::default());
            let store = Counters::new(counted, Clock::stopped(0));
            let limit = Limit::rate("key:k", metric, amount, Window::Day).unwrap();
            let (who, limits) = (Who::open(), [limit].into());
            let of = |n| Amount { tokens: n, usd: n, ..Amount::default() };
            let taken = store.reserve(&who.tenant_id, &limits, of(used)).await.unwrap();
            store.settle(taken, of(used));
            let refused = store.reserve(&who.tenant_id, &limits, of(needs)).await.unwrap_err();
            let error = refusal(&store, &who, (refused, of(needs))).await;
            assert_eq!(error.to_string(), want);
            let short = error.short.unwrap();
            assert_eq!((short.used, short.needs), (Some(used), Some(needs)));
        };
        let want = "the limit of 300 tokens per day for key:k has too little left: the request needs at least 107 tokens, \
                    and 99 tokens are left until midnight UTC";
        check(Metric::Tokens, 300.0, 201, 107, want).await;
        let want = "the limit of 0.0001 USD per day for key:k is reached: the request needs at least 0.00001944 USD, and \
                    nothing is left until midnight UTC";
        check(Metric::Usd, 0.0001, 100_000, 19_440, want).await;
        let want = "request too large: it needs at least 0.00001944 USD, more than the limit of 0.00001 USD per day for \
                    key:k ever admits; shorten the input, ask for fewer `max_tokens`, or have the limit raised";
        check(Metric::Usd, 0.00001, 0, 19_440, want).await;
    }
}
