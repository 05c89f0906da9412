//! `turnout tenant`, `key`, `provider-key`, `budget`, `audit`: the control API from the command line.
//!
//! On the machine of the server, as its user, no key is needed: the token that the server leaves in its data folder
//! shows who asks. From elsewhere `--url` and TURNOUT_ADMIN_KEY do.

use super::explain::folder;
use super::fetch::{self, Answered};
use super::out::{Out, moment_of};
use super::{FAILED, GOOD, Global, Outcome, Problem};
use crate::admin::ROOT;
use crate::app::ADMIN_FILE;
use crate::control::audit;
use crate::control::plane::LOCAL_TOKEN;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Where the control API is.
#[derive(clap::Args, Debug)]
pub(super) struct Where {
    /// Ask this control API instead of the one that uses the data folder; the key is TURNOUT_ADMIN_KEY
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
}

/// Tenants: who the keys belong to
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout tenant create acme --title \"Acme Ltd\" --tier gold --limit \"100 usd per month\"\n  turnout tenant change acme --limit \"50 usd per month\" --limit \"20 requests per second\"\n  turnout tenant list"
)]
pub(super) struct TenantArgs {
    #[command(subcommand)]
    what: TenantCommand,
    #[command(flatten)]
    at: Where,
}

/// What a tenant may be told.
#[derive(clap::Args, Debug)]
struct TenantFields {
    /// For people
    #[arg(long)]
    title: Option<String>,
    /// bronze, silver, gold or platinum
    #[arg(long)]
    tier: Option<String>,
    /// Where its data has to stay, for policies
    #[arg(long)]
    region: Option<String>,
    /// IANA name, for `time` in policies
    #[arg(long)]
    time_zone: Option<String>,
    /// name=value, for policies and reports; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What all its keys together may use, such as "10 usd per day"; repeat for more
    #[arg(long, value_name = "AMOUNT METRIC per WINDOW")]
    limit: Vec<String>,
    /// None of its keys is accepted while this is true
    #[arg(long)]
    suspended: Option<bool>,
}

#[derive(Subcommand, Debug)]
enum TenantCommand {
    /// All tenants
    List,
    /// One tenant
    Show {
        /// Its id
        id: String,
    },
    /// Make a tenant
    Create {
        /// Its id: lower-case letters, digits, `_`, `-`
        id: String,
        #[command(flatten)]
        fields: TenantFields,
    },
    /// Change a tenant; what is not named stays
    Change {
        /// Its id
        id: String,
        #[command(flatten)]
        fields: TenantFields,
    },
    /// Remove a tenant without keys
    Remove {
        /// Its id
        id: String,
    },
}

/// Virtual keys: what applications send
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout key create --tenant acme --name web --limit \"5 usd per day\" --limit \"0.2 requests per second\"\n  turnout key create --role viewer --name dashboard\n  turnout key rotate 0123456789ab --grace-s 3600\n  turnout key revoke 0123456789ab\n\nThe text of a key is printed once, when it is made."
)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    what: KeyCommand,
    #[command(flatten)]
    at: Where,
}

