//! How careful the answer must be.

use super::{Task, explicit_or, softmax};
use crate::cues::Signal;
use crate::features::Features;
use types::Options;
use types::axis::SafetyPosture;
use types::profile::{Scored, SubLabel};

/// Scores permissive, standard, locked_down; the option `safety` wins.
///
/// Words alone cannot tell a harmful request from one that only sounds so ("kill a process"); the score leans
/// to `standard` unless several cues agree, and a harmless frame takes weight off.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<SafetyPosture> {
    explicit_or(options.safety, || {
        let danger = f.signal(Signal::Danger);
        let harmless = f.signal(Signal::Harmless);
        let locked =
            -1.6 + 1.5 * danger.ln_1p() - 0.5 * harmless.ln_1p() + 0.2 * f.signal(Signal::Careful).ln_1p();
        let creative = if task.sub == Some(SubLabel::Creative) { 0.9 } else { 0.0 };
        let permissive = -0.9 + creative + 0.6 * harmless.ln_1p() - 0.4 * danger.ln_1p();
        softmax([permissive, 0.5, locked], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text};
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
    fn the_option_wins() {
        let p = body(
            json!({"messages": [{"role": "user", "content": "Hi"}], "routing": {"safety": "locked_down"}}),
        );
        assert_eq!((p.safety_posture.value, p.safety_posture.explicit), (LockedDown, true));
    }
}
