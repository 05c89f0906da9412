//! `/v1/runs`: durable runs. Asked for ([`submit`]), looked at ([`show`], [`events`]), acted on ([`acts`]).

pub(crate) mod acts;
pub(crate) mod chat;
pub(crate) mod events;
pub(crate) mod failed;
pub(crate) mod marks;
pub(crate) mod object;
pub(crate) mod show;
pub(crate) mod submit;

use crate::app::App;
use crate::edge::{body, json};
use crate::error::Failure;
use crate::once;
use crate::routes;
use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use engine::runs::Failure as Refusal;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::runs::{Error, State};

/// The routes of runs.
pub(crate) fn router() -> Router<Arc<App>> {
    let under = |rest: &str| format!("{}/{rest}", routes::RUN);
    Router::new()
        .route(routes::RUNS, get(show::list).post(submit::post))
        .route(routes::RUN, get(show::one).delete(show::delete))
        .route(&under("events"), get(events::get))
        .route(&under("trace"), get(show::trace))
        .route(&under("cancel"), post(acts::cancel))
        .route(&under("resume"), post(acts::resume))
        .route(&under("fork"), post(acts::fork))
        .route(&under("gates/{*frame}"), post(acts::gate))
        .route(&under("tool_outputs"), post(acts::tool_outputs))
        .route(&under("replay"), post(acts::replay))
}

/// Largest body of what is said to a run; a run's own request may be as large as a chat request.
const MAX_WORD: usize = 1 << 20;

/// When those may ask again of whom too many runs are queued.
const AGAIN: Duration = Duration::from_secs(5);

/// What a run refuses, for the client.
pub(crate) fn refusal(e: Refusal) -> Failure {
    let conflict = |code: &str, message: String| Failure::new(StatusCode::CONFLICT, code, message);
    match e {
        Refusal::Runs(Error::Unknown(_)) => Failure::not_found("no run has that identifier"),
        Refusal::Runs(Error::KeyReused { run }) => once::reused(&format!("run `{run}`")),
        Refusal::Runs(Error::Answered { key, .. }) => {
            conflict("already_answered", format!("`{key}` was answered before, and otherwise"))
        }
        Refusal::Runs(Error::Full { most }) => {
            let text = format!(
                "{most} runs of this tenant are queued already, as many as may be; ask again when some have begun"
            );
            let full = Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_queued_runs", text);
            Failure { retry: true, retry_after: Some(AGAIN), ..full }
        }
        Refusal::Runs(Error::State { run, state }) => {
            let hint = match state {
                State::Queued | State::Running => "; cancel it first, or wait for its end",
                _ => "",
            };
            conflict("wrong_state", format!("run `{run}` is {}{hint}", state.as_str()))
        }
        Refusal::Runs(e @ (Error::Store(_) | Error::Stale { .. })) => {
            tracing::error!(error = %e, "the store of runs did not answer");
            Failure::busy("storage", "the store of runs does not answer", Duration::from_secs(1))
        }
        Refusal::Engine(e) => Failure::from(*e),
        Refusal::Invalid { param, message } => Failure::bad_request("invalid_value", message).param(param),
        Refusal::Conflict { code, message, details } => {
            let mut f = conflict(code, message);
            if let Value::Object(details) = details {
                f.metadata = details;
            }
            f
        }
        Refusal::Forbidden(text) => Failure::new(StatusCode::FORBIDDEN, "not_allowed", text),
    }
}

/// The members of a body; an empty body has none.
pub(in crate::routes) async fn members(
    app: &App,
    headers: &HeaderMap,
    input: Body,
    known: &[&str],
) -> Result<Map<String, Value>, Failure> {
    let empty = headers.get(http::header::CONTENT_LENGTH).is_none_or(|l| l == "0")
        && !headers.contains_key(http::header::TRANSFER_ENCODING);
    if empty {
        return Ok(Map::new());
    }
    body::require_json(headers)?;
    let edge = &app.server.edge;
    let share = app.budget.share(None);
    let (bytes, _share) = body::read(headers, input, MAX_WORD, edge, share, &app.metrics).await?;
    json::check(&bytes, edge.json_depth, edge.json_values)?;
    object_of(&bytes, known)
}

/// A JSON object whose members are all known.
fn object_of(bytes: &Bytes, known: &[&str]) -> Result<Map<String, Value>, Failure> {
    let Value::Object(object) = types::chat::document(bytes)? else {
        return Err(Failure::bad_request("invalid_type", "expected an object"));
    };
    if let Some(odd) = object.keys().find(|k| !known.contains(&k.as_str())) {
        let shown: String = odd.chars().filter(|c| !c.is_control()).take(64).collect();
        let text = format!("unknown member `{shown}`; {}", suggestion(&shown, known.iter().copied()));
        return Err(Failure::bad_request("unknown_member", text).param(shown));
    }
    Ok(object)
}

pub(crate) fn expected(param: &str, what: &str) -> Failure {
    Failure::bad_request("invalid_value", format!("`{param}`: expected {what}")).param(param)
}

/// A member that is a string.
pub(in crate::routes) fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, Failure> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(_) => Err(expected(key, "a string")),
    }
}

/// A member that is an object.
pub(in crate::routes) fn map(
    object: &mut Map<String, Value>,
    key: &str,
) -> Result<Map<String, Value>, Failure> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(m)) => Ok(m),
        Some(_) => Err(expected(key, "an object")),
    }
}
