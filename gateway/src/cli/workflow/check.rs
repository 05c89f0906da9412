//! `turnout workflow check`: every problem of workflow files, wherever they lie.

use super::files::Files;
use crate::cli::check::{self, Checked, How};
use crate::cli::out::Out;
use crate::cli::{FAILED, Global, Outcome};
use crate::config::sources::WORKFLOWS;
use crate::config::{self, Simulated};
use engine::Bundle;
use std::path::PathBuf;
use types::doc::SourceFile;
use types::{Diagnostic, Severity};
use workflows::is_schema;

/// Every problem of workflow files, or of every file of the configuration
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow check                                 every file of the configuration\n  turnout workflow check drafts/invoices.yaml            that file alone\n  turnout workflow check drafts --format sarif > workflows.sarif\n\nFiles that are named are checked as if they stood among the workflows of the configuration, and in the place of those of\ntheir name; workflows that they call are found beside them, and schemas in the folder `schemas` there. Only their own problems are told.\nExit code: 0 good, 1 warnings with --deny-warnings, 2 errors."
)]
pub(super) struct Args {
    /// Files of workflows, or folders of them
    paths: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if args.paths.is_empty() {
        return Ok(check::all(global, args.how, Simulated::AsWritten, out));
    }
    let files = Files::of(&args.paths)?;
    // What cannot be read is told of by itself, not wherever it is named.
    let unread = files.problems.iter().map(|d| SourceFile::new(d.file.as_str(), ""));
    let unread: Vec<SourceFile> = unread.filter(|f| !is_schema(f)).map(|f| stand_in(&f)).collect();
    let texts: Vec<SourceFile> = files.together().into_iter().chain(unread).collect();
    let Some(bundle) = around(global, &texts).or_else(|| super::load(global, out)) else { return Ok(FAILED) };
    let (_, found) = bundle.try_workflows(&texts);
    let own = |d: &Diagnostic| files.named.iter().any(|f| f.path == d.file);
    let mut problems = files.problems;
    problems.extend(found.into_iter().filter(own));
    let good = problems.iter().all(|d| d.severity == Severity::Warning);
    let workflows = files.named.iter().filter(|f| !is_schema(f)).count();
    let told = match good {
        true => format!("good: {workflows} workflows"),
        false => "not good: a file with errors is no workflow".to_owned(),
    };
    let checked = Checked { problems, texts: &files.named, good, bundle: None, told, notes: Vec::new() };
    Ok(check::tell(&checked, args.how, out))
}

/// What the rest of the configuration says, whatever is wrong with the files themselves where they stand in it.
fn around(global: &Global, files: &[SourceFile]) -> Option<Bundle> {
    let load = |read| config::load_read(read, &Global::environment(), Simulated::Also).bundle;
    let (sources, problems) = global.source().read();
    load((sources.clone(), problems.clone())).or_else(|| {
        let mut rest = sources;
        for own in rest.workflows.iter_mut().filter(|w| files.iter().any(|f| f.stem() == w.stem())) {
            *own = stand_in(own);
        }
        let of_a_file = |d: &Diagnostic| {
            let at = SourceFile::new(d.file.as_str(), "");
            d.file.contains(&format!("{WORKFLOWS}/")) && files.iter().any(|f| f.stem() == at.stem())
        };
        load((rest, problems.into_iter().filter(|d| !of_a_file(d)).collect()))
    })
}

/// A workflow in the place of another one that does nothing much, for rules and other workflows that name it.
fn stand_in(file: &SourceFile) -> SourceFile {
    let name = file.stem();
    let text = format!(
        "version: 1\nname: {name}\nnodes: [{{ id: ask, type: generate }}]\noutput: nodes.ask.completion\n"
    );
    SourceFile::new(file.path.clone(), text)
}
