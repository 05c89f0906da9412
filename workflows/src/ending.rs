//! What goes into a run and what comes out of it.

use crate::event::Observer;
use crate::overrides::Overrides;
use crate::plan::Limits;
use crate::run::Later;
use crate::trace::Trace;
use crate::world::{Failure, GateAsk};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use types::chat::ToolCall;
use types::directives::Set;
use types::expr::{Language, Scope, Type};
use types::matrix::Model;
use types::provider::{self, Edits};
use types::{ChatRequest, Chunk, Completion, Finding, Usd, Verdict};

/// What a run works on.
#[derive(Clone)]
pub struct Input {
    /// The client's request.
    pub request: Arc<ChatRequest>,
    /// Values of the variables that expressions may read.
    pub scope: Scope,
    /// The language of the workflow's expressions.
    pub language: Arc<dyn Language>,
    /// Validators that policies demand, each a list in the form of a workflow's or one of its entries. They
    /// join the last `validate` node before delivery, or run at delivery where there is none.
    pub extra_validators: Vec<Set<Value>>,
    /// What every call changes in the request: ceilings on tokens and temperature stay in force whatever a
    /// node asks for.
    pub edits: Edits,
    /// Where a passed-through answer goes. `Some` when the client asked for a stream; bounded, so that a
    /// slow client slows the provider. A buffered answer is *not* written here: it comes in the [`Ending`].
    pub sink: Option<mpsc::Sender<Chunk>>,
    /// Why there is no sink although the client asked for a stream; `None` = it did not.
    pub held: Option<&'static str>,
    /// Values of the workflow's inputs.
    pub inputs: Map<String, Value>,
    /// Values that policies and experiments give the workflow's own variables.
    pub vars: Vec<(String, Value)>,
    /// What policies say in the place of what nodes do.
    pub overrides: Overrides,
    /// What is left to the request, whatever the workflow allows itself; `None` = no such limit.
    pub usd: Option<Usd>,
    /// What stands in the place of the workflow's own limits; `None` = those hold. For tests, and for runs of
    /// whoever asks for less.
    pub limits: Option<Limits>,
    /// What the run may say of itself.
    pub facts: Facts,
    /// When the request must be answered, whatever the workflow allows itself; `None` = no such moment.
    pub deadline: Option<Instant>,
    /// Where the run is written down while it happens.
    pub trace: Trace,
    /// Who is told of every step while it happens; `None` = nobody.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Input {
    /// A request that nobody limits, edits or watches, for an answer that comes whole.
    #[must_use]
    pub fn new(request: Arc<ChatRequest>, language: Arc<dyn Language>, scope: Scope) -> Input {
        Input {
            request,
            scope,
            language,
            extra_validators: Vec::new(),
            edits: Edits::default(),
            sink: None,
            held: None,
            inputs: Map::new(),
            vars: Vec::new(),
            overrides: Overrides::default(),
            usd: None,
            limits: None,
            facts: Facts::default(),
            deadline: None,
            trace: Trace::new(),
            observer: None,
        }
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("stream", &self.sink.is_some()).finish_non_exhaustive()
    }
}

/// Why a run is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Somebody waits for the answer.
    #[default]
    Sync,
    /// In the background.
    Async,
    /// Beside another one, to compare.
    Shadow,
    /// To repeat a recorded one.
    Replay,
    /// To test a workflow.
    Test,
}

impl Mode {
    /// As expressions read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Sync => "sync",
            Mode::Async => "async",
            Mode::Shadow => "shadow",
            Mode::Replay => "replay",
            Mode::Test => "test",
        }
    }
}

/// What a run may say of itself: the variable `run`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its identifier.
    pub id: String,
    /// Why it is made.
    pub mode: Mode,
    /// From which every draw within it follows.
    pub seed: u64,
    /// The variant of the experiment it belongs to.
    pub variant: Option<String>,
}

