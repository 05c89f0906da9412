//! What is wrong with a JSON text, and where, for people: read again only once a first reading has failed.

use super::{Error, shorten};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Says why `json`, which stands at `pointer` in the body, is not `expected`.
pub(super) fn explain(json: &str, pointer: String, expected: &str, e: &serde_json::Error) -> Error {
    if e.classify() != serde_json::error::Category::Data {
        let text = e.to_string();
        // Within a member, serde counts from where the member begins.
        let text = if pointer.is_empty() { &text } else { text.split(" at line ").next().unwrap_or(&text) };
        return Error::new("invalid_json", pointer, format!("no JSON that can be read: {text}"));
    }
    if let Some(twice) = duplicate(json) {
        return twice.under(&pointer);
    }
    if e.to_string().starts_with(TOO_MANY) {
        return Error::new("out_of_range", pointer, format!("an object of {TOO_MANY}"));
    }
    Error::new("invalid_type", pointer, format!("expected {expected}, found {}", kind(json)))
}

/// How an object beyond the bound is called.
pub(super) const TOO_MANY: &str = "more than 512 members";

/// What kind of value a JSON text holds.
pub(super) fn kind(json: &str) -> &'static str {
    match json.trim_start().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-') => "a negative number",
        Some(_) if json.contains(['.', 'e', 'E']) => "a number with a fraction",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// A key that stands twice in one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twice {
    /// The keys and indices that lead to it, its own last.
    path: Vec<String>,
}

impl Twice {
    /// As an error about a body in which the text stands at `pointer`. A key that is no name is not repeated.
    pub(super) fn under(mut self, pointer: &str) -> Error {
        let key = self.path.pop().unwrap_or_default();
        let of = self.path.iter().fold(pointer.to_owned(), |p, step| format!("{p}/{}", shorten(step)));
        if crate::options::is_identifier(&key) {
            Error::new(
                "duplicate_key",
                format!("{of}/{key}"),
                format!("the key `{key}` stands twice in one object"),
            )
        } else {
            Error::new("duplicate_key", of, "a key stands twice in one object")
        }
    }
}

/// The first key that stands twice; `None` also for what is no JSON.
pub(super) fn duplicate(json: &str) -> Option<Twice> {
    let (mut path, mut found) = (Vec::new(), None);
    let walk = Walk { path: &mut path, found: &mut found };
    // An error is how the walk ends early; what was found says why.
    let _ = walk.deserialize(&mut serde_json::Deserializer::from_str(json));
    found
}

struct Walk<'w> {
    path: &'w mut Vec<String>,
    found: &'w mut Option<Twice>,
}

impl Walk<'_> {
    fn step(&mut self, name: String) -> Walk<'_> {
        self.path.push(name);
        Walk { path: self.path, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut a: A) -> Result<(), A::Error> {
        let mut i = 0_usize;
        while a.next_element_seed(self.step(i.to_string()))?.is_some() {
            self.path.pop();
            i = i.saturating_add(1);
        }
        self.path.pop();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut a: A) -> Result<(), A::Error> {
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = a.next_key::<String>()? {
            let first = seen.insert(key.clone());
            let walk = self.step(key);
            if !first {
                *walk.found = Some(Twice { path: walk.path.clone() });
                return Err(A::Error::custom("found"));
            }
            a.next_value_seed(walk)?;
            self.path.pop();
        }
        Ok(())
    }
}
