//! One file: its top-level keys, then its graph.

use super::cx::Level;
use super::work::Work;
use super::{Checks, Cx, Named, Names, Prompt, Top, body, expressions, lint, top};
use crate::edge::Edge;
use crate::node::call::Call;
use crate::node::stream::Stream;
use crate::node::{self, Node, NodeKind, NodeSpec, SILENCEABLE};
use crate::plan::{Limits, Parts};
use crate::reference::Ref;
use serde_json::Value;
use types::diagnostic::{Diagnostic, Severity, suggestion};
use types::doc::{self, Asked, Fields, Reader, SourceFile, Span};
use types::runs::Durability;

/// What a file has given.
pub(crate) struct Loaded {
    pub(super) stem: String,
    pub(super) source: SourceFile,
    /// `None` when there is no graph to speak of.
    pub(super) parts: Option<Parts>,
    pub(super) problems: Vec<Diagnostic>,
    /// Workflows that it calls or falls back on, with their places.
    calls: Vec<(String, Span)>,
}

impl Loaded {
    /// Whether it has errors.
    pub(super) fn failed(&self) -> bool {
        self.problems.iter().any(|d| d.severity == Severity::Error)
    }

    /// The workflows that it names, with their places.
    pub(super) fn names_at(&self) -> impl Iterator<Item = &(String, Span)> {
        self.calls.iter()
    }

    /// Takes out what the nodes' `lint` silences.
    pub(super) fn silence(&mut self, parts: &Parts) {
        self.problems.retain(|d| !silenced(d, &parts.root));
    }

    /// Its problems, in the order of their places.
    pub(super) fn sorted(mut self) -> Vec<Diagnostic> {
        self.problems.iter_mut().for_each(|d| d.field = lint::of(&d.field).1.to_owned());
        self.problems.sort_by_key(|d| (d.line, d.column));
        self.problems
    }
}

pub(super) fn load(
    source: &SourceFile,
    names: &Names<'_>,
    workflows: &[&str],
    schemas: &[&SourceFile],
) -> Loaded {
    let mut loaded = Loaded {
        stem: source.stem().to_owned(),
        source: source.clone(),
        parts: None,
        problems: Vec::new(),
        calls: Vec::new(),
    };
    let (root, told) = doc::parse_to_check(source, "WF");
    loaded.problems = told;
    let Some(root) = root else { return loaded };
    let mut cx = context(source, names, workflows, schemas);
    loaded.parts = validators::together(|| lower(&mut cx, &root));
    loaded.problems.append(&mut cx.r.problems);
    if let Some(mut parts) = loaded.parts.take() {
        loaded.calls.extend(parts.head.fallback.clone());
        calls(&mut parts.root, &mut loaded.calls);
        loaded.silence(&parts);
        loaded.parts = Some(parts);
    }
    loaded
}

fn context<'a>(
    source: &'a SourceFile,
    names: &'a Names<'a>,
    workflows: &[&str],
    schemas: &'a [&'a SourceFile],
) -> Cx<'a> {
    Cx {
        r: Reader::new(source, "WF"),
        names,
        schemas,
        levels: vec![Level::default()],
        vars: Vec::new(),
        inputs: Vec::new(),
        top: Top { workflows: workflows.iter().map(|w| (*w).to_owned()).collect(), ..Top::default() },
        variables: names.variables.clone(),
        guessing: false,
        work: Work::default(),
    }
}

/// Reads a tree that stands in no file, and tells what was asked of the value whose span starts at `mark` and
/// the codes of the problems found there.
pub(crate) fn watch(root: &doc::Node, mark: usize, names: &Names<'_>) -> (Vec<Asked>, Vec<String>) {
    let source = SourceFile::new("probe.yaml", "");
    let mut cx = context(&source, names, &[], &[]);
    cx.r.watch(mark);
    lower(&mut cx, root);
    let there = |d: &Diagnostic| d.range.start == mark;
    let codes = cx.r.problems.iter().filter(|d| there(d)).map(|d| d.code.clone()).collect();
    (cx.r.asked(), codes)
}

fn calls(graph: &mut crate::graph::Graph, into: &mut Vec<(String, Span)>) {
    for n in &mut graph.nodes {
        if let Some(c) = n.spec.get::<Call>() {
            into.extend(c.callee().map(|name| (name.to_owned(), n.span)));
        }
        n.spec.bodies_mut().into_iter().for_each(|g| calls(g, into));
    }
}

