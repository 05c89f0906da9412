//! `turnout statistics`: what was learned, and the way back to what was known before.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use super::{Client, Where, show};
use clap::Subcommand;
use serde_json::json;

/// What was learned: states that are kept, and the way back to one
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout statistics list\n  turnout statistics rollback --to 2026-11-22T10:00:00Z"
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: Option<StatisticsCommand>,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum StatisticsCommand {
    /// The states that are kept, one an hour for fourteen days (the default)
    List,
    /// Go back to what was known at a moment; what was learned after it is forgotten
    Rollback {
        /// The moment: the newest state that is not after it is taken
        #[arg(long, value_name = "RFC 3339")]
        to: String,
    },
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let said = match &args.what {
        Some(StatisticsCommand::List) | None => client.ask("GET", "/statistics", None).await?,
        Some(StatisticsCommand::Rollback { to }) => {
            client.ask("POST", "/statistics/rollback", Some(&json!({ "to": to }))).await?
        }
    };
    show(out, &said, &["at", "bytes"]);
    Ok(GOOD)
}
