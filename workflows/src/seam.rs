//! The seam through which model calls leave a workflow.

use crate::route::Route;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use types::matrix::Model;
use types::provider::{self, Edits};
use types::{Chunk, Completion};

/// Gets answers from models: implemented by the engine, and by scripts in tests.
pub trait Models: Send + Sync {
    /// Gets one answer for a node. The implementor chooses candidates by `ask.route` (for `ask.primary`:
    /// the candidates of the decision, in order), retries, falls back, reserves money and records the call.
    ///
    /// With `ask.stream` a [`Generated::Stream`] is given only once the first content has arrived; until
    /// then every failure is an `Err`. Dropping the future, or the stream, aborts the call.
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>>;
}

/// What a node wants of a model.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The node that asks.
    pub node: Arc<str>,
    /// For the record: `primary`, `generate`, `sample`, `repair:<strategy>`, `judge`.
    pub purpose: Cow<'static, str>,
    /// The candidates of the decision are meant; `route` adds nothing then.
    pub primary: bool,
    /// Which models may serve it.
    pub route: Arc<Route>,
    /// What is different from the client's request.
    pub edits: Edits,
    /// Answer as a stream, if the model can.
    pub stream: bool,
    /// The node's own time limit; the request's deadline holds as well.
    pub timeout: Option<Duration>,
    /// `provider/model` that are to be used only when there is no other.
    pub avoid: Vec<Arc<str>>,
}

/// An answer.
pub enum Generated {
    /// Whole.
    Whole {
        /// The answer.
        completion: Completion,
        /// Who gave it.
        model: Arc<Model>,
    },
    /// As a stream that has begun.
    Stream {
        /// Who gives it.
        model: Arc<Model>,
        /// Everything up to and including the first content.
        head: Vec<Chunk>,
        /// The rest. It ends only after the vendor's own end; every other end is an `Err` as last item.
        rest: BoxStream<'static, Result<Chunk, provider::Error>>,
    },
}

impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Generated::Whole { completion, model } => {
                f.debug_struct("Whole").field("model", &model.id).field("completion", completion).finish()
            }
            Generated::Stream { model, head, .. } => {
                f.debug_struct("Stream").field("model", &model.id).field("head", head).finish_non_exhaustive()
            }
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Every candidate failed; the most useful of their errors.
    #[error(transparent)]
    Provider(#[from] provider::Error),
    /// Nothing may serve it; why.
    #[error("no model may serve this call: {0}")]
    NoCandidate(String),
    /// A budget is used up: `usd`, `tokens`, `calls`, `tenant`.
    #[error("the budget `{0}` is used up")]
    Budget(&'static str),
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
}