/// `lint: {allow: […]}` of a node silences what is reported at that node's place.
fn silenced(d: &Diagnostic, graph: &crate::graph::Graph) -> bool {
    let here = |n: &Node| n.lint.contains(&d.code) && lint::of(&d.field).0 == Some(&n.id);
    SILENCEABLE.contains(&d.code.as_str())
        && graph.nodes.iter().any(|n| here(n) || n.spec.bodies().into_iter().any(|g| silenced(d, g)))
}

/// Everything of a file; `None` when there is no graph to speak of.
fn lower(cx: &mut Cx<'_>, root: &doc::Node) -> Option<Parts> {
    if matches!(root.value, doc::Value::Null) {
        cx.r.error("102", Span { line: 1, column: 1, ..Span::default() }, "the file is empty").expected =
            Some("a workflow: version, name, nodes, edges".to_owned());
        return None;
    }
    let mut f = cx.r.fields(root, "")?;
    let head = head(cx, &mut f);
    let vars = f.take("vars").map(|n| vars(cx, n)).unwrap_or_default();
    cx.vars = vars.iter().map(|(k, _, t)| (k.clone(), t.clone())).collect();
    let inputs = top::lower(cx, &mut f);
    let output = f.take("output");
    let more = usize::from(output.is_some());
    let list =
        f.require(&mut cx.r, "nodes").and_then(|n| body::list(cx, n, "nodes", more)).unwrap_or_default();
    let mut named = body::names(cx, &list);
    if let Some(n) = output {
        if named.iter().any(|n| n.id == "output") {
            cx.r.error("121", n.span, "`output` adds a node of that name, and there is one already");
        }
        named.push(Named::of("output", Some(NodeKind::Stream), n));
    }
    if let Some(level) = cx.levels.last_mut() {
        level.nodes = named;
    }
    cx.variables = expressions::variables(cx);
    let serves = f.take("serves").and_then(|n| cx.request_condition(n, "serves"));
    let durable = head.durability.is_some_and(|d| d != Durability::None);
    let (limits, places) = f.take("limits").map(|n| Limits::lower(cx, n, durable)).unwrap_or_default();
    let edges = f.take("edges");
    let graph = body::lower(cx, "", &list, edges, |cx, nodes, edges| match output {
        Some(n) => output_node(cx, n, edges),
        None => inferred(cx, nodes, edges).and_then(|n| output_node(cx, &n, edges)),
    });
    Checks::unused(cx);
    Prompt::unused(cx);
    f.finish(&mut cx.r);
    let mut root = graph?;
    node::generate::appoint(&mut root);
    crate::graph::later::settle(&mut root);
    crate::graph::judged::tell(&mut root);
    let astray = crate::graph::check::flow(&mut cx.r, &root);
    if !cx.names.runner {
        crate::graph::outside::without_runner(&mut cx.r, &root);
    }
    Some(Parts { head, serves, limits, places, vars: constants(&vars), inputs, root, astray, fallback: None })
}

/// Name and texts of a workflow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) revision: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) tests: Vec<String>,
    /// `on_failure: {respond: best_so_far}`.
    pub(crate) best_so_far: bool,
    /// `on_failure: {fallback: …}`, with its place.
    pub(crate) fallback: Option<(String, Span)>,
    pub(crate) durability: Option<Durability>,
    /// Where it is said.
    pub(crate) durability_at: Span,
    pub(crate) span: Span,
}

