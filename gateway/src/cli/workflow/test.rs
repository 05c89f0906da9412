//! `turnout workflow test`: plays what the tests say, and tells what they leave out.

use super::super::out::Out;
use super::super::{FAILED, GOOD, Global, Outcome, Problem, WARNED};
use super::cases::Tests;
use super::kept;
use engine::Bundle;
use engine::rehearse::{self, Case, Seen};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use types::{Diagnostic, Severity};

/// Play the tests of workflows; nothing is called
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow test\n  turnout workflow test invoices\n  turnout workflow test --coverage --min 90\n  turnout workflow test --record run_0192f3a1…\n  turnout workflow test --json | jq '.cases[] | select(.good | not)'\n\nExit code: 0 all passed, 1 too little was reached (--min), 2 a case failed or a file is wrong."
)]
pub(super) struct Args {
    /// Names of workflows, files or folders of tests [default: `workflows/tests` of the configuration, and what is shipped]
    paths: Vec<PathBuf>,
    /// Tell which nodes, outcomes and edges no test has reached
    #[arg(long)]
    coverage: bool,
    /// Least share of them that must be reached, in percent (exit code 1 below it)
    #[arg(long, value_name = "PERCENT", requires = "coverage")]
    min: Option<u8>,
    /// Write a test out of what this run did, and play it
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "coverage"])]
    record: Option<String>,
    /// Where to write it [default: `workflows/tests/<workflow>.<run>.yaml` of the configuration]
    #[arg(long, value_name = "FILE", requires = "record")]
    out: Option<PathBuf>,
}

struct Played {
    case: Case,
    failures: Vec<rehearse::Failure>,
    seen: Seen,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let mut args = args.clone();
    if let Some(id) = &args.record {
        let path = record(global, id, args.out.as_deref()).await?;
        out.note(&format!("wrote {}", path.display()));
        args.paths.push(path);
    }
    play(global, &args, out)
}

