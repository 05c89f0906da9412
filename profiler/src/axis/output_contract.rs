//! The form the answer must have.

use super::softmax;
use crate::cues::Signal;
use crate::features::{Contract, Features};
use types::axis::{OutputContract, TaskFamily};
use types::profile::Scored;

/// Scores prose, json, schema, code_patch, tool_calls: what the structure states is certain, the rest is read
/// from the text.
pub(crate) fn score(f: &Features, family: TaskFamily) -> Scored<OutputContract> {
    match f.contract {
        Contract::JsonSchema => return Scored::certain(OutputContract::Schema),
        Contract::JsonObject => return Scored::certain(OutputContract::Json),
        Contract::FreeText => {}
    }
    if f.tools_demanded && f.facts.tools > 0 {
        return Scored::certain(OutputContract::ToolCalls);
    }
    let coding = family == TaskFamily::Coding;
    // In a question about code a template may be code; what the instructions lay down holds for every answer.
    let told = f.instruction_marks.template;
    let json = -1.8
        + 1.9 * f.signal(Signal::Json).ln_1p()
        + if f.marks.json_asked || f.instruction_marks.json_asked {
            if coding { 0.5 } else { 1.4 }
        } else {
            0.0
        }
        + if told || (f.marks.template && !coding) { 2.6 } else { 0.0 };
    let patch = if coding { -0.4 } else { -3.0 }
        + 1.4 * f.signal(Signal::Patch).ln_1p()
        + if coding && f.facts.has_code { 0.5 } else { 0.0 };
    let offered = f.facts.tools > 0 && !f.tools_forbidden;
    let calls = match (offered, f.facts.tool_results > 0) {
        (true, false) => 1.2,
        (true, true) => 0.4,
        (false, _) => -4.0,
    };
    softmax([0.6, json, -4.0, patch, calls], 1.0)
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text, tool};
    use serde_json::{Value, json};
    use types::axis::OutputContract::{self, CodePatch, Json, Prose, Schema, ToolCalls};

    fn check(mut request: Value, expected: OutputContract, confidence: f32) {
        request["messages"] = json!([{"role": "user", "content": "Is it warm in Rome?"}]);
        let p = body(request);
        assert_eq!(p.output_contract.value, expected);
        assert!(p.output_contract.confidence >= confidence);
    }

    #[test]
    fn structure_is_certain() {
        check(json!({"response_format": {"type": "json_object"}}), Json, 1.0);
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}});
        check(json!({"response_format": schema}), Schema, 1.0);
        check(json!({"tools": [tool()], "tool_choice": "required"}), ToolCalls, 1.0);
        check(json!({"tools": [tool()]}), ToolCalls, 0.4);
        check(json!({"tools": [tool()], "tool_choice": "none"}), Prose, 0.4);
    }

    #[test]
    fn instructions_lay_down_the_form() {
        let check = |told: &str, expected: OutputContract| {
            let p = body(json!({"messages": [{"role": "system", "content": told},
                {"role": "user", "content": "The room was small but the view was lovely."}]}));
            assert_eq!(p.output_contract.value, expected, "{told}");
        };
        check("Answer with {\"mood\": string, \"sure\": number}.", Json);
        check("You grade reviews. Format of the output: JSON, nothing else.", Json);
        check("Du bewertest Texte. Gib ausschließlich {\"note\": <1-6>} aus.", Json);
        check("Réponds uniquement en JSON.", Json);
        check("Отвечай только в формате JSON.", Json);
        check("You are a friendly concierge. Use plain words.", Prose);
        check("You help people who work with JSON and XML files.", Prose);
    }

    #[test]
    fn texts_are_read() {
        for (input, expected) in [
            ("Is it warm in Rome?", Prose),
            ("List three fruits. Return a JSON array only.", Json),
            (
                "Name the tone of this mail. Fill in {\"tone\": \"warm\" | \"cold\", \"why\": string}. Thanks a lot!",
                Json,
            ),
            ("Nenne drei Bäume und antworte als JSON.", Json),
            ("用JSON格式返回三种水果的名字。", Json),
            ("In what year was JSON invented, and by whom?", Prose),
            ("Explain to a child what JSON is.", Prose),
            ("Write a Python function that reverses a string.", CodePatch),
            ("Fix the bug in this code:\n```\ndef f(x):\n    return y\n```", CodePatch),
        ] {
            assert_eq!(text(input).output_contract.value, expected, "{input}");
        }
    }
}
