//! `turnout workflow check`: every problem of workflow files, wherever they lie.

use crate::cli::check::{self, Checked, How};
use crate::cli::out::Out;
use crate::cli::{FAILED, Global, Outcome, Problem};
use crate::config::{self, Simulated, folder};
use engine::Bundle;
use engine::workflows::is_schema;
use std::path::PathBuf;
use types::doc::SourceFile;
use types::{Diagnostic, Severity};

/// Every problem of workflow files, or of every file of the configuration
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow check                                 every file of the configuration\n  turnout workflow check drafts/invoices.yaml            that file alone\n  turnout workflow check drafts --format sarif > workflows.sarif\n\nFiles that are named are checked as if they stood among the workflows of the configuration, and in the place of those of\ntheir name; schemas are found in the folder `schemas` beside them. Only their own problems are told.\nExit code: 0 good, 1 warnings with --deny-warnings, 2 errors."
)]
pub(super) struct Args {
    /// Files of workflows, or folders of them
    paths: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if args.paths.is_empty() {
        return Ok(check::all(global, args.how, out));
    }
    let files = files(&args.paths)?;
    let Some(bundle) = around(global, &files).or_else(|| super::load(global, out)) else { return Ok(FAILED) };
    let (_, found) = bundle.try_workflows(&files);
    let own = |d: &Diagnostic| files.iter().any(|f| f.path == d.file);
    let problems: Vec<Diagnostic> = found.into_iter().filter(own).collect();
    let good = problems.iter().all(|d| d.severity == Severity::Warning);
    let workflows = files.iter().filter(|f| !is_schema(f)).count();
    let told = match good {
        true => format!("good: {workflows} workflows"),
        false => "not good: a file with errors is no workflow".to_owned(),
    };
    Ok(check::tell(&Checked { problems, texts: &files, good, bundle: None, told }, args.how, out))
}

/// What the rest of the configuration says, whatever is wrong with the files themselves where they stand in it.
fn around(global: &Global, files: &[SourceFile]) -> Option<Bundle> {
    let load = |read| config::load_read(read, &Global::environment(), Simulated::Also).bundle;
    let (sources, problems) = global.source().read();
    load((sources.clone(), problems.clone())).or_else(|| {
        let mut rest = sources;
        for own in rest.workflows.iter_mut().filter(|w| files.iter().any(|f| f.stem() == w.stem())) {
            *own = SourceFile::new(own.path.clone(), stand_in(own.stem()));
        }
        load((rest, problems))
    })
}

/// A workflow that does nothing much, for rules and other workflows that name it.
fn stand_in(name: &str) -> String {
    format!(
        "version: 1\nname: {name}\nnodes: [{{ id: ask, type: generate }}]\noutput: nodes.ask.completion\n"
    )
}

/// The files of some paths, with the schemas that stand beside them.
fn files(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Problem> {
    let mut named: Vec<PathBuf> = Vec::new();
    for path in paths {
        let found = if path.is_dir() { folder::texts(path, "yaml")? } else { vec![path.clone()] };
        if found.is_empty() {
            return Err(Problem(format!(
                "{}: there are no workflows (*.yaml) in this folder",
                path.display()
            )));
        }
        named.extend(found.into_iter().filter(|f| !named.contains(f)).collect::<Vec<_>>());
    }
    let mut folders: Vec<PathBuf> =
        named.iter().filter_map(|p| p.parent()).map(|p| p.join("schemas")).collect();
    folders.sort();
    folders.dedup();
    let mut schemas: Vec<PathBuf> = Vec::new();
    for within in &folders {
        schemas.extend(folder::texts(within, "json")?);
    }
    let read = |path: PathBuf| Ok(SourceFile::new(path.display().to_string(), super::read(&path)?));
    schemas.into_iter().chain(named).map(read).collect()
}
