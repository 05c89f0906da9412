//! What a request may ask of the router: the `routing` object of the body or `x-turnout-*` headers.

mod verbs;

pub use verbs::Ask;
pub(crate) use verbs::{guardrails, metadata_tags};

use crate::axis::{
    AxisValue, DeterminismNeeds, EconomicPolicy, LatencyClass, PrecisionSensitivity, SafetyPosture,
    TaskFamily,
};
use crate::units::{UnitInterval, Usd};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Tag of the record that holds the client's own `x-request-id`.
pub const CLIENT_REQUEST_ID: &str = "client_request_id";

/// Cache behaviour asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Use and fill.
    On,
    /// Neither use nor fill.
    Off,
    /// Fill only.
    Refresh,
}

/// Which price tiers may be candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Only free tiers.
    Free,
    /// Only paid ones.
    Paid,
    /// Prefer free tiers, pay where the task calls for it.
    #[default]
    Auto,
}

/// A list of models that a request insists on, prefers, or rules out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Member or header that says so, such as `routing.require`.
    pub from: &'static str,
    /// Model selectors.
    pub selectors: Vec<String>,
}

/// Options of one request; everything absent by default. Policies outrank them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Ceiling on the whole answer's latency.
    pub max_latency: Option<Duration>,
    /// Ceiling on the cost of the whole request tree.
    pub max_cost: Option<Usd>,
    /// Floor under the lower confidence bound of success.
    pub min_quality: Option<UnitInterval>,
    /// Floor under the model's tier, 1..=3.
    pub min_quality_tier: Option<u8>,
    /// Sets the axis `economic_policy`.
    pub economy: Option<EconomicPolicy>,
    /// Sets the axis `latency_class`.
    pub latency_class: Option<LatencyClass>,
    /// Sets the axis `precision_sensitivity`.
    pub precision: Option<PrecisionSensitivity>,
    /// Sets the axis `determinism_needs`.
    pub determinism: Option<DeterminismNeeds>,
    /// Sets the axis `safety_posture`.
    pub safety: Option<SafetyPosture>,
    /// Sets the axis `task_family`.
    pub task_family: Option<TaskFamily>,
    /// Fixes the workflow.
    pub workflow: Option<String>,
    /// Lists of models to prefer, in order.
    pub prefer: Vec<Demand>,
    /// Lists outside which nothing is a candidate: every one of them holds; empty = no restriction.
    pub require: Vec<Demand>,
    /// Lists of what is no candidate.
    pub exclude: Vec<Demand>,
    /// Price tiers that may be candidates.
    pub mode: Option<Mode>,
    /// Session whose model is kept.
    pub session: Option<String>,
    /// Labels copied to the record.
    pub tags: BTreeMap<String, String>,
    /// Cache behaviour.
    pub cache: Option<CacheMode>,
    /// Verbs of policies, in order: the lowest layer, which every rule outranks.
    pub asks: Vec<Ask>,
    /// What a policy does not allow of the options refuses the request.
    pub strict: bool,
    /// What was asked for in the form of another gateway and has none here.
    pub foreign: crate::foreign::Foreign,
    /// The approval that was given for this request.
    pub approval: Option<String>,
    /// Add a `turnout` object to the answer.
    pub explain: bool,
    /// Options given by header whose value stands for the record, in order.
    pub given: Vec<&'static str>,
}

/// Why an option was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the option as it was written.
    pub option: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// Every option name, as in `routing` and (with dashes) after `x-turnout-`.
pub const NAMES: &[&str] = &[
    "max_latency_ms",
    "max_cost_usd",
    "min_quality",
    "min_quality_tier",
    "economy",
    "latency_class",
    "precision",
    "determinism",
    "safety",
    "task_family",
    "workflow",
    "prefer",
    "require",
    "exclude",
    "mode",
    "session",
    "tags",
    "cache",
    "approval",
    "explain",
    "cap_cost",
    "cap_latency",
    "cap_tokens",
    "avoid",
    "weight",
    "validators",
    "stream",
    "explore",
    "sticky",
    "tag",
    "strict",
];

