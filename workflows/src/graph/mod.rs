//! The graph of a workflow: acyclic by construction, in topological order.

use crate::edge::Edge;
use crate::node::Node;
use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use serde_json::{Value, json};
use std::collections::VecDeque;
use types::doc::{Reader, Span};

pub(crate) mod chain;
pub(crate) mod check;
pub(crate) mod inputs;
pub(crate) mod judged;
pub(crate) mod later;
pub(crate) mod outside;
mod sure;

/// An acyclic graph: the root of a workflow, or the body of a node. At most 64 nodes.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    /// Positions of nodes, sources before targets.
    pub(crate) topo: Vec<usize>,
    /// Positions of edges, by target.
    pub(crate) incoming: Vec<Vec<usize>>,
    /// Positions of edges, by source.
    pub(crate) outgoing: Vec<Vec<usize>>,
    /// Nodes from which each node can be reached, as bits.
    pub(crate) ancestors: Vec<u64>,
}

impl Graph {
    /// Whether a node that runs before the response may have to wait for somebody outside.
    pub(crate) fn may_wait(&self, client_tools: bool) -> bool {
        let now = self.nodes.iter().filter(|n| n.enabled && !n.is_later());
        now.into_iter().any(|n| n.spec.may_wait(client_tools))
    }

    /// Whether one of its nodes, or of the graphs and workflows that they run, may call an `unsafe` tool.
    pub(crate) fn is_unsafe(&self) -> bool {
        self.nodes.iter().filter(|n| n.enabled).any(Node::is_unsafe)
    }

    pub(crate) fn edges_to(&self, node: usize) -> impl Iterator<Item = (usize, &Edge)> {
        let list = self.incoming.get(node).map_or(&[] as &[usize], Vec::as_slice);
        list.iter().filter_map(|i| Some((*i, self.edges.get(*i)?)))
    }

    pub(crate) fn edges_from(&self, node: usize) -> impl Iterator<Item = (usize, &Edge)> {
        let list = self.outgoing.get(node).map_or(&[] as &[usize], Vec::as_slice);
        list.iter().filter_map(|i| Some((*i, self.edges.get(*i)?)))
    }

