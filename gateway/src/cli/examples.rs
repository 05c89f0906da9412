//! Examples in the help of commands that are one of a group: those of the group that call them.

use clap::Command;

/// The whole command line, in which every command that has no help of its own behind its options shows its examples.
pub(super) fn with(command: Command) -> Command {
    let name = command.get_name().to_owned();
    below(command, &name)
}

/// `path` is how `command` is called.
fn below(command: Command, path: &str) -> Command {
    let group = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name());
        let calls = |line: &&str| {
            line.trim_start()
                .strip_prefix(&*path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let own: Vec<&str> = group.lines().filter(calls).collect();
        let sub = if sub.get_after_help().is_none() && !own.is_empty() {
            sub.after_help(format!("Examples:\n{}", own.join("\n")))
        } else {
            sub
        };
        below(sub, &path)
    })
}
