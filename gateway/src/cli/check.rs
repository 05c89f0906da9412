//! `turnout check`: every problem of every configuration file at once.

use super::out::Out;
use super::{FAILED, GOOD, Global, WARNED};
use crate::config::{self, Simulated};
use serde_json::json;
use types::Severity;

/// Read every configuration file and tell every problem
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout check\n  turnout --config deploy/prod check --deny-warnings\n  turnout check --json | jq '.problems[] | .file + \":\" + (.line|tostring)'\n\nExit code: 0 good, 1 warnings with --deny-warnings, 2 errors."
)]
pub(super) struct Args {
    /// Warnings count as failures (exit code 1)
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> u8 {
    let loaded = config::load(&global.source(), &Global::environment(), Simulated::AsWritten);
    let count = |s: Severity| loaded.problems.iter().filter(|d| d.severity == s).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if out.json {
        let bundle = loaded.bundle.as_ref().map(|b| b.hash().to_string());
        out.value(&json!({
            "good": loaded.is_good(), "errors": errors, "warnings": warnings, "bundle": bundle,
            "problems": loaded.problems,
        }));
    } else {
        if !loaded.problems.is_empty() {
            let colour = out.terminal && Out::colour();
            out.line(&loaded.report(colour));
            out.line("");
        }
        let what = match &loaded.bundle {
            Some(b) => format!(
                "good: {} models, {} workflows, bundle {}",
                b.matrix().models().len(),
                b.workflow_names().len(),
                b.hash()
            ),
            None => "not good: this configuration does not start".to_owned(),
        };
        out.line(&format!("{what} ({errors} errors, {warnings} warnings in {} files)", loaded.texts.len()));
    }
    match (loaded.is_good(), warnings) {
        (false, _) => FAILED,
        (true, n) if n > 0 && args.deny_warnings => WARNED,
        _ => GOOD,
    }
}
