//! `turnout provider-key`: keys of vendors that the server keeps.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use super::fields::{Limited, Unlimited, changes, put};
use super::{Client, Where, show};
use clap::Subcommand;
use serde_json::{Map, Value, json};

/// Keys of providers that the server keeps, encrypted
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout provider-key add openai --name spare < key.txt     the key is read from standard input\n  turnout provider-key add openai --limit \"60 requests per minute\" --limit \"5 usd per day\" < key.txt\n  turnout provider-key list\n  turnout provider-key change pk-0192… --limit \"4 concurrency\" --no-limit \"usd per day\"\n  turnout provider-key remove pk-0192…\n\nThe server needs TURNOUT_MASTER_KEY (32 bytes or more), or TURNOUT_MASTER_KEY_FILE, to keep keys. Started with\nTURNOUT_MASTER_KEY_OLD beside another master key, it seals the kept ones anew."
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: ProviderKeyCommand,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum ProviderKeyCommand {
    /// The keys there are and how they stand, without the keys
    List,
    /// Keep a key, read from standard input
    Add {
        /// The provider
        provider: String,
        /// For people
        #[arg(long, default_value = "")]
        name: String,
        #[command(flatten)]
        limits: Limited,
    },
    /// Change the name or the limits of a stored key; what is not named stays
    Change {
        /// Its id
        id: String,
        /// For people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limits: Limited,
        #[command(flatten)]
        away: Unlimited,
    },
    /// Forget a key
    Remove {
        /// Its id
        id: String,
    },
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        ProviderKeyCommand::List => client.ask("GET", "/provider-keys", None).await?,
        ProviderKeyCommand::Add { provider, name, limits } => {
            let mut limited = Map::new();
            limits.put(&mut limited)?;
            let mut text = zeroize::Zeroizing::new(String::new());
            std::io::Read::read_to_string(&mut std::io::stdin().lock(), &mut text)?;
            let mut body = json!({ "provider": provider, "name": name, "key": text.trim() });
            if let Some(members) = body.as_object_mut() {
                members.extend(limited);
            }
            client.ask("POST", "/provider-keys", Some(&body)).await?
        }
        ProviderKeyCommand::Change { id, name, limits, away } => {
            let mut body = Map::new();
            put(&mut body, "name", name.clone());
            limits.put_change(away, &mut body)?;
            changes(&body)?;
            client.ask("PATCH", &format!("/provider-keys/{id}"), Some(&Value::Object(body))).await?
        }
        ProviderKeyCommand::Remove { id } => {
            client.ask("DELETE", &format!("/provider-keys/{id}"), None).await?
        }
    };
    show(
        out,
        &said,
        &["id", "provider", "name", "variable", "state", "why", "rest_s", "models", "limits", "created_by"],
    );
    Ok(GOOD)
}
