//! What was used, by day and by whom, as a batch adds it; and reports made of it in memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use types::outcome::Outcome;
use types::usage::{GroupBy, Query, Report, Row, Sums, day, parts};

/// Most tags that are told apart, of one tenant and day.
pub(crate) const MAX_TAGS: usize = 1_000;
/// Where those beyond are counted.
pub(crate) const OTHER: &str = "(other)";
/// Rows that are kept in memory.
const MOST: usize = 20_000;
/// Days that are kept.
pub(crate) const DAYS: usize = 400;

/// By whom something was used, on one day.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct By {
    pub(crate) day: i64,
    pub(crate) tenant: String,
    pub(crate) key: String,
    pub(crate) workflow: Arc<str>,
    pub(crate) model: Arc<str>,
}

/// A tag, `name=value`, of a tenant on one day.
pub(crate) type Tag = (i64, String, String);

/// Sums of many requests.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) rows: HashMap<By, Sums>,
    pub(crate) tags: HashMap<Tag, Sums>,
}

fn add<K: Hash + Eq>(map: &mut HashMap<K, Sums>, key: K, sums: &Sums, sign: i64) {
    map.entry(key).or_default().add(sums, sign);
}

impl Used {
    /// Adds a request, or takes it away again (`sign` −1).
    pub(crate) fn count(&mut self, o: &Outcome, sign: i64) {
        let day = day(o.ts_ms);
        let key = o.account.as_ref().map_or("", |a| &a.key);
        let mut all = Sums::default();
        for (model, sums) in parts(o) {
            all.add(&sums, 1);
            let by = By {
                day,
                tenant: o.tenant.clone(),
                key: key.to_owned(),
                workflow: o.counts_for().clone(),
                model,
            };
            add(&mut self.rows, by, &sums, sign);
        }
        self.count_under_tags(o, &all, sign);
    }

    /// As [`Used::count`], under its tags alone.
    pub(crate) fn count_tags(&mut self, o: &Outcome, sign: i64) {
        let mut all = Sums::default();
        for (_, sums) in parts(o) {
            all.add(&sums, 1);
        }
        self.count_under_tags(o, &all, sign);
    }

    fn count_under_tags(&mut self, o: &Outcome, all: &Sums, sign: i64) {
        for (name, value) in o.account.iter().flat_map(|a| &a.tags) {
            add(&mut self.tags, (day(o.ts_ms), o.tenant.clone(), format!("{name}={value}")), all, sign);
        }
    }

    /// Takes the tags of a request out of what is kept in memory; one that no other request has is forgotten.
    pub(crate) fn forget_tags(&mut self, o: &Outcome) {
        let mut gone = Used::default();
        gone.count_tags(o, -1);
        for (tag, sums) in gone.tags {
            if let Some(held) = self.tags.get_mut(&tag) {
                held.add(&sums, 1);
                if held.requests <= 0 {
                    self.tags.remove(&tag);
                }
            }
        }
    }

    /// Forgets what is too old or too much to keep in memory: the days before the newest [`DAYS`], and everything
    /// of the oldest days where there are more than [`MOST`] rows.
    pub(crate) fn bound(&mut self) {
        let newest = self.rows.keys().map(|by| by.day).max().unwrap_or(0);
        let old = |day: i64| newest.saturating_sub(day) >= i64::try_from(DAYS).unwrap_or(i64::MAX);
        if self.rows.len() > MOST || self.tags.len() > MOST || self.rows.keys().any(|by| old(by.day)) {
            let oldest = self.rows.keys().map(|by| by.day).min().unwrap_or(0);
            let gone = |day: i64| old(day) || (day == oldest && oldest < newest);
            self.rows.retain(|by, _| !gone(by.day));
            self.tags.retain(|tag, _| !gone(tag.0));
        }
        if self.tags.len() > MOST {
            // All of today: further tags are one.
            self.tags.retain(|tag, _| tag.2 == OTHER);
        }
    }

    /// A report of what is here.
    pub(crate) fn report(&self, query: &Query) -> Report {
        let asked = |day: i64, tenant: &str| {
            query.from.is_none_or(|f| day >= f)
                && query.to.is_none_or(|t| day <= t)
                && query.tenant.as_deref().is_none_or(|t| t == tenant)
        };
        let mut total = Sums::default();
        let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
        for (by, sums) in self.rows.iter().filter(|(by, _)| asked(by.day, &by.tenant)) {
            total.add(sums, 1);
            let group = match query.group_by {
                GroupBy::Day => by.day.to_string(),
                GroupBy::Tenant => by.tenant.clone(),
                GroupBy::Key => by.key.clone(),
                GroupBy::Model => by.model.to_string(),
                GroupBy::Workflow => by.workflow.to_string(),
                GroupBy::Tag => continue,
            };
            groups.entry(group).or_default().add(sums, 1);
        }
        if query.group_by == GroupBy::Tag {
            for ((_, _, tag), sums) in self.tags.iter().filter(|((day, tenant, _), _)| asked(*day, tenant)) {
                groups.entry(tag.clone()).or_default().add(sums, 1);
            }
        }
        let mut rows: Vec<Row> = groups.into_iter().map(|(group, sums)| Row { group, sums }).collect();
        if query.group_by == GroupBy::Day {
            rows.sort_by_key(|r| std::cmp::Reverse(r.group.parse::<i64>().unwrap_or(0)));
        } else {
            rows.sort_by_key(|r| std::cmp::Reverse(r.sums.cost_nanos));
        }
        rows.truncate(query.limit);
        if query.group_by == GroupBy::Day {
            rows.reverse();
        }
        Report { rows, total }
    }
}
