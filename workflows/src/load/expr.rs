//! Compiled expressions, and what each of them reads.

use super::Cx;
use crate::reference::{Ref, Root};
use std::sync::Arc;
use types::chat::Message;
use types::doc::{self, Node, Span};
use types::expr::{Compiled, Error, Expression, Problem, Scope, Type, Variables};

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    compiled: Arc<dyn Expression>,
    pub(crate) span: Span,
    reads: Reads,
    /// Where it reads what a node has put out as if that were there for certain.
    unguarded: Vec<Unguarded>,
    /// It is nothing but a reference: its value is taken as it is, completions with their identity.
    pub(crate) direct: Option<Box<Ref>>,
    /// Gives the variable `request` as the language knows it, where the messages have to be added to it.
    request: Option<Arc<dyn Expression>>,
}

/// A reference in the place of an expression: it is read, not evaluated.
#[derive(Debug)]
struct Plain(Arc<str>);

impl Expression for Plain {
    fn eval(&self, _: &Scope) -> Result<serde_json::Value, Error> {
        Err(Error { message: format!("`{}` is a reference", self.0), limit: false })
    }

    fn source(&self) -> &str {
        &self.0
    }
}

/// A place where an expression takes for granted that a node has run.
#[derive(Clone, Debug)]
pub(crate) struct Unguarded {
    /// Graphs between: 0 is the one it is written in.
    pub(crate) up: usize,
    pub(crate) node: usize,
    pub(crate) span: Span,
    /// For its reader.
    pub(crate) message: String,
}

