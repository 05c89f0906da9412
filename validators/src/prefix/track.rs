//! Follows a value that is being written along the conditions of its schema.
//!
//! Every condition that holds for an open value is one [`Eval`]. An eval that fails takes along what relies
//! on it: a condition that must hold takes its owner, the last alternative of an `anyOf` takes the owner of
//! the list. When the root fails, no continuation can be valid.

use super::failure::{Cause, Failure, outside, unfit};
use super::node::{ANY, Id, Node, Nodes, Rest};
use super::syntax::{Kind, Refused, Sink};
use serde_json::Value;
use std::sync::Arc;

/// Most conditions followed at once; beyond that only the syntax is.
const MAX_EVALS: usize = 4096;
/// Longest chain of references and branches within one value.
const MAX_CHAIN: usize = 64;

#[derive(Clone, Copy)]
enum Role {
    /// The owner needs it.
    Needed,
    /// One alternative of the owner's list with that number.
    Option(usize),
}

struct Eval {
    node: Id,
    /// Position of its owner; `None` for the root.
    owner: Option<usize>,
    role: Role,
    failed: bool,
    /// Alternatives left, per list of the node.
    left: Vec<usize>,
    /// Required names seen, one bit each.
    seen: u64,
    /// Containers around its value.
    depth: usize,
}

/// An open container.
struct Frame {
    /// Where its evals begin and end.
    from: usize,
    to: usize,
    object: bool,
    /// Items or properties begun.
    count: usize,
    /// Of the value that is being read.
    name: String,
}

/// The conditions of one text.
pub(super) struct Tracker {
    nodes: Arc<Nodes>,
    evals: Vec<Eval>,
    frames: Vec<Frame>,
    kind: Kind,
    /// A scalar is open; where its evals begin.
    open_scalar: bool,
    scalar: usize,
    /// Whether the open string is measured; its characters and text so far.
    measures: bool,
    length: usize,
    text: String,
    /// Only the syntax is followed.
    lax: bool,
    cause: Option<Cause>,
}

impl Tracker {
    pub(super) fn new(nodes: Arc<Nodes>) -> Self {
        // A schema without conditions needs no following.
        let lax = nodes.root == ANY;
        Tracker {
            nodes,
            evals: Vec::new(),
            frames: Vec::new(),
            kind: Kind::Null,
            open_scalar: false,
            scalar: 0,
            measures: false,
            length: 0,
            text: String::new(),
            lax,
            cause: None,
        }
    }

    /// Why the sink refused.
    pub(super) fn cause(&mut self) -> Option<Cause> {
        self.cause.take()
    }

    /// Adds the node's condition and, behind it, those that belong to it.
    fn add(&mut self, node: Id, owner: Option<usize>, role: Role, chain: usize) {
        if node == ANY || self.lax || self.cause.is_some() {
            return;
        }
        if self.evals.len() >= MAX_EVALS {
            self.lax = true;
            return;
        }
        let nodes = self.nodes.clone();
        let Some(n) = nodes.get(node) else { return };
        let at = self.evals.len();
        let left = n.any.iter().map(|(_, list)| list.len()).collect();
        let depth = self.frames.len();
        self.evals.push(Eval { node, owner, role, failed: false, left, seen: 0, depth });
        // What is not followed any further counts as holding.
        if chain >= MAX_CHAIN {
            return;
        }
        let chain = chain.saturating_add(1);
        for id in &n.all {
            self.add(*id, Some(at), Role::Needed, chain);
        }
        for (list, (_, ids)) in n.any.iter().enumerate() {
            for id in ids {
                self.add(*id, Some(at), Role::Option(list), chain);
            }
        }
    }

    fn live(&mut self, at: usize) -> bool {
        let Some(eval) = self.evals.get(at) else { return false };
        if eval.failed {
            return false;
        }
        // An owner that failed by another condition has no use for this one.
        let failed = eval.owner.and_then(|o| self.evals.get(o)).is_some_and(|o| o.failed);
        if let Some(eval) = self.evals.get_mut(at).filter(|_| failed) {
            eval.failed = true;
        }
        !failed
    }

