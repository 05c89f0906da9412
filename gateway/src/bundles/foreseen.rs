//! What a bundle would make of the requests that came of late, before it comes into force over the control API.

use crate::app::App;
use crate::clock;
use crate::error::Failure;
use engine::Bundle;
use engine::policies::Replay;
use http::StatusCode;
use serde_json::{Map, Value};
use std::sync::Arc;
use types::Decision;

/// Requests that are looked at, the newest ones.
const NEWEST: usize = 1_000;
/// Of fewer nothing can be said.
const LEAST: usize = 50;
/// Rules that a refusal names.
const RULES: usize = 5;

impl App {
    /// Puts the recorded requests to the bundle in force, `active`, and to another one. Gives what the audit trail tells of it;
    /// nothing where as much may change as can.
    ///
    /// # Errors
    /// 409: more would change than the settings allow, and nobody has `acknowledged` that; the records cannot be read.
    pub(super) async fn foresee(
        &self,
        active: &Arc<Bundle>,
        next: &Arc<Bundle>,
        acknowledged: bool,
    ) -> Result<Map<String, Value>, Failure> {
        let allowed = &self.server.bundles;
        let (changed, denied) = (allowed.max_changed, allowed.max_new_denials);
        if active.hash() == next.hash() || changed >= 1.0 && denied >= 1.0 {
            return Ok(Map::new());
        }
        let newest = self.engine.recent(NEWEST).await.map_err(|error| {
            tracing::error!(%error, "recorded requests cannot be read");
            Failure::internal()
        })?;
        let now_ms = clock::unix_ms();
        let kept = newest.into_iter().filter(|stored| !stored.record.outcome.has_expired(now_ms));
        let decisions: Vec<Decision> = kept.map(|stored| stored.record.decision).collect();
        let (active, next) = (active.clone(), next.clone());
        let replay = move || active.policies().replay(next.policies(), decisions.iter());
        let replay = tokio::task::spawn_blocking(replay).await.map_err(|error| {
            tracing::error!(%error, "a comparison of bundles ended in a panic");
            Failure::internal()
        })?;
        let too_many = |n: usize, share: f64| n as f64 > share * replay.requests as f64;
        let too_much = [
            ("max_changed", replay.differ, changed, "decided differently"),
            ("max_new_denials", replay.refusals(), denied, "newly refused"),
        ];
        let too_much = too_much.into_iter().find(|(_, n, share, _)| too_many(*n, *share));
        let Some((setting, n, share, what)) = too_much.filter(|_| replay.requests >= LEAST) else {
            return Ok(Map::new());
        };
        if !acknowledged {
            let text = format!(
                "{n} of the newest {} requests would be {what}{}, and `bundles.{setting}` allows {} %; nothing was \
                 changed. `turnout policy diff --over` shows which; `acknowledge` puts it in force all the same",
                replay.requests,
                by_rules(&replay),
                share * 100.0,
            );
            return Err(Failure::new(StatusCode::CONFLICT, "too_much_changes", text));
        }
        let count = |n: usize| Value::from(n);
        Ok([
            ("acknowledged", Value::Bool(true)),
            ("requests", count(replay.requests)),
            ("changed", count(replay.differ)),
            ("newly_refused", count(replay.refusals())),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
    }
}

/// The rules that change most of them.
fn by_rules(replay: &Replay) -> String {
    let all = |d: &engine::policies::RuleDelta| {
        [d.newly, d.no_longer, d.otherwise].into_iter().fold(0, usize::saturating_add)
    };
    let mut rules: Vec<_> = replay.rules.iter().map(|(rule, delta)| (all(delta), rule)).collect();
    rules.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let told: Vec<String> = rules.iter().take(RULES).map(|(n, rule)| format!("`{rule}` in {n}")).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}
