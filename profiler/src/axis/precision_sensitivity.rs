//! How much a wrong detail hurts.

use super::{Task, explicit_or, softmax};
use crate::cues::Signal;
use crate::features::{Contract, Features};
use types::Options;
use types::axis::{PrecisionSensitivity, TaskFamily};
use types::profile::{Scored, SubLabel};

/// Scores low, medium, high; the option `precision` wins.
pub(crate) fn score(f: &Features, task: Task, options: &Options) -> Scored<PrecisionSensitivity> {
    explicit_or(options.precision, || {
        let contract = match f.contract {
            Contract::JsonSchema => 0.6,
            Contract::JsonObject => 0.3,
            Contract::FreeText => 0.0,
        };
        let careful = 0.8 * f.signal(Signal::Careful).ln_1p() + 0.2 * f.signal(Signal::Reproducible).ln_1p();
        let exact = f.signal(Signal::Exact).min(2.0);
        // Figures and numbers of accounts are right or wrong; of a text to extract from they are the point.
        let figures = f.marks.amounts > 0 || f.marks.identifiers > 0;
        let figures = match task.family {
            TaskFamily::Extraction | TaskFamily::Rag if figures => 0.4,
            TaskFamily::Chat if f.marks.identifiers > 0 && task.sub != Some(SubLabel::Creative) => 0.3,
            _ => 0.0,
        };
        // A rough figure is asked for; whoever asks for it exactly as well wants it exact.
        let about = match task.family {
            TaskFamily::Chat if exact < 0.5 => 1.9 * f.signal(Signal::About).min(1.0),
            _ => 0.0,
        };
        let careful = careful + if exact < 0.5 { 0.0 } else { 0.5 * exact.ln_1p() } + figures - about;
        let tools = if f.tools_demanded { 0.4 } else { 0.0 };
        let level: f32 = usual(task) + contract + careful + tools - if f.hot { 0.4 } else { 0.0 };
        let closeness = |at: f32| -(level.clamp(-0.5, 2.5) - at).powi(2);
        softmax([closeness(0.0), closeness(1.0), closeness(2.0)], 0.6)
    })
}

fn usual(task: Task) -> f32 {
    match (task.family, task.sub) {
        (_, Some(SubLabel::Creative)) => 0.0,
        (_, Some(SubLabel::Math)) => 1.6,
        (_, Some(SubLabel::Translation | SubLabel::KnowledgeQa)) => 1.0,
        (_, Some(SubLabel::Summarisation)) => 0.8,
        (TaskFamily::Chat, None) => 0.4,
        (TaskFamily::Planning, _) => 0.9,
        (TaskFamily::Rag | TaskFamily::Eval, _) => 1.1,
        (TaskFamily::Extraction | TaskFamily::Coding, _) => 1.4,
        (TaskFamily::ToolUse | TaskFamily::AgentLoop, _) => 1.5,
    }
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{all, body, text};
    use serde_json::json;
    use types::axis::PrecisionSensitivity::{self, High, Low, Medium};

    fn check(input: &str, expected: PrecisionSensitivity) {
        assert_eq!(text(input).precision_sensitivity.value, expected, "{input}");
    }

    #[test]
    fn labelled_texts() {
        check("Write a haiku about rain.", Low);
        check("Hi, how are you today?", Low);
        check("Translate into German: the house is red.", Medium);
        check("What dosage of this medication is safe for the patient given these symptoms? Be exact.", High);
        all(
            &[
                "Roughly how many grains of sand fit into a bucket?",
                "Wie viele Sandkörner passen ungefähr in einen Eimer?",
                "Environ combien de grains de sable dans un seau ?",
                "¿Cuántos granos de arena caben aproximadamente en un cubo?",
                "Примерно сколько песчинок помещается в ведро?",
                "一个桶大约能装多少粒沙子？",
                "バケツに砂粒はおよそ何個入りますか？",
                "कितने दाने रेत लगभग एक बाल्टी में आते हैं?",
                "Ballpark: what is 61 times 19?",
            ],
            Low,
            |p| p.precision_sensitivity.value,
        );
        all(
            &[
                "Extract the total and the account: Total 71,20 € to AT61 1904 3002 3457 3201",
                "Extrahiere Betrag und Kontonummer: 71,20 € an AT61 1904 3002 3457 3201",
                "Extrais le montant : total 71,20 €",
                "Extrae el importe: total 71,20 €",
                "提取金额：总计 71.20 元",
                "金額を抽出してください：合計は7,120円です。",
                "Извлеки сумму: итого 7120 рублей",
            ],
            High,
            |p| p.precision_sensitivity.value,
        );
        check("Solve for x: 3x + 7 = 22. What is the value of x?", High);
    }

    #[test]
    fn the_option_wins() {
        let p = body(
            json!({"messages": [{"role": "user", "content": "Write a haiku."}], "routing": {"precision": "high"}}),
        );
        assert_eq!(p.precision_sensitivity.value, High);
        assert!(p.precision_sensitivity.explicit);
    }
}