    /// Asks every live condition of a range.
    fn each(&mut self, from: usize, to: usize, ask: impl Fn(&Node) -> Option<Failure>) {
        let nodes = self.nodes.clone();
        for at in from..to {
            if !self.live(at) {
                continue;
            }
            let node = self.evals.get(at).and_then(|e| nodes.get(e.node));
            if let Some(failure) = node.and_then(&ask) {
                self.fail(at, failure);
            }
        }
    }

    /// The condition fails, and whatever relies on it.
    fn fail(&mut self, at: usize, failure: Failure) {
        let mut why = failure;
        let mut place = self.evals.get(at).map_or(0, |e| e.depth);
        let mut next = Some(at);
        while let Some(at) = next {
            let Some(eval) = self.evals.get_mut(at).filter(|e| !e.failed) else { return };
            eval.failed = true;
            let (owner, role) = (eval.owner, eval.role);
            if let (Some(owner), Role::Option(list)) = (owner, role) {
                let Some(owner) = self.evals.get_mut(owner) else { return };
                let Some(left) = owner.left.get_mut(list) else { return };
                *left = left.saturating_sub(1);
                if *left > 0 {
                    return;
                }
                let keyword =
                    self.nodes.get(owner.node).and_then(|n| n.any.get(list)).map_or("anyOf", |l| l.0);
                why = Failure { keyword, expected: Value::Null, actual: Value::Null };
                place = owner.depth;
            }
            next = owner;
        }
        let path = self.path(place);
        self.cause.get_or_insert(Cause { path, failure: why });
    }

    fn path(&self, depth: usize) -> String {
        let mut path = String::new();
        for frame in self.frames.iter().take(depth) {
            path.push('/');
            if frame.object {
                path.push_str(&frame.name.replace('~', "~0").replace('/', "~1"));
            } else {
                path.push_str(&frame.count.saturating_sub(1).to_string());
            }
        }
        path
    }

    fn verdict(&self) -> Result<(), Refused> {
        if self.cause.is_some() { Err(Refused) } else { Ok(()) }
    }

    /// Adds the conditions of a value that opens in the innermost container.
    fn inherit(&mut self) {
        let Some(frame) = self.frames.last_mut() else {
            return self.add(self.nodes.root, None, Role::Needed, 0);
        };
        let (from, to) = (frame.from, frame.to);
        if !frame.object {
            frame.count = frame.count.saturating_add(1);
            let count = frame.count;
            self.each(from, to, |n| {
                let closed = count > n.items.len() && n.rest == Rest::Closed;
                if count > n.max_items {
                    return Some(Failure::expecting("maxItems", n.max_items));
                }
                closed.then(|| Failure::expecting("items", n.items.len()))
            });
        }
        let nodes = self.nodes.clone();
        for at in from..to {
            if self.live(at)
                && let Some(id) = self.inherited(at, &nodes)
            {
                self.add(id, Some(at), Role::Needed, 0);
            }
        }
    }

    /// The node that the value which opens has from a condition of its container.
    fn inherited(&self, at: usize, nodes: &Nodes) -> Option<Id> {
        let node = nodes.get(self.evals.get(at)?.node)?;
        let frame = self.frames.last()?;
        let (own, rest) = if frame.object {
            (node.properties.get(&frame.name), node.additional)
        } else {
            (node.items.get(frame.count.saturating_sub(1)), node.rest)
        };
        match (own, rest) {
            (Some(id), _) => Some(*id),
            (None, Rest::Node(id)) => Some(id),
            (None, Rest::Closed) => None,
        }
    }

    fn close_scalar(&mut self, number: Option<&str>) {
        let (from, to) = (self.scalar, self.evals.len());
        match self.kind {
            Kind::String => {
                let (length, text) = (self.length, std::mem::take(&mut self.text));
                self.each(from, to, |n| {
                    if length < n.min_length {
                        return Some(Failure::expecting("minLength", n.min_length));
                    }
                    let options = n.options.as_ref()?;
                    (!options.strings.contains(&text)).then(|| Failure::option(options, text.as_str().into()))
                });
                self.text = text;
            }
            Kind::Number => {
                if let Some(value) = number.and_then(|t| t.parse::<f64>().ok()) {
                    self.each(from, to, |n| outside(n, value));
                }
            }
            _ => {}
        }
        self.evals.truncate(from);
    }

