//! Refused credentials on the trail: a line each while they are few, counted lines when they are many.
//!
//! Whoever may write a line for each bad key that comes to mind fills a disk and hides among them what else happened.

use super::audit::Event;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Lines of their own in a minute.
const LINES: u32 = 30;
const MINUTE_MS: i64 = 60_000;

/// What was refused of late.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    minute: i64,
    lines: u32,
    /// Refusals without a line, by endpoint and code: both from closed sets.
    more: BTreeMap<(String, String), u64>,
}

impl Refusals {
    /// Lines for the trail now that one more was refused: of it alone, or of those before it that were only counted.
    pub(super) fn one(&self, endpoint: &str, code: &str, from: Option<IpAddr>, now_ms: i64) -> Vec<Event> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = state.turn(now_ms);
        if state.lines < LINES {
            state.lines = state.lines.saturating_add(1);
            let mut event = line(endpoint, code);
            if let Some(from) = from {
                event.detail.insert("from".to_owned(), from.to_string().into());
            }
            lines.push(event);
        } else {
            let n = state.more.entry((endpoint.to_owned(), code.to_owned())).or_default();
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
        let sum = |((endpoint, code), n): ((String, String), u64)| {
            let mut event = line(&endpoint, &code);
            event.detail.insert("times".to_owned(), n.into());
            event
        };
        counted.map(sum).collect()
    }
}

fn line(endpoint: &str, code: &str) -> Event {
    let mut event = Event {
        actor_kind: "key",
        action: "request.denied",
        target: endpoint.to_owned(),
        ..Event::default()
    };
    event.detail.insert("code".to_owned(), code.into());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_one_by_one_and_many_by_number() {
        let refusals = Refusals::default();
        let lines: usize = (0..1_000).map(|_| refusals.one("chat", "invalid_api_key", None, 5).len()).sum();
        assert_eq!(lines, LINES as usize);
        assert!(refusals.over(6).is_empty(), "the minute goes on");
        let told = refusals.one("chat", "invalid_api_key", Some([10, 0, 0, 7].into()), MINUTE_MS);
        assert_eq!(told.len(), 2, "those before, and this one: {told:?}");
        assert_eq!(told[0].detail["times"], 1_000 - u64::from(LINES));
        assert!(!told[1].detail.contains_key("times"));
        assert_eq!(told[1].detail["from"], "10.0.0.7");
        assert!(refusals.over(2 * MINUTE_MS).is_empty(), "nothing is left to tell");
    }
}
