//! `loop`: runs a graph again and again, a bounded number of times.

use super::{Begun, Fault, NodeKind, NodeResult, NodeSpec, NodeType, Out, Resolved, Spec, count};
use crate::ending::{Class, RunFailure};
use crate::graph::Graph;
use crate::load::{Cx, Expr, body};
use crate::outcome::{Outcome, OutcomeSet};
use crate::run::{At, End, walk};
use crate::value::{Ty, Value};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Done, Outcome::Exhausted],
    words: &["done", "exhausted", "error", "timeout", "cancelled", "skipped"],
    // Its nodes have times of their own, and the run has one.
    timeout: Duration::from_secs(3600),
    outputs: |n| {
        vec![
            Out::new("last", Ty::Nodes(body_nodes(n))),
            Out::data("carry", carry_type(n.get("carry"))),
            Out::data("iterations", Type::Int),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Loop(Box::new(Loop::lower(cx, f))))
};

/// A value that goes from one iteration to the next.
#[derive(Clone, Debug)]
struct Carried {
    name: Arc<str>,
    init: Expr,
    next: Expr,
}

/// The name of a carried value, and what it begins with.
type Begins = (Arc<str>, Option<Expr>);

/// What a file says of it.
#[derive(Debug)]
pub(crate) struct Loop {
    max_iterations: u32,
    carry: Vec<Carried>,
    until: Option<Expr>,
    while_: Option<Expr>,
    fails: bool,
    body: Graph,
}

/// What the nodes of the body put out, by their ids; `None` where the type of one is wrong.
fn body_nodes(n: &doc::Node) -> Vec<(String, Option<Vec<Out>>)> {
    let nodes = match n.get("body").and_then(|b| b.get("nodes")).map(|n| &n.value) {
        Some(doc::Value::List(l)) => l.as_slice(),
        _ => &[],
    };
    let outputs =
        |n: &doc::Node| n.get("type")?.as_str().and_then(NodeKind::parse).map(|k| (k.node_type().outputs)(n));
    nodes.iter().filter_map(|n| Some((n.get("id")?.as_str()?.to_owned(), outputs(n)))).collect()
}

/// The types of what is carried, where its beginning and what follows are of one kind; where they are numbers, texts or
/// flags of two kinds, what follows is wrong.
fn carried_type(cx: &mut Cx<'_>, inits: &[Begins], nexts: &[Option<Expr>]) -> Type {
    let mut members = Vec::new();
    for ((name, init), next) in inits.iter().zip(nexts) {
        let kinds =
            init.as_ref().zip(next.as_ref()).and_then(|(i, n)| Some((scalar(&i.ty())?, scalar(&n.ty())?, n)));
        let ty = match kinds {
            Some((a, b, _)) if a == b => a,
            Some((Type::Int, Type::Float, _) | (Type::Float, Type::Int, _)) => Type::Float,
            Some((a, b, next)) => {
                let message = format!("`carry.{name}` begins as {} and goes on as {}", word(&a), word(&b));
                let d = cx.r.error("302", next.span, message);
                d.hint = Some("let `init` and `next` give values of one kind".to_owned());
                Type::Any
            }
            None => Type::Any,
        };
        members.push((name.to_string(), ty));
    }
    Type::Map(members)
}

/// A type of single values that never change their kind.
fn scalar(t: &Type) -> Option<Type> {
    match t {
        Type::Enum(_) | Type::OneOf(_) | Type::Str => Some(Type::Str),
        Type::Bool | Type::Int | Type::Float => Some(t.clone()),
        _ => None,
    }
}

const fn word(t: &Type) -> &'static str {
    match t {
        Type::Bool => "true or false",
        Type::Str => "a text",
        _ => "a number",
    }
}

/// The variable `carry` as the expression reads it that says how a value goes on: of a single value, that is what it
/// begins with. `None` where it does not read it.
fn own_type(n: &doc::Node, all: Type, name: &str, init: Option<&Expr>) -> Option<(&'static str, Type)> {
    let begins = scalar(&init?.ty())?;
    let reads = n.as_str().is_some_and(|s| s.contains(&format!("carry.{name}")));
    let of = |(other, t): (String, Type)| if other == name { (other, begins.clone()) } else { (other, t) };
    let Type::Map(all) = all else { return None };
    reads.then(|| ("carry", Type::Map(all.into_iter().map(of).collect())))
}