    fn close_container(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let (from, to, count) = (frame.from, frame.to, frame.count);
        if frame.object {
            self.each(from, to, |n| {
                (count < n.min_properties).then(|| Failure::expecting("minProperties", n.min_properties))
            });
            self.missing(from, to);
        } else {
            self.each(from, to, |n| {
                (count < n.min_items).then(|| Failure::expecting("minItems", n.min_items))
            });
        }
        self.evals.truncate(from);
    }

    /// Required properties that are not there.
    fn missing(&mut self, from: usize, to: usize) {
        let nodes = self.nodes.clone();
        for at in from..to {
            if !self.live(at) {
                continue;
            }
            let Some(eval) = self.evals.get(at) else { continue };
            let required = nodes.get(eval.node).map_or(&[][..], |n| n.required.as_slice());
            let missing = required.iter().enumerate().find(|(i, _)| eval.seen >> i & 1 == 0);
            if let Some((_, name)) = missing {
                self.fail(at, Failure::expecting("required", name.as_str()));
            }
        }
    }
}

impl Sink for Tracker {
    fn open(&mut self, kind: Kind) -> Result<(), Refused> {
        if self.lax {
            return Ok(());
        }
        let from = self.evals.len();
        self.inherit();
        if self.lax {
            return self.verdict();
        }
        let to = self.evals.len();
        self.each(from, to, |n| unfit(n, kind));
        (self.kind, self.scalar) = (kind, from);
        match kind {
            Kind::Object | Kind::Array => {
                let object = kind == Kind::Object;
                self.frames.push(Frame { from, to, object, count: 0, name: String::new() });
            }
            _ => self.open_scalar = true,
        }
        if kind == Kind::String {
            self.length = 0;
            self.text.clear();
            let limits = |e: &Eval| self.nodes.get(e.node).is_some_and(Node::limits_text);
            self.measures = self.evals.iter().skip(from).any(limits);
        }
        self.verdict()
    }

    fn name(&mut self, name: &str) -> Result<(), Refused> {
        if self.lax {
            return Ok(());
        }
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.count = frame.count.saturating_add(1);
        name.clone_into(&mut frame.name);
        let (from, to, count) = (frame.from, frame.to, frame.count);
        self.each(from, to, |n| {
            if count > n.max_properties {
                return Some(Failure::expecting("maxProperties", n.max_properties));
            }
            let closed = n.additional == Rest::Closed && !n.properties.contains_key(name);
            closed.then(|| Failure {
                keyword: "additionalProperties",
                expected: Value::Null,
                actual: name.into(),
            })
        });
        let nodes = self.nodes.clone();
        for eval in self.evals.iter_mut().take(to).skip(from) {
            let required = nodes.get(eval.node).map_or(&[][..], |n| n.required.as_slice());
            for (i, _) in required.iter().enumerate().filter(|(_, r)| *r == name) {
                eval.seen |= 1 << i;
            }
        }
        self.verdict()
    }

    fn text(&mut self, piece: &str) -> Result<(), Refused> {
        if self.lax || !self.measures {
            return Ok(());
        }
        self.length = self.length.saturating_add(piece.chars().count());
        self.text.push_str(piece);
        let (length, text) = (self.length, std::mem::take(&mut self.text));
        self.each(self.scalar, self.evals.len(), |n| {
            if length > n.max_length {
                return Some(Failure::expecting("maxLength", n.max_length));
            }
            let options = n.options.as_ref()?;
            let begun = options.strings.iter().any(|s| s.starts_with(&text));
            (!begun).then(|| Failure::option(options, text.as_str().into()))
        });
        self.text = text;
        self.verdict()
    }

    fn close(&mut self, number: Option<&str>) -> Result<(), Refused> {
        if self.lax {
            return Ok(());
        }
        if std::mem::take(&mut self.open_scalar) {
            self.close_scalar(number);
        } else {
            self.close_container();
        }
        self.verdict()
    }
}
