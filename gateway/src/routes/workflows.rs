//! `/v1/workflows`: what there is, drawn, planned, checked, tested, and put to a request without a call.

use super::runs::marks::marks;
use super::runs::show::{form, traced, unknown_parameter};
use super::runs::{expected, map, members, submit, text};
use super::{Shared, WORKFLOW, WORKFLOW_CHECK, WORKFLOWS};
use crate::app::App;
use crate::cli::{limits_json, plan_json};
use crate::edge::request_id;
use crate::error::Failure;
use crate::front::{Arrival, may_use};
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::{Admission, Bundle, USUAL, Who, rehearse};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use types::diagnostic::{Severity, suggestion};
use types::doc::SourceFile;
use types::{ChatRequest, Diagnostic};
use workflows::{DrawFormat, Marks, Workflow};

/// The routes of workflows.
pub(crate) fn router() -> Router<Arc<App>> {
    let under = |rest: &str| format!("{WORKFLOW}/{rest}");
    Router::new()
        .route(WORKFLOWS, get(list))
        .route(WORKFLOW_CHECK, post(check))
        .route(WORKFLOW, get(one))
        .route(&under("graph"), get(graph))
        .route(&under("plan"), get(plan))
        .route(&under("test"), post(test))
        .route(&under("dry_run"), post(dry_run))
}

/// A workflow that the key may use; another one is as if it were not there.
fn named(bundle: &Bundle, who: &Who, name: &str) -> Result<Arc<Workflow>, Failure> {
    bundle.workflow(name).filter(|_| who.may_run(name)).cloned().ok_or_else(|| {
        let names = usable(bundle, who);
        let hint = suggestion(name, names.iter().map(String::as_str));
        Failure::new(StatusCode::NOT_FOUND, "unknown_workflow", format!("there is no such workflow; {hint}"))
            .param("name")
    })
}

/// The names of the workflows that the key may use.
fn usable(bundle: &Bundle, who: &Who) -> Vec<String> {
    bundle.workflow_names().into_iter().filter(|name| who.may_run(name)).collect()
}

/// A workflow without its graph.
fn row(w: &Workflow) -> Value {
    json!({
        "name": w.name, "object": "workflow", "title": w.title, "description": w.description,
        "owner": w.owner,
        "labels": w.labels.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "revision": w.revision, "plan_hash": w.plan_hash, "durability": w.durability.as_str(), "serves": w.offers(),
        "inputs": w.inputs(), "limits": limits_json(w), "max_calls": w.max_calls().min(w.limits.calls),
    })
}

/// `GET /v1/workflows`.
async fn list(State(app): Shared, Extension(arrival): Extension<Arrival>) -> Json<Value> {
    let bundle = app.engine.bundle();
    let names = usable(&bundle, &arrival.who);
    let data: Vec<Value> = names.iter().filter_map(|n| bundle.workflow(n)).map(|w| row(w)).collect();
    Json(json!({"object": "list", "data": data}))
}

