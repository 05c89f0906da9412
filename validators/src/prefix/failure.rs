//! What of one value does not fit one condition.

use super::node::{ARRAY, FALSE, NULL, NUMBER, Node, OBJECT, Options, STRING, TRUE};
use super::syntax::Kind;
use serde_json::Value;

/// What fails.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    /// The keyword of the schema.
    pub(super) keyword: &'static str,
    /// What would be right, where that is short to say.
    pub(super) expected: Value,
    /// What stands in place of it, where that is known.
    pub(super) actual: Value,
}

impl Failure {
    pub(super) fn expecting(keyword: &'static str, expected: impl Into<Value>) -> Self {
        Failure { keyword, expected: expected.into(), actual: Value::Null }
    }

    pub(super) fn option(options: &Options, actual: Value) -> Self {
        Failure { keyword: options.keyword, expected: options.value.clone(), actual }
    }
}

/// Why the text cannot become valid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cause {
    pub(super) failure: Failure,
    /// Where, as a JSON pointer.
    pub(super) path: String,
}

/// What of a complete number does not fit. Rounding keeps the order of numbers, so a number that is refused
/// here is outside however exactly it is read.
pub(super) fn outside(n: &Node, value: f64) -> Option<Failure> {
    let fails = |keyword, expected: Value| Some(Failure { keyword, expected, actual: value.into() });
    if n.whole && value.fract() != 0.0 {
        return fails("type", n.expected.clone());
    }
    if let Some(limit) = n.minimum.filter(|m| value < *m) {
        return fails("minimum", limit.into());
    }
    if let Some(limit) = n.maximum.filter(|m| value > *m) {
        return fails("maximum", limit.into());
    }
    let options = n.options.as_ref()?;
    (!options.numbers.contains(&value)).then(|| Failure::option(options, value.into()))
}

fn bit(kind: Kind) -> u8 {
    match kind {
        Kind::Null => NULL,
        Kind::True => TRUE,
        Kind::False => FALSE,
        Kind::Number => NUMBER,
        Kind::String => STRING,
        Kind::Array => ARRAY,
        Kind::Object => OBJECT,
    }
}

/// Whether a value of that kind can fit at all.
pub(super) fn unfit(n: &Node, kind: Kind) -> Option<Failure> {
    if n.kinds == 0 {
        return Some(Failure::expecting("falseSchema", Value::Null));
    }
    if n.kinds & bit(kind) == 0 {
        return Some(Failure::expecting("type", n.expected.clone()));
    }
    let options = n.options.as_ref()?;
    (options.kinds & bit(kind) == 0).then(|| Failure::option(options, Value::Null))
}
