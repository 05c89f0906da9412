//! How far one source can move what is believed by what it says: a key, the open door, a judge; or a tenant by its
//! outcomes.
//!
//! Each source has an account per arm: what its words still weigh there, fading as the arm's sample does. It never
//! holds more than its bound of the arm's effective sample, or than an equal share among the sources of late,
//! whichever is more: a house with one client is taught by that client, one with many by none of them alone.
//! What is beyond the bound is recorded and not learned.
//!
//! An account also keeps how much of what its source brought of late was let in: what is said later of something that was
//! let in by half has half a say.

use super::Count;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much of an arm's effective sample one of them may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    share: f64,
    /// Where fewer are heard, nobody is bound.
    sources: usize,
}

/// Of what a key says in feedback.
pub(super) const KEY: Bound = Bound { share: 0.05, sources: 1 };
/// Of the outcomes of a tenant.
pub(super) const TENANT: Bound = Bound { share: 0.30, sources: 5 };
/// Words that count in full whatever the sample: an arm that nobody knows yet can be taught.
const FREE: f64 = 3.0;
/// Less of a word than this is none, and all but this is all of it.
const LEAST: f64 = 0.01;
/// Sources told apart, and sources and arms told apart; beyond that all further ones share one account.
const SOURCES: usize = 4_096;
const ACCOUNTS: usize = 16_384;
/// The account of all that no place is left for.
const COMMON: (u64, u32) = (0, u32::MAX);
/// A source that was silent for so long is no longer one of those among whom arms are shared.
const SILENT_DAYS: i64 = 7;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What is known of the arm that a word is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) arm: u32,
    /// Effective sample: discounted outcomes.
    pub(super) n: f64,
    /// Outcomes ever: the clock by which they fade.
    pub(super) ever: f64,
    /// What an outcome weighs after the next one.
    pub(super) discount: f64,
}

/// What a source's words weigh on an arm, as of a time of that arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    weight: f64,
    at: f64,
    /// How much of what was brought was let in, by its own count. States of earlier versions do not hold it.
    #[serde(default)]
    let_in: Count,
}

impl Account {
    fn now(&self, s: &Sample) -> f64 {
        self.weight * s.discount.powf((s.ever - self.at).max(0.0))
    }
}

/// What sources have said of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Influence {
    today: i64,
    /// When each was heard last, in days.
    sources: BTreeMap<u64, i64>,
    accounts: BTreeMap<(u64, u32), Account>,
}

impl Influence {
    /// How much of a word of `source` counts that is to count as `worth` outcomes: 0..=`worth`.
    pub(super) fn allow(&mut self, bound: Bound, source: &str, s: Sample, ts_ms: i64, worth: f64) -> f64 {
        let day = ts_ms.div_euclid(DAY_MS);
        // A clock that steps back forgets nobody.
        if day > self.today {
            self.today = day;
            self.sources.retain(|_, last| day - *last <= SILENT_DAYS);
            let sources = &self.sources;
            self.accounts.retain(|(who, _), _| sources.contains_key(who));
        }
        let mut who = hash(source);
        if self.sources.contains_key(&who) || self.sources.len() < SOURCES {
            self.sources.insert(who, self.today);
        } else {
            who = 0;
        }
        let heard = self.sources.len().max(1);
        let share = if heard < bound.sources { f64::INFINITY } else { bound.share.max(1.0 / heard as f64) };
        // The sample as it will be with this word in it.
        let most = (share * (s.n + worth)).max(FREE);
        let mut key = (who, s.arm);
        if !self.accounts.contains_key(&key) && self.accounts.len() >= ACCOUNTS {
            key = COMMON;
        }
        let account = self.accounts.entry(key).or_default();
        // Arms have clocks of their own, so the common account fades by none of them.
        let held = if key == COMMON { account.weight } else { account.now(&s) };
        let allowed = match most - held {
            a if a < LEAST => 0.0,
            a if a > worth - LEAST => worth,
            a => a,
        };
        account.let_in.add(allowed / worth, s.discount);
        if allowed > 0.0 {
            (account.weight, account.at) = (held + allowed, s.ever);
        }
        allowed
    }

    /// How much of what a source brought of an arm of late was let in, 0..=1; 1 where nothing is known of it.
    pub(super) fn part(&self, source: &str, arm: u32) -> f64 {
        let of = |key: (u64, u32)| self.accounts.get(&key).map(|a| a.let_in).filter(|c| c.n > 0.0);
        let known = of((hash(source), arm)).or_else(|| of((0, arm))).or_else(|| of(COMMON));
        known.map_or(1.0, |c| c.s / c.n)
    }

