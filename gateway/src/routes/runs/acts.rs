//! Acting on runs: cancel, resume, fork, decide, answer, repeat.

use super::{expected, failed, map, members, object, refusal, text};
use crate::app::App;
use crate::control::answered::Answered;
use crate::edge::request_id;
use crate::error::Failure;
use crate::front::Arrival;
use crate::once;
use crate::routes::{self, RUNS, Shared};
use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use engine::Who;
use engine::runs::{Decided, Overrides, Settled};
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use types::Usd;
use types::doc::SourceFile;
use types::runs::{Choice, Created, Head, PlanChoice};

/// Longest reason or comment, in characters.
const MAX_TEXT: usize = 2_000;
const PLANS: &str = "`pinned` or `latest`";

/// A run after something was done to it.
type Done = Result<(StatusCode, Json<Value>), Failure>;

fn done(status: StatusCode, head: &Head) -> Done {
    Ok((status, Json(Value::Object(object::of_head(head)))))
}

async fn body(app: &App, request: Request, known: &[&str]) -> Result<Map<String, Value>, Failure> {
    let (parts, input) = request.into_parts();
    members(app, &parts.headers, input, known).await
}

fn short(text: Option<String>) -> Option<String> {
    text.map(|t| t.chars().take(MAX_TEXT).collect())
}

fn plan(given: Option<&str>) -> Result<PlanChoice, Failure> {
    match given {
        None | Some("pinned") => Ok(PlanChoice::Pinned),
        Some("latest") => Ok(PlanChoice::Latest),
        Some(_) => Err(expected("plan", PLANS)),
    }
}

/// `POST /v1/runs/{id}/cancel`.
pub(crate) async fn cancel(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    request: Request,
) -> Done {
    let given = body(&app, request, &["reason"]).await?;
    let why = short(text(&given, "reason")?).unwrap_or_else(|| "somebody asked for it".to_owned());
    let head = app.runs.cancel(arrival.tenant(), &id, &why).await.map_err(refusal)?;
    done(StatusCode::ACCEPTED, &head)
}

/// `POST /v1/runs/{id}/resume`: choices about calls in doubt first, then the run itself.
pub(crate) async fn resume(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let resumed = resumed(&app, &arrival.who, &id, request).await;
    routes::counted(&app, &arrival.who, resumed.map(|done| done.into_response())).await
}

async fn resumed(app: &App, who: &Arc<Who>, id: &str, request: Request) -> Done {
    let mut given = body(app, request, &["plan", "choices"]).await?;
    let choice = plan(text(&given, "plan")?.as_deref())?;
    let choices = match given.remove("choices") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(expected("choices", "a list")),
    };
    let settled = choices.iter().map(settled).collect::<Result<Vec<_>, _>>()?;
    let twice =
        |(i, s): (usize, &Settled)| settled.iter().skip(i.saturating_add(1)).any(|o| o.effect == s.effect);
    if settled.iter().enumerate().any(twice) {
        return Err(expected("choices", "one for each `effect`"));
    }
    let head = app.runs.resume(who, id, choice, settled).await.map_err(refusal)?;
    done(StatusCode::ACCEPTED, &head)
}

/// One of the choices.
fn settled(one: &Value) -> Result<Settled, Failure> {
    let said = |key: &str| one.get(key).and_then(Value::as_str);
    let (Some(effect), Some(choice)) = (said("effect"), said("choice").and_then(Choice::parse)) else {
        return Err(expected("choices", "each with `effect` and `choice`: done, retry or fail"));
    };
    let mut members = one.as_object().into_iter().flat_map(|m| m.keys());
    if let Some(odd) = members.find(|k| !matches!(k.as_str(), "effect" | "choice" | "result")) {
        return Err(expected("choices", &format!("each with `effect`, `choice` and `result`, not `{odd}`")));
    }
    let result = one.get("result").cloned().unwrap_or(Value::Null);
    Ok(Settled { effect: effect.to_owned(), choice, result })
}

/// `POST /v1/runs/{id}/fork`.
pub(crate) async fn fork(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let forked = forked(&app, &arrival.who, &id, request).await;
    routes::counted(&app, &arrival.who, forked).await
}

