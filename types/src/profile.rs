//! What the profiler says of a request: ten axes with a score per value and a confidence, and plain facts.

use crate::axis::{
    AxisValue, ContextTopology, DeterminismNeeds, EconomicPolicy, LatencyClass, OutputContract,
    PrecisionSensitivity, RequiredDepth, SafetyPosture, TaskFamily, ToolDependence,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// The most values an axis has.
pub const MAX_VALUES: usize = 8;

/// One axis of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored<V> {
    /// The value with the highest score (or the one that an explicit option set).
    pub value: V,
    /// How sure the profiler is of `value`, 0..=1; 1 where an option or the structure decides it.
    pub confidence: f32,
    /// Score per value in the order of `V::ALL`, each 0..=1, sum 1; entries past the last value are 0.
    pub scores: [f32; MAX_VALUES],
    /// Set by an explicit option rather than inferred.
    pub explicit: bool,
}

impl<V: AxisValue> Scored<V> {
    /// Certain of `value`: score 1, confidence 1, not explicit.
    #[must_use]
    pub fn certain(value: V) -> Self {
        let mut scores = [0.0; MAX_VALUES];
        if let Some(s) = scores.get_mut(value.index()) {
            *s = 1.0;
        }
        Scored { value, confidence: 1.0, scores, explicit: false }
    }

    /// Set by the caller: certain, and marked explicit.
    #[must_use]
    pub fn explicit(value: V) -> Self {
        Scored { explicit: true, ..Self::certain(value) }
    }

    /// From unnormalised weights, one per value in the order of `V::ALL` (negative ones count as 0).
    /// The value is the first greatest; the confidence is the normalised score of the winner.
    /// All-zero weights give the first value with confidence 0.
    #[must_use]
    pub fn from_weights(weights: &[f32]) -> Self {
        let mut scores = [0.0_f32; MAX_VALUES];
        let n = V::ALL.len().min(MAX_VALUES);
        let sum: f32 = weights.iter().take(n).map(|w| w.max(0.0)).sum();
        let mut best = 0;
        let mut best_score = 0.0;
        for (i, (slot, w)) in scores.iter_mut().zip(weights).take(n).enumerate() {
            *slot = if sum > 0.0 { w.max(0.0) / sum } else { 0.0 };
            if *slot > best_score {
                best_score = *slot;
                best = i;
            }
        }
        // `ALL` is never empty: every axis has at least three values.
        let value = V::ALL.get(best).or(V::ALL.first()).copied();
        match value {
            Some(value) => Scored { value, confidence: best_score, scores, explicit: false },
            None => unreachable!("an axis without values"),
        }
    }
}

impl<V: AxisValue> Serialize for Scored<V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Scores<'a, V>(&'a Scored<V>);
        impl<V: AxisValue> Serialize for Scores<'_, V> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut m = s.serialize_map(Some(V::ALL.len()))?;
                for (v, score) in V::ALL.iter().zip(self.0.scores) {
                    m.serialize_entry(v.as_str(), &((score * 1e4).round() / 1e4))?;
                }
                m.end()
            }
        }
        let mut m = s.serialize_map(Some(4))?;
        m.serialize_entry("value", self.value.as_str())?;
        m.serialize_entry("confidence", &((self.confidence * 1e4).round() / 1e4))?;
        m.serialize_entry("explicit", &self.explicit)?;
        m.serialize_entry("scores", &Scores(self))?;
        m.end()
    }
}

/// Refines the task family where the text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubLabel {
    /// Mathematics and quantitative reasoning.
    Math,
    /// Fiction, verse, style.
    Creative,
    /// Shortening of given text.
    Summarisation,
    /// From one language into another.
    Translation,
    /// Factual questions with a short answer.
    KnowledgeQa,
}

impl SubLabel {
    /// The string used in YAML, Rhai, metrics and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SubLabel::Math => "math",
            SubLabel::Creative => "creative",
            SubLabel::Summarisation => "summarisation",
            SubLabel::Translation => "translation",
            SubLabel::KnowledgeQa => "knowledge_qa",
        }
    }
}

