//! Questions to models, and their answers.

use super::{EffectId, digest};
use crate::budget::{Budget, Exhausted};
use crate::retry::Retry;
use crate::route::Route;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::matrix::Model;
use types::provider::{self, Edits, ErrorKind, Sampling};
use types::run::Purpose;
use types::{Chunk, Completion};

/// What a node wants of a model.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which effect this is; `id.frame` is the node instance that asks.
    pub id: EffectId,
    /// For the record: `primary`, `generate`, `sample`, `repair:<strategy>`, `judge`.
    pub purpose: Purpose,
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
    pub budget: Arc<Budget>,
    /// The response is out: the call belongs to what is done after it, and not to its record.
    pub late: bool,
    /// `provider/model` that are to be used only when there is no other.
    pub avoid: Vec<Arc<str>>,
    /// Families of models that are to be used only when there is no other.
    pub avoid_families: Vec<String>,
    /// `provider/model` that must not be used.
    pub not_models: Vec<Arc<str>>,
    /// Families of models that must not be used.
    pub not_families: Vec<String>,
    /// It is one of several calls that keep apart from each other.
    pub spread: Option<Spread>,
    /// So many of the models that may serve it come last: other calls for the same answer begin with them.
    pub skip: u32,
}

/// What calls that are made beside each other do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distinct {
    /// The model.
    Model,
    /// Its provider.
    Provider,
    /// Its family.
    Family,
}

impl Distinct {
    /// What of a model must not be the same.
    #[must_use]
    pub fn of(self, model: &Model) -> &str {
        match self {
            Distinct::Model => &model.id,
            Distinct::Provider => model.id.split('/').next().unwrap_or_default(),
            Distinct::Family => &model.family,
        }
    }
}

/// One of several calls that keep apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// What they do not share.
    pub by: Distinct,
    /// Which of them it is, from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

impl Spread {
    /// The candidates, best first, that are this call's own: of n calls the i-th has the i-th, (i+n)-th … of the
    /// groups of those that share something, in the order in which they first appear. None where there are
    /// too few groups.
    #[must_use]
    pub fn share<T>(self, order: Vec<T>, model: impl Fn(&T) -> Option<Arc<Model>>) -> Vec<T> {
        let mut groups: Vec<String> = Vec::new();
        let of = usize::try_from(self.of.max(1)).unwrap_or(1);
        let index = usize::try_from(self.index).unwrap_or(0);
        let mut own = order;
        own.retain(|candidate| {
            let Some(model) = model(candidate) else { return false };
            let key = self.by.of(&model);
            let group = groups.iter().position(|g| g == key).unwrap_or_else(|| {
                groups.push(key.to_owned());
                groups.len().saturating_sub(1)
            });
            group % of == index
        });
        own
    }
}

impl Ask {
    /// The node instance that asks.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.id.frame
    }

    /// BLAKE3 of what is added to the client's request, whoever is asked and why, 64 hex digits.
    #[must_use]
    pub fn question(&self) -> String {
        digest(&serde_json::json!(format!("{:?}", self.edits)))
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
            "avoid_families": self.avoid_families,
            "spread": self.spread.map(|s| format!("{s:?}")), "skip": self.skip,
        }))
    }
}

/// How an answer came about, as far as the world tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// Where the provider computes; `None` = the matrix does not say.
    pub region: Option<String>,
    /// What the vendor was asked with.
    pub params: Sampling,
    /// Milliseconds from the call to its first content; `None` = it came whole.
    pub ttft_ms: Option<f64>,
}

/// An answer.
pub enum Generated {
    /// Whole.
    Whole {
        /// The answer.
        completion: Completion,
        /// Who gave it.
        model: Arc<Model>,
        /// How.
        served: Served,
    },
    /// As a stream that has begun.
    Stream {
        /// Who gives it.
        model: Arc<Model>,
        /// How.
        served: Served,
        /// Everything up to and including the first content.
        head: Vec<Chunk>,
        /// The rest. It ends only after the vendor's own end; every other end is an `Err` as last item.
        rest: BoxStream<'static, Result<Chunk, provider::Error>>,
    },
}

impl Generated {
    /// A whole answer of which nothing more is told.
    #[must_use]
    pub fn whole(completion: Completion, model: Arc<Model>) -> Self {
        Generated::Whole { completion, model, served: Served::default() }
    }
}

impl std::fmt::Debug for Generated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Generated::Whole { completion, model, .. } => {
                f.debug_struct("Whole").field("model", &model.id).field("completion", completion).finish()
            }
            Generated::Stream { model, head, .. } => {
                f.debug_struct("Stream").field("model", &model.id).field("head", head).finish_non_exhaustive()
            }
        }
    }
}

impl Failure {
    /// Nothing may serve it, now or later.
    #[must_use]
    pub fn nobody(why: impl Into<String>) -> Failure {
        Failure::NoCandidate { why: why.into(), wait: None }
    }

    /// The same where it is the end of the run that leaves no time to try again.
    #[must_use]
    pub fn without_time(self) -> Failure {
        match self {
            Failure::Provider(e) => Failure::NoTime(e),
            other => other,
        }
    }

    /// A stream that had begun is lost: asked for again, it may come.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Failure::Provider(e) if matches!(e.kind, ErrorKind::StreamLost | ErrorKind::Malformed
            | ErrorKind::InterTokenTimeout))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Every candidate failed; the most useful of their errors.
    #[error(transparent)]
    Provider(#[from] provider::Error),
    /// The same, and it might be tried again, but not within what is left of the run's time.
    #[error(transparent)]
    NoTime(provider::Error),
    /// Nothing may serve it.
    #[error("no model may serve this call: {why}")]
    NoCandidate {
        /// Why.
        why: String,
        /// When a model may that is only kept out for a while.
        wait: Option<Duration>,
    },
    /// A limit of the run is used up.
    #[error("the budget `{0}` is used up")]
    Budget(Exhausted),
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::model;

    #[test]
    fn calls_that_keep_apart_share_the_candidates_out() {
        let check = |names: &[&str], index: u32, of: u32, want: &[&str]| {
            let models = names.iter().map(|n| Arc::new(model(n, 1))).collect();
            let own = Spread { by: Distinct::Family, index, of }.share(models, |m| Some(m.clone()));
            assert_eq!(own.iter().map(|m| m.family.as_str()).collect::<Vec<_>>(), want, "{index} of {of}");
        };
        check(&["a", "b", "a", "c", "b"], 0, 2, &["a", "a", "c"]);
        check(&["a", "b", "a", "c", "b"], 1, 2, &["b", "b"]);
        check(&["a", "b"], 2, 3, &[]);
        check(&["a", "b"], 0, 1, &["a", "b"]);
    }
}
