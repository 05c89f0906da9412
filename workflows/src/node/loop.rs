//! `loop`: runs a graph again and again, a bounded number of times.

use super::{Begun, Fault, NodeResult, NodeType, Out, Resolved, Spec, count, no_labels};
use crate::ending::RunFailure;
use crate::graph::Graph;
use crate::load::{Cx, Expr, body};
use crate::outcome::{Outcome, OutcomeSet};
use crate::run::{At, End, walk};
use crate::value::Value;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    name: "loop",
    outcomes: &[Outcome::Done, Outcome::Exhausted],
    words: &["done", "exhausted", "error", "timeout", "cancelled", "skipped"],
    // Its nodes have times of their own, and the run has one.
    timeout: Duration::from_secs(3600),
    sink: false,
    cacheable: false,
    retries: false,
    outputs: |n| {
        vec![
            Out::data("last", Type::Any),
            Out::data("carry", carry_type(n.get("carry"))),
            Out::data("iterations", Type::Int),
        ]
    },
    labels: no_labels,
    lower: |cx, f| Box::new(Loop::lower(cx, f)),
};

/// A value that goes from one iteration to the next.
#[derive(Clone, Debug)]
struct Carried {
    name: Arc<str>,
    init: Expr,
    next: Expr,
}

/// What a file says of it.
#[derive(Debug)]
struct Loop {
    max_iterations: u32,
    carry: Vec<Carried>,
    until: Option<Expr>,
    while_: Option<Expr>,
    fails: bool,
    body: Graph,
}

fn carry_type(n: Option<&doc::Node>) -> Type {
    let members = match n.map(|n| &n.value) {
        Some(doc::Value::Map(m)) => m.as_slice(),
        _ => &[],
    };
    Type::Map(members.iter().map(|(k, _)| (k.name.clone(), Type::Any)).collect())
}

impl Loop {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        f.require(&mut cx.r, "max_iterations");
        let max_iterations = count(cx, f, "max_iterations", (1, 32), 1);
        let carry_node = f.take("carry");
        let at = f.at("carry");
        let mut inits = Vec::new();
        let mut nexts = Vec::new();
        for (k, n) in carry_node.and_then(|n| cx.r.map(n, &at)).unwrap_or(&[]) {
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
                let nexts: Vec<Option<Expr>> =
                    nexts.iter().map(|n| n.as_ref().and_then(|(n, at)| cx.expr(n, at, None, &[]))).collect();
                let until = until_node.and_then(|n| cx.condition(n, &until_at));
                (nexts, until, while_node.and_then(|n| cx.condition(n, &while_at)))
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
        let mut last = Value::Nothing;
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
            match walk(at.host, &frame, None).await {
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
            return Err(RunFailure::new("validation", "exhausted", 422, message).into());
        }
        let outcome = if done { Outcome::Done } else { Outcome::Exhausted };
        let outputs = vec![last, Value::Map(carry), Value::Int(i64::from(iterations))];
        Ok(Resolved::with(outcome, outputs).note(format!("{iterations} iterations")))
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
