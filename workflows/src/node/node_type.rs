//! What can be known of a type of node before any node of it runs.

use super::{NodeKind, NodeSpec};
use crate::ending::RunFailure;
use crate::load::Cx;
use crate::outcome::{Outcome, OutcomeSet};
use crate::value::Ty;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

/// A type of node: what can be known of it from the file alone.
pub(crate) struct NodeType {
    /// Every completed outcome that edges may name.
    pub(crate) outcomes: &'static [Outcome],
    /// Names of all outcomes, for the type of `nodes.<id>.outcome`; empty: its words are its own.
    pub(crate) words: &'static [&'static str],
    /// Usual time limit.
    pub(crate) timeout: Duration,
    /// Ends the run.
    pub(crate) sink: bool,
    /// What it puts out may be kept and used again.
    pub(crate) cacheable: bool,
    /// It calls something that may fail and be called again.
    pub(crate) retries: bool,
    /// The outcome of its nodes is what checks of answers say.
    pub(crate) tells_of_checks: bool,
    /// It takes what a `validate` node puts out by what the checks say of it, so that an answer that failed goes no further
    /// through it unnoticed.
    pub(crate) goes_by_checks: bool,
    /// What it puts out; of some types the node's own text tells.
    pub(crate) outputs: fn(&doc::Node) -> Vec<Out>,
    /// Outcomes in words of the node's own (`classify`); for all other types none.
    pub(crate) labels: fn(&doc::Node) -> Vec<Arc<str>>,
    /// Reads the keys of its own.
    pub(crate) lower: fn(&mut Cx<'_>, &mut Fields<'_>) -> NodeSpec,
}

impl NodeType {
    /// One that reads its own keys so. It puts nothing out, cannot be kept or called again, and checks are nothing to it.
    pub(crate) const fn of(lower: fn(&mut Cx<'_>, &mut Fields<'_>) -> NodeSpec) -> Self {
        NodeType {
            outcomes: &[],
            words: &[],
            timeout: Duration::from_secs(5),
            sink: false,
            cacheable: false,
            retries: false,
            tells_of_checks: false,
            goes_by_checks: false,
            outputs: |_| Vec::new(),
            labels: |_| Vec::new(),
            lower,
        }
    }

    /// All completed outcomes.
    pub(crate) fn completed(&self) -> OutcomeSet {
        OutcomeSet::of(self.outcomes)
    }

    /// The type of `nodes.<id>.outcome`.
    fn outcome(&self, labels: &[Arc<str>]) -> Type {
        const OTHERS: [Outcome; 4] = [Outcome::Error, Outcome::Timeout, Outcome::Cancelled, Outcome::Skipped];
        match self.words {
            [] => {
                let others = OTHERS.map(|o| Arc::from(o.as_str()));
                Type::OneOf(labels.iter().cloned().chain(others).collect())
            }
            words => Type::Enum(words),
        }
    }

    /// What can be read of every node, whatever its type; `labels`: the words of its own for outcomes.
    pub(crate) fn common(&self, labels: &[Arc<str>]) -> [(&'static str, Type); 7] {
        const STATES: &[&str] = &["pending", "running", "resolved"];
        [
            ("status", Type::Enum(STATES)),
            ("outcome", self.outcome(labels).optional()),
            ("error", RunFailure::ty().optional()),
            ("started_ms", Type::Float.optional()),
            ("duration_ms", Type::Float.optional()),
            ("cost_usd", Type::Float),
            ("calls", Type::Int),
        ]
    }
}

/// Every completed outcome of a type, the node's own words included.
pub(crate) fn outcomes(kind: NodeKind, labels: &[Arc<str>]) -> OutcomeSet {
    let labels = (0..labels.len()).filter_map(|i| u8::try_from(i).ok()).map(Outcome::Label);
    labels.fold(kind.node_type().completed(), OutcomeSet::with)
}

/// A named output of a node, with its type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Out {
    pub(crate) name: Cow<'static, str>,
    pub(crate) ty: Ty,
}

impl Out {
    pub(crate) const fn new(name: &'static str, ty: Ty) -> Self {
        Out { name: Cow::Borrowed(name), ty }
    }

    /// Data.
    pub(crate) const fn data(name: &'static str, ty: Type) -> Self {
        Out::new(name, Ty::Data(ty))
    }

    /// What expressions read of it while its node has not run.
    pub(crate) fn absent(&self) -> Json {
        self.ty.absent()
    }
}
