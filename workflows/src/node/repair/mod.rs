//! `repair`: the validate-and-fix loop in one node.

use super::validate::Suite;
use super::{Begun, NodeKind, NodeSpec, NodeType, Out, Read, Resolved, Spec, count};
use crate::canonical::unusual;
use crate::load::{Checks, Cx, Expr, Prompt, outside};
use crate::node::validate::Validate;
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::route::Route;
use crate::run::{At, Origin, RowId, Table};
use crate::value::{self, Ty, Value, finding};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::chat::Role;
use types::doc::{self, Fields};
use types::expr::Type;
pub(crate) use types::repair::Strategy;
use types::{Finding, Verdict};

mod machine;
mod mend;
mod prompt;

use machine::{Repaired, Start};

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Repaired, Outcome::Exhausted],
    words: &["repaired", "exhausted", "error", "timeout", "cancelled", "skipped"],
    // It makes up to four calls, each of which ends by itself.
    timeout: Duration::from_secs(120),
    retries: true,
    tells_of_checks: true,
    goes_by_checks: true,
    outputs: |_| {
        vec![
            Out::new("completion", Ty::Completion),
            Out::data("attempts", Type::Int),
            Out::data("strategy", Type::Enum(Strategy::NAMES).optional()),
            Out::data("findings", finding().list()),
            Out::data("history", tried().list()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Repair(Box::new(Repair::lower(cx, f))))
};

/// What is tried where nobody says what.
const USUAL: &[Strategy] = &[Strategy::Fix, Strategy::Reprompt, Strategy::Structured, Strategy::Escalate];
/// Model calls where nobody says how many.
const USUAL_ATTEMPTS: u32 = 2;

/// Where an escalation goes that names no route.
fn next_tier() -> Route {
    Route { min_tier: Some(2), ..Route::default() }
}

/// What expressions can read of one thing that was tried.
fn tried() -> Type {
    Type::map([
        ("strategy", Type::Enum(Strategy::NAMES)),
        ("model", Type::Str.optional()),
        ("findings", finding().list()),
        ("cost_usd", Type::Float),
    ])
}

/// What to do when nothing passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum OnExhausted {
    Outcome,
    Best,
    Fail,
}

/// A step of the ladder that calls a model.
#[derive(Clone, Debug)]
pub(crate) struct Rung {
    pub(crate) strategy: Strategy,
    /// For `escalate`: which models. `None` takes one tier above the model that failed.
    pub(crate) route: Option<Arc<Route>>,
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Repair {
    /// The `validate` node whose checks it uses.
    pub(crate) from: Option<usize>,
    /// Filled in by the loader: `nodes.<from>.best` where the file leaves it out.
    pub(crate) input: Vec<Ref>,
    /// Its own checks; `None` = those of `from`.
    pub(crate) checks: Option<Checks>,
    pub(crate) max_attempts: u32,
    /// Local repair is tried first, and after every answer.
    pub(crate) fix: bool,
    pub(crate) ladder: Vec<Rung>,
    /// The file's prompts that are named after validators.
    pub(crate) rewrites: Vec<(String, Prompt)>,
    feedback: prompt::Bounds,
    on_exhausted: OnExhausted,
    /// The route that a forecast takes for an escalation without one of its own.
    pub(crate) next_tier: Route,
}

impl Repair {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let span = f.span;
        let from_node = f.take("from");
        let from = from_node.and_then(|n| from(cx, n, &f.at("from")));
        let input = f.take("input").map(|n| Ref::lower_list(cx, n, &f.at("input"))).unwrap_or_default();
        let own = f.take("validators");
        let mut labels = own.map(|n| Checks::labels(cx, n)).unwrap_or_default();
        labels.extend(from.and_then(|i| cx.named(i)).into_iter().flat_map(|n| n.checks.clone()));
        let checks = own.map(|n| Checks::lower_some(cx, n, &f.at("validators")));
        if from_node.is_none() && (input.is_empty() || checks.is_none()) {
            cx.r.error("102", span, "`from` is missing").expected =
                Some("the id of a validate node, or `input` and `validators`".to_owned());
        }
        let max_attempts = count(cx, f, "max_attempts", (1, 4), USUAL_ATTEMPTS);
        let strategies =
            f.take("strategies").map_or_else(|| USUAL.to_vec(), |n| strategies(cx, n, &f.at("strategies")));
        let rewrites = rewrites(cx, span, strategies.contains(&Strategy::Rewrite), labels);
        let routes: Vec<Arc<Route>> = match f.take("escalate") {
            None => Vec::new(),
            Some(n) => {
                let at = f.at("escalate");
                let list = cx.r.list(n, &at).unwrap_or(&[]);
                list.iter().map(|n| Arc::new(Route::lower(cx, n, &at))).collect()
            }
        };
        let feedback =
            f.take("feedback").map(|n| prompt::Bounds::lower(cx, n, &f.at("feedback"))).unwrap_or_default();
        let on_exhausted = f.take("on_exhausted").map_or(OnExhausted::Outcome, |n| {
            match cx.r.one_of(n, &f.at("on_exhausted"), &["outcome", "best", "fail"]) {
                Some("best") => OnExhausted::Best,
                Some("fail") => OnExhausted::Fail,
                _ => OnExhausted::Outcome,
            }
        });
        Repair {
            from,
            input,
            checks,
            max_attempts,
            fix: strategies.contains(&Strategy::Fix),
            ladder: ladder(&strategies, &routes),
            rewrites,
            feedback,
            on_exhausted,
            next_tier: next_tier(),
        }
    }

