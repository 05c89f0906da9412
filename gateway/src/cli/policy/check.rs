//! `turnout policy check`: everything that can be said of rules and policies without a request.

use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, WARNED};
use crate::config::sources::{MATRIX, OVERLAYS, POLICIES, RULES, SETTINGS, SIGNATURE, WORKFLOWS};
use crate::config::{self, Simulated};
use serde_json::json;
use std::path::Path;
use types::diagnostic::nearest;
use types::{Diagnostic, Severity};

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
    let ours: Vec<_> = loaded.problems.iter().filter(|d| is_of_rules(d, &global.config)).cloned().collect();
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

/// Whether a problem is one of rules: with what their files say, or that something where rules stand is not read at all.
fn is_of_rules(problem: &Diagnostic, folder: &Path) -> bool {
    /// Names in the folder of a configuration.
    const KNOWN: [&str; 7] = [RULES, POLICIES, SETTINGS, MATRIX, SIGNATURE, OVERLAYS, WORKFLOWS];
    if problem.code.starts_with("PL") {
        return true;
    }
    if !["TS007", "TS009"].contains(&problem.code.as_str()) {
        return false;
    }
    let path = Path::new(&problem.file);
    let within = path.strip_prefix(folder).unwrap_or(path);
    let top = within.components().next().map(|part| part.as_os_str().to_string_lossy());
    // Without a name it is the folder itself.
    top.is_none_or(|top| {
        let meant = KNOWN.into_iter().find(|known| *known == top);
        let meant = meant.or_else(|| nearest(&top, KNOWN).first().copied());
        path == folder || meant.is_some_and(|meant| [RULES, POLICIES].contains(&meant))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::doc::{SourceFile, Span};

    #[test]
    fn what_is_not_read_where_rules_stand_is_a_problem_of_rules() {
        let check = |code: &str, file: &str, want: bool| {
            let at = Span { line: 1, column: 1, ..Span::default() };
            let problem = Diagnostic::error("TS007", &SourceFile::new(file, ""), at, "cannot be read");
            let problem = Diagnostic { code: code.into(), ..problem };
            assert_eq!(is_of_rules(&problem, Path::new("conf")), want, "{code} {file}");
        };
        check("PL101", "anywhere", true);
        check("WF101", "conf/policies/x.rhai", false);
        for (file, want) in [
            ("conf", true),
            ("conf/routing_rules.yaml", true),
            ("conf/routing_rules.yml", true),
            ("conf/polices", true),
            ("conf/policies/x.rhai", true),
            ("conf/policies/tenants/Acme", true),
            ("conf/turnout.yaml", false),
            ("conf/capability_matrix.yml", false),
            ("conf/workflows/w.yaml", false),
            ("conf/matrix.d", false),
        ] {
            check("TS007", file, want);
            check("TS009", file, want);
        }
    }
}
