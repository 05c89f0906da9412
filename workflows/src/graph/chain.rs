//! The live chains: the straight ways from one model call to the client along which text may flow.

use super::{Graph, bit};
use crate::node::generate::Generate;
use crate::node::stream;
use crate::node::validate::Validate;
use crate::node::{Join, Node, NodeKind, NodeSpec};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use types::ChatRequest;
use types::run::Severity;

/// Nodes from a `generate` to a `stream` such that, as long as all goes well, nothing else starts. Text may
/// flow along it while its nodes are still running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) generate: usize,
    /// `validate`, `select` and `set` nodes between the ends, in order.
    pub(crate) between: Vec<usize>,
    pub(crate) stream: usize,
}

impl Chain {
    /// The checks between its ends that judge any answer, and only once it is whole, each with its node.
    pub(crate) fn waiting<'g>(&self, graph: &'g Graph) -> Vec<(&'g str, &'g str)> {
        // One that only some requests want says by itself when it applies.
        let plain = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "-"}]});
        let Ok(plain) = ChatRequest::from_value(&plain) else { return Vec::new() };
        let nodes = self.between.iter().filter_map(|i| graph.nodes.get(*i));
        let validates = nodes.filter_map(|n| Some((n.spec.get::<Validate>()?, &*n.id)));
        let of = |(v, at): (&'g Validate, &'g str)| {
            let own = v.checks.list.iter().filter(|c| c.severity() > Severity::Warn && c.applies(&plain));
            let own = own.map(|c| c.name()).filter(|name| !stream::watches(name));
            let outside = v.checks.outside.iter().filter(|o| o.severity > Severity::Warn);
            own.chain(outside.map(|o| o.what.name())).map(|check| (check, at)).collect::<Vec<_>>()
        };
        validates.flat_map(of).collect()
    }
}

/// How the nodes of a graph stand when a `generate` is about to start and nothing else is under way.
pub(crate) struct Standing<'a> {
    /// Those that have resolved, by their bits.
    pub(crate) resolved: u64,
    /// Whether an edge from one of them is live.
    pub(crate) is_live: &'a dyn Fn(usize) -> bool,
}

/// The chains that a graph may have, one for each `generate` from which there is a straight way, whatever the nodes
/// before it come to.
pub(crate) fn all(graph: &Graph) -> Vec<Chain> {
    let of = |head: usize| {
        let resolved = !after(graph, head);
        from(graph, head, &Standing { resolved, is_live: &|_| false })
    };
    (0..graph.nodes.len()).filter_map(of).collect()
}

/// A node and all that come after it, by their bits.
fn after(graph: &Graph, head: usize) -> u64 {
    graph.topo.iter().copied().fold(bit(head), |found, i| {
        let follows = graph.edges_to(i).any(|(_, e)| found & bit(e.from) != 0);
        if follows { found | bit(i) } else { found }
    })
}

/// The chain from a `generate`, as the nodes around it stand: presumes `passed` and `selected` throughout and sees what
/// would start.
pub(crate) fn from(graph: &Graph, head: usize, standing: &Standing<'_>) -> Option<Chain> {
    let resolved = |i: usize| standing.resolved & bit(i) != 0;
    let mut started = bit(head);
    let (mut between, mut stream) = (Vec::new(), None);
    for i in graph.topo.iter().copied().filter(|i| !resolved(*i)) {
        let node = graph.nodes.get(i)?;
        // What runs after the response does not stand in its way.
        if node.is_later() {
            continue;
        }
        if started & bit(i) == 0 {
            // A node that is skipped may have others start all the same.
            let beside = graph.edges_to(i).any(|(at, e)| match started & bit(e.from) {
                _ if resolved(e.from) => (standing.is_live)(at),
                0 => e.accepts.contains(Outcome::Skipped),
                _ => false,
            });
            if beside {
                return None;
            }
            continue;
        }
        let presumed = match i == head {
            true => of_head(node)?,
            false => on_the_way(node, (started, standing.resolved))?,
        };
        if node.kind() == NodeKind::Stream {
            stream = Some(i);
        } else if i != head {
            between.push(i);
        }
        let now = |to: usize| graph.nodes.get(to).is_some_and(|n| !n.is_later());
        for (_, e) in graph.edges_from(i).filter(|(_, e)| e.accepts.meets(presumed) && now(e.to)) {
            if e.when.is_some() || !e.accepts.includes(presumed) {
                return None;
            }
            // A sibling without a condition is live, so this one is not.
            let idle =
                e.otherwise && graph.edges_from(i).any(|(_, s)| s.certain() && s.accepts.meets(presumed));
            if !idle {
                started |= bit(e.to);
            }
        }
    }
    let started_count = started.count_ones() as usize;
    // Exactly the chain started: generate, what lies between, one stream.
    (started_count == between.len().saturating_add(2)).then_some(())?;
    Some(Chain { generate: head, between, stream: stream? })
}

/// What a `generate` whose text may flow resolves as. Its own outcome is known only when its text has left. What may have
/// to be taken back, or answered, never flows at once.
fn of_head(node: &Node) -> Option<OutcomeSet> {
    let flows = node.enabled && node.spec.get::<Generate>().is_some_and(|g| g.samples == 1 && g.flows());
    flows.then(|| node.node_type().completed())
}

/// What a node on the way is presumed to resolve as, if text may flow through it; `started`, `resolved`: the nodes of the
/// way so far, and those that have an outcome already.
fn on_the_way(node: &Node, (started, resolved): (u64, u64)) -> Option<OutcomeSet> {
    if !node.enabled || node.guard.is_some() || !matches!(node.join, Join::All | Join::Any) {
        return None;
    }
    // Text that was taken out of an answer does not flow, and what others have answered is another text.
    let among = |r: &Ref, nodes: u64| r.own_node().is_some_and(|i| nodes & bit(i) != 0);
    let flowing = |r: &Ref| r.names_completions() && among(r, started);
    let others = |r: &Ref| r.names_completions() && r.own_node().is_some() && !among(r, resolved);
    match &node.spec {
        NodeSpec::Validate(v) => {
            (v.pass_when.is_none() && v.input.iter().all(flowing)).then(|| OutcomeSet::of(&[Outcome::Passed]))
        }
        NodeSpec::Select(s) => (s.from.iter().any(flowing) && s.from.iter().all(others))
            .then(|| OutcomeSet::of(&[Outcome::Selected])),
        NodeSpec::Stream(s) => s.from.iter().all(flowing).then(|| node.node_type().completed()),
        NodeSpec::Set(_) => Some(node.node_type().completed()),
        NodeSpec::Classify(_)
        | NodeSpec::Generate(_)
        | NodeSpec::Repair(_)
        | NodeSpec::Judge(_)
        | NodeSpec::Tool(_)
        | NodeSpec::Merge(_)
        | NodeSpec::Loop(_)
        | NodeSpec::Map(_)
        | NodeSpec::Call(_)
        | NodeSpec::Gate(_)
        | NodeSpec::Fail(_) => None,
    }
}
