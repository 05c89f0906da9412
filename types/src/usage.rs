//! What was used and what it cost, summed up for reports; and the question for it.
//!
//! Cached, cache-write and image tokens are part of the input, reasoning part of the output: each token is counted
//! and paid for once.

use crate::outcome::{Account, Outcome, Status};
use crate::run::Verdict;
use crate::units::Usd;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Most rows of one answer.
pub const MAX_ROWS: usize = 10_000;

/// Sums over requests. All numbers may be negative in a difference, never in a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Requests, counted at the model that answered, else at the one chosen.
    pub requests: i64,
    /// Of these, succeeded: see [`succeeded`].
    pub successes: i64,
    /// Of these, the client got an error.
    pub failed: i64,
    /// Images in requests, each counted once however often it was sent on.
    pub images: i64,
    /// Calls of models, counted at the model that was called.
    pub calls: i64,
    /// Of these, with an unknown price: their cost is not in any sum.
    pub unpriced_calls: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Of the input: read from a provider's cache.
    pub cached_input_tokens: i64,
    /// Of the input: written to a provider's cache.
    pub cache_write_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Of the output: reasoning.
    pub reasoning_tokens: i64,
    /// What the calls cost, nano-dollars.
    pub cost_nanos: i64,
    /// The part of the cost that stands against `reference_nanos`: that of requests for which the price of the most
    /// capable candidate is known.
    pub compared_nanos: i64,
    /// What the most capable candidate would have cost in the place of what answered, nano-dollars; an estimate.
    pub reference_nanos: i64,
    /// Of the input: images.
    pub image_input_tokens: i64,
    /// Of the calls, those of which it is estimated what they used or cost, all of it or a part.
    pub estimated_calls: i64,
    /// What these cost, nano-dollars: a part of `cost_nanos`.
    pub estimated_nanos: i64,
    /// What vendors may bill beyond `cost_nanos`, nano-dollars: for calls that were cut off and of which nobody said what they
    /// used. Limits and budgets count it.
    pub beyond_nanos: i64,
}

impl Sums {
    /// The members in the order of [`Sums::COLUMNS`].
    #[must_use]
    pub const fn values(&self) -> [i64; 18] {
        [
            self.requests,
            self.successes,
            self.failed,
            self.images,
            self.calls,
            self.unpriced_calls,
            self.input_tokens,
            self.cached_input_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.cost_nanos,
            self.compared_nanos,
            self.reference_nanos,
            self.image_input_tokens,
            self.estimated_calls,
            self.estimated_nanos,
            self.beyond_nanos,
        ]
    }

    /// Names of the members, as stores write them.
    pub const COLUMNS: [&'static str; 18] = [
        "requests",
        "successes",
        "failed",
        "images",
        "calls",
        "unpriced_calls",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_nanos",
        "compared_nanos",
        "reference_nanos",
        "image_input_tokens",
        "estimated_calls",
        "estimated_nanos",
        "beyond_nanos",
    ];

    /// From the members in the order of [`Sums::COLUMNS`].
    #[must_use]
    pub const fn of(v: [i64; 18]) -> Sums {
        let [
            requests,
            successes,
            failed,
            images,
            calls,
            unpriced_calls,
            input,
            cached,
            write,
            output,
            reasoning,
            cost,
            compared,
            reference,
            image,
            estimated_calls,
            estimated_nanos,
            beyond_nanos,
        ] = v;
        Sums {
            requests,
            successes,
            failed,
            images,
            calls,
            unpriced_calls,
            input_tokens: input,
            cached_input_tokens: cached,
            cache_write_tokens: write,
            output_tokens: output,
            reasoning_tokens: reasoning,
            cost_nanos: cost,
            compared_nanos: compared,
            reference_nanos: reference,
            image_input_tokens: image,
            estimated_calls,
            estimated_nanos,
            beyond_nanos,
        }
    }

    /// Adds others, `sign` times (1 or −1); saturates.
    pub fn add(&mut self, others: &Sums, sign: i64) {
        let mut all = self.values();
        for (mine, other) in all.iter_mut().zip(others.values()) {
            *mine = mine.saturating_add(other.saturating_mul(sign));
        }
        *self = Sums::of(all);
    }

    /// The most that vendors may bill for all of it, nano-dollars: what limits and budgets count.
    #[must_use]
    pub const fn at_most(&self) -> i64 {
        self.cost_nanos.saturating_add(self.beyond_nanos)
    }

    /// What was saved against always asking the most capable candidate: its estimated price less what the same
    /// requests cost, failed ones included. May be negative.
    #[must_use]
    pub const fn saved(&self) -> i64 {
        self.reference_nanos.saturating_sub(self.compared_nanos)
    }

    /// Cost of one success; `None` = there was none.
    #[must_use]
    pub fn cost_per_success(&self) -> Option<Usd> {
        (self.successes > 0).then(|| Usd::from_nanos(self.cost_nanos.div_euclid(self.successes)))
    }

    /// Cost of one request; `None` = there was none.
    #[must_use]
    pub fn cost_per_request(&self) -> Option<Usd> {
        (self.requests > 0).then(|| Usd::from_nanos(self.cost_nanos.div_euclid(self.requests)))
    }
}

/// Whether a request counts as a success: it was delivered, its checks did not find it wrong, and nobody who was
/// asked gave it less than one half.
#[must_use]
pub fn succeeded(o: &Outcome) -> bool {
    o.status == Status::Delivered
        && o.verdict != Verdict::Failed
        && o.parts.feedback.is_none_or(|said| said >= 0.5)
}

