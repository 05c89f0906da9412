//! `turnout workflow run`: one run in this process, with its progress; or, dry, what it would call and cost.

use super::plan;
use crate::app::{self, Data, Running};
use crate::cli::explain::token;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, Problem};
use crate::config::Simulated;
use axum::body::Body;
use engine::rehearse::{self, Stubbed};
use engine::{Admission, Dry, Who};
use futures_util::StreamExt as _;
use http::{Method, Request};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use types::ChatRequest;
use types::decision::Decision;
use types::directives::RuleResult;

/// Run a workflow once
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow run default --message \"Why is the sky blue?\"\n  turnout workflow run invoices --request request.json --dry       what it would call and cost, and its way on stubs\n  turnout workflow run invoices --request request.json --simulated without keys\n  turnout workflow run report --input city=Oslo --input days=3\n  turnout --data ./runs workflow run invoices --request request.json   keeps the run, for `replay`\n\nIt runs in this process, on the providers whose keys are set. Progress goes to standard error, the answer to\nstandard output.\nExit code: 0 delivered (dry: on stubs), 2 failed or waiting for somebody."
)]
pub(super) struct Args {
    /// Its name
    name: String,
    /// What the user says
    #[arg(long, short, conflicts_with = "request")]
    message: Option<String>,
    /// A chat request as JSON; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// An input of the workflow: JSON, or else a text
    #[arg(long, value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// Most money it may spend, in US dollars
    #[arg(long)]
    usd: Option<f64>,
    /// Call nothing: tell which models it would call and what that may cost, and run it on stubs
    #[arg(long)]
    dry: bool,
    /// Run on simulated models only
    #[arg(long)]
    simulated: bool,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let inputs = inputs(&args.input)?;
    let mut body = body(args, &inputs)?;
    let running = start(global, args.simulated).await?;
    let names = running.engine().workflow_names();
    if !names.contains(&args.name) {
        let hint = types::diagnostic::suggestion(&args.name, names.iter().map(String::as_str));
        return Err(Problem(format!("there is no workflow `{}`; {hint}", args.name)));
    }
    if args.dry {
        body.insert("model".to_owned(), format!("workflow/{}", args.name).into());
        let body = Value::Object(body);
        let dry = dry(&running, &body).await?;
        let request = Arc::new(ChatRequest::from_value(&body)?);
        let bundle = running.engine().bundle();
        let stubbed =
            rehearse::stubbed(&bundle, &args.name, &request, inputs, &dry.bound).map_err(Problem)?;
        let w = super::named(&bundle, &args.name)?;
        let way = plan::way(&w, running.engine().usual_deadline(false, None));
        tell_dry(&dry, &way, Some(&stubbed), out);
        return Ok(if stubbed.outcome == "delivered" { GOOD } else { FAILED });
    }
    let ended = Box::pin(live(&running, args, body, inputs, out)).await;
    running.stop().await;
    ended
}

/// The engine of this configuration, in this process. Records go to `--data` if it is given, else nowhere.
pub(super) async fn start(global: &Global, simulated: bool) -> Result<Running, Problem> {
    let simulated = if simulated { Simulated::Only } else { Simulated::AsWritten };
    let mut settings = global.settings(simulated);
    settings.listen = Some("127.0.0.1:0".to_owned());
    settings.admin = Some("none".to_owned());
    if settings.data == Data::Default {
        settings.data = Data::Memory;
    }
    app::start(settings).await.map_err(|e| Problem(e.to_string()))
}

/// How a request to that workflow would be handled.
pub(super) async fn dry(running: &Running, body: &Value) -> Result<Dry, Problem> {
    let request = ChatRequest::from_value(body)?;
    let admission =
        Admission::new(crate::edge::request_id::fresh(), Who::open(), tokio::time::Instant::now());
    running.engine().dry(admission, request).await.map_err(|e| Problem(e.public_message()))
}