/// For what a run waits, longer than it may run.
#[derive(Clone, Debug, PartialEq)]
pub enum Waiting {
    /// A person's decision.
    Decision(GateAsk),
    /// Results of the client's own tools.
    ClientTools(Vec<ToolCall>),
}

/// A node instance that waits for somebody outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspension {
    /// Which one, such as `work[2]/ask`.
    pub frame: Arc<str>,
    /// For what.
    pub waiting: Waiting,
}

/// A run that has ended for whoever waited for it.
#[derive(Debug)]
pub struct Finished {
    /// How.
    pub ending: Ending,
    /// What remains to be done now that the answer is out.
    pub later: Option<Later>,
}

impl Finished {
    pub(crate) fn failed(failure: RunFailure) -> Self {
        Finished { ending: Ending::Failed(failure), later: None }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    /// With an answer that has not reached the client yet.
    Delivered {
        /// The answer.
        completion: Completion,
        /// Who gave it.
        model: Arc<Model>,
        /// What the checks say of it.
        verdict: Verdict,
    },
    /// With an answer that went through the sink.
    Streamed {
        /// The same answer, put together.
        completion: Completion,
        /// Who gave it.
        model: Arc<Model>,
        /// What the checks say of it, too late for anything but the record.
        verdict: Verdict,
    },
    /// In the middle of an answer: part of it went through the sink, then the provider failed.
    Broken {
        /// Why.
        error: provider::Error,
        /// Who gave it.
        model: Arc<Model>,
        /// What had arrived.
        partial: Completion,
    },
    /// Without an answer, and nothing went through the sink.
    Failed(RunFailure),
    /// Not yet: it can go on only when somebody outside has acted, and is then run again with everything
    /// that is on record.
    Suspended(Vec<Suspension>),
}

/// What kind of thing stood in the way of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request asks for what cannot be.
    Request,
    /// A vendor failed.
    Provider,
    /// Rules leave nobody to ask, or hold the answer back.
    Policy,
    /// What the run may use is used up.
    Budget,
    /// No answer passed its checks.
    Validation,
    /// A tool failed, or may not be called.
    Tool,
    /// An expression of the file could not be evaluated.
    Expression,
    /// The client left.
    Cancelled,
    /// Ours.
    Internal,
    /// The author's own `fail` node.
    Workflow,
}

impl Class {
    /// Every class.
    pub const ALL: &'static [Class] = &[
        Class::Request,
        Class::Provider,
        Class::Policy,
        Class::Budget,
        Class::Validation,
        Class::Tool,
        Class::Expression,
        Class::Cancelled,
        Class::Internal,
        Class::Workflow,
    ];

    /// As expressions of files and codes of errors write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Request => "request",
            Class::Provider => "provider",
            Class::Policy => "policy",
            Class::Budget => "budget",
            Class::Validation => "validation",
            Class::Tool => "tool",
            Class::Expression => "expression",
            Class::Cancelled => "cancelled",
            Class::Internal => "internal",
            Class::Workflow => "workflow",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a run gave no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{class}.{code}: {message}")]
pub struct RunFailure {
    /// What kind of thing stood in the way.
    pub class: Class,
    /// Within the class, or as the author wrote it.
    pub code: String,
    /// For the client.
    pub message: String,
    /// HTTP status that the author of a `fail` node chose; all others follow from class and code.
    pub status: Option<u16>,
    /// What the checks found, worst first.
    pub findings: Vec<Finding>,
    /// The error behind it, if a provider failed.
    pub provider_error: Option<provider::Error>,
    /// When the same may come to something, where that is known and no provider's word.
    pub retry_after: Option<Duration>,
    /// It might be tried again, had the run more time.
    pub no_time: bool,
    /// Where it happened, where that is within the node that has failed of it.
    pub place: Option<Box<Place>>,
}

/// Where a run failed, and of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The path of the node instance.
    pub frame: Arc<str>,
    /// The calls that it had made by then.
    pub attempt: u32,
    /// What failed beside what is told, in the order in which it happened.
    pub causes: Vec<RunFailure>,
}

