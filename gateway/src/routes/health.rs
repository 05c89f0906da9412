//! `/healthz`: the process lives. `/readyz`: it may take traffic, and what is degraded.

use super::Shared;
use crate::admin::bearer;
use crate::control::Need;
use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// `GET /healthz`.
pub(crate) async fn live() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`. What files and rules say is told to those who may see it: everybody while no key is asked for, else
/// whoever brings a key of the control API for all tenants.
pub(crate) async fn ready(State(app): Shared, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let told = app.plane.directory().is_open()
        || app.plane.actor(bearer(&headers)).is_ok_and(|actor| actor.may(Need::ViewAll).is_ok());
    let health = app.engine.health();
    let mut degraded: Vec<String> = Vec::new();
    degraded.extend(app.store_degraded());
    degraded.extend(app.disk.told());
    degraded.extend(app.afar.degraded());
    degraded.extend(app.bundles.refused(told));
    degraded.extend(app.bundles.went_back());
    let bundle = app.engine.bundle();
    let away = bundle.policies().put_away().into_iter().filter(|(_, (_, away))| *away);
    degraded.extend(away.map(|(policy, _)| {
        let which = if told { format!("`{policy}`") } else { "one".to_owned() };
        format!("policies: {which} reached its limits too often and is put away; its `on_error` holds")
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