impl Options {
    /// Sets the option `name` (one of [`NAMES`]) from a JSON value. Said more than once (in the body, in the form
    /// of another gateway, in a header), a restriction only becomes tighter; of everything else the last word counts.
    ///
    /// # Errors
    /// A [`Problem`] that names the nearest known option, or what the value should have been.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        let problem = |message: String| Problem { option: name.to_owned(), message };
        let Some(known) = NAMES.iter().copied().find(|n| *n == name) else {
            let hint = match crate::diagnostic::nearest(name, NAMES.iter().copied()).first() {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known options are {}", NAMES.join(", ")),
            };
            return Err(problem(format!("unknown option{hint}")));
        };
        let expected = |what: &str| problem(format!("expected {what}"));
        match known {
            "max_latency_ms" => {
                let ms = value.as_u64().filter(|v| (1..=3_600_000).contains(v));
                let given = Duration::from_millis(
                    ms.ok_or_else(|| expected("a whole number of milliseconds, 1..=3600000"))?,
                );
                self.max_latency = Some(self.max_latency.map_or(given, |before| before.min(given)));
            }
            "max_cost_usd" | "cap_cost" => {
                let usd = value.as_f64().filter(|v| (0.0..=10_000.0).contains(v));
                let given = Usd::from_dollars(usd.ok_or_else(|| expected("dollars, 0..=10000"))?);
                self.max_cost = Some(self.max_cost.map_or(given, |before| before.min(given)));
            }
            "cap_latency" => {
                let given = value.as_str().and_then(crate::doc::parse_duration);
                let longest = Duration::from_millis(3_600_000);
                let given = given.filter(|d| !d.is_zero() && *d <= longest);
                let given = given.ok_or_else(|| expected("a duration such as 800ms or 2s, at most 1h"))?;
                self.max_latency = Some(self.max_latency.map_or(given, |before| before.min(given)));
            }
            "min_quality" => {
                let given = value.as_f64().and_then(UnitInterval::new);
                let given = given.ok_or_else(|| expected("a number in 0..=1"))?;
                self.min_quality =
                    self.min_quality.filter(|before| before.get() > given.get()).or(Some(given));
            }
            "min_quality_tier" => {
                let tier = value.as_u64().filter(|v| (1..=3).contains(v)).and_then(|v| u8::try_from(v).ok());
                self.min_quality_tier =
                    self.min_quality_tier.max(Some(tier.ok_or_else(|| expected("1, 2 or 3"))?));
            }
            "economy" => self.economy = Some(one_of(value).map_err(problem)?),
            "latency_class" => self.latency_class = Some(one_of(value).map_err(problem)?),
            "precision" => self.precision = Some(one_of(value).map_err(problem)?),
            "determinism" => self.determinism = Some(one_of(value).map_err(problem)?),
            "safety" => {
                let given: SafetyPosture = one_of(value).map_err(problem)?;
                self.safety =
                    Some(self.safety.filter(|before| before.index() > given.index()).unwrap_or(given));
            }
            "task_family" => self.task_family = Some(one_of(value).map_err(problem)?),
            "workflow" => {
                self.workflow = Some(identifier(value).ok_or_else(|| expected("a workflow's name"))?)
            }
            "approval" => {
                self.approval = Some(identifier(value).ok_or_else(|| expected("an identifier"))?);
            }
            "session" => self.session = Some(identifier(value).ok_or_else(|| expected("an identifier"))?),
            "prefer" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                self.prefer.clear();
                demand(&mut self.prefer, "routing.prefer", selectors);
            }
            "require" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                demand(&mut self.require, "routing.require", selectors);
            }
            "exclude" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                demand(&mut self.exclude, "routing.exclude", selectors);
            }
            "mode" => {
                let given = match value.as_str() {
                    Some("free") => Mode::Free,
                    Some("paid") => Mode::Paid,
                    Some("auto") => Mode::Auto,
                    _ => return Err(expected("free, paid or auto")),
                };
                self.mode = Some(match (self.mode, given) {
                    (None | Some(Mode::Auto), given) => given,
                    (Some(before), Mode::Auto) => before,
                    (Some(before), given) if before == given => given,
                    _ => {
                        return Err(problem(
                            "`free` and `paid` are both asked for, in the body and in a header; no model is both"
                                .to_owned(),
                        ));
                    }
                });
            }
            "tags" | "tag" => {
                let map = value
                    .as_object()
                    .filter(|m| m.len() <= 64)
                    .ok_or_else(|| expected("a map of strings"))?;
                for (k, v) in map {
                    let v = v
                        .as_str()
                        .filter(|s| s.len() <= 256)
                        .ok_or_else(|| expected("a map of short strings"))?;
                    self.tags.insert(k.clone(), v.to_owned());
                }
            }
            "cache" => {
                self.cache = Some(match value.as_str() {
                    Some("on") => CacheMode::On,
                    Some("off") => CacheMode::Off,
                    Some("refresh") => CacheMode::Refresh,
                    _ => return Err(expected("on, off or refresh")),
                });
            }
            "strict" => self.strict = value.as_bool().ok_or_else(|| expected("true or false"))?,
            "explain" => self.explain = value.as_bool().ok_or_else(|| expected("true or false"))?,
            verb => self.ask(verb, value).map_err(problem)?,
        }
        if !self.given.contains(&known) {
            self.given.push(known);
        }
        Ok(())
    }

    /// Sets an option from a header's text: `x-turnout-max-cost-usd: 0.01`, lists separated by commas,
    /// tags as `name=value` pairs.
    ///
    /// # Errors
    /// As for [`Options::set`].
    pub fn set_header(&mut self, header_suffix: &str, text: &str) -> Result<(), Problem> {
        let name = header_suffix.replace('-', "_");
        let value = match name.as_str() {
            "max_latency_ms" | "max_cost_usd" | "min_quality" | "min_quality_tier" | "explain"
            | "cap_cost" | "cap_tokens" | "strict" => {
                serde_json::from_str(text.trim()).unwrap_or(Value::Null)
            }
            "prefer" | "require" | "exclude" | "avoid" | "validators" => {
                Value::Array(text.split(',').map(|s| Value::String(s.trim().to_owned())).collect())
            }
            "tags" | "tag" => Value::Object(
                text.split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(k, v)| (k.trim().to_owned(), Value::String(v.trim().to_owned())))
                    .collect(),
            ),
            _ => Value::String(text.trim().to_owned()),
        };
        let demands = (self.require.len(), self.exclude.len());
        self.set(&name, &value)?;
        self.ask_by_header(&name);
        if name == "prefer" {
            self.prefer.iter_mut().for_each(|d| d.from = "x-turnout-prefer");
        }
        self.require.iter_mut().skip(demands.0).for_each(|d| d.from = "x-turnout-require");
        self.exclude.iter_mut().skip(demands.1).for_each(|d| d.from = "x-turnout-exclude");
        Ok(())
    }
}

