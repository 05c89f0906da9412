//! The checked plan of a workflow: its graph, its limits, its identity.

use crate::budget::Amounts;
use crate::callers::{self, Sure};
use crate::canonical::{sorted, unusual};
use crate::forecast;
use crate::graph::Graph;
use crate::graph::chain::{self, Chain};
use crate::load::{Cx, Expr, Given};
use crate::longest;
use crate::node::Node;
use crate::node::call::Call;
use crate::node::generate::Generate;
use crate::node::stream::Mode;
use crate::node::stream::Stream;
use crate::route::Route;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::Usd;
use types::diagnostic::Diagnostic;
use types::doc::{self, Reader, SourceFile, Span};
use types::expr::{self, Scope};
use types::matrix::{Model, Price};
use types::runs::Durability;

pub(crate) use crate::load::Head;

/// What to do when a budget or the deadline is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// Deliver the best completion known, with its honest verdict.
    #[default]
    BestSoFar,
    /// End with an error.
    Fail,
}

/// Ceilings of one run. `None`: whatever the engine allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Money for all calls together, as the file says; without a word of it, [`USUAL_USD`] is enough.
    pub usd: Option<Usd>,
    /// Time for the whole run.
    pub wall: Option<Duration>,
    /// Input and output tokens of all calls together, as the file says; without a word of it, [`USUAL_TOKENS`] are enough.
    pub tokens: Option<u32>,
    /// Calls of models, every attempt counted, at most 500. Default 24.
    pub calls: u32,
    /// Runs of nodes, those within loops and maps counted each time, at most 2 000. Default 200.
    pub node_runs: u32,
    /// Nodes that may wait for something outside at the same time. Default 8.
    pub parallel: u32,
    /// Kept free at the end to deliver what there is, at most half of the time; `None` = 500 ms, at most a tenth.
    pub finish_reserve: Option<Duration>,
    /// What happens when a limit is reached.
    pub on_exhausted: OnExhausted,
}

/// Money at which a run has spent enough where its file states no limit. Unlike one that is stated it shortens and
/// refuses no call for what that may cost, nor one of unknown price: it ends what would follow.
pub const USUAL_USD: Usd = Usd::from_nanos(1_000_000_000);

/// Tokens at which a run has used enough where its file states no limit: what is under way by then goes on.
pub const USUAL_TOKENS: u32 = 200_000;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            usd: None,
            wall: None,
            tokens: None,
            calls: 24,
            node_runs: 200,
            parallel: 8,
            finish_reserve: None,
            on_exhausted: OnExhausted::BestSoFar,
        }
    }
}

impl Limits {
    /// `durable`: its runs are written down, and outlive the process that walks them.
    pub(crate) fn lower(cx: &mut Cx<'_>, node: &doc::Node, durable: bool) -> (Self, Places) {
        const HOUR: Duration = Duration::from_secs(3600);
        const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
        let most = if durable { WEEK } else { HOUR };
        let (mut limits, mut at) = (Limits::default(), Places::default());
        let Some(mut f) = cx.r.fields(node, "limits") else { return (limits, at) };
        if let Some(n) = f.take("usd") {
            limits.usd = cx.usd(n, "limits.usd");
            at.usd = n.span;
        }
        if let Some(n) = f.take("wall") {
            at.wall = n.span;
            limits.wall = cx.r.duration(n, "limits.wall");
            if limits.wall.is_some_and(|w| w > most || w.is_zero()) {
                let d = cx.r.error("104", n.span, "`limits.wall` is out of range");
                d.expected = Some(
                    "more than 0 and at most 1h, or 7d where `durability` is exit, async or sync".to_owned(),
                );
            }
        }
        let tokens = f.take("tokens").and_then(|n| cx.r.integer(n, "limits.tokens", 1, 5_000_000));
        limits.tokens = tokens.and_then(|n| u32::try_from(n).ok());
        at.calls = node.get("calls").map(|n| n.span);
        at.node_runs = node.get("node_runs").map(|n| n.span);
        limits.calls = crate::node::count(cx, &mut f, "calls", (1, 500), limits.calls);
        limits.node_runs = crate::node::count(cx, &mut f, "node_runs", (1, 2000), limits.node_runs);
        limits.parallel = crate::node::count(cx, &mut f, "parallel", (1, 64), limits.parallel);
        if let Some(d) = f.take("finish_reserve").and_then(|n| cx.r.duration(n, "limits.finish_reserve")) {
            limits.finish_reserve = Some(d);
        }
        let on_exhausted = f
            .take("on_exhausted")
            .and_then(|n| cx.r.one_of(n, "limits.on_exhausted", &["best_so_far", "fail"]));
        if on_exhausted == Some("fail") {
            limits.on_exhausted = OnExhausted::Fail;
        }
        let told = cx.r.problems.len();
        f.finish(&mut cx.r);
        at.misspelt = cx.r.problems.len() > told;
        (limits, at)
    }
}

