//! One file: its top-level keys, its nodes and edges, then the checks of the whole.

use super::{Cx, Level, Named, Names, expressions, later};
use crate::edge::{self, Edge};
use crate::graph;
use crate::node::stream::{self, Stream};
use crate::node::{self, Join, Node, NodeType};
use crate::plan::{self, Limits, Parts, Workflow};
use serde_json::Value;
use std::time::Duration;
use types::diagnostic::{Diagnostic, Severity};
use types::doc::{self, Fields, Reader, SourceFile, Span};

/// Most nodes of a workflow.
const MAX_NODES: usize = 64;

pub(super) fn load(source: &SourceFile, names: &Names<'_>) -> (Option<Workflow>, Vec<Diagnostic>) {
    let root = match doc::parse(source, "WF") {
        Ok(root) => root,
        Err(d) => return (None, vec![*d]),
    };
    let mut cx = Cx {
        r: Reader::new(source, "WF"),
        names,
        levels: vec![Level::default()],
        vars: Vec::new(),
        variables: names.variables.clone(),
    };
    let parts = lower(&mut cx, &root);
    let mut problems = cx.r.problems;
    let workflow = parts.and_then(|parts| {
        problems.retain(|d| !silenced(d, &parts));
        let failed = problems.iter().any(|d| d.severity == Severity::Error);
        (!failed).then(|| Workflow::new(parts))
    });
    problems.sort_by_key(|d| (d.line, d.column));
    (workflow, problems)
}

/// `lint: {allow: […]}` of a node silences what is reported at that node's place.
fn silenced(d: &Diagnostic, parts: &Parts) -> bool {
    const SILENCEABLE: &[&str] = &["WF307", "WF308", "WF309", "WF332", "WF334"];
    SILENCEABLE.contains(&d.code.as_str())
        && parts
            .root
            .nodes
            .iter()
            .any(|n| n.lint.contains(&d.code) && d.field.starts_with(&format!("{}:", n.id)))
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
    let list = f.require(&mut cx.r, "nodes").and_then(|n| node_list(cx, n)).unwrap_or(&[]);
    name_nodes(cx, list);
    let output = f.take("output");
    if let Some(n) = output {
        if cx.position("output").is_some() {
            cx.r.error("121", n.span, "`output` adds a node of that name, and there is one already");
        }
        let named = Named::of("output", Some(&stream::TYPE), n);
        if let Some(level) = cx.levels.last_mut() {
            level.nodes.push(named);
        }
    }
    cx.vars = vars.iter().map(|(k, _, t)| (k.clone(), t.clone())).collect();
    cx.variables = expressions::variables(cx.names.variables, cx.nodes(), &cx.vars);
    let serves = f.take("serves").and_then(|n| cx.request_condition(n, "serves"));
    let limits = f.take("limits").map(|n| Limits::lower(cx, n)).unwrap_or_default();

    let before = cx.errors();
    let mut edges: Vec<Edge> = Vec::new();
    if let Some(n) = f.take("edges") {
        edge::lower(cx, n, &mut edges);
    }
    let mut sound = before == cx.errors();
    let mut nodes = Vec::new();
    for (i, n) in list.iter().enumerate() {
        nodes.extend(Node::lower(cx, n, i, &mut edges));
    }
    if let Some(n) = output {
        nodes.extend(output_node(cx, n, &mut edges));
    }
    later(cx, &mut f, &["inputs", "pools", "validators", "prompts", "defaults"]);
    f.finish(&mut cx.r);

    // A graph with holes would only produce problems that are none.
    sound &= nodes.len() == cx.nodes().len() && !nodes.is_empty() && !cx.r.problems.iter().any(breaks_graph);
    if !sound {
        return None;
    }
    let mut root = graph::build(&mut cx.r, nodes, edges)?;
    node::generate::appoint(&mut root.nodes, &root.topo);
    graph::inputs::fill(cx, &mut root);
    let mut parts = Parts { head, serves, limits, vars: constants(&vars), root };
    graph::check::flow(&mut cx.r, &parts.root);
    plan::check(&mut cx.r, &mut parts);
    Some(parts)
}

/// Problems after which edges or nodes are missing.
fn breaks_graph(d: &Diagnostic) -> bool {
    d.severity == Severity::Error
        && (d.code == "WF121" || d.field.contains("needs") || d.field.ends_with(".type"))
}

