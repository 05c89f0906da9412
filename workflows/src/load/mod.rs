//! From files to a library: parse, lower, resolve names, compile expressions, build and check the graph.

use crate::node::{NodeType, Out};
use crate::plan::Workflow;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::diagnostic::{Diagnostic, Severity, suggestion};
use types::doc::{self, Fields, Node, Reader, SourceFile, Span};
use types::expr::{Expression, Language, Scope, Type, Variables};
use types::matrix::Matrix;

mod checks;
mod expressions;
mod file;
#[cfg(test)]
mod tests;

pub(crate) use checks::{Checks, of_directive};
pub(crate) use file::Head;

/// What the names and expressions of workflows are checked against.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Providers and models.
    pub matrix: &'a Matrix,
    /// Names of the pools.
    pub pools: &'a [String],
    /// The language of expressions.
    pub language: &'a dyn Language,
    /// The variables of a request; `nodes` and `vars` are added here.
    pub variables: &'a Variables,
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("pools", &self.pools).finish_non_exhaustive()
    }
}

/// Checked workflows by name.
#[derive(Clone, Debug, Default)]
pub struct Library(BTreeMap<String, Arc<Workflow>>);

impl Library {
    /// The workflow of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Workflow>> {
        self.0.get(name)
    }

    /// All workflows, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workflow>> {
        self.0.values()
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The workflows that are built into the program.
#[must_use]
pub fn shipped() -> Vec<SourceFile> {
    [
        ("workflows/default.yaml", include_str!("../../library/default.yaml")),
        ("workflows/json_extraction.yaml", include_str!("../../library/json_extraction.yaml")),
        ("workflows/cheap_first_cascade.yaml", include_str!("../../library/cheap_first_cascade.yaml")),
    ]
    .into_iter()
    .map(|(path, text)| SourceFile::new(path, text))
    .collect()
}

/// Loads files. A later file replaces an earlier one of the same name; a file with errors is in the library
/// neither itself nor by what it replaces. Every problem of every file is given.
#[must_use]
pub fn load(files: &[SourceFile], names: &Names<'_>) -> (Library, Vec<Diagnostic>) {
    let mut library = Library::default();
    let mut problems = Vec::new();
    for (i, source) in files.iter().enumerate() {
        let replaced = files.iter().skip(i.saturating_add(1)).any(|f| f.stem() == source.stem());
        let (workflow, found) = file::load(source, names);
        if replaced && !found.iter().any(|d| d.severity == Severity::Error) {
            continue;
        }
        problems.extend(found);
        if let Some(w) = workflow.filter(|_| !replaced) {
            library.0.insert(source.stem().to_owned(), Arc::new(w));
        }
    }
    (library, problems)
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    compiled: Arc<dyn Expression>,
    pub(crate) span: Span,
    reads: Reads,
}

/// What an expression reads beside the request's variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reads {
    pub(crate) nodes: Vec<NodeRead>,
    pub(crate) vars: bool,
    /// What a body has around it, with the levels up.
    pub(crate) locals: Vec<(usize, Arc<str>)>,
}

/// A node that an expression reads, and which of its fields; empty: all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeRead {
    pub(crate) up: usize,
    pub(crate) node: usize,
    pub(crate) fields: Vec<Arc<str>>,
}

impl Reads {
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && !self.vars && self.locals.is_empty()
    }
}

impl Expr {
    pub(crate) fn source(&self) -> &str {
        self.compiled.source()
    }

    /// What it reads beside the request's variables.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The nodes of its own graph that it reads.
    pub(crate) fn own_nodes(&self) -> impl Iterator<Item = usize> {
        self.reads.nodes.iter().filter(|n| n.up == 0).map(|n| n.node)
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, scope: &Scope) -> Result<bool, types::expr::Error> {
        self.compiled.eval_bool(scope)
    }

    /// Written as nothing but `true`.
    pub(crate) fn always(&self) -> bool {
        self.source().trim() == "true"
    }
}

/// A node as it is known before it is read: other nodes refer to it whatever the order in the file.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) id: String,
    /// `None` where the type is wrong.
    pub(crate) kind: Option<&'static NodeType>,
    pub(crate) outputs: Vec<Out>,
}

