//! `turnout check`: every problem of every configuration file at once.

use super::out::Out;
use super::workflow::{self, Tests};
use super::{FAILED, GOOD, Global, Problem, WARNED, sarif};
use crate::config::sources::WORKFLOWS;
use crate::config::{self, Loaded, Simulated};
use clap::ValueEnum;
use serde_json::json;
use std::ffi::OsStr;
use std::path::Path;
use types::doc::SourceFile;
use types::{Diagnostic, Severity};

/// Read every configuration file and tell every problem
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout check\n  turnout --config deploy/prod check --deny-warnings\n  turnout check --simulated                 the bundle of `turnout serve --simulated`\n  turnout check --format sarif > turnout.sarif\n  turnout check --json | jq '.problems[] | .file + \":\" + (.line|tostring)'\n\nExit code: 0 good, 1 warnings with --deny-warnings, 2 errors."
)]
pub(super) struct Args {
    #[command(flatten)]
    how: How,
    /// With the simulated models switched on: the bundle that `serve --simulated` serves
    #[arg(long)]
    simulated: bool,
}

/// How problems are told.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct How {
    /// Warnings count as failures (exit code 1)
    #[arg(long)]
    deny_warnings: bool,
    /// How problems are told
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, with the lines they are about
    #[default]
    Text,
    /// One object; the same as --json
    Json,
    /// SARIF 2.1.0, for code hosts
    Sarif,
}

/// What was checked.
pub(super) struct Checked<'a> {
    pub(super) problems: Vec<Diagnostic>,
    /// The texts that problems are about.
    pub(super) texts: &'a [SourceFile],
    /// What was checked can be put in force.
    pub(super) good: bool,
    pub(super) bundle: Option<String>,
    /// What is good, or what is not, in words.
    pub(super) told: String,
    /// What is no problem, and good to know.
    pub(super) notes: Vec<String>,
}

impl<'a> Checked<'a> {
    /// `starts`: a server takes it, whatever the tests of workflows say.
    fn of(loaded: &'a Loaded, starts: bool, listen: Option<&str>, simulated: Simulated) -> Self {
        let told = match &loaded.bundle {
            Some(_) if starts && !loaded.is_good() => {
                "not good: tests of workflows cannot be played; the configuration itself starts".to_owned()
            }
            Some(b) => format!(
                "good: {} models, {} workflows, bundle {}{}",
                b.matrix().models().len(),
                b.workflow_names().len(),
                b.hash(),
                simulated.told()
            ),
            None => "not good: this configuration does not start".to_owned(),
        };
        Checked {
            problems: loaded.problems.clone(),
            texts: &loaded.texts,
            good: loaded.is_good(),
            bundle: loaded.bundle.as_ref().map(|b| b.hash().to_string()),
            told,
            notes: listen.or(loaded.server.listen.as_deref()).and_then(reached).into_iter().collect(),
        }
    }
}

/// What follows from an address that other machines reach. Whether there are keys, the data folder of the server knows.
fn reached(listen: &str) -> Option<String> {
    let open = config::server::address(listen).is_some_and(|a| !a.ip().is_loopback());
    open.then(|| {
        format!(
            "`listen: {listen}` is reached from other machines: the server starts there once it has a key (`turnout key \
             create`), or with `serve --insecure-open`"
        )
    })
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> u8 {
    let simulated = if args.simulated { Simulated::Also } else { Simulated::AsWritten };
    all(global, args.how, simulated, out)
}

/// Checks everything.
pub(super) fn all(global: &Global, how: How, simulated: Simulated, out: &Out) -> u8 {
    let read = global.source().read();
    let mut loaded = config::load_to_check(read.clone(), &Global::environment(), simulated);
    let starts = loaded.is_good();
    match workflow::tests(global, read, starts) {
        Ok(Tests { problems, texts, .. }) => {
            loaded.problems.extend(problems);
            let known = |f: &SourceFile| loaded.texts.iter().any(|t| t.path == f.path);
            let new: Vec<SourceFile> = texts.into_iter().filter(|f| !known(f)).collect();
            loaded.texts.extend(new);
        }
        Err(Problem(why)) => {
            out.error(&why);
            return FAILED;
        }
    }
    let checked = Checked::of(&loaded, starts, global.listen.as_deref(), simulated);
    tell(&checked, how, out)
}

/// Workflows among the files that stand in the place of shipped ones.
fn replaced(texts: &[SourceFile]) -> Vec<&SourceFile> {
    let shipped = workflows::shipped();
    let folder = |f: &SourceFile| Path::new(&f.path).parent().and_then(Path::file_name).map(OsStr::to_owned);
    let replaces = |f: &&SourceFile| {
        folder(f).is_some_and(|folder| folder == WORKFLOWS) && shipped.iter().any(|s| s.stem() == f.stem())
    };
    texts.iter().filter(replaces).collect()
}

/// Tells what was found; the exit code.
pub(super) fn tell(checked: &Checked<'_>, how: How, out: &Out) -> u8 {
    let Checked { problems, texts, good, bundle, told, notes } = checked;
    let count = |s: Severity| problems.iter().filter(|d| d.severity == s).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let replaced = replaced(texts);
    if how.format == Format::Sarif {
        out.value(&sarif::of(&problems.iter().collect::<Vec<_>>()));
    } else if out.json || how.format == Format::Json {
        out.value(&json!({
            "good": good, "errors": errors, "warnings": warnings, "bundle": bundle, "problems": problems,
            "replaces": replaced.iter().map(|f| f.stem()).collect::<Vec<_>>(), "notes": notes,
        }));
    } else {
        out.problems(problems, texts);
        for file in replaced {
            out.line(&format!("{} stands in the place of the shipped workflow `{}`", file.path, file.stem()));
        }
        notes.iter().for_each(|note| out.line(note));
        out.line(&format!("{told} ({errors} errors, {warnings} warnings in {} files)", texts.len()));
    }
    match (good, warnings) {
        (false, _) => FAILED,
        (true, n) if n > 0 && how.deny_warnings => WARNED,
        _ => GOOD,
    }
}
