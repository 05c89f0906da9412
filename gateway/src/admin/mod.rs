//! The control API, `/admin/v1`: one table of routes, from which requests are answered and the OpenAPI document is
//! written.

mod approvals;
mod bundles;
mod misfit;
mod openapi;
mod pages;
mod parts;
mod routes;
mod statistics;
#[cfg(test)]
mod tests;
mod trail;

pub(crate) use pages::MOST;

use crate::app::App;
use crate::bundles::TOO_MUCH;
use crate::control::audit::Receipts;
use crate::control::{Actor, Need};
use crate::edge::accept::Handler;
use crate::edge::payload::Payload;
use crate::edge::peer::Peer;
use crate::edge::{body, gate, json, request_id};
use crate::error::{Failure, Internal};
use crate::query::{self, Pair};
use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Where all paths begin.
pub(crate) const ROOT: &str = "/admin/v1";
/// Tells which lines of the audit trail a change has left: the number of each and its hash.
const RECEIPTS: HeaderName = HeaderName::from_static("x-turnout-audit");
/// Largest body, bytes.
pub(crate) const BODY: usize = 4 << 20;
/// All bodies together, bytes.
pub(crate) const BODIES: usize = 64 << 20;

/// One route: what it takes, what it needs, what it does.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// After [`ROOT`]; `{id}` stands for one segment.
    pub(crate) path: &'static str,
    pub(crate) need: Need,
    /// One line for the document.
    pub(crate) summary: &'static str,
    /// Parameters of the query.
    pub(crate) query: &'static [&'static str],
    /// Schema of the body; empty = it takes none.
    pub(crate) takes: &'static str,
    /// Schema of the answer.
    pub(crate) gives: &'static str,
    /// Statuses the answer may have when all is well.
    pub(crate) statuses: &'static [&'static str],
    pub(crate) run: Run,
}

/// What answers a route.
pub(crate) type Run = for<'a> fn(Call<'a>) -> BoxFuture<'a, Result<Reply, Failure>>;

/// One request to a route.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) actor: &'a Actor,
    /// The segments that stand for names.
    pub(crate) names: Vec<&'a str>,
    pub(crate) query: &'a [Pair],
    pub(crate) body: Bytes,
}

/// An answer.
pub(crate) struct Reply(pub(crate) StatusCode, pub(crate) Value);

impl Call<'_> {
    fn name(&self) -> &str {
        self.names.first().copied().unwrap_or("")
    }

    /// The body as what the route takes; an empty one as an empty object.
    fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let bytes: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        // A list would be read as the members in their order, which nobody means.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::bad_request("invalid_body", "the body is no JSON object".to_owned()));
        }
        types::chat::document(bytes)?;
        misfit::read(bytes)
    }

    /// A parameter of the query.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// A whole number of the query, within bounds.
    fn number(&self, name: &str, default: u64, most: u64) -> Result<u64, Failure> {
        let Some(text) = self.parameter(name) else { return Ok(default) };
        text.parse().ok().filter(|n| *n <= most).ok_or_else(|| {
            Failure::bad_request("invalid_value", format!("`{name}` is a whole number up to {most}"))
                .param(name)
        })
    }
}

/// What answers on the listener of the control API.
pub(crate) struct Front(pub(crate) Arc<App>);

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Response<Payload>> + Send {
        let app = self.0.clone();
        Box::pin(async move {
            if request.method() == Method::GET {
                return respond(&app, request).await.map(Payload::from);
            }
            // A change is made to its end, whether or not whoever asked for it still waits: half of one would be
            // stored and not in force.
            let (tell, told) = oneshot::channel();
            let of = app.clone();
            app.tasks.spawn("admin_change", async move {
                let _ = tell.send(respond(&of, request).await);
            });
            let response = told.await.unwrap_or_else(|_| Failure::internal().into_response());
            response.map(Payload::from)
        })
    }
}

async fn respond(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let id = request_id::of(&parts.headers);
    let receipts = Receipts::kept();
    let answer = AssertUnwindSafe(answer(app, &parts, body, (&id, &receipts))).catch_unwind().await;
    let mut response = match answer {
        Ok(Ok(Reply(status, value))) => {
            let mut r = Response::new(Body::from(value.to_string()));
            *r.status_mut() = status;
            r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            r
        }
        Ok(Err(failure)) => failure.into_response(),
        Err(_) => {
            tracing::error!(request_id = id, "a request to the control API ended in a panic");
            Failure::internal().into_response()
        }
    };
    if response.extensions().get::<Internal>().is_some() {
        tracing::error!(request_id = id, "the control API answered with an internal error");
    }
    let refused = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refused && let Ok(methods) = HeaderValue::from_str(&methods(parts.uri.path()).join(", ")) {
        headers.insert(ALLOW, methods);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(request_id::HEADER, id);
    }
    if let Some(Ok(lines)) = receipts.told().map(|told| HeaderValue::from_str(&told)) {
        headers.insert(RECEIPTS, lines);
    }
    app.metrics.http(ROOT, response.status().as_u16());
    response
}

