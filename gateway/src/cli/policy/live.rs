//! `turnout policy list`, `show`, `put`, `remove`: the rules and scripts in force on a running server.

use super::super::control::{self, Client, Trial, Where, show, show_change, text};
use super::super::out::{Out, moment_of};
use super::super::pool::place;
use super::super::{GOOD, Global, Outcome};
use super::read;
use clap::ValueEnum;
use serde_json::{Map, Value};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy list\n  turnout policy list --json | jq '.data[] | select(.matched == 0) | .id'"
)]
pub(super) struct ListArgs {}

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  turnout policy show strict_is_replayable")]
pub(super) struct ShowArgs {
    /// Id of the rule or script
    id: String,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy put no_secrets rule.yaml --dry-run\n  turnout policy put spend_guard spend_guard.rhai\n  turnout policy put acme_stays_in_the_eu rule.yaml --tenant acme\n  turnout policy show no_secrets --json | jq -r .source | turnout policy put no_secrets - --kind rule\n\nA rule is one entry of `rules`, a script a whole file; both name themselves as they are put."
)]
pub(super) struct PutArgs {
    /// Id of the rule or script
    id: String,
    /// Its text; `-` is standard input
    file: PathBuf,
    /// What it is [default: by the name of the file, or as the one that it takes the place of]
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Whose requests alone a new one is about [default: everybody's]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    trial: Trial,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  turnout policy remove no_secrets --dry-run")]
pub(super) struct RemoveArgs {
    /// Id of the rule or script
    id: String,
    #[command(flatten)]
    trial: Trial,
}

/// `--kind`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One entry of `rules`
    Rule,
    /// A file of Rhai
    Script,
}

impl PutArgs {
    fn kind(&self) -> Option<Kind> {
        let ending = self.file.extension().and_then(|e| e.to_str());
        self.kind.or(match ending {
            Some("rhai") => Some(Kind::Script),
            Some("yaml" | "yml") => Some(Kind::Rule),
            _ => None,
        })
    }
}

pub(super) async fn put(global: &Global, (args, at): (&PutArgs, &Where), out: &Out) -> Outcome {
    let mut body = Map::new();
    let name = |kind| if kind == Kind::Rule { "rule" } else { "script" };
    control::put(&mut body, "source", Some(read(&args.file)?));
    control::put(&mut body, "kind", args.kind().map(name));
    control::put(&mut body, "tenant", args.tenant.as_deref());
    let path = args.trial.path(&format!("/policies/{}", args.id));
    let said = Client::find(global, at)?.ask("PUT", &path, Some(&Value::Object(body))).await?;
    show_change(out, &said);
    Ok(GOOD)
}

pub(super) async fn remove(global: &Global, (args, at): (&RemoveArgs, &Where), out: &Out) -> Outcome {
    let path = args.trial.path(&format!("/policies/{}", args.id));
    show_change(out, &Client::find(global, at)?.ask("DELETE", &path, None).await?);
    Ok(GOOD)
}

pub(super) async fn list(global: &Global, at: &Where, out: &Out) -> Outcome {
    let said = Client::find(global, at)?.ask("GET", "/policies", None).await?;
    if out.json {
        out.value(&said);
        return Ok(GOOD);
    }
    let mut table =
        out.table(&["id", "defined in", "phase", "group", "priority", "takes part", "asks for", "matched"]);
    for row in said.get("data").and_then(Value::as_array).into_iter().flatten() {
        let number = |name: &str| row.get(name).and_then(Value::as_i64).unwrap_or(0).to_string();
        table.add_row([
            text(row, "id").to_owned(),
            place(row),
            words(row, "phases"),
            text(row, "group").to_owned(),
            number("priority"),
            standing(row),
            words(row, "verbs"),
            number("matched"),
        ]);
    }
    out.line(&table.to_string());
    Ok(GOOD)
}

pub(super) async fn show_one(global: &Global, (args, at): (&ShowArgs, &Where), out: &Out) -> Outcome {
    let mut said = Client::find(global, at)?.ask("GET", &format!("/policies/{}", args.id), None).await?;
    if out.json {
        out.value(&said);
        return Ok(GOOD);
    }
    let source = said.as_object_mut().and_then(|m| m.remove("source"));
    show(out, &said, &[]);
    out.raw(source.as_ref().and_then(Value::as_str).unwrap_or(""));
    Ok(GOOD)
}

fn words(row: &Value, name: &str) -> String {
    let list = row.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Whether it takes part, and until or from when.
fn standing(row: &Value) -> String {
    let moment = |name: &str| row.get(name).and_then(moment_of);
    let now = row.get("in_force").and_then(Value::as_bool) == Some(true);
    match (text(row, "mode"), now) {
        ("disabled", _) => "no: disabled".to_owned(),
        (mode, true) => {
            let until = moment("expires_ms").map(|m| format!(" until {m} UTC")).unwrap_or_default();
            let how = if mode == "shadow" { "watches only" } else { "yes" };
            format!("{how}{until}")
        }
        (_, false) => {
            moment("starts_ms").map_or_else(|| "no: expired".to_owned(), |m| format!("no: dates ({m} UTC …)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_tells_whether_it_takes_part() {
        for (row, want) in [
            (json!({"mode": "enforce", "in_force": true}), "yes"),
            (
                json!({"mode": "shadow", "in_force": true, "expires_ms": 0}),
                "watches only until 1970-01-01 00:00:00 UTC",
            ),
            (json!({"mode": "disabled", "in_force": false}), "no: disabled"),
            (json!({"mode": "enforce", "in_force": false, "expires_ms": 0}), "no: expired"),
            (
                json!({"mode": "enforce", "in_force": false, "starts_ms": 0}),
                "no: dates (1970-01-01 00:00:00 UTC …)",
            ),
        ] {
            assert_eq!(standing(&row), want);
        }
    }
}
