//! `turnout import`: the configuration of another gateway as files of ours, with a report of what became of it.

use super::out::Out;
use super::{FAILED, GOOD, Outcome, Problem};
use crate::import::{self, Fate, Kind, Settled};
use clap::ValueEnum;
use serde_json::json;
use std::path::{Path, PathBuf};
use types::doc::{MAX_BYTES, SourceFile};

/// Turn the configuration of another gateway into files of this one
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout import litellm config.yaml -o turnout/\n  turnout import portkey config.json -o turnout/\n  turnout import openrouter preferences.json --json\n\nWithout -o nothing is written. Keys are never repeated: what stood in the file in clear becomes the name of a variable.\nExit code: 0 good, 2 the file cannot be read, what came of it does not pass `turnout check`, or files would be replaced."
)]
pub(super) struct ImportArgs {
    /// Whose configuration it is
    #[arg(value_enum)]
    from: From,
    /// The file
    file: PathBuf,
    /// Write the files into this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// A LiteLLM proxy's config.yaml
    Litellm,
    /// A Portkey config, JSON
    Portkey,
    /// OpenRouter request preferences, JSON: `provider`, `models`
    Openrouter,
}

pub(super) fn run(args: &ImportArgs, out: &Out) -> Outcome {
    let kind = match args.from {
        From::Litellm => Kind::Litellm,
        From::Portkey => Kind::Portkey,
        From::Openrouter => Kind::Openrouter,
    };
    let name = args.file.display().to_string();
    let text = read(&args.file)?;
    let shipped = SourceFile::new("capability_matrix.yaml", providers::matrix::SHIPPED);
    let matrix = providers::matrix::load(&[shipped], &|_| None, None).0;
    let made = import::import(kind, &name, &text, &matrix).map_err(Problem)?;
    let Settled { import: made, files, mut loaded } = import::settle(made, kind);
    for d in &mut loaded.problems {
        d.message = made.plain(&d.message);
    }
    if let Some(folder) = args.output.as_ref().filter(|_| loaded.is_good()) {
        write(folder, &files, args.force)?;
    }
    let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
    if out.json {
        out.value(&json!({
            "good": loaded.is_good(), "files": names, "written": args.output.is_some() && loaded.is_good(),
            "variables": made.variables, "notes": made.notes, "problems": loaded.problems,
        }));
    } else {
        report(args.output.as_deref(), loaded.is_good(), &made, &files, out);
    }
    if loaded.is_good() {
        return Ok(GOOD);
    }
    out.error(&format!(
        "what came of {name} is no good configuration, so nothing was written:\n{}",
        made.plain(&loaded.report(false))
    ));
    Ok(FAILED)
}

fn read(file: &Path) -> Result<String, Problem> {
    let wrong = |e: std::io::Error| Problem(format!("cannot read {}: {e}", file.display()));
    let size = std::fs::metadata(file).map_err(wrong)?.len();
    if size > MAX_BYTES as u64 {
        return Err(Problem(format!("{} is larger than {MAX_BYTES} bytes", file.display())));
    }
    std::fs::read_to_string(file).map_err(wrong)
}

/// Writes all files, or none where one is there already.
fn write(folder: &Path, files: &[(String, String)], force: bool) -> Result<(), Problem> {
    // A link to nothing is there as well: what is written would stand where it leads to.
    let is_there = |name: &&str| folder.join(name).symlink_metadata().is_ok();
    let names = files.iter().map(|(n, _)| n.as_str());
    let there: Vec<&str> = names.filter(|n| !force && is_there(n)).collect();
    if !there.is_empty() {
        let text = format!("{} holds {} already; --force replaces them", folder.display(), there.join(", "));
        return Err(Problem(text));
    }
    for (name, text) in files {
        let path = folder.join(name);
        let made =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        made.map_err(|e| Problem(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(())
}

fn report(folder: Option<&Path>, good: bool, made: &import::Import, files: &[(String, String)], out: &Out) {
    let mut table = out.table(&["in the file", "", "became"]);
    let count = |fate: Fate| made.notes.iter().filter(|n| n.fate == fate).count();
    for (fate, word) in [(Fate::Carried, "carried"), (Fate::Changed, "changed"), (Fate::Left, "left out")] {
        for n in made.notes.iter().filter(|n| n.fate == fate) {
            table.add_row([n.place.as_str(), word, n.text.as_str()]);
        }
    }
    out.line(&table.to_string());
    out.line(&format!(
        "{} carried over, {} changed, {} left out",
        count(Fate::Carried),
        count(Fate::Changed),
        count(Fate::Left)
    ));
    if !made.variables.is_empty() {
        out.line(&format!("variables to set: {}", made.variables.join(", ")));
    }
    match folder {
        // The error that follows says that nothing was.
        Some(_) if !good => {}
        _ if files.is_empty() => out.line("nothing in the file becomes a file here, so nothing is written"),
        Some(folder) => {
            for (name, _) in files {
                out.line(&format!("wrote {}", folder.join(name).display()));
            }
            out.line(&format!("next: turnout --config {} check", folder.display()));
        }
        None => {
            for (name, text) in files {
                out.line(&format!("\n# {name}\n{text}"));
            }
        }
    }
}
