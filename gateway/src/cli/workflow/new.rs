//! `turnout workflow new`: a shipped workflow as a beginning, with its tests and the schema for editors.

use super::{cases, schema};
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome, Problem};
use std::io::Write as _;
use std::path::Path;

/// Begin a workflow from a shipped one
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow new json_extraction invoices\n  turnout workflow new default support_chat\n\nWrites workflows/<name>.yaml, the template's tests under workflows/tests, and workflows/workflow.v1.json for editors."
)]
pub(super) struct Args {
    /// The shipped workflow to copy
    template: String,
    /// The name of the new one: lower-case letters, digits and `_`
    name: String,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let shipped = workflows::shipped();
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
    std::fs::create_dir_all(folder.join("tests"))?;
    let path = folder.join(format!("{}.yaml", args.name));
    create(&path, &copy(&found.text, &args.name))?;
    let mut written = vec![path.display().to_string()];
    for (file, text) in cases::SHIPPED {
        let Some(rest) = file.strip_prefix(&format!("{}.", args.template)) else { continue };
        let path = folder.join("tests").join(format!("{}.{rest}", args.name));
        let renamed = |l: &str| {
            if l.starts_with("workflow:") { format!("workflow: {}\n", args.name) } else { format!("{l}\n") }
        };
        create(&path, &text.lines().map(renamed).collect::<String>())?;
        written.push(path.display().to_string());
    }
    // Of this version, whatever stood there.
    schema::write(&folder.join(schema::FILE))?;
    if out.json {
        out.value(&serde_json::json!({ "name": args.name, "template": args.template, "written": written }));
        return Ok(GOOD);
    }
    written.iter().for_each(|path| out.line(path));
    out.line(&format!(
        "next: edit it, then `turnout workflow check`, `turnout workflow test {0}`,\n      `turnout workflow run {0} --simulated --message \"…\"` (with `--dry` nothing is called),\n      and ask for it with model=\"workflow/{0}\"",
        args.name
    ));
    Ok(GOOD)
}

/// The template under another name, with the line by which editors find the schema.
fn copy(text: &str, name: &str) -> String {
    let kept = text.lines().filter(|l| !l.starts_with("# yaml-language-server:"));
    let renamed =
        kept.map(|l| if l.starts_with("name:") { format!("name: {name}\n") } else { format!("{l}\n") });
    format!("# yaml-language-server: $schema={}\n{}", schema::FILE, renamed.collect::<String>())
}

fn create(path: &Path, text: &str) -> Result<(), Problem> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| {
        Problem(format!("{}: {e}; choose another name, or remove the file first", path.display()))
    })?;
    Ok(file.write_all(text.as_bytes())?)
}
