//! `turnout policy test`: the cases of `policies/tests/*.yaml`, and those beside rules.

use super::bundle;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, WARNED};
use crate::config::sources::{POLICY_TESTS, is_built_in};
use crate::config::{Source, folder};
use std::path::PathBuf;
use types::Severity;
use types::doc::SourceFile;

/// Run the tests of policies
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy test\n  turnout policy test policies/tests/budget.yaml\n  turnout policy test --coverage --min 90\n  turnout policy test --mutate\n  turnout policy test --json | jq '.cases[] | select(.failures != [])'\n\nWithout files, all of policies/tests/*.yaml are run, and the `tests` beside rules always.\nExit code: 0 all passed, 1 too little was touched (--min) or a change of a rule went unnoticed (--mutate), 2 a case failed or a file is wrong."
)]
pub(super) struct Args {
    /// Test files
    files: Vec<PathBuf>,
    /// Tell what no test touches: rules, parts of conditions, actions
    #[arg(long)]
    coverage: bool,
    /// Least percentage of these that must be touched
    #[arg(long, value_name = "PERCENT")]
    min: Option<f64>,
    /// Change rules and scripts one by one (off, comparisons, truth, numbers), and tell which changes no test notices
    #[arg(long)]
    mutate: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let bundle = bundle(&global.config)?;
    let files = if args.files.is_empty() {
        folder::texts(&global.config.join(POLICY_TESTS), "yaml")?
    } else {
        args.files.clone()
    };
    let mut sources = Vec::new();
    for path in &files {
        sources.push(SourceFile::new(path.display().to_string(), super::read(path)?));
    }
    let fleets = Source::Folder(global.config.clone()).read().0.registries;
    let (registries, mut problems) = crate::config::registries(&fleets);
    // Shipped rules are ours to test: where the folder has none of its own, they are not counted.
    let shipped = is_built_in(bundle.policies().rules_file());
    let (mut report, found) = bundle.policies().test(&sources, &registries);
    if shipped {
        report.coverage = report.coverage.but_rules_file(bundle.policies());
    }
    problems.extend(found);
    let wrong = problems.iter().filter(|d| d.severity == Severity::Error).count();
    // What fails already notices nothing.
    let sound = report.failed() == 0 && wrong == 0;
    let mutation = (args.mutate && sound).then(|| bundle.policies().mutate(&sources, &registries, shipped));
    if out.json {
        let mut value = serde_json::to_value(&report)?;
        if let Some(members) = value.as_object_mut() {
            members.insert("problems".to_owned(), serde_json::to_value(&problems)?);
            if let Some(mutation) = &mutation {
                members.insert("mutation".to_owned(), serde_json::to_value(mutation)?);
            }
        }
        out.value(&value);
    } else {
        let texts: Vec<SourceFile> = sources.iter().chain(&fleets).cloned().collect();
        out.problems(&problems, &texts);
        for case in report.cases.iter().filter(|c| !c.failures.is_empty()) {
            out.line(&format!("failed  {}:{}: {}", case.file, case.line, case.name));
            for failure in &case.failures {
                out.line(&format!("        {failure}"));
            }
        }
        if args.coverage {
            for missing in report.coverage.missing() {
                out.line(&format!("untouched  {missing}"));
            }
        }
        let passed = report.cases.len().saturating_sub(report.failed());
        out.line(&format!(
            "{passed} passed, {} failed, {:.0} % touched",
            report.failed(),
            report.coverage.percent()
        ));
        if let Some(mutation) = &mutation {
            for line in mutation.told() {
                out.line(&line);
            }
        }
    }
    Ok(if report.failed() > 0 || wrong > 0 {
        FAILED
    } else if args.min.is_some_and(|least| report.coverage.percent() < least)
        || mutation.is_some_and(|m| !m.survived.is_empty())
    {
        WARNED
    } else {
        GOOD
    })
}
