//! `turnout pool`: named sets of models, and what they come to on the running server.

use super::control::{Client, Where, show, text};
use super::out::Out;
use super::{GOOD, Global, Outcome};
use clap::Subcommand;
use serde_json::Value;

/// Pools: named sets of models
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout pool list\n  turnout pool show cheap\n  turnout pool show cheap --json | jq '.candidates'\n\nThe server that uses the data folder is asked. Pools are written in routing_rules.yaml, or put over the control API\n(docs/control.md)."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum What {
    /// All pools: where each is defined, and how many of its models can be called now
    List,
    /// One pool with its models
    Show {
        /// Its name
        name: String,
    },
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    match &args.what {
        What::List => list(&client.ask("GET", "/pools", None).await?, out),
        What::Show { name } => {
            show(out, &client.ask("GET", &format!("/pools/{name}"), None).await?, &[]);
        }
    }
    Ok(GOOD)
}

fn list(said: &Value, out: &Out) {
    if out.json {
        out.value(said);
        return;
    }
    let mut table = out.table(&["pool", "defined in", "models", "where", "can be called"]);
    for row in said.get("data").and_then(Value::as_array).into_iter().flatten() {
        let count = |name: &str| row.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        let models = row.get("models").and_then(Value::as_array).into_iter().flatten();
        table.add_row([
            text(row, "name").to_owned(),
            place(row),
            models.filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            text(row, "where").to_owned(),
            format!("{} of {}", count("candidates"), count("matches")),
        ]);
    }
    out.line(&table.to_string());
}

/// File and line, or that it is built in.
pub(super) fn place(row: &Value) -> String {
    if row.get("shipped").and_then(Value::as_bool) == Some(true) {
        return "shipped".to_owned();
    }
    let line = row.get("line").and_then(Value::as_u64).unwrap_or(1);
    format!("{}:{line}", text(row, "file"))
}