    /// What was learned of an arm weighs `factor` as much: so do the words that it was learned from.
    pub(super) fn scale(&mut self, arm: u32, factor: f64) {
        self.accounts.iter_mut().filter(|((_, a), _)| *a == arm).for_each(|(_, x)| x.weight *= factor);
    }
}

/// The place of the account of a model, whatever its arms.
pub(super) fn place_of(model: &str) -> u32 {
    u32::try_from(hash(model) & u64::from(u32::MAX >> 1)).unwrap_or(0)
}

/// FNV-1a; 0 is the account of all sources beyond the bound.
fn hash(source: &str) -> u64 {
    let h = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    h.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn arm(arm: u32, n: f64, ever: f64) -> Sample {
        Sample { arm, n, ever, discount: 0.99 }
    }

    #[test]
    fn one_of_many_sources_holds_no_more_than_its_share() {
        let mut i = Influence::default();
        for s in 0..40 {
            assert_eq!(i.allow(KEY, &format!("key-{s}"), arm(1, 100.0, 1_000.0), 0, 1.0), 1.0);
        }
        let mut ever = 1_000.0;
        for n in 0..500 {
            ever += i.allow(KEY, "key-0", arm(1, 100.0, ever), n, 1.0);
        }
        // 5 % of the 100 in the sample, less the word before; what it says makes its earlier words fade, too.
        assert!(ever > 1_004.0 && ever < 1_004.5, "{ever}");
        assert_eq!(
            i.allow(KEY, "key-0", arm(2, 100.0, 0.0), 1_000, 1.0),
            1.0,
            "another arm has its own account"
        );
        assert_eq!(i.allow(KEY, "key-0", arm(1, 100.0, ever), 3 * DAY_MS, 1.0), 0.0, "another day has not");
        let later = i.allow(KEY, "key-0", arm(1, 100.0, ever + 70.0), 3 * DAY_MS, 1.0);
        assert_eq!(later, 1.0, "half of its words have faded behind others");
    }

    #[test]
    fn the_first_word_of_a_day_is_one_of_many_too() {
        let mut i = Influence::default();
        for s in 0..40 {
            i.allow(KEY, &format!("key-{s}"), arm(1, 100.0, 1_000.0), 0, 1.0);
        }
        let dawn: f64 = (0..50).map(|_| i.allow(KEY, "key-7", arm(1, 100.0, 1_000.0), DAY_MS, 1.0)).sum();
        assert!(dawn < 5.0, "{dawn}");
    }

    #[test]
    fn tenants_are_bound_where_there_are_five_of_them() {
        let held = |tenants: u32| {
            let mut i = Influence::default();
            (0..tenants).for_each(|t| {
                i.allow(TENANT, &format!("t{t}"), arm(1, 100.0, 1_000.0), 0, 1.0);
            });
            (0..200).map(|_| i.allow(TENANT, "t0", arm(1, 100.0, 1_000.0), 0, 1.0)).sum::<f64>()
        };
        assert_eq!(held(4), 200.0);
        assert!((held(5) - 29.3).abs() < 0.1, "{}", held(5));
    }

    #[test]
    fn what_counts_as_several_outcomes_is_held_as_several() {
        let held = |worth: f64| {
            let mut i = Influence::default();
            for s in 0..40 {
                i.allow(KEY, &format!("key-{s}"), arm(1, 100.0, 1_000.0), 0, 1.0);
            }
            (0..100).map(|_| i.allow(KEY, "key-0", arm(1, 100.0, 1_000.0), 0, worth)).sum::<f64>()
        };
        assert!((held(4.0) - held(1.0)).abs() < 0.2, "{} {}", held(4.0), held(1.0));
    }

    #[test]
    fn the_only_source_teaches_and_memory_is_bounded() {
        let mut i = Influence::default();
        let (mut n, mut ever) = (0.0, 0.0);
        for _ in 0..200 {
            let a = i.allow(KEY, "me", arm(1, n, ever), 0, 1.0);
            assert!(a > 0.9, "{a} after {ever}");
            (n, ever) = (n * 0.99_f64.powf(a) + a, ever + a);
        }
        i.scale(1, 0.2);
        assert!(
            i.allow(KEY, "me", arm(1, 0.2 * n, ever), 0, 1.0) > 0.9,
            "after most was forgotten, its words with it"
        );
        for n in 0..50_000_u32 {
            i.allow(KEY, &format!("k{n}"), arm(n, 50.0, 100.0), 0, 1.0);
        }
        assert!(i.sources.len() <= SOURCES && i.accounts.len() <= ACCOUNTS + 1);
    }
}
