//! Types of nodes: what files may say of them, and how they run. One file each, one variant of [`NodeKind`].

use crate::edge::{self, Edge};
use crate::graph::Graph;
use crate::load::{self, Cx, Expr};
use crate::node::tool::Tool;
use crate::outcome::{Outcome, OutcomeSet};
use crate::plan::Workflow;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::Severity;
use types::doc::{self, Fields, Span};

mod cache;
pub(crate) mod call;
pub(crate) mod classify;
mod common;
pub(crate) mod fail;
pub(crate) mod gate;
pub(crate) mod generate;
mod guess;
pub(crate) mod judge;
mod kind;
pub(crate) mod r#loop;
pub(crate) mod map;
pub(crate) mod merge;
mod node_type;
pub(crate) mod repair;
pub(crate) mod select;
pub(crate) mod set;
mod spec;
pub(crate) mod stream;
pub(crate) mod tool;
pub(crate) mod validate;

pub(crate) use cache::Cache;
pub(crate) use common::{Common, OnError};
pub use kind::NodeKind;
pub(crate) use kind::NodeSpec;
pub(crate) use node_type::{NodeType, Out, outcomes};
pub(crate) use spec::{Begun, Fault, NodeResult, Read, Resolved, Spec};

/// Codes that `lint` of a node may silence.
pub(crate) const SILENCEABLE: &[&str] =
    &["WF307", "WF308", "WF309", "WF332", "WF334", "WF421", "WF422", "WF431"];

/// A checked node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: Arc<str>,
    /// Where it stands in its file, such as `nodes[2]`.
    pub(crate) path: Arc<str>,
    /// Its name in drawings, where it is not its id.
    pub(crate) title: Option<Arc<str>>,
    /// The type's name, shared with the record.
    pub(crate) kind_name: Arc<str>,
    pub(crate) span: Span,
    pub(crate) join: Join,
    pub(crate) guard: Option<Expr>,
    pub(crate) enabled: bool,
    pub(crate) timeout: Duration,
    /// The file says how long, rather than the type.
    pub(crate) timed: bool,
    pub(crate) common: Common,
    /// Codes silenced here.
    pub(crate) lint: Vec<String>,
    /// What it puts out, in the order in which [`Resolved::outputs`] gives it.
    pub(crate) outputs: Vec<Out>,
    /// Outcomes in words of its own, in the order of [`Outcome::Label`].
    pub(crate) labels: Vec<Arc<str>>,
    pub(crate) spec: NodeSpec,
}

/// When a node starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Join {
    All,
    Strict,
    Any,
    AtLeast(u32),
}

impl Node {
    /// Its type.
    pub(crate) const fn kind(&self) -> NodeKind {
        self.spec.kind()
    }

