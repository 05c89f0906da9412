//! What stands across files: workflows that call each other or fall back on each other.

use super::Loaded;
use crate::plan::{self, Workflow};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::diagnostic::{Diagnostic, Severity};

/// Most calls within each other.
const MAX_DEPTH: usize = 3;

/// Binds callees, innermost first, then checks each plan and makes the workflow of it. Files that name each
/// other in a circle, and files that name one with errors, stay out.
pub(super) fn link(mut open: Vec<Loaded>) -> (BTreeMap<String, Arc<Workflow>>, Vec<Diagnostic>) {
    let mut done: BTreeMap<String, (Arc<Workflow>, usize)> = BTreeMap::new();
    let mut broken: Vec<String> = Vec::new();
    let mut problems: BTreeMap<usize, Vec<Diagnostic>> = BTreeMap::new();
    let mut left: Vec<(usize, Loaded)> = open.drain(..).enumerate().collect();
    loop {
        let before = left.len();
        let mut later = Vec::new();
        for (place, one) in left {
            let waits = |n: &String| !done.contains_key(n) && !broken.contains(n);
            if one.names_at().any(|(n, _)| waits(n)) {
                later.push((place, one));
                continue;
            }
            let stem = one.stem.clone();
            let depth =
                one.names_at().filter_map(|(n, _)| done.get(n)).map(|(_, d)| d + 1).max().unwrap_or(0);
            let (workflow, found) = finish(one, &done, &broken, depth);
            problems.insert(place, found);
            match workflow {
                Some(w) => drop(done.insert(stem, (Arc::new(w), depth))),
                None => broken.push(stem),
            }
        }
        left = later;
        if left.len() == before {
            break;
        }
    }
    let circle: Vec<String> = left.iter().map(|(_, l)| l.stem.clone()).collect();
    for (place, mut one) in left {
        let with: Vec<&str> =
            one.names_at().filter(|(n, _)| circle.contains(n)).map(|(n, _)| n.as_str()).collect();
        let message =
            format!("the workflows call each other in a circle: {} → {}", one.stem, with.join(", "));
        let span = one.names_at().find(|(n, _)| circle.contains(n)).map(|(_, s)| *s).unwrap_or_default();
        let d = Diagnostic::error("WF310".to_owned(), &one.source, span, message);
        one.problems.push(d);
        problems.insert(place, one.sorted());
    }
    let workflows = done.into_iter().map(|(name, (w, _))| (name, w)).collect();
    (workflows, problems.into_values().flatten().collect())
}

fn finish(
    mut one: Loaded,
    done: &BTreeMap<String, (Arc<Workflow>, usize)>,
    broken: &[String],
    depth: usize,
) -> (Option<Workflow>, Vec<Diagnostic>) {
    let Some(mut parts) = one.parts.take() else { return (None, one.sorted()) };
    let named: Vec<(String, types::doc::Span)> = one.names_at().cloned().collect();
    for (name, span) in named {
        if broken.contains(&name) {
            let message = format!("the workflow `{name}` has errors");
            one.problems.push(Diagnostic::error("WF205".to_owned(), &one.source, span, message));
        }
    }
    if depth > MAX_DEPTH {
        let span = one.names_at().next().map(|(_, s)| *s).unwrap_or_default();
        let message = format!("workflows call each other {depth} deep");
        let mut d = Diagnostic::error("WF104".to_owned(), &one.source, span, message);
        d.expected = Some(format!("at most {MAX_DEPTH}"));
        one.problems.push(d);
    }
    parts.bind(&|name| done.get(name).map(|(w, _)| w.clone()));
    let mut r = types::doc::Reader::new(&one.source, "WF");
    match one.failed() {
        true => plan::bounds(&mut r, &parts),
        false => plan::check(&mut r, &parts),
    }
    // What a workflow with errors does is not known.
    if !one.names_at().any(|(name, _)| broken.contains(name)) {
        crate::graph::check::useless(&mut r, &parts.root, parts.astray);
    }
    let found = r.problems;
    one.problems.extend(found);
    one.silence(&parts);
    if one.problems.iter().any(|d| d.severity == Severity::Error) {
        return (None, one.sorted());
    }
    (Some(Workflow::new(parts)), one.sorted())
}
