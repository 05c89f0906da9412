//! A labelled request, and what the profile says in the labels' words.

use crate::cues::Signal;
use crate::features::{Contract, Features};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use types::WorkloadProfile;
use types::axis::{AxisValue, OutputContract, TaskFamily, ToolDependence};
use types::profile::{Scored, SubLabel};

/// A line of the labelled set; members that are not scored are ignored.
#[derive(Deserialize)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) source: String,
    #[serde(default)]
    pub(super) task_family: Option<String>,
    #[serde(default)]
    pub(super) axes: Axes,
    pub(super) request: Value,
}

impl Row {
    /// What stands for a family and is none.
    pub(super) fn unknown_family(&self) -> Option<&str> {
        self.task_family.as_deref().filter(|label| !families().any(|known| known == *label))
    }
}

/// The families that labels name.
pub(super) fn families() -> impl Iterator<Item = &'static str> + Clone {
    TaskFamily::NAMES.iter().copied().chain([MATH, CREATIVE])
}

/// Mathematics and literary writing are families of their own in the labels.
const MATH: &str = "math";
const CREATIVE: &str = "creative";

/// Labels that follow from the request; each may be absent.
#[derive(Default, Deserialize)]
pub(super) struct Axes {
    pub(super) tools_offered: Option<u64>,
    pub(super) output_contract: Option<String>,
    pub(super) context_topology: Option<String>,
    pub(super) approx_input_tokens: Option<f64>,
    /// The text asks for JSON; what is enforced is `output_contract`.
    pub(super) json_requested_in_text: Option<bool>,
}

impl Axes {
    /// Whether the answer is to be JSON, enforced or asked for; `None` = the labels do not say.
    pub(super) fn json(&self) -> Option<bool> {
        match self.output_contract.as_deref() {
            Some("json_object" | "json_schema") => Some(true),
            _ => self.json_requested_in_text,
        }
    }
}

/// A profile in the labels' words.
pub(super) struct Prediction {
    pub(super) id: String,
    pub(super) family: &'static str,
    pub(super) confidence: f32,
    pub(super) tools: u32,
    /// Whether the profile sees tools that may be used, and how sure of that it is.
    pub(super) uses_tools: (bool, f32),
    /// Whether it expects JSON, and how sure of that it is.
    pub(super) json: (bool, f32),
    pub(super) contract: &'static str,
    pub(super) topology: &'static str,
    pub(super) tokens: u32,
    pub(super) latency_ms: Option<f64>,
}

impl Prediction {
    pub(super) fn of(
        id: &str,
        features: &Features,
        profile: &WorkloadProfile,
        spent: Option<Duration>,
    ) -> Self {
        Prediction {
            id: id.to_owned(),
            family: family(profile),
            confidence: profile.confidence,
            tools: profile.facts.tools,
            uses_tools: any_of(&profile.tool_dependence, |v| v != ToolDependence::None),
            json: any_of(&profile.output_contract, |v| {
                matches!(v, OutputContract::Json | OutputContract::Schema)
            }),
            contract: match features.contract {
                // The labels state what is enforced; JSON that the text only asks for stays free text.
                Contract::FreeText => "free_text",
                Contract::JsonObject => "json_object",
                Contract::JsonSchema => "json_schema",
            },
            topology: topology(features, profile),
            tokens: profile.facts.est_input_tokens,
            latency_ms: spent.map(|s| s.as_secs_f64() * 1e3),
        }
    }

    /// A line as the scoring script reads it.
    pub(super) fn line(&self) -> Value {
        let mut line = serde_json::json!({
            "id": self.id,
            "task_family": self.family,
            "confidence": (f64::from(self.confidence) * 1e4).round() / 1e4,
            "tools_offered": self.tools,
            "output_contract": self.contract,
            "context_topology": self.topology,
            "approx_input_tokens": self.tokens,
        });
        if let (Some(ms), Some(map)) = (self.latency_ms, line.as_object_mut()) {
            map.insert("latency_ms".into(), ms.into());
        }
        line
    }
}

/// Whether the value of an axis is one of several, and the score of those on its side.
fn any_of<V: AxisValue>(axis: &Scored<V>, is: impl Fn(V) -> bool) -> (bool, f32) {
    let found = is(axis.value);
    let same = V::ALL.iter().zip(axis.scores).filter(|(v, _)| is(**v) == found);
    (found, same.map(|(_, score)| score).sum::<f32>().min(1.0))
}

fn family(profile: &WorkloadProfile) -> &'static str {
    match profile.sub_label {
        Some(SubLabel::Math) => MATH,
        Some(SubLabel::Creative) => CREATIVE,
        _ => profile.task_family.value.as_str(),
    }
}

/// How the request is laid out, from its structure: the family alone decides nothing.
fn topology(features: &Features, profile: &WorkloadProfile) -> &'static str {
    let f = features;
    let family = profile.task_family.value;
    let acts = f.command_turns > 0 && f.command_turns.saturating_mul(2) >= f.looked_turns;
    let steps =
        f.assistant_turns > 0 && (family == TaskFamily::AgentLoop || (acts && f.questionless_turns > 0));
    let told = &f.instruction_shape;
    let brought = told.document_lines > 0
        || (f.instruction_documents > 0.0 && f.signal(Signal::Rag) > 0.5)
        || (family == TaskFamily::Rag && told.longest_prose > 0);
    let sure_of_rag = family == TaskFamily::Rag && profile.confidence >= 0.8;
    if profile.facts.tool_results > 0 || steps {
        "tool_trajectory"
    } else if brought || (sure_of_rag && f.shape.document_lines >= 2) {
        "rag_context"
    } else if profile.facts.turns > 1 {
        "multi_turn"
    } else {
        "single_turn"
    }
}
