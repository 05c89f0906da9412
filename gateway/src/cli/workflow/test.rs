//! `turnout workflow test`: plays what the tests say, and tells what they leave out.

use super::super::out::Out;
use super::super::{FAILED, GOOD, Global, Outcome, Problem, WARNED};
use super::kept;
use crate::config::folder;
use engine::rehearse::{self, Case, Seen};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use types::doc::SourceFile;
use types::matrix::glob;

/// Play the tests of workflows; nothing is called
#[derive(clap::Args, Clone, Debug)]
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

/// Tests that are built into the program, for the workflows that are.
pub(super) const SHIPPED: &[(&str, &str)] = &[
    ("default.prose.yaml", include_str!("../../../../workflows/library/tests/default.prose.yaml")),
    (
        "json_extraction.repaired.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.repaired.yaml"),
    ),
    (
        "json_extraction.escalated.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.escalated.yaml"),
    ),
    (
        "json_extraction.hopeless.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.hopeless.yaml"),
    ),
    (
        "json_extraction.object.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.object.yaml"),
    ),
    (
        "json_extraction.refused.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.refused.yaml"),
    ),
    (
        "consensus_vote.agree.yaml",
        include_str!("../../../../workflows/library/tests/consensus_vote.agree.yaml"),
    ),
    (
        "consensus_vote.judged.yaml",
        include_str!("../../../../workflows/library/tests/consensus_vote.judged.yaml"),
    ),
    (
        "speculative_hedge.draft.yaml",
        include_str!("../../../../workflows/library/tests/speculative_hedge.draft.yaml"),
    ),
    (
        "speculative_hedge.strong.yaml",
        include_str!("../../../../workflows/library/tests/speculative_hedge.strong.yaml"),
    ),
    (
        "cheap_first_cascade.agreed.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.agreed.yaml"),
    ),
    (
        "rag_grounded.grounded.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.grounded.yaml"),
    ),
    (
        "rag_grounded.repaired.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.repaired.yaml"),
    ),
    ("rag_grounded.thin.yaml", include_str!("../../../../workflows/library/tests/rag_grounded.thin.yaml")),
    (
        "rag_grounded.unverified.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.unverified.yaml"),
    ),
    ("tool_loop.answers.yaml", include_str!("../../../../workflows/library/tests/tool_loop.answers.yaml")),
    ("tool_loop.limit.yaml", include_str!("../../../../workflows/library/tests/tool_loop.limit.yaml")),
    ("tool_loop.injected.yaml", include_str!("../../../../workflows/library/tests/tool_loop.injected.yaml")),
    ("hard_coding.passes.yaml", include_str!("../../../../workflows/library/tests/hard_coding.passes.yaml")),
    (
        "hard_coding.repaired.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.repaired.yaml"),
    ),
    (
        "hard_coding.hopeless.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.hopeless.yaml"),
    ),
    (
        "hard_coding.unverified.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.unverified.yaml"),
    ),
];

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
    let (cases, problems) = cases(global, args, bundle)?;
    if !problems.is_empty() {
        out.error(&format!("{} problems in the tests:\n{}", problems.len(), problems.join("\n")));
        return Ok(FAILED);
    }
    if cases.is_empty() {
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
    tell(&played, out);
    let failed = played.iter().filter(|p| !p.failures.is_empty()).count();
    let low = args.coverage && coverage(bundle, &played, args.min, out);
    Ok(match (failed, low) {
        (0, false) => GOOD,
        (0, true) => WARNED,
        _ => FAILED,
    })
}

fn tell(played: &[Played], out: &Out) {
    if out.json {
        let row = |p: &Played| {
            json!({"workflow": p.case.workflow, "name": p.case.name, "file": p.case.file,
                "good": p.failures.is_empty(), "failures": p.failures})
        };
        out.value(&json!(played.iter().map(row).collect::<Vec<_>>()));
        return;
    }
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

/// Tells what the tests of each workflow have reached. True if one lies below `min`.
fn coverage(bundle: &engine::Bundle, played: &[Played], min: Option<u8>, out: &Out) -> bool {
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
    let mut low = false;
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
        let share = 100 * (all - missed.len().min(all)) / all.max(1);
        low |= min.is_some_and(|m| share < usize::from(m));
        out.line(&format!("\n{name}: {share} % of {all} outcomes, edges and parts of conditions reached"));
        for m in missed.iter().take(40) {
            out.line(&format!("  not reached: {m}"));
        }
    }
    low
}

