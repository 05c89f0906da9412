//! `turnout defaults`: the configuration files that are built into the program.

use super::out::Out;
use super::{GOOD, Outcome, Problem};
use crate::config::sources::built_in;
use serde_json::json;
use types::diagnostic::suggestion;

/// Print the configuration files that are built in
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout defaults                          which files there are\n  turnout defaults routing_rules.yaml       every number, pool and rule, with what they mean\n  turnout defaults workflows/default.yaml\n  turnout defaults capability_matrix.yaml | grep -A12 anthropic/claude\n\nThey hold where a folder has no file of that name. Numbers and pools that a routing_rules.yaml of your own does not\nname are those of the one here; changes of the matrix stand in matrix.d."
)]
pub(super) struct Args {
    /// One of them
    file: Option<String>,
}

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    let files = built_in();
    let Some(name) = &args.file else {
        let names: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
        match out.json {
            true => out.value(&json!({ "files": names })),
            false => names.into_iter().for_each(|name| out.line(name)),
        }
        return Ok(GOOD);
    };
    let found = files.iter().find(|f| f.path == *name).ok_or_else(|| {
        let known = files.iter().map(|f| f.path.as_str());
        Problem(format!("no file `{name}` is built in; {}", suggestion(name, known)))
    })?;
    match out.json {
        true => out.value(&json!({ "path": found.path, "text": &*found.text })),
        false => out.raw(&found.text),
    }
    Ok(GOOD)
}
