//! What was spent since the counters of limits were written last, by the log: after a kill that counts, and not all that
//! had been set aside.

use std::collections::HashMap;
use std::sync::Arc;
use stores::limits::Kept;
use types::Usd;
use types::limits::{ALL, Metric, mark};
use types::outcome::{Billed, UNSETTLED};
use types::run::CallRecord;
use types::store::{self, OutcomeStore, RequestRecord, Stored};

/// How many of the newest requests are looked at, first and at most: of more, what was set aside counts.
const LOOKS: [usize; 2] = [512, 16_384];
/// Requests are recorded about in the order in which they ended, and what is done after a response is settled so many
/// milliseconds later at most.
const DISORDER_MS: i64 = 5 * 60_000 + 10_000;

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
    /// What of them was beyond what had been set aside.
    pub(crate) beyond: u64,
    /// `None` = nobody knows.
    pub(crate) tokens: Option<u64>,
    /// The counters that it counts on beside those of key and tenant ([`types::limits::mark`]); `None` = nobody knows.
    pub(crate) counters: Option<Vec<u64>>,
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
        match self.settled(at_ms).await {
            Ok(spent) => spent,
            Err(error) => {
                tracing::warn!(%error, "the log cannot be read; what was set aside when the process ended counts as spent");
                None
            }
        }
    }

    async fn settled(&self, at_ms: i64) -> Result<Option<Vec<Spend>>, store::Error> {
        self.requests.flush().await?;
        for most in LOOKS {
            let newest = self.requests.recent(most).await?;
            let oldest = newest.last().map_or(i64::MIN, |s| s.record.outcome.ts_ms);
            if newest.len() < most || oldest < at_ms.saturating_sub(DISORDER_MS) {
                return Ok(Some(self.runs.iter().cloned().chain(spends(&newest)).collect()));
            }
        }
        tracing::warn!(
            "more requests than can be looked at; what was set aside when the process ended counts as spent"
        );
        Ok(None)
    }
}

/// What requests spent, the newest first. Those that this start found cut off are the newest of all.
fn spends(newest: &[Stored]) -> impl Iterator<Item = Spend> {
    let cut_off = newest.iter().take_while(|s| is_unsettled(&s.record)).count();
    let of =
        move |(i, stored): (usize, &Stored)| [Some(spend(&stored.record, i < cut_off)), late(&stored.record)];
    newest.iter().enumerate().flat_map(of).flatten()
}

fn is_unsettled(record: &RequestRecord) -> bool {
    record.outcome.error.as_deref() == Some(UNSETTLED)
}

fn nanos(usd: Usd) -> u64 {
    u64::try_from(usd.nanos()).unwrap_or(0)
}

/// What a request spent until its response had ended.
fn spend(record: &RequestRecord, cut_off: bool) -> Spend {
    let calls = || record.run.calls().map(CallRecord::counted);
    let at_ms = (!cut_off).then_some(record.outcome.ts_ms);
    let usd = calls().map(|most| nanos(most.usd)).fold(0, u64::saturating_add);
    let tokens = calls().map(|most| most.tokens).fold(0, u64::saturating_add);
    let beyond = record.run.calls().filter_map(|call| call.beyond_usd);
    let beyond = beyond.map(nanos).fold(0, u64::saturating_add);
    Spend { beyond, ..whose(record, at_ms, (usd, Some(tokens))) }
}

/// What was spent after its response: that was settled later.
fn late(record: &RequestRecord) -> Option<Spend> {
    let account = record.outcome.account.as_ref().filter(|a| !a.late.is_empty())?;
    // Of a call that a kill cut off, nobody has written down how many tokens it might use.
    let tokens =
        |b: &Billed| Some(b.counted().tokens).filter(|tokens| *tokens > 0 || b.cost_usd == Usd::ZERO);
    let usd = account.late.iter().map(|b| nanos(b.counted().usd)).fold(0, u64::saturating_add);
    let tokens = account.late.iter().map(tokens).try_fold(0, |sum: u64, n| Some(sum.saturating_add(n?)));
    Some(whose(record, Some(account.late_ms.max(record.outcome.ts_ms)), (usd, tokens)))
}

