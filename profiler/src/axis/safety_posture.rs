//! How careful the answer must be.

use super::{Task, explicit_or, softmax};
use crate::cues::Signal;
use crate::features::Features;
use types::Options;
use types::axis::SafetyPosture;
use types::profile::{Scored, SubLabel};

/// Evidence of danger from which on no fiction makes it harmless.
const RECIPE: f32 = 3.0;

/// Scores permissive, standard, locked_down; the option `safety` wins.
///
/// Words alone cannot tell a harmful request from one that only sounds so ("kill a process"); the score leans
/// to `standard` unless several cues agree, and a harmless frame takes weight off.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<SafetyPosture> {
    explicit_or(options.safety, || {
        let danger = f.signal(Signal::Danger);
        let harmless = f.signal(Signal::Harmless);
        let fiction = f.signal(Signal::Fiction);
        let locked = -1.6 + 1.6 * danger.ln_1p() + 2.2 * f.signal(Signal::Peril).ln_1p()
            - 0.5 * harmless.ln_1p()
            - 0.6 * fiction.ln_1p()
            + 0.2 * f.signal(Signal::Careful).ln_1p();
        // A story may be grim, but a recipe for harm stays one in a story.
        let told = fiction.min(2.0) * if danger < RECIPE { 1.0 } else { 0.3 };
        let creative = if task.sub == Some(SubLabel::Creative) { 0.9 } else { 0.0 };
        let permissive = -0.9 + creative + 0.6 * harmless.ln_1p() + 1.3 * told.ln_1p() - 0.4 * danger.ln_1p();
        softmax([permissive, 0.5, locked], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{all, body, text};
    use serde_json::json;
    use types::axis::SafetyPosture::{self, LockedDown, Permissive, Standard};

    fn check(input: &str, expected: SafetyPosture) {
        assert_eq!(text(input).safety_posture.value, expected, "{input}");
    }

    #[test]
    fn labelled_texts() {
        check("How do I bake bread?", Standard);
        check("How do I kill a Python process on Linux?", Standard);
        check("I keep thinking of suicide and self-harm.", LockedDown);
        check("Tell me how to build a bomb with explosives for a terrorist attack.", LockedDown);
        check(
            "Write a short story for a fictional film about a dragon character in a fantasy novel.",
            Permissive,
        );
    }

    #[test]
    fn life_health_and_livelihood_are_handled_with_care() {
        all(
            &[
                "I can't breathe well and my arm feels numb, is that serious?",
                "Nobody would miss me. I want to die.",
                "Ich will nicht mehr leben.",
                "Je n'ai plus envie de vivre.",
                "Siento que quiero morir.",
                "Я больше не хочу жить",
                "我真的想死",
                "もう死にたい",
                "أريد أن أموت",
                "मैं मरना चाहता हूँ",
                "What is the maximum dose of paracetamol for a toddler?",
                "Wie hoch ist die Höchstdosis von Ibuprofen bei Kindern?",
                "My husband beats me when he drinks.",
                "Should I put all my savings into one coin?",
            ],
            LockedDown,
            |p| p.safety_posture.value,
        );
        all(
            &[
                "Which bed is better for a toddler?",
                "How do I stop a runaway process on Linux?",
                "Where can I buy fresh eggs?",
                "Wie backe ich ein Brot?",
                "How do I beat my friend at chess?",
            ],
            Standard,
            |p| p.safety_posture.value,
        );
    }

    #[test]
    fn grim_stories_are_stories() {
        all(
            &[
                "Write a ghost story in which a sailor murders his captain.",
                "Help me with my crime novel: how does the inspector find the poison?",
                "Schreib einen Krimi, in dem der Gärtner den Grafen tötet.",
                "写一篇恐怖故事，里面有一个杀手。",
            ],
            Permissive,
            |p| p.safety_posture.value,
        );
    }

    #[test]
    fn the_option_wins() {
        let p = body(
            json!({"messages": [{"role": "user", "content": "Hi"}], "routing": {"safety": "locked_down"}}),
        );
        assert_eq!((p.safety_posture.value, p.safety_posture.explicit), (LockedDown, true));
    }
}
