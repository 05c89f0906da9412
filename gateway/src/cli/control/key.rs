//! `turnout key`: what applications send.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome, Problem};
use super::fields::{common, moment, put};
use super::{Client, Where, show, text};
use crate::control::keys::ENDPOINTS;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value, json};
use types::control::Role;

/// Virtual keys: what applications send
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout key create --tenant acme --name web --limit \"5 usd per day\" --limit \"0.2 requests per second\"\n  turnout key create --role viewer --name dashboard --expires 30d\n  turnout key list\n  turnout key show 0123456789ab\n  turnout key change 0123456789ab --limit \"10 usd per day\"\n  turnout key rotate 0123456789ab --grace-s 3600\n  turnout key revoke 0123456789ab\n\nThe text of a key is printed once, when it is made."
)]
pub(in crate::cli) struct Args {
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
    /// An endpoint it may use; repeat for more [default: all]
    #[arg(long, value_parser = PossibleValuesParser::new(ENDPOINTS))]
    endpoint: Vec<String>,
    /// name=value; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What it may use, such as "10 usd per day"; repeat for more [default when made: keys.default_budget, 10 usd per day]
    #[arg(long, value_name = "AMOUNT METRIC per WINDOW")]
    limit: Vec<String>,
    /// From when on it is refused: a date, a date with its time, or how far off that is
    #[arg(long, value_name = "2027-01-31, 30d, …", conflicts_with = "expires_ms")]
    expires: Option<String>,
    /// The same in Unix milliseconds
    #[arg(long, value_name = "MS")]
    expires_ms: Option<i64>,
    /// true: it is refused until this is false again
    #[arg(long)]
    suspended: Option<bool>,
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// All keys
    List {
        /// Those of one tenant
        #[arg(long)]
        tenant: Option<String>,
    },
    /// One key
    Show {
        /// Its public id
        id: String,
    },
    /// Make a key
    Create {
        /// Whose [default: the tenant `default`; of a key with another role: nobody's]
        #[arg(long)]
        tenant: Option<String>,
        /// What it is for: to ask models, or to look at and change what runs
        #[arg(long, value_parser = PossibleValuesParser::new(Role::NAMES))]
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

impl KeyFields {
    fn body(&self) -> Result<Map<String, Value>, Problem> {
        let mut body = Map::new();
        put(&mut body, "name", self.name.clone());
        let expires = self.expires.as_deref().map(|text| moment("--expires", text)).transpose()?;
        put(&mut body, "expires_ms", expires.or(self.expires_ms));
        put(&mut body, "suspended", self.suspended);
        if !(self.model.is_empty() && self.workflow.is_empty() && self.endpoint.is_empty()) {
            let scopes =
                json!({ "models": self.model, "workflows": self.workflow, "endpoints": self.endpoint });
            body.insert("scopes".to_owned(), scopes);
        }
        common(&mut body, &self.label, &self.limit)?;
        Ok(body)
    }
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        KeyCommand::List { tenant } => client.list("/keys", tenant.as_deref()).await?,
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
    show(
        out,
        &said,
        &["id", "tenant", "name", "role", "scopes", "limits", "expires_ms", "suspended", "revoked_ms"],
    );
    if let (false, Some(minted)) = (out.json, said.get("key").and_then(Value::as_str)) {
        out.line(&format!(
            "\n{minted}\n\nThis is the key{}. It is shown this once; the server keeps only a hash of it.",
            whose(&said)
        ));
    }
    Ok(GOOD)
}

/// Whose key was made.
fn whose(key: &Value) -> String {
    match text(key, "tenant") {
        "" => " of no tenant".to_owned(),
        tenant => format!(" of the tenant `{tenant}`"),
    }
}
