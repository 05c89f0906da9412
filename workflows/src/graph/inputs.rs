//! What the loader fills in once the graph is known: inputs left out, and which checks come last.

use super::Graph;
use crate::node::{Kind, Node, Tag};
use crate::reference::{Field, Ref};
use types::doc::Reader;

/// Fills inputs in and marks the last `validate` nodes.
pub(crate) fn fill(r: &mut Reader<'_>, nodes: &mut [Node], graph: &Graph) {
    let tags: Vec<Tag> = nodes.iter().map(|n| n.tag).collect();
    let is = |i: usize, t: Tag| tags.get(i) == Some(&t);
    for i in 0..nodes.len() {
        let last = is(i, Tag::Validate) && is_last(graph, i, &tags);
        let sources: Vec<usize> =
            graph.edges_to(i).map(|(_, e)| e.from).filter(|p| is(*p, Tag::Generate)).collect();
        let Some(node) = nodes.get_mut(i) else { continue };
        let span = node.span;
        match &mut node.kind {
            Kind::Validate(v) => {
                v.last = last;
                if v.input.is_empty() {
                    if let [one] = sources.as_slice() {
                        v.input = vec![Ref { node: *one, field: Field::Completions, span }];
                    } else {
                        r.error("102", span, "`input` is missing").expected = Some(
                            "a reference, unless exactly one generate node has an edge to it".to_owned(),
                        );
                    }
                }
            }
            Kind::Repair(k) => {
                if let (true, Some(from)) = (k.input.is_empty(), k.from) {
                    k.input = vec![Ref { node: from, field: Field::Best, span }];
                }
            }
            _ => {}
        }
    }
}

/// Whether a `stream` node can be reached from here without another `validate`.
fn is_last(graph: &Graph, start: usize, tags: &[Tag]) -> bool {
    let mut open = vec![start];
    let mut seen = 0_u64;
    while let Some(n) = open.pop() {
        for (_, e) in graph.edges_from(n) {
            match tags.get(e.to) {
                Some(Tag::Stream) => return true,
                Some(Tag::Validate) | None => {}
                Some(_) if seen & super::bit(e.to) == 0 => {
                    seen |= super::bit(e.to);
                    open.push(e.to);
                }
                Some(_) => {}
            }
        }
    }
    false
}
