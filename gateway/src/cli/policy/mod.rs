//! `turnout policy`: check, test, explain, compare and format rules and policies.

mod check;
mod diff;
mod explain;
mod fmt;
mod live;
mod test;

pub(in crate::cli) use diff::{length, tell_replay};

use super::control::Where;
use super::out::Out;
use super::{Global, Outcome, Problem};
use crate::config::{self, Loaded, Simulated, Source};
use clap::Subcommand;
use engine::Bundle;
use std::path::Path;

/// Check, test, explain, compare, format and list rules and policies
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy check\n  turnout policy test --coverage\n  turnout policy explain request.json\n  turnout policy diff old-config new-config --over\n  turnout policy fmt --check\n  turnout policy list                       what is in force on the running server, and how often it matched\n  turnout policy show strict_is_replayable\n  turnout policy put no_secrets rule.yaml --dry-run\n\nThe folder of the configuration is named with --config; policies are described in docs/policies.md."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Check rules and policies: names, types, contradictions, each with a request that shows it, and their tests
    Check(check::Args),
    /// Run the tests of policies
    Test(test::Args),
    /// Tell what the policies make of a request
    Explain(explain::Args),
    /// Tell how two configurations differ, by their rules and over recorded requests
    Diff(diff::Args),
    /// Give rules and policies their usual form
    Fmt(fmt::Args),
    /// List the rules and scripts in force on a running server, and how often each matched
    List(live::ListArgs),
    /// Show one of them with its text
    Show(live::ShowArgs),
    /// Put a rule or script on a running server; what would have problems changes nothing
    Put(live::PutArgs),
    /// Remove a rule or script from a running server
    Remove(live::RemoveArgs),
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    if !matches!(args.what, What::List(_) | What::Show(_) | What::Put(_) | What::Remove(_)) {
        args.at.named_for_nothing()?;
    }
    match &args.what {
        What::Check(args) => Ok(check::run(global, args, out)),
        What::Test(args) => test::run(global, args, out),
        What::Explain(args) => explain::run(global, args, out),
        What::Diff(args) => diff::run(global, args, out).await,
        What::Fmt(args) => fmt::run(global, args, out),
        What::List(_) => live::list(global, &args.at, out).await,
        What::Show(one) => live::show_one(global, (one, &args.at), out).await,
        What::Put(one) => live::put(global, (one, &args.at), out).await,
        What::Remove(one) => live::remove(global, (one, &args.at), out).await,
    }
}

/// The configuration of a folder, or its problems as text. Its tests are not run: whoever looks into a rule may do so
/// while they fail.
fn bundle(folder: &Path) -> Result<Bundle, Problem> {
    let read = Source::Folder(folder.to_owned()).read();
    let loaded = config::load_untested(read, &Global::environment(), Simulated::AsWritten);
    let report = loaded.report(false);
    match loaded {
        Loaded { bundle: Some(bundle), .. } => Ok(bundle),
        _ => Err(Problem(format!("{} does not load:\n{report}", folder.display()))),
    }
}

/// Text of a file; `-` is standard input.
fn read(path: &Path) -> Result<String, Problem> {
    /// Largest input, in bytes.
    const MAX_BYTES: u64 = 64 * 1024 * 1024;
    use std::io::Read as _;
    let mut text = String::new();
    let failed = |e: std::io::Error| Problem(format!("{}: {e}", path.display()));
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(path)
            .map_err(failed)?
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(failed)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        _args: super::Args,
    }

    #[test]
    fn every_part_has_an_example() {
        let command = Alone::command();
        for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
            let after = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("turnout policy {}", sub.get_name())), "{}", sub.get_name());
        }
    }
}
