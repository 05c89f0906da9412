//! The front: every request passes here, whatever becomes of it; every answer leaves here with its headers.

use crate::admin::bearer;
use crate::app::App;
use crate::control::audit::Event;
use crate::control::{Actor, Need};
use crate::cors;
use crate::edge::accept::Handler;
use crate::edge::payload::Payload;
use crate::edge::peer::{self, Peer};
use crate::edge::{gate, host, request_id};
use crate::error::{Failure, Internal};
use crate::openai::headers::{DECISION, number};
use crate::routes;
use axum::body::Body;
use axum::response::IntoResponse as _;
use axum::{BoxError, Router};
use bytes::Bytes;
use engine::Who;
use futures_util::FutureExt as _;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::time::Instant;
use tower::ServiceExt as _;
use types::control::Role;

const PROCESSING: HeaderName = HeaderName::from_static("openai-processing-ms");
/// Version of the API that is spoken here, and whose server it is: tools for OpenAI's API read them.
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("openai-version"), HeaderValue::from_static("2020-10-01"));
const ORGANIZATION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("openai-organization"), HeaderValue::from_static("turnout"));
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
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
    /// Whose request.
    pub(crate) who: Arc<Who>,
    /// Who looks on from beside the tenants: a command of this program, run by the user who runs the server, or, at the
    /// list of runs, a key of the control API.
    pub(crate) over: Option<Actor>,
}

impl Arrival {
    /// The tenant whose things are asked for.
    pub(crate) fn tenant(&self) -> &str {
        &self.who.principal.tenant.id
    }

    /// The key of the request, if it has one.
    pub(crate) fn key(&self) -> Option<&str> {
        self.who.principal.key.as_ref().map(|k| k.id.as_str())
    }

    /// A line of the audit trail on what is done here: who does it, and by which request.
    pub(crate) fn event(&self) -> Event {
        let (actor_kind, actor) = match (&self.over, self.key()) {
            (Some(over), _) => (over.kind, over.id.clone()),
            (None, Some(key)) => ("key", key.to_owned()),
            (None, None) => ("tenant", self.tenant().to_owned()),
        };
        Event { actor_kind, actor, request: self.request_id.clone(), ..Event::default() }
    }

    /// Whether something of a tenant may be seen.
    pub(crate) fn sees(&self, tenant: &str) -> bool {
        self.over.as_ref().is_some_and(|a| a.sees(Some(tenant))) || self.tenant() == tenant
    }
}

/// What answers: the chat route itself, the others through a router.
pub(crate) struct Front {
    app: Arc<App>,
    router: Router,
    /// How long connections may idle.
    keep_alive: HeaderValue,
}

/// All routes; one file each.
fn router(app: Arc<App>) -> Router {
    let router = Router::new()
        // Chat is answered before the router is asked, which has to know which methods that takes.
        .route(routes::CHAT, axum::routing::post(routes::no_route))
        .route(routes::MODELS, axum::routing::get(routes::models::list))
        .route(routes::MODEL, axum::routing::get(routes::models::one))
        .route(routes::FEEDBACK, axum::routing::post(routes::feedback::post))
        .route(routes::DECISION, axum::routing::get(routes::decisions::get))
        .merge(routes::runs::router())
        .merge(routes::workflows::router())
        .route(routes::HEALTH, axum::routing::get(routes::health::live))
        .route(routes::READY, axum::routing::get(routes::health::ready))
        .route(routes::METRICS, axum::routing::get(routes::metrics::get));
    router.fallback(routes::no_route).with_state(app)
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Response<Payload>> + Send {
        self.answer(request)
    }
}

impl Front {
    pub(crate) fn new(app: Arc<App>) -> Arc<Self> {
        let idle = app.server.edge.idle_timeout.as_secs();
        let keep_alive = HeaderValue::try_from(format!("timeout={idle}"));
        let keep_alive = keep_alive.unwrap_or(HeaderValue::from_static("timeout=0"));
        Arc::new(Front { router: router(app.clone()), app, keep_alive })
    }

    /// Answers one request.
    pub(crate) async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Response<Payload>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let received = Instant::now();
        let (parts, body) = request.into_parts();
        let request_id = request_id::of(&parts.headers);
        let route = routes::of(parts.uri.path());
        let old = parts.version <= Version::HTTP_11;
        let origins = &self.app.server.origins;
        let allowed = cors::allowed(origins, &parts.headers);
        let mut response = match gate::check(&parts, self.app.server.edge.uri_bytes) {
            Err(refused) => refused.into_response().map(Payload::from),
            // A browser asks without the key.
            Ok(()) if let Some(told) = cors::preflight(allowed.as_ref(), &parts) => told.map(Payload::from),
            Ok(()) => {
                let asks_upgrade = parts.headers.contains_key(http::header::UPGRADE);
                let given = parts.headers.contains_key(request_id::HEADER);
                let decision_id = if given { request_id::fresh() } else { request_id.clone() };
                let mut response = match admit(&self.app, &parts, route) {
                    Ok((who, over)) => {
                        let arrival =
                            Arrival { request_id: request_id.clone(), decision_id, received, who, over };
                        let answer = self.route(route, arrival, parts, body);
                        AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
                            tracing::error!(request_id, "a request ended in a panic");
                            Failure::internal().into_response().map(Payload::from)
                        })
                    }
                    // The body stays unread.
                    Err(refused) => refused.closing().into_response().map(Payload::from),
                };
                if asks_upgrade {
                    // What follows may be of the other protocol: it must not be read as a request.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        if response.extensions().get::<Internal>().is_some() {
            let decision = response.headers().get(DECISION).and_then(|id| id.to_str().ok());
            tracing::error!(request_id, decision, route, "answered with an internal error");
        }
        finish(&mut response, &request_id, received, old.then_some(&self.keep_alive));
        cors::tell(origins, allowed, response.headers_mut());
        self.app.metrics.http(route, response.status().as_u16());
        response
    }

    async fn route<B>(
        &self,
        route: &'static str,
        arrival: Arrival,
        parts: Parts,
        body: B,
    ) -> Response<Payload>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        if route == routes::CHAT && parts.method == Method::POST {
            return routes::chat::post(&self.app, arrival, &parts, body).await;
        }
        Box::pin(routed(self.router.clone(), arrival, parts, Body::new(body))).await
    }
}

