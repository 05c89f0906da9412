//! One instance of a graph within a run: how far its nodes have come and what they have put out.

use super::walk::Line;
use super::{Host, RowId};
use crate::budget::Budget;
use crate::graph::Graph;
use crate::load::{Expr, Reads};
use crate::node::Node;
use crate::outcome::Outcome;
use crate::reference::{Ref, Root};
use crate::value::Value;
use serde_json::{Map, Value as Json, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::expr::{Error, Scope};

/// How far a node has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Progress {
    #[default]
    Pending,
    Running,
    Resolved {
        outcome: Outcome,
        duration_ms: f64,
    },
}

/// A node within a graph instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub(crate) progress: Progress,
    pub(crate) started_ms: f64,
    /// Its place in the order of resolution, from 1; 0 while it has not resolved.
    pub(crate) order: u32,
    /// In the order in which its type declares them; empty while it has not run.
    pub(crate) outputs: Vec<Value>,
    /// What its edges came to, each by its position.
    pub(super) lines: Vec<(usize, Line)>,
    /// Why it failed.
    pub(crate) error: Option<Arc<Json>>,
    pub(crate) calls: u32,
    pub(crate) cost_usd: f64,
}

/// The constants of a workflow and what it was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    pub(crate) vars: Json,
    pub(crate) inputs: Json,
}

/// Values that a body has around it, by name.
pub(crate) type Locals = Vec<(Arc<str>, Value)>;

/// A graph instance: the root of a run, one iteration of a body, or a workflow that was called.
pub(crate) struct Frame<'a> {
    pub(crate) graph: &'a Graph,
    /// What stands before the ids of its nodes in their paths, such as `work[2]/`; empty at the root.
    prefix: Arc<str>,
    parent: Option<&'a Frame<'a>>,
    env: &'a Env,
    /// It is of a workflow that another one called.
    called: bool,
    /// What its nodes may use.
    pub(crate) budget: Arc<Budget>,
    locals: Locals,
    cells: Mutex<Vec<Cell>>,
}

impl<'a> Frame<'a> {
    /// A graph by itself: the root of a run.
    pub(crate) fn root(graph: &'a Graph, prefix: &str, env: &'a Env, budget: Arc<Budget>) -> Self {
        let cells = Mutex::new(vec![Cell::default(); graph.nodes.len()]);
        Frame {
            graph,
            prefix: prefix.into(),
            parent: None,
            env,
            called: false,
            budget,
            locals: Vec::new(),
            cells,
        }
    }

    /// The graph of a workflow that is called.
    pub(super) fn callee(graph: &'a Graph, prefix: &str, env: &'a Env, budget: Arc<Budget>) -> Self {
        Frame { called: true, ..Frame::root(graph, prefix, env, budget) }
    }

    /// The same graph again, as far as it had come.
    pub(super) fn resumed(graph: &'a Graph, env: &'a Env, budget: Arc<Budget>, cells: Vec<Cell>) -> Self {
        Frame { cells: Mutex::new(cells), ..Frame::root(graph, "", env, budget) }
    }

    /// What its nodes have come to.
    pub(super) fn into_cells(self) -> Vec<Cell> {
        self.cells.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// An iteration of a body within this graph.
    pub(crate) fn child(
        &'a self,
        graph: &'a Graph,
        prefix: &str,
        budget: Arc<Budget>,
        locals: Locals,
    ) -> Frame<'a> {
        let root = Frame::root(graph, prefix, self.env, budget);
        Frame { parent: Some(self), called: self.called, locals, ..root }
    }

    /// Whether it stands within another one.
    pub(crate) fn is_body(&self) -> bool {
        self.parent.is_some()
    }

    /// Whether it is of a workflow that another one called.
    pub(crate) const fn is_called(&self) -> bool {
        self.called
    }

    /// What stands before the ids of its nodes in their paths; empty at the root.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The path of one of its nodes.
    pub(crate) fn path(&self, node: &Node) -> Arc<str> {
        if self.prefix.is_empty() { node.id.clone() } else { format!("{}{}", self.prefix, node.id).into() }
    }

