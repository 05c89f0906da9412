//! `turnout policy explain`: what the policies make of a request that is written down.

use super::{bundle, read};
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome, Problem};
use crate::clock;
use policies::{Around, Inputs, Phase};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::ChatRequest;
use types::diagnostic::nearest;

/// Tell what the policies make of a request
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy explain request.json\n  turnout policy explain request.json --verbose\n  turnout policy explain request.json --set tenant.tier=gold --set budget.state=red\n  echo '{\"inputs\":{\"tenant\":{\"region\":\"eu\"}}}' | turnout policy explain -\n  echo '{\"inputs\":{\"tool\":{\"name\":\"send_mail\"}},\"phase\":\"tool\"}' | turnout policy explain -\n\nThe file holds the body of a chat request, or the variables themselves under `inputs`, as tests and witnesses have\nthem; what is not given takes its default. Models that only the router leaves out (no key, too small) are not\nconsidered."
)]
pub(super) struct Args {
    /// Body of a chat request, or a map with `inputs`; `-` reads standard input
    file: PathBuf,
    /// A variable's value, such as tenant.tier=gold; repeat for more
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Tell of rules that do not match, too, and name every model
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if let Some(id) = args.file.to_str().filter(|id| is_record(id) && !args.file.exists()) {
        return Err(Problem(format!(
            "there is no file `{id}`; a request on record is told of by `turnout explain {id}`"
        )));
    }
    let bundle = bundle(&global.config)?;
    let text = read(&args.file)?;
    let document: Value =
        serde_json::from_str(&text).map_err(|e| Problem(format!("{}: {e}", args.file.display())))?;
    let (mut given, options, phase) = match document.get("inputs") {
        Some(inputs) => (inputs.clone(), None, phase(&document)?),
        None => {
            let request = Arc::new(decoded(text).map_err(|e| unfit(&args.file, &document, &e))?);
            (variables(&request), Some(request.options.clone()), Phase::Request)
        }
    };
    for assignment in &args.set {
        let Some((path, value)) = assignment.split_once('=') else {
            return Err(Problem(format!("`{assignment}` is not of the form PATH=VALUE")));
        };
        // What is no JSON is a string.
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        policies::put(&mut given, path, value);
    }
    let scope = policies::scope_of(&given, phase).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|p| format!("  {p}")).collect();
        Problem(format!("the variables are not right:\n{}", lines.join("\n")))
    })?;
    let told = bundle.policies().explain_asked(phase, &scope, options.as_ref());
    if out.json {
        out.value(&serde_json::to_value(&told)?);
        return Ok(GOOD);
    }
    out.text(&told.to_text(args.verbose));
    // What is no verb the router holds a request to itself.
    let options = document.get("routing").and_then(Value::as_object).into_iter().flatten();
    let told_of = |name: &str| told.actions.iter().any(|a| a.rule.strip_prefix("routing.") == Some(name));
    for (name, value) in options.filter(|(name, _)| !told_of(name)) {
        out.line(&format!(
            " asked    routing.{name}: {value}  [beside the rules: of two ceilings the lower holds]"
        ));
    }
    Ok(GOOD)
}

fn phase(document: &Value) -> Result<Phase, Problem> {
    let Some(name) = document.get("phase") else { return Ok(Phase::Request) };
    let known = name.as_str().and_then(Phase::parse);
    known.ok_or_else(|| Problem(format!("`phase` is {name}; expected one of {}", Phase::NAMES.join(", "))))
}

/// Whether that is how requests and runs are named.
fn is_record(id: &str) -> bool {
    ["req_", "run_"].iter().any(|start| id.starts_with(start)) && types::options::is_identifier(id)
}

fn decoded(text: String) -> Result<ChatRequest, types::chat::Error> {
    ChatRequest::decode(text.into(), &types::chat::Limits::default())
}

/// Why a document is no request: where, and the member that may have been meant.
fn unfit(file: &Path, document: &Value, e: &types::chat::Error) -> Problem {
    let name = e.pointer.rsplit('/').next().unwrap_or_default();
    let said =
        if e.message.contains(&format!("`{name}`")) { String::new() } else { format!("{} ", e.pointer) };
    let members = document.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let near = match document.get(name) {
        None if e.pointer == format!("/{name}") => nearest(name, members),
        _ => Vec::new(),
    };
    let meant = near.first().map(|n| format!("; is `{n}` meant to be it?")).unwrap_or_default();
    Problem(format!("{}: {said}{}{meant}", file.display(), e.message))
}

/// The variables of a request.
fn variables(request: &Arc<ChatRequest>) -> Value {
    profiler::warm_up();
    let profile = profiler::profile(request);
    let unix_ms = clock::unix().saturating_mul(1000);
    let around = Around { detector: Some(workflows::detector()), ..Around::default() };
    let inputs = Inputs { request, profile: &profile, around: &around, unix_ms };
    let mut given = policies::values_of(&policies::scope(&inputs));
    // The moment follows from `at`.
    if let Some(members) = given.as_object_mut() {
        members.remove("time");
        members.insert("at".to_owned(), json!(unix_ms));
    }
    given
}
