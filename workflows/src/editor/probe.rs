//! Finds out what the loader takes at a place of a file, by reading small files and noting what it asks.

use crate::load::{Names, watch};
use types::doc::{Asked, Key, Node, Span, Style, Value};
use types::expr::{Compiled, Language, Problem, Scope, Type, Variables};
use types::matrix::Matrix;

/// Where the span of the value that is tried starts; that of everything else starts at 0.
const MARK: usize = 1;
/// Ids that small files use. What is enumerated with them is no closed list.
pub(super) const SEEDS: [&str; 2] = ["zz_seed_a", "zz_seed_b"];
/// Words tried where a string is taken but not any: those that files use for "as it is".
const WORDS: &[&str] = &["request", "auto", "none", "p95", "1s", "file:schema.json"];

/// A kind of value to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Whole,
    Decimal,
    Flag,
    List,
    Map,
    Nothing,
}

pub(super) const KINDS: [Kind; 7] =
    [Kind::Text, Kind::Whole, Kind::Decimal, Kind::Flag, Kind::List, Kind::Map, Kind::Nothing];

/// A file around a value.
pub(super) type Around<'a> = &'a dyn Fn(Node) -> Node;

/// What the loader says to one value.
pub(super) struct Reply {
    pub(super) asked: Vec<Asked>,
    pub(super) codes: Vec<String>,
}

impl Reply {
    /// It takes values of this kind here, whatever else is wrong with the one that was tried: it does not say
    /// that the key is unknown, the type wrong, the feature absent or the unit missing.
    pub(super) fn taken(&self) -> bool {
        !self.codes.iter().any(|c| matches!(c.as_str(), "WF101" | "WF103" | "WF111"))
    }

    /// It takes this very value.
    fn welcome(&self) -> bool {
        self.taken() && !self.codes.iter().any(|c| c == "WF104")
    }
}

/// Reads small files.
pub(super) struct Probe {
    matrix: Matrix,
    variables: Variables,
}

impl Probe {
    pub(super) fn new() -> Self {
        // The axis by which `classify: {method: profile}` is understood.
        let axis = Type::Enum(&SEEDS);
        let variables = vec![("workload".to_owned(), Type::map([("axis", axis)]))];
        Probe { matrix: Matrix::new(Vec::new(), Vec::new()), variables }
    }

    /// What the loader says to `value` at a place.
    pub(super) fn read(&self, around: Around<'_>, value: Value) -> Reply {
        let names = Names {
            matrix: &self.matrix,
            pools: &[],
            approvers: None,
            tools: &[],
            scripts: &[],
            runner: true,
            may_ask: None,
            language: &Nothing,
            variables: &self.variables,
        };
        let span = Span { line: 1, column: 1, start: MARK, end: MARK };
        let root = around(Node { value, span, style: Style::Plain });
        let (asked, codes) = watch(&root, MARK, &names);
        Reply { asked, codes }
    }

    /// What it says to a value of that kind.
    pub(super) fn try_kind(&self, around: Around<'_>, kind: Kind) -> Reply {
        self.read(
            around,
            match kind {
                Kind::Text => Value::Str("probe".to_owned()),
                Kind::Whole => Value::Int(1),
                Kind::Decimal => Value::Float(0.5),
                Kind::Flag => Value::Bool(true),
                Kind::List => Value::List(vec![text("probe")]),
                Kind::Map => Value::Map(Vec::new()),
                Kind::Nothing => Value::Null,
            },
        )
    }

    /// Those of the words that are supported.
    pub(super) fn supported(&self, around: Around<'_>, words: Vec<String>) -> Vec<String> {
        let good = |w: &String| self.read(around, Value::Str(w.clone())).welcome();
        words.into_iter().filter(good).collect()
    }

    /// A reference is taken where any word is not: to a completion, or to data that may be anything.
    pub(super) fn reference(&self, around: Around<'_>) -> bool {
        let taken = |of: &str| self.read(around, Value::Str(format!("nodes.{}.{of}", SEEDS[1]))).welcome();
        taken("completion") || taken("completion.json")
    }

    /// Words that are taken where any word is not.
    pub(super) fn words(&self, around: Around<'_>) -> Vec<String> {
        self.supported(around, WORDS.iter().map(|w| (*w).to_owned()).collect())
    }
}

pub(super) fn node(value: Value) -> Node {
    Node { value, span: Span::default(), style: Style::Plain }
}

pub(super) fn text(s: &str) -> Node {
    node(Value::Str(s.to_owned()))
}

pub(super) fn map(members: Vec<(&str, Node)>) -> Node {
    let key = |k: &str| Key { name: k.to_owned(), span: Span::default() };
    node(Value::Map(members.into_iter().map(|(k, v)| (key(k), v)).collect()))
}

/// A language in which nothing can be said: what expressions say is no matter of shape.
struct Nothing;

impl Language for Nothing {
    fn compile(&self, _: &str, _: &Variables, _: Option<&Type>) -> Result<Compiled, Vec<Problem>> {
        Err(Vec::new())
    }

    fn scope(&self, _: Option<&Scope>, _: Vec<(String, serde_json::Value)>) -> Scope {
        Scope(std::sync::Arc::new(()))
    }
}