impl RunFailure {
    /// One of a class, of which nothing more is known; `code`: within the class.
    #[must_use]
    pub fn new(class: Class, code: &str, message: impl Into<String>) -> Self {
        RunFailure {
            class,
            code: code.to_owned(),
            message: message.into(),
            status: None,
            findings: Vec::new(),
            provider_error: None,
            retry_after: None,
            no_time: false,
            place: None,
        }
    }

    /// The same, of which it is known where it happened, with what failed beside it.
    pub(crate) fn beside(mut self, causes: impl IntoIterator<Item = RunFailure>) -> Self {
        if let Some(place) = &mut self.place {
            place.causes.extend(causes);
        }
        self
    }

    /// The same, noting where it happened unless that is known already.
    pub(crate) fn at(mut self, frame: &Arc<str>, attempt: u32) -> Self {
        self.place
            .get_or_insert_with(|| Box::new(Place { frame: frame.clone(), attempt, causes: Vec::new() }));
        self
    }

    /// A vote in which no answer has as large a share as is wanted.
    pub(crate) fn no_consensus() -> Self {
        RunFailure::new(Class::Validation, "no_consensus", "too few sources agree")
    }

    /// As expressions and other nodes see it. What is not known of a failure is `()`, so that every member can be read.
    pub(crate) fn as_json(&self) -> Value {
        let by = self.provider_error.as_ref();
        let frame = self.place.as_ref().map(|p| &*p.frame);
        let causes = self.place.iter().flat_map(|p| &p.causes);
        let retry_after = by.map_or(self.retry_after, |e| e.retry_after);
        let provider = by.and_then(|e| e.model.split_once('/')).map(|(provider, _)| provider);
        json!({
            "class": self.class.as_str(), "code": self.code, "message": self.message,
            "node": frame.and_then(|f| f.rsplit('/').next()), "frame": frame,
            "attempt": self.place.as_ref().map(|p| p.attempt),
            "provider": provider, "model": by.map(|e| &e.model),
            "upstream_status": by.and_then(|e| e.status),
            "retry_after_ms": retry_after.map(|wait| wait.as_millis() as u64),
            "retryable": by.map_or(retry_after.is_some(), provider::Error::retryable),
            "findings": self.findings,
            "causes": causes.map(RunFailure::as_json).collect::<Vec<_>>(),
        })
    }

    /// The type of what [`RunFailure::as_json`] gives.
    pub(crate) fn ty() -> Type {
        let text = || Type::Str.optional();
        Type::map([
            ("class", Type::Str),
            ("code", Type::Str),
            ("message", Type::Str),
            ("node", text()),
            ("frame", text()),
            ("attempt", Type::Int.optional()),
            ("provider", text()),
            ("model", text()),
            ("upstream_status", Type::Int.optional()),
            ("retry_after_ms", Type::Int.optional()),
            ("retryable", Type::Bool),
            ("findings", Type::Any.list()),
            ("causes", Type::Any.list()),
        ])
    }

    /// The failure of a node's calls as the end of the run.
    #[must_use]
    pub fn of(failure: Failure) -> Self {
        match failure {
            Failure::Provider(e) => {
                let failure = RunFailure::new(Class::Provider, e.kind.workflow_name(), e.public_message());
                RunFailure { provider_error: Some(e), ..failure }
            }
            Failure::NoTime(e) => RunFailure { no_time: true, ..RunFailure::of(Failure::Provider(e)) },
            Failure::NoCandidate { wait, .. } => RunFailure {
                retry_after: wait,
                ..RunFailure::new(Class::Policy, "no_candidates", failure.to_string())
            },
            Failure::Budget(limit) => RunFailure::new(Class::Budget, limit.as_str(), failure.to_string()),
            Failure::Deadline => RunFailure::new(Class::Budget, "wall", failure.to_string()),
        }
    }
}
