//! How the context is laid out: short, long, in pieces, structured, or more than text.

use crate::cues::Signal;
use crate::features::Features;
use types::axis::ContextTopology;
use types::profile::Scored;

/// Estimated input tokens at which short and long are equally likely.
const LONG_TOKENS: f32 = 4_000.0;
/// Pieces (turns, tool results, documents) at which a context counts as fragmented.
const PIECES: f32 = 6.0;

/// Scores short, long, fragmented, structured, multimodal.
pub(crate) fn score(f: &Features) -> Scored<ContextTopology> {
    if f.facts.images > 0 || f.facts.other_media > 0 {
        return Scored::certain(ContextTopology::Multimodal);
    }
    let tokens = f.facts.est_input_tokens as f32;
    // Logistic in the logarithm: twice the tokens, four times the odds.
    let long = 1.0 / (1.0 + (LONG_TOKENS / tokens.max(1.0)).powi(2));
    let pieces = f.facts.turns.saturating_sub(1) as f32
        + 1.5 * f.facts.tool_results as f32
        + 1.5 * f.signal(Signal::Document).min(8.0);
    let fragmented = 1.6 / (1.0 + (PIECES / pieces.max(0.01)).powi(2));
    let share = f.structured_share().max(f.result_shape.structured_share());
    // Rows and records are what a question about data is mostly made of; code may be quoted in passing.
    let structured = (2.0 * (share - 0.35)).max(2.6 * (f.data_share() - 0.25)).max(0.0);
    Scored::from_weights(&[1.0 - long, long * 1.3, fragmented, structured, 0.0])
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text};
    use serde_json::json;
    use types::axis::ContextTopology::{Fragmented, Long, Multimodal, Short, Structured};

    #[test]
    fn labelled_texts() {
        for (input, expected) in [
            ("Hello!".to_owned(), Short),
            ("The lake lay still. ".repeat(4_000), Long),
            ("| a | b | c |\n".repeat(40), Structured),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}\n".repeat(20), Structured),
            (format!("Which plant is tallest?\n\n{}", "fern,40,wet\ncactus,12,dry\n".repeat(8)), Structured),
            (format!("{}\nHow many are dry?", "fern;40;wet\ncactus;12;dry\n".repeat(80)), Structured),
            (
                format!("What failed?\n{}", "2025-02-11T09:14:02 worker-3 ERROR no space left\n".repeat(300)),
                Structured,
            ),
            (
                format!("Is the port open?\n{}", "- host: db\n  port: 5432\n  tls: true\n".repeat(9)),
                Structured,
            ),
            (
                format!(
                    "[{}]\n\nSum up the weights.",
                    vec![r#"{"fruit": "pear", "grams": 180}"#; 70].join(", ")
                ),
                Structured,
            ),
            (
                "Dear Ann,\nthank you for the cake.\nIt was good, and we ate it all.\nYours,\nBob".to_owned(),
                Short,
            ),
        ] {
            assert_eq!(text(&input).context_topology.value, expected, "{:.40}", input);
        }
    }

    #[test]
    fn many_turns_are_fragments_and_images_are_multimodal() {
        let turns: Vec<_> = (0..20)
            .map(|i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "And then? We went on."}))
            .collect();
        assert_eq!(body(json!({"messages": turns})).context_topology.value, Fragmented);
        let image = json!([{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]);
        let p = body(json!({"messages": [{"role": "user", "content": image}]}));
        assert_eq!((p.context_topology.value, p.context_topology.confidence), (Multimodal, 1.0));
    }
}