    /// What can be known of its type.
    pub(crate) fn node_type(&self) -> &'static NodeType {
        self.kind().node_type()
    }

    /// The completed outcomes that can occur with these settings.
    pub(crate) fn possible(&self) -> OutcomeSet {
        let own = self.spec.possible().unwrap_or_else(|| self.completed());
        self.common.on_error.outcome().into_iter().fold(own, OutcomeSet::with)
    }

    /// Every completed outcome that edges may name.
    pub(crate) fn completed(&self) -> OutcomeSet {
        outcomes(self.kind(), &self.labels)
    }

    /// The same, one by one.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        let labels = (0..self.labels.len()).filter_map(|i| u8::try_from(i).ok()).map(Outcome::Label);
        self.node_type().outcomes.iter().copied().chain(labels)
    }

    /// An outcome in words.
    pub(crate) fn word(&self, outcome: Outcome) -> &str {
        match outcome {
            Outcome::Label(i) => self.labels.get(usize::from(i)).map_or("label", |l| l),
            other => other.as_str(),
        }
    }

    /// The time that limits leave it, where that is less than its `timeout`.
    pub(crate) fn wall(&self) -> Option<Duration> {
        let limits = [self.common.budget.and_then(|b| b.wall), self.spec.wall()];
        limits.into_iter().flatten().min().filter(|wall| *wall < self.timeout)
    }

    /// It runs after the response.
    pub(crate) fn is_later(&self) -> bool {
        self.common.later == Some(true)
    }

    /// Whether it, or what stands within it, may call an `unsafe` tool: then it is worth running for itself.
    pub(crate) fn is_unsafe(&self) -> bool {
        let within = || self.spec.bodies().into_iter().any(Graph::is_unsafe);
        let called = || self.spec.callee().is_some_and(Workflow::is_unsafe);
        self.spec.get::<Tool>().is_some_and(tool::Tool::is_unsafe) || within() || called()
    }

    /// Most runs of nodes in one run of it, itself included.
    pub(crate) fn max_runs(&self) -> u32 {
        if self.enabled { self.spec.max_runs().saturating_add(1) } else { 1 }
    }

    /// A node that the loader adds itself.
    pub(crate) fn plain(id: &str, at: &doc::Node, spec: NodeSpec) -> Self {
        let kind = spec.kind();
        let of_type = kind.node_type();
        Node {
            id: id.into(),
            path: id.into(),
            title: None,
            kind_name: kind.as_str().into(),
            span: at.span,
            join: Join::All,
            guard: None,
            enabled: true,
            timeout: of_type.timeout,
            timed: false,
            common: Common::default(),
            lint: Vec::new(),
            outputs: (of_type.outputs)(at),
            labels: (of_type.labels)(at),
            spec,
        }
    }

    /// Most model calls of one run of it.
    pub(crate) fn max_calls(&self) -> u32 {
        if self.enabled { self.spec.max_calls() } else { 0 }
    }

    /// The same with the attempts that its `retry`, or those of nodes within it, asks for.
    pub(crate) fn max_tries(&self) -> u32 {
        let calls = self.max_calls();
        let of = |g: &Graph| (g.max_calls(), g.max_tries());
        let body = || self.spec.bodies().last().map(|g| of(g));
        match self.spec.callee().map(|w| of(&w.root)).or_else(body) {
            // As often as it runs what stands within it.
            Some((one, tries)) => calls.checked_div(one).unwrap_or(0).saturating_mul(tries),
            None => {
                let tries = self.common.retry.as_ref().and_then(|r| r.max_attempts).unwrap_or(1);
                calls.saturating_mul(tries)
            }
        }
    }

    /// For the hash of the plan: everything that changes what happens.
    pub(crate) fn canonical(&self) -> Json {
        let bodies: Vec<Json> = self.spec.bodies().into_iter().map(Graph::canonical).collect();
        json!({
            "id": &*self.id, "type": self.kind().as_str(), "join": self.join,
            "when": self.guard.as_ref().map(Expr::source), "enabled": self.enabled,
            "timeout_ms": u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            "common": self.common.canonical(), "spec": self.spec.canonical(), "bodies": bodies,
        })
    }

    /// Reads a node; its `needs` become edges.
    pub(crate) fn lower(
        cx: &mut Cx<'_>,
        node: &doc::Node,
        path: &str,
        index: usize,
        into: &mut Vec<Edge>,
    ) -> Option<Node> {
        let told = cx.r.problems.len();
        let mut f = cx.r.fields(node, path)?;
        let id = f.require(&mut cx.r, "id").and_then(|n| cx.r.ident(n, &f.at("id")));
        let kind = f.require(&mut cx.r, "type").and_then(|n| kind(cx, n, &f.at("type")));
        let Some(kind) = kind else {
            guess::problems(cx, node, path, index);
            return None;
        };
        let of_type = kind.node_type();
        let title = f.take("title").and_then(|n| cx.r.string(n, &f.at("title"))).map(Arc::from);
        if let Some(n) = f.take("needs") {
            edge::lower_needs(cx, n, index, &f.at("needs"), into);
        }
        let join = f.take("join").map_or(Join::All, |n| join(cx, n, &f.at("join")));
        let guard = f.take("when").and_then(|n| cx.condition(n, &f.at("when")));
        let enabled = f.take("enabled").and_then(|n| cx.r.boolean(n, &f.at("enabled"))).unwrap_or(true);
        let timeout = f.take("timeout").and_then(|n| cx.time_limit(n, &f.at("timeout")));
        let outputs = (of_type.outputs)(node);
        let mut common = Common::lower(cx, &mut f, kind, &outputs);
        let lint = f.take("lint").map(|n| lint(cx, n, &f.at("lint"))).unwrap_or_default();
        let told_of_error = f.take("on_error").map(|n| n.span);
        let told_of_cache = f.take("cache").map(|n| n.span);
        let spec = (of_type.lower)(cx, &mut f);
        if let (Some(at), Some(cache)) = (told_of_cache, &common.cache) {
            cache.fits(cx, (at, f.at("cache")), &spec);
        }
        if let Some(at) = told_of_error {
            common.on_error.settle(cx, (at, f.at("on_error.value")), &*spec);
        }
        let span = f.span;
        f.finish(&mut cx.r);
        // `lint` silences warnings by the node they name.
        for d in cx.r.problems.iter_mut().skip(told).filter(|d| d.severity == Severity::Warning) {
            d.field = load::lint::tagged(id.as_deref().unwrap_or_default(), &d.field);
        }
        Some(Node {
            // Whatever else is wrong with a node without one has been told.
            id: id?.into(),
            path: path.into(),
            title,
            kind_name: kind.as_str().into(),
            span,
            join,
            guard,
            enabled,
            timeout: timeout.unwrap_or(of_type.timeout),
            timed: timeout.is_some(),
            common,
            lint,
            outputs,
            labels: (of_type.labels)(node),
            spec,
        })
    }
}