/// `GET /v1/workflows/{name}`: the file as well.
async fn one(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Failure> {
    let bundle = app.engine.bundle();
    let w = named(&bundle, &arrival.who, &name)?;
    let mut object = row(&w);
    if let Some(o) = object.as_object_mut() {
        o.insert("source".to_owned(), json!(bundle.workflow_source(&name).map(|f| &*f.text)));
    }
    Ok(Json(object))
}

/// The values of a query that has no other keys than these.
///
/// # Errors
/// It has another one, or cannot be read.
fn query<const N: usize>(query: Option<&str>, keys: [&str; N]) -> Result<[Option<String>; N], Failure> {
    let mut values = [const { None }; N];
    for (key, value) in form(query.unwrap_or_default())? {
        match keys.iter().zip(&mut values).find(|(known, _)| **known == key) {
            Some((_, slot)) => *slot = Some(value),
            None => return Err(unknown_parameter(&key, &keys)),
        }
    }
    Ok(values)
}

/// `GET /v1/workflows/{name}/graph?format=mermaid|dot|svg&run=ID`: coloured by what that run of it did.
async fn graph(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    RawQuery(asked): RawQuery,
) -> Result<Response, Failure> {
    let w = named(&app.engine.bundle(), &arrival.who, &name)?;
    let [word, run] = query(asked.as_deref(), ["format", "run"])?;
    let format = DrawFormat::parse(word.as_deref().unwrap_or("mermaid"))
        .ok_or_else(|| expected("format", "mermaid, dot or svg"))?;
    let kind = if format == DrawFormat::Svg { "image/svg+xml" } else { "text/plain; charset=utf-8" };
    let marks = match run {
        None => Marks::new(),
        Some(id) => marks_of(&app, &arrival, &name, &id).await?,
    };
    Ok(([(CONTENT_TYPE, kind)], w.draw(format, &marks)).into_response())
}

/// What a run of a workflow did, for its drawing.
async fn marks_of(app: &App, arrival: &Arrival, name: &str, id: &str) -> Result<Marks, Failure> {
    // It tells of a run, and is for keys that may see runs.
    may_use(app, &arrival.who, "runs")?;
    let trace = traced(app, arrival, id).await?;
    let of = trace.pointer("/run/workflow").and_then(Value::as_str).unwrap_or_default();
    match of == name {
        true => Ok(marks(&trace)),
        false => Err(expected("run", &format!("a run of `{name}`; this one is of `{of}`"))),
    }
}

/// `GET /v1/workflows/{name}/plan?input_tokens=N&output_tokens=N`.
async fn plan(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    RawQuery(asked): RawQuery,
) -> Result<Json<Value>, Failure> {
    let bundle = app.engine.bundle();
    let w = named(&bundle, &arrival.who, &name)?;
    const KEYS: [&str; 2] = ["input_tokens", "output_tokens"];
    let tokens = |key: &str, asked: Option<String>, usual: u32| match asked {
        None => Ok(usual),
        Some(n) => n.parse::<u32>().map_err(|_| expected(key, "a number of tokens")),
    };
    let [input, output] = query(asked.as_deref(), KEYS)?;
    let [for_input, for_output] = KEYS;
    let both = (tokens(for_input, input, USUAL.0)?, tokens(for_output, output, USUAL.1)?);
    Ok(Json(plan_json(&w, &bundle.bound(&w, both, app.engine.retry()))))
}

/// `POST /v1/workflows/check`: every problem of a file, as if it stood among the workflows in force. Nothing is kept.
async fn check(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let given = members(&app, &headers, body, &["name", "text"]).await?;
    let file = file(&given)?;
    let bundle = app.engine.bundle();
    let name = file.path.clone();
    let (_, problems) = work(&app, &arrival, move || bundle.try_workflows(&[file])).await?;
    let own: Vec<&Diagnostic> = problems.iter().filter(|d| d.file == name).collect();
    let good = own.iter().all(|d| d.severity == Severity::Warning);
    Ok(Json(json!({"good": good, "problems": own})))
}

/// Does work for the processor, up to a second for the worst of files, as an errand of who asks. It goes on where that
/// one has left, and counts for as long.
///
/// # Errors
/// The errand may not begin.
async fn work<T: Send + 'static>(
    app: &App,
    arrival: &Arrival,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let errand = app.engine.errand(&arrival.who).await?;
    let done = move || (work(), errand);
    let (done, _) = app.tasks.blocking("errand", done).await.map_err(|_| Failure::internal())?;
    Ok(done)
}

fn file(given: &serde_json::Map<String, Value>) -> Result<SourceFile, Failure> {
    let name = text(given, "name")?.ok_or_else(|| expected("name", "the name of the workflow"))?;
    let text = text(given, "text")?.ok_or_else(|| expected("text", "the text of the file"))?;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !plain {
        return Err(expected("name", "letters, digits and _"));
    }
    Ok(SourceFile::new(format!("{name}.yaml"), text))
}

/// `POST /v1/workflows/{name}/test`: plays a test; nothing is called.
async fn test(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let given = members(&app, &headers, body, &["test"]).await?;
    let text = text(&given, "test")?.ok_or_else(|| expected("test", "the text of a test"))?;
    let bundle = app.engine.bundle();
    named(&bundle, &arrival.who, &name)?;
    let file = SourceFile::new("test.yaml", text);
    // A request that stands in a file of its own is not read: nothing that a caller names is opened.
    let play = move || {
        let (case, problems) = rehearse::load(&file, &|_| None, Some(&bundle));
        let Some(case) = case else {
            let mut f = Failure::bad_request("invalid_test", "the test has problems");
            f.metadata.insert("problems".to_owned(), json!(problems));
            return Err(f.param("test"));
        };
        if case.workflow != name {
            return Err(expected("test", &format!("a test of `{name}`")));
        }
        let played = rehearse::play(&bundle, &case);
        played.map_err(|why| Failure::bad_request("invalid_test", why).param("test"))
    };
    let outcome = work(&app, &arrival, play).await??;
    let path: Vec<Value> = outcome.seen.path.iter().map(|(frame, o)| json!([frame, o])).collect();
    Ok(Json(json!({"good": outcome.failures.is_empty(), "failures": outcome.failures, "path": path})))
}

