//! `turnout pool`: named sets of models, what they come to on the running server, and changes of them.

use super::control::{Client, Trial, Where, put, show, show_change, text};
use super::out::Out;
use super::{GOOD, Global, Outcome};
use clap::Subcommand;
use serde_json::{Map, Value};

/// Pools: named sets of models
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout pool list\n  turnout pool show cheap\n  turnout pool show cheap --json | jq '.candidates'\n  turnout pool put cheap --where \"model.tier == 1\" --min 2 --dry-run\n  turnout pool remove cheap\n\nThe server that uses the data folder is asked. Pools are written in routing_rules.yaml; `put` and `remove` change the bundle\nin force, as a whole and only where it has no problems then (docs/control.md)."
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
    /// Put a pool, in the place of one of that name; what would have problems changes nothing
    Put {
        /// Its name
        name: String,
        #[command(flatten)]
        pool: Pool,
        #[command(flatten)]
        trial: Trial,
    },
    /// Remove a pool that nothing names
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        trial: Trial,
    },
}

/// What makes a pool: models that are named, models by what holds for them, or both.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = true)]
struct Pool {
    /// A model, pattern or alias in it, such as "groq/*"; repeat for more
    #[arg(long = "model", value_name = "SELECTOR")]
    models: Vec<String>,
    /// What holds for its models, such as "model.tier == 1"
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// How many models it must have
    #[arg(long, requires = "Pool")]
    min: Option<u32>,
    /// It may be empty
    #[arg(long, requires = "Pool")]
    optional: bool,
}

impl Pool {
    fn body(&self) -> Value {
        let mut body = Map::new();
        put(&mut body, "models", Some(self.models.clone()).filter(|models| !models.is_empty()));
        put(&mut body, "where", self.condition.clone());
        put(&mut body, "min", self.min);
        put(&mut body, "optional", self.optional.then_some(true));
        Value::Object(body)
    }
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    match &args.what {
        What::List => list(&client.ask("GET", "/pools", None).await?, out),
        What::Show { name } => {
            show(out, &client.ask("GET", &format!("/pools/{name}"), None).await?, &[]);
        }
        What::Put { name, pool, trial } => {
            let path = trial.path(&format!("/pools/{name}"));
            show_change(out, &client.ask("PUT", &path, Some(&pool.body())).await?);
        }
        What::Remove { name, trial } => {
            let path = trial.path(&format!("/pools/{name}"));
            show_change(out, &client.ask("DELETE", &path, None).await?);
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
