//! What a request may ask of the router: the `routing` object of the body or `x-turnout-*` headers.

mod table;
mod verbs;

pub(crate) use table::demand;
pub use verbs::Ask;
pub(crate) use verbs::{guardrails, metadata_tags, preferred_weight};

use crate::axis::{
    DeterminismNeeds, EconomicPolicy, LatencyClass, PrecisionSensitivity, SafetyPosture, TaskFamily,
};
use crate::units::{UnitInterval, Usd};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use table::{ROWS, Row};

/// Tag of the record that holds the client's own `x-request-id`.
pub const CLIENT_REQUEST_ID: &str = "client_request_id";

/// Tag that says how often the client's library has sent a request before by itself, because it had no answer: whoever wrote
/// the request has seen none, and asks nothing again.
pub const SDK_RETRY: &str = "sdk_retry";

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

/// What becomes of a request whose client leaves before all of its answer has gone out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// Its calls are ended.
    #[default]
    Cancel,
    /// It goes on to its end, for the record and for what is kept.
    Finish,
}

impl OnDisconnect {
    /// All, as they are written.
    pub const NAMES: [&str; 2] = ["cancel", "finish"];
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
    /// What becomes of it where its client leaves; `None` = what the tenant says.
    pub on_disconnect: Option<OnDisconnect>,
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

/// Every option's name, as in `routing` and (with dashes) after `x-turnout-`.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    ROWS.iter().map(|row| row.name)
}

impl Options {
    /// Sets the option `name` (one of [`names`]) from a JSON value. Said more than once (in the body, in the form
    /// of another gateway, in a header), a restriction only becomes tighter; of everything else the last word counts.
    ///
    /// # Errors
    /// A [`Problem`] that names the nearest known option, or what the value should have been.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        self.take(row(name)?, value)
    }

    /// Sets an option from a header's text: `x-turnout-max-cost-usd: 0.01`, lists separated by commas,
    /// tags as `name=value` pairs.
    ///
    /// # Errors
    /// As for [`Options::set`].
    pub fn set_header(&mut self, header_suffix: &str, text: &str) -> Result<(), Problem> {
        let row = row(&header_suffix.replace('-', "_"))?;
        let demands = (self.require.len(), self.exclude.len());
        self.take(row, &row.form.value(text))?;
        self.ask_by_header(row.name);
        if row.name == "prefer" {
            self.prefer.iter_mut().for_each(|d| d.from = "x-turnout-prefer");
        }
        self.require.iter_mut().skip(demands.0).for_each(|d| d.from = "x-turnout-require");
        self.exclude.iter_mut().skip(demands.1).for_each(|d| d.from = "x-turnout-exclude");
        Ok(())
    }

    fn take(&mut self, row: &Row, value: &Value) -> Result<(), Problem> {
        (row.take)(self, value).map_err(|message| Problem { option: row.name.to_owned(), message })?;
        if !self.given.contains(&row.name) {
            self.given.push(row.name);
        }
        Ok(())
    }
}

/// Whether what an action goes back to (the `rule` of its record) is a member or header of the request itself, the form of another
/// gateway included, and not a rule.
#[must_use]
pub fn is_source(name: &str) -> bool {
    ["routing.", "x-turnout-", "provider.", "metadata."].iter().any(|of| name.starts_with(of))
        || matches!(name, "models" | "guardrails")
}

/// The option of that name.
fn row(name: &str) -> Result<&'static Row, Problem> {
    ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
        let hint = match crate::diagnostic::nearest(name, names()).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known options are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Problem { option: name.to_owned(), message: format!("unknown option; {hint}") }
    })
}

/// `[A-Za-z0-9._:/@+-]{1,256}`: what may name a thing on the wire.
#[must_use]
pub fn is_identifier(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b))
}

#[cfg(test)]
mod tests;