/// Plain facts of a request; counted, not guessed (token counts are estimates from bytes).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// Estimated input tokens (text, tools and schema).
    pub est_input_tokens: u32,
    /// Of these, images.
    pub est_image_tokens: u32,
    /// Fewer input tokens than it has for any vendor: what does not fit by this count fits nowhere of that size.
    pub least_input_tokens: u32,
    /// More input tokens than it has for any vendor: what is set aside before a call.
    pub most_input_tokens: u32,
    /// Of these, images.
    pub most_image_tokens: u32,
    /// Estimated output tokens, before any cap.
    pub est_output_tokens: u32,
    /// Messages in the request.
    pub message_count: u32,
    /// User turns.
    pub turns: u32,
    /// Bytes of text in all messages.
    pub text_bytes: u32,
    /// Image parts.
    pub images: u32,
    /// Audio and file parts.
    pub other_media: u32,
    /// Examples: pairs of a user's text and an assistant's answer in words, before the last user's text.
    pub examples: u32,
    /// Tools offered.
    pub tools: u32,
    /// Tool results among the messages.
    pub tool_results: u32,
    /// A schema stands in `response_format`.
    pub has_schema: bool,
    /// Fenced or otherwise plain code in the text.
    pub has_code: bool,
    /// ISO 639-1 code of the main language of the last user text, `und` if unknown.
    pub language: &'static str,
    /// Further languages seen, as for `language`; `None` where only one was seen.
    pub second_language: Option<&'static str>,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            est_input_tokens: 0,
            est_image_tokens: 0,
            least_input_tokens: 0,
            most_input_tokens: 0,
            most_image_tokens: 0,
            est_output_tokens: 0,
            message_count: 0,
            turns: 0,
            text_bytes: 0,
            images: 0,
            other_media: 0,
            examples: 0,
            tools: 0,
            tool_results: 0,
            has_schema: false,
            has_code: false,
            language: "und",
            second_language: None,
        }
    }
}

/// Length of the input, in steps that differ in which models do well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthBand {
    /// Under 200 estimated tokens.
    Xs,
    /// Under 1 000.
    S,
    /// Under 8 000.
    M,
    /// 8 000 and more.
    L,
}

impl LengthBand {
    /// The band of an estimated token count.
    #[must_use]
    pub const fn of(tokens: u32) -> Self {
        match tokens {
            0..200 => LengthBand::Xs,
            200..1_000 => LengthBand::S,
            1_000..8_000 => LengthBand::M,
            _ => LengthBand::L,
        }
    }

    /// The string used in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LengthBand::Xs => "xs",
            LengthBand::S => "s",
            LengthBand::M => "m",
            LengthBand::L => "l",
        }
    }
}

/// Languages that models are alike in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageGroup {
    /// English.
    En,
    /// Another language in Latin letters.
    Latin,
    /// Chinese, Japanese, Korean.
    Cjk,
    /// A language in other letters.
    Other,
}

impl LanguageGroup {
    /// All of them.
    pub const ALL: [LanguageGroup; 4] =
        [LanguageGroup::En, LanguageGroup::Latin, LanguageGroup::Cjk, LanguageGroup::Other];

    /// The group of an ISO 639-1 code; `None` where the language is not known.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        Some(match code {
            "und" => return None,
            "en" => LanguageGroup::En,
            "zh" | "ja" | "ko" => LanguageGroup::Cjk,
            "ru" | "uk" | "ar" | "he" | "hi" | "th" | "el" | "fa" => LanguageGroup::Other,
            _ => LanguageGroup::Latin,
        })
    }

    /// The string used in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LanguageGroup::En => "en",
            LanguageGroup::Latin => "latin",
            LanguageGroup::Cjk => "cjk",
            LanguageGroup::Other => "other",
        }
    }
}

/// Examples before the request: how many answers it shows that it could have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shots {
    /// None.
    None,
    /// One or two.
    Few,
    /// Three and more.
    Many,
}

impl Shots {
    /// All of them.
    pub const ALL: [Shots; 3] = [Shots::None, Shots::Few, Shots::Many];

    /// The band of a count.
    #[must_use]
    pub const fn of(examples: u32) -> Self {
        match examples {
            0 => Shots::None,
            1..3 => Shots::Few,
            _ => Shots::Many,
        }
    }

    /// The string used in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Shots::None => "none",
            Shots::Few => "few",
            Shots::Many => "many",
        }
    }
}

