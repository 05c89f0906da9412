//! How much reasoning the answer takes.

use super::{Task, softmax};
use crate::cues::Signal;
use crate::features::Features;
use types::Options;
use types::axis::{RequiredDepth, TaskFamily};
use types::profile::{Scored, SubLabel};

/// Scores shallow, medium, deep.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<RequiredDepth> {
    // One scale, 0 shallow to 2 deep; the three values sit on it at 0, 1 and 2.
    let depth = usual(task)
        + asked(f)
        + size(f)
        + f32::from(f.effort) * 1.0
        + match options.min_quality_tier {
            Some(3) => 0.4,
            Some(1) => -0.3,
            _ => 0.0,
        };
    let closeness = |at: f32| -(depth.clamp(-0.5, 2.5) - at).powi(2);
    softmax([closeness(0.0), closeness(1.0), closeness(2.0)], 0.6)
}

fn usual(task: Task) -> f32 {
    match (task.family, task.sub) {
        (_, Some(SubLabel::Math)) => 1.4,
        (_, Some(SubLabel::KnowledgeQa)) => 0.1,
        (_, Some(SubLabel::Translation | SubLabel::Summarisation)) => 0.5,
        (_, Some(SubLabel::Creative)) => 0.8,
        (TaskFamily::Chat, None) => 0.5,
        (TaskFamily::Extraction, _) => 0.2,
        (TaskFamily::Coding, _) => 1.2,
        (TaskFamily::Planning, _) => 1.6,
        (TaskFamily::ToolUse, _) => 0.5,
        (TaskFamily::Rag, _) => 0.6,
        (TaskFamily::Eval, _) => 1.0,
        (TaskFamily::AgentLoop, _) => 1.2,
    }
}

fn asked(f: &Features) -> f32 {
    0.45 * f.signal(Signal::Deep).ln_1p() + 0.2 * f.signal(Signal::Long).ln_1p()
        - 0.5 * f.signal(Signal::Brief).ln_1p()
}

/// A long text and a long transcript hold more to keep together; a line or two holds little.
fn size(f: &Features) -> f32 {
    let tokens = f.facts.est_input_tokens;
    let text = match tokens {
        0..40 => -0.25,
        40..1_500 => 0.0,
        1_500..8_000 => 0.2,
        _ => 0.4,
    };
    text + if f.facts.tool_results >= 4 { 0.3 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text};
    use serde_json::json;
    use types::axis::RequiredDepth::{self, Deep, Medium, Shallow};

    fn check(input: &str, expected: RequiredDepth) {
        assert_eq!(text(input).required_depth.value, expected, "{input}");
    }

    #[test]
    fn labelled_texts() {
        check("Hello!", Shallow);
        check("What is the capital of Peru? One word.", Shallow);
        check("Classify the sentiment of this review: I loved it.", Shallow);
        check("Write a Python function that merges two sorted lists.", Medium);
        check(
            "Prove that the square root of 2 is irrational, step by step and with rigorous reasoning.",
            Deep,
        );
        check(
            "Create a comprehensive, detailed rollout plan for moving our payroll to a new system, with all constraints.",
            Deep,
        );
    }

    #[test]
    fn reasoning_effort_moves_it() {
        let with = |effort: &str| {
            let p = body(
                json!({"messages": [{"role": "user", "content": "Why is the sky blue?"}], "reasoning_effort": effort}),
            );
            p.required_depth.scores[2]
        };
        assert!(with("high") > with("medium") && with("medium") > with("low"));
    }
}
