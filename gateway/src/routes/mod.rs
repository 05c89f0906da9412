//! One file per endpoint; the paths stand here once, for the router and for the labels of the metrics.

pub(crate) mod chat;
pub(crate) mod decisions;
pub(crate) mod feedback;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod runs;
mod stays;
mod unknown;
pub(crate) mod workflows;

pub(crate) use unknown::no_route;

use crate::app::App;
use axum::extract::State;
use std::sync::Arc;

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const MODELS: &str = "/v1/models";
pub(crate) const MODEL: &str = "/v1/models/{*id}";
pub(crate) const FEEDBACK: &str = "/v1/feedback";
pub(crate) const DECISION: &str = "/v1/decisions/{id}";
pub(crate) const RUNS: &str = "/v1/runs";
/// One run, and everything that is done to it.
pub(crate) const RUN: &str = "/v1/runs/{id}";
pub(crate) const WORKFLOWS: &str = "/v1/workflows";
/// Checks a text; nothing is kept.
pub(crate) const WORKFLOW_CHECK: &str = "/v1/workflows/check";
/// One workflow, and everything that can be asked of it.
pub(crate) const WORKFLOW: &str = "/v1/workflows/{name}";
pub(crate) const HEALTH: &str = "/healthz";
pub(crate) const READY: &str = "/readyz";
pub(crate) const METRICS: &str = "/metrics";

/// Every path, as the router knows it.
pub(crate) const ALL: &[&str] =
    &[CHAT, MODELS, MODEL, FEEDBACK, DECISION, RUNS, RUN, WORKFLOWS, WORKFLOW, HEALTH, READY, METRICS];

/// The endpoint that scopes of keys name; `None` = no key is needed.
pub(crate) fn endpoint(route: &str) -> Option<&'static str> {
    Some(match route {
        CHAT => "chat",
        MODELS | MODEL => "models",
        FEEDBACK => "feedback",
        DECISION => "decisions",
        RUNS | RUN => "runs",
        WORKFLOWS | WORKFLOW => "workflows",
        HEALTH | READY | METRICS => return None,
        _ => "other",
    })
}

/// What the routes share.
pub(crate) type Shared = State<Arc<App>>;

/// The pattern a path belongs to, `none` if there is none.
pub(crate) fn of(path: &str) -> &'static str {
    let fits = |pattern: &&&str| match pattern.split_once('{') {
        Some((start, _)) => path.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
        None => path == **pattern,
    };
    ALL.iter().find(fits).copied().unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_pattern() {
        for (path, want) in [
            ("/v1/models", MODELS),
            ("/v1/models/openai/gpt", MODEL),
            ("/v1/models/", "none"),
            ("/v1/decisions/req_1", DECISION),
            ("/v1/runs", RUNS),
            ("/v1/runs/run_1/events", RUN),
            ("/v1/workflows", WORKFLOWS),
            ("/v1/workflows/check", WORKFLOW),
            ("/v1/workflows/default/plan", WORKFLOW),
            ("/x", "none"),
        ] {
            assert_eq!(of(path), want);
        }
    }
}
