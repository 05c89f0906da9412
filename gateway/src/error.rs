//! The one conversion of failures to HTTP: `{"error": {"message", "type", "param", "code", "metadata"?}}`.
//!
//! Everything that can go wrong on the way of a request becomes a [`Failure`] here, and only here does a
//! failure become a status, a body and the headers by which clients decide whether to try again.

use crate::openai::headers::{BUNDLE, DECISION, RUN};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::time::Duration;
use types::limits::{Shortage, Standing};
use types::provider::ErrorKind;

/// Code of failures of which nothing is told but the request id.
const INTERNAL: &str = "internal_error";
/// `x-should-retry`: `true` or `false`, outranks the rule built into OpenAI's SDKs.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Longest wait that a client is sent into. OpenAI's SDK for Node sleeps for as long as it is told, hours too, and no
/// timeout of its own ends that; its SDK for Python takes no wait that is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// `retry-after-ms`: read by OpenAI's SDKs before `Retry-After`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A failure on its way to the client.
#[derive(Clone, Debug)]
pub struct Failure {
    /// HTTP status; 4xx or 5xx.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// For a person: what was found, what was expected, what to do.
    pub message: String,
    /// The member, option or header that is at fault.
    pub param: Option<String>,
    /// Machine-readable.
    pub code: String,
    /// Whether the same request may succeed a moment later.
    pub retry: bool,
    /// When.
    pub retry_after: Option<Duration>,
    /// Attempts, findings, explanation; empty = none.
    pub metadata: Map<String, Value>,
    /// The limit that is reached, as it stands.
    pub limit: Option<Box<Standing>>,
    /// The limit that refused it, whatever counts it.
    pub short: Option<Box<Shortage>>,
    /// The record that tells why; `None` = there is none.
    pub decision: Option<String>,
    /// The configuration under which it was decided, likewise.
    pub bundle: Option<Box<str>>,
    /// The connection must not be used again.
    pub close: bool,
}

/// OpenAI's `type` of a wrong request.
pub(crate) const INVALID: &str = "invalid_request_error";

impl Failure {
    /// A failure that no retry mends; `type` follows from the status.
    pub fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure {
            status,
            kind: kind_of(status),
            message: message.into(),
            param: None,
            code: code.into(),
            retry: false,
            retry_after: None,
            metadata: Map::new(),
            limit: None,
            short: None,
            decision: None,
            bundle: None,
            close: false,
        }
    }

    /// 400.
    pub fn bad_request(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404 for a path, or a thing, that is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 500, nothing told but the request id.
    pub fn internal() -> Self {
        let text = "internal error; the request id finds it in the server's log";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, text)
    }

    /// 503 that is worth a retry after `wait`.
    pub fn busy(code: &str, message: &str, wait: Duration) -> Self {
        let mut f = Failure::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        f.retry = true;
        f.retry_after = Some(wait);
        f
    }

    /// 503: what was in work has been ended, for the server stops.
    pub(crate) fn shutting_down() -> Self {
        Failure::busy("shutting_down", "the server is shutting down", Duration::from_secs(1)).closing()
    }

    /// Names the member, option or header at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// It is the answer that fails, not the request: a 422 is no `invalid_request_error` then.
    #[must_use]
    pub(crate) fn of_answer(mut self) -> Self {
        if self.status == StatusCode::UNPROCESSABLE_ENTITY {
            self.kind = kind_of(StatusCode::INTERNAL_SERVER_ERROR);
        }
        self
    }

    /// The connection is closed after the answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The `error` object with its envelope. The record has its name in the body as well: what a client keeps of an error is
    /// often that object alone, and an event of a stream has no headers.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        });
        let mut metadata = self.metadata.clone();
        if let Some(decision) = &self.decision {
            metadata.insert("decision".to_owned(), Value::String(decision.clone()));
        }
        if let (false, Some(object)) = (metadata.is_empty(), error.as_object_mut()) {
            object.insert("metadata".to_owned(), Value::Object(metadata));
        }
        json!({ "error": error })
    }

    /// The headers by which clients decide whether to try again.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let retry = self.retry && self.retry_after.is_none_or(|wait| wait <= LONGEST_WAIT);
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(if retry { "true" } else { "false" }));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            if let Ok(ms) = u64::try_from(wait.as_millis()) {
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
            }
        }
        if let Some(limit) = self.limit.as_deref() {
            crate::openai::headers::reached(headers, limit);
        }
        for (name, value) in [(DECISION, self.decision.as_deref()), (BUNDLE, self.bundle.as_deref())] {
            if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
                headers.insert(name, value);
            }
        }
        if let Some(Ok(run)) = self.metadata.get("run").and_then(Value::as_str).map(HeaderValue::from_str) {
            headers.insert(RUN, run);
        }
        if self.close {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Of a response: nothing is told of what went wrong, so that whoever runs the server needs a line in its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Internal;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        if self.code == INTERNAL {
            response.extensions_mut().insert(Internal);
        }
        *response.status_mut() = self.status;
        self.headers(response.headers_mut());
        response
    }
}

