//! What a node of some type does: the contract of the files beside this one.

use crate::ending::{Class, RunFailure, Suspension};
use crate::graph::Graph;
use crate::load::Expr;
use crate::outcome::{Outcome, OutcomeSet};
use crate::plan::Workflow;
use crate::reference::Ref;
use crate::route::Route;
use crate::run::{At, End};
use crate::value::Value;
use crate::world::Failure;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value as Json};
use std::any::Any;
use std::fmt::Debug;
use std::time::Duration;
use types::Finding;
use types::run::Recall;

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

    /// How it resolves where it failed and the file gives outputs in the place of its own (`on_error: { value }`): what these
    /// say of it, never more. What they leave open may be filled in. The error is what they have to say, where they do not.
    fn given(&self, outputs: &mut Map<String, Json>) -> Result<Outcome, String> {
        let _ = outputs;
        Ok(Outcome::Ok)
    }

    /// Most model calls of one run of it, those of its bodies included.
    fn max_calls(&self) -> u32 {
        0
    }

    /// Model calls that one run of it makes in any case, as long as nothing fails; those of its bodies are not among them.
    fn sure_calls(&self) -> u32 {
        0
    }

    /// How often it runs its bodies in any case.
    fn sure_rounds(&self) -> u32 {
        0
    }

    /// Most further calls of one run of it, beside those, where answers are lost on their way.
    fn max_again(&self) -> u32 {
        0
    }

    /// The routes of the models that it may call.
    fn routes(&self) -> Vec<&Route> {
        Vec::new()
    }

    /// The workflow that it runs in its place.
    fn callee(&self) -> Option<&Workflow> {
        None
    }

    /// Most node runs of one run of it within its bodies.
    fn max_runs(&self) -> u32 {
        0
    }

    /// How often it runs its bodies at most, one after the other.
    fn rounds(&self) -> u32 {
        1
    }

    /// Whether it may have to wait for people, or for tools of the client's where it has any.
    fn may_wait(&self, client_tools: bool) -> bool {
        self.bodies().iter().any(|g| g.may_wait(client_tools))
    }

    /// Whether it runs graphs, its own or those of others.
    fn holds_graphs(&self) -> bool {
        !self.bodies().is_empty()
    }

    /// Time that it allows itself, beside its `timeout`.
    fn wall(&self) -> Option<Duration> {
        None
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
    /// Several calls did; the first is the one that is told.
    Calls(Failure, Vec<RunFailure>),
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
        RunFailure::new(Class::Expression, "runtime", e.message).into()
    }
}

impl From<Failure> for Fault {
    fn from(f: Failure) -> Self {
        Fault::Call(f)
    }
}

/// How a node resolved.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) outcome: Outcome,
    /// In the order in which its type declares them; empty: nothing was put out.
    pub(crate) outputs: Vec<Value>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) note: Option<String>,
    /// Its outputs are those of an earlier run.
    pub(crate) cached: Option<Recall>,
    /// It ends the run, or the graph instance it stands in.
    pub(crate) end: Option<Box<End>>,
}

impl Resolved {
    pub(crate) const fn plain(outcome: Outcome) -> Self {
        Resolved { outcome, outputs: Vec::new(), findings: Vec::new(), note: None, cached: None, end: None }
    }

    pub(crate) const fn with(outcome: Outcome, outputs: Vec<Value>) -> Self {
        Resolved { outcome, outputs, findings: Vec::new(), note: None, cached: None, end: None }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Resolved { note: Some(note.into()), ..self }
    }
}
