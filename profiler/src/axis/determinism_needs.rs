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
        // The same, of every run: neither word says it alone.
        let same = f.signal(Signal::Same).min(f.signal(Signal::EachRun)).min(1.0);
        let outright = 2.0 * same + f.signal(Signal::Bitwise).min(4.0);
        if f.hot || (task.sub == Some(SubLabel::Creative) && outright < 1.0) {
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
        replayable += 1.2 * outright.ln_1p();
        strict += 3.2 * outright.ln_1p();
        softmax([low, replayable, strict], 1.0)
    })
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{all, body};
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
        all(
            &[
                "Name the planets. The text must be identical every time I run this.",
                "Nenne die Planeten. Der Text muss bei jedem Lauf gleich sein.",
                "Cite les planètes ; le texte doit être identique à chaque exécution.",
                "Nombra los planetas; el texto debe ser idéntico en cada ejecución.",
                "Назови планеты. Текст должен быть одинаковым при каждом запуске.",
                "列出行星。每次运行的结果必须相同。",
                "惑星を挙げてください。毎回同じ文章でなければなりません。",
                "اذكر الكواكب. يجب أن يكون النص مطابقا في كل مرة.",
                "ग्रहों के नाम बताओ। पाठ हर बार समान होना चाहिए।",
                "Name the planets, bit-for-bit as before.",
            ],
            Strict,
            |p| p.determinism_needs.value,
        );
        check("Are the two houses identical?", json!({}), Low);
        check("Every time I run this far my knee hurts. Why?", json!({}), Low);
        check("Tell me a joke.", json!({"routing": {"determinism": "strict"}}), Strict);
    }
}
