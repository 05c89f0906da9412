//! Refused requests on the trail: a line each while they are few, counted lines when they are many.
//!
//! Whoever may write a line for each bad key that comes to mind fills a disk and hides among them what else happened.

use super::actor::Actor;
use super::audit::Event;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use types::control::Key;
use types::limits::Shortage;

/// Lines of their own in a minute for one asker and one code.
const LINES: u32 = 30;
/// Lines of their own in a minute for all refusals of one sort: full limits are told of often, and must not hide what
/// somebody was forbidden, or whom a run waits for.
const ALL_LINES: u32 = 600;
/// Different refusals that are counted in a minute; those beside them are counted in one sum of their action.
const SUMS: usize = 1_000;
const MINUTE_MS: i64 = 60_000;

/// A refusal, as far as it is counted together with others of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    action: &'static str,
    /// Who asked: as which kind, and the public part of the key; empty = nobody knows whose it was.
    kind: &'static str,
    actor: String,
    /// The name that people gave the key.
    name: String,
    tenant: String,
    /// What was asked for: an endpoint, or a route.
    target: &'static str,
    code: String,
    /// The rules that refused it.
    rules: String,
    /// A limit had no room for it.
    limited: bool,
    /// Which, whose and over which time, where that is known; without the word of a request that names its holder.
    limit: String,
}

impl Refusal {
    /// `key` is one that the server knows, and that was shown to be held.
    pub(crate) fn of(target: &'static str, code: &str, key: Option<&Key>) -> Refusal {
        let text = |of: fn(&Key) -> Option<&str>| key.and_then(of).unwrap_or_default().to_owned();
        Refusal {
            action: "request.denied",
            kind: "key",
            actor: text(|k| Some(&k.id)),
            name: text(|k| Some(&k.name)),
            tenant: text(|k| k.tenant.as_deref()),
            target,
            code: code.to_owned(),
            ..Refusal::default()
        }
    }

    /// A request of a tenant, by the key that it came with, if it had one.
    pub(crate) fn of_tenant(target: &'static str, code: &str, key: Option<&Key>, tenant: &str) -> Refusal {
        let mut refusal = Refusal::of(target, code, key);
        tenant.clone_into(&mut refusal.tenant);
        if key.is_none() {
            refusal.kind = "tenant";
            tenant.clone_into(&mut refusal.actor);
        }
        refusal
    }

    /// Something that somebody may not have done by the control API.
    pub(crate) fn of_actor(actor: &Actor, route: &'static str, code: &str) -> Refusal {
        Refusal {
            action: "admin.denied",
            kind: actor.kind,
            actor: actor.id.clone(),
            tenant: actor.tenant.clone().unwrap_or_default(),
            target: route,
            code: code.to_owned(),
            ..Refusal::default()
        }
    }

    #[must_use]
    pub(super) fn by_rules(self, rules: String) -> Refusal {
        Refusal { rules, ..self }
    }

    #[must_use]
    pub(super) fn by_limit(self, short: Option<&Shortage>) -> Refusal {
        let limit = short.map(|short| format!("the limit of {}", short.unnamed().limit)).unwrap_or_default();
        Refusal { limited: true, limit, ..self }
    }

    #[must_use]
    pub(super) fn named(self, action: &'static str) -> Refusal {
        Refusal { action, ..self }
    }

    /// Its line.
    fn line(self) -> Event {
        let mut event = Event {
            actor_kind: self.kind,
            actor: self.actor,
            action: self.action,
            target: self.target.to_owned(),
            tenant: self.tenant,
            ..Event::default()
        };
        let told =
            [("code", self.code), ("key_name", self.name), ("rules", self.rules), ("limit", self.limit)];
        for (name, text) in told {
            if !text.is_empty() {
                event.detail.insert(name.to_owned(), text.into());
            }
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
    /// Lines of their own in this minute: those of each sort (an action, by a limit or not), and those of each asker and
    /// code.
    all: BTreeMap<(&'static str, bool), u32>,
    lines: BTreeMap<(String, String), u32>,
    /// Refusals without a line, and how many.
    more: BTreeMap<Refusal, u64>,
}

impl Refusals {
    /// Lines for the trail now that one more was refused: of it alone, to which `tell` adds what is only its own, or of
    /// those before it that were only counted.
    pub(super) fn one(&self, refusal: Refusal, tell: impl FnOnce(&mut Event), now_ms: i64) -> Vec<Event> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = state.turn(now_ms);
        if state.has_room(&refusal) {
            let mut event = refusal.line();
            tell(&mut event);
            lines.push(event);
        } else {
            state.count(refusal);
        }
        lines
    }

    /// Lines for what was counted in a minute that is over.
    pub(super) fn over(&self, now_ms: i64) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(now_ms)
    }

    /// Lines for all that was counted and has none.
    pub(super) fn rest(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sums()
    }
}

impl State {
    /// Whether a refusal gets a line of its own, which is counted then.
    fn has_room(&mut self, refusal: &Refusal) -> bool {
        let all = self.all.entry((refusal.action, refusal.limited)).or_default();
        if *all >= ALL_LINES {
            return false;
        }
        let of = (refusal.actor.clone(), refusal.code.clone());
        let lines = self.lines.entry(of).or_default();
        if *lines >= LINES {
            return false;
        }
        *lines = lines.saturating_add(1);
        *all = all.saturating_add(1);
        true
    }

