//! Why a run failed, as the failure that a request would have come to: same status, `type`, `code` and `param`.

use crate::error::{self, Failure};
use engine::Kind;
use http::StatusCode;
use serde::Deserialize as _;
use serde_json::{Map, Value};
use std::time::Duration;
use types::provider::ErrorKind;

/// The failure that an error stands for which is kept with a run.
pub(crate) fn failure(kept: &Value) -> Failure {
    let text = |key: &str| kept.get(key).and_then(Value::as_str);
    let code = text("code").unwrap_or("internal_error");
    let mut failure = Failure::new(status(kept, code), code, text("message").unwrap_or_default());
    if text("blame") == Some("upstream") {
        failure = failure.of_answer();
    }
    failure.param = text("param").map(str::to_owned);
    failure.retry = kept.get("retry").and_then(Value::as_bool).unwrap_or(false);
    failure.retry_after = kept.get("retry_after_ms").and_then(Value::as_u64).map(Duration::from_millis);
    failure.metadata = metadata(kept);
    failure
}

/// The `error` of a result in OpenAI's form; `None` = the run did not fail.
pub(crate) fn object(result: &Value) -> Option<Value> {
    failure(result.get("error")?).body().get_mut("error").map(Value::take)
}

/// The status of a failure: its own, that of what the vendor did, or what the code means.
fn status(kept: &Value, code: &str) -> StatusCode {
    let number =
        |v: &Value, key: &str| v.get(key).and_then(Value::as_u64).and_then(|s| u16::try_from(s).ok());
    let blame = kept.get("blame").and_then(Value::as_str).unwrap_or_default();
    if let Some(given) = number(kept, "status") {
        let usual = if blame == "policy" { StatusCode::FORBIDDEN } else { StatusCode::INTERNAL_SERVER_ERROR };
        return error::failing(given, usual);
    }
    let upstream = kept.get("upstream").unwrap_or(&Value::Null);
    if let Some(kind) = upstream.get("kind").and_then(|k| ErrorKind::deserialize(k).ok()) {
        return error::upstream(kind, number(upstream, "status"));
    }
    match (code, blame) {
        (Kind::OUT_OF_TIME | "run_expired", _) => StatusCode::GATEWAY_TIMEOUT,
        (code, _) if code.starts_with(Kind::BUDGET) => StatusCode::UNPROCESSABLE_ENTITY,
        ("insufficient_quota" | "rate_limit_exceeded", _) => StatusCode::TOO_MANY_REQUESTS,
        ("model_not_found" | "unknown_workflow", _) => StatusCode::NOT_FOUND,
        ("cancelled", _) => StatusCode::CONFLICT,
        (_, "client") => StatusCode::BAD_REQUEST,
        (_, "policy") => StatusCode::FORBIDDEN,
        (_, "capacity") => StatusCode::SERVICE_UNAVAILABLE,
        (_, "upstream") => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What is told of an error beside its message.
fn metadata(kept: &Value) -> Map<String, Value> {
    let mut metadata = Map::new();
    let mut put = |key: &str, value: Option<&Value>| {
        let empty = |v: &&Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
        if let Some(value) = value.filter(|v| !empty(v)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    };
    for key in ["attempts", "findings", "at"] {
        put(key, kept.get(key));
    }
    put("model", kept.pointer("/upstream/model"));
    put("upstream_status", kept.pointer("/upstream/status"));
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Error;
    use serde_json::json;
    use types::provider::{Error as Upstream, Fault};

    fn vendor(kind: ErrorKind, status: Option<u16>) -> Error {
        let fault = Fault { param: Some("messages[0]".into()), code: Some("vendors_own".into()) };
        Kind::Provider(Upstream {
            kind,
            status,
            model: "p/m".into(),
            detail: "words of the vendor".into(),
            retry_after: None,
            daily: false,
            no_model: false,
            unanswered: false,
            fault: Some(Box::new(fault)),
            used: None,
        })
        .into()
    }

    #[test]
    fn a_run_fails_as_a_request_does() {
        let none = |by_policy| Kind::NoCandidates { summary: "2 no_key".into(), by_policy }.into();
        let denied = |status| Kind::Denied { reason: "no".into(), code: "pii".into(), status }.into();
        let limit =
            |budget| Kind::Limit { limit: "5 of them".into(), left: "is reached".into(), budget }.into();
        let mut later = vendor(ErrorKind::RateLimited, Some(429));
        later.retry_after = Some(Duration::from_millis(1_500));
        let mut all: Vec<Error> = vec![
            Kind::UnknownModel { name: "x".into(), hint: "none".into() }.into(),
            Kind::UnknownWorkflow { name: "x".into(), param: None, hint: "none".into() }.into(),
            Kind::Invalid { param: "a.b".into(), message: "no".into() }.into(),
            Kind::Unfit { param: "tools".into(), message: "no".into(), code: "unfit_request" }.into(),
            denied(451),
            denied(200),
            none(true),
            none(false),
            Kind::PolicyEvaluation("no".into()).into(),
            Kind::Unrecorded("no".into()).into(),
            limit(true),
            limit(false),
            Kind::TooLarge { limit: "5".into(), needs: "6".into(), mend: "no", budget: false }.into(),
            Kind::LimitsAway.into(),
            Kind::out_of_money("no".into()).into(),
            Kind::Deadline.into(),
            Kind::Validation { code: "failed".into(), message: "no".into() }.into(),
            Kind::Workflow { code: "no_refund".into(), message: "no".into(), status: 418 }.into(),
            Kind::Workflow { code: "odd".into(), message: "no".into(), status: 200 }.into(),
            Kind::Internal("secret".into()).into(),
            later,
        ];
        for kind in ErrorKind::ALL {
            all.extend([None, Some(404), Some(422), Some(500)].map(|status| vendor(kind, status)));
        }
        for error in all {
            let (kept, asked) = (engine::runs::kept_error(&error), Failure::from(error));
            let told = failure(&kept["error"]);
            assert_eq!(told.body(), asked.body(), "{kept:#}");
            assert_eq!(
                (told.status, told.retry, told.retry_after),
                (asked.status, asked.retry, asked.retry_after),
                "{kept:#}"
            );
            assert_eq!(object(&kept).unwrap(), asked.body()["error"]);
        }
    }

    #[test]
    fn what_ends_runs_alone_has_its_type_as_well() {
        let check = |error: Value, status: u16, kind: &str| {
            let failure = failure(&error);
            assert_eq!((failure.status.as_u16(), failure.kind), (status, kind), "{error}");
        };
        check(json!({"code": "cancelled", "message": "m", "blame": "client"}), 409, error::INVALID);
        check(json!({"code": "run_expired", "message": "m"}), 504, "timeout_error");
        check(json!({"code": "replay_diverged", "message": "m", "blame": "internal"}), 500, "server_error");
        check(json!({"code": "plan_missing", "message": "m", "status": 500}), 500, "server_error");
        // Without a word of what went wrong.
        check(json!({}), 500, "server_error");
        assert_eq!(object(&json!({"completion": {}})), None);
    }
}
