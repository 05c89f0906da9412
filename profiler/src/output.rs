//! How long the answer may get.

use crate::axis::Task;
use crate::cues::Signal;
use crate::features::{Contract, Features};
use types::axis::TaskFamily;
use types::profile::SubLabel;

/// Tokens per word of the answer.
const TOKENS_PER_WORD: f32 = 1.35;
/// Least and greatest estimate, tokens.
const RANGE: (f32, f32) = (8.0, 16_000.0);

/// Expected output tokens before any cap: a stated length if there is one, else what the task usually takes.
pub(crate) fn estimate(features: &Features, task: Task) -> u32 {
    let tokens = match features.signs.words_asked {
        Some(words) => words as f32 * TOKENS_PER_WORD,
        None => usual(features, task) * stretch(features),
    };
    // In range, so the cast loses only the fraction.
    tokens.clamp(RANGE.0, RANGE.1).round() as u32
}

fn usual(features: &Features, task: Task) -> f32 {
    let input = features.facts.est_input_tokens as f32;
    match task.sub {
        Some(SubLabel::Math) => return 450.0,
        Some(SubLabel::Creative) => return 550.0,
        // A summary grows slowly with what it sums up, a translation in step with it.
        Some(SubLabel::Summarisation) => return 120.0 + input.sqrt() * 4.0,
        Some(SubLabel::Translation) => return 20.0 + features.ask_bytes as f32 * 0.25,
        Some(SubLabel::KnowledgeQa) => return 150.0,
        None => {}
    }
    match task.family {
        TaskFamily::Chat => 350.0,
        TaskFamily::Extraction => 60.0 + (input * 0.15).min(600.0),
        TaskFamily::Coding => 450.0,
        TaskFamily::Planning => 700.0,
        TaskFamily::ToolUse => 90.0,
        TaskFamily::Rag => 220.0,
        TaskFamily::Eval => 250.0,
        TaskFamily::AgentLoop => 150.0,
    }
}

/// Factor from what the request says of length and reasoning.
fn stretch(features: &Features) -> f32 {
    let long = 1.0 + 0.25 * features.signal(Signal::Long).min(3.0);
    let deep = 1.0 + 0.15 * features.signal(Signal::Deep).min(3.0);
    let brief = 1.0 / (1.0 + 0.8 * features.signal(Signal::Brief).min(3.0));
    let contract = if features.contract == Contract::FreeText { 1.0 } else { 0.8 };
    let effort = match features.effort {
        1 => 2.0,
        -1 => 0.7,
        _ => 1.0,
    };
    long * deep * brief * contract * effort
}

#[cfg(test)]
mod tests {
    use crate::profile;
    use serde_json::json;
    use types::ChatRequest;

    fn tokens(text: &str) -> u32 {
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
        profile(&ChatRequest::from_value(&body).expect("a valid request")).facts.est_output_tokens
    }

    #[test]
    fn a_stated_length_wins_and_brevity_shortens() {
        assert_eq!(tokens("Write an essay of 1000 words about tea."), 1_350);
        assert!(tokens("What is tea? Answer in one sentence.") < tokens("What is tea?"));
        assert!(tokens("Write a comprehensive, exhaustive guide to tea in detail.") > tokens("Hello!"));
        assert!((8..=16_000).contains(&tokens("")));
    }
}