/// All cases, and the problems of files that are none.
fn cases(global: &Global, args: &Args, bundle: &engine::Bundle) -> Result<(Vec<Case>, Vec<String>), Problem> {
    let mut problems = Vec::new();
    let mut sources: Vec<(SourceFile, PathBuf)> = Vec::new();
    let is_name =
        |p: &&PathBuf| !p.exists() && p.to_str().is_some_and(|name| bundle.workflow(name).is_some());
    let (named, paths): (Vec<&PathBuf>, Vec<&PathBuf>) = args.paths.iter().partition(is_name);
    let mut paths: Vec<PathBuf> = paths.into_iter().cloned().collect();
    if paths.is_empty() {
        paths.extend(folder::texts(&global.config.join("workflows/tests"), "yaml")?);
        elsewhere(&global.config.join("workflows"), bundle, &mut paths, &mut problems)?;
        let shipped = SHIPPED.iter().map(|(name, text)| (SourceFile::new(*name, *text), PathBuf::new()));
        sources.extend(shipped);
    }
    for path in paths {
        collect(&path, &mut sources)?;
    }
    let mut cases = Vec::new();
    for (source, folder) in &sources {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let (case, found) = rehearse::load(source, &read);
        problems.extend(found.iter().map(ToString::to_string));
        cases.extend(case);
    }
    if !named.is_empty() {
        cases.retain(|c| named.iter().any(|name| name.as_os_str() == c.workflow.as_str()));
    }
    Ok((cases, problems))
}

/// Adds the tests that workflows name by globs and that do not stand in the usual folder.
fn elsewhere(
    folder: &Path,
    bundle: &engine::Bundle,
    into: &mut Vec<PathBuf>,
    problems: &mut Vec<String>,
) -> Result<(), Problem> {
    let named: Vec<_> = bundle.workflow_names().iter().filter_map(|n| bundle.workflow(n)).cloned().collect();
    if named.iter().all(|w| w.tests.is_empty()) {
        return Ok(());
    }
    let mut files = Vec::new();
    below(folder, 0, &mut files)?;
    for workflow in named {
        for pattern in &workflow.tests {
            let plain = pattern.strip_prefix("./").unwrap_or(pattern);
            let fits = |f: &&PathBuf| {
                let path = f.strip_prefix(folder).ok().and_then(Path::to_str);
                path.is_some_and(|p| glob(plain, p))
            };
            let found: Vec<&PathBuf> = files.iter().filter(fits).collect();
            if found.is_empty() {
                let (name, folder) = (&workflow.name, folder.display());
                problems
                    .push(format!("workflow `{name}`: no file of {folder} fits `{pattern}` of its `tests`"));
            }
            let usual = folder.join("tests");
            for file in found.into_iter().filter(|f| !f.starts_with(&usual)) {
                if !into.contains(file) {
                    into.push(file.clone());
                }
            }
        }
    }
    Ok(())
}

/// Deepest folder that is looked into for tests.
const DEEPEST: usize = 8;

/// The YAML files of a folder and of those in it.
fn below(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), Problem> {
    if depth > DEEPEST {
        return Ok(());
    }
    for path in folder::list(folder)? {
        if path.is_dir() && !path.is_symlink() {
            below(&path, depth.saturating_add(1), into)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            into.push(path);
        }
    }
    Ok(())
}

fn collect(path: &Path, into: &mut Vec<(SourceFile, PathBuf)>) -> Result<(), Problem> {
    let failed = |e: std::io::Error| Problem(format!("{}: {e}", path.display()));
    if path.is_dir() {
        return folder::texts(path, "yaml")?.iter().try_for_each(|file| collect(file, into));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    into.push((SourceFile::new(path.display().to_string(), text), folder));
    Ok(())
}
