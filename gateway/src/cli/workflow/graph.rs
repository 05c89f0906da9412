//! `turnout workflow graph`: a drawing.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome, Problem};
use engine::workflows::{DrawFormat, Marks};
use std::path::PathBuf;

/// Draw a workflow
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Its name
    name: String,
    /// mermaid, dot or svg
    #[arg(long, default_value = "mermaid")]
    format: String,
    /// Write it into this file instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let format = DrawFormat::parse(&args.format).ok_or_else(|| {
        let hint = types::diagnostic::suggestion(&args.format, DrawFormat::NAMES.iter().copied());
        Problem(format!("`{}` is no format; {hint}", args.format))
    })?;
    let loaded = match super::load(global, out) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let Some(bundle) = &loaded.bundle else { return Ok(GOOD) };
    let text = super::named(bundle, &args.name)?.draw(format, &Marks::new());
    match &args.out {
        None => out.raw(&text),
        Some(path) => std::fs::write(path, text)?,
    }
    Ok(GOOD)
}
