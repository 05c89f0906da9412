//! Questions to models, and their answers.

use super::{EffectId, digest};
use crate::budget::Purse;
use crate::retry::Retry;
use crate::route::Route;
use futures_util::stream::BoxStream;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::matrix::Model;
use types::provider::{self, Edits};
use types::{Chunk, Completion};

/// What a node wants of a model.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which effect this is; `id.frame` is the node instance that asks.
    pub id: EffectId,
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
    /// When the run must start to finish: nothing is begun that cannot end before.
    pub deadline: Option<Instant>,
    /// How a failed call is tried again; `None`: as is usual.
    pub retry: Option<Arc<Retry>>,
    /// What the call may cost: money is set aside here before it is spent, and settled after.
    pub purse: Arc<Purse>,
    /// The response is out: the call belongs to what is done after it, and not to its record.
    pub late: bool,
    /// `provider/model` that are to be used only when there is no other.
    pub avoid: Vec<Arc<str>>,
    /// `provider/model` that must not be used.
    pub not_models: Vec<Arc<str>>,
    /// Families of models that must not be used.
    pub not_families: Vec<String>,
}

impl Ask {
    /// The node instance that asks.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.id.frame
    }

    /// BLAKE3 of what is asked, 64 hex digits. The client's request is not in it: it is the run's own input.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&serde_json::json!({
            "purpose": self.purpose, "primary": self.primary, "route": self.route.canonical(),
            "edits": format!("{:?}", self.edits), "stream": self.stream,
            "avoid": self.avoid.iter().map(|m| &**m).collect::<Vec<_>>(),
            "not_models": self.not_models.iter().map(|m| &**m).collect::<Vec<_>>(),
            "not_families": self.not_families,
        }))
    }
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
    /// A budget is used up: `usd`, `tokens`, `calls`, `node_runs`, `tenant`.
    #[error("the budget `{0}` is used up")]
    Budget(&'static str),
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
}