#[derive(clap::Args, Debug)]
struct KeyFields {
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// A model, glob, alias or pool:<name> it may use; repeat for more [default: all]
    #[arg(long, value_name = "SELECTOR")]
    model: Vec<String>,
    /// A workflow it may use; repeat for more [default: all]
    #[arg(long)]
    workflow: Vec<String>,
    /// An endpoint it may use: chat, models, feedback, decisions, runs, workflows; repeat for more [default: all]
    #[arg(long)]
    endpoint: Vec<String>,
    /// name=value; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What it may use, such as "10 usd per day"; repeat for more [default when made: 10 usd per day]
    #[arg(long, value_name = "AMOUNT METRIC per WINDOW")]
    limit: Vec<String>,
    /// Unix milliseconds from which on it is refused
    #[arg(long)]
    expires_ms: Option<i64>,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// All keys
    List,
    /// One key
    Show {
        /// Its public id
        id: String,
    },
    /// Make a key
    Create {
        /// Whose
        #[arg(long)]
        tenant: Option<String>,
        /// inference, viewer, auditor, operator or admin
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Change a key; what is not named stays
    Change {
        /// Its public id
        id: String,
        #[command(flatten)]
        fields: KeyFields,
    },
    /// Replace a key; the old one works for a grace
    Rotate {
        /// Its public id
        id: String,
        /// Seconds for which the old key still works [default: 86400]
        #[arg(long)]
        grace_s: Option<u64>,
    },
    /// Refuse a key from now on
    Revoke {
        /// Its public id
        id: String,
    },
}

/// Keys of providers that the server keeps, encrypted
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout provider-key add openai --name spare < key.txt     the key is read from standard input\n  turnout provider-key list\n  turnout provider-key remove pk-0192…\n\nThe server needs TURNOUT_MASTER_KEY (32 bytes or more) to keep keys."
)]
pub(super) struct ProviderKeyArgs {
    #[command(subcommand)]
    what: ProviderKeyCommand,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum ProviderKeyCommand {
    /// What is kept, without the keys
    List,
    /// Keep a key, read from standard input
    Add {
        /// The provider
        provider: String,
        /// For people
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Forget a key
    Remove {
        /// Its id
        id: String,
    },
}

/// How the limits of tenants and keys stand
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout budget list\n  turnout budget --json | jq '.data[] | select(.metric == \"usd\")'"
)]
pub(super) struct BudgetArgs {
    #[command(subcommand)]
    what: Option<BudgetCommand>,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum BudgetCommand {
    /// All limits: what is used and left, at which pace, and when they run out (the default)
    List,
}

/// The audit trail: who changed what
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout audit list --after 120\n  turnout audit verify                      checks the trail of the data folder; no server is needed\n  turnout audit verify --folder copy/ --public-key 3b6a…"
)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    what: AuditCommand,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum AuditCommand {
    /// Lines of the trail
    List {
        /// The first lines after this number, instead of the newest
        #[arg(long)]
        after: Option<u64>,
        /// Most lines
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Check that no line was changed, left out or added
    Verify {
        /// The folder of the trail [default: `audit` in the data folder]
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// The public key, if not the one in the folder
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
    },
}

pub(super) struct Client {
    address: String,
    token: String,
}

impl Client {
    pub(super) fn find(global: &Global, at: &Where) -> Result<Client, Problem> {
        let key = std::env::var("TURNOUT_ADMIN_KEY").ok().filter(|k| !k.is_empty());
        if let Some(url) = &at.url {
            let token = key.ok_or_else(|| {
                Problem(
                    "set TURNOUT_ADMIN_KEY to a key with a role, made with `turnout key create --role …`"
                        .to_owned(),
                )
            })?;
            return Ok(Client { address: url.clone(), token });
        }
        let folder = folder(global);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map(|t| t.trim().to_owned());
        let address = read(ADMIN_FILE).map_err(|_| {
            Problem(format!(
                "no server uses the data folder {}; start one with `turnout serve`, or name its control API with --url",
                folder.display()
            ))
        })?;
        let token = key.map_or_else(|| read(LOCAL_TOKEN), Ok).map_err(|e| {
            Problem(format!(
                "cannot read {}: {e}; run this as the user of the server, or set TURNOUT_ADMIN_KEY",
                folder.join(LOCAL_TOKEN).display()
            ))
        })?;
        Ok(Client { address, token })
    }

    /// A document, or what the server says against it.
    pub(super) async fn try_ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answered, Problem> {
        fetch::ask(&self.address, method, &format!("{ROOT}{path}"), Some(&self.token), body).await
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Problem> {
        let Answered { status, document } = self.try_ask(method, path, body).await?;
        if status < 300 {
            return Ok(document);
        }
        let message = document.pointer("/error/message").and_then(Value::as_str).unwrap_or("refused");
        Err(Problem(message.to_owned()))
    }
}

/// `name=value` pairs as an object.
fn labels(pairs: &[String]) -> Result<Value, Problem> {
    let mut all = Map::new();
    for p in pairs {
        let (name, value) = p
            .split_once('=')
            .ok_or_else(|| Problem(format!("`{p}` is no label; write it as in team=red")))?;
        all.insert(name.to_owned(), value.into());
    }
    Ok(Value::Object(all))
}

/// "10 usd per day", "5 requests per second for model openai/*", "4 concurrency".
fn limit(text: &str) -> Result<Value, Problem> {
    let wrong = || {
        Problem(format!(
            "`{text}` is no limit; write it as in \"10 usd per day\", \"0.2 requests per second\", \"4 concurrency\" or \
             \"5 usd per day for model openai/*\""
        ))
    };
    let mut words = text.split_whitespace();
    let amount: f64 = words.next().and_then(|w| w.parse().ok()).ok_or_else(wrong)?;
    let metric = words.next().ok_or_else(wrong)?;
    let mut quota = json!({ "amount": amount, "metric": metric });
    while let Some(word) = words.next() {
        let (name, value) = match word {
            "per" => ("per", words.next()),
            "for" => match words.next() {
                Some(kind @ ("model" | "label")) => (kind, words.next()),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        if let (Some(q), Some(v)) = (quota.as_object_mut(), value) {
            q.insert(name.to_owned(), v.into());
        } else {
            return Err(wrong());
        }
    }
    Ok(quota)
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(v) = value {
        body.insert(name.to_owned(), v.into());
    }
}

fn common(body: &mut Map<String, Value>, label: &[String], limits: &[String]) -> Result<(), Problem> {
    if !label.is_empty() {
        body.insert("labels".to_owned(), labels(label)?);
    }
    if !limits.is_empty() {
        let all: Result<Vec<Value>, Problem> = limits.iter().map(|l| limit(l)).collect();
        body.insert("limits".to_owned(), Value::Array(all?));
    }
    Ok(())
}

impl TenantFields {
    fn body(&self) -> Result<Map<String, Value>, Problem> {
        let mut body = Map::new();
        put(&mut body, "title", self.title.clone());
        put(&mut body, "tier", self.tier.clone());
        put(&mut body, "region", self.region.clone());
        put(&mut body, "time_zone", self.time_zone.clone());
        put(&mut body, "suspended", self.suspended);
        common(&mut body, &self.label, &self.limit)?;
        Ok(body)
    }
}

impl KeyFields {
    fn body(&self) -> Result<Map<String, Value>, Problem> {
        let mut body = Map::new();
        put(&mut body, "name", self.name.clone());
        put(&mut body, "expires_ms", self.expires_ms);
        if !(self.model.is_empty() && self.workflow.is_empty() && self.endpoint.is_empty()) {
            let scopes =
                json!({ "models": self.model, "workflows": self.workflow, "endpoints": self.endpoint });
            body.insert("scopes".to_owned(), scopes);
        }
        common(&mut body, &self.label, &self.limit)?;
        Ok(body)
    }
}

pub(super) async fn tenant(global: &Global, args: &TenantArgs, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        TenantCommand::List => client.ask("GET", "/tenants", None).await?,
        TenantCommand::Show { id } => client.ask("GET", &format!("/tenants/{id}"), None).await?,
        TenantCommand::Create { id, fields } => {
            let mut body = fields.body()?;
            body.insert("id".to_owned(), id.as_str().into());
            client.ask("POST", "/tenants", Some(&Value::Object(body))).await?
        }
        TenantCommand::Change { id, fields } => {
            client.ask("PATCH", &format!("/tenants/{id}"), Some(&Value::Object(fields.body()?))).await?
        }
        TenantCommand::Remove { id } => client.ask("DELETE", &format!("/tenants/{id}"), None).await?,
    };
    show(out, &said, &["id", "title", "tier", "region", "limits", "suspended"]);
    Ok(GOOD)
}

pub(super) async fn key(global: &Global, args: &KeyArgs, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        KeyCommand::List => client.ask("GET", "/keys", None).await?,
        KeyCommand::Show { id } => client.ask("GET", &format!("/keys/{id}"), None).await?,
        KeyCommand::Create { tenant, role, fields } => {
            let mut body = fields.body()?;
            put(&mut body, "tenant", tenant.clone());
            put(&mut body, "role", role.clone());
            client.ask("POST", "/keys", Some(&Value::Object(body))).await?
        }
        KeyCommand::Change { id, fields } => {
            client.ask("PATCH", &format!("/keys/{id}"), Some(&Value::Object(fields.body()?))).await?
        }
        KeyCommand::Rotate { id, grace_s } => {
            let mut body = Map::new();
            put(&mut body, "grace_s", *grace_s);
            client.ask("POST", &format!("/keys/{id}/rotate"), Some(&Value::Object(body))).await?
        }
        KeyCommand::Revoke { id } => client.ask("DELETE", &format!("/keys/{id}"), None).await?,
    };
    show(out, &said, &["id", "tenant", "name", "role", "scopes", "limits", "revoked_ms"]);
    if let (false, Some(text)) = (out.json, said.get("key").and_then(Value::as_str)) {
        out.line(&format!(
            "\n{text}\n\nThis is the key. It is shown this once; the server keeps only a hash of it."
        ));
    }
    Ok(GOOD)
}

pub(super) async fn provider_key(global: &Global, args: &ProviderKeyArgs, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        ProviderKeyCommand::List => client.ask("GET", "/provider-keys", None).await?,
        ProviderKeyCommand::Add { provider, name } => {
            let mut text = zeroize::Zeroizing::new(String::new());
            std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text)?;
            let body = json!({ "provider": provider, "name": name, "key": text.trim() });
            client.ask("POST", "/provider-keys", Some(&body)).await?
        }
        ProviderKeyCommand::Remove { id } => {
            client.ask("DELETE", &format!("/provider-keys/{id}"), None).await?
        }
    };
    show(out, &said, &["id", "provider", "name", "created_by"]);
    Ok(GOOD)
}

