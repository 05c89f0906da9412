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
    let json = -1.8 + 1.9 * f.signal(Signal::Json).ln_1p();
    let coding = family == TaskFamily::Coding;
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
    fn texts_are_read() {
        for (input, expected) in [
            ("Is it warm in Rome?", Prose),
            ("List three fruits. Return a JSON array only.", Json),
            ("Write a Python function that reverses a string.", CodePatch),
            ("Fix the bug in this code:\n```\ndef f(x):\n    return y\n```", CodePatch),
        ] {
            assert_eq!(text(input).output_contract.value, expected, "{input}");
        }
    }
}
