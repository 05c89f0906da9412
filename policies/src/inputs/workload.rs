//! The variable `workload`: what the profiler says.

use super::table::{Table, Val, leaf, table};
use types::axis::AxisValue as _;
use types::axis::{
    ContextTopology, DeterminismNeeds, EconomicPolicy, LatencyClass, OutputContract, PrecisionSensitivity,
    RequiredDepth, SafetyPosture, TaskFamily, ToolDependence,
};
use types::expr::Type;

/// Families' refinements, as `workload.sub_label` gives them.
pub(crate) const SUB_LABELS: &[&str] = &["math", "creative", "summarisation", "translation", "knowledge_qa"];

pub(super) static WORKLOAD: Table = Table(&[
    leaf("task_family", || Type::Enum(TaskFamily::NAMES), |f| f.profile.task_family.value.as_str().into()),
    leaf(
        "required_depth",
        || Type::Enum(RequiredDepth::NAMES),
        |f| f.profile.required_depth.value.as_str().into(),
    ),
    leaf(
        "precision_sensitivity",
        || Type::Enum(PrecisionSensitivity::NAMES),
        |f| f.profile.precision_sensitivity.value.as_str().into(),
    ),
    leaf(
        "latency_class",
        || Type::Enum(LatencyClass::NAMES),
        |f| f.profile.latency_class.value.as_str().into(),
    ),
    leaf(
        "context_topology",
        || Type::Enum(ContextTopology::NAMES),
        |f| f.profile.context_topology.value.as_str().into(),
    ),
    leaf(
        "tool_dependence",
        || Type::Enum(ToolDependence::NAMES),
        |f| f.profile.tool_dependence.value.as_str().into(),
    ),
    leaf(
        "determinism_needs",
        || Type::Enum(DeterminismNeeds::NAMES),
        |f| f.profile.determinism_needs.value.as_str().into(),
    ),
    leaf(
        "safety_posture",
        || Type::Enum(SafetyPosture::NAMES),
        |f| f.profile.safety_posture.value.as_str().into(),
    ),
    leaf(
        "output_contract",
        || Type::Enum(OutputContract::NAMES),
        |f| f.profile.output_contract.value.as_str().into(),
    ),
    leaf(
        "economic_policy",
        || Type::Enum(EconomicPolicy::NAMES),
        |f| f.profile.economic_policy.value.as_str().into(),
    ),
    leaf(
        "sub_label",
        || Type::Enum(SUB_LABELS).optional(),
        |f| Val::or_unit(f.profile.sub_label.map(types::profile::SubLabel::as_str)),
    ),
    leaf("confidence", || Type::Float, |f| f.profile.confidence.into()),
    table("axis_confidence", &CONFIDENCES),
    leaf("est_input_tokens", || Type::Int, |f| f.profile.facts.est_input_tokens.into()),
    leaf("est_output_tokens", || Type::Int, |f| f.profile.facts.est_output_tokens.into()),
    leaf("language", || Type::Str, |f| f.profile.facts.language.into()),
]);

static CONFIDENCES: Table = Table(&[
    leaf("task_family", || Type::Float, |f| f.profile.task_family.confidence.into()),
    leaf("required_depth", || Type::Float, |f| f.profile.required_depth.confidence.into()),
    leaf("precision_sensitivity", || Type::Float, |f| f.profile.precision_sensitivity.confidence.into()),
    leaf("latency_class", || Type::Float, |f| f.profile.latency_class.confidence.into()),
    leaf("context_topology", || Type::Float, |f| f.profile.context_topology.confidence.into()),
    leaf("tool_dependence", || Type::Float, |f| f.profile.tool_dependence.confidence.into()),
    leaf("determinism_needs", || Type::Float, |f| f.profile.determinism_needs.confidence.into()),
    leaf("safety_posture", || Type::Float, |f| f.profile.safety_posture.confidence.into()),
    leaf("output_contract", || Type::Float, |f| f.profile.output_contract.confidence.into()),
    leaf("economic_policy", || Type::Float, |f| f.profile.economic_policy.confidence.into()),
]);
