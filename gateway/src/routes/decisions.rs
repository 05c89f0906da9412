//! `GET /v1/decisions/{request-id}`: how a request was decided, what ran, how it turned out.

use super::Shared;
use crate::error::Failure;
use crate::front::Arrival;
use axum::Json;
use axum::extract::{Extension, Path, State};
use types::store::Stored;

/// The record of a request.
pub(crate) async fn get(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Result<Json<Stored>, Failure> {
    let found = app.engine.stored(&id).await.map_err(|e| {
        tracing::error!(error = %e, "the store did not answer");
        Failure::busy("storage", "the store does not answer", std::time::Duration::from_secs(1))
    })?;
    let text = "no request has that identifier; it stands in the header x-turnout-decision of the answer";
    // What belongs to another tenant is as if it were not there.
    found.filter(|s| arrival.sees(&s.record.outcome.tenant)).map(Json).ok_or_else(|| Failure::not_found(text))
}
