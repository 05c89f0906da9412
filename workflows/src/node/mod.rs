//! Types of nodes: what files may say of them, and how they run. One file each, one line in [`TYPES`].

use crate::edge::{self, Edge};
use crate::ending::{RunFailure, Suspension};
use crate::graph::Graph;
use crate::load::{Cx, Expr};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use crate::run::{At, End};
use crate::value::{Ty, Value};
use crate::world::Failure;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use types::Finding;
use types::doc::{self, Fields, Span};
use types::expr::Type;

pub(crate) mod call;
pub(crate) mod classify;
mod common;
pub(crate) mod fail;
pub(crate) mod gate;
pub(crate) mod generate;
pub(crate) mod judge;
pub(crate) mod r#loop;
pub(crate) mod map;
pub(crate) mod merge;
pub(crate) mod repair;
pub(crate) mod select;
pub(crate) mod set;
pub(crate) mod stream;
pub(crate) mod tool;
pub(crate) mod validate;

pub(crate) use common::{Cache, Common, OnError};

/// Every type of node.
const TYPES: &[&NodeType] = &[
    &classify::TYPE,
    &generate::TYPE,
    &validate::TYPE,
    &repair::TYPE,
    &select::TYPE,
    &judge::TYPE,
    &tool::TYPE,
    &merge::TYPE,
    &stream::TYPE,
    &r#loop::TYPE,
    &map::TYPE,
    &call::TYPE,
    &gate::TYPE,
    &set::TYPE,
    &fail::TYPE,
];

/// A type of node: what can be known of it from the file alone.
pub(crate) struct NodeType {
    /// As written.
    pub(crate) name: &'static str,
    /// Every completed outcome that edges may name.
    pub(crate) outcomes: &'static [Outcome],
    /// Names of all outcomes, for the type of `nodes.<id>.outcome`; empty: its words are its own.
    pub(crate) words: &'static [&'static str],
    /// Usual time limit.
    pub(crate) timeout: Duration,
    /// Ends the run.
    pub(crate) sink: bool,
    /// What it puts out may be kept and used again.
    pub(crate) cacheable: bool,
    /// It calls something that may fail and be called again.
    pub(crate) retries: bool,
    /// What it puts out; of some types the node's own text tells.
    pub(crate) outputs: fn(&doc::Node) -> Vec<Out>,
    /// Outcomes in words of the node's own (`classify`); for all other types none.
    pub(crate) labels: fn(&doc::Node) -> Vec<Arc<str>>,
    /// Reads the keys of its own.
    pub(crate) lower: fn(&mut Cx<'_>, &mut Fields<'_>) -> Box<dyn Spec>,
}

impl Debug for NodeType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for NodeType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl NodeType {
    /// The type of that name.
    pub(crate) fn parse(name: &str) -> Option<&'static NodeType> {
        TYPES.iter().copied().find(|t| t.name == name)
    }

    /// All completed outcomes.
    pub(crate) fn completed(&self) -> OutcomeSet {
        OutcomeSet::of(self.outcomes)
    }

    /// The type of `nodes.<id>.outcome`.
    fn outcome(&self) -> Type {
        if self.words.is_empty() { Type::Str } else { Type::Enum(self.words) }
    }

    /// What can be read of every node, whatever its type.
    pub(crate) fn common(&self) -> [(&'static str, Type); 7] {
        const STATES: &[&str] = &["pending", "running", "resolved"];
        [
            ("status", Type::Enum(STATES)),
            ("outcome", self.outcome().optional()),
            ("error", Type::Any),
            ("started_ms", Type::Float.optional()),
            ("duration_ms", Type::Float.optional()),
            ("cost_usd", Type::Float),
            ("calls", Type::Int),
        ]
    }
}

/// Every completed outcome of a type, the node's own words included.
pub(crate) fn outcomes(kind: &NodeType, labels: &[Arc<str>]) -> OutcomeSet {
    let labels = (0..labels.len()).filter_map(|i| u8::try_from(i).ok()).map(Outcome::Label);
    labels.fold(kind.completed(), OutcomeSet::with)
}

/// No words of its own.
pub(crate) fn no_labels(_: &doc::Node) -> Vec<Arc<str>> {
    Vec::new()
}

/// A named output of a node, with its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Out {
    pub(crate) name: Cow<'static, str>,
    pub(crate) ty: Ty,
}

impl Out {
    pub(crate) const fn new(name: &'static str, ty: Ty) -> Self {
        Out { name: Cow::Borrowed(name), ty }
    }

    /// Data.
    pub(crate) const fn data(name: &'static str, ty: Type) -> Self {
        Out::new(name, Ty::Data(ty))
    }

    /// What expressions read of it while its node has not run: lists are empty, flags false, counts 0, all
    /// else is unknown.
    pub(crate) fn absent(&self) -> Json {
        match &self.ty {
            Ty::Completions | Ty::Messages | Ty::Data(Type::List(_)) => Json::Array(Vec::new()),
            Ty::Data(Type::Bool) => Json::Bool(false),
            Ty::Data(Type::Int) => Json::from(0),
            _ => Json::Null,
        }
    }
}