    /// That of a workflow which checks nothing, for what policies demand: as a node that says nothing of how. What does not
    /// pass in the end goes out with its verdict, unless it must not.
    fn of_demands() -> Self {
        Repair {
            from: None,
            input: Vec::new(),
            checks: None,
            max_attempts: USUAL_ATTEMPTS,
            fix: true,
            ladder: ladder(USUAL, &[]),
            rewrites: Vec::new(),
            feedback: prompt::Bounds::default(),
            on_exhausted: OnExhausted::Best,
            next_tier: next_tier(),
        }
    }

    /// Whether an answer that cannot pass may be stopped before its end.
    pub(crate) fn stops_early(&self) -> bool {
        self.on_exhausted != OnExhausted::Best
    }

    /// The checks it goes by, and whether those that policies demand are among them.
    fn checks<'a>(&self, at: &At<'a>) -> (Suite<'a>, bool) {
        if let Some(own) = &self.checks {
            return (Suite::of(at, own, false), false);
        }
        let from = self.from.and_then(|f| at.frame.graph.nodes.get(f)).and_then(|n| n.spec.get::<Validate>());
        let Some(v) = from else {
            return (Suite::of(at, &Checks::default(), false), false);
        };
        (Suite::of_node(at, v), v.last)
    }

    /// What it starts from: of several answers one that does not fail, else the one that least is against; of equals the
    /// first. Its own checks have a look at each of them before; those of `from` had it already.
    async fn assess(&self, at: &At<'_>, checks: &Suite<'_>, rows: &[RowId]) -> Option<Start> {
        let mut all: Vec<Start> = {
            let table = at.host.table();
            rows.iter().filter_map(|id| start_from(&table, *id)).collect()
        };
        if self.checks.is_some() {
            let own = all.iter_mut().filter(|s| !s.doomed);
            join_all(own.map(async |s| s.checked = checks.check(&s.completion).await)).await;
            let mut table = at.host.table();
            for s in all.iter().filter(|s| !s.doomed) {
                if let Some(row) = table.row_mut(s.id) {
                    row.join(s.checked.clone());
                }
            }
        }
        let against = |s: &Start| (s.doomed, s.checked.report.verdict == Verdict::Failed);
        let weight = |s: &Start| machine::weight(&s.checked.report.findings);
        all.into_iter().min_by(|a, b| against(a).cmp(&against(b)).then(weight(a).total_cmp(&weight(b))))
    }

    /// The repaired completion becomes one of the run.
    fn finish(&self, done: Repaired, at: &At<'_>, table: &mut Table, extras: bool) -> Resolved {
        let mut findings: Vec<Finding> = done.findings;
        let history: Vec<Json> = done
            .history
            .iter()
            .map(|t| {
                json!({"strategy": t.strategy.as_str(), "model": t.model.as_deref(),
                    "findings": value::findings(&t.findings), "cost_usd": t.cost.dollars()})
            })
            .collect();
        let mut strategy = None;
        let id = match done.answer {
            None => done.unchanged,
            Some(found) => {
                strategy = Some(found.strategy.as_str());
                let attempt = done.attempts.max(1);
                let origin =
                    Origin { strategy, parents: vec![done.start], ..Origin::of(&at.path, 0, attempt) };
                let id = table.add(found.answer, origin);
                if let Some(row) = table.row_mut(id) {
                    row.join(found.checked);
                    row.extras = extras;
                    findings.clone_from(&row.findings);
                }
                Some(id)
            }
        };
        let outcome = match id {
            // By the checks of this node: what others have said of the answer stands in its verdict.
            Some(_) if done.passed => Outcome::Repaired,
            _ if self.on_exhausted == OnExhausted::Fail => Outcome::Error,
            _ => Outcome::Exhausted,
        };
        let given = outcome == Outcome::Repaired || self.on_exhausted == OnExhausted::Best;
        let outputs = vec![
            Value::row(id.filter(|_| given)),
            Value::Int(i64::from(done.attempts)),
            strategy.map_or(Value::Nothing, |s| Value::Text(s.into())),
            Value::list(&value::findings(&findings)),
            Value::list(&history),
        ];
        Resolved { findings, note: Some(done.note), ..Resolved::with(outcome, outputs) }
    }
}