    fn count(&mut self, refusal: Refusal) {
        let known = self.more.len() < SUMS || self.more.contains_key(&refusal);
        let counted = if known { refusal } else { Refusal { action: refusal.action, ..Refusal::default() } };
        let n = self.more.entry(counted).or_default();
        *n = n.saturating_add(1);
    }

    fn turn(&mut self, now_ms: i64) -> Vec<Event> {
        let minute = now_ms.div_euclid(MINUTE_MS);
        if minute == self.minute {
            return Vec::new();
        }
        self.minute = minute;
        self.all.clear();
        self.lines.clear();
        self.sums()
    }

    fn sums(&mut self) -> Vec<Event> {
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
    use types::limits::{Limit, Metric, Window};

    fn bad() -> Refusal {
        Refusal::of("chat", "invalid_api_key", None)
    }

    fn of_key(id: usize, code: &str) -> Refusal {
        Refusal::of("chat", code, Some(&Key::named(&format!("k{id}"), "acme")))
    }

    #[test]
    fn few_are_told_one_by_one_and_many_by_number() {
        let refusals = Refusals::default();
        let lines: usize = (0..1_000).map(|_| refusals.one(bad(), |_| {}, 5).len()).sum();
        assert_eq!(lines, LINES as usize);
        assert!(refusals.over(6).is_empty(), "the minute goes on");
        let from = |e: &mut Event| _ = e.detail.insert("from".to_owned(), "10.0.0.7".into());
        let told = refusals.one(bad(), from, MINUTE_MS);
        assert_eq!(told.len(), 2, "those before, and this one: {told:?}");
        assert_eq!(told[0].detail["times"], 1_000 - u64::from(LINES));
        assert!(!told[1].detail.contains_key("times"));
        assert_eq!(told[1].detail["from"], "10.0.0.7");
        assert!(refusals.over(2 * MINUTE_MS).is_empty(), "nothing is left to tell");
    }

    #[test]
    fn one_asker_does_not_hide_another_and_all_together_are_bounded() {
        let refusals = Refusals::default();
        for _ in 0..1_000 {
            refusals.one(of_key(0, "never"), |_| {}, 5);
        }
        assert_eq!(refusals.one(of_key(0, "rate_limit_exceeded"), |_| {}, 5).len(), 1, "another code");
        assert_eq!(refusals.one(of_key(1, "never"), |_| {}, 5).len(), 1, "another key");
        let many = |codes: usize| -> usize {
            let ask = |i| refusals.one(of_key(i % 7, &format!("c{}", i % codes)), |_| {}, 5).len();
            (0..20_000).map(ask).sum()
        };
        assert_eq!(many(2_003), ALL_LINES as usize - LINES as usize - 2);
        let sums = refusals.rest();
        assert_eq!(sums.len(), SUMS + 1);
        let told: u64 = sums.iter().map(|e| e.detail["times"].as_u64().unwrap()).sum();
        assert_eq!(told, 1_002 + 20_000 - u64::from(ALL_LINES), "each is counted");
        assert!(refusals.rest().is_empty());
    }

    /// What is counted together tells of one limit, without figures, which differ from one refusal to the next.
    #[test]
    fn what_is_counted_is_counted_for_each_limit() {
        let refusals = Refusals::default();
        let short = |holder: &str, used: u64| {
            let limit = Limit::rate(holder, Metric::Requests, 2.0, Window::Day).unwrap();
            Shortage { limit, used: Some(used), needs: None, about: false }
        };
        let full = |holder: &str, used| of_key(0, "rate_limit_exceeded").by_limit(Some(&short(holder, used)));
        for used in 0..u64::from(LINES) + 4 {
            refusals.one(full("key:k0", used), |_| {}, 5);
            refusals.one(full("rule:slow:user=ada", used), |_| {}, 5);
        }
        let told: Vec<_> =
            refusals.rest().iter().map(|e| (e.detail["limit"].clone(), e.detail["times"].clone())).collect();
        let of = |holder: &str, times: u64| {
            (format!("the limit of 2 requests per day for {holder}").into(), times.into())
        };
        let half = u64::from(LINES) / 2 + 4;
        assert_eq!(told, [of("key:k0", half), of("rule:slow:user", half)]);
    }

    #[test]
    fn full_limits_hide_nothing_that_was_forbidden() {
        let refusals = Refusals::default();
        for i in 0..10_000 {
            refusals.one(of_key(i, "rate_limit_exceeded").by_limit(None), |_| {}, 5);
        }
        let alone = |refusal: Refusal| {
            let lines = refusals.one(refusal, |_| {}, 5);
            lines.len() == 1 && !lines[0].detail.contains_key("times")
        };
        assert!(!alone(of_key(0, "tokens").by_limit(None)), "that sort has no room left");
        assert!(alone(of_key(0, "closed")), "a rule");
        assert!(alone(of_key(0, "approval_required").named("request.gated")));
        assert!(alone(of_key(0, "forbidden").named("admin.denied")));
    }
}