impl Limits {
    /// Money at which a run has spent enough; `None`: the file states what it may spend.
    #[must_use]
    pub fn enough(&self) -> Option<Usd> {
        self.usd.is_none().then_some(USUAL_USD)
    }

    /// Tokens at which a run has used enough; `None`: the file states how many it may use.
    #[must_use]
    pub fn enough_tokens(&self) -> Option<u32> {
        self.tokens.is_none().then_some(USUAL_TOKENS)
    }

    /// Tokens that a run may use where somebody allows so many: no more than the file states, or than is usual.
    #[must_use]
    pub fn at_most(&self, tokens: Option<u32>) -> Option<u32> {
        tokens.map(|n| n.min(self.tokens.unwrap_or(USUAL_TOKENS))).or(self.tokens)
    }

    /// What a run of it may use.
    pub(crate) fn amounts(&self) -> Amounts {
        Amounts {
            usd: self.usd,
            enough: self.enough(),
            tokens: self.tokens,
            enough_tokens: self.enough_tokens(),
            calls: Some(self.calls),
            wall: None,
        }
    }
}

/// Where the ceilings stand that a plan may not fit under.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    usd: Span,
    wall: Span,
    /// `None` = the file does not say.
    calls: Option<Span>,
    node_runs: Option<Span>,
    /// A key of `limits` is not known: what is not stated may be what it means.
    misspelt: bool,
}

/// What a file is made of, once it is known to be a graph.
pub(crate) struct Parts {
    pub(crate) head: Head,
    pub(crate) serves: Option<Expr>,
    pub(crate) limits: Limits,
    pub(crate) places: Places,
    pub(crate) vars: Value,
    pub(crate) inputs: Vec<Given>,
    pub(crate) root: Graph,
    /// Nodes of the root that lead nowhere, of which the loader has told, as bits.
    pub(crate) astray: u64,
    /// The workflow to fall back on, once it is found.
    pub(crate) fallback: Option<Arc<Workflow>>,
}

impl Parts {
    /// Where the node stands that adds most to a sum, the first of several.
    fn of_most(&self, count: fn(&Node) -> u32) -> Span {
        let most = self.root.nodes.iter().rev().max_by_key(|n| count(n));
        most.map_or(self.head.span, |n| n.span)
    }

    /// Takes the workflows that it calls and falls back on.
    pub(crate) fn bind(&mut self, find: &dyn Fn(&str) -> Option<Arc<Workflow>>) {
        self.fallback = self.head.fallback.as_ref().and_then(|(name, _)| find(name));
        bind(&mut self.root, find);
    }
}

fn calls(r: &mut Reader<'_>, graph: &Graph) {
    for n in &graph.nodes {
        if let Some(c) = n.spec.get::<Call>() {
            c.check(r, n.span);
        }
        n.spec.bodies().into_iter().for_each(|g| calls(r, g));
    }
}

fn bind(graph: &mut Graph, find: &dyn Fn(&str) -> Option<Arc<Workflow>>) {
    for n in &mut graph.nodes {
        if let Some(c) = n.spec.get_mut::<Call>() {
            c.bind(find);
        }
        n.spec.bodies_mut().into_iter().for_each(|g| bind(g, find));
    }
}