/// What an expression reads beside the request's variables.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reads {
    pub(crate) nodes: Vec<NodeRead>,
    pub(crate) vars: bool,
    pub(crate) inputs: bool,
    /// `request.messages`, which only workflows may read.
    pub(crate) messages: bool,
    /// `limits`, `spent`, `remaining`, `run`.
    pub(crate) facts: Vec<&'static str>,
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
        *self == Reads::default()
    }

    fn node(&mut self, up: usize, node: usize, field: Option<Arc<str>>) {
        match self.nodes.iter_mut().find(|n| n.up == up && n.node == node) {
            None => self.nodes.push(NodeRead { up, node, fields: field.into_iter().collect() }),
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

impl Expr {
    pub(crate) fn source(&self) -> &str {
        self.compiled.source()
    }

    /// What it reads beside the request's variables.
    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The nodes some levels up that it reads.
    pub(crate) fn nodes_at(&self, up: usize) -> impl Iterator<Item = usize> {
        self.reads.nodes.iter().filter(move |n| n.up == up).map(|n| n.node)
    }

    /// The nodes of its own graph that it reads.
    pub(crate) fn own_nodes(&self) -> impl Iterator<Item = usize> {
        self.nodes_at(0)
    }

    /// Where it takes for granted that a node of the graph some levels up has run.
    pub(crate) fn unguarded_at(&self, up: usize) -> impl Iterator<Item = &Unguarded> {
        self.unguarded.iter().filter(move |u| u.up == up)
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, scope: &Scope) -> Result<bool, types::expr::Error> {
        self.compiled.eval_bool(scope)
    }

    /// Its parts between `&&`, `||` and `!`.
    pub(crate) fn parts(&self) -> Vec<&str> {
        self.compiled.parts()
    }

    /// The parts that an evaluation looks at, each with whether it holds.
    pub(crate) fn looked_at(&self, scope: &Scope) -> Vec<(&str, bool)> {
        self.compiled.looked_at(scope)
    }

    /// Its value.
    pub(crate) fn eval(&self, scope: &Scope) -> Result<serde_json::Value, types::expr::Error> {
        self.compiled.eval(scope)
    }

    /// The variable `request` with the messages in it, if it reads those.
    pub(crate) fn request(&self, scope: &Scope, messages: &[Message]) -> Option<serde_json::Value> {
        let mut value = self.request.as_ref()?.eval(scope).ok()?;
        let messages = serde_json::to_value(messages).ok()?;
        value.as_object_mut()?.insert("messages".to_owned(), messages);
        Some(value)
    }

    /// The type of its value, as far as it is known before it is evaluated.
    pub(crate) fn ty(&self) -> Type {
        self.direct.as_ref().map_or_else(|| self.compiled.result(), |r| r.ty.expr())
    }

    /// Written as nothing but `true`.
    pub(crate) fn always(&self) -> bool {
        self.source().trim() == "true"
    }
}

impl Cx<'_> {
    /// A condition over everything that is visible. Which nodes it may read there, the flow checks see to.
    pub(crate) fn condition(&mut self, n: &Node, path: &str) -> Option<Expr> {
        self.expr(n, path, Some(&Type::Bool), &[])
    }

    /// A condition over the request alone.
    pub(crate) fn request_condition(&mut self, n: &Node, path: &str) -> Option<Expr> {
        let variables = self.names.variables;
        let source = self.source(n, path)?;
        self.compile(n, (source, 0), path, variables, Some(&Type::Bool))
    }

    /// A condition over `model` alone.
    pub(crate) fn model_condition(&mut self, n: &Node, path: &str) -> Option<Expr> {
        let source = self.source(n, path)?;
        let variables = vec![("model".to_owned(), types::matrix::model_type())];
        self.compile(n, (source, 0), path, &variables, Some(&Type::Bool))
    }

    /// Every model of the matrix with the values of its `model`.
    pub(crate) fn model_scopes(&self) -> Vec<(Arc<str>, Scope)> {
        let matrix = self.names.matrix;
        let each = matrix.indices().filter_map(|ix| {
            let id = matrix.model(ix)?.id.clone();
            let variables = vec![("model".to_owned(), matrix.describe(ix)?)];
            Some((id, self.names.language.scope(None, variables)))
        });
        each.collect()
    }

    /// An expression that gives `result` (`None`: anything) and may read some more variables.
    pub(crate) fn expr(
        &mut self,
        n: &Node,
        path: &str,
        result: Option<&Type>,
        more: &[(&str, Type)],
    ) -> Option<Expr> {
        let source = self.source(n, path)?;
        self.expr_at(n, (source, 0), path, result, more)
    }

    /// An expression that the loader makes itself.
    pub(crate) fn made(&mut self, span: Span, source: &str) -> Option<Expr> {
        let n = Node { value: doc::Value::Str(source.to_owned()), span, style: doc::Style::Quoted };
        self.expr(&n, "", None, &[])
    }

    /// The same for a part of a text, which starts at that byte of it.
    pub(super) fn expr_at(
        &mut self,
        n: &Node,
        part: (&str, usize),
        path: &str,
        result: Option<&Type>,
        more: &[(&str, Type)],
    ) -> Option<Expr> {
        if result.is_none()
            && let Some(plain) = self.plain(part.0, n.span, more)
        {
            return Some(plain);
        }
        let mut variables = std::mem::take(&mut self.variables);
        let known = variables.len();
        variables.extend(more.iter().map(|(name, t)| ((*name).to_owned(), t.clone())));
        let compiled = self.compile(n, part, path, &variables, result);
        variables.truncate(known);
        self.variables = variables;
        compiled
    }

    /// An expression that is nothing but a reference, where anything may be given: the reference has been
    /// checked by its own rules, and what is missing is nothing rather than an error.
    fn plain(&self, source: &str, span: Span, more: &[(&str, Type)]) -> Option<Expr> {
        let first = source.trim().split(['.', '[']).next();
        if more.iter().any(|(name, _)| Some(*name) == first) {
            return None;
        }
        let direct = Box::new(Ref::quiet(self, source, span)?);
        let reads = self.reads(None, source);
        let compiled: Arc<dyn Expression> = Arc::new(Plain(source.into()));
        let unguarded = match direct.root {
            Root::Output { up, node, .. } => self.granted(up, node, source.trim(), span),
            _ => Vec::new(),
        };
        Some(Expr { compiled, span, reads, unguarded, direct: Some(direct), request: None })
    }

    fn source<'n>(&mut self, n: &'n Node, path: &str) -> Option<&'n str> {
        if let doc::Value::Str(source) = &n.value {
            return Some(source);
        }
        let d = self.r.error("103", n.span, format!("`{path}` is {}", n.kind()));
        d.expected = Some("an expression in quotes".to_owned());
        match n.value {
            doc::Value::Bool(b) => d.hint = Some(format!("write \"{b}\"")),
            doc::Value::Int(i) => d.hint = Some(format!("write \"{i}\"")),
            _ => {}
        }
        path.clone_into(&mut d.field);
        None
    }

    fn compile(
        &mut self,
        n: &Node,
        (source, start): (&str, usize),
        path: &str,
        variables: &Variables,
        result: Option<&Type>,
    ) -> Option<Expr> {
        if !self.may_compile(n, source, 1, path) {
            return None;
        }
        let (compiled, problems) = match self.names.language.compile(source, variables, result) {
            Ok::<Compiled, _>((compiled, warnings)) => (Some(compiled), warnings),
            Err(problems) => (None, problems),
        };
        for p in problems {
            // Where any value may be given, a constant is as good as another.
            if p.number != "308" || result.is_some() {
                self.problem(n, start, path, p);
            }
        }
        let reads = self.reads(compiled.as_ref(), source);
        let direct = Ref::quiet(self, source, n.span).map(Box::new);
        let request = reads.messages.then(|| self.names.language.compile("request", variables, None).ok());
        let request = request.flatten().map(|(compiled, _)| compiled);
        let compiled = compiled?;
        if !self.may_compile(n, source, reads.nodes.len(), path) {
            return None;
        }
        let unguarded = self.unguarded(n, (source, start), variables, &reads);
        Some(Expr { compiled, span: n.span, reads, unguarded, direct, request })
    }

    /// The same of a reference to an output.
    fn granted(&self, up: usize, node: usize, source: &str, span: Span) -> Vec<Unguarded> {
        let output: Vec<Arc<str>> = source.split(['.', '[']).nth(2).map(Arc::from).into_iter().collect();
        let Some(named) = self.named_at(up, node).filter(|n| n.promises(&output)) else { return Vec::new() };
        let id = &named.id;
        let message = format!(
            "`nodes.{id}` may be skipped: give a value for that case (`{source} ?? …`), or test \
             `nodes.{id}.outcome` before"
        );
        vec![Unguarded { up, node, span, message }]
    }

    /// Where an expression that compiles takes for granted that a node which it reads has run: the language tells, node
    /// by node, what would be doubtful if that node might be skipped.
    fn unguarded(
        &self,
        n: &Node,
        (source, start): (&str, usize),
        variables: &Variables,
        reads: &Reads,
    ) -> Vec<Unguarded> {
        let mut found = Vec::new();
        for read in &reads.nodes {
            let Some(named) = self.named_at(read.up, read.node).filter(|n| n.promises(&read.fields)) else {
                continue;
            };
            let doubtful = [format!("nodes.{}", named.id)];
            let told = self.names.language.compile_with(source, variables, None, &doubtful);
            let told = told.map(|(_, warnings)| warnings).unwrap_or_default();
            found.extend(told.into_iter().filter(|p| p.number == "307").map(|p| Unguarded {
                up: read.up,
                node: read.node,
                span: self.place(n, start, &p),
                message: p.message,
            }));
        }
        found
    }

    /// Where in the file a problem of a part of a text is, which starts at that byte of it.
    fn place(&self, n: &Node, start: usize, p: &Problem) -> Span {
        let before = n.as_str().and_then(|s| s.get(..start)).unwrap_or("");
        let (lines, column) = (before.matches('\n').count(), before.rsplit('\n').next().unwrap_or(""));
        let column = if p.line == 1 { p.column.saturating_add(column.chars().count()) } else { p.column };
        n.place(self.r.file, p.line.saturating_add(lines), column)
    }

    fn problem(&mut self, n: &Node, start: usize, path: &str, p: Problem) {
        let place = self.place(n, start, &p);
        let d = if p.warning {
            self.r.warning(p.number, place, p.message)
        } else {
            self.r.error(p.number, place, p.message)
        };
        d.hint = p.hint;
        path.clone_into(&mut d.field);
    }

    /// What an expression reads: as the language tells it, else as its text looks. Too many do no harm.
    fn reads(&self, compiled: Option<&Arc<dyn Expression>>, source: &str) -> Reads {
        let told = compiled.map(|c| c.reads()).unwrap_or_default();
        let mut reads = Reads::default();
        if told.is_empty() {
            words(source).for_each(|w| self.read(&w, &mut reads));
        } else {
            told.into_iter().for_each(|p| self.read(&p.split('.').collect::<Vec<_>>(), &mut reads));
        }
        reads
    }

    fn read(&self, words: &[&str], reads: &mut Reads) {
        const FACTS: &[&str] = &["limits", "spent", "remaining", "run"];
        match words {
            ["nodes"] => {
                for (up, level) in self.levels.iter().rev().enumerate() {
                    (0..level.nodes.len()).for_each(|node| reads.node(up, node, None));
                }
            }
            ["nodes", id, rest @ ..] => {
                if let Some((up, node)) = self.find(id) {
                    reads.node(up, node, rest.first().map(|f| Arc::from(*f)));
                }
            }
            ["request"] | ["request", "messages", ..] => reads.messages = true,
            ["vars", ..] => reads.vars = true,
            ["inputs", ..] => reads.inputs = true,
            [name, ..] => {
                if let Some((up, _)) = self.local(name) {
                    let local = (up, Arc::from(*name));
                    if !reads.locals.contains(&local) {
                        reads.locals.push(local);
                    }
                } else if let Some(fact) = FACTS.iter().find(|f| *f == name)
                    && !reads.facts.contains(fact)
                {
                    reads.facts.push(fact);
                }
            }
            [] => {}
        }
    }
}

/// Dotted names in a text, such as `nodes.check.passed`, each as its words.
fn words(source: &str) -> impl Iterator<Item = Vec<&str>> {
    let in_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '?');
    let words = source.split(move |c| !in_path(c));
    words.map(|p| p.split(['.', '?']).filter(|w| !w.is_empty()).collect())
}
