//! Flow analyses over an acyclic graph: everything can be reached, every outcome and every path leads on.

use super::sure::{self, Sure};
use super::{Graph, bit};
use crate::edge::Edge;
use crate::load::{Unguarded, lint};
use crate::node::repair::Repair;
use crate::node::{Node, NodeKind, OnError};
use crate::outcome::{Outcome, OutcomeSet};
use crate::value::Ty;
use std::cell::OnceCell;
use types::diagnostic::Diagnostic;
use types::doc::{Reader, Span};

/// Notes `WF307`, `WF320`, `WF331`, `WF332`, `WF333`; gives the nodes that lead nowhere by these, as bits.
pub(crate) fn flow(r: &mut Reader<'_>, graph: &Graph) -> u64 {
    let mut flow = Flow { r, graph };
    flow.references();
    flow.asynchronous();
    let unreachable = flow.unreachable();
    let uncovered = flow.uncovered();
    flow.unanswered(unreachable | uncovered)
}

/// Notes the same of the body of a node, in which an outcome that leads nowhere ends the iteration and nothing has
/// to answer: `WF307`, `WF320`, `WF331`.
pub(crate) fn body(r: &mut Reader<'_>, graph: &Graph) {
    let mut flow = Flow { r, graph };
    flow.references();
    flow.unreachable();
}

/// Notes `WF334`, once the workflows that its nodes call are known; `told`: the nodes that [`flow`] gave.
pub(crate) fn useless(r: &mut Reader<'_>, graph: &Graph, told: u64) {
    Flow { r, graph }.useless(told);
}

/// What a node reads of the graph some levels above its body.
fn above(graph: &Graph, up: usize, into: &mut Vec<(usize, Span)>) {
    for n in &graph.nodes {
        into.extend(n.spec.reads().iter().filter_map(|r| Some((r.reference.node_at(up)?, r.reference.span))));
        for e in n.guard.iter().chain(n.spec.exprs()) {
            into.extend(e.nodes_at(up).map(|n| (n, e.span)));
        }
        for e in n.spec.inner_exprs() {
            into.extend(e.nodes_at(up.saturating_add(1)).map(|n| (n, e.span)));
        }
        n.spec.bodies().into_iter().for_each(|g| above(g, up.saturating_add(1), into));
    }
    for e in graph.edges.iter().filter_map(|e| e.when.as_ref()) {
        into.extend(e.nodes_at(up).map(|n| (n, e.span)));
    }
}

/// Where expressions of a body take for granted that a node of the graph some levels above it has run.
fn granted_above<'g>(graph: &'g Graph, up: usize, into: &mut Vec<&'g Unguarded>) {
    for n in &graph.nodes {
        into.extend(n.guard.iter().chain(n.spec.exprs()).flat_map(|e| e.unguarded_at(up)));
        into.extend(n.spec.inner_exprs().into_iter().flat_map(|e| e.unguarded_at(up.saturating_add(1))));
        n.spec.bodies().into_iter().for_each(|g| granted_above(g, up.saturating_add(1), into));
    }
    into.extend(graph.edges.iter().filter_map(|e| e.when.as_ref()).flat_map(|e| e.unguarded_at(up)));
}

/// The nodes of a body that have run whenever it comes to its end.
fn always(graph: &Graph) -> u64 {
    let completes = |i: usize, node: &Node| {
        let routed = |o| graph.edges_from(i).any(|(_, e)| e.accepts.contains(o));
        !routed(Outcome::Error) && !routed(Outcome::Timeout) && node.common.on_error != OnError::Skip
    };
    sure::running(graph, 0, |e| sure::plain(graph, e), completes)
}

struct Flow<'r, 'a> {
    r: &'r mut Reader<'a>,
    graph: &'r Graph,
}

