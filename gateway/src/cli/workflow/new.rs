//! `turnout workflow new`: a shipped workflow as a beginning.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome, Problem};
use std::io::Write as _;

/// Begin a workflow from a shipped one
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The shipped workflow to copy
    template: String,
    /// The name of the new one: lower-case letters, digits and `_`
    name: String,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let shipped = engine::workflows::shipped();
    let found = shipped.iter().find(|f| f.stem() == args.template).ok_or_else(|| {
        let hint = types::diagnostic::suggestion(&args.template, shipped.iter().map(|f| f.stem()));
        Problem(format!("no workflow `{}` is shipped; {hint}", args.template))
    })?;
    let good = args.name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && args.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && args.name.len() <= 63;
    if !good {
        let text = format!("`{}` is no name: lower-case letters, digits and `_`, a letter first", args.name);
        return Err(Problem(text));
    }
    let folder = global.config.join("workflows");
    let path = folder.join(format!("{}.yaml", args.name));
    let renamed = found.text.lines().map(|l| match l.strip_prefix("name:") {
        Some(_) => format!("name: {}\n", args.name),
        None => format!("{l}\n"),
    });
    let text: String = renamed.collect();
    std::fs::create_dir_all(&folder)?;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| {
        Problem(format!("{}: {e}; choose another name, or remove the file first", path.display()))
    })?;
    file.write_all(text.as_bytes())?;
    out.line(&format!("{}", path.display()));
    out.line(&format!(
        "next: edit it, then `turnout workflow check`, `turnout workflow graph {}`,",
        args.name
    ));
    out.line(&format!("      and ask for it with model=\"workflow/{}\"", args.name));
    Ok(GOOD)
}