fn kind(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<NodeKind> {
    let names: Vec<&str> = NodeKind::ALL.iter().map(|k| k.as_str()).collect();
    cx.r.one_of(n, path, &names).and_then(NodeKind::parse)
}

fn join(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Join {
    if matches!(n.value, doc::Value::Map(_)) {
        let Some(mut f) = cx.r.fields(n, path) else { return Join::All };
        let least = f
            .require(&mut cx.r, "at_least")
            .and_then(|n| cx.r.integer(n, &f.at("at_least"), 1, 64))
            .and_then(|n| u32::try_from(n).ok());
        f.finish(&mut cx.r);
        return least.map_or(Join::All, Join::AtLeast);
    }
    match cx.r.one_of(n, path, &["all", "strict", "any"]) {
        Some("strict") => Join::Strict,
        Some("any") => Join::Any,
        _ => Join::All,
    }
}

fn lint(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<String> {
    let Some(mut f) = cx.r.fields(n, path) else { return Vec::new() };
    let at = f.at("allow");
    let list = f.take("allow").and_then(|n| cx.r.list(n, &at)).unwrap_or_default();
    f.finish(&mut cx.r);
    list.iter().filter_map(|n| cx.r.one_of(n, &at, SILENCEABLE)).map(str::to_owned).collect()
}

/// Notes a key that only one method of a node goes by, where it stands beside another one.
pub(crate) fn of_method(
    cx: &mut Cx<'_>,
    (n, path): (Option<&doc::Node>, String),
    of: &str,
    method: Option<&str>,
) {
    let (Some(n), Some(other)) = (n, method.filter(|m| *m != of)) else { return };
    let key = path.rsplit('.').next().unwrap_or_default();
    let d = cx.r.error("104", n.span, format!("`{key}` means nothing beside `method: {other}`"));
    d.hint = Some(format!("write `method: {of}`, or leave `{key}` out"));
    d.field = path;
}

/// A whole number in a range as `u32`, or the default.
pub(crate) fn count(
    cx: &mut Cx<'_>,
    f: &mut Fields<'_>,
    key: &'static str,
    range: (u32, u32),
    default: u32,
) -> u32 {
    let Some(n) = f.take(key) else { return default };
    let found = cx.r.integer(n, &f.at(key), i64::from(range.0), i64::from(range.1));
    found.and_then(|i| u32::try_from(i).ok()).unwrap_or(default)
}
