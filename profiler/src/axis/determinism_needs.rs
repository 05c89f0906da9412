//! How far the same request must give the same answer.

use super::{Task, explicit_or, softmax};
use crate::cues::Signal;
use crate::features::{Contract, Features};
use types::Options;
use types::axis::{DeterminismNeeds, TaskFamily};
use types::profile::{Scored, SubLabel};

/// Scores low, replayable, strict; the option `determinism` wins.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<DeterminismNeeds> {
    explicit_or(options.determinism, || {
        let (mut low, mut replayable, mut strict) = (1.5_f32, 0.0_f32, -1.0_f32);
        match (f.seeded, f.cold) {
            // A seed and no randomness: the caller wants the same bytes again.
            (true, true) => strict += 4.5,
            (true, false) => replayable += 3.0,
            (false, true) => replayable += 1.8,
            (false, false) => {}
        }
        if f.hot || task.sub == Some(SubLabel::Creative) {
            low += 1.5;
        }
        if f.contract == Contract::JsonSchema {
            replayable += 0.5;
        }
        if matches!(task.family, TaskFamily::Eval | TaskFamily::Extraction) {
            replayable += 0.7;
        }
        let said = f.signal(Signal::Reproducible).ln_1p();
        replayable += 1.6 * said;
        strict += 1.4 * said;
        softmax([low, replayable, strict], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::body;
    use serde_json::{Value, json};
    use types::axis::DeterminismNeeds::{self, Low, Replayable, Strict};

    fn check(text: &str, mut request: Value, expected: DeterminismNeeds) {
        request["messages"] = json!([{"role": "user", "content": text}]);
        assert_eq!(body(request).determinism_needs.value, expected, "{text}");
    }

    #[test]
    fn labelled_requests() {
        check("Tell me a joke.", json!({}), Low);
        check("Tell me a joke.", json!({"temperature": 1.2}), Low);
        check("Summarise this.", json!({"seed": 7}), Replayable);
        check("Summarise this.", json!({"temperature": 0}), Replayable);
        check("Summarise this.", json!({"temperature": 0, "seed": 7}), Strict);
        check("Tell me a joke.", json!({"routing": {"determinism": "strict"}}), Strict);
    }
}
