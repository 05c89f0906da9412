//! `turnout workflow graph`: a drawing, of a workflow or of what a run of it did.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome, Problem};
use super::kept;
use crate::routes::runs::marks::marks;
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use workflows::{DrawFormat, Marks};

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
    /// Colour it by what this run of it did, with time and cost
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let format = DrawFormat::parse(&args.format).ok_or_else(|| {
        let hint = types::diagnostic::suggestion(&args.format, DrawFormat::NAMES.iter().copied());
        Problem(format!("`{}` is no format; {hint}", args.format))
    })?;
    let Some(bundle) = &super::load(global, out) else { return Ok(super::FAILED) };
    let workflow = super::named(bundle, &args.name)?;
    let marks = match &args.run {
        None => Marks::new(),
        Some(id) => {
            let trace = kept::ask(global, None, id, (Method::GET, "trace"), None).await?;
            let of = trace.pointer("/run/workflow").and_then(Value::as_str).unwrap_or_default();
            if of != args.name {
                return Err(Problem(format!("`{id}` is a run of `{of}`, not of `{}`", args.name)));
            }
            marks(&trace)
        }
    };
    let text = workflow.draw(format, &marks);
    match &args.out {
        None if out.json => {
            out.value(&json!({ "workflow": args.name, "format": args.format, "graph": text }));
        }
        None => out.raw(&text),
        Some(path) => std::fs::write(path, text)?,
    }
    Ok(GOOD)
}