fn whose(record: &RequestRecord, at_ms: Option<i64>, (usd, tokens): (u64, Option<u64>)) -> Spend {
    let account = record.outcome.account.as_ref();
    Spend {
        tenant: record.outcome.tenant.clone(),
        key: account.map(|a| a.key.clone()).unwrap_or_default(),
        at_ms,
        usd,
        beyond: 0,
        tokens,
        counters: account.map(|a| a.counters.clone()),
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

/// What a counter that was written at a moment has used: what was settled then, and what was spent since. Of money never
/// more than it says itself, but for what vendors charged beyond what had been set aside; of tokens, for which no more is
/// set aside than one answer takes, as many as were used. Where the log does not say what counts there, it is what the
/// counter says. A limit of some models counts all calls of a request that called one of them.
pub(super) fn used(kept: &Kept, at_ms: i64, spent: &[Spend]) -> u64 {
    since(kept, at_ms, spent).map_or(kept.used, |(used, most)| used.min(most))
}

/// The same, as far as the log says it, and the most that it can be.
fn since(kept: &Kept, at_ms: i64, spent: &[Spend]) -> Option<(u64, u64)> {
    if *kept.tenant == *engine::OPERATOR {
        // No request is asked under this name: the log does not say what was spent.
        return None;
    }
    // What all tenants share counts what each of them spent.
    let own = spent.iter().filter(|s| *kept.tenant == *ALL || *s.tenant == *kept.tenant);
    let (mut used, mut most) = (kept.settled?, kept.used);
    for s in own.filter(|s| s.at_ms.is_none_or(|at| at >= at_ms)) {
        let counts = match (mark(&kept.holder), kept.holder.split_once(':')) {
            (Some(mark), _) => s.counters.as_ref()?.contains(&mark),
            (None, Some(("key", id))) => s.key == id,
            (None, _) => true,
        };
        if counts {
            let (more, beyond) = match kept.metric {
                Metric::Usd => (s.usd, s.beyond),
                Metric::Tokens => (s.tokens?, s.tokens?),
                Metric::Requests | Metric::Concurrency => return None,
            };
            used = used.saturating_add(more);
            most = most.saturating_add(beyond);
        }
    }
    (!matches!(kept.metric, Metric::Requests | Metric::Concurrency)).then_some((used, most))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use types::Usage;
    use types::axis::{OutputContract, TaskFamily};
    use types::begun::{Beginning, Begun, unsettled};
    use types::limits::Window;
    use types::profile::Cell;
    use types::run::AtMost;

    /// What the log has of a request that began then, by its tenant and key, and was cut off in its one call, for which so
    /// much was set aside.
    pub(crate) fn cut_off(
        (id, ts_ms): (&str, i64),
        (tenant, key): (&str, &str),
        (reserved, tokens): (Usd, Option<u64>),
    ) -> RequestRecord {
        let of = Beginning {
            request_id: id.to_owned(),
            ts_ms,
            tenant: tenant.to_owned(),
            key: key.to_owned(),
            tags: BTreeMap::new(),
            cell: Cell::plain(TaskFamily::Chat, OutputContract::Prose),
            model_asked: "auto".to_owned(),
            workflow: "default".into(),
            model: "p/m".into(),
            bundle: String::new(),
            retention_ms: None,
            counters: Vec::new(),
        };
        let (of, call, reserved, counters) = (Arc::new(of), "p/m".into(), Some(reserved), Vec::new());
        unsettled(&[Begun { of, call, reserved, tokens, counters, late: false }]).unwrap()
    }

    #[track_caller]
    fn check(holder: &str, metric: Metric, settled: Option<u64>, want: u64) {
        let (tenant, holder) = (Arc::from("acme"), Arc::from(holder));
        let kept = Kept {
            at_most: 0,
            tenant,
            holder,
            metric,
            window: Window::Day,
            used: 100,
            settled,
            period: 1,
            parts: Vec::new(),
        };
        let own = mark("rule:r:user=ada").into_iter().collect::<Vec<_>>();
        let spend = |tenant: &str, key: &str, at_ms, usd| Spend {
            tenant: tenant.to_owned(),
            key: key.to_owned(),
            at_ms,
            usd,
            beyond: if usd == 8 { 5 } else { 0 },
            tokens: Some(2 * usd),
            counters: Some(if usd % 2 == 0 { own.clone() } else { Vec::new() }),
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
        // But for what a vendor charged beyond what had been set aside, on whatever counts it.
        check("key:other", Metric::Usd, Some(99), 105);
        check("tenant:acme", Metric::Usd, Some(99), 105);
        check("rule:r:user=ada", Metric::Usd, Some(99), 105);
        check("key:k", Metric::Tokens, Some(10), 86);
        check("key:k", Metric::Tokens, Some(90), 166);
        check("rule:r:user=ada", Metric::Usd, Some(30), 76);
        check("key:k/model:a", Metric::Usd, Some(30), 30);
        // Of these the log says nothing.
        check("key:k", Metric::Usd, None, 100);
        check("key:k", Metric::Requests, Some(30), 100);
    }

    #[test]
    fn what_was_cut_off_after_an_answer_counts_for_the_most_that_it_may_have_cost() {
        let call = |at_most: Option<AtMost>| Billed {
            model: "p/judge".into(),
            calls: 1,
            usage: Usage { input: 10, output: 5, ..Usage::default() },
            cost_usd: Usd::from_nanos(7),
            at_most,
            ..Billed::default()
        };
        let most = AtMost { tokens: 90, usd: Usd::from_nanos(60) };
        for (paid, want) in [
            (vec![], None),
            (vec![call(None)], Some((7, Some(15)))),
            (vec![call(Some(most)), call(None)], Some((67, Some(105)))),
        ] {
            let mut record = cut_off(("r", 5), ("acme", "k"), (Usd::from_nanos(1), Some(2)));
            record.outcome.account.as_mut().unwrap().late = paid;
            assert_eq!(late(&record).map(|spent| (spent.usd, spent.tokens)), want);
            let before = spend(&record, false);
            assert_eq!((before.usd, before.tokens), (1, Some(2)));
        }
    }

    #[test]
    fn what_the_operator_pays_is_in_no_request_and_all_that_was_set_aside_counts() {
        let (tenant, holder) = (Arc::from(engine::OPERATOR), Arc::from("shadow"));
        let (metric, window) = (Metric::Usd, Window::Day);
        let kept = Kept {
            at_most: 0,
            tenant,
            holder,
            metric,
            window,
            used: 100,
            settled: Some(10),
            period: 1,
            parts: Vec::new(),
        };
        assert_eq!(used(&kept, 50, &[]), 100);
    }

    #[test]
    fn what_all_tenants_share_counts_what_each_of_them_spent() {
        let holder = "all:rule:r:model=p/m";
        let (tenant, metric, window) = (Arc::from(ALL), Metric::Usd, Window::Day);
        let (settled, parts) = (Some(10), Vec::new());
        let kept = Kept {
            tenant,
            holder: holder.into(),
            metric,
            window,
            used: 100,
            settled,
            at_most: 0,
            period: 1,
            parts,
        };
        let spend = |tenant: &str, usd, marks: &[u64]| Spend {
            tenant: tenant.to_owned(),
            key: "k".to_owned(),
            at_ms: None,
            usd,
            beyond: 0,
            tokens: Some(usd),
            counters: Some(marks.to_vec()),
        };
        let own = mark(holder).unwrap();
        let spent = [spend("acme", 1, &[own]), spend("other", 2, &[5, own]), spend("other", 4, &[5])];
        assert_eq!(used(&kept, 50, &spent), 13);
    }

    /// Of a run that somebody walked only its money and its key are known.
    #[test]
    fn where_nobody_knows_what_was_spent_all_that_was_set_aside_counts() {
        let run = Spend {
            tenant: "acme".to_owned(),
            key: "k".to_owned(),
            at_ms: None,
            usd: 4,
            beyond: 0,
            tokens: None,
            counters: None,
        };
        for (holder, metric, want) in [
            ("key:k", Metric::Usd, 34),
            ("key:k", Metric::Tokens, 100),
            ("key:other", Metric::Tokens, 30),
            ("rule:r:user=ada", Metric::Usd, 100),
        ] {
            let (tenant, holder, window) = (Arc::from("acme"), Arc::from(holder), Window::Day);
            let kept = Kept {
                at_most: 0,
                tenant,
                holder,
                metric,
                window,
                used: 100,
                settled: Some(30),
                period: 1,
                parts: Vec::new(),
            };
            assert_eq!(used(&kept, 50, std::slice::from_ref(&run)), want, "{kept:?}");
        }
    }
}
