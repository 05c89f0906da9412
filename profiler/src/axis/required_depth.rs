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
    let depth = usual(task) + asked(f) + size(f) - if is_sum(f, task) { 1.1 } else { 0.0 }
        + match options.min_quality_tier {
            Some(3) => 0.4,
            Some(1) => -0.3,
            _ => 0.0,
        };
    // Whoever sets the effort knows better than the text.
    let depth = match f.effort {
        1 => depth.max(EFFORT),
        -1 => (depth - 1.0).min(LOW_EFFORT),
        _ => depth,
    };
    let closeness = |at: f32| -(depth.clamp(-0.5, 2.5) - at).powi(2);
    softmax([closeness(0.0), closeness(1.0), closeness(2.0)], 0.6)
}

/// Least depth where `reasoning_effort` is high.
const EFFORT: f32 = 1.8;
/// Greatest depth where it is low.
const LOW_EFFORT: f32 = 1.2;

/// A sum or two of small numbers, and nothing to be proven: a glance is enough.
fn is_sum(f: &Features, task: Task) -> bool {
    let (numbers, marks) = (f.signs.numbers, &f.marks);
    let short = (f.ask_bytes <= 40 && numbers <= 5) || (f.ask_bytes <= 100 && numbers <= 3);
    task.sub == Some(SubLabel::Math)
        && short
        && numbers > 0
        && marks.longest_number <= 5
        && marks.variables == 0
        && f.signs.formula <= 2
        && thought(f) < 0.9
}

/// Evidence that much thought is asked for.
fn thought(f: &Features) -> f32 {
    f.signal(Signal::Proof) + f.signal(Signal::Ponder)
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
    let proof = (f.signal(Signal::Proof) / 2.0).min(1.0);
    1.1 * proof
        + 0.75 * f.signal(Signal::Ponder).ln_1p()
        + 0.45 * f.signal(Signal::Deep).ln_1p()
        + 0.2 * f.signal(Signal::Long).ln_1p()
        - 0.5 * f.signal(Signal::Brief).ln_1p()
}

/// A long text and a long transcript hold more to keep together; a line or two holds little.
fn size(f: &Features) -> f32 {
    let tokens = f.facts.est_input_tokens;
    let text = match tokens {
        // A deep question may well be short.
        0..40 if thought(f) < 0.9 => -0.25,
        0..40 => 0.0,
        40..1_500 => 0.0,
        1_500..8_000 => 0.2,
        _ => 0.4,
    };
    text + if f.facts.tool_results >= 4 { 0.3 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{all, body, text};
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
        for input in
            ["3 + 8", "What is 14 times 6?", "Was ist 15 + 27?", "a third of 96", "8 × 7 = ?", "120 - 45"]
        {
            check(input, Shallow);
        }
        check(
            "A cyclist rides 36 km in 2.5 hours, rests 20 minutes and rides 18 km in 1 hour. What was the mean speed of the whole trip in km/h?",
            Medium,
        );
        all(
            &[
                "Prove that every tree with n vertices has n - 1 edges.",
                "Show that the sum of two even numbers is even.",
                "Beweise, dass die Quadratwurzel aus 5 irrational ist.",
                "Démontre que la somme de deux nombres pairs est paire.",
                "Demuestra que la raíz de 5 es irracional.",
                "Докажи, что корень из 5 иррационален.",
                "证明根号5是无理数。",
                "√5が無理数であることを証明せよ。",
                "أثبت أن جذر 5 عدد غير نسبي.",
                "सिद्ध कीजिए कि 5 का वर्गमूल अपरिमेय है।",
                "Think long and hard, step by step: should a town ban cars from its centre?",
                "Analysiere ausführlich und aus mehreren Perspektiven, warum Imperien zerfallen.",
                "Propose une analyse approfondie, sous plusieurs angles, du déclin des empires.",
                "Haz un análisis crítico, en profundidad, de la caída de los imperios.",
                "Проведи глубокий анализ распада империй с разных точек зрения.",
                "请从多个角度深入分析帝国衰落的原因。",
                "帝国が衰退する理由を多角的に詳しく分析してください。",
            ],
            Deep,
            |p| p.required_depth.value,
        );
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
        assert!(with("high") > 0.5 && with("xhigh") > 0.5);
    }
}