/// Whose request it is, by the head alone. Probes need no key, nor does `/metrics` unless the settings say so.
fn admit(
    app: &App,
    parts: &http::request::Parts,
    route: &'static str,
) -> Result<(Arc<Who>, Option<Actor>), Failure> {
    let presented = bearer(&parts.headers);
    if route == routes::METRICS && app.server.metrics_key {
        app.plane.actor(presented).map_err(|refused| refused.failure)?.may(Need::ViewAll)?;
    }
    let Some(endpoint) = routes::endpoint(route) else { return Ok((app.nobody.clone(), None)) };
    let peer = parts.extensions.get::<Peer>();
    let from = peer.map(|p| peer::client(p.0, &parts.headers, &app.server.edge.trusted_proxies));
    if endpoint != "chat" && presented.is_some_and(|text| app.plane.is_local(text)) {
        return Ok((app.nobody.clone(), Some(Actor::local())));
    }
    let who = app.plane.authenticate(presented).map_err(|refused| {
        app.plane.refused(endpoint, &refused, from);
        refused.failure
    })?;
    if who.principal.key.is_none()
        && !app.settings.insecure_open
        && let Some(name) = host::foreign(parts)
    {
        let text = format!(
            "while no key exists this server answers to its address and to `localhost`: `{name}` may be the name of any \
             web page; make a key (turnout key create), or start with --insecure-open"
        );
        return Err(Failure::new(StatusCode::FORBIDDEN, "foreign_host", text).param("host"));
    }
    let lists_runs = route == routes::RUNS && parts.method == Method::GET;
    let over = who.principal.key.as_deref().filter(|_| lists_runs).and_then(Actor::of_key);
    if over.is_none() {
        may_use(app, &who, endpoint)?;
    }
    Ok((who, over))
}

/// Whether a key is for an endpoint; a refusal goes into the trail.
///
/// # Errors
/// 403.
pub(crate) fn may_use(app: &App, who: &Who, endpoint: &'static str) -> Result<(), Failure> {
    let Some(key) = &who.principal.key else { return Ok(()) };
    let text = match key.role {
        Role::Inference if key.scopes.endpoints.is_empty() => return Ok(()),
        Role::Inference if key.scopes.endpoints.iter().any(|e| e == endpoint) => return Ok(()),
        Role::Inference => format!("the key may not use `{endpoint}`"),
        role => {
            format!("a key with the role {} asks no models; make one with the role inference", role.as_str())
        }
    };
    let failure = Failure::new(StatusCode::FORBIDDEN, "not_allowed", text);
    app.plane.note_refused(endpoint, &failure, who);
    Err(failure)
}

async fn routed(router: Router, arrival: Arrival, mut parts: Parts, body: Body) -> Response<Payload> {
    parts.extensions.insert(arrival);
    let response = match router.oneshot(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(CONTENT_TYPE) {
        return not_allowed(response.headers().get(ALLOW).cloned()).map(Payload::from);
    }
    response.map(Payload::from)
}

fn not_allowed(allow: Option<HeaderValue>) -> Response<Body> {
    let methods = allow.as_ref().and_then(|a| a.to_str().ok()).unwrap_or("other methods").to_owned();
    let text = format!("this path takes {methods}");
    let mut response =
        Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).closing().into_response();
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// `keep_alive`: how long the connection may idle after this; `None` = HTTP/2, which has no such header.
fn finish(
    response: &mut Response<Payload>,
    request_id: &str,
    received: Instant,
    keep_alive: Option<&HeaderValue>,
) {
    let refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(request_id::HEADER, id);
    }
    let ms = usize::try_from(received.elapsed().as_millis()).unwrap_or(usize::MAX);
    headers.insert(PROCESSING, number(ms));
    headers.insert(VERSION.0, VERSION.1);
    headers.insert(ORGANIZATION.0, ORGANIZATION.1);
    headers.insert(NO_SNIFF.0, NO_SNIFF.1);
    if refused && !headers.contains_key(ALLOW) {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    match keep_alive {
        Some(_) if headers.contains_key(CONNECTION) => {}
        Some(idle) => {
            headers.insert(KEEP_ALIVE, idle.clone());
        }
        // The stream alone ends.
        None => {
            headers.remove(CONNECTION);
        }
    }
}