/// A checked workflow: acyclic, every name known, every path answering.
#[derive(Debug)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// BLAKE3 of everything that changes what it does, 64 hex digits. Comments, titles and the order of
    /// keys do not change it.
    pub plan_hash: String,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Who answers for it, if the file says so.
    pub owner: Option<String>,
    /// What it is for, if it says so.
    pub description: Option<String>,
    /// What its author calls this state of it.
    pub revision: Option<String>,
    /// Its author's labels.
    pub labels: Vec<(String, String)>,
    /// Where its tests stand besides the usual folder: globs of paths, from the folder of its file.
    pub tests: Vec<String>,
    /// Its ceilings.
    pub limits: Limits,
    places: Places,
    /// When the journal of a run of it is written: as its file says, `sync` where it says nothing, and `sync` in
    /// the place of `none` where it may call an `unsafe` tool, which has to be on record before it goes out.
    pub durability: Durability,
    pub(crate) serves: Option<Expr>,
    pub(crate) best_so_far: bool,
    pub(crate) vars: Value,
    pub(crate) inputs: Vec<Given>,
    pub(crate) root: Graph,
    /// The ways along which an answer may flow to the client.
    pub(crate) chains: Vec<Chain>,
    /// The root as forecasts read it.
    pub(crate) forecast: forecast::Plan,
    pub(crate) fallback: Option<Arc<Workflow>>,
    /// The calls that it makes in any case.
    pub(crate) sure: Vec<Sure>,
    /// Who gives the answers of its own making.
    pub(crate) itself: Arc<Model>,
}

impl Workflow {
    /// The names of the constants that it declares, and that policies may set.
    pub fn vars(&self) -> impl Iterator<Item = &str> {
        self.vars.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let plan_hash = hash(&parts);
        let chains = chain::all(&parts.root);
        let forecast = forecast::Plan::of(&parts.root, !chains.is_empty());
        let itself = Arc::new(itself(&parts.head.name));
        let durability = durability(&parts);
        let sure = callers::sure(&parts.root);
        Workflow {
            name: parts.head.name,
            plan_hash,
            title: parts.head.title,
            owner: parts.head.owner,
            description: parts.head.description,
            revision: parts.head.revision,
            labels: parts.head.labels,
            tests: parts.head.tests,
            limits: parts.limits,
            places: parts.places,
            durability,
            serves: parts.serves,
            best_so_far: parts.head.best_so_far,
            vars: parts.vars,
            inputs: parts.inputs,
            root: parts.root,
            chains,
            forecast,
            fallback: parts.fallback,
            sure,
            itself,
        }
    }

    /// Whether it offers itself for a request; `None`: it runs only by name.
    ///
    /// # Errors
    /// Inside: the condition could not be evaluated, which is neither yes nor no.
    #[must_use]
    pub fn serves(&self, scope: &Scope) -> Option<Result<bool, expr::Error>> {
        let e = self.serves.as_ref()?;
        Some(if e.always() { Ok(true) } else { e.holds(scope) })
    }

    /// Whether it can be run with these inputs.
    ///
    /// # Errors
    /// The first input that is missing, unknown or not of its type.
    pub fn takes(&self, inputs: &Map<String, Value>) -> Result<(), String> {
        crate::load::bind(&self.inputs, inputs).map(|_| ())
    }

    /// Whether the router may choose it; otherwise it runs only by name.
    #[must_use]
    pub fn offers(&self) -> bool {
        self.serves.is_some()
    }

    /// Which of the router's candidates the node that gets one may take; `None` = none of its nodes gets one, and it is
    /// one arm by itself.
    #[must_use]
    pub fn primary_route(&self) -> Option<&Route> {
        self.root.nodes.iter().find_map(primary)
    }

    /// How its answer to a request reaches a client that streams, and why, in the words of records. What policies
    /// demand of the answer is left out.
    #[must_use]
    pub fn stream_mode(&self, request: &types::ChatRequest) -> String {
        crate::run::way(self, request, &[]).1
    }

    /// Whether a run of it for this request may have to wait for people or for the client's own tools, and can be
    /// gone on with later.
    #[must_use]
    pub fn may_wait(&self, request: &types::ChatRequest) -> bool {
        self.durability != Durability::None && self.waits(!request.tools.is_empty())
    }

    /// The same, whatever is kept of it.
    pub(crate) fn waits(&self, client_tools: bool) -> bool {
        let other = self.fallback.as_ref().is_some_and(|w| w.waits(client_tools));
        other || self.root.may_wait(client_tools)
    }

    /// Whether it may call a tool that changes the world each time it is called.
    pub(crate) fn is_unsafe(&self) -> bool {
        is_unsafe(&self.root, self.fallback.as_deref())
    }

