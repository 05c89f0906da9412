//! `turnout policy check`: everything that can be said of rules and policies without a request.

use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, WARNED};
use crate::config::{self, Simulated};
use serde_json::json;
use types::Severity;

/// Check rules and policies: names, types, contradictions, each with a request that shows it, and their tests
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy check\n  turnout --config deploy/prod policy check --deny-warnings\n  turnout policy check --json | jq -r '.problems[] | \"\\(.code) \\(.file):\\(.line) \\(.message)\"'\n\nA witness that a warning names can be fed to `turnout policy explain`.\nExit code: 0 good, 1 warnings with --deny-warnings, 2 errors."
)]
pub(super) struct Args {
    /// Warnings count as failures (exit code 1)
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> u8 {
    let loaded = config::load(&global.source(), &Global::environment(), Simulated::AsWritten);
    let ours: Vec<_> = loaded.problems.iter().filter(|d| d.code.starts_with("PL")).cloned().collect();
    let count = |s: Severity| ours.iter().filter(|d| d.severity == s).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let rules = loaded.bundle.as_ref().map_or(0, |b| b.policies().count());
    if out.json {
        out.value(&json!({
            "good": errors == 0, "errors": errors, "warnings": warnings, "rules": rules, "problems": ours,
        }));
    } else {
        out.problems(&ours, &loaded.texts);
        let what = if errors > 0 {
            "not good: a server does not take these rules up".to_owned()
        } else if loaded.bundle.is_none() {
            "the rules are good, but other files are not: turnout check".to_owned()
        } else {
            format!("good: {rules} rules and policies")
        };
        out.line(&format!("{what} ({errors} errors, {warnings} warnings)"));
    }
    match (errors, warnings) {
        (0, 0) => GOOD,
        (0, _) if args.deny_warnings => WARNED,
        (0, _) => GOOD,
        _ => FAILED,
    }
}