pub(super) fn tell_dry(dry: &Dry, way: &plan::Way, stubbed: Option<&Stubbed>, out: &Out) {
    if out.json {
        let mut told = json!(dry);
        if let Some(members) = told.as_object_mut() {
            let time = json!({"wall_ms": super::ms(way.wall), "longest_way_ms": super::ms(way.longest.time)});
            members.insert("time".to_owned(), time);
            members.extend(stubbed.map(|s| ("stubbed".to_owned(), json!(s))));
        }
        out.value(&told);
        return;
    }
    let axes: Vec<String> = dry.decision.profile.iter().map(|a| format!("{}={}", a.axis, a.value)).collect();
    out.line(&format!("profile  {}", axes.join("  ")));
    for line in of_rules(&dry.decision) {
        out.line(&format!("rule     {line}"));
    }
    if let Some(arm) = dry.decision.choice() {
        out.line(&format!("chosen   {} on {}: {}", arm.workflow, arm.model, dry.decision.why));
    }
    plan::tell_bound(&dry.bound, out);
    plan::tell_way(way, out);
    out.line(&format!("stream   {}", dry.stream));
    let Some(stubbed) = stubbed else { return };
    let said: Vec<&str> = stubbed.error.iter().chain(&stubbed.reason).map(String::as_str).collect();
    let error = if said.is_empty() { String::new() } else { format!(" ({})", said.join(": ")) };
    out.line(&format!(
        "on stubs {}{error}, verdict {}, {} calls",
        stubbed.outcome, stubbed.verdict, stubbed.calls
    ));
    for (frame, outcome) in &stubbed.path {
        out.line(&format!("         {frame}: {outcome}"));
    }
    for line in stubbed.text.lines() {
        out.line(&format!("         > {line}"));
    }
}

/// What rules have to say of a request: those that did not match or are switched off say nothing.
fn of_rules(decision: &Decision) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in &decision.rules {
        let own = decision.actions.iter().filter(|a| a.rule == rule.id);
        match rule.result {
            RuleResult::NotMatched | RuleResult::Disabled => {}
            RuleResult::Error => {
                let why = rule.detail.as_deref().unwrap_or_default();
                lines.push(format!("{}: left out, for it could not be evaluated: {why}", rule.id));
            }
            RuleResult::Matched | RuleResult::Shadow => {
                lines.extend(own.map(|a| format!("{}: {} {} ({})", rule.id, a.verb, a.argument, a.effect)));
            }
        }
    }
    let denials = decision.denials.iter();
    lines.extend(denials.map(|d| format!("{}: refuses ({}): {}", d.rule, d.code, d.reason)));
    if lines.is_empty() {
        lines.push("none has a say".to_owned());
    }
    lines
}

fn inputs(given: &[String]) -> Result<Map<String, Value>, Problem> {
    let one = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Problem(format!("`{text}` is no input; write --input name=value")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok((name.to_owned(), value))
    };
    given.iter().map(one).collect()
}

/// The chat request: as given, or of one message; of a run on inputs alone, those.
fn body(args: &Args, inputs: &Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    if let Some(path) = &args.request {
        return request(path);
    }
    let text = match &args.message {
        Some(m) => m.clone(),
        None if !inputs.is_empty() => Value::Object(inputs.clone()).to_string(),
        None => return Err(Problem("say what it works on: --message, --request or --input".to_owned())),
    };
    let body = json!({"messages": [{"role": "user", "content": text}]});
    Ok(body.as_object().cloned().unwrap_or_default())
}

/// A chat request of a file.
pub(super) fn request(path: &std::path::Path) -> Result<Map<String, Value>, Problem> {
    let text = super::read(path)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(Problem(format!("{}: a chat request is a JSON object", path.display()))),
        Err(e) => Err(Problem(format!("{}: this is no JSON: {e}", path.display()))),
    }
}

async fn live(
    running: &Running,
    args: &Args,
    mut body: Map<String, Value>,
    inputs: Map<String, Value>,
    out: &Out,
) -> Outcome {
    body.remove("model");
    body.remove("stream");
    let mut wish = json!({"workflow": args.name, "request": body, "inputs": inputs});
    if let (Some(usd), Some(w)) = (args.usd, wish.as_object_mut()) {
        w.insert("limits".to_owned(), json!({"usd": usd}));
    }
    let created = ask(running, Method::POST, "/v1/runs", Some(&wish)).await?;
    let id = created.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Box::pin(follow(running, &id, out)).await?;
    let run = ask(running, Method::GET, &format!("/v1/runs/{id}"), None).await?;
    if out.json {
        out.value(&run);
    } else {
        tell(&run, &id, out);
    }
    Ok(if run.get("status").is_some_and(|s| s == "succeeded") { GOOD } else { FAILED })
}

fn call(
    running: &Running,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Request<Body>, Problem> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(token) = running.folder().and_then(token) {
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |b| Body::from(b.to_string()));
    Ok(request.body(body)?)
}

