//! Request to workload profile: ten axes with a score per value and a confidence, and plain facts.
//!
//! Takes a parsed [`ChatRequest`] and gives a [`WorkloadProfile`]. Structure speaks first (tools, tool results,
//! answer contract, documents, code, images), the words of the text second, and explicit options last and
//! loudest. Never does I/O, reads no clock, draws no random numbers, keeps nothing between requests.
//!
//! The text is read once (`features`), over a bounded sample of head and tail pieces, with one automaton of
//! all cues (`cues`); each axis (`axis`) then weighs what was counted. [`eval`] measures the result against
//! labelled requests.

mod axis;
mod cues;
pub mod eval;
mod features;
mod language;
mod output;
mod shape;
mod tokens;

use features::Features;
use types::{ChatRequest, WorkloadProfile};

/// Profiles a request: pure, the same request always gives the same profile.
///
/// The cost is bounded: cues are sought in at most about 24 KB of head and tail pieces, and the rest of the
/// text is only counted. A request without text gives a profile of low confidence, never an error.
#[must_use]
pub fn profile(request: &ChatRequest) -> WorkloadProfile {
    assemble(request, &Features::read(request))
}

/// Warms what is built once per process (the automatons), so that the first request does not pay for it.
pub fn warm_up() {
    cues::warm_up();
    language::warm_up();
}

fn assemble(request: &ChatRequest, features: &Features) -> WorkloadProfile {
    let options = &request.options;
    let (task_family, sub_label) = axis::task_family::score(features, options);
    let output_contract = axis::output_contract::score(features, task_family.value);
    let tool_dependence = axis::tool_dependence::score(features);
    let task = axis::Task { family: task_family.value, sub: sub_label };
    let mut facts = features.facts;
    facts.est_output_tokens = output::estimate(features, task);
    WorkloadProfile {
        task_family,
        sub_label,
        required_depth: axis::required_depth::score(features, task, options),
        precision_sensitivity: axis::precision_sensitivity::score(features, task, options),
        latency_class: axis::latency_class::score(features, task, options),
        context_topology: axis::context_topology::score(features),
        tool_dependence,
        determinism_needs: axis::determinism_needs::score(features, task, options),
        safety_posture: axis::safety_posture::score(features, task, options),
        output_contract,
        economic_policy: axis::economic_policy::score(&request.model, options),
        confidence: task_family.confidence,
        facts,
    }
}

#[cfg(test)]
mod tests;
