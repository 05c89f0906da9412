//! `turnout completions`: completions for a shell.

use super::out::Out;
use super::{Cli, GOOD, Outcome};
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Print completions for a shell
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout completions bash > /etc/bash_completion.d/turnout\n  turnout completions zsh > ~/.zfunc/_turnout\n  turnout completions fish > ~/.config/fish/completions/turnout.fish"
)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "turnout", &mut text);
    out.raw(&String::from_utf8_lossy(&text));
    Ok(GOOD)
}
