//! The ten axes of a workload and their values: one list of strings for Rust, YAML, Rhai, metrics and docs.

use serde::{Deserialize, Serialize};

/// A value of one axis.
pub trait AxisValue: Copy + Eq + std::fmt::Debug + Send + Sync + 'static {
    /// The axis this is a value of.
    const AXIS: Axis;
    /// Every value, in the order of its scores.
    const ALL: &'static [Self];
    /// The string used in YAML, Rhai, metrics and docs.
    fn as_str(self) -> &'static str;
    /// Position in [`AxisValue::ALL`].
    fn index(self) -> usize;
    /// The value of that name.
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|v| v.as_str() == name)
    }
}

/// Declares one axis: the enum, its strings and its place in [`Axis`]. A macro because the string must
/// be written once only; it defines data, no control flow.
macro_rules! axis {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $string:literal : $meaning:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $(#[doc = $meaning] #[serde(rename = $string)] $variant),+ }

        impl AxisValue for $name {
            const AXIS: Axis = Axis::$name;
            const ALL: &'static [Self] = &[$($name::$variant),+];
            fn as_str(self) -> &'static str { match self { $($name::$variant => $string),+ } }
            fn index(self) -> usize { self as usize }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.as_str()) }
        }

        impl $name {
            /// The strings of all values, in order.
            pub const NAMES: &'static [&'static str] = &[$($string),+];
        }
    };
}

axis! {
    /// What kind of work is asked for.
    TaskFamily {
        Chat = "chat": "Conversation, open questions, writing.",
        Extraction = "extraction": "Structured facts out of given text.",
        Coding = "coding": "Writing, changing or explaining code.",
        Planning = "planning": "A sequence of steps towards a goal.",
        ToolUse = "tool_use": "One or few calls of offered tools.",
        Rag = "rag": "An answer from documents that are supplied.",
        Eval = "eval": "Judging or scoring of other text.",
        AgentLoop = "agent_loop": "A step of a trajectory that already holds tool results.",
    }
}
axis! {
    /// How much reasoning the answer takes.
    RequiredDepth { Shallow = "shallow": "One step.", Medium = "medium": "A few steps.", Deep = "deep": "Many dependent steps." }
}
axis! {
    /// How much a wrong detail hurts.
    PrecisionSensitivity { Low = "low": "A slip does not matter.", Medium = "medium": "A slip is a nuisance.", High = "high": "A slip breaks the use." }
}
axis! {
    /// How long the caller waits.
    LatencyClass { Interactive = "interactive": "A person waits.", Async = "async": "A program waits.", Batch = "batch": "Nobody waits." }
}
axis! {
    /// How the context is laid out.
    ContextTopology {
        Short = "short": "Little text, few turns.", Long = "long": "Much text.",
        Fragmented = "fragmented": "Many pieces: documents, turns, tool results.",
        Structured = "structured": "Mostly tables, JSON or code.", Multimodal = "multimodal": "Images or sound besides text.",
    }
}
axis! {
    /// Whether the answer depends on tools.
    ToolDependence { None = "none": "No tools.", Optional = "optional": "Tools may be used.", Mandatory = "mandatory": "A tool must be used." }
}
axis! {
    /// How far the same request must give the same answer.
    DeterminismNeeds { Low = "low": "Variation is fine.", Replayable = "replayable": "The run must be replayable.", Strict = "strict": "Same in, same out." }
}
axis! {
    /// How careful the answer must be.
    SafetyPosture { Permissive = "permissive": "Fiction, research.", Standard = "standard": "The usual care.", LockedDown = "locked_down": "Sensitive: no experiments." }
}
axis! {
    /// The form the answer must have.
    OutputContract {
        Prose = "prose": "Free text.", Json = "json": "Any JSON value.", Schema = "schema": "JSON that fits a schema.",
        CodePatch = "code_patch": "Code or a patch.", ToolCalls = "tool_calls": "Calls of offered tools.",
    }
}
axis! {
    /// What a success may cost.
    EconomicPolicy { Cheapest = "cheapest": "As little as possible.", Balanced = "balanced": "Worth its price.", BestPossible = "best_possible": "Quality first." }
}

/// The ten axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// See [`TaskFamily`].
    TaskFamily,
    /// See [`RequiredDepth`].
    RequiredDepth,
    /// See [`PrecisionSensitivity`].
    PrecisionSensitivity,
    /// See [`LatencyClass`].
    LatencyClass,
    /// See [`ContextTopology`].
    ContextTopology,
    /// See [`ToolDependence`].
    ToolDependence,
    /// See [`DeterminismNeeds`].
    DeterminismNeeds,
    /// See [`SafetyPosture`].
    SafetyPosture,
    /// See [`OutputContract`].
    OutputContract,
    /// See [`EconomicPolicy`].
    EconomicPolicy,
}

impl Axis {
    /// All ten, in the order of the docs.
    pub const ALL: [Axis; 10] = [
        Axis::TaskFamily,
        Axis::RequiredDepth,
        Axis::PrecisionSensitivity,
        Axis::LatencyClass,
        Axis::ContextTopology,
        Axis::ToolDependence,
        Axis::DeterminismNeeds,
        Axis::SafetyPosture,
        Axis::OutputContract,
        Axis::EconomicPolicy,
    ];

    /// The string used in YAML, Rhai, metrics and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Axis::TaskFamily => "task_family",
            Axis::RequiredDepth => "required_depth",
            Axis::PrecisionSensitivity => "precision_sensitivity",
            Axis::LatencyClass => "latency_class",
            Axis::ContextTopology => "context_topology",
            Axis::ToolDependence => "tool_dependence",
            Axis::DeterminismNeeds => "determinism_needs",
            Axis::SafetyPosture => "safety_posture",
            Axis::OutputContract => "output_contract",
            Axis::EconomicPolicy => "economic_policy",
        }
    }

    /// The strings of the axis's values, in the order of their scores.
    #[must_use]
    pub const fn values(self) -> &'static [&'static str] {
        match self {
            Axis::TaskFamily => TaskFamily::NAMES,
            Axis::RequiredDepth => RequiredDepth::NAMES,
            Axis::PrecisionSensitivity => PrecisionSensitivity::NAMES,
            Axis::LatencyClass => LatencyClass::NAMES,
            Axis::ContextTopology => ContextTopology::NAMES,
            Axis::ToolDependence => ToolDependence::NAMES,
            Axis::DeterminismNeeds => DeterminismNeeds::NAMES,
            Axis::SafetyPosture => SafetyPosture::NAMES,
            Axis::OutputContract => OutputContract::NAMES,
            Axis::EconomicPolicy => EconomicPolicy::NAMES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_fit_the_score_array() {
        for axis in Axis::ALL {
            assert!(axis.values().len() <= crate::profile::MAX_VALUES, "{}", axis.as_str());
        }
        for v in TaskFamily::ALL {
            assert_eq!(TaskFamily::parse(v.as_str()), Some(*v));
            assert_eq!(TaskFamily::NAMES[v.index()], v.as_str());
        }
        assert_eq!(TaskFamily::parse("codng"), None);
    }
}
