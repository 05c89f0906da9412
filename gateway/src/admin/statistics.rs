//! The routes of what was learned: the states that are kept, and the way back to one.

use super::routes::{list, ok};
use super::{Call, Reply};
use crate::error::Failure;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use types::store::{Error, Saved};

/// Where to go back to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    /// A moment, RFC 3339: the newest state that is not after it is taken.
    to: String,
}

/// The moment of a state, to the millisecond: whole seconds would name one before it.
fn moment(saved: &Saved) -> String {
    let at = jiff::Timestamp::from_millisecond(saved.unix_ms).ok();
    at.map(|t| t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default()
}

fn shown(saved: &Saved) -> Value {
    json!({ "at": moment(saved), "unix_ms": saved.unix_ms, "bytes": saved.bytes })
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn away(error: Error) -> Failure {
    tracing::error!(%error, "statistics cannot be read or changed");
    let text = "the store takes and gives no statistics just now, so nothing was changed";
    Failure::busy("store_unavailable", text, Duration::from_secs(5))
}

pub(super) async fn states(c: Call<'_>) -> Result<Reply, Failure> {
    let all = c.app.engine.saved_statistics().await.map_err(away)?;
    list(all.iter().map(shown).collect::<Vec<_>>())
}

pub(super) async fn rollback(c: Call<'_>) -> Result<Reply, Failure> {
    let Back { to } = c.read()?;
    let Ok(to) = to.parse::<jiff::Timestamp>() else {
        let text = "`to` is no moment; expected one such as 2026-11-22T10:00:00Z";
        return Err(Failure::bad_request("invalid_value", text).param("to"));
    };
    let all = c.app.engine.saved_statistics().await.map_err(away)?;
    let Some(saved) = all.iter().find(|s| s.unix_ms <= to.as_millisecond()) else {
        let text = match all.last() {
            Some(oldest) => {
                format!("no state that is kept is that old; the oldest one is of {}", moment(oldest))
            }
            None => "no state of the statistics is kept yet".to_owned(),
        };
        return Err(Failure::new(StatusCode::CONFLICT, "nothing_before", text));
    };
    c.app.plane.record(c.actor.event("statistics.rollback", &moment(saved))).await?;
    c.app.engine.go_back(*saved).await.map_err(away)?;
    ok(shown(saved))
}
