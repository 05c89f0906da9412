//! `turnout workflow diff`: how two workflows differ in what they do.

use super::files::Files;
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome, Problem};
use engine::{Bound, Bundle, USUAL};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use types::Diagnostic;
use types::doc::SourceFile;
use workflows::{Change, Workflow, difference, is_schema};

/// Tell how two workflows differ in what they do
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow diff json_extraction invoices\n  turnout workflow diff invoices ../deployed/workflows/invoices.yaml --json\n\nNodes, edges, limits, and what a run may cost at most; comments, titles and the order of keys are no difference.\nA file is taken with the workflows that it calls and the schemas that stand beside it."
)]
pub(super) struct Args {
    /// A workflow by its name, or a file
    a: String,
    /// Another one
    b: String,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let Some((bundle, config)) = &super::load_with(global, out) else { return Ok(super::FAILED) };
    let ((a, x), (b, y)) = (find(bundle, &args.a)?, find(bundle, &args.b)?);
    let found = difference((&a, &x), (&b, &y));
    let most = |w: &Workflow| bundle.bound(w, USUAL, config.retry);
    let (before, after) = (most(&a), most(&b));
    if out.json {
        let most = |w: &Bound| json!({"calls": w.calls, "usd": w.most_usd()});
        out.value(
            &json!({"same": found.same, "changes": found.changes, "most": [most(&before), most(&after)]}),
        );
        return Ok(GOOD);
    }
    found.changes.iter().for_each(|c| tell(c, out));
    if found.same {
        out.line("they do the same");
    }
    let usd = |b: &Bound| b.most_usd().map_or_else(|| "unknown".to_owned(), |u| format!("{u} USD"));
    let most = |b: &Bound| format!("{} calls, {}", b.calls, usd(b));
    out.line(&format!("at most  {}  ->  {}", most(&before), most(&after)));
    Ok(GOOD)
}

/// By name, or a file of its own, which is checked as if it stood among the workflows of the configuration, with what it names beside it.
fn find(bundle: &Bundle, what: &str) -> Result<(Arc<Workflow>, SourceFile), Problem> {
    if !what.contains(['/', '.']) {
        let workflow = super::named(bundle, what)?;
        let file = bundle.workflow_source(what).cloned().unwrap_or_else(|| SourceFile::new(what, ""));
        return Ok((workflow, file));
    }
    let path = Path::new(what);
    if path.is_dir() {
        return Err(Problem(format!("{what} is a folder; name one of the workflows in it")));
    }
    let stem = path.file_stem().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    let files = Files::of(&[path.to_owned()])?;
    let texts = files.together();
    let (library, found) = bundle.try_workflows(&texts);
    let file = files.named.iter().find(|f| f.stem() == stem && !is_schema(f));
    let Some((workflow, file)) = library.get(stem).zip(file) else {
        let own = |d: &Diagnostic| texts.iter().any(|f| f.path == d.file);
        let problems: Vec<_> = files.problems.into_iter().chain(found.into_iter().filter(own)).collect();
        let report = crate::config::report(&problems, &texts, Out::colour());
        return Err(Problem(format!("{what} is no workflow:\n\n{report}")));
    };
    Ok((workflow.clone(), file.clone()))
}

fn tell(change: &Change, out: &Out) {
    out.line(&format!("{:8} {}", change.how, change.what));
    for (key, before, after) in &change.fields {
        let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
        out.line(&match (before, after) {
            (Value::Null, v) => format!("           + {key}{}", short(v)),
            (v, Value::Null) => format!("           - {key}{}", short(v)),
            (v, w) => format!("           {key}{}  ->  {}", short(v), short(w)),
        });
    }
}

fn short(v: &Value) -> String {
    const MOST: usize = 100;
    let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text,
    }
}
