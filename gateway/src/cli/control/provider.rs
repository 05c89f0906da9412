//! `turnout provider`: providers of the running server.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use super::{Client, Where, show};
use clap::Subcommand;

/// Providers: how many of their models can be called, and how many of their keys the server keeps
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout provider list\n  turnout provider list --json | jq '.data[] | select(.candidates == 0) | .id'\n\nProviders are written in capability_matrix.yaml and matrix.d/ (docs/configuration.md); keys that the server keeps for them are\nthose of `turnout provider-key`."
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: Option<ProviderCommand>,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum ProviderCommand {
    /// All providers (the default)
    List,
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let (Some(ProviderCommand::List) | None) = args.what;
    let said = Client::find(global, &args.at)?.ask("GET", "/providers", None).await?;
    show(out, &said, &["id", "models", "candidates", "stored_keys"]);
    Ok(GOOD)
}