/// Writes a test out of what a run did; gives the file.
async fn record(global: &Global, id: &str, to: Option<&Path>) -> Result<PathBuf, Problem> {
    let trace = kept::ask(global, None, id, (Method::GET, "trace"), None).await?;
    let text = rehearse::record(&trace).map_err(Problem)?;
    let workflow = trace.pointer("/run/workflow").and_then(Value::as_str).unwrap_or_default();
    let usual = || global.config.join("workflows/tests").join(format!("{workflow}.{id}.yaml"));
    let path = to.map_or_else(usual, Path::to_owned);
    let failed = |e: std::io::Error| Problem(format!("{}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    // A test that somebody has changed since is not written over.
    let mut file = std::fs::File::create_new(&path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    Ok(path)
}

fn play(global: &Global, args: &Args, out: &Out) -> Outcome {
    let Some(bundle) = &super::load(global, out) else { return Ok(FAILED) };
    let Tests { cases, problems, texts } = tests(global, &args.paths, bundle)?;
    if cases.is_empty() && problems.is_empty() {
        return Err(Problem("there are no tests: write workflows/tests/<workflow>.<case>.yaml".to_owned()));
    }
    let bar =
        if out.terminal && !out.json { ProgressBar::new(cases.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut played = Vec::new();
    for case in cases {
        bar.set_message(case.name.clone());
        let (failures, seen) = match rehearse::play(bundle, &case) {
            Ok(outcome) => (outcome.failures, outcome.seen),
            Err(why) => {
                let failure = rehearse::Failure {
                    what: "case".to_owned(),
                    expected: "a case that can be played".to_owned(),
                    found: why,
                };
                (vec![failure], Seen::default())
            }
        };
        played.push(Played { case, failures, seen });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let covered = if args.coverage { coverage(bundle, &played) } else { Vec::new() };
    if out.json {
        out.value(&as_json(&played, &problems, args.coverage.then_some(&covered)));
    } else {
        out.problems(&problems, &texts);
        tell(&played, out);
        covered.iter().for_each(|c| c.tell(out));
    }
    let wrong = problems.iter().any(|d| d.severity == Severity::Error);
    let failed = wrong || played.iter().any(|p| !p.failures.is_empty());
    let low = args.min.is_some_and(|least| covered.iter().any(|c| c.percent < usize::from(least)));
    Ok(match (failed, low) {
        (true, _) => FAILED,
        (false, true) => WARNED,
        (false, false) => GOOD,
    })
}

/// The tests of files and folders, else those of the configuration and the shipped ones; of these workflows, where some
/// are named.
fn tests(global: &Global, paths: &[PathBuf], bundle: &Bundle) -> Result<Tests, Problem> {
    let is_name =
        |p: &&PathBuf| !p.exists() && p.to_str().is_some_and(|name| bundle.workflow(name).is_some());
    let (named, paths): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(is_name);
    let mut tests = if paths.is_empty() {
        let mut tests = Tests::of_folder(&global.config, Some(bundle))?;
        tests.and_shipped(bundle);
        tests
    } else {
        Tests::of_paths(&paths, bundle)?
    };
    if !named.is_empty() {
        tests.cases.retain(|c| named.iter().any(|name| name.as_os_str() == c.workflow.as_str()));
    }
    Ok(tests)
}

fn as_json(played: &[Played], problems: &[Diagnostic], covered: Option<&Vec<Covered>>) -> Value {
    let row = |p: &Played| {
        json!({"workflow": p.case.workflow, "name": p.case.name, "file": p.case.file,
            "good": p.failures.is_empty(), "failures": p.failures})
    };
    let cases: Vec<Value> = played.iter().map(row).collect();
    let mut value = json!({"cases": cases, "problems": problems});
    if let (Some(covered), Some(members)) = (covered, value.as_object_mut()) {
        members.insert("coverage".to_owned(), json!(covered));
    }
    value
}

fn tell(played: &[Played], out: &Out) {
    for p in played {
        let mark = if p.failures.is_empty() { "good  " } else { "FAILED" };
        out.line(&format!("{mark} {}: {}", p.case.workflow, p.case.name));
        for f in &p.failures {
            out.line(&format!("         {}: expected {}", f.what, f.expected));
            out.line(&format!("         {}  found    {}", " ".repeat(f.what.len()), f.found));
        }
    }
    let failed = played.iter().filter(|p| !p.failures.is_empty()).count();
    out.line(&format!("{} tests, {failed} failed", played.len()));
}

/// Outcomes of nodes, states of edges and parts of conditions that some test has reached.
#[derive(Default)]
struct Reached {
    outcomes: BTreeSet<(String, String)>,
    edges: BTreeSet<(String, String, bool)>,
    parts: BTreeSet<(String, Option<String>, String, bool)>,
}

/// What the tests of a workflow have reached.
#[derive(Debug, Serialize)]
struct Covered {
    workflow: String,
    /// Of `all`, rounded down.
    percent: usize,
    /// Outcomes, edges and parts of conditions.
    all: usize,
    missed: Vec<String>,
}

impl Covered {
    fn tell(&self, out: &Out) {
        let Covered { workflow, percent, all, missed } = self;
        out.line(&format!(
            "\n{workflow}: {percent} % of {all} outcomes, edges and parts of conditions reached"
        ));
        for m in missed.iter().take(40) {
            out.line(&format!("  not reached: {m}"));
        }
    }
}

/// What the tests of each workflow have reached.
fn coverage(bundle: &Bundle, played: &[Played]) -> Vec<Covered> {
    let mut by_workflow: BTreeMap<&str, Reached> = BTreeMap::new();
    for p in played {
        let r = by_workflow.entry(&p.case.workflow).or_default();
        r.outcomes.extend(p.seen.path.iter().map(|(f, o)| (Seen::plain(f), o.clone())));
        r.edges.extend(p.seen.edges.iter().map(|(from, to, live)| (Seen::plain(from), to.clone(), *live)));
        let part = |(of, to, part, holds): &(String, Option<String>, String, bool)| {
            (Seen::plain(of), to.clone(), part.clone(), *holds)
        };
        r.parts.extend(p.seen.parts.iter().map(part));
    }
    let mut covered = Vec::new();
    for (name, Reached { outcomes, edges, parts }) in by_workflow {
        let Some(w) = bundle.workflow(name) else { continue };
        let points = w.points();
        let mut missed: Vec<String> = Vec::new();
        for (node, outcome) in &points.outcomes {
            if !outcomes.contains(&(node.clone(), outcome.clone())) {
                missed.push(format!("{node}: {outcome}"));
            }
        }
        for (from, to, may_die) in &points.edges {
            for live in [true, false].into_iter().take(if *may_die { 2 } else { 1 }) {
                if !edges.contains(&(from.clone(), to.clone(), live)) {
                    missed.push(format!("{from} -> {to} {}", if live { "live" } else { "dead" }));
                }
            }
        }
        for (of, to, part) in &points.parts {
            for holds in [true, false] {
                if !parts.contains(&(of.clone(), to.clone(), part.clone(), holds)) {
                    let edge = to.as_ref().map(|to| format!(" -> {to}")).unwrap_or_default();
                    missed.push(format!(
                        "{of}{edge}: `{part}` {}",
                        if holds { "holds" } else { "does not hold" }
                    ));
                }
            }
        }
        let certain = points.edges.iter().filter(|(.., may_die)| !may_die).count();
        let all = points.outcomes.len() + 2 * (points.edges.len() + points.parts.len()) - certain;
        let percent = 100 * (all - missed.len().min(all)) / all.max(1);
        covered.push(Covered { workflow: name.to_owned(), percent, all, missed });
    }
    covered
}