/// OpenAI's `type` for a status.
fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => INVALID,
        503 => "service_unavailable_error",
        504 => "timeout_error",
        _ => "server_error",
    }
}

impl From<types::chat::Error> for Failure {
    fn from(e: types::chat::Error) -> Self {
        let mut f = Failure::bad_request(e.code, e.message.clone());
        f.param = e.param();
        if !e.pointer.is_empty() {
            f.metadata.insert("pointer".to_owned(), Value::String(e.pointer));
        }
        f
    }
}

impl From<engine::Error> for Failure {
    fn from(e: engine::Error) -> Self {
        if let engine::Kind::Internal(detail) = &e.kind {
            // It may quote what was sent: only who asks for it has it in the log.
            tracing::debug!(decision = e.request_id, detail, "an internal error");
        }
        let mut f = Failure::new(status(&e.kind), e.public_code(), e.public_message());
        if e.blame() == types::Blame::Upstream {
            f = f.of_answer();
        }
        f.param = e.param().map(str::to_owned);
        f.decision.clone_from(&e.request_id);
        f.bundle.clone_from(&e.bundle);
        f.retry = e.retryable();
        f.retry_after = e.retry_after.or_else(|| wait(&e.kind));
        f.close = matches!(e.kind, engine::Kind::ShuttingDown);
        f.limit = e.limit;
        f.short = e.short;
        let put = |m: &mut Map<String, Value>, key: &str, value: Option<Value>| {
            if let Some(v) = value {
                m.insert(key.to_owned(), v);
            }
        };
        let attempts = (!e.attempts.is_empty()).then(|| json!(e.attempts));
        put(&mut f.metadata, "attempts", attempts);
        put(&mut f.metadata, "findings", (!e.findings.is_empty()).then(|| json!(e.findings)));
        put(&mut f.metadata, "turnout", e.explain.map(|e| *e));
        if let engine::Kind::Provider(p) = &e.kind {
            put(&mut f.metadata, "model", Some(Value::String(p.model.clone())));
            put(&mut f.metadata, "upstream_status", p.status.map(Value::from));
        }
        f
    }
}

