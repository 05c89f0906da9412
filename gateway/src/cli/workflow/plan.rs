//! `turnout workflow plan` and `list`: what a workflow may take at most.

use super::run::{self as once};
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome};
use engine::{Bound, USUAL};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use workflows::{Longest, Workflow};

/// What a workflow may take at most: calls, money, time
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow plan json_extraction\n  turnout workflow plan json_extraction --input-tokens 20000 --output-tokens 4000\n  turnout workflow plan json_extraction --request request.json     as it would be routed now\n  turnout workflow plan json_extraction --request request.json --simulated     without keys\n\n`calls` is what its nodes ask for where each call is answered at once; `attempts` is what vendors are asked at most\nwhere calls fail, are tried again, go to other models, and answers are lost on their way. Cost is what every attempt\nwould cost at the dearest model that may serve it; a run never spends more than a stated `limits.usd`."
)]
pub(super) struct Args {
    /// Its name
    name: String,
    /// Plan for this chat request, as it would be routed now; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Route it on the simulated models only
    #[arg(long, requires = "request")]
    simulated: bool,
    /// Tokens that a call reads
    #[arg(long, default_value_t = USUAL.0)]
    input_tokens: u32,
    /// Tokens that a call writes
    #[arg(long, default_value_t = USUAL.1)]
    output_tokens: u32,
}

pub(super) fn list(global: &Global, out: &Out) -> Outcome {
    let Some((bundle, config)) = &super::load_with(global, out) else { return Ok(super::FAILED) };
    let all: Vec<_> = bundle.workflow_names().iter().filter_map(|n| bundle.workflow(n).cloned()).collect();
    let bound = |w: &Workflow| bundle.bound(w, USUAL, config.retry);
    if out.json {
        let row = |w: &Workflow| {
            let most = bound(w);
            json!({"name": w.name, "plan_hash": w.plan_hash, "description": w.description,
                "most": {"calls": most.calls, "usd": most.most_usd()}})
        };
        out.value(&json!(all.iter().map(|w| row(w)).collect::<Vec<_>>()));
        return Ok(GOOD);
    }
    let mut table = out.table(&["workflow", "most calls", "most USD", "description"]);
    for w in &all {
        let most = bound(w);
        let usd = most.most_usd().map_or_else(|| "unknown".to_owned(), |u| u.to_string());
        let description = w.description.clone().unwrap_or_default();
        table.add_row([w.name.clone(), most.calls.to_string(), usd, description]);
    }
    out.line(&table.to_string());
    Ok(GOOD)
}

/// For a request, as it would be routed now.
pub(super) async fn routed(global: &Global, args: &Args, path: &std::path::Path, out: &Out) -> Outcome {
    let mut body = once::request(path)?;
    body.insert("model".to_owned(), format!("workflow/{}", args.name).into());
    let running = once::start(global, args.simulated).await?;
    let w = super::named(&running.engine().bundle(), &args.name)?;
    let dry = once::dry(&running, &Value::Object(body)).await?;
    once::tell_dry(&dry, &way(&w, running.engine().usual_deadline(false, None)), None, out);
    Ok(GOOD)
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if let Some(path) = &args.request {
        return routed(global, args, path, out).await;
    }
    let Some((bundle, config)) = &super::load_with(global, out) else { return Ok(super::FAILED) };
    let w = super::named(bundle, &args.name)?;
    let bound = bundle.bound(&w, (args.input_tokens, args.output_tokens), config.retry);
    let nodes = w.outline();
    if out.json {
        out.value(&super::plan_json(&w, &bound));
        return Ok(GOOD);
    }
    let mut table = out.table(&["node", "type", "most calls", "time limit"]);
    for n in &nodes {
        let calls = if n.max_calls == 0 { String::new() } else { n.max_calls.to_string() };
        table.add_row([n.path.clone(), n.kind.to_string(), calls, format!("{:?}", n.timeout)]);
    }
    out.line(&format!("{}  (plan {})", w.name, w.plan_hash.get(..16).unwrap_or("")));
    out.line(&table.to_string());
    tell_bound(&bound, out);
    tell_way(&way(&w, config.default_deadline), out);
    for (what, mode) in super::stream_modes(&w) {
        out.line(&format!("stream   {what}: {mode}"));
    }
    Ok(GOOD)
}

/// How long a workflow may take, and its longest way by the times that its file gives. `usual`: the longest time of a
/// request whose workflow names none.
pub(super) struct Way {
    pub(super) wall: Duration,
    pub(super) longest: Longest,
}

pub(super) fn way(w: &Workflow, usual: Duration) -> Way {
    Way { wall: w.limits.wall.unwrap_or(usual), longest: w.longest() }
}

pub(super) fn tell_way(way: &Way, out: &Out) {
    let Way { wall, longest } = way;
    let told = if longest.nodes.is_empty() {
        "no node says how long it may take".to_owned()
    } else {
        format!("the longest way: {:?}, {}", longest.time, longest.told())
    };
    out.line(&format!("time     at most {wall:?} ({told})"));
}

/// Which models are called, how often at most, for how much.
pub(super) fn tell_bound(bound: &Bound, out: &Out) {
    let mut table =
        out.table(&["node", "calls", "attempts", "first model", "others", "USD an attempt", "USD"]);
    let usd = |u: Option<types::Usd>| u.map_or_else(|| "unknown".to_owned(), |u| u.to_string());
    for r in &bound.nodes {
        let first = r.models.first().map_or_else(|| "none".to_owned(), |m| m.to_string());
        let others = r.models.len().saturating_sub(1).to_string();
        let (calls, attempts) = (r.calls.to_string(), r.attempts.to_string());
        table.add_row([r.node.clone(), calls, attempts, first, others, usd(r.call_usd), usd(r.usd)]);
    }
    out.line(&table.to_string());
    out.line(&format!(
        "calls    {} where each is answered at once, at most {} with all that may fail (limit {}), of {} tokens in and \
         {} out",
        bound.asks, bound.calls, bound.limit_calls, bound.tokens.0, bound.tokens.1
    ));
    let typical = &bound.typical;
    out.line(&format!(
        "usually  {:.2} calls, {} USD, {:.1} s, as far as is believed of the models",
        typical.calls,
        usd(typical.usd),
        typical.total_ms / 1e3
    ));
    let limit = match (bound.limit_usd, bound.enough_usd) {
        (Some(limit), _) => format!("limit {limit} USD"),
        (None, Some(enough)) => format!("no limit is stated: once {enough} USD are spent, no call begins"),
        (None, None) => "no limit".to_owned(),
    };
    out.line(&format!(
        "cost     at most {} USD ({limit}; all attempts at their dearest: {})",
        usd(bound.most_usd()),
        usd(bound.worst_usd)
    ));
}
