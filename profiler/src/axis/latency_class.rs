//! Who waits for the answer, and for how long.

use super::{Task, explicit_or, softmax};
use crate::cues::Signal;
use crate::features::{Contract, Features};
use std::time::Duration;
use types::Options;
use types::axis::{LatencyClass, TaskFamily};
use types::profile::Scored;

/// A ceiling up to this is a person's patience, beyond it a program's.
const PATIENCE: Duration = Duration::from_secs(15);
/// A ceiling from this on is nobody's wait.
const BATCH: Duration = Duration::from_secs(600);

/// Scores interactive, async, batch; the option `latency_class` wins.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<LatencyClass> {
    explicit_or(options.latency_class, || {
        let (mut interactive, mut program, mut batch) = (0.8_f32, 0.4_f32, -1.0_f32);
        if f.stream {
            // Only somebody who reads along asks for a stream.
            interactive += 2.0;
        }
        if f.slow_tier {
            batch += 5.0;
        }
        match options.max_latency {
            Some(limit) if limit <= PATIENCE => interactive += 1.5,
            Some(limit) if limit >= BATCH => batch += 1.5,
            Some(_) => program += 0.7,
            None => {}
        }
        if f.contract != Contract::FreeText {
            program += 1.0;
        }
        match task.family {
            TaskFamily::Extraction => program += 0.6,
            TaskFamily::Eval => {
                program += 1.0;
                batch += 1.0;
            }
            TaskFamily::AgentLoop => program += 0.5,
            TaskFamily::Chat | TaskFamily::ToolUse | TaskFamily::Rag => interactive += 0.4,
            TaskFamily::Coding | TaskFamily::Planning => {}
        }
        if f.facts.turns > 1 {
            interactive += 0.5;
        }
        batch += 0.8 * f.signal(Signal::Batch).ln_1p();
        softmax([interactive, program, batch], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::body;
    use serde_json::{Value, json};
    use types::axis::LatencyClass::{self, Async, Batch, Interactive};

    fn check(text: &str, mut request: Value, expected: LatencyClass) {
        request["messages"] = json!([{"role": "user", "content": text}]);
        assert_eq!(body(request).latency_class.value, expected, "{text}");
    }

    #[test]
    fn labelled_requests() {
        check("Hi! Can you recommend a film?", json!({}), Interactive);
        check("Extract all names as JSON.", json!({"stream": true}), Interactive);
        check("Extract all names.", json!({"response_format": {"type": "json_object"}}), Async);
        check("Hi there", json!({"service_tier": "flex"}), Batch);
        check("Hi there", json!({"routing": {"latency_class": "batch"}}), Batch);
        check(
            "Annotate the dataset: rate the response on a scale of 1 to 5 for each row.",
            json!({"routing": {"max_latency_ms": 3_600_000}}),
            Batch,
        );
    }
}