    /// Looks at its nodes or changes them. The lock is short and never held across a wait.
    pub(crate) fn cells(&self) -> MutexGuard<'_, Vec<Cell>> {
        // Every write leaves the cells consistent, so a panic elsewhere does not spoil them.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one of its nodes.
    pub(crate) fn with<T>(&self, node: usize, f: impl FnOnce(&mut Cell) -> T) -> Option<T> {
        self.cells().get_mut(node).map(f)
    }

    pub(crate) fn progress(&self, node: usize) -> Progress {
        self.cells().get(node).map_or(Progress::Pending, |c| c.progress)
    }

    fn up(&self, levels: usize) -> Option<&Frame<'a>> {
        let mut frame = self;
        for _ in 0..levels {
            frame = frame.parent?;
        }
        Some(frame)
    }

    /// The value of a reference; where a node has not run: an empty list, `false`, 0 or nothing.
    pub(crate) fn value(&self, r: &Ref, host: &Host) -> Value {
        let whole = self.whole(r, host);
        if r.path.is_empty() { whole } else { whole.part(&r.path, &host.table()) }
    }

    /// The completion that a reference reads something of, if it does.
    pub(crate) fn row_read(&self, r: &Ref, host: &Host) -> Option<RowId> {
        let whole = self.whole(r, host);
        whole.row_on(&r.path, &host.table())
    }

    /// What a reference starts at.
    fn whole(&self, r: &Ref, host: &Host) -> Value {
        let whole = match &r.root {
            Root::Output { up, node, output } => self.up(*up).and_then(|f| f.output(*node, *output)),
            Root::Node { up, node } => {
                self.up(*up).and_then(|f| f.node_json(*node, None, host)).map(Value::of)
            }
            Root::Messages => Some(Value::Messages(host.messages())),
            Root::Var(name) => self.env.vars.get(&**name).cloned().map(Value::of),
            Root::Input(name) => self.env.inputs.get(&**name).cloned().map(Value::of),
            Root::Local { up, name } => {
                self.up(*up).and_then(|f| f.locals.iter().find(|(n, _)| n == name)).map(|(_, v)| v.clone())
            }
        };
        whole.unwrap_or_default()
    }

    fn output(&self, node: usize, output: usize) -> Option<Value> {
        if let Some(value) = self.cells().get(node)?.outputs.get(output) {
            return Some(value.clone());
        }
        let out = self.graph.nodes.get(node)?.outputs.get(output)?;
        Some(Value::of(out.absent()))
    }

    /// When the node of a reference resolved, as a place in the order.
    pub(crate) fn arrival(&self, r: &Ref) -> u32 {
        let node = r.own_node().and_then(|n| self.cells().get(n).map(|c| c.order));
        node.unwrap_or(0)
    }

    /// The outputs of all its nodes, by id.
    pub(crate) fn outputs(&self) -> Value {
        let cells = self.cells();
        let of = |(n, c): (&Node, &Cell)| {
            let each = n.outputs.iter().enumerate().map(|(i, o)| {
                let value = c.outputs.get(i).cloned().unwrap_or_else(|| Value::of(o.absent()));
                (Arc::from(&*o.name), value)
            });
            (n.id.clone(), Value::Map(each.collect()))
        };
        Value::Map(self.graph.nodes.iter().zip(cells.iter()).map(of).collect())
    }

    /// The completions that references name, in their order, each once. Nodes that did not run give none.
    pub(crate) fn rows(&self, refs: &[Ref], host: &Host) -> Vec<RowId> {
        let mut found = Vec::new();
        for r in refs {
            let value = self.value(r, host);
            value.rows_into(&host.table(), &mut found);
        }
        found
    }

    /// The completions that what a reference reads stands beside: all that its node, or the value around it, holds.
    pub(crate) fn rows_beside(&self, r: &Ref, host: &Host) -> Vec<RowId> {
        let values = match &r.root {
            Root::Output { up, node, .. } | Root::Node { up, node } => {
                self.up(*up).and_then(|f| f.cells().get(*node).map(|c| c.outputs.clone()))
            }
            Root::Local { up, name } => {
                let named = |f: &Frame<'_>| f.locals.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
                self.up(*up).and_then(named).map(|v| vec![v])
            }
            Root::Messages | Root::Var(_) | Root::Input(_) => None,
        };
        let (mut found, table) = (Vec::new(), host.table());
        values.unwrap_or_default().iter().for_each(|v| v.rows_into(&table, &mut found));
        found
    }

    /// What expressions see of a node: everything, or the named fields only.
    fn node_json(&self, node: usize, fields: Option<&[Arc<str>]>, host: &Host) -> Option<Json> {
        let plan = self.graph.nodes.get(node)?;
        let cell = self.cells().get(node)?.clone();
        let wanted = |name: &str| fields.is_none_or(|f| f.iter().any(|x| **x == *name));
        let (status, outcome, duration) = match cell.progress {
            Progress::Pending => ("pending", None, None),
            Progress::Running => ("running", None, None),
            Progress::Resolved { outcome, duration_ms } => {
                ("resolved", Some(plan.word(outcome)), Some(duration_ms))
            }
        };
        let ran = cell.progress != Progress::Pending;
        let error = cell.error.as_deref().cloned();
        let mut map = Map::new();
        for (name, value) in [
            ("status", json!(status)),
            ("outcome", json!(outcome)),
            ("error", json!(error)),
            ("started_ms", json!(ran.then_some(cell.started_ms))),
            ("duration_ms", json!(duration)),
            ("cost_usd", json!(cell.cost_usd)),
            ("calls", json!(cell.calls)),
        ] {
            if wanted(name) {
                map.insert(name.to_owned(), value);
            }
        }
        let table = host.table();
        for (i, out) in plan.outputs.iter().enumerate().filter(|(_, o)| wanted(&o.name)) {
            let value = cell.outputs.get(i).map_or_else(|| out.absent(), |v| v.json(&table));
            map.insert(out.name.to_string(), value);
        }
        Some(Json::Object(map))
    }

    /// The value of an expression; `more`: variables that it may read here and nowhere else.
    pub(crate) fn eval_with(&self, e: &Expr, host: &Host, more: &[(&str, Json)]) -> Result<Value, Error> {
        match &e.direct {
            Some(r) => Ok(self.value(r, host)),
            None => e.eval(&self.scope(e, host, more)).map(Value::of),
        }
    }

    /// The request's variables and everything of this graph that an expression reads. Built only when an
    /// expression is evaluated, and only of what it names.
    pub(crate) fn scope(&self, e: &Expr, host: &Host, more: &[(&str, Json)]) -> Scope {
        let reads = e.reads();
        if reads.is_empty() && more.is_empty() {
            return host.input.scope.clone();
        }
        let mut variables = self.variables(reads, host);
        if reads.messages {
            let request = e.request(&host.input.scope, &host.messages());
            variables.extend(request.map(|r| ("request".to_owned(), r)));
        }
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        host.input.language.scope(Some(&host.input.scope), variables)
    }

    fn variables(&self, reads: &Reads, host: &Host) -> Vec<(String, Json)> {
        let mut variables = Vec::new();
        if !reads.nodes.is_empty() {
            let mut nodes = Map::new();
            for n in &reads.nodes {
                let Some(frame) = self.up(n.up) else { continue };
                let Some(plan) = frame.graph.nodes.get(n.node) else { continue };
                let fields = (!n.fields.is_empty()).then_some(n.fields.as_slice());
                if let Some(json) = frame.node_json(n.node, fields, host) {
                    nodes.entry(plan.id.to_string()).or_insert(json);
                }
            }
            variables.push(("nodes".to_owned(), Json::Object(nodes)));
        }
        if reads.vars {
            variables.push(("vars".to_owned(), self.env.vars.clone()));
        }
        if reads.inputs {
            variables.push(("inputs".to_owned(), self.env.inputs.clone()));
        }
        variables.extend(reads.facts.iter().map(|name| ((*name).to_owned(), host.fact(name))));
        for (up, name) in &reads.locals {
            let Some(frame) = self.up(*up) else { continue };
            if let Some((_, v)) = frame.locals.iter().find(|(n, _)| n == name) {
                variables.push((name.to_string(), v.json(&host.table())));
            }
        }
        variables
    }
}
