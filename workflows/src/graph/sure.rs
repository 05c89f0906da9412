//! What is sure to run where no node errs, as far as the file alone tells.

use super::{Graph, bit};
use crate::edge::Edge;
use crate::load::Expr;
use crate::node::{Join, Node};
use crate::outcome::{Outcome, OutcomeSet};

/// For each node those that have run whenever it starts, as bits.
///
/// Must(n) = ⋂ over incoming edges (p→n) of Must(p) ∪ ({p} if the edge accepts only completed outcomes), with ⋃ for
/// `join: strict`.
pub(super) fn must(graph: &Graph) -> Vec<u64> {
    let mut must = vec![0_u64; graph.nodes.len()];
    // The same where the node is skipped: a strict one is, as soon as one of its sources fails it.
    let mut skipped = must.clone();
    for n in &graph.topo {
        let strict = graph.nodes.get(*n).is_some_and(|n| n.join == Join::Strict);
        let (mut any, mut all) = (None, None);
        for (_, e) in graph.edges_to(*n) {
            let completed = graph.nodes.get(e.from).map(Node::completed);
            let certain = completed.is_some_and(|c| c.includes(e.accepts));
            let before = if e.accepts.contains(Outcome::Skipped) { &skipped } else { &must };
            let this = before.get(e.from).copied().unwrap_or(0) | if certain { bit(e.from) } else { 0 };
            any = Some(any.map_or(this, |s| s | this));
            all = Some(all.map_or(this, |s| s & this));
        }
        if let (Some(m), Some(s)) = (must.get_mut(*n), skipped.get_mut(*n)) {
            *s = all.unwrap_or(0);
            *m = if strict { any.unwrap_or(0) } else { *s };
        }
    }
    must
}

/// The nodes that run whenever those of `seeds` do; `live`: whether an edge is sure to be live where its source runs.
/// `may`: whether a node completes once it has started.
pub(super) fn running(
    graph: &Graph,
    seeds: u64,
    live: impl Fn(&Edge) -> bool,
    may: impl Fn(usize, &Node) -> bool,
) -> u64 {
    let mut runs = seeds;
    for i in graph.topo.iter().copied() {
        let Some(node) = graph.nodes.get(i) else { continue };
        let sure = |e: &Edge| runs & bit(e.from) != 0 && live(e);
        let mut edges = graph.edges_to(i).map(|(_, e)| e);
        let starts = match node.join {
            _ if graph.is_root(i) => true,
            Join::All | Join::Any => edges.any(sure),
            Join::Strict => edges.all(sure),
            Join::AtLeast(n) => edges.filter(|e| sure(e)).count() >= usize::try_from(n).unwrap_or(usize::MAX),
        };
        if starts && node.enabled && node.guard.is_none() && may(i, node) {
            runs |= bit(i);
        }
    }
    runs
}

/// Whether an edge is live whatever its source comes to, if that completes.
pub(super) fn plain(graph: &Graph, e: &Edge) -> bool {
    e.certain() && graph.nodes.get(e.from).is_some_and(|n| e.accepts.includes(n.possible()))
}

/// Which edges suffice for their targets to start.
pub(super) struct Sure<'g> {
    graph: &'g Graph,
    must: Vec<u64>,
}

impl<'g> Sure<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        Sure { graph, must: must(graph) }
    }

    /// Whether the target of an edge starts where the edge is live, whatever else happens. That other edges which its join
    /// asks for are live as well has to follow from the file: their sources run whenever that of this one does, and lead
    /// on as they did to get there.
    pub(super) fn suffices(&self, edge: &Edge) -> bool {
        let all = self.graph.edges_to(edge.to).count();
        let least = match self.graph.nodes.get(edge.to).map(|n| n.join) {
            Some(Join::Strict) => all,
            // More than there are is told by itself.
            Some(Join::AtLeast(n)) => usize::try_from(n).unwrap_or(usize::MAX).min(all),
            _ => return true,
        };
        if least <= 1 {
            return true;
        }
        let before = self.must.get(edge.from).copied().unwrap_or(0);
        let live = |e: &Edge| plain(self.graph, e) || self.follows(edge, before, e);
        let runs = running(self.graph, before | bit(edge.from), live, |_, _| true);
        let others = self.graph.edges_to(edge.to).map(|(_, e)| e).filter(|e| !std::ptr::eq(*e, edge));
        others.filter(|e| runs & bit(e.from) != 0 && live(e)).count().saturating_add(1) >= least
    }

    /// Whether an edge is live because those are that led from its source to a live edge.
    fn follows(&self, live: &Edge, before: u64, e: &Edge) -> bool {
        let leads = |o: &Edge| match e.from == live.from {
            true => std::ptr::eq(o, live),
            false => o.to == live.from || self.graph.precedes(o.to, live.from),
        };
        if e.from != live.from && before & bit(e.from) == 0 {
            return false;
        }
        let mut led = self.graph.edges_from(e.from).map(|(_, o)| o).filter(|o| leads(o)).peekable();
        let possible = self.graph.nodes.get(e.from).map(Node::possible).unwrap_or(OutcomeSet::EMPTY);
        led.peek().is_some()
            && led
                .all(|o| (e.certain() || when(e) == when(o)) && e.accepts.includes(o.accepts.meet(possible)))
    }
}

/// On what an edge hangs beside the outcome of its source.
fn when(e: &Edge) -> (Option<&str>, bool) {
    (e.when.as_ref().map(Expr::source), e.otherwise)
}