impl Named {
    pub(crate) fn of(id: impl Into<String>, kind: Option<&'static NodeType>, node: &Node) -> Self {
        let outputs = kind.map(|k| (k.outputs)(node)).unwrap_or_default();
        Named { id: id.into(), kind, outputs }
    }
}

/// A graph that is being read, within those around it.
#[derive(Debug, Default)]
pub(crate) struct Level {
    nodes: Vec<Named>,
    /// What a body has around it: `carry`, `loop`, the variable of a `map`.
    locals: Vec<(String, Type)>,
}

/// What one file is lowered with.
pub(crate) struct Cx<'a> {
    pub(crate) r: Reader<'a>,
    names: &'a Names<'a>,
    /// The graphs around the place that is being read, the root first.
    levels: Vec<Level>,
    /// Types of the file's own constants.
    pub(crate) vars: Variables,
    /// Variables of conditions.
    variables: Variables,
}

impl Cx<'_> {
    /// The nodes of the graph that is being read.
    pub(crate) fn nodes(&self) -> &[Named] {
        self.levels.last().map_or(&[], |l| l.nodes.as_slice())
    }

    /// A node of that graph.
    pub(crate) fn named(&self, position: usize) -> Option<&Named> {
        self.nodes().get(position)
    }

    /// A node of a graph some levels up.
    pub(crate) fn named_at(&self, up: usize, position: usize) -> Option<&Named> {
        self.levels.iter().rev().nth(up)?.nodes.get(position)
    }

    /// The position of a node of that graph.
    pub(crate) fn position(&self, id: &str) -> Option<usize> {
        self.nodes().iter().position(|n| n.id == id)
    }

    /// A node of that graph or of one around it: levels up, and position.
    pub(crate) fn find(&self, id: &str) -> Option<(usize, usize)> {
        let mut levels = self.levels.iter().rev().enumerate();
        levels.find_map(|(up, l)| Some((up, l.nodes.iter().position(|n| n.id == id)?)))
    }

    /// Ids of all nodes that can be referred to.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &str> + Clone {
        self.levels.iter().rev().flat_map(|l| l.nodes.iter().map(|n| n.id.as_str()))
    }

    /// What a body has around it under that name: levels up, and type.
    pub(crate) fn local(&self, name: &str) -> Option<(usize, Type)> {
        let mut levels = self.levels.iter().rev().enumerate();
        levels.find_map(|(up, l)| Some((up, l.locals.iter().find(|(n, _)| n == name)?.1.clone())))
    }

    /// The type of a constant of the file.
    pub(crate) fn var(&self, name: &str) -> Option<Type> {
        self.vars.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone())
    }

    /// The id of a position.
    pub(crate) fn id(&self, position: usize) -> &str {
        self.named(position).map_or("", |n| &n.id)
    }

    /// What the text of an expression reads. Names are looked for in the text itself: too many do no harm.
    fn reads(&self, source: &str) -> Reads {
        let mut reads = Reads::default();
        for words in paths(source) {
            match words.as_slice() {
                ["nodes", id, rest @ ..] => {
                    if let Some((up, node)) = self.find(id) {
                        let field = rest.first().map(|f| Arc::from(*f));
                        match reads.nodes.iter_mut().find(|n| n.up == up && n.node == node) {
                            None => {
                                reads.nodes.push(NodeRead { up, node, fields: field.into_iter().collect() })
                            }
                            // Once it is read as a whole, it stays so.
                            Some(n) if n.fields.is_empty() => {}
                            Some(n) => match field {
                                Some(f) if n.fields.contains(&f) => {}
                                Some(f) => n.fields.push(f),
                                None => n.fields.clear(),
                            },
                        }
                    }
                }
                ["vars", ..] => reads.vars = true,
                [name, ..] => {
                    if let Some((up, _)) = self.local(name) {
                        let local = (up, Arc::from(*name));
                        if !reads.locals.contains(&local) {
                            reads.locals.push(local);
                        }
                    }
                }
                [] => {}
            }
        }
        reads
    }

    fn errors(&self) -> usize {
        self.r.problems.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// Notes what the format has and this version has not.
    pub(crate) fn unsupported(&mut self, span: Span, what: &str) {
        self.r.error("105", span, format!("`{what}` is not supported yet")).hint =
            Some("remove it".to_owned());
    }

    /// The name of a pool.
    pub(crate) fn pool(&mut self, n: &Node, path: &str) -> Option<String> {
        let name = self.r.string(n, path)?;
        if self.names.pools.contains(&name) {
            return Some(name);
        }
        let hint = if self.names.pools.is_empty() {
            "no pools are defined; leave `pool` out to allow every candidate".to_owned()
        } else {
            suggestion(&name, self.names.pools.iter().map(String::as_str))
        };
        let d = self.r.error("202", n.span, format!("there is no pool `{name}`"));
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
        None
    }

    /// A model by id or alias; gives its id.
    pub(crate) fn model(&mut self, n: &Node, path: &str) -> Option<String> {
        let name = self.r.string(n, path)?;
        if let Some(m) = self.names.matrix.find(&name).and_then(|ix| self.names.matrix.model(ix)) {
            return Some(m.id.to_string());
        }
        self.no_model(n.span, &name, path);
        None
    }

    fn no_model(&mut self, span: Span, name: &str, path: &str) {
        let hint = suggestion(name, self.names.matrix.models().iter().map(|m| &*m.id));
        let d = self.r.error("201", span, format!("no model matches `{name}`"));
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
    }

    /// Selectors of models: ids, globs, aliases, `pool:<name>`.
    pub(crate) fn selectors(&mut self, n: &Node, path: &str) -> Vec<String> {
        let entries: &[Node] = match &n.value {
            doc::Value::List(l) => l,
            _ => std::slice::from_ref(n),
        };
        let mut found = Vec::new();
        for n in entries {
            let Some(s) = self.r.string(n, path) else { continue };
            let known = match s.strip_prefix("pool:") {
                Some(pool) => self.names.pools.iter().any(|p| p == pool),
                None => !self.names.matrix.select(&s).is_empty(),
            };
            if known {
                found.push(s);
            } else if let Some(pool) = s.strip_prefix("pool:") {
                let hint = suggestion(pool, self.names.pools.iter().map(String::as_str));
                self.r.error("202", n.span, format!("there is no pool `{pool}`")).hint = Some(hint);
            } else {
                self.no_model(n.span, &s, path);
            }
        }
        found
    }

    /// A condition over request, nodes and vars. Which nodes it may read there, the flow checks see to.
    pub(crate) fn condition(&mut self, n: &Node, path: &str) -> Option<Expr> {
        let variables = std::mem::take(&mut self.variables);
        let compiled = self.compile(n, path, &variables);
        self.variables = variables;
        compiled
    }

    /// A condition over the request alone.
    pub(crate) fn request_condition(&mut self, n: &Node, path: &str) -> Option<Expr> {
        let variables = self.names.variables;
        self.compile(n, path, variables)
    }

    fn compile(&mut self, n: &Node, path: &str, variables: &Variables) -> Option<Expr> {
        let doc::Value::Str(source) = &n.value else {
            let d = self.r.error("103", n.span, format!("`{path}` is {}", n.kind()));
            d.expected = Some("an expression in quotes".to_owned());
            if let doc::Value::Bool(b) = n.value {
                d.hint = Some(format!("write \"{b}\""));
            }
            path.clone_into(&mut d.field);
            return None;
        };
        let (compiled, problems) = match self.names.language.compile(source, variables, Some(&Type::Bool)) {
            Ok((compiled, warnings)) => (Some(compiled), warnings),
            Err(problems) => (None, problems),
        };
        for p in problems {
            let place = n.place(self.r.file, p.line, p.column);
            let d = if p.warning {
                self.r.warning(p.number, place, p.message)
            } else {
                self.r.error(p.number, place, p.message)
            };
            d.hint = p.hint;
            path.clone_into(&mut d.field);
        }
        let reads = self.reads(source);
        compiled.map(|compiled| Expr { compiled, span: n.span, reads })
    }
}

/// Dotted names in a text, such as `nodes.check.passed`, each as its words.
fn paths(source: &str) -> impl Iterator<Item = Vec<&str>> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '?');
    let words = source.split(move |c| !in_path(c));
    words.map(|p| p.split(['.', '?']).filter(|w| !w.is_empty()).collect())
}

/// Takes keys of the format that this version does not support, noting each that is there.
pub(crate) fn later(cx: &mut Cx<'_>, f: &mut Fields<'_>, keys: &[&'static str]) {
    for key in keys {
        if let Some(n) = f.take(key) {
            cx.unsupported(n.span, key);
        }
    }
}
