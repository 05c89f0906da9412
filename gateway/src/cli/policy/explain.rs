//! `turnout policy explain`: what the policies make of a request that is written down.

use super::{bundle, read};
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome, Problem};
use crate::clock;
use engine::{policies, profiler};
use policies::{Around, Inputs, Phase};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use types::ChatRequest;

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
    let bundle = bundle(&global.config)?;
    let text = read(&args.file)?;
    let document: Value =
        serde_json::from_str(&text).map_err(|e| Problem(format!("{}: {e}", args.file.display())))?;
    let (mut given, phase) = match document.get("inputs") {
        Some(inputs) => (inputs.clone(), phase(&document)?),
        None => (of_request(text)?, Phase::Request),
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
    let told = bundle.policies().explain(phase, &scope);
    if out.json {
        out.value(&serde_json::to_value(&told)?);
        return Ok(GOOD);
    }
    out.text(&told.to_text(args.verbose));
    Ok(GOOD)
}

fn phase(document: &Value) -> Result<Phase, Problem> {
    let Some(name) = document.get("phase") else { return Ok(Phase::Request) };
    let known = name.as_str().and_then(Phase::parse);
    known.ok_or_else(|| Problem(format!("`phase` is {name}; expected one of {}", Phase::NAMES.join(", "))))
}

/// The variables of a request's body.
fn of_request(text: String) -> Result<Value, Problem> {
    let request = ChatRequest::decode(text.into(), &types::chat::Limits::default())
        .map_err(|e| Problem(format!("{} {}", e.pointer, e.message)))?;
    profiler::warm_up();
    let profile = profiler::profile(&request);
    let unix_ms = clock::unix().saturating_mul(1000);
    let around = Around { detector: Some(engine::workflows::detector()), ..Around::default() };
    let inputs = Inputs { request: &Arc::new(request), profile: &profile, around: &around, unix_ms };
    let mut given = policies::values_of(&policies::scope(&inputs));
    // The moment follows from `at`.
    if let Some(members) = given.as_object_mut() {
        members.remove("time");
        members.insert("at".to_owned(), json!(unix_ms));
    }
    Ok(given)
}