/// Name and texts of a workflow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) labels: Vec<(String, String)>,
    /// `on_failure: {respond: best_so_far}`.
    pub(crate) best_so_far: bool,
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
    if let Some(n) = f.take("revision")
        && cx.r.string(n, "revision").is_some_and(|s| s.chars().count() > 40)
    {
        cx.r.error("104", n.span, "`revision` is longer than 40 characters");
    }
    head.title = f.take("title").and_then(|n| cx.r.string(n, "title"));
    head.description = f.take("description").and_then(|n| cx.r.string(n, "description"));
    if let Some(n) = f.take("owner") {
        cx.r.string(n, "owner");
    }
    if let Some(n) = f.take("labels")
        && let Some(members) = cx.r.map(n, "labels")
    {
        if members.len() > 8 {
            cx.r.error("104", n.span, format!("{} labels", members.len())).expected =
                Some("at most 8".to_owned());
        }
        head.labels =
            members.iter().filter_map(|(k, v)| Some((k.name.clone(), cx.r.string(v, "labels")?))).collect();
    }
    if let Some(n) = f.take("durability")
        && n.as_str() != Some("none")
    {
        cx.unsupported(n.span, "durability other than `none`");
    }
    if let Some(n) = f.take("tests") {
        cx.r.strings(n, "tests");
    }
    if let Some(n) = f.take("on_failure") {
        head.best_so_far = on_failure(cx, n);
    }
    head
}

fn on_failure(cx: &mut Cx<'_>, n: &doc::Node) -> bool {
    let Some(mut f) = cx.r.fields(n, "on_failure") else { return false };
    later(cx, &mut f, &["fallback"]);
    let respond =
        f.take("respond").and_then(|n| cx.r.one_of(n, "on_failure.respond", &["best_so_far", "error"]));
    f.finish(&mut cx.r);
    respond == Some("best_so_far")
}

type Var = (String, Value, types::expr::Type);

fn vars(cx: &mut Cx<'_>, n: &doc::Node) -> Vec<Var> {
    let Some(members) = cx.r.map(n, "vars") else { return Vec::new() };
    let mut vars = Vec::new();
    for (k, v) in members {
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

fn node_list<'n>(cx: &mut Cx<'_>, n: &'n doc::Node) -> Option<&'n [doc::Node]> {
    let list = cx.r.list(n, "nodes")?;
    if list.is_empty() || list.len() > MAX_NODES.saturating_sub(1) {
        cx.r.error("104", n.span, format!("{} nodes", list.len())).expected =
            Some(format!("1 to {}", MAX_NODES.saturating_sub(1)));
        return None;
    }
    Some(list)
}

/// Notes ids, types and outputs before anything refers to them.
fn name_nodes(cx: &mut Cx<'_>, list: &[doc::Node]) {
    for n in list {
        let id = n.get("id").and_then(|i| i.as_str().map(|s| (s.to_owned(), i.span)));
        let kind = n.get("type").and_then(doc::Node::as_str).and_then(NodeType::parse);
        let named = match id {
            None => Named::of("", None, n),
            Some((id, span)) => {
                if cx.position(&id).is_some() {
                    cx.r.error("121", span, format!("two nodes have the id `{id}`"));
                }
                Named::of(id, kind, n)
            }
        };
        if let Some(level) = cx.levels.last_mut() {
            level.nodes.push(named);
        }
    }
}

/// `output` is a `stream` node behind the node it refers to.
fn output_node(cx: &mut Cx<'_>, n: &doc::Node, edges: &mut Vec<Edge>) -> Option<Node> {
    let stream = Stream::lower_output(cx, n);
    let position = cx.nodes().len().saturating_sub(1);
    let source = stream.from.as_ref().and_then(crate::reference::Ref::own_node)?;
    let kind = cx.named(source).and_then(|n| n.kind)?;
    edges.push(Edge::plain(source, position, kind, n.span));
    Some(Node {
        id: "output".into(),
        kind: &stream::TYPE,
        kind_name: stream::TYPE.name.into(),
        span: n.span,
        join: Join::All,
        guard: None,
        enabled: true,
        timeout: Duration::from_secs(5),
        skip_on_error: false,
        lint: Vec::new(),
        outputs: (stream::TYPE.outputs)(n),
        spec: Box::new(stream),
    })
}
