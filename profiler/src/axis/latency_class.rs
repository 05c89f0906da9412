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
        let (overnight, no_rush) = (f.signal(Signal::Overnight), f.signal(Signal::NoRush));
        batch += 0.8 * f.signal(Signal::Batch).ln_1p() + 3.2 * overnight.ln_1p();
        program += 2.4 * no_rush.min(2.0).ln_1p();
        if overnight + no_rush >= 0.9 {
            interactive -= 0.5;
        }
        softmax([interactive, program, batch], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{all, body};
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
        all(
            &[
                "Nightly job: tag every new support mail with a product.",
                "Run this overnight over all contracts: list the parties.",
                "Stapelverarbeitung über Nacht: ordne jedem Artikel eine Warengruppe zu.",
                "Traitement par lots : classe chaque avis.",
                "Procesamiento por lotes: clasifica cada reseña.",
                "Пакетная обработка: определи тему каждого письма.",
                "批量处理：给每条评论打上标签。",
                "夜間バッチ：各レビューを分類してください。",
                "معالجة دفعية: صنف كل رسالة.",
                "बैच प्रोसेसिंग: हर समीक्षा को वर्गीकृत करें।",
            ],
            Batch,
            |p| p.latency_class.value,
        );
        all(
            &[
                "No hurry at all: what speaks for and against a heat pump?",
                "Whenever you have time, sum up the history of chess.",
                "Keine Eile: worin unterscheiden sich Alpen und Anden?",
                "Rien ne presse : explique-moi la photosynthèse.",
                "No hay prisa, explícame la fotosíntesis.",
                "Не срочно: чем отличаются Альпы и Анды?",
                "不着急，给我讲讲光合作用。",
                "急ぎませんが、光合成について教えてください。",
                "لا داعي للعجلة، اشرح لي البناء الضوئي.",
                "कोई जल्दी नहीं, प्रकाश संश्लेषण समझाइए।",
            ],
            Async,
            |p| p.latency_class.value,
        );
        check("Why do owls hunt at night?", json!({}), Interactive);
        check("I urgently need a recipe for tonight.", json!({}), Interactive);
        check(
            "Annotate the dataset: rate the response on a scale of 1 to 5 for each row.",
            json!({"routing": {"max_latency_ms": 3_600_000}}),
            Batch,
        );
    }
}