    /// How its answer goes out as a stream: as the `stream` node of the straight way says, else the first one.
    #[must_use]
    pub fn wire(&self) -> crate::Wire {
        let chain = self.chains.first().map(|c| c.stream);
        let order = chain.into_iter().chain(self.root.topo.iter().copied());
        let mut sinks = order.filter_map(|i| self.root.nodes.get(i)?.spec.get::<Stream>());
        sinks.next().map(|s| s.wire).unwrap_or_default()
    }

    /// BLAKE3 of each node at the root, graphs of its own included, by its id. A run can go on under another
    /// plan only where the nodes that have resolved are the same in it.
    #[must_use]
    pub fn node_hashes(&self) -> std::collections::BTreeMap<String, String> {
        let nodes = self.root.nodes.iter();
        nodes.map(|n| (n.id.to_string(), crate::world::digest(&n.canonical()))).collect()
    }

    /// `WF402`: all its calls together may cost more than its limit of money allows. `worst`: what they cost at
    /// most, as who knows the prices says.
    #[must_use]
    pub fn over_limit(&self, worst: Usd, file: &SourceFile) -> Option<Diagnostic> {
        let limit = self.limits.usd.filter(|l| worst > *l)?;
        let message = format!("its calls may cost up to {worst} USD, `limits.usd` is {limit}");
        let hint = "raise limits.usd, lower samples or attempts, or take cheaper models: at the limit a run ends with \
                    the best answer it has, or fails";
        let d = Diagnostic::warning("WF402", file, self.places.usd, message);
        Some(d.field("limits.usd").hint(hint))
    }

    /// Most calls that its nodes can ask for in one run, where each is answered at its first attempt: the sum over
    /// all nodes, branches that exclude each other and the workflow that it falls back on included.
    #[must_use]
    pub fn max_calls(&self) -> u32 {
        most_of(&self.root, self.fallback.as_deref(), Graph::max_calls)
    }
}

fn durability(parts: &Parts) -> Durability {
    match parts.head.durability {
        Some(Durability::None) if is_unsafe(&parts.root, parts.fallback.as_deref()) => Durability::Sync,
        said => said.unwrap_or_default(),
    }
}

/// Whether a graph, or the workflow that takes over where it fails, may call an `unsafe` tool.
fn is_unsafe(root: &Graph, fallback: Option<&Workflow>) -> bool {
    root.is_unsafe() || fallback.is_some_and(Workflow::is_unsafe)
}

/// Of a graph, and of that of the workflow that takes over where it fails.
fn most_of(root: &Graph, fallback: Option<&Workflow>, count: fn(&Graph) -> u32) -> u32 {
    count(root).saturating_add(fallback.map_or(0, |w| count(&w.root)))
}

/// The route of the node that gets the router's candidate, if that is this one or one within it.
fn primary(n: &Node) -> Option<&Route> {
    let own = n.spec.get::<Generate>().filter(|g| g.is_primary()).map(|g| &*g.route);
    own.or_else(|| n.spec.bodies().into_iter().find_map(|g| g.nodes.iter().find_map(primary)))
}

/// What stands in the place of a model where the workflow itself has made an answer.
fn itself(name: &str) -> Model {
    Model {
        family: "none".to_owned(),
        price: Some(Price::new(0.0, 0.0)),
        quality_tier: 1,
        speed_tier: 1,
        enabled: false,
        ..Model::new(format!("workflow/{name}"), usize::MAX, (0, 0))
    }
}

/// More calls or node runs than the limits allow (`WF401`), which is so whatever else is wrong with the file.
pub(crate) fn bounds(r: &mut Reader<'_>, parts: &Parts) {
    let fallback = parts.fallback.as_deref();
    let Places { calls, node_runs, misspelt, .. } = parts.places;
    let most = most_of(&parts.root, fallback, Graph::max_calls);
    let limit = parts.limits.calls;
    if most > limit && (calls.is_some() || !misspelt) {
        let message = format!("its nodes may ask for {most} calls, `limits.calls` is {limit}");
        let d = r.error("401", calls.unwrap_or_else(|| parts.of_most(Node::max_calls)), message);
        "limits.calls".clone_into(&mut d.field);
        d.hint = Some(format!("set limits.calls to {most}, or lower samples and attempts"));
    }
    let runs = most_of(&parts.root, fallback, Graph::max_runs);
    let limit = parts.limits.node_runs;
    if runs > limit && (node_runs.is_some() || !misspelt) {
        let message = format!("its nodes may run {runs} times, `limits.node_runs` is {limit}");
        let d = r.error("401", node_runs.unwrap_or_else(|| parts.of_most(Node::max_runs)), message);
        "limits.node_runs".clone_into(&mut d.field);
        d.hint =
            Some(format!("set limits.node_runs to {runs} (at most 2000), or lower the bounds of its loops"));
    }
}