fn head(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Head {
    let mut head = Head { span: f.span, ..Head::default() };
    if let Some(n) = f.require(&mut cx.r, "version") {
        cx.r.integer(n, "version", 1, 1);
    }
    if let Some(n) = f.require(&mut cx.r, "name")
        && let Some(name) = cx.r.ident(n, "name")
    {
        let stem = cx.r.file.stem().to_owned();
        if name != stem {
            let d = cx.r.error("104", n.span, format!("the name `{name}` is not the name of the file"));
            d.expected = Some(format!("`{stem}`, or a file named {name}.yaml"));
            "name".clone_into(&mut d.field);
        }
        head.name = name;
    }
    if let Some(n) = f.take("revision") {
        head.revision = cx.r.string(n, "revision");
        if head.revision.as_ref().is_some_and(|s| s.chars().count() > 40) {
            cx.r.error("104", n.span, "`revision` is longer than 40 characters");
        }
    }
    head.title = f.take("title").and_then(|n| cx.r.string(n, "title"));
    head.description = f.take("description").and_then(|n| cx.r.string(n, "description"));
    head.owner = f.take("owner").and_then(|n| cx.r.string(n, "owner"));
    if let Some(n) = f.take("labels") {
        let members = cx.r.noted(n, "labels");
        if members.len() > 8 {
            cx.r.error("104", n.span, format!("{} labels", members.len())).expected =
                Some("at most 8".to_owned());
        }
        head.labels =
            members.iter().filter_map(|(k, v)| Some((k.name.clone(), cx.r.string(v, "labels")?))).collect();
    }
    head.durability = f
        .take("durability")
        .inspect(|n| head.durability_at = n.span)
        .and_then(|n| cx.r.one_of(n, "durability", Durability::NAMES))
        .and_then(Durability::parse);
    head.tests = f.take("tests").and_then(|n| cx.r.strings(n, "tests")).unwrap_or_default();
    if let Some(n) = f.take("on_failure") {
        on_failure(cx, n, &mut head);
    }
    head
}

fn on_failure(cx: &mut Cx<'_>, n: &doc::Node, head: &mut Head) {
    let Some(mut f) = cx.r.fields(n, "on_failure") else { return };
    let fallback = f.take("fallback");
    if let Some(n) = fallback {
        head.fallback = workflow(cx, n, "on_failure.fallback").map(|name| (name, n.span));
    }
    let respond =
        f.take("respond").and_then(|n| cx.r.one_of(n, "on_failure.respond", &["best_so_far", "error"]));
    let span = f.span;
    f.finish(&mut cx.r);
    if fallback.is_some() && respond.is_some() {
        let d = cx.r.error("104", span, "`on_failure` holds `fallback` and `respond`");
        d.expected = Some("one of them: another workflow runs, or the answer is what there is".to_owned());
        "on_failure".clone_into(&mut d.field);
    }
    head.best_so_far = respond == Some("best_so_far");
}

/// The name of a workflow.
pub(crate) fn workflow(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<String> {
    let name = cx.r.string(n, path)?;
    if cx.top.workflows.contains(&name) {
        return Some(name);
    }
    let hint = suggestion(&name, cx.top.workflows.iter().map(String::as_str));
    let d = cx.r.error("205", n.span, format!("there is no workflow `{name}`"));
    d.hint = Some(hint);
    path.clone_into(&mut d.field);
    None
}

type Var = (String, Value, types::expr::Type);

fn vars(cx: &mut Cx<'_>, n: &doc::Node) -> Vec<Var> {
    let mut vars = Vec::new();
    for (k, v) in cx.r.names(n, "vars") {
        match expressions::constant(v) {
            Some(t) => vars.push((k.name.clone(), v.to_json(), t)),
            None => cx.r.wrong_type(v, &format!("vars.{}", k.name), "a scalar or a list of scalars"),
        }
    }
    vars
}

fn constants(vars: &[Var]) -> Value {
    Value::Object(vars.iter().map(|(k, v, _)| (k.clone(), v.clone())).collect())
}

/// The `output` that a file means which has neither that nor a `stream` node: the completion that the one node
/// makes which ends the graph with one. Of answers that were only looked at (`validate`, `judge`) the file has to
/// say itself whether those that fail are delivered.
fn inferred(cx: &mut Cx<'_>, nodes: &[Node], edges: &[Edge]) -> Option<doc::Node> {
    let is_whole = nodes.len() == cx.nodes().len() && nodes.len() < body::MAX_NODES;
    if !is_whole || cx.position("output").is_some() || nodes.iter().any(|n| n.kind() == NodeKind::Stream) {
        return None;
    }
    let makes_one = |n: &Node| n.enabled && !n.is_later() && n.outputs.iter().any(|o| o.name == "completion");
    let is_last = |i: &usize| edges.iter().all(|e| e.from != *i);
    let mut ends = (0..nodes.len()).filter(is_last).filter_map(|i| nodes.get(i).filter(|n| makes_one(n)));
    let end = ends.next().filter(|_| ends.next().is_none())?;
    let value = doc::Value::Str(format!("nodes.{}.completion", end.id));
    let node = doc::Node { value, span: end.span, style: doc::Style::Plain };
    let level = cx.levels.last_mut()?;
    level.nodes.push(Named::of("output", Some(NodeKind::Stream), &node));
    Some(node)
}

/// `output` is a `stream` node behind the node it refers to.
fn output_node(cx: &mut Cx<'_>, n: &doc::Node, edges: &mut Vec<Edge>) -> Option<Node> {
    let stream = Stream::lower_output(cx, n);
    let position = cx.nodes().len().saturating_sub(1);
    let source = stream.from.as_ref().and_then(Ref::own_node)?;
    let kind = cx.named(source).and_then(|n| n.kind)?;
    edges.push(Edge::plain(source, position, kind, n.span));
    Some(Node::plain("output", n, NodeSpec::Stream(Box::new(stream))))
}
