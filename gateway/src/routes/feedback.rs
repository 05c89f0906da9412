//! `POST /v1/feedback`: a word on an answer, any time later; the same word twice counts once.

use super::Shared;
use super::runs::{expected, text};
use crate::clock;
use crate::edge::body;
use crate::error::Failure;
use crate::front::Arrival;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use engine::feedback::Error;
use http::StatusCode;
use serde_json::{Map, Value, json};
use types::UnitInterval;
use types::diagnostic::suggestion;
use types::options::is_identifier;
use types::outcome::Feedback;

/// Largest body.
const MAX_BYTES: usize = 64 * 1024;
/// Longest reason, in characters.
const MAX_REASON: usize = 2_000;
/// Who says so, if nobody is named.
const SOURCE: &str = "client";
/// The principal where no key is demanded.
const OPEN: &str = "open";
const MEMBERS: &[&str] = &["request_id", "score", "success", "reason", "source"];

/// Takes a word on an answer; it is on record when this answers.
pub(crate) async fn post(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let principal = match &arrival.who.principal.key {
        Some(key) => format!("key:{}", key.id),
        None => OPEN.to_owned(),
    };
    if let Err(e) = app.engine.may_say(&arrival.who, &principal).await {
        app.metrics.feedback("refused");
        return Err(refusal(&e));
    }
    let (parts, input) = request.into_parts();
    body::require_json(&parts.headers)?;
    let bytes = read(&app, &arrival, &parts.headers, input).await?;
    let mut feedback = parse(&bytes).inspect_err(|_| app.metrics.feedback("refused"))?;
    feedback.principal = principal;
    if arrival.over.is_none() && arrival.who.principal.key.is_some() {
        let tenant = match app.engine.stored(&feedback.request_id).await.map_err(Error::from) {
            Ok(stored) => stored.map(|s| s.record.outcome.tenant),
            Err(Error::Erased { tenant }) => Some(tenant),
            Err(e) => return Err(refusal(&e)),
        };
        // A request of another tenant is as if it were not there.
        if tenant.is_none_or(|t| !arrival.sees(&t)) {
            app.metrics.feedback("refused");
            return Err(refusal(&Error::UnknownRequest));
        }
    }
    let receipt = app.engine.feedback(feedback).await.map_err(|e| {
        app.metrics.feedback("refused");
        refusal(&e)
    })?;
    app.metrics.feedback(if receipt.duplicate { "duplicate" } else { "recorded" });
    Ok(Json(json!({
        "recorded": !receipt.duplicate,
        "duplicate": receipt.duplicate,
        "reward": receipt.reward.map(UnitInterval::get),
    })))
}

async fn read(
    app: &crate::app::App,
    arrival: &Arrival,
    headers: &http::HeaderMap,
    input: Body,
) -> Result<bytes::Bytes, Failure> {
    let share = app.budget.share(arrival.key());
    let (bytes, _share) =
        body::read(headers, input, MAX_BYTES, &app.server.edge, share, &app.metrics).await?;
    Ok(bytes)
}

fn refusal(e: &Error) -> Failure {
    let said = e.public_message();
    let mut failure = match e {
        Error::UnknownRequest => {
            let hint = "it stands in the header x-turnout-decision of the answer";
            Failure::not_found(format!("{said}; {hint}")).param("request_id")
        }
        Error::Erased { .. } => super::decisions::erased().param("request_id"),
        Error::TooLate => {
            Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "too_late", said).param("request_id")
        }
        Error::TooManySources => Failure::bad_request("too_many_sources", said).param("source"),
        Error::TooMany { wait } => {
            let f = Failure::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", said);
            Failure { retry_after: Some(*wait), ..f }
        }
        Error::Store(inner) => {
            tracing::error!(error = %inner, "feedback was not recorded");
            Failure::busy("storage", &said, std::time::Duration::from_secs(1))
        }
    };
    failure.retry = e.retryable();
    failure
}

fn parse(bytes: &[u8]) -> Result<Feedback, Failure> {
    let Value::Object(body) = types::chat::document(bytes)? else {
        return Err(Failure::bad_request("invalid_type", "expected an object"));
    };
    if let Some(odd) = body.keys().find(|k| !MEMBERS.contains(&k.as_str())) {
        let shown: String = odd.chars().filter(|c| !c.is_control()).take(64).collect();
        let text = format!("unknown member `{shown}`; {}", suggestion(&shown, MEMBERS.iter().copied()));
        return Err(Failure::bad_request("unknown_member", text).param(shown));
    }
    Ok(Feedback {
        request_id: text(&body, "request_id")?
            .filter(|id| is_identifier(id))
            .ok_or_else(|| expected("request_id", "the x-turnout-decision of an answer"))?,
        ts_ms: clock::unix_ms(),
        score: score(&body)?,
        reason: text(&body, "reason")?.map(|r| r.chars().take(MAX_REASON).collect()),
        source: match text(&body, "source")? {
            None => SOURCE.to_owned(),
            Some(s) if is_identifier(&s) => s,
            Some(_) => return Err(expected("source", "1 to 256 of A-Z a-z 0-9 . _ : / @ + -")),
        },
        principal: String::new(),
    })
}

/// `score` 0..=1, or `success`; one of them.
fn score(body: &Map<String, Value>) -> Result<UnitInterval, Failure> {
    let given = |key| body.get(key).filter(|v| !v.is_null());
    match (given("score"), given("success")) {
        (Some(s), None) => {
            s.as_f64().and_then(UnitInterval::new).ok_or_else(|| expected("score", "a number in 0..=1"))
        }
        (None, Some(Value::Bool(good))) => Ok(if *good { UnitInterval::ONE } else { UnitInterval::ZERO }),
        (None, Some(_)) => Err(expected("success", "true or false")),
        (Some(_), Some(_)) => Err(expected("score", "either `score` or `success`, not both")),
        (None, None) => Err(expected("score", "`score` (0..=1) or `success` (true or false)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &Value, want: Result<(f64, &str), &str>) {
        let got = parse(body.to_string().as_bytes());
        match (got, want) {
            (Ok(f), Ok((score, source))) => assert_eq!((f.score.get(), f.source.as_str()), (score, source)),
            (Err(f), Err(param)) => assert_eq!(f.param.as_deref().unwrap_or("-"), param, "{}", f.message),
            (got, want) => panic!("{body}: {got:?} {want:?}"),
        }
    }

    #[test]
    fn words_are_checked() {
        check(&json!({"request_id": "req_1", "score": 0.25}), Ok((0.25, "client")));
        check(&json!({"request_id": "r", "success": true, "source": "ci", "reason": null}), Ok((1.0, "ci")));
        check(&json!({"request_id": "r", "success": false}), Ok((0.0, "client")));
        check(&json!({"request_id": "r"}), Err("score"));
        check(&json!({"request_id": "r", "score": 1, "success": true}), Err("score"));
        check(&json!({"request_id": "r", "score": 1.5}), Err("score"));
        check(&json!({"request_id": "r", "score": "good"}), Err("score"));
        check(&json!({"request_id": "r", "success": 1}), Err("success"));
        check(&json!({"score": 1}), Err("request_id"));
        check(&json!({"request_id": "a b", "score": 1}), Err("request_id"));
        check(&json!({"request_id": "r", "scor": 1}), Err("scor"));
        check(&json!({"request_id": "r", "score": 1, "source": "a b"}), Err("source"));
        check(&json!([1]), Err("-"));
    }
}