/// `POST /v1/workflows/{name}/dry_run`: how a request would be decided, what would be called, what it may cost,
/// and its way on stubs.
async fn dry_run(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let (parts, body) = request.into_parts();
    let mut given = members(&app, &parts.headers, body, &["request", "inputs"]).await?;
    let workflow = named(&app.engine.bundle(), &arrival.who, &name)?;
    let has_inputs = given.contains_key("inputs");
    let (inputs, mut chat) = (map(&mut given, "inputs")?, map(&mut given, "request")?);
    let wrong = |why| Failure::bad_request("invalid_value", why).param("inputs");
    workflow.takes(&inputs).map_err(wrong)?;
    if chat.is_empty() && has_inputs {
        chat = submit::request_of(&inputs);
    }
    put_through(&mut chat, &name);
    let request = ChatRequest::from_value(&Value::Object(chat))
        .map_err(|e| Failure::bad_request("invalid_value", e.to_string()).param("request"))?;
    let errand = app.engine.errand(&arrival.who).await?;
    let admission = Admission::new(request_id::fresh(), arrival.who, arrival.received);
    let dry = app.engine.dry(admission, request.clone()).await?;
    let (bundle, request) = (app.engine.bundle(), Arc::new(request));
    // A run on stubs is work for the processor.
    let bound = dry.bound.clone();
    let run = move || (rehearse::stubbed(&bundle, &name, &request, inputs, &bound), errand);
    let run = app.tasks.blocking("errand", run).await;
    let (stubbed, _) = run.map_err(|_| Failure::internal())?;
    let stubbed = stubbed.ok();
    let mut told = json!(dry);
    if let Some(members) = told.as_object_mut() {
        members.insert("stubbed".to_owned(), json!(stubbed));
    }
    Ok(Json(told))
}

/// Has a request go through a workflow as a client would have it: with the model that it asks for, if it asks for one.
fn put_through(chat: &mut Map<String, Value>, name: &str) {
    let asked = chat.get("model").and_then(Value::as_str).filter(|m| !m.starts_with("workflow/"));
    let options = chat.get("routing").filter(|r| !r.is_null());
    match (asked.is_some(), options) {
        (true, None | Some(Value::Object(_))) => {
            let options = chat.entry("routing").or_insert(Value::Null);
            if options.is_null() {
                *options = Value::Object(Map::new());
            }
            if let Some(options) = options.as_object_mut() {
                options.insert("workflow".to_owned(), name.into());
            }
        }
        _ => {
            chat.insert("model".to_owned(), format!("workflow/{name}").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_its_model_on_its_way_through_a_workflow() {
        let check = |given: Value, want: Value| {
            let Value::Object(mut chat) = given else { panic!("{given}") };
            put_through(&mut chat, "own");
            assert_eq!(Value::Object(chat), want);
        };
        check(json!({}), json!({"model": "workflow/own"}));
        check(json!({"model": "workflow/other"}), json!({"model": "workflow/own"}));
        check(json!({"model": "auto:best"}), json!({"model": "auto:best", "routing": {"workflow": "own"}}));
        check(
            json!({"model": "p/m", "routing": {"economy": "cheapest"}}),
            json!({"model": "p/m", "routing": {"economy": "cheapest", "workflow": "own"}}),
        );
        // What is wrong is told by whoever reads the options.
        check(json!({"model": "p/m", "routing": 5}), json!({"model": "workflow/own", "routing": 5}));
    }

    #[test]
    fn names_of_files_are_plain() {
        let check = |name: &str, good: bool| {
            let given = json!({"name": name, "text": "x"});
            assert_eq!(file(given.as_object().unwrap()).is_ok(), good, "{name}");
        };
        check("own", true);
        check("own_2", true);
        for bad in ["", "../own", "a/b", "a.b", "ä"] {
            check(bad, false);
        }
    }

    #[test]
    fn queries_are_pairs() {
        let check = |asked: Option<&str>, want: Result<[Option<&str>; 2], &str>| match query(
            asked,
            ["a", "format"],
        ) {
            Ok(got) => assert_eq!(Ok(got.each_ref().map(Option::as_deref)), want),
            Err(f) => assert_eq!(Err(f.code.as_str()), want.map(|_| ()), "{f:?}"),
        };
        check(Some("a=1&format=s%76g"), Ok([Some("1"), Some("svg")]));
        check(Some("format"), Ok([None, Some("")]));
        check(None, Ok([None, None]));
        check(Some("a=1&formt=svg"), Err("unknown_parameter"));
        check(Some("a=%zz"), Err("invalid_query"));
    }
}