/// The finest class that outcomes are pooled in: family × sub-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub struct Cell {
    /// Task family.
    pub family: TaskFamily,
    /// Sub-label, where there is one.
    pub sub: Option<SubLabel>,
    /// Output contract.
    pub contract: OutputContract,
    /// Tool dependence.
    pub tools: ToolDependence,
    /// Length band of the input.
    pub length: LengthBand,
    /// How much reasoning; `None` = the record is of a version that did not keep it.
    #[serde(default)]
    pub depth: Option<RequiredDepth>,
    /// Examples that the request shows; `None` = the record is of a version that did not keep it.
    #[serde(default)]
    pub shots: Option<Shots>,
    /// What its language is alike to; `None` = it was not recognised, or not kept.
    #[serde(default)]
    pub language: Option<LanguageGroup>,
}

impl Cell {
    /// A short request of a family and a contract, of which nothing else is known.
    #[must_use]
    pub const fn plain(family: TaskFamily, contract: OutputContract) -> Self {
        Cell {
            family,
            sub: None,
            contract,
            tools: ToolDependence::None,
            length: LengthBand::S,
            depth: None,
            shots: None,
            language: None,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}/{}/{}/{}/{}/{}/{}",
            self.family,
            self.sub.map_or("-", SubLabel::as_str),
            self.contract,
            self.tools,
            self.length.as_str(),
            self.depth.map_or("-", |d| d.as_str()),
            self.shots.map_or("-", Shots::as_str),
            self.language.map_or("-", LanguageGroup::as_str)
        )
    }
}

/// A request as the router sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkloadProfile {
    /// What kind of work.
    pub task_family: Scored<TaskFamily>,
    /// A refinement of the family, where the text says so.
    pub sub_label: Option<SubLabel>,
    /// How much reasoning.
    pub required_depth: Scored<RequiredDepth>,
    /// How much a slip hurts.
    pub precision_sensitivity: Scored<PrecisionSensitivity>,
    /// Who waits.
    pub latency_class: Scored<LatencyClass>,
    /// How the context is laid out.
    pub context_topology: Scored<ContextTopology>,
    /// Whether tools matter.
    pub tool_dependence: Scored<ToolDependence>,
    /// Same in, same out?
    pub determinism_needs: Scored<DeterminismNeeds>,
    /// How careful.
    pub safety_posture: Scored<SafetyPosture>,
    /// Form of the answer.
    pub output_contract: Scored<OutputContract>,
    /// What a success may cost.
    pub economic_policy: Scored<EconomicPolicy>,
    /// Confidence in the profile as a whole: that of `task_family`, which everything learned hangs on.
    pub confidence: f32,
    /// Plain facts.
    pub facts: Facts,
}

impl WorkloadProfile {
    /// The cell that outcomes of this request are pooled in.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell {
            family: self.task_family.value,
            sub: self.sub_label,
            contract: self.output_contract.value,
            tools: self.tool_dependence.value,
            length: LengthBand::of(self.facts.est_input_tokens),
            depth: Some(self.required_depth.value),
            shots: Some(Shots::of(self.facts.examples)),
            language: LanguageGroup::of(self.facts.language),
        }
    }

    /// Value and confidence of every axis, in the order of [`crate::Axis::ALL`].
    #[must_use]
    pub fn axes(&self) -> [(&'static str, &'static str, f32); 10] {
        [
            ("task_family", self.task_family.value.as_str(), self.task_family.confidence),
            ("required_depth", self.required_depth.value.as_str(), self.required_depth.confidence),
            (
                "precision_sensitivity",
                self.precision_sensitivity.value.as_str(),
                self.precision_sensitivity.confidence,
            ),
            ("latency_class", self.latency_class.value.as_str(), self.latency_class.confidence),
            ("context_topology", self.context_topology.value.as_str(), self.context_topology.confidence),
            ("tool_dependence", self.tool_dependence.value.as_str(), self.tool_dependence.confidence),
            ("determinism_needs", self.determinism_needs.value.as_str(), self.determinism_needs.confidence),
            ("safety_posture", self.safety_posture.value.as_str(), self.safety_posture.confidence),
            ("output_contract", self.output_contract.value.as_str(), self.output_contract.confidence),
            ("economic_policy", self.economic_policy.value.as_str(), self.economic_policy.confidence),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_become_a_distribution() {
        let s = Scored::<TaskFamily>::from_weights(&[1.0, 0.0, 3.0, -2.0]);
        assert_eq!(s.value, TaskFamily::Coding);
        assert!((s.confidence - 0.75).abs() < 1e-6);
        assert!((s.scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(Scored::<TaskFamily>::from_weights(&[]).confidence, 0.0);
    }
}
