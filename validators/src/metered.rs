//! Values that count how often they are looked at, so that no schema can keep a thread: whoever has used up its looks
//! is stopped where it stands.
//!
//! The depth and the number of a schema's parts do not bound the work: ten parts that each refer ten times to the next
//! make ten thousand million of a page of text. The engine of the schemas cannot be told to stop, but it reaches values only
//! through a trait, and that is where the looks are counted.

use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use jsonschema::types::JsonType;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Looks that the check under way on this thread may still take.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// What is thrown where the looks are used up; nothing is printed for it.
struct UsedUp;

/// What `f` gives, if it gets by with so many looks at values; `None`: it does not, or the engine gave up by itself.
pub(crate) fn within<T>(looks: u64, f: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(looks);
    let result = catch_unwind(AssertUnwindSafe(f)).ok();
    LEFT.set(u64::MAX);
    result
}

fn look() {
    match LEFT.get().checked_sub(1) {
        Some(left) => LEFT.set(left),
        None => resume_unwind(Box::new(UsedUp)),
    }
}

/// The representation of values whose looks are counted.
pub(crate) struct Metered;

/// One such value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a>(pub(crate) &'a Value);

/// Its members.
pub(crate) struct Members<'a>(&'a Map<String, Value>);

/// Its elements.
pub(crate) struct Elements<'a>(&'a [Value]);

/// An iterator whose steps are looks.
pub(crate) struct Counted<I>(I);

impl<T, I: Iterator<Item = T>> Iterator for Counted<I> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        look();
        self.0.next()
    }
}

impl Json for Metered {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Seen<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Seen(buffer))
    }
}

impl<'a> Node<'a, Metered> for Seen<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = &'a serde_json::Number;

    fn as_object(&self) -> Option<Members<'a>> {
        look();
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        look();
        self.0.as_array().map(|list| Elements(list))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        look();
        self.0.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a serde_json::Number> {
        look();
        self.0.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        look();
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        look();
        self.0.is_null()
    }

    fn json_type(&self) -> JsonType {
        look();
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        look();
        jsonschema::json::cmp::equal(self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        look();
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self.0) as usize))
    }
}

impl<'a> Object<'a, Metered> for Members<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = Counted<Named<'a>>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        look();
        self.0.get(key.as_str()).map(Seen)
    }

    fn members(&self) -> Counted<Named<'a>> {
        Counted(Named(self.0.iter()))
    }
}

/// Members with their names.
pub(crate) struct Named<'a>(serde_json::map::Iter<'a>);

impl<'a> Iterator for Named<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, value)| (name.as_str(), Seen(value)))
    }
}

impl<'a> Array<'a, Metered> for Elements<'a> {
    type Node = Seen<'a>;
    type ElementsIter = Counted<std::iter::Map<std::slice::Iter<'a, Value>, fn(&'a Value) -> Seen<'a>>>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Self::ElementsIter {
        Counted(self.0.iter().map(Seen as fn(&'a Value) -> Seen<'a>))
    }

    /// Each element is written once in a form that equal values share: comparing all pairs takes the square of it.
    fn is_unique(&self) -> bool {
        let mut forms = HashSet::with_capacity(self.0.len());
        self.0.iter().all(|element| {
            let mut form = String::new();
            write_form(element, &mut form);
            forms.insert(form)
        })
    }
}

/// Writes a value so that values that JSON Schema calls equal are written alike: members in the order of their names,
/// whole numbers without a point.
fn write_form(value: &Value, out: &mut String) {
    look();
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            out.push('{');
            for name in names {
                let _ = write!(out, "{name:?}:");
                write_form(members.get(name).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for element in elements {
                write_form(element, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::String(text) => {
            let _ = write!(out, "{text:?}");
        }
        Value::Number(number) => {
            let whole = number.as_i128().or_else(|| whole(number.as_f64()?));
            let _ = match whole {
                Some(whole) => write!(out, "{whole}"),
                None => write!(out, "{number}"),
            };
        }
        Value::Null | Value::Bool(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

/// A number without a fraction, as long as all of its digits can be told.
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1e30).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(list: &Value, want: bool) {
        assert_eq!(Elements(list.as_array().unwrap()).is_unique(), want, "{list}");
    }

    #[test]
    fn equal_elements_are_found_whatever_they_are_written_like() {
        check(&json!([]), true);
        check(&json!([1, 1.0]), false);
        check(&json!([0, -0.0]), false);
        check(&json!([1, true, "1", [1], null]), true);
        check(&json!([1e40, 1e41, 1.5, 18_446_744_073_709_551_615_u64]), true);
        check(&json!([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]), false);
        check(&json!([{"a": 1}, {"a": 1, "b": null}]), true);
        check(&json!([["a", "b"], ["a\",\"b"]]), true);
    }

    #[test]
    fn who_looks_too_often_is_stopped_and_the_next_begins_anew() {
        let list = json!((0..100).collect::<Vec<_>>());
        let count = || Elements(list.as_array().unwrap()).elements().count();
        assert_eq!(within(50, count), None);
        assert_eq!(within(101, count), Some(100));
        assert_eq!(count(), 100);
    }
}