/// An empty list asks for nothing.
pub(crate) fn demand(list: &mut Vec<Demand>, from: &'static str, selectors: Vec<String>) {
    if !selectors.is_empty() {
        list.push(Demand { from, selectors });
    }
}

fn one_of<V: AxisValue>(value: &Value) -> Result<V, String> {
    let names: Vec<&str> = V::ALL.iter().map(|v| v.as_str()).collect();
    value.as_str().and_then(V::parse).ok_or_else(|| {
        let near = crate::diagnostic::nearest(value.as_str().unwrap_or_default(), names.iter().copied());
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("expected one of {}{hint}", names.join(", "))
    })
}

fn identifier(value: &Value) -> Option<String> {
    value.as_str().filter(|s| is_identifier(s)).map(str::to_owned)
}

fn identifiers(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array().filter(|l| l.len() <= 256)?;
    list.iter().map(|v| v.as_str().filter(|s| is_selector(s)).map(str::to_owned)).collect()
}

/// `[A-Za-z0-9._:/@+-]{1,256}`: what may name a thing on the wire (`reliability.md` §3).
#[must_use]
pub fn is_identifier(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b))
}

/// An identifier that may also hold `*`.
fn is_selector(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-*".contains(&b))
}

#[cfg(test)]
mod tests;
