//! `turnout workflow fmt`: workflow files in their usual form.

use super::files;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, Problem};
use crate::config::folder;
use crate::config::sources::WORKFLOWS;
use serde_json::json;
use std::path::PathBuf;
use workflows::format;

/// Give workflow files their usual form
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow fmt\n  turnout workflow fmt --check\n  turnout workflow fmt workflows/invoices.yaml\n\nWithout files: workflows/*.yaml of the configuration's folder. Only layout and the order of top-level keys change,\nnever meaning; comments stay.\nExit code: 0 good, 2 something would change (--check), or a file cannot be read or laid out."
)]
pub(super) struct Args {
    /// Workflow files
    files: Vec<PathBuf>,
    /// Change nothing; tell what would change
    #[arg(long)]
    check: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let files = match args.files.as_slice() {
        [] => folder::texts(&global.config.join(WORKFLOWS), "yaml")?,
        named => named.to_vec(),
    };
    let (mut changed, mut refused, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for path in &files {
        let Some(file) = files::read(path, &mut unread)? else { continue };
        match format(&file) {
            Ok(made) if made == *file.text => {}
            Ok(made) => {
                if !args.check {
                    std::fs::write(path, made).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
                }
                changed.push(path.display().to_string());
            }
            Err(d) => refused.push((*d, Some(file.text))),
        }
    }
    refused.extend(unread.into_iter().map(|d| (d, None)));
    let word = if args.check { "would change" } else { "changed" };
    if out.json {
        let refused: Vec<_> = refused.iter().map(|(d, _)| d).collect();
        out.value(&json!({"files": files.len(), "changed": changed, "problems": refused}));
    } else {
        changed.iter().for_each(|path| out.line(&format!("{word}  {path}")));
        refused.iter().for_each(|(d, text)| out.error(&d.render(text.as_deref(), Out::colour())));
        out.line(&format!("{} files, {} {word}", files.len(), changed.len()));
    }
    Ok(if !refused.is_empty() || args.check && !changed.is_empty() { FAILED } else { GOOD })
}
