//! Options that are verbs of policies, and the forms of another gateway that become such.

use super::table::selectors;
use super::{Options, Problem, is_identifier};
use crate::directives::Verb;
use crate::printable::has_no_controls;
use serde_json::Value;
use std::time::Duration;

/// A verb of the policy language that a request asks for by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Member or header that says so, such as `routing.stream`.
    pub from: &'static str,
    /// The verb.
    pub verb: Verb,
    /// As it was given.
    pub argument: Value,
}

/// An option that is a verb of policies, which has its name.
struct Row {
    verb: Verb,
    /// The member of a body that holds it.
    member: &'static str,
    header: &'static str,
    /// The last word counts; otherwise all of them do.
    last: bool,
    /// The verb's argument; `None` = nothing is asked for.
    read: fn(&Value) -> Result<Option<Value>, String>,
}

const fn row(
    verb: Verb,
    (member, header): (&'static str, &'static str),
    last: bool,
    read: fn(&Value) -> Result<Option<Value>, String>,
) -> Row {
    Row { verb, member, header, last, read }
}

const VERBS: &[Row] = &[
    row(Verb::CapTokens, ("routing.cap_tokens", "x-turnout-cap-tokens"), false, |v| {
        let n = v.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
        Ok(Some(Value::from(n.ok_or("expected a whole number of tokens, at least 1")?)))
    }),
    row(Verb::Avoid, ("routing.avoid", "x-turnout-avoid"), true, |v| {
        let list = selectors(v)?;
        Ok((!list.is_empty()).then(|| Value::from(list)))
    }),
    row(Verb::Weight, ("routing.weight", "x-turnout-weight"), true, |v| named(v, PRESETS)),
    row(Verb::Validators, ("routing.validators", "x-turnout-validators"), false, validators),
    row(Verb::Stream, ("routing.stream", "x-turnout-stream"), false, |v| named(v, STREAM_MODES)),
    row(Verb::Explore, ("routing.explore", "x-turnout-explore"), false, |v| named(v, &["none"])),
    row(Verb::Experiment, ("routing.experiment", "x-turnout-experiment"), false, |v| named(v, &["none"])),
    row(Verb::Sticky, ("routing.sticky", "x-turnout-sticky"), true, sticky),
];

/// What `weight` may be: the term of the utility that counts twice.
const PRESETS: &[&str] = &["price", "latency", "quality", "safety"];
const STREAM_MODES: &[&str] = &["passthrough", "optimistic", "windowed", "buffered"];
const STICKY: &[&str] = &["conversation", "user", "tenant"];
/// Longest time for which a request has its model kept.
const LONGEST_KEPT: Duration = Duration::from_secs(86_400);
/// Most validators of one request.
const MAX_VALIDATORS: usize = 16;

impl Options {
    /// Takes up a verb of policies. Said more than once, all that restricts counts, and the last word of the rest.
    pub(super) fn ask(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let Some(row) = VERBS.iter().find(|row| row.verb.as_str() == name) else {
            return Err("is no option of this version".to_owned());
        };
        let Some(argument) = (row.read)(value)? else { return Ok(()) };
        if row.last {
            self.asks.retain(|a| a.verb != row.verb);
        }
        self.asks.push(Ask { from: row.member, verb: row.verb.clone(), argument });
        Ok(())
    }

    /// The option of that name that was taken up last stood in a header.
    pub(super) fn ask_by_header(&mut self, name: &str) {
        if let Some(row) = VERBS.iter().find(|row| row.verb.as_str() == name)
            && let Some(last) = self.asks.last_mut().filter(|a| a.verb == row.verb)
        {
            last.from = row.header;
        }
    }
}

/// One of a few names.
fn named(value: &Value, names: &[&str]) -> Result<Option<Value>, String> {
    let given = value.as_str().unwrap_or_default();
    names.iter().find(|n| **n == given).map(|n| Some(Value::from(*n))).ok_or_else(|| {
        let near = crate::diagnostic::nearest(given, names.iter().copied());
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("expected {}{hint}", names.join(", "))
    })
}

/// Whose model is kept: a name, or `{by, ttl}`.
fn sticky(value: &Value) -> Result<Option<Value>, String> {
    let Some(map) = value.as_object() else { return named(value, STICKY) };
    if let Some(odd) = map.keys().find(|key| !["by", "ttl"].contains(&key.as_str())) {
        return Err(format!("expected `by` and `ttl`, not `{odd}`"));
    }
    let by = named(map.get("by").unwrap_or(&Value::Null), STICKY);
    by.map_err(|e| format!("`by`: {e}"))?;
    let ttl = map.get("ttl").map(|ttl| ttl.as_str().and_then(crate::doc::parse_duration));
    match ttl {
        None => Ok(Some(value.clone())),
        Some(Some(ttl)) if !ttl.is_zero() && ttl <= LONGEST_KEPT => Ok(Some(value.clone())),
        Some(_) => Err("`ttl`: expected a duration such as 30m, at most 24h".to_owned()),
    }
}

/// A list of validators: names, or `{use, with, severity}`.
fn validators(value: &Value) -> Result<Option<Value>, String> {
    let fits = |v: &Value| v.as_str().is_some_and(is_identifier) || v.is_object();
    match value.as_array() {
        Some(list) if list.len() <= MAX_VALIDATORS && list.iter().all(fits) => Ok(Some(value.clone())),
        _ => Err(format!(
            "expected a list of up to {MAX_VALIDATORS} validators: names, or {{use, with, severity}}"
        )),
    }
}

/// Takes up a weight that another gateway's preference comes to, in the member `from`. The request's own `weight` outranks it,
/// whichever is read first.
pub(crate) fn preferred_weight(options: &mut Options, preset: &'static str, from: &'static str) {
    if !options.asks.iter().any(|a| a.verb == Verb::Weight) {
        options.asks.push(Ask { from, verb: Verb::Weight, argument: preset.into() });
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
        options.asks.push(Ask { from, verb: Verb::Validators, argument: value.clone() });
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
