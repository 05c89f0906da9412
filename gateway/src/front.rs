//! The front: every request passes here, whatever becomes of it; every answer leaves here with its headers.

use crate::app::App;
use crate::edge::{gate, request_id};
use crate::error::Failure;
use crate::routes;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, StatusCode, Version};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;
use tower::ServiceExt as _;

const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");
const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// What routes know of the request they serve.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// As the response's `x-request-id` says it: the client's own where it gave one.
    pub(crate) request_id: String,
    /// Under which the request is recorded. Ours alone: a client may use its identifier twice, and the
    /// second record must not hide behind the first.
    pub(crate) decision_id: String,
    pub(crate) received: Instant,
}

/// All routes; one file each.
pub(crate) fn router(app: Arc<App>) -> Router {
    let router = Router::new()
        .route(routes::CHAT, axum::routing::post(routes::chat::post))
        .route(routes::MODELS, axum::routing::get(routes::models::list))
        .route(routes::MODEL, axum::routing::get(routes::models::one))
        .route(routes::FEEDBACK, axum::routing::post(routes::feedback::post))
        .route(routes::DECISION, axum::routing::get(routes::decisions::get))
        .route(routes::HEALTH, axum::routing::get(routes::health::live))
        .route(routes::READY, axum::routing::get(routes::health::ready))
        .route(routes::METRICS, axum::routing::get(routes::metrics::get));
    router.fallback(no_route).with_state(app)
}

async fn no_route() -> Failure {
    Failure::not_found(format!("no such path; this server has {}", routes::ALL.join(", ")))
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, router: Router, request: Request<Body>) -> Response {
    let received = Instant::now();
    let (mut parts, body) = request.into_parts();
    let request_id = request_id::of(&parts.headers);
    let route = routes::of(parts.uri.path());
    let old = parts.version <= Version::HTTP_11;
    let mut response = match gate::check(&parts, app.server.edge.uri_bytes) {
        Err(refused) => refused.into_response(),
        Ok(()) => {
            let asks_upgrade = parts.headers.contains_key(http::header::UPGRADE);
            let given = parts.headers.contains_key(request_id::HEADER);
            let decision_id = if given { request_id::fresh() } else { request_id.clone() };
            parts.extensions.insert(Arrival { request_id: request_id.clone(), decision_id, received });
            let mut response = run(router, Request::from_parts(parts, body), &request_id).await;
            if asks_upgrade {
                // What follows may be of the other protocol: it must not be read as a request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    finish(&mut response, &request_id, received, old);
    app.metrics.http(route, response.status().as_u16());
    response
}

/// Runs the routes; a panic ends this request only.
async fn run(router: Router, request: Request<Body>, request_id: &str) -> Response {
    let answer = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            tracing::error!(request_id, "a request ended in a panic");
            return Failure::internal().into_response();
        }
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(CONTENT_TYPE) {
        let allow = response.headers().get(ALLOW).cloned();
        return not_allowed(allow);
    }
    response
}

fn not_allowed(allow: Option<HeaderValue>) -> Response {
    let methods = allow.as_ref().and_then(|a| a.to_str().ok()).unwrap_or("other methods").to_owned();
    let text = format!("this path takes {methods}");
    let mut response =
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).closing().into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

fn finish(response: &mut Response, request_id: &str, received: Instant, old: bool) {
    let refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(request_id::HEADER, id);
    }
    let ms = u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert(PROCESSING, HeaderValue::from(ms));
    headers.insert(NO_SNIFF.0, NO_SNIFF.1);
    if refused && !headers.contains_key(ALLOW) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    if !old {
        // HTTP/2 has no such header; the stream alone ends.
        headers.remove(CONNECTION);
    }
}
