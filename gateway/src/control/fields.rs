//! What members of control documents may be.

use crate::error::Failure;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use types::control::{Quota, Scopes};
use types::printable::is_plain;

/// Most labels of a tenant or key.
pub(crate) const MAX_LABELS: usize = 32;
/// Longest label name or value, bytes.
pub(crate) const MAX_LABEL: usize = 128;
/// Most limits of a tenant or key.
pub(crate) const MAX_LIMITS: usize = 32;
/// Longest text for people, region or time zone, bytes.
pub(crate) const MAX_TEXT: usize = 256;
/// Longest selector of models, bytes.
pub(crate) const MAX_SELECTOR: usize = 256;
/// Most entries of one list of a scope.
pub(crate) const MAX_SCOPE: usize = 256;

/// A member of a change: not named, taken away (`null`), or set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Patch<T> {
    pub(crate) fn apply(self, place: &mut Option<T>) {
        match self {
            Patch::Keep => {}
            Patch::Clear => *place = None,
            Patch::Set(value) => *place = Some(value),
        }
    }
}

/// Tells `null` from a member that is not there.
pub(crate) fn patch<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Patch<T>, D::Error> {
    Ok(Option::<T>::deserialize(d)?.map_or(Patch::Clear, Patch::Set))
}

/// A member that is there has a value: `null` is none.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// A member that has to be there, and may be `null`.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(d)
}

/// As [`given`], for an object: a list would be read as its members in their order, which nobody means.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    OfObject::deserialize(d).map(|o| Some(o.0))
}

/// As [`object`], for a list of them.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Option<Vec<T>>, D::Error> {
    Vec::<OfObject<T>>::deserialize(d).map(|all| Some(inner(all)))
}

/// As [`objects`], where `null` takes all of them away.
pub(crate) fn patch_objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Patch<Vec<T>>, D::Error> {
    let all = Option::<Vec<OfObject<T>>>::deserialize(d)?;
    Ok(all.map_or(Patch::Clear, |all| Patch::Set(inner(all))))
}

fn inner<T>(all: Vec<OfObject<T>>) -> Vec<T> {
    all.into_iter().map(|o| o.0).collect()
}

/// What is read from an object alone. It is read where it stands, so that a reader that keeps the path knows the member
/// within it.
struct OfObject<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OfObject<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ObjectVisitor(PhantomData)).map(OfObject)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

pub(crate) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(v) = value {
        *place = v;
    }
}

fn invalid(field: &str, text: String) -> Failure {
    Failure::bad_request("invalid_value", text).param(field)
}

/// Whether tenants and the like may be called so.
pub(crate) fn is_identifier(id: &str) -> bool {
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    first && rest && id.len() <= 63
}

/// # Errors
/// 400: what an identifier may be.
pub(crate) fn identifier(field: &str, id: &str) -> Result<(), Failure> {
    if is_identifier(id) {
        return Ok(());
    }
    let text = format!(
        "`{field}` is 1 to 63 lower-case letters, digits, `_` and `-`, and begins with a letter or digit"
    );
    Err(invalid(field, text))
}

/// # Errors
/// 400: how long a text for people may be, and that it is one line.
pub(crate) fn text(field: &str, value: &str) -> Result<(), Failure> {
    if value.len() <= MAX_TEXT && value.chars().all(is_plain) {
        return Ok(());
    }
    let text = format!(
        "`{field}` is one line of up to {MAX_TEXT} bytes without control characters and marks that turn the direction of text"
    );
    Err(invalid(field, text))
}

/// # Errors
/// 400: which list of a scope is too long, or which of its entries.
pub(crate) fn scopes(scopes: &Scopes) -> Result<(), Failure> {
    for (name, list) in
        [("models", &scopes.models), ("workflows", &scopes.workflows), ("endpoints", &scopes.endpoints)]
    {
        if list.len() > MAX_SCOPE || list.iter().any(|e| e.len() > MAX_SELECTOR) {
            let text = format!("`scopes.{name}` has up to {MAX_SCOPE} entries of up to {MAX_SELECTOR} bytes");
            return Err(invalid(&format!("scopes.{name}"), text));
        }
    }
    Ok(())
}

/// # Errors
/// 400: which label is wrong.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Result<(), Failure> {
    if labels.len() > MAX_LABELS {
        return Err(invalid(
            "labels",
            format!("there are {} labels; {MAX_LABELS} are allowed", labels.len()),
        ));
    }
    for (name, value) in labels {
        let good = |s: &str| s.len() <= MAX_LABEL && !s.chars().any(char::is_control);
        if name.is_empty() || name.contains('=') || !good(name) || !good(value) {
            let text = format!(
                "label `{}` is not of up to {MAX_LABEL} bytes without `=` and control characters",
                name.escape_debug()
            );
            return Err(invalid("labels", text));
        }
    }
    Ok(())
}

/// # Errors
/// 400: which limit is wrong.
pub(crate) fn limits(limits: &[Quota]) -> Result<(), Failure> {
    if limits.len() > MAX_LIMITS {
        return Err(invalid(
            "limits",
            format!("there are {} limits; {MAX_LIMITS} are allowed", limits.len()),
        ));
    }
    for (i, q) in limits.iter().enumerate() {
        for (name, value) in [("model", &q.model), ("label", &q.label)] {
            if value.as_ref().is_some_and(|v| v.len() > MAX_SELECTOR || v.chars().any(char::is_control)) {
                let text = format!("`{name}` of limit {i} is one line of up to {MAX_SELECTOR} bytes");
                return Err(invalid(&format!("limits[{i}].{name}"), text));
            }
        }
        q.limit("check").map_err(|why| invalid(&format!("limits[{i}]"), format!("limit {i}: {why}")))?;
    }
    Ok(())
}
