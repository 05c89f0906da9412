//! Which checks watch a generation while it grows.

use super::Validate;
use crate::graph::Graph;
use crate::node::repair::Repair;
use crate::node::select::Select;
use crate::node::{Node, NodeKind};
use crate::outcome::Outcome;
use crate::run::{At, EarlyAbort};

/// The one `validate` node that what this node generates goes to, with its position.
fn reader<'a>(at: &At<'a>) -> Option<(usize, &'a Validate)> {
    let graph = at.frame.graph;
    let mut found = None;
    for (i, node) in graph.nodes.iter().enumerate() {
        if node.spec.reads().iter().all(|r| r.reference.own_node() != Some(at.position)) {
            continue;
        }
        match node.spec.get::<Validate>() {
            Some(v) if found.is_none() => found = Some((i, v)),
            // These leave out what was stopped, or go by what checks say.
            None if node.kind().node_type().goes_by_checks => {}
            // Somebody else may have a use for an answer that fails here.
            _ => return None,
        }
    }
    found
}

/// Whether a local repair may put right what the checks behind this node reject.
pub(crate) fn mends(at: &At<'_>) -> bool {
    reader(at).is_some_and(|(i, _)| repaired(at, i))
}

fn repaired(at: &At<'_>, validate: usize) -> bool {
    let fixes = |n: &Node| n.spec.get::<Repair>().is_some_and(|r| r.from == Some(validate) && r.fix);
    at.frame.graph.nodes.iter().any(fixes)
}

/// Whether the best of what fails is delivered where nothing passes: then some answer must be there as a whole.
fn owes_the_best(at: &At<'_>) -> bool {
    let takes_failed = |n: &Node| n.spec.get::<Select>().is_some_and(Select::takes_failed);
    at.host.workflow.best_so_far || at.frame.graph.nodes.iter().any(takes_failed)
}

/// Whether a repair behind a `validate` node brings its best answer, which is a whole one.
fn keeps_whole(at: &At<'_>, validate: usize) -> bool {
    let keeps =
        |n: &Node| n.spec.get::<Repair>().is_some_and(|r| r.from == Some(validate) && !r.stops_early());
    at.frame.graph.nodes.iter().any(keeps)
}

/// Whether the author sends on what fails in a `validate` node: by the edges that it leaves by, or by who reads its
/// outputs. What repairs, judges or selects goes by what the checks say, and is no such reader.
pub(crate) fn lets_failed_on(graph: &Graph, validate: usize) -> bool {
    let reads = |n: &Node| n.spec.reads().iter().any(|r| r.reference.own_node() == Some(validate));
    graph.nodes.iter().enumerate().any(|(to, n)| {
        // `fail` puts what failed into its message alone.
        if n.kind().node_type().goes_by_checks || n.kind() == NodeKind::Fail || n.is_later() || !reads(n) {
            return false;
        }
        let mut edges = graph.edges_from(validate).filter(|(_, e)| e.to == to).peekable();
        edges.peek().is_none() || edges.any(|(_, e)| e.accepts.contains(Outcome::Failed))
    })
}

/// A watch over what this node generates: by the checks behind it, those that policies demand among them.
/// `None` where nothing is certain to check it, or nothing can be told before the end.
pub(crate) fn watch<'a>(at: &At<'a>) -> Option<EarlyAbort<'a>> {
    // An answer that the author's own expression may pass is never hopeless.
    let (i, v) = reader(at).filter(|(_, v)| v.early_abort && v.pass_when.is_none())?;
    let certain = |to: usize| {
        let edges = at.frame.graph.edges_from(at.position);
        let mut to = edges.filter(|(_, e)| e.to == to && e.when.is_none() && e.accepts.contains(Outcome::Ok));
        to.next().is_some()
    };
    let runs = certain(i) && at.frame.graph.nodes.get(i).is_some_and(|n| n.enabled && n.guard.is_none());
    if lets_failed_on(at.frame.graph, i) || owes_the_best(at) && !keeps_whole(at, i) {
        return None;
    }
    let all_own = v.input.iter().all(|r| r.own_node() == Some(at.position) && r.names_completions());
    if !(runs && all_own) {
        return None;
    }
    let extras = if v.last { at.host.extras.as_slice() } else { &[] };
    let checks = v.checks.list.iter().chain(extras).cloned().collect();
    EarlyAbort::open(checks, &at.host.input.request, repaired(at, i))
}
