//! `turnout workflow schema`: the JSON Schema of workflow files, for editors.

use crate::cli::out::Out;
use crate::cli::{GOOD, Outcome, Problem};
use std::path::{Path, PathBuf};

/// The file that `new` puts beside workflows.
pub(super) const FILE: &str = "workflow.v1.json";

/// Print the JSON Schema of workflow files, for editors
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow schema > workflows/workflow.v1.json\n  turnout workflow schema --out workflows/workflow.v1.json\n\nAn editor with a YAML language server uses it when the first line of a workflow says so:\n  # yaml-language-server: $schema=workflow.v1.json\n`turnout workflow new` writes both. The schema knows shapes; names, expressions and flow are what `check` is for."
)]
pub(super) struct Args {
    /// Write it into this file instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    match &args.out {
        None => out.raw(&text()?),
        Some(path) => write(path)?,
    }
    Ok(GOOD)
}

pub(super) fn write(path: &Path) -> Result<(), Problem> {
    std::fs::write(path, text()?).map_err(|e| Problem(format!("{}: {e}", path.display())))
}

fn text() -> Result<String, Problem> {
    Ok(serde_json::to_string_pretty(&workflows::editor_schema())? + "\n")
}