pub(super) async fn budget(global: &Global, args: &BudgetArgs, out: &Out) -> Outcome {
    let (Some(BudgetCommand::List) | None) = args.what;
    let said = Client::find(global, &args.at)?.ask("GET", "/budgets", None).await?;
    let columns = [
        "tenant",
        "holder",
        "metric",
        "used",
        "limit",
        "window",
        "state",
        "pace_per_h",
        "runs_out_at",
        "resets_in_s",
    ];
    show(out, &said, &columns);
    Ok(GOOD)
}

pub(super) async fn audit(global: &Global, args: &AuditArgs, out: &Out) -> Outcome {
    match &args.what {
        AuditCommand::List { after, limit } => {
            let after = after.map_or_else(String::new, |n| format!("&after={n}"));
            let path = format!("/audit?limit={limit}{after}");
            let said = Client::find(global, &args.at)?.ask("GET", &path, None).await?;
            show(out, &said, &["seq", "ts", "actor", "action", "target", "tenant", "detail"]);
            Ok(GOOD)
        }
        AuditCommand::Verify { folder: named, public_key } => {
            let folder = named.clone().unwrap_or_else(|| folder(global).join(audit::FOLDER));
            let report = audit::verify_folder(&folder, public_key.as_deref())
                .map_err(|e| Problem(format!("{}: {e}", folder.display())))?;
            if out.json {
                out.value(&serde_json::to_value(&report)?);
            } else {
                out.line(&format!(
                    "{} lines and {} seals hold; {} lines are not sealed yet",
                    report.lines, report.seals, report.unsealed
                ));
            }
            match report.broken {
                None => Ok(GOOD),
                Some(b) => {
                    out.error(&format!(
                        "broken at line {} of {} (number {}): {}",
                        b.line, b.file, b.seq, b.why
                    ));
                    Ok(FAILED)
                }
            }
        }
    }
}

