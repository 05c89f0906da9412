//! `turnout workflow`: what an author of workflows needs: check, draw, plan, test, begin.

mod graph;
mod new;
mod plan;
mod test;

use super::out::Out;
use super::{FAILED, Global, Outcome, Problem};
use crate::config::{self, Loaded, Simulated};
use clap::Subcommand;
use engine::workflows::Workflow;
use std::sync::Arc;

/// Check, draw, plan and test workflows
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow list\n  turnout workflow new json_extraction invoices      a copy of a shipped one to change\n  turnout workflow check\n  turnout workflow graph default --format svg --out default.svg\n  turnout workflow plan json_extraction\n  turnout workflow test --coverage"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Every workflow that can run
    List,
    /// Every problem of every file of the configuration
    Check(super::check::Args),
    /// Draw a workflow
    Graph(graph::Args),
    /// What a workflow may take at most: calls, money, time
    Plan(plan::Args),
    /// Play the tests of workflows; nothing is called
    Test(test::Args),
    /// Begin a workflow from a shipped one
    New(new::Args),
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    match &args.what {
        Command::List => plan::list(global, out),
        Command::Check(args) => Ok(super::check::run(global, args, out)),
        Command::Graph(args) => graph::run(global, args, out),
        Command::Plan(args) => plan::run(global, args, out),
        Command::Test(args) => test::run(global, args, out),
        Command::New(args) => new::run(global, args, out),
    }
}

/// The configuration, if it is good; else its problems have been told.
fn load(global: &Global, out: &Out) -> Result<Loaded, u8> {
    let loaded = config::load(&global.source(), &Global::environment(), Simulated::Also);
    if loaded.bundle.is_some() {
        return Ok(loaded);
    }
    out.error(&format!("the configuration has errors:\n\n{}", loaded.report(Out::colour())));
    Err(FAILED)
}

fn named(bundle: &engine::Bundle, name: &str) -> Result<Arc<Workflow>, Problem> {
    bundle.workflow(name).cloned().ok_or_else(|| {
        let names = bundle.workflow_names();
        let hint = types::diagnostic::suggestion(name, names.iter().map(String::as_str));
        Problem(format!("there is no workflow `{name}`; {hint}"))
    })
}