fn carry_type(n: Option<&doc::Node>) -> Type {
    let members = match n.map(|n| &n.value) {
        Some(doc::Value::Map(m)) => m.as_slice(),
        _ => &[],
    };
    let named = members.iter().filter(|(k, _)| !k.is_note());
    Type::Map(named.map(|(k, _)| (k.name.clone(), Type::Any)).collect())
}

impl Loop {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        f.require(&mut cx.r, "max_iterations");
        let max_iterations = count(cx, f, "max_iterations", (1, 32), 1);
        let carry_node = f.take("carry");
        let at = f.at("carry");
        let mut inits = Vec::new();
        let mut nexts = Vec::new();
        for (k, n) in carry_node.map(|n| cx.r.names(n, &at)).unwrap_or_default() {
            let Some(mut c) = cx.r.fields(n, &format!("{at}.{}", k.name)) else { continue };
            let init = c.require(&mut cx.r, "init").and_then(|n| cx.expr(n, &c.at("init"), None, &[]));
            let next = c.require(&mut cx.r, "next").map(|n| (n, c.at("next")));
            c.finish(&mut cx.r);
            inits.push((Arc::<str>::from(k.name.as_str()), init));
            nexts.push(next);
        }
        let until_node = f.take("until");
        let while_node = f.take("while");
        let fails =
            f.take("on_exhausted").and_then(|n| cx.r.one_of(n, &f.at("on_exhausted"), &["outcome", "fail"]))
                == Some("fail");
        if until_node.is_none() && while_node.is_none() {
            cx.r.error("102", f.span, "neither `until` nor `while` is given").expected =
                Some("`until` (asked after each iteration) or `while` (asked before it)".to_owned());
        }
        let span = Type::map([("index", Type::Int), ("remaining", Type::Int)]);
        let locals = vec![("carry".to_owned(), carry_type(carry_node)), ("loop".to_owned(), span)];
        let (until_at, while_at) = (f.at("until"), f.at("while"));
        let found = f.require(&mut cx.r, "body").and_then(|n| {
            body(cx, n, &f.at("body"), locals, |cx, _| {
                let next = |((name, init), n): (&Begins, &Option<(&doc::Node, String)>)| {
                    let (n, at) = n.as_ref()?;
                    let own = own_type(n, carry_type(carry_node), name, init.as_ref());
                    cx.expr(n, at, None, own.as_slice())
                };
                let nexts: Vec<Option<Expr>> = inits.iter().zip(&nexts).map(next).collect();
                let carried = [("carry", carried_type(cx, &inits, &nexts))];
                let mut asked = |n: Option<&doc::Node>, at: &str| {
                    n.and_then(|n| cx.expr(n, at, Some(&Type::Bool), &carried))
                };
                let (until, while_) = (asked(until_node, &until_at), asked(while_node, &while_at));
                (nexts, until, while_)
            })
        });
        let (body, (nexts, until, while_)) = found.unwrap_or_default();
        if let Some(e) = while_.as_ref().filter(|e| e.own_nodes().next().is_some()) {
            cx.r.error("320", e.span, "`while` is asked before the nodes of the body have run").hint =
                Some("use `until`, or carry the value".to_owned());
        }
        let carried = inits.into_iter().zip(nexts);
        let carry =
            carried.filter_map(|((name, init), next)| Some(Carried { name, init: init?, next: next? }));
        Loop { max_iterations, carry: carry.collect(), until, while_, fails, body }
    }

    async fn run(&self, at: At<'_>, mut carry: Vec<(Arc<str>, Value)>) -> NodeResult {
        // Where it never starts, everything in it is absent.
        let mut last = Value::of(Ty::Nodes(self.nodes()).absent());
        let mut iterations = 0;
        let mut done = false;
        while !done && iterations < self.max_iterations {
            let frame = at.child(&self.body, Some(iterations), self.locals(&carry, iterations));
            if let Some(e) = &self.while_
                && !e.holds(&frame.scope(e, at.host, &[]))?
            {
                done = true;
                break;
            }
            iterations = iterations.saturating_add(1);
            at.host.unrepaired.forget(&at.path);
            match walk(at.host, &frame).await {
                None => {}
                Some(End::Suspended(s)) => return Err(Fault::Suspended(s)),
                Some(End::Broken(f)) => return Err(f.into()),
                // Somebody in the body ends the run.
                Some(end) => {
                    let end = Some(Box::new(end));
                    return Ok(Resolved { end, ..Resolved::plain(Outcome::Error) });
                }
            }
            let next =
                self.carry.iter().map(|c| Ok((c.name.clone(), frame.eval_with(&c.next, at.host, &[])?)));
            carry = next.collect::<Result<_, types::expr::Error>>()?;
            last = frame.outputs();
            if let Some(e) = &self.until {
                // It sees what goes into the next iteration.
                let carried = Value::Map(carry.clone()).json(&at.host.table());
                done = e.holds(&frame.scope(e, at.host, &[("carry", carried)]))?;
            }
        }
        if !done && self.fails {
            let message = format!("node `{}` has run {iterations} times without an end", at.node.id);
            return Err(RunFailure::new(Class::Validation, "exhausted", message).into());
        }
        let outcome = if done { Outcome::Done } else { Outcome::Exhausted };
        let outputs = vec![last, Value::Map(carry), Value::Int(i64::from(iterations))];
        Ok(Resolved::with(outcome, outputs).note(format!("{iterations} iterations")))
    }

    fn nodes(&self) -> Vec<(String, Option<Vec<Out>>)> {
        self.body.nodes.iter().map(|n| (n.id.to_string(), Some(n.outputs.clone()))).collect()
    }

    fn locals(&self, carry: &[(Arc<str>, Value)], index: u32) -> Vec<(Arc<str>, Value)> {
        let remaining = self.max_iterations.saturating_sub(index).saturating_sub(1);
        let span = vec![
            (Arc::from("index"), Value::Int(i64::from(index))),
            (Arc::from("remaining"), Value::Int(i64::from(remaining))),
        ];
        vec![(Arc::from("carry"), Value::Map(carry.to_vec())), (Arc::from("loop"), Value::Map(span))]
    }
}