/// What one request adds, by model: first the model at which the request is counted.
#[must_use]
pub fn parts(o: &Outcome) -> Vec<(Arc<str>, Sums)> {
    let at = o.served_by.as_ref().unwrap_or(&o.model);
    let request = Sums {
        requests: 1,
        successes: i64::from(succeeded(o)),
        failed: i64::from(o.status == Status::Failed),
        ..Sums::default()
    };
    let mut all = vec![(at.clone(), request)];
    match &o.account {
        Some(account) => of_account(&mut all, o, account),
        // A record of a version that did not keep who was paid.
        None => {
            if let Some((_, first)) = all.first_mut() {
                first.calls = i64::from(o.calls);
                first.unpriced_calls = if o.cost_known { 0 } else { i64::from(o.calls) };
                tokens(first, &o.usage);
                first.cost_nanos = o.cost_usd.nanos();
            }
        }
    }
    all
}

fn of_account(all: &mut Vec<(Arc<str>, Sums)>, o: &Outcome, account: &Account) {
    for c in account.calls.iter().chain(&account.late) {
        let mut sums = Sums {
            calls: i64::from(c.calls),
            unpriced_calls: i64::from(c.unpriced),
            cost_nanos: c.cost_usd.nanos(),
            estimated_calls: i64::from(c.estimated),
            estimated_nanos: c.estimated_usd.nanos(),
            beyond_nanos: c.counted().usd.minus(c.cost_usd).nanos(),
            ..Sums::default()
        };
        tokens(&mut sums, &c.usage);
        match all.iter_mut().find(|(m, _)| *m == c.model) {
            Some((_, s)) => s.add(&sums, 1),
            None => all.push((c.model.clone(), sums)),
        }
    }
    if let Some((_, first)) = all.first_mut() {
        first.images = i64::from(account.images);
        if let Some(reference) = &account.reference {
            first.reference_nanos = reference.cost_usd.nanos();
            let late = account.late.iter().fold(o.cost_usd, |sum, c| sum.plus(c.cost_usd));
            first.compared_nanos = late.nanos();
        }
    }
}

fn tokens(sums: &mut Sums, u: &crate::Usage) {
    sums.input_tokens = i64::from(u.input);
    sums.cached_input_tokens = i64::from(u.cached_input);
    sums.cache_write_tokens = i64::from(u.cache_write);
    sums.output_tokens = i64::from(u.output);
    sums.reasoning_tokens = i64::from(u.reasoning);
    sums.image_input_tokens = i64::from(u.image);
}

/// By what a report is broken down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// By day, UTC.
    #[default]
    Day,
    /// By tenant.
    Tenant,
    /// By virtual key.
    Key,
    /// By model that was called.
    Model,
    /// By workflow.
    Workflow,
    /// By tag, `name=value`. A request counts under each of its tags, so that rows do not add up.
    Tag,
}

impl GroupBy {
    /// The strings of the control API.
    pub const NAMES: &'static [&'static str] = &["day", "tenant", "key", "model", "workflow", "tag"];

    /// The string of the control API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GroupBy::Day => "day",
            GroupBy::Tenant => "tenant",
            GroupBy::Key => "key",
            GroupBy::Model => "model",
            GroupBy::Workflow => "workflow",
            GroupBy::Tag => "tag",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        const ALL: [GroupBy; 6] =
            [GroupBy::Day, GroupBy::Tenant, GroupBy::Key, GroupBy::Model, GroupBy::Workflow, GroupBy::Tag];
        ALL.into_iter().find(|g| g.as_str() == name)
    }
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// By what.
    pub group_by: GroupBy,
    /// First day, counted from 1970-01-01, UTC; `None` = the oldest.
    pub from: Option<i64>,
    /// Last day, inclusive; `None` = the newest.
    pub to: Option<i64>,
    /// Only this tenant; `None` = all.
    pub tenant: Option<String>,
    /// Most rows, 1..=[`MAX_ROWS`]: the dearest, or for days the newest.
    pub limit: usize,
}

/// One row of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The day (counted from 1970-01-01), tenant, key, model, workflow or tag.
    pub group: String,
    /// Its sums.
    pub sums: Sums,
}

/// A report: its rows, and the sum of all there is, rows beyond the limit included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The rows, dearest first, or by day.
    pub rows: Vec<Row>,
    /// Over everything that was asked for.
    pub total: Sums,
}

/// The day of a moment, counted from 1970-01-01, UTC.
#[must_use]
pub const fn day(unix_ms: i64) -> i64 {
    unix_ms.div_euclid(86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_and_take_away_alike() {
        let a = Sums::of([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]);
        let mut b = a;
        b.add(&a, 1);
        assert_eq!(b.reference_nanos, 28);
        b.add(&a, -1);
        b.add(&a, -1);
        assert_eq!(b, Sums::default());
        assert_eq!((a.saved(), a.cost_per_success()), (1, Some(Usd::from_nanos(6))));
        assert_eq!(Sums::default().cost_per_request(), None);
        assert_eq!(Sums::COLUMNS.len(), a.values().len());
    }

    #[test]
    fn every_group_has_its_name() {
        for name in GroupBy::NAMES {
            assert_eq!(GroupBy::parse(name).map(GroupBy::as_str), Some(*name));
        }
        assert_eq!(GroupBy::parse("colour"), None);
    }
}
