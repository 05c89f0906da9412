//! `turnout workflow plan` and `list`: what a workflow may take at most.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use serde_json::json;

/// What a workflow may take at most: calls, money, time
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Its name
    name: String,
}

pub(super) fn list(global: &Global, out: &Out) -> Outcome {
    let loaded = match super::load(global, out) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(bundle) = &loaded.bundle else { return Ok(GOOD) };
    let all: Vec<_> = bundle.workflow_names().iter().filter_map(|n| bundle.workflow(n).cloned()).collect();
    if out.json {
        let row = |w: &engine::workflows::Workflow| json!({"name": w.name, "plan_hash": w.plan_hash, "description": w.description});
        out.value(&json!(all.iter().map(|w| row(w)).collect::<Vec<_>>()));
        return Ok(GOOD);
    }
    let mut table = out.table(&["workflow", "most calls", "most USD", "description"]);
    for w in &all {
        let usd = w.limits.usd.map_or_else(|| "-".to_owned(), |u| u.to_string());
        let description = w.description.clone().unwrap_or_default();
        table.add_row([w.name.clone(), w.max_calls().min(w.limits.calls).to_string(), usd, description]);
    }
    out.line(&table.to_string());
    Ok(GOOD)
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let loaded = match super::load(global, out) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(bundle) = &loaded.bundle else { return Ok(GOOD) };
    let w = super::named(bundle, &args.name)?;
    let nodes = w.outline();
    if out.json {
        let rows: Vec<_> = nodes
            .iter()
            .map(|n| json!({"node": n.path, "type": n.kind, "max_calls": n.max_calls, "timeout_ms": n.timeout.as_millis() as u64}))
            .collect();
        out.value(&json!({
            "workflow": w.name, "plan_hash": w.plan_hash, "max_calls": w.max_calls(),
            "limits": {"usd": w.limits.usd, "calls": w.limits.calls,
                "wall_ms": w.limits.wall.map(|d| d.as_millis() as u64), "tokens": w.limits.tokens},
            "nodes": rows,
        }));
        return Ok(GOOD);
    }
    let mut table = out.table(&["node", "type", "most calls", "time limit"]);
    for n in &nodes {
        let calls = if n.max_calls == 0 { String::new() } else { n.max_calls.to_string() };
        table.add_row([n.path.clone(), n.kind.to_owned(), calls, format!("{:?}", n.timeout)]);
    }
    out.line(&format!("{}  (plan {})", w.name, w.plan_hash.get(..16).unwrap_or("")));
    out.line(&table.to_string());
    let usd = w.limits.usd.map_or_else(|| "no limit of its own".to_owned(), |u| format!("{u} USD"));
    let wall = w.limits.wall.map_or_else(|| "no limit of its own".to_owned(), |d| format!("{d:?}"));
    out.line(&format!("at most {} model calls, {usd}, {wall}", w.max_calls().min(w.limits.calls)));
    Ok(GOOD)
}