impl Spec for Loop {
    fn canonical(&self) -> Json {
        let carry: Vec<Json> =
            self.carry.iter().map(|c| json!([&*c.name, c.init.source(), c.next.source()])).collect();
        json!({
            "max_iterations": self.max_iterations, "carry": carry, "fails": self.fails,
            "until": self.until.as_ref().map(Expr::source), "while": self.while_.as_ref().map(Expr::source),
        })
    }

    fn given(&self, _: &mut Map<String, Json>) -> Result<Outcome, String> {
        // What it goes on until did not come to hold.
        Ok(Outcome::Exhausted)
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.carry.iter().map(|c| &c.init).collect()
    }

    fn inner_exprs(&self) -> Vec<&Expr> {
        self.carry.iter().map(|c| &c.next).chain(&self.until).chain(&self.while_).collect()
    }

    fn possible(&self) -> Option<OutcomeSet> {
        self.fails.then(|| OutcomeSet::of(&[Outcome::Done]))
    }

    fn max_calls(&self) -> u32 {
        self.body.max_calls().saturating_mul(self.max_iterations)
    }

    fn max_runs(&self) -> u32 {
        self.body.max_runs().saturating_mul(self.max_iterations)
    }

    fn rounds(&self) -> u32 {
        self.max_iterations
    }

    fn sure_rounds(&self) -> u32 {
        u32::from(self.while_.is_none())
    }

    fn bodies(&self) -> Vec<&Graph> {
        vec![&self.body]
    }

    fn bodies_mut(&mut self) -> Vec<&mut Graph> {
        vec![&mut self.body]
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let init = self.carry.iter().map(|c| Ok((c.name.clone(), at.eval(&c.init)?)));
        match init.collect::<Result<Vec<_>, types::expr::Error>>() {
            Ok(carry) => Begun::waits(self.run(at, carry)),
            Err(e) => Begun::Done(Err(e.into())),
        }
    }
}
