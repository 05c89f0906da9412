//! What a bundle would make of the requests that came of late, before it comes into force over the control API, whole or by
//! one part that is changed.

use super::book::PREFIX;
use crate::app::App;
use crate::clock;
use crate::error::Failure;
use engine::Bundle;
use http::StatusCode;
use policies::{Replay, RuleDelta};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use types::Decision;

/// Code of the refusal.
pub(crate) const TOO_MUCH: &str = "too_much_changes";
/// Requests that are looked at, the newest ones.
const NEWEST: usize = 1_000;
/// Of fewer nothing can be said.
const LEAST: usize = 50;
/// The setting that bounds how many requests may be newly refused.
const MAX_NEW_DENIALS: &str = "max_new_denials";
/// Rules that a refusal names.
const RULES: usize = 5;

/// How far somebody goes who would change what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing is changed: it is told what would be.
    DryRun,
    /// It comes into force, unless it would change more than the settings allow.
    Checked,
    /// It comes into force, however much it changes.
    Acknowledged,
}

/// What somebody says who would change what is in force.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) how: How,
    /// The bundle that it was made for, by the first characters of its hash at least; `None` = whichever is in force.
    pub(crate) only_over: Option<String>,
}

impl Terms {
    /// Whether it was made for what is in force.
    ///
    /// # Errors
    /// 409 with what is; 400 where so few characters name no bundle.
    pub(super) fn hold_over(&self, active: &str) -> Result<(), Failure> {
        let Some(named) = self.only_over.as_deref() else { return Ok(()) };
        if named.chars().count() < PREFIX {
            let text = format!("`if` is the hash of a bundle, or its first {PREFIX} characters at least");
            return Err(Failure::bad_request("invalid_value", text).param("if"));
        }
        if active.starts_with(named) {
            return Ok(());
        }
        let text = format!(
            "bundle {active} is in force, not {named}: somebody else put it there, so nothing was changed; look again"
        );
        Err(Failure::new(StatusCode::CONFLICT, "bundle_changed", text).param("if"))
    }
}

/// More changes than the settings allow.
struct TooMuch {
    setting: &'static str,
    /// Requests that it would change, and how.
    n: usize,
    what: &'static str,
    /// What the settings allow, a share.
    allowed: f64,
}

impl App {
    /// Puts the recorded requests to the bundle in force, `active`, and to another one. Gives what the audit trail tells of it;
    /// nothing where as much may change as can.
    ///
    /// # Errors
    /// 409: more would change than the settings allow, and nobody has acknowledged that; the records cannot be read.
    pub(super) async fn foresee(
        &self,
        active: &Arc<Bundle>,
        next: &Arc<Bundle>,
        how: How,
    ) -> Result<Map<String, Value>, Failure> {
        let allowed = &self.server.bundles;
        if active.hash() == next.hash() || allowed.max_changed >= 1.0 && allowed.max_new_denials >= 1.0 {
            return Ok(Map::new());
        }
        let replay = self.replayed(active, next).await?;
        let Some(TooMuch { setting, n, what, allowed }) = self.too_much(&replay) else {
            return Ok(Map::new());
        };
        if how != How::Acknowledged {
            let text = format!(
                "{n} of the newest {} requests would be {what}{}, and `bundles.{setting}` allows {} %; nothing was \
                 changed. A dry run (`--dry-run`, `?dry_run=true`) tells which requests these are; `--acknowledge` \
                 (`acknowledge`) puts it in force all the same",
                replay.requests,
                by_rules(&replay, setting),
                allowed * 100.0,
            );
            return Err(Failure::new(StatusCode::CONFLICT, "too_much_changes", text));
        }
        let told = json!({
            "acknowledged": true, "requests": replay.requests, "changed": replay.differ,
            "newly_refused": replay.refusals(),
        });
        Ok(told.as_object().cloned().unwrap_or_default())
    }

    /// What another bundle than the one in force would make of the recorded requests, for who asks: `exceeds` names the
    /// setting that holds it up. `null` where it is the one in force.
    ///
    /// # Errors
    /// The records cannot be read.
    pub(super) async fn foretold(&self, active: &Arc<Bundle>, next: &Arc<Bundle>) -> Result<Value, Failure> {
        if active.hash() == next.hash() {
            return Ok(Value::Null);
        }
        let replay = self.replayed(active, next).await?;
        let exceeds = self.too_much(&replay).map(|much| much.setting);
        let mut told = json!(replay);
        if let Some(told) = told.as_object_mut() {
            told.insert("exceeds".to_owned(), json!(exceeds));
        }
        Ok(told)
    }

    async fn replayed(&self, active: &Arc<Bundle>, next: &Arc<Bundle>) -> Result<Replay, Failure> {
        let newest = self.engine.recent(NEWEST).await.map_err(|error| {
            tracing::error!(%error, "recorded requests cannot be read");
            Failure::internal()
        })?;
        let now_ms = clock::unix_ms();
        let kept = newest.into_iter().filter(|stored| !stored.record.outcome.has_expired(now_ms));
        let decisions: Vec<Decision> = kept.map(|stored| stored.record.decision).collect();
        let (active, next) = (active.clone(), next.clone());
        let replay = move || active.policies().replay(next.policies(), decisions.iter());
        self.tasks.blocking("bundle_replay", replay).await.map_err(|error| {
            tracing::error!(%error, "a comparison of bundles ended in a panic");
            Failure::internal()
        })
    }

    fn too_much(&self, replay: &Replay) -> Option<TooMuch> {
        let settings = &self.server.bundles;
        let changed = ("max_changed", replay.differ, settings.max_changed, "decided differently");
        let denied = (MAX_NEW_DENIALS, replay.refusals(), settings.max_new_denials, "newly refused");
        let is_too_much = |n: usize, allowed: f64| n as f64 > allowed * replay.requests as f64;
        let found = [changed, denied].into_iter().find(|(_, n, allowed, _)| is_too_much(*n, *allowed));
        let (setting, n, allowed, what) = found.filter(|_| replay.requests >= LEAST)?;
        Some(TooMuch { setting, n, what, allowed })
    }
}

/// The rules that do most of what a setting bounds.
fn by_rules(replay: &Replay, setting: &str) -> String {
    let of = |d: &RuleDelta| match setting {
        MAX_NEW_DENIALS => d.refuses,
        _ => [d.newly, d.no_longer, d.otherwise].into_iter().fold(0, usize::saturating_add),
    };
    let mut rules: Vec<_> = replay.rules.iter().map(|(rule, delta)| (of(delta), rule)).collect();
    rules.retain(|(n, _)| *n > 0);
    rules.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let told: Vec<String> = rules.iter().take(RULES).map(|(n, rule)| format!("`{rule}` in {n}")).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_refuse_nothing_are_not_named_for_refusals() {
        let gone = RuleDelta { no_longer: 1, ..RuleDelta::default() };
        let closed = RuleDelta { newly: 224, refuses: 223, ..RuleDelta::default() };
        let rules = [("no_secrets".to_owned(), gone), ("closed".to_owned(), closed)].into();
        let replay = Replay { rules, ..Replay::default() };
        assert_eq!(by_rules(&replay, MAX_NEW_DENIALS), " (`closed` in 223)");
        assert_eq!(by_rules(&replay, "max_changed"), " (`closed` in 224, `no_secrets` in 1)");
        assert_eq!(by_rules(&Replay::default(), MAX_NEW_DENIALS), "");
    }
}
