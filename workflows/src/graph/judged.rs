//! How many answers come to each judge at most: what the number of its calls hangs on.

use super::Graph;
use crate::node::generate::Generate;
use crate::node::judge::Judge;
use crate::reference::{Ref, Root};
use crate::value::Ty;

/// Answers of a list that no node of a graph around a judge makes, such as one that a loop carries: as many as a node
/// can ask for.
const MANY: u32 = 16;

/// Tells every judge of a graph, and of the graphs within it, how many answers may come.
pub(crate) fn tell(root: &mut Graph) {
    let mut found = Vec::new();
    look(&mut vec![root], &mut Vec::new(), &mut found);
    for (place, answers) in found {
        put(root, &place, answers);
    }
}

/// A step on the way to a node: the node of a graph, and which of its bodies.
type Step = (usize, usize);

fn look(graphs: &mut Vec<&Graph>, at: &mut Vec<Step>, found: &mut Vec<(Vec<Step>, u32)>) {
    let Some(graph) = graphs.last().copied() else { return };
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Some(judge) = node.spec.get::<Judge>() {
            let all = judge.input.iter().map(|r| answers(graphs, r)).fold(0, u32::saturating_add);
            found.push(([at.as_slice(), &[(i, 0)]].concat(), all));
        }
        for (b, body) in node.spec.bodies().into_iter().enumerate() {
            graphs.push(body);
            at.push((i, b));
            look(graphs, at, found);
            at.pop();
            graphs.pop();
        }
    }
}

fn put(graph: &mut Graph, place: &[Step], answers: u32) {
    match place {
        [] => {}
        [(i, _)] => {
            if let Some(judge) = graph.nodes.get_mut(*i).and_then(|n| n.spec.get_mut::<Judge>()) {
                judge.expect(answers);
            }
        }
        [(i, b), rest @ ..] => {
            let bodies = graph.nodes.get_mut(*i).map(|n| n.spec.bodies_mut()).unwrap_or_default();
            if let Some(body) = bodies.into_iter().nth(*b) {
                put(body, rest, answers);
            }
        }
    }
}

/// Most answers that a reference holds, written in the last of these graphs.
fn answers(graphs: &[&Graph], r: &Ref) -> u32 {
    if r.ty == Ty::Completion {
        return 1;
    }
    let (Root::Output { up, node, .. } | Root::Node { up, node }) = &r.root else { return MANY };
    let Some(around) = graphs.len().checked_sub(*up).and_then(|n| graphs.get(..n)) else { return MANY };
    let Some(node) = around.last().and_then(|g| g.nodes.get(*node)) else { return MANY };
    if let Some(generate) = node.spec.get::<Generate>() {
        return generate.samples;
    }
    // Whatever else puts out a list of completions puts out those that it reads.
    let reads = node.spec.reads();
    let lists = reads.iter().map(|read| read.reference).filter(|r| r.ty.holds_completions());
    match lists.map(|r| answers(around, r)).fold(0, u32::saturating_add) {
        0 => MANY,
        n => n,
    }
}