impl<'r> Flow<'r, '_> {
    fn node(&self, i: usize) -> Option<&'r Node> {
        self.graph.nodes.get(i)
    }

    fn id(&self, i: usize) -> &str {
        self.node(i).map_or("", |n| &n.id)
    }

    /// The field of what is wrong with a node.
    fn field(&self, i: usize) -> String {
        self.node(i).map(|n| lint::tagged(&n.id, &n.path)).unwrap_or_default()
    }

    /// An error at a node.
    fn error(&mut self, number: &str, i: usize, span: Span, message: String) -> &mut Diagnostic {
        let field = self.field(i);
        let d = self.r.error(number, span, message);
        d.field = field;
        d
    }

    /// Completed outcomes of a node, and `skipped` where a condition may skip it.
    fn ways(&self, i: usize) -> OutcomeSet {
        let Some(n) = self.node(i) else { return OutcomeSet::EMPTY };
        if !n.enabled {
            return OutcomeSet::of(&[Outcome::Skipped]);
        }
        let skipped = if n.guard.is_some() { OutcomeSet::of(&[Outcome::Skipped]) } else { OutcomeSet::EMPTY };
        n.possible().union(skipped)
    }

    fn references(&mut self) {
        let must = sure::must(self.graph);
        for i in 0..self.graph.nodes.len() {
            let Some(node) = self.node(i) else { continue };
            let certain = must.get(i).copied().unwrap_or(0);
            let mut reads: Vec<(usize, Span, bool)> = Vec::new();
            for r in node.spec.reads() {
                reads.extend(r.reference.own_node().map(|n| (n, r.reference.span, r.may_be_absent)));
            }
            if let Some(k) = node.spec.get::<Repair>() {
                reads.extend(k.from.filter(|_| k.checks.is_none()).map(|f| (f, node.span, false)));
            }
            for e in node.guard.iter().chain(node.spec.exprs()) {
                reads.extend(e.own_nodes().map(|n| (n, e.span, true)));
            }
            let mut within = Vec::new();
            node.spec.bodies().into_iter().for_each(|g| above(g, 1, &mut within));
            for e in node.spec.inner_exprs() {
                within.extend(e.nodes_at(1).map(|n| (n, e.span)));
            }
            reads.extend(within.into_iter().map(|(n, span)| (n, span, true)));
            reads.dedup_by_key(|(n, _, _)| *n);
            for (target, span, may_be_absent) in reads {
                self.reference(i, target, span, may_be_absent || certain & bit(target) != 0, false);
            }
            self.granted(i, certain);
        }
        for e in &self.graph.edges {
            let Some(when) = &e.when else { continue };
            for target in when.own_nodes() {
                self.reference(e.from, target, when.span, true, target == e.from);
            }
            let source = self.node(e.from).map(Node::completed);
            let own = if source.is_some_and(|c| c.includes(e.accepts)) { bit(e.from) } else { 0 };
            let certain = must.get(e.from).copied().unwrap_or(0) | own;
            let before = |u: &&Unguarded| u.node == e.from || self.graph.precedes(u.node, e.from);
            self.doubted(e.from, certain, when.unguarded_at(0).filter(before).collect());
        }
    }

    /// What the expressions of a node, and of the graphs within it, take for granted, where these nodes have run.
    fn granted(&mut self, i: usize, certain: u64) {
        let Some(node) = self.node(i) else { return };
        let mut all: Vec<&Unguarded> = Vec::new();
        all.extend(node.guard.iter().chain(node.spec.exprs()).flat_map(|e| e.unguarded_at(0)));
        all.extend(node.spec.inner_exprs().into_iter().flat_map(|e| e.unguarded_at(1)));
        node.spec.bodies().into_iter().for_each(|g| granted_above(g, 1, &mut all));
        self.doubted(i, certain, all.into_iter().filter(|u| self.graph.precedes(u.node, i)).collect());
        for body in node.spec.bodies() {
            let within = node.spec.inner_exprs().into_iter().flat_map(|e| e.unguarded_at(0)).collect();
            self.doubted(i, always(body), within);
        }
    }

    fn doubted(&mut self, i: usize, certain: u64, granted: Vec<&Unguarded>) {
        for u in granted.into_iter().filter(|u| certain & bit(u.node) == 0) {
            let field = self.field(i);
            self.r.warning("307", u.span, u.message.clone()).field = field;
        }
    }

    fn reference(&mut self, node: usize, target: usize, span: Span, certain: bool, own: bool) {
        if !own && !self.graph.precedes(target, node) {
            let message = format!("`{}` cannot come before `{}`", self.id(target), self.id(node));
            let hint = format!("add edges that lead from `{}` here", self.id(target));
            self.error("320", node, span, message).hint = Some(hint);
        } else if !certain {
            let message = format!("`{}` may not have run when `{}` starts", self.id(target), self.id(node));
            let field = self.field(node);
            let d = self.r.warning("307", span, message);
            d.field = field;
        }
    }

    /// What runs after the response cannot be waited for.
    fn asynchronous(&mut self) {
        let later = |i: usize| self.node(i).is_some_and(Node::is_later);
        let mut bad: Vec<(usize, usize, Span)> = Vec::new();
        for e in self.graph.edges.iter().filter(|e| later(e.from) && !later(e.to)) {
            bad.push((e.to, e.from, e.span));
        }
        for (i, n) in self.graph.nodes.iter().enumerate().filter(|(i, _)| !later(*i)) {
            for r in n.spec.reads() {
                let source = r.reference.own_node().filter(|s| later(*s));
                bad.extend(source.map(|s| (i, s, r.reference.span)));
            }
        }
        for (i, source, span) in bad {
            let message =
                format!("`{}` depends on `{}`, which runs after the response", self.id(i), self.id(source));
            self.error("341", i, span, message).hint =
                Some(format!("make `{}` async as well, or `{}` not", self.id(i), self.id(source)));
        }
    }

    fn unreachable(&mut self) -> u64 {
        let mut reached = 0_u64;
        let mut bad = 0;
        for i in self.graph.topo.clone() {
            let possible = |p: usize| {
                let mut set = self.ways(p);
                if self.node(p).is_some_and(|n| n.enabled) {
                    set = set.union(OutcomeSet::of(&[Outcome::Error, Outcome::Timeout, Outcome::Cancelled]));
                }
                let skippable = !self.graph.is_root(p)
                    || self.node(p).is_some_and(|n| n.common.on_error == OnError::Skip);
                if skippable { set.with(Outcome::Skipped) } else { set }
            };
            let live = self
                .graph
                .edges_to(i)
                .any(|(_, e)| reached & bit(e.from) != 0 && e.accepts.meets(possible(e.from)));
            if self.graph.is_root(i) || live {
                reached |= bit(i);
                continue;
            }
            bad |= bit(i);
            let span = self.node(i).map(|n| n.span).unwrap_or_default();
            let message = format!("`{}` can never start: no edge to it can become live", self.id(i));
            self.error("331", i, span, message);
        }
        bad
    }

    /// Outcomes that lead nowhere, at nodes whose edges tell outcomes apart.
    fn uncovered(&mut self) -> u64 {
        let mut bad = 0;
        for i in 0..self.graph.nodes.len() {
            let Some(node) = self.node(i) else { continue };
            let completed = node.completed();
            let restricted = self.graph.edges_from(i).any(|(_, e)| !e.accepts.includes(completed));
            if node.node_type().sink || node.is_later() || !node.enabled || !restricted {
                continue;
            }
            let covered =
                |o: Outcome| self.graph.edges_from(i).any(|(_, e)| e.accepts.contains(o) && e.when.is_none());
            let possible = node.possible();
            let open: Vec<String> = node
                .outcomes()
                .filter(|o| possible.contains(*o) && !covered(*o))
                .map(|o| format!("`{}`", node.word(o)))
                .collect();
            if open.is_empty() {
                continue;
            }
            bad |= bit(i);
            let plural = if open.len() > 1 { "outcomes" } else { "outcome" };
            let lead = if open.len() > 1 { "lead" } else { "leads" };
            let message = format!("{plural} {} of `{}` {lead} nowhere", open.join(", "), node.id);
            let span = node.span;
            self.error("332", i, span, message).hint =
                Some("add an edge for it, without `when` or with `else: true`".to_owned());
        }
        bad
    }

    /// Paths on which no node errs and nothing answers.
    fn unanswered(&mut self, already: u64) -> u64 {
        let good = self.answering();
        let n = self.graph.nodes.len();
        let roots: Vec<usize> = (0..n).filter(|i| self.graph.is_root(*i)).collect();
        let mut told = already;
        if roots.iter().any(|r| good & bit(*r) != 0) || already != 0 {
            return told;
        }
        // Where the path breaks: the node itself does not answer although all behind it that do, do.
        let waited = |to: usize| !self.node(to).is_some_and(Node::is_later);
        let leads_on = |e: &Edge| !waited(e.to) || good & bit(e.to) != 0;
        let breaks = |i: &usize| good & bit(*i) == 0 && waited(*i);
        let ends: Vec<usize> =
            (0..n).filter(breaks).filter(|i| self.graph.edges_from(*i).all(|(_, e)| leads_on(e))).collect();
        told |= ends.iter().fold(0, |bits, i| bits | bit(*i));
        let sure = Sure::of(self.graph);
        let mut joins: Vec<usize> = ends.iter().filter_map(|i| self.left_out(*i, &sure)).collect();
        joins.sort_unstable();
        joins.dedup();
        for join in joins.iter().copied() {
            self.may_be_left_out(join);
        }
        // What else does not lead on may be as it should once they do.
        for i in ends.into_iter().filter(|_| joins.is_empty()) {
            let span = self.node(i).map(|n| n.span).unwrap_or_default();
            let message = format!("a path ends at `{}` without a response", self.id(i));
            let hint = self.leading_on(i);
            self.error("333", i, span, message).hint = Some(hint);
        }
        told
    }

    /// A node behind that one which does not start although an edge from there is live.
    fn left_out(&self, i: usize, sure: &Sure<'_>) -> Option<usize> {
        let waited = |e: &&Edge| !self.node(e.to).is_some_and(Node::is_later);
        self.graph.edges_from(i).map(|(_, e)| e).filter(waited).find(|e| !sure.suffices(e)).map(|e| e.to)
    }

    /// A join that is not satisfied on every path, behind which the response comes.
    fn may_be_left_out(&mut self, i: usize) {
        let span = self.node(i).map(|n| n.span).unwrap_or_default();
        let message =
            format!("a path ends without a response where `{}` is skipped by its `join`", self.id(i));
        self.error("333", i, span, message).hint = Some(format!(
            "not all that it waits for is sure to lead to it: write `join: all`, or lead `{}` on where it is `skipped`",
            self.id(i)
        ));
    }

    /// Nodes from which nothing can answer.
    fn useless(&mut self, told: u64) {
        let mut leads = 0_u64;
        for i in self.graph.topo.clone().into_iter().rev() {
            // What runs after the response or changes the world is worth running for itself.
            let own = |n: &Node| n.node_type().sink || n.is_later() || n.is_unsafe();
            let sink = self.node(i).is_some_and(own);
            let on = self.graph.edges_from(i).any(|(_, e)| leads & bit(e.to) != 0);
            // What leads to a node that has been told of is mended with it.
            if sink || on || told & bit(i) != 0 {
                leads |= bit(i);
            } else {
                let span = self.node(i).map(|n| n.span).unwrap_or_default();
                let message = format!("nothing that `{}` does can reach a response", self.id(i));
                self.error("334", i, span, message).hint =
                    Some("remove it, or lead it to a `stream` or `fail` node".to_owned());
            }
        }
    }

    /// How a path that ends at a node gets its response.
    fn leading_on(&self, i: usize) -> String {
        let later: Vec<&str> = self.graph.edges_from(i).map(|(_, e)| self.id(e.to)).collect();
        let last = self.graph.edges_from(i).all(|(_, e)| self.node(e.to).is_some_and(Node::is_later));
        let sinks = self.graph.nodes.iter().any(|n| n.kind() == NodeKind::Stream);
        let makes = self.node(i).filter(|_| last && !sinks);
        match makes.and_then(|n| n.outputs.iter().find(|o| o.ty == Ty::Completion)) {
            Some(o) => {
                let runs = match later.as_slice() {
                    [] => String::new(),
                    later => format!(
                        "; `{}` runs after the response, since nothing waits for it",
                        later.join("`, `")
                    ),
                };
                format!(
                    "say what is delivered, `output: nodes.{}.{}`, or lead on to a `stream` or `fail` node{runs}",
                    self.id(i),
                    o.name
                )
            }
            None => "lead every outcome to a `stream` or `fail` node".to_owned(),
        }
    }

    /// Nodes from which every way without an error ends at a sink.
    fn answering(&self) -> u64 {
        let mut good = 0_u64;
        // Nodes from which it does so where they are skipped.
        let mut good_skipped = 0_u64;
        let sure = Sure::of(self.graph);
        // What it takes a walk to find out does not hang on the outcome that is looked at.
        let known: Vec<OnceCell<bool>> = self.graph.edges.iter().map(|_| OnceCell::new()).collect();
        let suffices =
            |at: usize, e: &Edge| known.get(at).is_some_and(|k| *k.get_or_init(|| sure.suffices(e)));
        for i in self.graph.topo.iter().copied().rev() {
            let Some(node) = self.node(i) else { continue };
            if node.node_type().sink && node.enabled && node.guard.is_none() {
                good |= bit(i);
                continue;
            }
            let leads = |o: Outcome| {
                // Where its join leaves it out, the target is skipped.
                let ok = |(at, e): (usize, &Edge)| {
                    good & bit(e.to) != 0 && (good_skipped & bit(e.to) != 0 || suffices(at, e))
                };
                let edges = || self.graph.edges_from(i).filter(|(_, e)| e.accepts.contains(o));
                let waited = |(_, e): &(usize, &Edge)| !self.node(e.to).is_some_and(Node::is_later);
                let conditional = || edges().filter(|(_, e)| e.when.is_some()).filter(waited).all(ok);
                edges().any(|(at, e)| e.certain() && ok((at, e)))
                    || edges().any(|(at, e)| e.otherwise && ok((at, e))) && conditional()
            };
            let on_skipped = leads(Outcome::Skipped);
            let silent = node.lint.iter().any(|c| c == "WF332");
            let ways = self.ways(i);
            let all = node.outcomes().chain([Outcome::Skipped]);
            let mut some = false;
            let every = all.filter(|o| ways.contains(*o)).all(|o| {
                let l = leads(o);
                some |= l;
                l || silent
            });
            if every && some {
                good |= bit(i);
            }
            if on_skipped {
                good_skipped |= bit(i);
            }
        }
        good
    }
}