/// Checks of the plan: `WF401`, `WF403`, `WF411`, and `primary` given twice.
pub(crate) fn check(r: &mut Reader<'_>, parts: &Parts) {
    calls(r, &parts.root);
    let fallback = parts.fallback.as_deref();
    let asks = parts.root.may_wait(false) || fallback.is_some_and(|w| w.waits(false));
    if asks && parts.head.durability == Some(Durability::None) {
        let message =
            "a `gate` waits for somebody, and of a run with `durability: none` nothing is kept until then";
        let d = r.error("104", parts.head.durability_at, message.to_owned());
        "durability".clone_into(&mut d.field);
        d.expected = Some("`sync`, `async` or `exit`, or no `gate`".to_owned());
    }
    bounds(r, parts);
    let most = most_of(&parts.root, fallback, Graph::max_calls);
    let tries = most_of(&parts.root, fallback, Graph::max_tries);
    if tries > parts.limits.calls && most <= parts.limits.calls {
        let most = parts.limits.calls;
        let message =
            format!("with what `retry` says its nodes may make {tries} calls, `limits.calls` is {most}");
        let at = parts.places.calls.unwrap_or_else(|| parts.of_most(Node::max_tries));
        let d = r.warning("401", at, message);
        "limits.calls".clone_into(&mut d.field);
        d.hint =
            Some(format!("set limits.calls to {tries}, or lower retry.max_attempts: every attempt counts"));
    }
    let longest = longest::of(&parts.root);
    if let Some(wall) = parts.limits.wall.filter(|w| longest.time > *w) {
        let (time, told) = (longest.time, longest.told());
        let message =
            format!("the longest way through it takes up to {time:?} ({told}), `limits.wall` is {wall:?}");
        let d = r.warning("403", parts.places.wall, message);
        "limits.wall".clone_into(&mut d.field);
        d.hint = Some(format!("set limits.wall to {time:?}, or shorten a timeout on the way"));
    }
    let all: Vec<&Node> = parts.root.nodes.iter().filter(|n| primary(n).is_some()).collect();
    if let [first, second, ..] = all.as_slice() {
        let message = format!("`{}` and `{}` both say `primary: true`", first.id, second.id);
        r.error("104", second.span, message).expected = Some("at most one primary node".to_owned());
    }
    let chains = chain::all(&parts.root);
    for (i, n) in parts.root.nodes.iter().enumerate() {
        let flows = n.spec.get::<Stream>().map(|s| s.mode).filter(|m| m.flows());
        if let Some(mode) = flows.filter(|_| chains.iter().all(|c| c.stream != i)) {
            let mode = mode.as_str();
            r.error("411", n.span, format!("`{}` cannot be `{mode}`", n.id)).hint = Some(format!(
                "{mode} needs a straight way from one generate node with one sample; use `auto`"
            ));
        }
        let windows = chains.iter().filter(|c| c.stream == i && flows == Some(Mode::Windowed));
        if let Some((check, at)) = windows.flat_map(|c| c.waiting(&parts.root)).next() {
            let message =
                format!("`{}` cannot be `windowed` behind `{at}`: `{check}` needs the whole answer", n.id);
            r.error("411", n.span, message).hint =
                Some("use `auto`, or `severity: warn` for that check".to_owned());
        }
    }
}

fn hash(parts: &Parts) -> String {
    let plan = json!({
        "name": parts.head.name, "serves": parts.serves.as_ref().map(Expr::source),
        "limits": unusual(&parts.limits), "best_so_far": parts.head.best_so_far,
        "durability": parts.head.durability.map(Durability::as_str),
        "fallback": parts.fallback.as_ref().map(|w| &w.plan_hash),
        "inputs": parts.inputs.iter().map(Given::canonical).collect::<Vec<_>>(),
        "vars": parts.vars, "root": parts.root.canonical(),
    });
    blake3::hash(sorted(&plan).to_string().as_bytes()).to_hex().to_string()
}
