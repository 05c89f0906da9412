//! `turnout budget`: how limits stand.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use super::{Client, Where, show};
use clap::Subcommand;

/// How the limits of tenants and keys stand
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout budget list\n  turnout budget --tenant acme\n  turnout budget --json | jq '.data[] | select(.metric == \"usd\")'"
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: Option<BudgetCommand>,
    /// Those of one tenant
    #[arg(long, global = true)]
    tenant: Option<String>,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum BudgetCommand {
    /// All limits: what is used and left, at which pace, and when they run out (the default)
    List,
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let said = Client::find(global, &args.at)?.list("/budgets", args.tenant.as_deref()).await?;
    let columns = [
        "tenant",
        "holder",
        "metric",
        "used",
        "in_work",
        "at_most",
        "limit",
        "reserved_premium",
        "window",
        "state",
        "pace_per_h",
        "runs_out_at",
        "resets_in_s",
    ];
    show(out, &said, &columns);
    Ok(GOOD)
}