/// A reference that a node reads.
pub(crate) struct Read<'a> {
    pub(crate) reference: &'a Ref,
    /// A source that did not run simply contributes nothing.
    pub(crate) may_be_absent: bool,
}

/// What a node of some type is and does.
pub(crate) trait Spec: Any + Debug + Send + Sync {
    /// For the hash of the plan: everything that changes what happens.
    fn canonical(&self) -> Json;

    /// The references it reads when it starts.
    fn reads(&self) -> Vec<Read<'_>> {
        Vec::new()
    }

    /// The expressions it evaluates when it starts.
    fn exprs(&self) -> Vec<&Expr> {
        Vec::new()
    }

    /// The completed outcomes that can occur with these settings; `None`: all of its type.
    fn possible(&self) -> Option<OutcomeSet> {
        None
    }

    /// Most model calls of one run of it, those of its bodies included.
    fn max_calls(&self) -> u32 {
        0
    }

    /// Most node runs of one run of it within its bodies.
    fn max_runs(&self) -> u32 {
        0
    }

    /// Whether it runs graphs, its own or those of others.
    fn holds_graphs(&self) -> bool {
        !self.bodies().is_empty()
    }

    /// Expressions that it evaluates within its body.
    fn inner_exprs(&self) -> Vec<&Expr> {
        Vec::new()
    }

    /// The graphs it runs within itself.
    fn bodies(&self) -> Vec<&Graph> {
        Vec::new()
    }

    /// The same, to be changed by the loader.
    fn bodies_mut(&mut self) -> Vec<&mut Graph> {
        Vec::new()
    }

    /// Starts it on values as they stand. What needs no waiting is done at once.
    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a>;
}

/// How a node begins.
pub(crate) enum Begun<'a> {
    /// It has ended already.
    Done(NodeResult),
    /// It waits for something outside.
    Waits(BoxFuture<'a, NodeResult>),
}

impl<'a> Begun<'a> {
    pub(crate) const fn done(resolved: Resolved) -> Self {
        Begun::Done(Ok(resolved))
    }

    /// What `work` gives at once.
    pub(crate) fn now(work: impl FnOnce() -> NodeResult) -> Self {
        Begun::Done(work())
    }

    pub(crate) fn waits(work: impl Future<Output = NodeResult> + Send + 'a) -> Self {
        Begun::Waits(Box::pin(work))
    }
}

/// How a node that waited has ended.
pub(crate) type NodeResult = Result<Resolved, Fault>;

/// Why a node that waited has nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A call failed.
    Call(Failure),
    /// Its own time was up.
    Timeout,
    /// Anything else, as the end of the graph instance if nothing takes it up.
    Other(Box<RunFailure>),
    /// It waits for somebody outside, for longer than a run may run.
    Suspended(Vec<Suspension>),
}

impl From<RunFailure> for Fault {
    fn from(f: RunFailure) -> Self {
        Fault::Other(Box::new(f))
    }
}

/// An expression could not be evaluated.
impl From<types::expr::Error> for Fault {
    fn from(e: types::expr::Error) -> Self {
        RunFailure::new("expression", "runtime", 500, e.message).into()
    }
}

impl From<Failure> for Fault {
    fn from(f: Failure) -> Self {
        Fault::Call(f)
    }
}

/// A checked node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: Arc<str>,
    pub(crate) kind: &'static NodeType,
    /// The type's name, shared with the record.
    pub(crate) kind_name: Arc<str>,
    pub(crate) span: Span,
    pub(crate) join: Join,
    pub(crate) guard: Option<Expr>,
    pub(crate) enabled: bool,
    pub(crate) timeout: Duration,
    pub(crate) common: Common,
    /// Codes silenced here.
    pub(crate) lint: Vec<String>,
    /// What it puts out, in the order in which [`Resolved::outputs`] gives it.
    pub(crate) outputs: Vec<Out>,
    /// Outcomes in words of its own, in the order of [`Outcome::Label`].
    pub(crate) labels: Vec<Arc<str>>,
    pub(crate) spec: Box<dyn Spec>,
}

/// When a node starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    All,
    Strict,
    Any,
    AtLeast(u32),
}

impl Node {
    /// What it is, if it is of that type.
    pub(crate) fn get<T: Spec>(&self) -> Option<&T> {
        (&*self.spec as &dyn Any).downcast_ref()
    }

    /// The same, to be changed by the loader.
    pub(crate) fn get_mut<T: Spec>(&mut self) -> Option<&mut T> {
        (&mut *self.spec as &mut dyn Any).downcast_mut()
    }

    /// Whether it is of that type.
    pub(crate) fn is<T: Spec>(&self) -> bool {
        self.get::<T>().is_some()
    }