impl Spec for Repair {
    fn canonical(&self) -> Json {
        let input: Vec<&str> = self.input.iter().map(Ref::canonical).collect();
        let ladder: Vec<Json> = self
            .ladder
            .iter()
            .map(|r| json!([r.strategy.as_str(), r.route.as_ref().map(|r| r.canonical())]))
            .collect();
        json!({
            "from": self.from, "input": input, "checks": self.checks.as_ref().map(|c| &c.canonical),
            "max_attempts": self.max_attempts, "fix": self.fix, "ladder": ladder,
            "rewrites": self.rewrites.iter().map(|(n, p)| json!([n, p.canonical()])).collect::<Vec<_>>(),
            "feedback": unusual(&self.feedback), "on_exhausted": self.on_exhausted,
        })
    }

    fn given(&self, _: &mut Map<String, Json>) -> Result<Outcome, String> {
        // No file can hold the completion that a repair is for.
        Ok(Outcome::Exhausted)
    }

    fn reads(&self) -> Vec<Read<'_>> {
        let own = self.input.iter().map(|reference| Read { reference, may_be_absent: false });
        let routes = self.ladder.iter().filter_map(|r| r.route.as_ref()).flat_map(|r| r.reads());
        own.chain(routes).chain(self.checks.iter().flat_map(Checks::reads)).collect()
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.rewrites.iter().flat_map(|(_, p)| p.exprs()).collect()
    }

    fn routes(&self) -> Vec<&Route> {
        let escalates = |r: &&Rung| r.strategy == Strategy::Escalate;
        self.ladder.iter().filter(escalates).map(|r| r.route.as_deref().unwrap_or(&self.next_tier)).collect()
    }

    fn max_calls(&self) -> u32 {
        // No more than there are rungs.
        self.max_attempts.min(u32::try_from(self.ladder.len()).unwrap_or(u32::MAX))
    }

    fn max_again(&self) -> u32 {
        // What is watched is read as a stream, which may be lost.
        if self.stops_early() { self.max_calls() } else { 0 }
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let rows = at.rows(&self.input);
        if rows.is_empty() {
            // Without anything to repair.
            return Begun::done(Resolved::plain(Outcome::Exhausted));
        }
        Begun::waits(async move {
            let (checks, extras) = self.checks(&at);
            let Some(start) = self.assess(&at, &checks, &rows).await else {
                return Ok(Resolved::plain(Outcome::Exhausted));
            };
            let done = machine::run(self, &at, &checks, start).await;
            Ok(self.finish(done, &at, &mut at.host.table(), extras))
        })
    }
}