async fn answer(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
    (id, receipts): (&str, &Receipts),
) -> Result<Reply, Failure> {
    gate::check(parts, app.server.edge.uri_bytes)?;
    let path = parts.uri.path();
    let Some(rest) = path.strip_prefix(ROOT) else {
        let text =
            format!("no such path; the control API lies under {ROOT}, its document is {ROOT}/openapi.json");
        return Err(Failure::not_found(text));
    };
    let actor = app.plane.actor(bearer(&parts.headers)).map_err(|refused| {
        app.plane.refused("admin", &refused, parts.extensions.get::<Peer>().map(|p| p.0));
        refused.failure
    })?;
    let actor = Actor { receipts: receipts.clone(), ..actor };
    let (route, names) = find(&parts.method, rest)?;
    let answer = perform(app, &actor, (route, names), parts, body).await;
    if let Err(refused) = answer.as_ref()
        && (refused.status == StatusCode::FORBIDDEN || refused.code == TOO_MUCH)
    {
        app.plane.note_forbidden(&actor, route.path, rest, &refused.code, id);
    }
    answer
}

/// Does what a route is for, if who asks may have it done.
async fn perform(
    app: &Arc<App>,
    actor: &Actor,
    (route, names): (&Route, Vec<&str>),
    parts: &Parts,
    body: Incoming,
) -> Result<Reply, Failure> {
    actor.may(route.need)?;
    if parts.method != Method::GET {
        app.disk.has_room()?;
    }
    let edge = &app.server.edge;
    let query = query::pairs(parts.uri.query().unwrap_or_default())?;
    known(route, &query)?;
    let bytes = if route.takes.is_empty() {
        Bytes::new()
    } else {
        let share = app.control_budget.share(None);
        let (bytes, _share) = body::read(&parts.headers, body, BODY, edge, share, &app.metrics).await?;
        if !bytes.is_empty() {
            body::require_json(&parts.headers)?;
            json::check(&bytes, edge.json_depth, edge.json_values)?;
        }
        bytes
    };
    (route.run)(Call { app, actor, names, query: &query, body: bytes }).await
}

/// The key of the request, if there is one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Route, Vec<&'a str>), Failure> {
    if let Some(found) = of_path(path).find(|(route, _)| route.method == method.as_str()) {
        return Ok(found);
    }
    let others: Vec<&str> = of_path(path).map(|(route, _)| route.method).collect();
    if others.is_empty() {
        return Err(Failure::not_found(format!("no such path; {ROOT}/openapi.json lists all there are")));
    }
    let text = format!("this path takes {}", others.join(", "));
    Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text))
}

/// The routes of a path, with the names that stand in it.
fn of_path(path: &str) -> impl Iterator<Item = (&'static Route, Vec<&str>)> {
    // What stands in a path as it is outranks a name in its place.
    let as_it_is = routes::ROUTES.iter().any(|r| r.path == path);
    let candidates = routes::ROUTES.iter().filter(move |r| !as_it_is || r.path == path);
    candidates.filter_map(move |route| Some((route, fits(route.path, path)?)))
}

/// The methods that a path takes, [`ROOT`] included in it.
fn methods(path: &str) -> Vec<&'static str> {
    of_path(path.strip_prefix(ROOT).unwrap_or(path)).map(|(route, _)| route.method).collect()
}

/// Whether every parameter of the query is one that the route reads, stands there once and has a value: of one that is
/// mistyped, or said in two ways, nobody knows what was meant.
fn known(route: &Route, query: &[Pair]) -> Result<(), Failure> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in query {
        let name = name.as_str();
        if !route.query.contains(&name) {
            let text = match route.query {
                [] => "this path takes no parameters".to_owned(),
                all => {
                    let hint = types::diagnostic::suggestion(name, all.iter().copied());
                    format!("this path takes the parameters {}; {hint}", all.join(", "))
                }
            };
            return Err(Failure::bad_request("unknown_parameter", text).param("query"));
        }
        if value.as_deref().is_none_or(str::is_empty) {
            let text = format!("`{name}` has no value; expected `{name}=…`");
            return Err(Failure::bad_request("invalid_value", text).param(name));
        }
        if seen.contains(&name) {
            let text = format!("`{name}` is given more than once; say it in one way");
            return Err(Failure::bad_request("repeated_parameter", text).param(name));
        }
        seen.push(name);
    }
    Ok(())
}

fn fits<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut names = Vec::new();
    let (mut of_path, mut of_pattern) = (path.split('/'), pattern.split('/'));
    loop {
        match (of_pattern.next(), of_path.next()) {
            (None, None) => return Some(names),
            (Some(p), Some(s)) if p.starts_with('{') && !s.is_empty() => names.push(s),
            (Some(p), Some(s)) if p == s => {}
            _ => return None,
        }
    }
}