    /// The completed outcomes that can occur with these settings.
    pub(crate) fn possible(&self) -> OutcomeSet {
        self.spec.possible().unwrap_or_else(|| self.completed())
    }

    /// Every completed outcome that edges may name.
    pub(crate) fn completed(&self) -> OutcomeSet {
        outcomes(self.kind, &self.labels)
    }

    /// The same, one by one.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = Outcome> + '_ {
        let labels = (0..self.labels.len()).filter_map(|i| u8::try_from(i).ok()).map(Outcome::Label);
        self.kind.outcomes.iter().copied().chain(labels)
    }

    /// An outcome in words.
    pub(crate) fn word(&self, outcome: Outcome) -> &str {
        match outcome {
            Outcome::Label(i) => self.labels.get(usize::from(i)).map_or("label", |l| l),
            other => other.as_str(),
        }
    }

    /// It runs after the response.
    pub(crate) fn is_later(&self) -> bool {
        self.common.later == Some(true)
    }

    /// Most runs of nodes in one run of it, itself included.
    pub(crate) fn max_runs(&self) -> u32 {
        if self.enabled { self.spec.max_runs().saturating_add(1) } else { 1 }
    }

    /// A node that the loader adds itself.
    pub(crate) fn plain(id: &str, kind: &'static NodeType, at: &doc::Node, spec: Box<dyn Spec>) -> Self {
        Node {
            id: id.into(),
            kind,
            kind_name: kind.name.into(),
            span: at.span,
            join: Join::All,
            guard: None,
            enabled: true,
            timeout: kind.timeout,
            common: Common::default(),
            lint: Vec::new(),
            outputs: (kind.outputs)(at),
            labels: (kind.labels)(at),
            spec,
        }
    }

    /// Most model calls of one run of it.
    pub(crate) fn max_calls(&self) -> u32 {
        if self.enabled { self.spec.max_calls() } else { 0 }
    }

    /// For the hash of the plan: everything that changes what happens.
    pub(crate) fn canonical(&self) -> Json {
        let bodies: Vec<Json> = self.spec.bodies().into_iter().map(Graph::canonical).collect();
        json!({
            "id": &*self.id, "type": self.kind.name, "join": format!("{:?}", self.join),
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
        let mut f = cx.r.fields(node, path)?;
        let id = f.require(&mut cx.r, "id").and_then(|n| cx.r.ident(n, &f.at("id")));
        let kind = f.require(&mut cx.r, "type").and_then(|n| kind(cx, n, &f.at("type")));
        let (Some(id), Some(kind)) = (id, kind) else { return None };
        if let Some(n) = f.take("title") {
            cx.r.string(n, &f.at("title"));
        }
        if let Some(n) = f.take("needs") {
            edge::lower_needs(cx, n, index, &f.at("needs"), into);
        }
        let join = f.take("join").map_or(Join::All, |n| join(cx, n, &f.at("join")));
        let guard = f.take("when").and_then(|n| cx.condition(n, &f.at("when")));
        let enabled = f.take("enabled").and_then(|n| cx.r.boolean(n, &f.at("enabled"))).unwrap_or(true);
        let timeout =
            f.take("timeout").and_then(|n| cx.r.duration(n, &f.at("timeout"))).unwrap_or(kind.timeout);
        let outputs = (kind.outputs)(node);
        let common = Common::lower(cx, &mut f, kind, &outputs);
        let lint = f.take("lint").map(|n| lint(cx, n, &f.at("lint"))).unwrap_or_default();
        let spec = (kind.lower)(cx, &mut f);
        let span = f.span;
        f.finish(&mut cx.r);
        Some(Node {
            id: id.into(),
            kind,
            kind_name: kind.name.into(),
            span,
            join,
            guard,
            enabled,
            timeout,
            common,
            lint,
            outputs,
            labels: (kind.labels)(node),
            spec,
        })
    }
}

fn kind(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<&'static NodeType> {
    let names: Vec<&str> = TYPES.iter().map(|t| t.name).collect();
    cx.r.one_of(n, path, &names).and_then(NodeType::parse)
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
    let codes = f.take("allow").and_then(|n| cx.r.strings(n, &f.at("allow"))).unwrap_or_default();
    f.finish(&mut cx.r);
    codes
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

/// How a node resolved.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) outcome: Outcome,
    /// In the order in which its type declares them; empty: nothing was put out.
    pub(crate) outputs: Vec<Value>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) note: Option<String>,
    /// It ends the run, or the graph instance it stands in.
    pub(crate) end: Option<Box<End>>,
}

impl Resolved {
    pub(crate) const fn plain(outcome: Outcome) -> Self {
        Resolved { outcome, outputs: Vec::new(), findings: Vec::new(), note: None, end: None }
    }

    pub(crate) const fn with(outcome: Outcome, outputs: Vec<Value>) -> Self {
        Resolved { outcome, outputs, findings: Vec::new(), note: None, end: None }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Resolved { note: Some(note.into()), ..self }
    }
}
