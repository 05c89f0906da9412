//! `GET /v1/decisions/{request-id}`: how a request was decided, what ran, how it turned out.

use super::Shared;
use crate::error::Failure;
use crate::front::Arrival;
use axum::Json;
use axum::extract::{Extension, Path, State};
use http::StatusCode;
use types::store::{Error, Stored};

/// The record of a request.
pub(crate) async fn get(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Result<Json<Stored>, Failure> {
    // What belongs to another tenant is as if it were not there.
    let found = match app.engine.stored(&id).await {
        Ok(found) => found.filter(|s| arrival.sees(&s.record.outcome.tenant)),
        Err(Error::Erased { tenant }) if arrival.sees(&tenant) => return Err(erased()),
        Err(Error::Erased { .. }) => None,
        Err(e) => {
            tracing::error!(error = %e, "the store did not answer");
            let text = "the store does not answer";
            return Err(Failure::busy("storage", text, std::time::Duration::from_secs(1)));
        }
    };
    let text = "no request has that identifier; it stands in the header x-turnout-decision of the answer";
    let mut found = found.ok_or_else(|| Failure::not_found(text))?;
    if arrival.over.is_none() && arrival.who.principal.key.is_some() {
        found.record.decision.leave_out_setup();
    }
    Ok(Json(found))
}

/// 410: it was here.
pub(super) fn erased() -> Failure {
    let text = "the record of that request was erased when its time was over (`log: {retention}` of a rule); what it used is \
                still counted";
    Failure::new(StatusCode::GONE, "record_erased", text)
}
