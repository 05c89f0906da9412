//! `call`: runs another workflow in the place of a node.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Resolved, Spec};
use crate::budget::{Amounts, Budget};
use crate::ending::{Class, RunFailure};
use crate::load::{Cx, Data, Expr, Gives, bind, misgiven, unfit, workflow};
use crate::outcome::Outcome;
use crate::plan::Workflow;
use crate::run::{At, End, Env, RowId, walk};
use crate::value::{Ty, VERDICTS, Value};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::Verdict;
use types::doc::{self, Fields, Reader, Span};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Ok],
    words: &["ok", "error", "timeout", "cancelled", "skipped"],
    // The nodes of the other workflow have times of their own, and the run has one.
    timeout: Duration::from_secs(3600),
    outputs: |_| {
        vec![
            Out::new("completion", Ty::Completion),
            Out::data("text", Type::Str.optional()),
            Out::data("verdict", Type::Enum(VERDICTS).optional()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Call(Box::new(Call::lower(cx, f))))
};

/// A value for an input.
#[derive(Clone, Debug)]
enum Input {
    Expr(Expr),
    Data(Data),
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Empty only in a file with errors.
    workflow: String,
    inputs: Vec<(String, Input)>,
    /// Where the name of each input stands.
    places: Vec<(String, Span)>,
    /// Where the value of each stands, in the order of `inputs`.
    values: Vec<Span>,
    /// Bound once all files are read.
    callee: Option<Arc<Workflow>>,
}

impl Call {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let name = f.require(&mut cx.r, "workflow").and_then(|n| workflow(cx, n, &f.at("workflow")));
        let (mut inputs, mut places, mut values) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(n) = f.take("inputs") {
            let at = f.at("inputs");
            for (k, n) in cx.r.noted(n, &at) {
                places.push((k.name.clone(), k.span));
                let at = format!("{at}.{}", k.name);
                let input = match &n.value {
                    doc::Value::Str(s) if !s.contains("${") => cx.expr(n, &at, None, &[]).map(Input::Expr),
                    _ => Some(Input::Data(Data::lower(cx, n, &at))),
                };
                values.extend(input.iter().map(|_| n.span));
                inputs.extend(input.map(|i| (k.name.clone(), i)));
            }
        }
        Call { workflow: name.unwrap_or_default(), inputs, places, values, callee: None }
    }

    /// Checks what it gives against what the workflow that it calls takes; `node` is where it stands.
    pub(crate) fn check(&self, r: &mut Reader<'_>, node: Span) {
        let Some(callee) = &self.callee else { return };
        let names: Vec<(&str, Span)> =
            self.places.iter().map(|(name, span)| (name.as_str(), *span)).collect();
        for (span, message, hint) in misgiven(&callee.inputs, &names) {
            let hint = if hint.is_empty() { format!("`{}` takes no inputs", callee.name) } else { hint };
            r.error("208", span.unwrap_or(node), format!("`{}`: {message}", callee.name)).hint = Some(hint);
        }
        for ((name, input), span) in self.inputs.iter().zip(&self.values) {
            let gives = match input {
                Input::Expr(e) => Gives::Type(e.ty()),
                Input::Data(d) => d.gives(),
            };
            if let Some((message, expected)) = unfit(&callee.inputs, name, &gives) {
                let d = r.error("208", *span, format!("`{}`: {message}", callee.name));
                d.expected = expected;
                d.field = format!("inputs.{name}");
            }
        }
    }

    /// The name of the workflow that it calls.
    pub(crate) fn callee(&self) -> Option<&str> {
        Some(self.workflow.as_str()).filter(|name| !name.is_empty())
    }

    /// Takes the workflow that it calls.
    pub(crate) fn bind(&mut self, find: &dyn Fn(&str) -> Option<Arc<Workflow>>) {
        self.callee = find(&self.workflow);
    }

    fn inputs(&self, at: &At<'_>) -> Result<Map<String, Json>, Fault> {
        let value = |i: &Input| match i {
            Input::Expr(e) => Ok(at.eval(e)?.json(&at.host.table())),
            Input::Data(d) => d.value(at.frame, at.host),
        };
        let members = self.inputs.iter().map(|(name, i)| Ok((name.clone(), value(i)?)));
        members.collect::<Result<_, types::expr::Error>>().map_err(Fault::from)
    }

    async fn run(&self, at: At<'_>, callee: &Workflow, inputs: Json) -> NodeResult {
        let env = Env { vars: callee.vars.clone(), inputs };
        // What it may use is what its own file allows, within what is left here.
        let amounts = Amounts { wall: callee.limits.wall, ..callee.limits.amounts() };
        let budget = Budget::new(amounts, Some(at.budget.clone()));
        let frame = at.callee(&callee.root, &env, budget);
        let failure = match walk(at.host, &frame).await {
            Some(End::Delivered(id)) => return Ok(answered(&at, id)),
            Some(End::Suspended(s)) => return Err(Fault::Suspended(s)),
            Some(End::Failed(f)) => return Err(f.into()),
            Some(End::Broken(f)) => f,
            None => {
                let message = format!("the workflow `{}` ended without a response", callee.name);
                RunFailure::new(Class::Internal, "no_response", message)
            }
        };
        let best = at.host.table().best_within(frame.prefix()).filter(|_| callee.best_so_far);
        let Some(best) = best else { return Err(failure.into()) };
        if let Some(row) = at.host.table().row_mut(best).filter(|r| r.verdict == Verdict::None) {
            row.cut_short();
        }
        Ok(answered(&at, best).note(format!("the best so far of `{}`: {failure}", callee.name)))
    }
}

