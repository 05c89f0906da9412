//! `map`: runs a graph once for each item of a list, several at a time.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Resolved, Spec, count};
use crate::ending::{Class, RunFailure, Suspension};
use crate::graph::Graph;
use crate::load::{Cx, Expr, body};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::Ref;
use crate::run::{At, End, walk};
use crate::value::Value;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Ok, Outcome::Partial],
    words: &["ok", "partial", "error", "timeout", "cancelled", "skipped"],
    // Its nodes have times of their own, and the run has one.
    timeout: Duration::from_secs(3600),
    outputs: |_| {
        vec![
            Out::data("results", Type::Any.list()),
            Out::data("ok_count", Type::Int),
            Out::data("failed", failed()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Map(Box::new(Map::lower(cx, f))))
};

/// The errors of the items that have failed, each with the place of its item.
fn failed() -> Type {
    match RunFailure::ty() {
        Type::Map(mut members) => {
            members.push(("index".to_owned(), Type::Int));
            Type::Map(members).list()
        }
        other => other.list(),
    }
}

/// What a file says of it.
#[derive(Debug)]
pub(crate) struct Map {
    over: Option<Expr>,
    item: Arc<str>,
    max_items: u32,
    truncate: bool,
    parallel: u32,
    min_ok: Option<u32>,
    body: Graph,
    result: Option<Ref>,
}

/// Whether there can be a list behind it; one that may be missing can.
fn may_be_list(t: &Type) -> bool {
    match t {
        Type::Optional(of) => may_be_list(of),
        Type::List(_) | Type::Any => true,
        Type::Bool | Type::Int | Type::Float | Type::Map(_) => false,
        Type::Str | Type::Enum(_) | Type::OneOf(_) => false,
    }
}

/// What such a list holds.
fn element(t: Type) -> Type {
    match t {
        Type::Optional(of) => element(*of),
        Type::List(of) => *of,
        _ => Type::Any,
    }
}

/// A type that is no list, in words.
fn kind(t: &Type) -> &'static str {
    match t {
        Type::Optional(of) => kind(of),
        Type::Bool => "true or false",
        Type::Int | Type::Float => "a number",
        Type::Str | Type::Enum(_) | Type::OneOf(_) => "a text",
        Type::Map(_) => "a map",
        Type::List(_) | Type::Any => "a list",
    }
}

/// Names that expressions know already.
const RESERVED: &[&str] =
    &["nodes", "vars", "inputs", "carry", "loop", "limits", "spent", "remaining", "run"];

/// How one item ended.
enum Item {
    Ok(Value),
    Failed(RunFailure),
    Suspended(Vec<Suspension>),
    /// The whole run ends.
    End(End),
}

