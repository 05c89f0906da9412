//! `GET /metrics`: OpenMetrics text.

use super::Shared;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

/// Everything that is counted.
pub(crate) async fn get(State(app): Shared) -> impl IntoResponse {
    let text = app.metrics.text(&app.reading());
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
