//! The live chain: the straight way from one model call to the client, if there is one.

use super::{Graph, bit};
use crate::node::Join;
use crate::node::generate::Generate;
use crate::node::select::Select;
use crate::node::stream::Stream;
use crate::node::validate::Validate;
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;

/// Nodes from a `generate` to a `stream` such that, as long as all goes well, nothing else starts. Text may
/// flow along it while its nodes are still running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) generate: usize,
    /// `validate` and `select` nodes between the ends, in order.
    pub(crate) between: Vec<usize>,
    pub(crate) stream: usize,
}

/// Whether these are answers as they came: text that was taken out of one does not flow.
fn whole(refs: &[Ref]) -> bool {
    refs.iter().all(Ref::names_completions)
}

/// Finds the chain: presumes `passed` and `selected` throughout and sees what would start.
pub(crate) fn find(graph: &Graph) -> Option<Chain> {
    let mut roots = (0..graph.nodes.len()).filter(|i| graph.is_root(*i));
    let generate = roots.next().filter(|_| roots.next().is_none())?;
    let mut started = bit(generate);
    let mut between = Vec::new();
    let mut stream = None;
    for i in graph.topo.iter().copied() {
        if started & bit(i) == 0 {
            continue;
        }
        let node = graph.nodes.get(i)?;
        if !node.enabled || node.guard.is_some() || !matches!(node.join, Join::All | Join::Any) {
            return None;
        }
        // A generation's own outcome is known only when its text has left.
        // What may have to be taken back, or answered, never flows at once.
        let one_sample = |g: &Generate| i == generate && g.samples == 1 && g.flows();
        let presumed = if node.get().is_some_and(one_sample) {
            node.kind.completed()
        } else if node.get().is_some_and(|v: &Validate| v.pass_when.is_none() && whole(&v.input)) {
            OutcomeSet::of(&[Outcome::Passed])
        } else if node.get().is_some_and(|s: &Select| whole(&s.from)) {
            OutcomeSet::of(&[Outcome::Selected])
        } else if node.get().is_some_and(|s: &Stream| whole(s.from.as_slice())) {
            stream = Some(i);
            continue;
        } else {
            return None;
        };
        if i != generate {
            between.push(i);
        }
        // What runs after the response does not stand in its way.
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
    Some(Chain { generate, between, stream: stream? })
}