/// Asks the engine of this process for a document.
pub(super) async fn ask(
    running: &Running,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Problem> {
    /// Largest answer.
    const MOST: usize = 64 << 20;
    let response = Box::pin(running.handle(call(running, method, path, body)?)).await;
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), MOST).await?;
    let document: Value = serde_json::from_slice(&bytes)?;
    if status.is_success() {
        return Ok(document);
    }
    let text = document.pointer("/error/message").and_then(Value::as_str).unwrap_or("it did not work");
    Err(Problem(text.to_owned()))
}

/// Shows the events of a run until its end.
async fn follow(running: &Running, id: &str, out: &Out) -> Result<(), Problem> {
    let path = format!("/v1/runs/{id}/events");
    let response = running.handle(call(running, Method::GET, &path, None)?).await;
    let mut pieces = response.into_body().into_data_stream();
    let mut text = String::new();
    while let Some(piece) = pieces.next().await {
        text.push_str(&String::from_utf8_lossy(&piece?));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|l| l.strip_prefix("data: "));
            let data: Option<Value> = data.and_then(|d| serde_json::from_str(d).ok());
            let waits = data.as_ref().is_some_and(|d| d["kind"] == "suspended");
            if let Some(line) = data.filter(|_| !out.json).and_then(|d| line(&d)) {
                out.note(&line);
            }
            text = rest.to_owned();
            if waits {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// An event as a line, if it tells something.
fn line(event: &Value) -> Option<String> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    Some(match text("kind")? {
        "node_started" => format!("  …       {} ({})", text("frame")?, text("node")?),
        "call_result" => {
            let effect = text("effect")?;
            let cost = usd(event.get("cost")).map(|c| format!(", {c} USD")).unwrap_or_default();
            format!(
                "  called  {effect}: {} tokens{cost}",
                event.get("tokens").and_then(Value::as_u64).unwrap_or(0)
            )
        }
        "node_resolved" => {
            let note = text("note").map(|n| format!(" ({n})")).unwrap_or_default();
            format!("  done    {}: {}{note}", text("frame")?, text("outcome")?)
        }
        "budget" => format!("  limit   {} reached", text("budget")?),
        "suspended" => format!("  waits   {}", event.get("waiting")?),
        _ => return None,
    })
}

/// Dollars as people read them.
fn usd(value: Option<&Value>) -> Option<types::Usd> {
    value?.as_f64().map(types::Usd::from_dollars)
}

fn tell(run: &Value, id: &str, out: &Out) {
    let text = |p: &str| run.pointer(p).and_then(Value::as_str);
    if let Some(answer) = text("/result/choices/0/message/content") {
        out.line(answer);
    } else if let Some(calls) = run.pointer("/result/choices/0/message/tool_calls") {
        out.line(&calls.to_string());
    }
    if let Some(e) = text("/error/message") {
        out.note(&format!("error: {e}"));
    }
    let verdict = text("/verdict").unwrap_or("none");
    let spent = run.get("spent").cloned().unwrap_or_default();
    let cost = usd(spent.get("usd")).unwrap_or_default();
    let count = |of: &str| spent.get(of).and_then(Value::as_u64).unwrap_or(0);
    let words = format!("{} calls, {} tokens, {cost} USD", count("calls"), count("tokens"));
    out.note(&format!("{id}  {}, verdict {verdict}, {words}", text("/status").unwrap_or("")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_json_or_text() {
        let got = inputs(&["a=1".into(), "b=x=y".into(), "c=[true]".into()]).ok().unwrap();
        assert_eq!(Value::Object(got), json!({"a": 1, "b": "x=y", "c": [true]}));
        assert!(inputs(&["a".into()]).is_err());
    }

    #[test]
    fn events_are_told_in_a_line() {
        let check = |event: Value, want: Option<&str>| assert_eq!(line(&event).as_deref(), want, "{event}");
        check(
            json!({"kind": "node_resolved", "frame": "fix", "node": "repair", "outcome": "repaired", "note": "fix"}),
            Some("  done    fix: repaired (fix)"),
        );
        check(
            json!({"kind": "call_result", "effect": "ask#0.1:model", "tokens": 7, "cost": 0.5}),
            Some("  called  ask#0.1:model: 7 tokens, 0.5 USD"),
        );
        check(json!({"kind": "edge", "from": "a", "to": "b", "live": true}), None);
    }
}
