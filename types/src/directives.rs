//! What the policies say of one request, merged: the only thing of a policy that other rooms see.

use crate::matrix::{ModelIx, ModelSet};
use crate::units::Usd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Name of a rule or policy.
pub type RuleId = Arc<str>;

/// What one rule made of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleResult {
    /// It applies.
    Matched,
    /// It does not.
    NotMatched,
    /// It could not be evaluated and was left out (`on_error: open`).
    Error,
    /// Switched off, or outside its dates.
    Disabled,
    /// It would apply, but is only watched.
    Shadow,
}

/// A rule and what it made of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The rule.
    pub id: RuleId,
    /// What it made of the request.
    pub result: RuleResult,
    /// For `Error`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One action of a matching rule and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The rule.
    pub rule: RuleId,
    /// The verb.
    pub verb: Arc<str>,
    /// Its argument, as written.
    pub argument: Value,
    /// `applied`, `overridden by <rule>`, `no effect: <why>`, `shadow`.
    pub effect: String,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Who refuses.
    pub rule: RuleId,
    /// For the client.
    pub reason: String,
    /// Machine-readable reason. Default `denied`.
    pub code: String,
    /// HTTP status, 4xx. Default 403.
    pub status: u16,
}

/// A value with the rule that set it.
#[derive(Clone, Debug, PartialEq)]
pub struct Set<T> {
    /// The value.
    pub value: T,
    /// Who set it.
    pub rule: RuleId,
}

/// Multipliers of the utility's term weights; 1 = unchanged, each 0..=4.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermWeights {
    /// Of the probability of success.
    pub success: f64,
    /// Of quality given success.
    pub quality: f64,
    /// Of schema compliance.
    pub schema: f64,
    /// Of cost.
    pub cost: f64,
    /// Of latency.
    pub latency: f64,
    /// Of safety.
    pub safety: f64,
}

impl TermWeights {
    /// The strings of the file.
    pub const NAMES: &'static [&'static str] = &["success", "quality", "schema", "cost", "latency", "safety"];

    /// The weight of that name.
    pub fn weight(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "success" => &mut self.success,
            "quality" => &mut self.quality,
            "schema" => &mut self.schema,
            "cost" => &mut self.cost,
            "latency" => &mut self.latency,
            "safety" => &mut self.safety,
            _ => return None,
        })
    }
}

impl Default for TermWeights {
    fn default() -> Self {
        TermWeights { success: 1.0, quality: 1.0, schema: 1.0, cost: 1.0, latency: 1.0, safety: 1.0 }
    }
}

/// The merged result of all policies for one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directives {
    /// Every rule and what it made of the request.
    pub rules: Vec<RuleRecord>,
    /// Every action of the matching rules and what became of it.
    pub actions: Vec<ActionRecord>,
    /// Refusals; any one denies the request.
    pub denials: Vec<Denial>,
    /// Models that may not be candidates, with the first rule that removed each.
    pub removed: Vec<(ModelIx, RuleId)>,
    /// log₂ of the factor on a model's utility, from `prefer`, clamped to −2..=2.
    pub boost: Vec<(ModelIx, f64)>,
    /// Multipliers of the utility's weights.
    pub weights: TermWeights,
    /// Ceiling on the cost of the request tree.
    pub cap_cost: Option<Set<Usd>>,
    /// Ceiling on the whole answer's latency.
    pub cap_latency: Option<Set<Duration>>,
    /// Ceiling on output tokens.
    pub cap_max_tokens: Option<Set<u32>>,
    /// Ceiling on temperature.
    pub cap_temperature: Option<Set<f64>>,
    /// The workflow to run.
    pub workflow: Option<Set<String>>,
    /// Validators to add before delivery, in the form of a workflow's list.
    pub validators: Vec<Set<Value>>,
    /// Labels for the record.
    pub tags: BTreeMap<String, String>,
}

impl Directives {
    /// The rule that removed a model, if one did.
    #[must_use]
    pub fn removed_by(&self, ix: ModelIx) -> Option<&RuleId> {
        self.removed.iter().find(|(m, _)| *m == ix).map(|(_, r)| r)
    }

    /// log₂ of the factor on a model's utility; 0 = none.
    #[must_use]
    pub fn boost_of(&self, ix: ModelIx) -> f64 {
        self.boost.iter().find(|(m, _)| *m == ix).map_or(0.0, |(_, b)| *b)
    }
}

/// Named sets of models, resolved against one matrix.
pub type Pools = BTreeMap<String, ModelSet>;
