//! Who may use what, when and how: rules and Rhai policies in, [`types::Directives`] out.
//!
//! Takes the sections `pools`, `sets` and `rules` of the rules file, policy files, and per request the
//! profile and the plain facts of the request. Gives pools resolved against the capability matrix, the
//! expression language that workflows use too, and per request one merged, immutable
//! [`types::Directives`]. All matching rules apply; hard verbs only tighten, so that neither order nor a
//! further rule can relax anything; a rule that cannot be evaluated is never "no match".
//!
//! This is the only room that knows the script engine. It reads no network, no files and no random
//! numbers; its only clock is the one that cuts runaway policies. It never sees an answer and never calls
//! a model.

mod answer;
mod asked;
mod cases;
mod check;
mod compare;
mod error;
mod evaluation;
mod explain;
mod expression;
mod failure;
pub mod format;
mod functions;
mod gather;
mod head;
mod inputs;
mod lint;
mod listing;
mod literal;
mod load;
mod merge;
mod native;
mod path;
mod phase;
mod quarantine;
mod recorded;
mod report;
mod rule;
mod runner;
mod sandbox;
mod script;
mod selection;
mod selector;
mod set;
mod tenant;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time;
mod values;
mod verb;
mod watched;

pub use cases::{CaseResult, Coverage, Mutant, Mutation, Registries, TestReport, misshapen};
pub use compare::{CostEffect, Replay, RuleChanges, RuleDelta};
pub use error::Error;
pub use evaluation::Purpose;
pub use explain::{AtomRecord, Explanation, RuleExplanation, directives as directives_json};
pub use inputs::{
    Around, Brownout, Budget, BudgetState, GivenProblem, History, Inputs, Key, Labels, LastVerdict,
    ModelState, ModelStates, ProviderState, Providers, Response, RunSoFar, SideEffect, Status, System,
    Tenant, TenantTier, ToolCall, changed_scope, request_variables, response_scope, scope, scope_of,
    tool_scope, values_of, variables,
};
pub use listing::{Kind, Listed};
pub use load::load;
pub use path::put;
pub use phase::Phase;
pub use set::PolicySet;
pub use tenant::TenantFiles;
pub use watched::Watched;

use sandbox::Clock;
use std::sync::Arc;
use types::Matrix;
use types::doc::{Node, Span};

/// The shipped example policies: file name and text.
pub const SHIPPED: &[(&str, &str)] =
    &[("policies/rules/spend_guard.rhai", include_str!("../rules/spend_guard.rhai"))];

/// The sections of the rules file that this room reads; `None` = the key is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections<'a> {
    /// Named sets of models.
    pub pools: Option<&'a Node>,
    /// Named constants for `set("…")`.
    pub sets: Option<&'a Node>,
    /// Groups of people for `require_approval`.
    pub approvers: Option<&'a Node>,
    /// Kinds of values of the operator's own, by patterns.
    pub patterns: Option<&'a Node>,
    /// Named kinds of values for `redact`.
    pub redaction: Option<&'a Node>,
    /// The rules.
    pub rules: Option<&'a Node>,
}

/// What is wrong with the parameters that a rule gives to a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `101` for a parameter that the validator does not have, `104` for a wrong value.
    pub number: &'static str,
    /// Where in the file; `None` = where the validator is named.
    pub span: Option<Span>,
    /// Path of the parameter within `with`; empty = the parameters as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

/// What rules may name.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Providers and models.
    pub matrix: &'a Matrix,
    /// Workflows, by name.
    pub workflows: &'a [String],
    /// Experiments, by id.
    pub experiments: &'a [String],
    /// Validators, by name.
    pub validators: &'a [&'static str],
    /// What is wrong with the parameters (`with`, where it is given) of the validator of that name.
    pub misfit: fn(&str, Option<&Node>) -> Option<Misfit>,
    /// What is wrong with a pattern that values are found by, and what would be right.
    pub pattern: fn(&str) -> Result<(), (String, String)>,
    /// The moment of loading, Unix milliseconds: for rules that have expired or soon will. `None` = dates are not
    /// checked.
    pub unix_ms: Option<i64>,
    /// Whether rules that restrict must say who answers for them.
    pub require_owner: bool,
}

/// The language of conditions and small computations, with the static checks of the workflow format.
/// Every call gives the same one; scopes of [`scope`] fit it.
#[must_use]
pub fn language() -> Arc<dyn types::expr::Language> {
    Arc::new(expression::Rhai::plain())
}