/// A list as a table, one thing as name and value.
pub(super) fn show(out: &Out, said: &Value, columns: &[&str]) {
    if out.json {
        out.value(said);
        return;
    }
    let Some(rows) = said.get("data").and_then(Value::as_array) else {
        let mut table = out.table(&["field", "value"]);
        for (name, value) in said.as_object().into_iter().flatten().filter(|(n, _)| *n != "key") {
            table.add_row([heading(name), cell(name, value)]);
        }
        out.line(&table.to_string());
        return;
    };
    let headings: Vec<String> = columns.iter().map(|c| heading(c)).collect();
    let mut table = out.table(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        table.add_row(columns.iter().map(|c| row.get(*c).map_or_else(String::new, |v| cell(c, v))));
    }
    out.line(&table.to_string());
}

/// A field's name above its values: moments are shown as dates.
fn heading(name: &str) -> String {
    name.strip_suffix("_ms").map_or_else(|| name.to_owned(), |n| format!("{n} (UTC)"))
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Number(_) if name.ends_with("_ms") => moment_of(value).unwrap_or_default(),
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(list) if name == "limits" => list.iter().map(quota).collect::<Vec<_>>().join("\n"),
        Value::Object(m) if name == "actor" => {
            let of = |k: &str| m.get(k).and_then(Value::as_str).unwrap_or("").to_owned();
            format!("{} {}", of("kind"), of("id"))
        }
        Value::Object(m) => {
            let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
            let shown = m.iter().filter(|(_, v)| !empty(v));
            shown.map(|(k, v)| format!("{k}: {}", cell(k, v))).collect::<Vec<_>>().join("\n")
        }
        Value::Array(list) => list.iter().map(|v| cell(name, v)).collect::<Vec<_>>().join(", "),
        // A whole number of dollars or requests is written as one.
        Value::Number(n) => n.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    }
}

fn quota(q: &Value) -> String {
    let text = |k: &str| q.get(k).map(|v| cell(k, v)).unwrap_or_default();
    let mut said = format!("{} {}", text("amount"), text("metric"));
    for (word, name) in [(" per ", "per"), (" for model ", "model"), (" for label ", "label")] {
        if q.get(name).is_some() {
            said = format!("{said}{word}{}", text(name));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_people_say_them() {
        for (text, want) in [
            ("10 usd per day", Some(json!({"amount": 10.0, "metric": "usd", "per": "day"}))),
            ("4 concurrency", Some(json!({"amount": 4.0, "metric": "concurrency"}))),
            (
                "0.2 requests per second for model openai/*",
                Some(json!({"amount": 0.2, "metric": "requests", "per": "second", "model": "openai/*"})),
            ),
            ("ten usd", None),
            ("10 usd per", None),
            ("10 usd a day", None),
        ] {
            assert_eq!(limit(text).ok(), want, "{text}");
        }
        assert_eq!(quota(&limit("10 usd per day").unwrap()), "10 usd per day");
    }

    #[test]
    fn moments_are_dates() {
        let at = json!(1_795_309_003_613_i64);
        assert_eq!(cell("created_ms", &at), "2026-11-22 00:56:43");
        assert_eq!((heading("created_ms"), heading("id")), ("created (UTC)".to_owned(), "id".to_owned()));
        assert_eq!(cell("version", &json!(1)), "1");
    }
}
