//! What was spent since the counters of limits were written last, by the log: after a kill that counts, and not all that
//! had been set aside.

use std::collections::HashMap;
use std::sync::Arc;
use stores::limits::Kept;
use types::Usd;
use types::limits::Metric;
use types::outcome::{Billed, UNSETTLED};
use types::store::{OutcomeStore, RequestRecord, Stored};

/// How many of the newest requests are looked at, first and at most: of more, what was set aside counts.
const LOOKS: [usize; 2] = [512, 16_384];
/// Requests are recorded about in the order in which they ended, to so many milliseconds.
const DISORDER_MS: i64 = 10_000;

/// Money that somebody spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spend {
    pub(crate) tenant: String,
    /// Identifier of the key; empty = none was asked for.
    pub(crate) key: String,
    /// Unix milliseconds at which it was settled; `None` = the process ended before.
    pub(crate) at_ms: Option<i64>,
    /// Nano-dollars.
    pub(crate) usd: u64,
}

/// Where it stands what was spent.
pub(crate) struct Log {
    pub(crate) requests: Arc<dyn OutcomeStore>,
    /// What runs had spent that somebody walked when the process ended.
    pub(crate) runs: Vec<Spend>,
}

impl Log {
    /// Everything that was settled since a moment, or never; `None` = that is more than can be looked at.
    pub(super) async fn since(&self, at_ms: i64) -> Option<Vec<Spend>> {
        self.requests.flush().await.ok()?;
        for most in LOOKS {
            let newest = self.requests.recent(most).await.ok()?;
            let oldest = newest.last().map_or(i64::MIN, |s| s.record.outcome.ts_ms);
            if newest.len() < most || oldest < at_ms.saturating_sub(DISORDER_MS) {
                return Some(self.runs.iter().cloned().chain(spends(&newest)).collect());
            }
        }
        tracing::warn!(
            "more requests than can be looked at; what was set aside when the process ended counts as spent"
        );
        None
    }
}

/// What requests spent, the newest first. Those that this start found cut off are the newest of all.
fn spends(newest: &[Stored]) -> impl Iterator<Item = Spend> {
    let cut_off = newest.iter().take_while(|s| is_unsettled(&s.record)).count();
    newest.iter().enumerate().map(move |(i, stored)| spend(&stored.record, i < cut_off))
}

fn is_unsettled(record: &RequestRecord) -> bool {
    record.outcome.error.as_deref() == Some(UNSETTLED)
}

fn spend(record: &RequestRecord, cut_off: bool) -> Spend {
    let nanos = |usd: Usd| u64::try_from(usd.nanos()).unwrap_or(0);
    let account = record.outcome.account.as_ref();
    let late = account.map_or(&[] as &[Billed], |a| &a.late).iter().map(|b| nanos(b.cost_usd));
    let calls = record.run.calls().map(|call| nanos(call.counted().usd));
    Spend {
        tenant: record.outcome.tenant.clone(),
        key: account.map(|a| a.key.clone()).unwrap_or_default(),
        at_ms: (!cut_off).then_some(record.outcome.ts_ms),
        usd: calls.chain(late).fold(0, u64::saturating_add),
    }
}

/// The same, each under the name of the key as which its own counts.
pub(super) fn together(mut spent: Vec<Spend>, counts_as: &HashMap<String, String>) -> Vec<Spend> {
    for spend in &mut spent {
        if let Some(first) = counts_as.get(&spend.key) {
            first.clone_into(&mut spend.key);
        }
    }
    spent
}

/// What a counter that was written at a moment has used: what was settled then, and what was spent since. Never more than
/// it says itself; and that, where the log says nothing of what it counts.
pub(super) fn used(kept: &Kept, at_ms: i64, spent: &[Spend]) -> u64 {
    let Some(settled) = kept.settled.filter(|_| kept.metric == Metric::Usd) else { return kept.used };
    let whose: Box<dyn Fn(&Spend) -> bool> = match kept.holder.split_once(':') {
        Some(("key", id)) if !id.contains('/') => Box::new(move |s| s.key == id),
        Some(("tenant", id)) if !id.contains('/') => Box::new(move |s| s.tenant == id),
        _ => return kept.used,
    };
    let since = spent.iter().filter(|s| *s.tenant == *kept.tenant && whose(s));
    let since = since.filter(|s| s.at_ms.is_none_or(|at| at >= at_ms));
    since.fold(settled, |sum, s| sum.saturating_add(s.usd)).min(kept.used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::limits::Window;

    #[track_caller]
    fn check(holder: &str, metric: Metric, settled: Option<u64>, want: u64) {
        let (tenant, holder) = (Arc::from("acme"), Arc::from(holder));
        let kept = Kept { tenant, holder, metric, window: Window::Day, used: 100, settled, period: 1 };
        let spend = |tenant: &str, key: &str, at_ms, usd| Spend {
            tenant: tenant.to_owned(),
            key: key.to_owned(),
            at_ms,
            usd,
        };
        let spent = [
            spend("acme", "k", Some(49), 1),
            spend("acme", "k", Some(50), 2),
            spend("acme", "k", None, 4),
            spend("acme", "other", Some(60), 8),
            spend("stranger", "k", Some(60), 16),
            spend("acme", "next", Some(60), 32),
        ];
        let spent = together(spent.into(), &HashMap::from([("next".to_owned(), "k".to_owned())]));
        assert_eq!(used(&kept, 50, &spent), want, "{kept:?}");
    }

    #[test]
    fn what_was_spent_counts_and_not_what_was_set_aside() {
        check("key:k", Metric::Usd, Some(30), 68);
        check("tenant:acme", Metric::Usd, Some(30), 76);
        check("key:k", Metric::Usd, Some(99), 100);
        // Of these the log says nothing.
        check("key:k", Metric::Usd, None, 100);
        check("key:k", Metric::Tokens, Some(30), 100);
        check("key:k/model:a", Metric::Usd, Some(30), 100);
        check("rule:r:tenant=acme", Metric::Usd, Some(30), 100);
    }
}
