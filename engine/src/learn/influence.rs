//! How far one source can move what is believed by what it says.
//!
//! In a day, no source's words weigh more on an arm than [`SHARE`] of the arm's effective sample and of the words
//! on it that day, or than an equal share among the sources heard that day, whichever is more: a house with one
//! client is taught by that client, one with many by none of them alone. What is beyond the bound is recorded
//! and not learned.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Share of an arm's effective sample (`reliability.md` §12).
const SHARE: f64 = 0.05;
/// Words a day that count in full whatever the sample: an arm that nobody knows yet can be taught.
const FREE: f64 = 3.0;
/// Sources told apart, and sources and arms told apart; beyond that all further ones share one account.
const SOURCES: usize = 4_096;
const ACCOUNTS: usize = 16_384;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// What sources have said today.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Influence {
    day: i64,
    sources: BTreeSet<u64>,
    spent: BTreeMap<(u64, u32), f64>,
    /// What all sources' words weighed, by arm.
    heard: BTreeMap<u32, f64>,
}

impl Influence {
    /// How much of a word of `source` on `arm`, whose effective sample is `sample`, counts: 0..=1.
    pub(super) fn allow(&mut self, source: &str, arm: u32, sample: f64, ts_ms: i64) -> f64 {
        let day = ts_ms.div_euclid(DAY_MS);
        // A clock that steps back re-opens no account.
        if day > self.day {
            *self = Influence { day, ..Influence::default() };
        }
        let mut who = hash(source);
        if !self.sources.contains(&who) && self.sources.len() >= SOURCES {
            who = 0;
        }
        self.sources.insert(who);
        let share = SHARE.max(1.0 / self.sources.len().max(1) as f64);
        let heard = self.heard.entry(arm).or_default();
        let most = (share * (sample + *heard + 1.0)).max(FREE);
        let mut key = (who, arm);
        if self.spent.len() >= ACCOUNTS && !self.spent.contains_key(&key) {
            key = (0, u32::MAX);
        }
        let spent = self.spent.entry(key).or_default();
        let allowed = (most - *spent).clamp(0.0, 1.0);
        *spent += allowed;
        *heard += allowed;
        allowed
    }
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

    #[test]
    fn one_of_many_sources_counts_no_more_than_its_share() {
        let mut i = Influence::default();
        for s in 0..40 {
            assert_eq!(i.allow(&format!("key-{s}"), 1, 100.0, 0), 1.0);
        }
        let loud: f64 = (0..500).map(|_| i.allow("key-0", 1, 100.0, 1_000)).sum();
        // 5 % of 100 in the sample and of the 40 and its own words of today, less the one before.
        assert!(loud > 5.0 && loud < 7.0, "{loud}");
        assert_eq!(i.allow("key-0", 2, 100.0, 1_000), 1.0, "another arm has its own account");
        assert_eq!(i.allow("key-0", 1, 100.0, DAY_MS), 1.0, "and so has another day");
    }

    #[test]
    fn the_only_source_teaches_and_memory_is_bounded() {
        let mut i = Influence::default();
        let all: f64 = (0..200).map(|n| i.allow("me", 1, f64::from(n).min(100.0), 0)).sum();
        assert_eq!(all, 200.0);
        for n in 0..50_000_u32 {
            i.allow(&format!("k{n}"), n, 50.0, 0);
        }
        assert!(i.sources.len() <= SOURCES && i.spent.len() <= ACCOUNTS + 1);
    }
}