async fn forked(app: &App, who: &Arc<Who>, id: &str, request: Request) -> Result<Response, Failure> {
    let (parts, input) = request.into_parts();
    let mut given = members(app, &parts.headers, input, &["after", "overrides"]).await?;
    let said = Value::Object(given.clone()).to_string();
    let key = once::key(&parts.headers, &format!("{RUNS}/{id}/fork"), said.as_bytes())?;
    let after =
        text(&given, "after")?.ok_or_else(|| expected("after", "the path of a node that has resolved"))?;
    let mut own = map(&mut given, "overrides")?;
    let request = map(&mut own, "request")?;
    let latest = plan(text(&own, "plan")?.as_deref())? == PlanChoice::Latest;
    let overrides = Overrides {
        body: (!request.is_empty()).then(|| Value::Object(request).to_string()),
        vars: map(&mut own, "vars")?,
        latest,
        headers: super::submit::told(app, &parts.headers),
    };
    if let Some(odd) = own.keys().find(|k| *k != "plan") {
        return Err(expected("overrides", &format!("`request`, `vars` and `plan`, not `{odd}`")));
    }
    let new_id = request_id::fresh_of("run_");
    let created = app.runs.fork(who, (id, new_id), &after, (overrides, key)).await.map_err(refusal)?;
    let mut response = done(StatusCode::ACCEPTED, created.head())?.into_response();
    if matches!(created, Created::Again(_)) {
        response.headers_mut().insert(once::REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// `POST /v1/runs/{id}/gates/{frame}`.
pub(crate) async fn gate(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path((id, frame)): Path<(String, String)>,
    request: Request,
) -> Done {
    let given = body(&app, request, &["decision", "comment", "content_hash"]).await?;
    let approved = match text(&given, "decision")?.as_deref() {
        Some("approve" | "approved") => true,
        Some("reject" | "rejected") => false,
        _ => return Err(expected("decision", "`approved` or `rejected`")),
    };
    let what = "that of the question, as GET /v1/runs/{id} shows it under `waiting`";
    let content_hash = text(&given, "content_hash")?.ok_or_else(|| expected("content_hash", what))?;
    let comment = short(text(&given, "comment")?);
    let who = &arrival.who;
    let asked = app.runs.gate_before(who, &id, &frame, &content_hash).await.map_err(refusal);
    let asked = asked.inspect_err(|refused| {
        if refused.status == StatusCode::FORBIDDEN {
            app.plane.note_refused("runs", refused, who);
        }
    })?;
    let names = who.principal.key.as_ref().map_or_else(Vec::new, |key| key.voices());
    let said = Answered { asked: &asked, names: &names, approve: approved, comment: comment.as_deref() };
    let decided = Decided { approved, comment: comment.clone(), content_hash };
    let decide = async { app.runs.decide(who, &id, &frame, decided).await.map_err(refusal) };
    let head = app.plane.answered(arrival.event(), &said, decide).await?;
    done(StatusCode::ACCEPTED, &head)
}

/// `POST /v1/runs/{id}/tool_outputs`.
pub(crate) async fn tool_outputs(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    request: Request,
) -> Done {
    let mut given = body(&app, request, &["tool_outputs"]).await?;
    let Some(Value::Array(list)) = given.remove("tool_outputs") else {
        return Err(expected("tool_outputs", "a list of {tool_call_id, output}"));
    };
    let output = |mut one: Value| {
        let call = one.get("tool_call_id").and_then(Value::as_str).map(str::to_owned);
        let output = one.get_mut("output").map(Value::take);
        call.zip(output).ok_or_else(|| expected("tool_outputs", "each with `tool_call_id` and `output`"))
    };
    let outputs = list.into_iter().map(output).collect::<Result<Vec<_>, _>>()?;
    let head = app.runs.tool_outputs(arrival.tenant(), &id, outputs).await.map_err(refusal)?;
    done(StatusCode::ACCEPTED, &head)
}

/// What a repetition may spend; `None` = it calls nobody.
fn budget(given: &mut Map<String, Value>) -> Result<Option<Usd>, Failure> {
    if given.get("live").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let mut live = map(given, "live")?;
    let usd = live.remove("usd").and_then(|v| v.as_f64()).filter(|usd| *usd > 0.0 && usd.is_finite());
    match usd {
        Some(usd) if live.is_empty() => Ok(Some(Usd::from_dollars(usd))),
        _ => Err(expected("live", "`usd`, dollars above 0, and nothing else")),
    }
}

/// `POST /v1/runs/{id}/replay`: repeats the run from its journal, without a call; with a workflow's text, under
/// that one; with `live`, asking for what is not on record.
pub(crate) async fn replay(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let mut given = body(&app, request, &["workflow", "live"]).await?;
    let live = budget(&mut given)?;
    let mut file = map(&mut given, "workflow")?;
    let file = match (text(&file, "name")?, file.remove("text")) {
        (None, None) => None,
        (Some(name), Some(Value::String(text))) => Some(SourceFile::new(format!("{name}.yaml"), text)),
        _ => return Err(expected("workflow", "`name` and `text`")),
    };
    let replay = match live {
        None => app.runs.replay(&arrival.who, &id, file).await,
        Some(usd) => {
            app.disk.has_room()?;
            app.runs.replay_live(&arrival.who, (&id, request_id::fresh()), file, usd).await
        }
    };
    let mut replay = replay.map_err(refusal)?;
    if let Some(error) = replay.result.as_ref().and_then(failed::object) {
        replay.result = Some(json!({ "error": error }));
    }
    Ok(Json(json!(replay)))
}
