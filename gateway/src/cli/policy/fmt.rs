//! `turnout policy fmt`: rules and policies in their usual form.

use super::read;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, Problem};
use engine::policies::format;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Give rules and policies their usual form
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy fmt\n  turnout policy fmt --check\n  turnout policy fmt policies/spend_guard.rhai\n\nWithout files: routing_rules.yaml, policies/*.rhai and policies/rules/*.rhai of the configuration's folder. Only\nlayout changes, never meaning; comments stay.\nExit code: 0 good, 2 something would change (--check) or cannot be read."
)]
pub(super) struct Args {
    /// Rules files (.yaml) and policies (.rhai)
    files: Vec<PathBuf>,
    /// Change nothing; tell what would change
    #[arg(long)]
    check: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let files = if args.files.is_empty() { found(&global.config) } else { args.files.clone() };
    let mut changed = Vec::new();
    for path in &files {
        let text = read(path)?;
        let script = path.extension().is_some_and(|e| e == "rhai");
        let formatted = if script { format::script(&text) } else { format::rules(&text) };
        if formatted == text {
            continue;
        }
        if !args.check {
            std::fs::write(path, formatted).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
        }
        changed.push(path.display().to_string());
    }
    if out.json {
        out.value(&json!({"files": files.len(), "changed": changed}));
    } else {
        let word = if args.check { "would change" } else { "changed" };
        for path in &changed {
            out.line(&format!("{word}  {path}"));
        }
        out.line(&format!("{} files, {} {word}", files.len(), changed.len()));
    }
    Ok(if args.check && !changed.is_empty() { FAILED } else { GOOD })
}

/// The rules and policies of a configuration's folder.
fn found(folder: &Path) -> Vec<PathBuf> {
    let rules = folder.join("routing_rules.yaml");
    let mut files: Vec<PathBuf> = rules.is_file().then_some(rules).into_iter().collect();
    for dir in ["policies", "policies/rules"] {
        let entries = std::fs::read_dir(folder.join(dir)).into_iter().flatten();
        let mut scripts: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        scripts.retain(|p| p.is_file() && p.extension().is_some_and(|e| e == "rhai"));
        scripts.sort();
        files.extend(scripts);
    }
    files
}