/// The status of a failure of the engine. A provider's word on the request
/// itself (400, 413, 422) goes through: it is the most useful status there is for the client.
fn status(kind: &engine::Kind) -> StatusCode {
    use engine::Kind;
    match kind {
        Kind::UnknownModel { .. } | Kind::UnknownWorkflow { .. } => StatusCode::NOT_FOUND,
        Kind::Invalid { .. } | Kind::Unfit { .. } => StatusCode::BAD_REQUEST,
        Kind::Denied { status, .. } => failing(*status, StatusCode::FORBIDDEN),
        Kind::NoCandidates { by_policy: true, .. } => StatusCode::FORBIDDEN,
        Kind::NoCandidates { .. } | Kind::Overloaded | Kind::ShuttingDown | Kind::LimitsAway => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Kind::Limit { .. } | Kind::TooLarge { .. } => StatusCode::TOO_MANY_REQUESTS,
        Kind::Budget { .. } | Kind::Validation { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Deadline => StatusCode::GATEWAY_TIMEOUT,
        Kind::Provider(e) => upstream(e.kind, e.status),
        Kind::Workflow { status, .. } => failing(*status, StatusCode::INTERNAL_SERVER_ERROR),
        Kind::PolicyEvaluation(_) | Kind::Unrecorded(_) | Kind::Internal(_) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// A status that an author or a rule has chosen, if it is one of failures.
pub(crate) fn failing(status: u16, or: StatusCode) -> StatusCode {
    match StatusCode::from_u16(status) {
        Ok(s) if s.is_client_error() || s.is_server_error() => s,
        _ => or,
    }
}

/// The status of a vendor's failure.
pub(crate) fn upstream(kind: ErrorKind, status: Option<u16>) -> StatusCode {
    match kind {
        ErrorKind::RateLimited | ErrorKind::Quota | ErrorKind::FreeTier | ErrorKind::KeyLimit => {
            StatusCode::TOO_MANY_REQUESTS
        }
        ErrorKind::Connect | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::FirstTokenTimeout | ErrorKind::InterTokenTimeout | ErrorKind::TotalTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
        ErrorKind::ContextOverflow | ErrorKind::ContentFiltered => StatusCode::BAD_REQUEST,
        ErrorKind::BadRequest => match status {
            Some(s @ (400 | 413 | 422)) => StatusCode::from_u16(s).unwrap_or(StatusCode::BAD_GATEWAY),
            // Nobody was asked: the vendor's dialect has no words for what the request holds.
            None => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        },
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// When to try again where the engine names no time but load is the cause.
fn wait(kind: &engine::Kind) -> Option<Duration> {
    matches!(kind, engine::Kind::Overloaded | engine::Kind::ShuttingDown).then_some(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_which_nothing_is_told_are_marked_for_the_log() {
        let marked = |f: Failure| f.into_response().extensions().get::<Internal>().is_some();
        assert!(marked(Failure::internal()));
        assert!(marked(engine::Error::from(engine::Kind::Internal("secret".into())).into()));
        assert!(!marked(Failure::bad_request("x", "y")));
    }
    use engine::Kind;
    use types::matrix::Model;
    use types::provider::Error as Upstream;

    fn provider(kind: ErrorKind, status: Option<u16>) -> engine::Error {
        Kind::Provider(Upstream {
            kind,
            status,
            model: "p/m".into(),
            detail: "secret text of the vendor".into(),
            retry_after: None,
            daily: false,
            no_model: false,
            unanswered: false,
            fault: Some(Box::new(types::provider::Fault {
                param: Some("messages[0]".into()),
                code: Some("vendors_own".into()),
            })),
            used: None,
        })
        .into()
    }

    fn check(e: engine::Error, status: u16, code: &str, retry: bool) {
        let f = Failure::from(e);
        assert_eq!((f.status.as_u16(), f.code.as_str(), f.retry), (status, code, retry), "{}", f.message);
        // What the vendor said is for whoever can put it right: the client, where the request is at fault.
        let told = f.body().to_string().contains("secret");
        let about_it = ["vendors_own", "context_length_exceeded"].contains(&code);
        assert_eq!(told, about_it || code == "bad_request", "{}", f.body());
        assert_eq!(f.body().to_string().contains("messages[0]"), about_it, "{}", f.body());
        assert!(f.status.as_u16() >= 400);
        tabled(code, status);
    }

    /// The table of codes has a row of it, or names it in the row of one with the same status.
    fn tabled(code: &str, status: u16) {
        // A rule's own, and a vendor's.
        if ["pii", "vendors_own"].contains(&code) {
            return;
        }
        let page = include_str!("../../docs/api.md");
        let (_, table) = page.split_once("\n### Codes\n").unwrap();
        let mut rows = table.lines().skip_while(|l| !l.starts_with('|')).take_while(|l| l.starts_with('|'));
        let (name, status) = (format!("`{code}`"), status.to_string());
        let of =
            |row: &str| row.contains(&name) && row.split(" | ").skip(1).any(|cell| cell.contains(&status));
        assert!(rows.any(of), "docs/api.md has no row of {name} with the status {status}");
    }

    #[test]
    fn what_vendors_do_stands_in_the_table_of_codes() {
        let told = |k: &ErrorKind| !matches!(k, ErrorKind::ContextOverflow | ErrorKind::Cancelled);
        for kind in ErrorKind::ALL.into_iter().filter(told) {
            let f = Failure::from(engine::Error::from(Kind::Provider(Upstream {
                fault: None,
                ..Upstream::new(kind, &Model::new("p/m", 0, (1, 1)), "")
            })));
            tabled(&f.code, if kind == ErrorKind::BadRequest { 502 } else { f.status.as_u16() });
        }
        // What the engine says of nodes of workflows.
        for (code, status) in engine::node_codes() {
            tabled(&code, status);
        }
    }

    #[test]
    fn every_failure_has_its_status_code_and_retry() {
        let unknown = Kind::UnknownModel { name: "x".into(), hint: "did you mean `y`?".into() };
        check(unknown.into(), 404, "model_not_found", false);
        let none = |by_policy| Kind::NoCandidates { summary: "2 no_key".into(), by_policy };
        check(none(true).into(), 403, "no_candidates", false);
        check(none(false).into(), 503, "no_candidates", false);
        check(Kind::Overloaded.into(), 503, "queue_full", true);
        check(
            Kind::Limit { limit: "5 requests per minute".into(), left: "is reached".into(), budget: false }
                .into(),
            429,
            "rate_limit_exceeded",
            true,
        );
        check(
            Kind::Limit { limit: "5 USD per day".into(), left: "is reached".into(), budget: true }.into(),
            429,
            "insufficient_quota",
            false,
        );
        let large = |budget| Kind::TooLarge {
            limit: "5 tokens".into(),
            needs: "6 tokens".into(),
            mend: "ask for less",
            budget,
        };
        check(large(false).into(), 429, "rate_limit_exceeded", false);
        check(large(true).into(), 429, "insufficient_quota", false);
        check(Kind::LimitsAway.into(), 503, "limits_unavailable", true);
        check(Kind::ShuttingDown.into(), 503, "shutting_down", true);
        check(Kind::Deadline.into(), 504, "budget.wall", false);
        check(Kind::out_of_money("no".into()).into(), 422, "budget.usd", false);
        check(Kind::Internal("secret".into()).into(), 500, "internal_error", false);
        check(
            Kind::Denied { reason: "no".into(), code: "pii".into(), status: 451 }.into(),
            451,
            "pii",
            false,
        );
        check(
            Kind::Denied { reason: "no".into(), code: "pii".into(), status: 200 }.into(),
            403,
            "pii",
            false,
        );
        check(provider(ErrorKind::RateLimited, Some(429)), 429, "rate_limited", false);
        check(provider(ErrorKind::Unavailable, Some(500)), 503, "unavailable", false);
        check(provider(ErrorKind::InterTokenTimeout, None), 504, "inter_token_timeout", false);
        check(provider(ErrorKind::StreamLost, None), 502, "stream_lost", false);
        let mut later = provider(ErrorKind::RateLimited, Some(429));
        later.retry_after = Some(Duration::from_secs(2));
        check(later, 429, "rate_limited", true);
        check(
            Kind::Invalid { param: "a.b".into(), message: "no".into() }.into(),
            400,
            "invalid_value",
            false,
        );
        check(provider(ErrorKind::Auth, Some(401)), 502, "auth", false);
        check(provider(ErrorKind::BadRequest, Some(422)), 422, "vendors_own", false);
        check(provider(ErrorKind::BadRequest, None), 400, "vendors_own", false);
        let message = "`p/m` takes no tools".into();
        let unfit = Kind::Unfit { param: "tools".into(), message, code: "unfit_request" };
        check(unfit.into(), 400, "unfit_request", false);
        check(provider(ErrorKind::BadRequest, Some(404)), 502, "bad_request", false);
        check(provider(ErrorKind::ContextOverflow, Some(400)), 400, "context_length_exceeded", false);
    }

    #[test]
    fn the_body_is_openais_and_the_attempts_are_told() {
        let mut e = provider(ErrorKind::Unavailable, Some(503));
        e.attempts = vec![engine::error::Attempt {
            model: "p/m".into(),
            kind: ErrorKind::Unavailable,
            status: Some(503),
        }];
        e.retry_after = Some(Duration::from_millis(1500));
        let f = Failure::from(e);
        let body = f.body();
        assert_eq!(body["error"]["metadata"]["attempts"][0]["kind"], "unavailable");
        assert_eq!(body["error"]["param"], Value::Null);
        let response = f.into_response();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-");
        assert_eq!(
            (header("retry-after"), header("retry-after-ms"), header("x-should-retry")),
            ("2", "1500", "true")
        );
    }

    #[test]
    fn the_record_is_named_where_there_is_one() {
        let mut e = engine::Error::from(Kind::Deadline);
        assert_eq!(Failure::from(e.clone()).body()["error"].get("metadata"), None);
        e.request_id = Some("req_1".into());
        let f = Failure::from(e);
        assert_eq!(f.body()["error"]["metadata"], json!({"decision": "req_1"}));
        assert_eq!(f.into_response().headers()[DECISION], "req_1");
    }

    #[test]
    fn no_client_is_sent_to_sleep_for_hours() {
        for (seconds, retry) in [(1, "true"), (120, "true"), (121, "false"), (79_707, "false")] {
            let response = Failure::busy("x", "y", Duration::from_secs(seconds)).into_response();
            let header =
                |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-");
            assert_eq!((header("x-should-retry"), header("retry-after")), (retry, &*seconds.to_string()));
        }
    }

    #[test]
    fn a_wrong_body_names_the_member() {
        let e =
            types::ChatRequest::from_value(&json!({"model": "auto", "messages": [], "n": 1})).unwrap_err();
        let f = Failure::from(e);
        assert_eq!((f.status.as_u16(), f.param.as_deref()), (400, Some("messages")));
    }
}
