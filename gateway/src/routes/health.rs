//! `/healthz`: the process lives. `/readyz`: it may take traffic, and what is degraded.

use super::Shared;
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde_json::{Value, json};

/// `GET /healthz`.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`.
pub(crate) async fn ready(State(app): Shared) -> (StatusCode, Json<Value>) {
    let health = app.engine.health();
    let mut degraded: Vec<String> = Vec::new();
    if app.store_degraded() {
        degraded.push("store: records wait in memory".to_owned());
    }
    degraded.extend(app.disk.told());
    degraded.extend(app.bundles.refused());
    degraded.extend(app.bundles.went_back());
    let bundle = app.engine.bundle();
    let away = bundle.policies().put_away().into_iter().filter(|(_, (_, away))| *away);
    degraded.extend(away.map(|(policy, _)| {
        format!("policies: `{policy}` reached its limits too often and is put away; its `on_error` holds")
    }));
    if health.open > 0 {
        degraded
            .push(format!("{} of {} models are kept out by their breaker", health.open, health.candidates));
    }
    if health.brownout {
        degraded
            .push("brownout: hedges, shadow decisions, late judges and exploration are left out".to_owned());
    }
    let status = match (health.draining, health.candidates) {
        (true, _) => "draining",
        (false, 0) => "no_candidates",
        (false, _) if !degraded.is_empty() => "degraded",
        (false, _) => "ready",
    };
    let code = match status {
        "draining" | "no_candidates" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let body = json!({
        "status": status,
        "degraded": degraded,
        "candidates": health.candidates,
        "in_flight": health.in_flight,
        "bundle": &*app.engine.bundle_hash(),
    });
    (code, Json(body))
}
