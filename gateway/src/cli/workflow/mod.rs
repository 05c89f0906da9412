//! `turnout workflow`: what an author of workflows needs: begin, check, draw, plan, test, run, compare.

mod cases;
mod check;
mod diff;
mod files;
mod fmt;
mod graph;
mod kept;
mod new;
mod plan;
mod replay;
mod run;
mod schema;
mod test;

use super::out::Out;
use super::{FAILED, Global, Outcome, Problem};
use crate::config::sources::WORKFLOWS;
use crate::config::{self, Simulated, Sources};
pub(super) use cases::Tests;
use clap::Subcommand;
use engine::Bound;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::Diagnostic;
use workflows::Workflow;

/// Begin, check, draw, plan, test, run and compare workflows
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow list\n  turnout workflow new json_extraction invoices      a copy of a shipped one to change\n  turnout workflow check\n  turnout workflow graph default --format svg --out default.svg\n  turnout workflow plan json_extraction\n  turnout workflow test --coverage\n  turnout workflow run default --message \"Why is the sky blue?\" --dry\n  turnout workflow diff json_extraction invoices\n  turnout workflow fmt --check"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Every workflow that can run
    List,
    /// Every problem of workflow files, or of every file of the configuration
    Check(check::Args),
    /// Draw a workflow
    Graph(graph::Args),
    /// What a workflow may take at most: calls, money, time
    Plan(plan::Args),
    /// Play the tests of workflows; nothing is called
    Test(test::Args),
    /// Run a workflow once
    Run(run::Args),
    /// Repeat a recorded run without a call
    Replay(replay::Args),
    /// Tell how two workflows differ in what they do
    Diff(diff::Args),
    /// Give workflow files their usual form
    Fmt(fmt::Args),
    /// Begin a workflow from a shipped one
    New(new::Args),
    /// Print the JSON Schema of workflow files, for editors
    Schema(schema::Args),
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    match &args.what {
        Command::List => plan::list(global, out),
        Command::Check(args) => check::run(global, args, out),
        // It plans, for which it decides: that is long to hold.
        Command::Graph(args) => Box::pin(graph::run(global, args, out)).await,
        Command::Plan(args) => plan::run(global, args, out).await,
        Command::Test(args) => test::run(global, args, out).await,
        Command::Run(args) => run::run(global, args, out).await,
        Command::Replay(args) => replay::run(global, args, out).await,
        Command::Diff(args) => diff::run(global, args, out),
        Command::Fmt(args) => fmt::run(global, args, out),
        Command::New(args) => new::run(global, args, out),
        Command::Schema(args) => schema::run(args, out),
    }
}

/// Text of a file; `-` is standard input.
fn read(path: &Path) -> Result<String, Problem> {
    /// Largest input, in bytes.
    const MAX_BYTES: u64 = 64 * 1024 * 1024;
    use std::io::Read as _;
    let failed = |e: std::io::Error| Problem(format!("{}: {e}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

/// How answers stream to requests for text, for JSON and with tools, and why.
fn stream_modes(w: &Workflow) -> Vec<(&'static str, String)> {
    let tool = json!({"type": "function", "function": {"name": "tool"}});
    let forms = [
        ("text", json!({})),
        ("json_object", json!({"response_format": {"type": "json_object"}})),
        ("tools", json!({"tools": [tool]})),
    ];
    let mode = |(form, more): (&'static str, Value)| {
        let mut body = json!({
            "model": format!("workflow/{}", w.name), "stream": true,
            "messages": [{"role": "user", "content": "hello"}],
        });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        Some((form, w.stream_mode(&types::ChatRequest::from_value(&body).ok()?)))
    };
    forms.into_iter().filter_map(mode).collect()
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The limits of a workflow as a document; `null` where the file says nothing.
pub(crate) fn limits_json(w: &Workflow) -> Value {
    let l = &w.limits;
    json!({
        "usd": l.usd, "enough_usd": l.enough(), "wall_ms": l.wall.map(ms),
        "tokens": l.tokens, "enough_tokens": l.enough_tokens(), "calls": l.calls, "node_runs": l.node_runs,
        "parallel": l.parallel, "finish_reserve_ms": l.finish_reserve.map(ms), "on_exhausted": l.on_exhausted,
    })
}

/// A plan as a document: nodes, limits, and what it may cost.
pub(crate) fn plan_json(w: &Workflow, bound: &Bound) -> Value {
    let row = |n: &workflows::Line| json!({"node": n.path, "type": n.kind, "max_calls": n.max_calls, "timeout_ms": ms(n.timeout)});
    json!({
        "workflow": w.name, "plan_hash": w.plan_hash, "max_calls": w.max_calls(),
        "limits": limits_json(w),
        "typical": bound.typical,
        "stream": stream_modes(w).into_iter().map(|(name, mode)| (name.to_owned(), mode.into())).collect::<serde_json::Map<_, Value>>(),
        "nodes": w.outline().iter().map(row).collect::<Vec<_>>(),
        "most": {"calls": bound.calls, "asks": bound.asks, "usd": bound.most_usd(), "worst_usd": bound.worst_usd,
            "longest_way_ms": ms(w.longest().time),
            "tokens_in": bound.tokens.0, "tokens_out": bound.tokens.1, "calling": bound.nodes},
    })
}

/// The tests of the workflows of a configuration. What they name is looked for where `starts` says that everything else is
/// good.
pub(super) fn tests(
    global: &Global,
    read: (Sources, Vec<Diagnostic>),
    starts: bool,
) -> Result<Tests, Problem> {
    let any = starts && global.config.join(WORKFLOWS).is_dir();
    // With the simulated models, as where they are played.
    let bundle = any.then(|| config::load_untested(read, &Global::environment(), Simulated::Also).bundle);
    Tests::of_folder(&global.config, bundle.flatten().as_ref())
}

/// What the configuration says; `None` if it is not good, and its problems have been told.
fn load(global: &Global, out: &Out) -> Option<engine::Bundle> {
    load_with(global, out).map(|(bundle, _)| bundle)
}

/// The same, with the settings of the engine.
fn load_with(global: &Global, out: &Out) -> Option<(engine::Bundle, engine::Config)> {
    let mut loaded = config::load(&global.source(), &Global::environment(), Simulated::Also);
    let bundle = loaded.bundle.take();
    if bundle.is_none() {
        out.error(&format!("the configuration has errors:\n\n{}", loaded.report(Out::colour())));
    }
    Some((bundle?, loaded.server.engine))
}

fn named(bundle: &engine::Bundle, name: &str) -> Result<Arc<Workflow>, Problem> {
    bundle.workflow(name).cloned().ok_or_else(|| {
        let names = bundle.workflow_names();
        let hint = types::diagnostic::suggestion(name, names.iter().map(String::as_str));
        Problem(format!("there is no workflow `{name}`; {hint}"))
    })
}
