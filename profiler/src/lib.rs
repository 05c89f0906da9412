//! Request to workload profile: ten axes with a score per value and a confidence, and plain facts.
//!
//! Takes a parsed [`ChatRequest`] and gives a [`WorkloadProfile`]. Structure speaks first (tools, tool results,
//! answer contract, documents, code, images), the words of the text second, and explicit options last and
//! loudest. Never does I/O, reads no clock, draws no random numbers, keeps nothing between requests.
//!
//! The text is read once (`features`), over a bounded sample of head and tail pieces: a scanner gives tokens, and
//! along them go the cues (`cues`), the hashed n-grams (`grams`) and the language. A small linear model (`model`)
//! weighs structure, cues and n-grams to the task family, a few forms add to that outright (`outright`); each axis
//! (`axis`) weighs what was counted. [`train`] fits the model, [`eval`] measures it against labelled requests,
//! [`explain`] tells what moved an axis.

mod axis;
mod context;
mod cues;
mod dense;
pub mod eval;
pub mod explain;
mod features;
mod grams;
mod lanes;
mod language;
mod model;
mod output;
mod outright;
mod scan;
mod shape;
mod tokens;
pub mod train;
mod words;

pub use context::{FEATURES, Feature, features, raw};

use axis::Task;
use features::Features;
use model::{Model, PerClass};
use types::axis::TaskFamily;
use types::profile::{Scored, SubLabel};
use types::{ChatRequest, Options, WorkloadProfile};

/// Profiles a request: pure, the same request always gives the same profile.
///
/// The cost is bounded: cues are sought in at most about 14 KB of head and tail pieces, n-grams in at most about
/// 3 KB, and the rest of the text is only counted. A request without text gives a profile of low confidence, never
/// an error.
#[must_use]
pub fn profile(request: &ChatRequest) -> WorkloadProfile {
    let model = Model::shipped();
    let mut grams = model.sums();
    let features = Features::read(request, &mut grams);
    let mut log_odds = model.log_odds(&dense::numbers(&features), &grams);
    outright::add(&features, &mut log_odds);
    assemble(request, &features, &model.probabilities(&log_odds))
}

/// More tokens than the frame of a message takes.
pub const MOST_PER_FRAME: u32 = tokens::MOST_PER_FRAME;

/// Tokens that vendors put around the texts of a conversation of so many messages, at most: what is set aside for a call
/// and what one is taken to have used of which nobody counts the input.
#[must_use]
pub const fn most_around(messages: u32) -> u32 {
    tokens::around(messages)
}

/// More tokens than a text has in any tokeniser in use, for what must never fall short.
#[must_use]
pub fn most_tokens(text: &str) -> u32 {
    tokens::most(text)
}

/// Warms what is built once per process (cues, small words, the model), so that the first request does not pay for it.
pub fn warm_up() {
    cues::warm_up();
    language::warm_up();
    features::warm_up();
    let _ = Model::shipped();
}

fn assemble(request: &ChatRequest, features: &Features, probabilities: &PerClass) -> WorkloadProfile {
    let (task_family, sub_label) = axis::task_family::score(features, probabilities, &request.options);
    let task = Task { family: task_family.value, sub: sub_label };
    axes(features, task_family, sub_label, task, &request.options, &request.model)
}

/// The profile of a request whose family is known; the other axes lean on `task`.
fn axes(
    features: &Features,
    task_family: Scored<TaskFamily>,
    sub_label: Option<SubLabel>,
    task: Task,
    options: &Options,
    model: &str,
) -> WorkloadProfile {
    let mut facts = features.facts;
    facts.est_output_tokens = output::estimate(features, task);
    WorkloadProfile {
        task_family,
        sub_label,
        required_depth: axis::required_depth::score(features, task, options),
        precision_sensitivity: axis::precision_sensitivity::score(features, task, options),
        latency_class: axis::latency_class::score(features, task, options),
        context_topology: axis::context_topology::score(features),
        tool_dependence: axis::tool_dependence::score(features),
        determinism_needs: axis::determinism_needs::score(features, task, options),
        safety_posture: axis::safety_posture::score(features, task, options),
        output_contract: axis::output_contract::score(features, task.family),
        economic_policy: axis::economic_policy::score(model, options),
        confidence: task_family.confidence,
        facts,
    }
}

#[cfg(test)]
mod tests;
