//! What members of control documents may be.

use crate::error::Failure;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use types::control::Quota;

/// Most labels of a tenant or key.
const MAX_LABELS: usize = 32;
/// Longest label name or value, bytes.
const MAX_LABEL: usize = 128;
/// Most limits of a tenant or key.
const MAX_LIMITS: usize = 32;

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

pub(crate) fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(v) = value {
        *place = v;
    }
}

fn invalid(field: &str, text: String) -> Failure {
    Failure::bad_request("invalid_value", text).param(field)
}

/// # Errors
/// 400: what an identifier may be.
pub(crate) fn identifier(field: &str, id: &str) -> Result<(), Failure> {
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if first && rest && id.len() <= 63 {
        return Ok(());
    }
    let text = format!(
        "`{field}` is 1 to 63 lower-case letters, digits, `_` and `-`, and begins with a letter or digit"
    );
    Err(invalid(field, text))
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
        q.limit("check").map_err(|why| invalid(&format!("limits[{i}]"), format!("limit {i}: {why}")))?;
    }
    Ok(())
}