/// What a repair can start from.
fn start_from(table: &Table, id: RowId) -> Option<Start> {
    let row = table.row(id)?;
    let (completion, model, asked) = (row.completion.clone(), row.model.clone(), row.asked.clone());
    Some(Start { id, completion, model, asked, checked: row.checked(), doomed: row.doomed })
}

/// Repairs an answer that fails what policies demand and no node before delivery has checked; gives the better one.
pub(crate) async fn of_demands(at: &At<'_>, id: RowId) -> RowId {
    let Some(start) = start_from(&at.host.table(), id) else { return id };
    let (spec, checks) = (Repair::of_demands(), Suite::of(at, &Checks::default(), true));
    let done = machine::run(&spec, at, &checks, start).await;
    let resolved = spec.finish(done, at, &mut at.host.table(), true);
    match resolved.outputs.first() {
        Some(Value::Row(better)) => *better,
        _ => id,
    }
}

fn from(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<usize> {
    let id = cx.r.string(n, path)?;
    let is_validate = |p: &usize| cx.named(*p).is_some_and(|n| n.kind == Some(NodeKind::Validate));
    let found = cx.position(&id).filter(is_validate);
    if found.is_none() {
        let of_type = cx.nodes().iter().filter(|n| n.kind == Some(NodeKind::Validate));
        let known: Vec<String> = of_type.map(|n| n.id.clone()).collect();
        let hint = types::diagnostic::suggestion(&id, known.iter().map(String::as_str));
        let d = cx.r.error("301", n.span, format!("`{id}` is no validate node"));
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
    }
    found
}

fn strategies(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<Strategy> {
    let list = cx.some_of(n, path, "one strategy at least, such as fix or reprompt").unwrap_or(&[]);
    list.iter().filter_map(|n| cx.r.one_of(n, path, Strategy::NAMES).and_then(Strategy::of)).collect()
}

/// The file's prompts that are named after checks, for the strategy `rewrite`: after what a list calls one of its own, or
/// after what it is.
fn rewrites(cx: &mut Cx<'_>, span: doc::Span, wanted: bool, mut names: Vec<String>) -> Vec<(String, Prompt)> {
    if !wanted {
        return Vec::new();
    }
    for name in validators::NAMES.iter().chain(outside::NAMES) {
        if !names.iter().any(|n| n == name) {
            names.push((*name).to_owned());
        }
    }
    let named: Vec<(String, doc::Node)> =
        names.into_iter().filter_map(|name| Some((name.clone(), cx.own_prompt(&name)?))).collect();
    if named.is_empty() {
        cx.r.error("206", span, "`rewrite` has no prompt: none is named after a validator").hint =
            Some("add one under `prompts`, such as `json_schema: \"…\"`".to_owned());
    }
    named.into_iter().map(|(name, n)| (name, Prompt::lower(cx, &n, "prompts", Role::System))).collect()
}

/// `escalate` stands for one rung per route given.
fn ladder(strategies: &[Strategy], routes: &[Arc<Route>]) -> Vec<Rung> {
    let mut ladder = Vec::new();
    for s in strategies.iter().copied().filter(|s| *s != Strategy::Fix) {
        if s == Strategy::Escalate && !routes.is_empty() {
            ladder.extend(routes.iter().map(|r| Rung { strategy: s, route: Some(r.clone()) }));
        } else {
            ladder.push(Rung { strategy: s, route: None });
        }
    }
    ladder
}
