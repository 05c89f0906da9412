//! Refused requests on the trail: a line each while they are few, counted lines when they are many.
//!
//! Whoever may write a line for each bad key that comes to mind fills a disk and hides among them what else happened.

use super::audit::Event;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use types::control::Key;

/// Lines of their own in a minute.
const LINES: u32 = 30;
const MINUTE_MS: i64 = 60_000;

/// A refusal. Of those that are counted together there is a bounded number: endpoints, codes, and keys that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// What was asked for: an endpoint, or a request that got as far as having a record.
    target: String,
    code: String,
    /// Public part of the key; empty = nobody knows whose it was.
    key: String,
    /// The name that people gave it.
    name: String,
    tenant: String,
}

impl Refusal {
    /// `key` is one that the server knows, and that was shown to be held.
    pub(crate) fn of(target: &str, code: &str, key: Option<&Key>) -> Refusal {
        let text = |of: fn(&Key) -> Option<&str>| key.and_then(of).unwrap_or_default().to_owned();
        Refusal {
            target: target.to_owned(),
            code: code.to_owned(),
            key: text(|k| Some(&k.id)),
            name: text(|k| Some(&k.name)),
            tenant: text(|k| k.tenant.as_deref()),
        }
    }

    /// Its line.
    pub(crate) fn line(self) -> Event {
        let mut event = Event {
            actor_kind: "key",
            actor: self.key,
            action: "request.denied",
            target: self.target,
            tenant: self.tenant,
            ..Event::default()
        };
        event.detail.insert("code".to_owned(), self.code.into());
        if !self.name.is_empty() {
            event.detail.insert("key_name".to_owned(), self.name.into());
        }
        event
    }
}

/// What was refused of late.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    minute: i64,
    lines: u32,
    /// Refusals without a line, and how many.
    more: BTreeMap<Refusal, u64>,
}

impl Refusals {
    /// Lines for the trail now that one more was refused: of it alone, or of those before it that were only counted.
    pub(super) fn one(&self, refusal: Refusal, from: Option<IpAddr>, now_ms: i64) -> Vec<Event> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = state.turn(now_ms);
        if state.lines < LINES {
            state.lines = state.lines.saturating_add(1);
            let mut event = refusal.line();
            if let Some(from) = from {
                event.detail.insert("from".to_owned(), from.to_string().into());
            }
            lines.push(event);
        } else {
            let n = state.more.entry(refusal).or_default();
            *n = n.saturating_add(1);
        }
        lines
    }

    /// Lines for what was counted in a minute that is over.
    pub(super) fn over(&self, now_ms: i64) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(now_ms)
    }
}

impl State {
    fn turn(&mut self, now_ms: i64) -> Vec<Event> {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if minute == self.minute {
            return Vec::new();
        }
        (self.minute, self.lines) = (minute, 0);
        let counted = std::mem::take(&mut self.more).into_iter();
        let sum = |(refusal, n): (Refusal, u64)| {
            let mut event = refusal.line();
            event.detail.insert("times".to_owned(), n.into());
            event
        };
        counted.map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_one_by_one_and_many_by_number() {
        let refusals = Refusals::default();
        let bad = || Refusal::of("chat", "invalid_api_key", None);
        let lines: usize = (0..1_000).map(|_| refusals.one(bad(), None, 5).len()).sum();
        assert_eq!(lines, LINES as usize);
        assert!(refusals.over(6).is_empty(), "the minute goes on");
        let told = refusals.one(bad(), Some([10, 0, 0, 7].into()), MINUTE_MS);
        assert_eq!(told.len(), 2, "those before, and this one: {told:?}");
        assert_eq!(told[0].detail["times"], 1_000 - u64::from(LINES));
        assert!(!told[1].detail.contains_key("times"));
        assert_eq!(told[1].detail["from"], "10.0.0.7");
        assert!(refusals.over(2 * MINUTE_MS).is_empty(), "nothing is left to tell");
    }
}
