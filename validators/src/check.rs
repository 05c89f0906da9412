//! What a check is: what it looks at, what it says of itself, and what it promises on growing text.

use crate::growing::Growing;
use crate::keyed::OnFail;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Completion, Report};

/// What a check judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Form: syntax, schema, lengths.
    Structural,
    /// Meaning: language, grounding, personal data.
    Semantic,
}

impl Kind {
    /// The word of the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Structural => "structural",
            Kind::Semantic => "semantic",
        }
    }
}

/// What a check can say of an answer that is still growing, and how much of it has to wait for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// All but the last so many bytes are safe to release. The hold-back is the longest possible match with
    /// what has to be seen behind it.
    Window(usize),
    /// Decided after the first so many characters.
    Head(usize),
    /// Says nothing of the text, which may leave as it comes. It looks at the calls of tools, which wait until all of
    /// them are there.
    Calls,
    /// May reject before the end, passes only at the end.
    Early,
    /// Needs the whole text.
    End,
}

impl Promise {
    /// Whether text may leave before the answer is whole.
    #[must_use]
    pub const fn releases(self) -> bool {
        matches!(self, Promise::Window(_) | Promise::Head(_) | Promise::Calls)
    }

    /// Whether it reads the text while that grows.
    #[must_use]
    pub const fn reads_text(self) -> bool {
        matches!(self, Promise::Window(_) | Promise::Head(_) | Promise::Early)
    }
}

/// A value of the run that a parameter names, such as `sources: nodes.retrieve.result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The parameter, as in `with`.
    pub param: &'static str,
    /// The dotted path.
    pub path: String,
}

/// The values that the references of the checks stand for, by path. A completion stands as an object with
/// its `text`.
pub type Values = BTreeMap<String, Value>;

static NO_VALUES: Values = Values::new();

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The answer; every choice of it is checked.
    pub completion: &'a Completion,
    /// The request it answers.
    pub request: &'a ChatRequest,
    /// What the references of the checks stand for.
    pub values: &'a Values,
}

impl<'a> Input<'a> {
    /// An answer and its request, with no values for references.
    #[must_use]
    pub fn new(completion: &'a Completion, request: &'a ChatRequest) -> Self {
        Input { completion, request, values: &NO_VALUES }
    }

    /// The same with the values that [`Check::references`] asked for.
    #[must_use]
    pub fn with_values(self, values: &'a Values) -> Self {
        Input { values, ..self }
    }

    /// The value of a reference; `None` if the run has none, as when its node was skipped. Whoever needs it
    /// is then `unverified`.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<&'a Value> {
        self.values.get(path).filter(|v| !v.is_null())
    }
}

/// What a check says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name, one of [`crate::NAMES`].
    pub name: &'static str,
    /// What its findings mean for the answer.
    pub severity: Severity,
    /// Whether it judges form or meaning.
    pub kind: Kind,
}

impl About {
    /// Of a check of form.
    #[must_use]
    pub const fn structural(name: &'static str, severity: Severity) -> About {
        About { name, severity, kind: Kind::Structural }
    }

    /// Of a check of meaning.
    #[must_use]
    pub const fn semantic(name: &'static str, severity: Severity) -> About {
        About { name, severity, kind: Kind::Semantic }
    }
}

/// A check of an answer: pure, and the same for the same input. A panic counts as `unverified`.
pub trait Check: Send + Sync + Debug {
    /// What it is.
    fn about(&self) -> About;

    /// Its name, one of [`crate::NAMES`].
    fn name(&self) -> &'static str {
        self.about().name
    }

    /// What its findings are told under: its name, unless its place in a list gives it another.
    fn label(&self) -> &str {
        self.name()
    }

    /// What its findings mean for the answer.
    fn severity(&self) -> Severity {
        self.about().severity
    }

    /// Whether it judges form or meaning.
    fn kind(&self) -> Kind {
        self.about().kind
    }

    /// How much it counts in the score, at least 0.
    fn weight(&self) -> f64 {
        self.severity().weight()
    }

    /// What is to be done with an answer that fails it.
    fn on_fail(&self) -> OnFail {
        OnFail::Repair
    }

    /// Whether it checks form. Form alone earns the `contract` part of the reward.
    fn structural(&self) -> bool {
        self.kind() == Kind::Structural
    }

    /// Whether this request gives it anything to check. A check that does not apply reports
    /// [`types::Verdict::None`].
    fn applies(&self, _request: &ChatRequest) -> bool {
        true
    }

    /// What it promises while this request's answer grows.
    fn promise(&self, _request: &ChatRequest) -> Promise {
        Promise::End
    }

    /// A state that reads one choice's text as it grows; `None` where its promise reads none.
    fn open(&self, _request: &ChatRequest) -> Option<Box<dyn Growing>> {
        None
    }

    /// The values of the run that it needs in [`Input::values`].
    fn references(&self) -> &[Reference] {
        &[]
    }

    /// The JSON Schema that the text must fit, where there is one: local repair moves towards it.
    fn schema(&self, _request: &ChatRequest) -> Option<Arc<Value>> {
        None
    }

    /// The text with what this check would find put right without a model; `None` where it has nothing to
    /// put right, or does not do so.
    fn mend(&self, _text: &str) -> Option<String> {
        None
    }

    /// Looks at every choice of the answer.
    fn check(&self, input: &Input<'_>) -> Report;
}