impl Map {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let over = f.require(&mut cx.r, "over").and_then(|n| cx.expr(n, &f.at("over"), None, &[]));
        if let Some(e) = over.as_ref().filter(|e| !may_be_list(&e.ty())) {
            let d = cx.r.error("302", e.span, format!("`over` gives {}", kind(&e.ty())));
            d.expected = Some("a list".to_owned());
            d.field = f.at("over");
        }
        let item = f.take("as").and_then(|n| {
            let name = cx.r.ident(n, &f.at("as"))?;
            if RESERVED.contains(&name.as_str()) || cx.variable(&name).is_some() {
                cx.r.error("104", n.span, format!("`{name}` is the name of something else here"));
            }
            Some(name)
        });
        let item = item.unwrap_or_else(|| "item".to_owned());
        let stated = match f.require(&mut cx.r, "max_items").map(|n| &n.value) {
            Some(doc::Value::Int(n)) if (1..=64).contains(n) => *n,
            _ => 64,
        };
        let max_items = count(cx, f, "max_items", (1, 64), 1);
        let truncate =
            f.take("overflow").and_then(|n| cx.r.one_of(n, &f.at("overflow"), &["error", "truncate"]))
                == Some("truncate");
        let parallel = count(cx, f, "parallel", (1, 16), 4);
        let min_ok = f
            .take("min_ok")
            .and_then(|n| cx.r.integer(n, &f.at("min_ok"), 0, stated))
            .and_then(|n| u32::try_from(n).ok());
        let found = f.require(&mut cx.r, "body").and_then(|n| {
            let locals = vec![(item.clone(), over.as_ref().map_or(Type::Any, |e| element(e.ty())))];
            body(cx, n, &f.at("body"), locals, |cx, b| {
                b.require(&mut cx.r, "result").and_then(|n| Ref::lower(cx, n, &b.at("result")))
            })
        });
        let (body, result) = found.unwrap_or_default();
        Map { over, item: item.into(), max_items, truncate, parallel, min_ok, body, result }
    }

    fn items(&self, at: &At<'_>) -> Result<Vec<Value>, Fault> {
        let value = self.over.as_ref().map(|e| at.eval(e)).transpose()?.unwrap_or_default();
        let mut items = match value.items(&at.host.table()) {
            Some(items) => items,
            None => {
                let message = format!("`over` of node `{}` is no list", at.node.id);
                return Err(RunFailure::new(Class::Expression, "type", message).into());
            }
        };
        let most = usize::try_from(self.max_items).unwrap_or(usize::MAX);
        if items.len() > most {
            if !self.truncate {
                let message = format!("node `{}` got {} items; at most {most}", at.node.id, items.len());
                return Err(RunFailure::new(Class::Validation, "too_many_items", message).into());
            }
            items.truncate(most);
        }
        Ok(items)
    }

    async fn one(&self, at: &At<'_>, index: u32, value: Value) -> Item {
        let frame = at.child(&self.body, Some(index), vec![(self.item.clone(), value)]);
        match walk(at.host, &frame).await {
            None => Item::Ok(self.result.as_ref().map(|r| frame.value(r, at.host)).unwrap_or_default()),
            Some(End::Broken(f)) => Item::Failed(f),
            Some(End::Suspended(s)) => Item::Suspended(s),
            Some(end) => Item::End(end),
        }
    }

    async fn run(&self, at: At<'_>, items: Vec<Value>) -> NodeResult {
        let total = items.len();
        let mut results = vec![Value::Nothing; total];
        let (mut failed, mut suspended) = (Vec::new(), Vec::new());
        let mut waiting = items.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        let start = |(i, value): (usize, Value)| {
            let index = u32::try_from(i).unwrap_or(u32::MAX);
            let at = &at;
            async move { (i, self.one(at, index, value).await) }
        };
        running.extend(waiting.by_ref().take(usize::try_from(self.parallel).unwrap_or(1)).map(start));
        while let Some((i, item)) = running.next().await {
            match item {
                Item::Ok(value) => {
                    if let Some(r) = results.get_mut(i) {
                        *r = value;
                    }
                }
                Item::Failed(f) => failed.push((i, f)),
                Item::Suspended(s) => suspended.extend(s),
                Item::End(end) => {
                    let end = Some(Box::new(end));
                    return Ok(Resolved { end, ..Resolved::plain(Outcome::Error) });
                }
            }
            running.extend(waiting.next().map(start));
        }
        if !suspended.is_empty() {
            return Err(Fault::Suspended(suspended));
        }
        self.ended(results, failed, total)
    }

    fn ended(&self, results: Vec<Value>, mut failed: Vec<(usize, RunFailure)>, total: usize) -> NodeResult {
        failed.sort_by_key(|(i, _)| *i);
        let ok = total.saturating_sub(failed.len());
        let least = self.min_ok.and_then(|n| usize::try_from(n).ok()).unwrap_or(total);
        let enough = ok >= least.min(total);
        let error = |(i, f): &(usize, RunFailure)| {
            let mut error = f.as_json();
            if let Some(members) = error.as_object_mut() {
                members.insert("index".to_owned(), json!(i));
            }
            error
        };
        let errors: Vec<Json> = failed.iter().map(error).collect();
        let mut failed = failed.into_iter().map(|(_, f)| f);
        match failed.next() {
            Some(first) if !enough => Err(first.beside(failed).into()),
            first => {
                let outcome = if first.is_none() { Outcome::Ok } else { Outcome::Partial };
                let outputs = vec![Value::List(results), Value::count(ok), Value::list(&errors)];
                Ok(Resolved::with(outcome, outputs).note(format!("{ok} of {total}")))
            }
        }
    }
}

impl Spec for Map {
    fn canonical(&self) -> Json {
        json!({
            "over": self.over.as_ref().map(Expr::source), "as": &*self.item, "max_items": self.max_items,
            "truncate": self.truncate, "parallel": self.parallel, "min_ok": self.min_ok,
            "result": self.result.as_ref().map(Ref::canonical),
        })
    }

    fn given(&self, outputs: &mut serde_json::Map<String, Json>) -> Result<Outcome, String> {
        let failed = outputs.get("failed").and_then(Json::as_array).is_some_and(|f| !f.is_empty());
        Ok(if failed { Outcome::Partial } else { Outcome::Ok })
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.over.iter().collect()
    }

    fn possible(&self) -> Option<OutcomeSet> {
        self.min_ok.is_none().then(|| OutcomeSet::of(&[Outcome::Ok]))
    }

    fn max_calls(&self) -> u32 {
        self.body.max_calls().saturating_mul(self.max_items)
    }

    fn max_runs(&self) -> u32 {
        self.body.max_runs().saturating_mul(self.max_items)
    }

    fn rounds(&self) -> u32 {
        self.max_items.div_ceil(self.parallel.max(1))
    }

    fn bodies(&self) -> Vec<&Graph> {
        vec![&self.body]
    }

    fn bodies_mut(&mut self) -> Vec<&mut Graph> {
        vec![&mut self.body]
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        match self.items(&at) {
            Ok(items) => Begun::waits(self.run(at, items)),
            Err(fault) => Begun::Done(Err(fault)),
        }
    }
}
