//! Options that are verbs of policies, and the forms of another gateway that become such.

use super::table::selectors;
use super::{Options, Problem, is_identifier};
use crate::printable::has_no_controls;
use serde_json::Value;

/// A verb of the policy language that a request asks for by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Member or header that says so, such as `routing.stream`.
    pub from: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// As it was given.
    pub argument: Value,
}

/// Options that are verbs of policies: name, and how the members of a body and headers that hold them are called.
const VERBS: &[(&str, &str, &str)] = &[
    ("cap_tokens", "routing.cap_tokens", "x-turnout-cap-tokens"),
    ("avoid", "routing.avoid", "x-turnout-avoid"),
    ("weight", "routing.weight", "x-turnout-weight"),
    ("validators", "routing.validators", "x-turnout-validators"),
    ("stream", "routing.stream", "x-turnout-stream"),
    ("explore", "routing.explore", "x-turnout-explore"),
    ("sticky", "routing.sticky", "x-turnout-sticky"),
];

/// What `weight` may be: the term of the utility that counts twice.
const PRESETS: &[&str] = &["price", "latency", "quality", "safety"];
const STREAM_MODES: &[&str] = &["passthrough", "optimistic", "windowed", "buffered"];
const STICKY: &[&str] = &["conversation", "user", "tenant"];
/// Most validators of one request.
const MAX_VALIDATORS: usize = 16;

impl Options {
    /// Takes up a verb of policies. Said more than once, all that restricts counts, and the last word of the rest.
    pub(super) fn ask(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let Some((verb, from, _)) = VERBS.iter().find(|(verb, ..)| *verb == name) else {
            return Err("is no option of this version".to_owned());
        };
        let argument = match *verb {
            "cap_tokens" => {
                let n = value.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
                Value::from(n.ok_or("expected a whole number of tokens, at least 1")?)
            }
            "avoid" => match selectors(value)? {
                list if list.is_empty() => return Ok(()),
                list => Value::from(list),
            },
            "weight" => Value::from(named(value, PRESETS)?),
            "stream" => Value::from(named(value, STREAM_MODES)?),
            "explore" => Value::from(named(value, &["none"])?),
            "sticky" => Value::from(named(value, STICKY)?),
            _ => validators(value)?,
        };
        if matches!(*verb, "avoid" | "weight" | "sticky") {
            self.asks.retain(|a| a.verb != *verb);
        }
        self.asks.push(Ask { from, verb, argument });
        Ok(())
    }

    /// The option of that name that was taken up last stood in a header.
    pub(super) fn ask_by_header(&mut self, name: &str) {
        if let Some((verb, _, header)) = VERBS.iter().find(|(verb, ..)| *verb == name)
            && let Some(last) = self.asks.last_mut().filter(|a| a.verb == *verb)
        {
            last.from = header;
        }
    }
}

/// One of a few names.
fn named<'n>(value: &Value, names: &[&'n str]) -> Result<&'n str, String> {
    let given = value.as_str().unwrap_or_default();
    names.iter().copied().find(|n| *n == given).ok_or_else(|| {
        let near = crate::diagnostic::nearest(given, names.iter().copied());
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("expected {}{hint}", names.join(", "))
    })
}

/// A list of validators: names, or `{use, with, severity}`.
fn validators(value: &Value) -> Result<Value, String> {
    let fits = |v: &Value| v.as_str().is_some_and(is_identifier) || v.is_object();
    match value.as_array() {
        Some(list) if list.len() <= MAX_VALIDATORS && list.iter().all(fits) => Ok(value.clone()),
        _ => Err(format!(
            "expected a list of up to {MAX_VALIDATORS} validators: names, or {{use, with, severity}}"
        )),
    }
}

/// Takes up a weight that another gateway's preference comes to, in the member `from`. The request's own `weight` outranks it,
/// whichever is read first.
pub(crate) fn preferred_weight(options: &mut Options, preset: &'static str, from: &'static str) {
    if !options.asks.iter().any(|a| a.verb == "weight") {
        options.asks.push(Ask { from, verb: "weight", argument: preset.into() });
    }
}

/// Takes up LiteLLM's `guardrails`: names of checks, in the member `from`.
///
/// # Errors
/// It is no list of names.
pub(crate) fn guardrails(options: &mut Options, value: &Value, from: &'static str) -> Result<(), Problem> {
    let problem = |message: &str| Problem { option: from.to_owned(), message: message.to_owned() };
    let named = value.as_array().filter(|l| l.len() <= MAX_VALIDATORS && l.iter().all(Value::is_string));
    let list = named.ok_or_else(|| problem("expected a list of names of validators"))?;
    if !list.is_empty() {
        options.asks.push(Ask { from, verb: "validators", argument: value.clone() });
        options.given.push(from);
    }
    Ok(())
}

/// Takes up LiteLLM's `metadata.tags`: each is a label that is `true`.
///
/// # Errors
/// It is a list of something else than short strings. What is no list is metadata like any other.
pub(crate) fn metadata_tags(options: &mut Options, value: &Value) -> Result<(), Problem> {
    let Some(list) = value.as_array() else { return Ok(()) };
    let problem = || Problem {
        option: "metadata.tags".to_owned(),
        message: "expected a list of up to 64 short strings without control characters".to_owned(),
    };
    if list.len() > 64 {
        return Err(problem());
    }
    for tag in list {
        let fits = |s: &&str| (1..=256).contains(&s.len()) && has_no_controls(s);
        let name = tag.as_str().filter(fits).ok_or_else(problem)?;
        options.tags.entry(name.to_owned()).or_insert_with(|| "true".to_owned());
    }
    Ok(())
}