/// The outputs of a call that has come to an answer.
fn answered(at: &At<'_>, id: RowId) -> Resolved {
    let table = at.host.table();
    let row = table.row(id);
    let text = row.map_or(Value::Nothing, |r| Value::Text(r.completion.text().into()));
    let verdict = row.map_or(Value::Nothing, |r| Value::Text(r.verdict.as_str().into()));
    Resolved::with(Outcome::Ok, vec![Value::Row(id), text, verdict])
}

impl Spec for Call {
    fn may_wait(&self, client_tools: bool) -> bool {
        self.callee.as_ref().is_some_and(|w| w.waits(client_tools))
    }

    fn canonical(&self) -> Json {
        let inputs: Map<String, Json> = self
            .inputs
            .iter()
            .map(|(name, i)| match i {
                Input::Expr(e) => (name.clone(), json!({"expr": e.source()})),
                Input::Data(d) => (name.clone(), d.canonical()),
            })
            .collect();
        // The callee is pinned: a change of it is a change of whoever calls it.
        json!([self.workflow, inputs, self.callee.as_ref().map(|c| &c.plan_hash)])
    }

    fn exprs(&self) -> Vec<&Expr> {
        let each = self.inputs.iter().map(|(_, i)| match i {
            Input::Expr(e) => vec![e],
            Input::Data(d) => d.exprs(),
        });
        each.flatten().collect()
    }

    fn callee(&self) -> Option<&Workflow> {
        self.callee.as_deref()
    }

    fn max_calls(&self) -> u32 {
        self.callee.as_ref().map_or(0, |c| c.root.max_calls().min(c.limits.calls))
    }

    fn max_runs(&self) -> u32 {
        self.callee.as_ref().map_or(0, |c| c.root.max_runs())
    }

    fn holds_graphs(&self) -> bool {
        true
    }

    fn wall(&self) -> Option<Duration> {
        self.callee.as_ref().and_then(|c| c.limits.wall)
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let Some(callee) = &self.callee else { return Begun::done(Resolved::plain(Outcome::Error)) };
        let given = match self.inputs(&at) {
            Ok(given) => given,
            Err(fault) => return Begun::Done(Err(fault)),
        };
        match bind(&callee.inputs, &given) {
            Ok(inputs) => Begun::waits(self.run(at, callee, inputs)),
            Err(why) => Begun::Done(Err(RunFailure::new(Class::Request, "invalid", why).into())),
        }
    }
}