    pub(crate) fn is_root(&self, node: usize) -> bool {
        self.incoming.get(node).is_none_or(Vec::is_empty)
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Value {
        let nodes: Vec<Value> = self.nodes.iter().map(Node::canonical).collect();
        let edges: Vec<Value> = self.edges.iter().map(Edge::canonical).collect();
        json!({"nodes": nodes, "edges": edges})
    }

    /// Most model calls that its nodes can ask for in one instance of it.
    pub(crate) fn max_calls(&self) -> u32 {
        self.nodes.iter().fold(0, |sum, n| sum.saturating_add(n.max_calls()))
    }

    /// The same with the attempts that their `retry` asks for.
    pub(crate) fn max_tries(&self) -> u32 {
        self.nodes.iter().fold(0, |sum, n| sum.saturating_add(n.max_tries()))
    }

    /// Most runs of nodes in one instance of it.
    pub(crate) fn max_runs(&self) -> u32 {
        self.nodes.iter().fold(0, |sum, n| sum.saturating_add(n.max_runs()))
    }

    /// Whether `a` stands somewhere before `b`.
    pub(crate) fn precedes(&self, a: usize, b: usize) -> bool {
        self.ancestors.get(b).is_some_and(|set| set & bit(a) != 0)
    }
}

/// A node as a bit of a set.
pub(crate) const fn bit(node: usize) -> u64 {
    1_u64 << (node % 64)
}

/// Builds the graph, or notes every cycle (`WF310`).
pub(crate) fn build(r: &mut Reader<'_>, nodes: Vec<Node>, edges: Vec<Edge>) -> Option<Graph> {
    let mut dag: DiGraph<usize, usize, u16> = DiGraph::default();
    let places: Vec<NodeIndex<u16>> = (0..nodes.len()).map(|i| dag.add_node(i)).collect();
    for (i, e) in edges.iter().enumerate() {
        if let (Some(a), Some(b)) = (places.get(e.from), places.get(e.to)) {
            dag.add_edge(*a, *b, i);
        }
    }
    let Ok(order) = toposort(&dag, None) else {
        cycles(r, &nodes, &edges, &dag);
        return None;
    };
    let topo: Vec<usize> = order.into_iter().filter_map(|n| dag.node_weight(n).copied()).collect();
    let mut graph = Graph {
        incoming: vec![Vec::new(); nodes.len()],
        outgoing: vec![Vec::new(); nodes.len()],
        ancestors: vec![0; nodes.len()],
        nodes,
        edges,
        topo,
    };
    for (i, e) in graph.edges.iter().enumerate() {
        if let Some(list) = graph.incoming.get_mut(e.to) {
            list.push(i);
        }
        if let Some(list) = graph.outgoing.get_mut(e.from) {
            list.push(i);
        }
    }
    for n in graph.topo.clone() {
        let of = |p: usize| graph.ancestors.get(p).copied().unwrap_or(0) | bit(p);
        let set = graph.edges_to(n).fold(0, |set, (_, e)| set | of(e.from));
        if let Some(a) = graph.ancestors.get_mut(n) {
            *a = set;
        }
    }
    Some(graph)
}

fn cycles(r: &mut Reader<'_>, nodes: &[Node], edges: &[Edge], dag: &DiGraph<usize, usize, u16>) {
    for component in tarjan_scc(dag) {
        let members: Vec<usize> = component.iter().filter_map(|n| dag.node_weight(*n).copied()).collect();
        let Some(path) = shortest_cycle(&members, edges) else { continue };
        let id = |i: &usize| nodes.get(*i).map_or("", |n| &*n.id);
        let names: Vec<&str> = path.iter().chain(path.first()).map(id).collect();
        // The edge that closes the circle, as far as a circle has an end: the last one in the file.
        let mut places: Vec<(Span, String)> = path
            .iter()
            .zip(path.iter().cycle().skip(1))
            .filter_map(|(a, b)| edges.iter().find(|e| e.from == *a && e.to == *b))
            .map(|e| (e.span, format!("`{}` → `{}`", id(&e.from), id(&e.to))))
            .collect();
        places.sort_by_key(|(s, _)| (s.line, s.column));
        let (place, _) = places.pop().unwrap_or_default();
        let d = r.error("310", place, format!("the edges run in a circle: {}", names.join(" → ")));
        d.hint = Some(
            "use a `repair` node, which checks again by itself, or a `loop`, instead of an edge back"
                .to_owned(),
        );
        for (span, edge) in places {
            d.relate(span, edge);
        }
    }
}

/// The shortest cycle within a strongly connected component, starting at its first node in the file.
fn shortest_cycle(members: &[usize], edges: &[Edge]) -> Option<Vec<usize>> {
    let mut starts = members.to_vec();
    starts.sort_unstable();
    starts.iter().filter_map(|s| cycle_from(*s, members, edges)).min_by_key(Vec::len)
}

fn cycle_from(start: usize, members: &[usize], edges: &[Edge]) -> Option<Vec<usize>> {
    let mut came: Vec<(usize, Option<usize>)> = vec![(start, None)];
    let mut queue = VecDeque::from([0_usize]);
    while let Some(at) = queue.pop_front() {
        let (node, _) = *came.get(at)?;
        for e in edges.iter().filter(|e| e.from == node && members.contains(&e.to)) {
            if e.to == start {
                let mut path = Vec::new();
                let mut back = Some(at);
                while let Some((n, before)) = back.and_then(|i| came.get(i)) {
                    path.push(*n);
                    back = *before;
                }
                path.reverse();
                return Some(path);
            }
            if !came.iter().any(|(n, _)| *n == e.to) {
                came.push((e.to, Some(at)));
                queue.push_back(came.len().saturating_sub(1));
            }
        }
    }
    None
}
