//! Where training starts and is drawn back to: weights written by hand, from what the features mean.
//!
//! Structure that decides by definition (offered tools, tool results, a schema) must not depend on how many
//! sources happen to show it, so its weights are large here; training moves them only as far as the data pull.

use crate::dense;
use crate::model::{CLASSES, Class, Model, PerClass};

use Class::{AgentLoop, Chat, Coding, Creative, Eval, Extraction, Math, Planning, Rag, ToolUse};

/// Log odds before anything is known.
const BIAS: [(Class, f32); CLASSES] = [
    (Chat, 1.4),
    (Math, -0.6),
    (Creative, -0.4),
    (Extraction, -0.3),
    (Coding, -0.7),
    (Planning, -0.2),
    (ToolUse, -1.0),
    (Rag, -0.9),
    (Eval, -0.6),
    (AgentLoop, -1.5),
];

/// Class, feature, weight.
const WEIGHTS: &[(Class, &str, f32)] = &[
    (Chat, "chat", 1.3),
    (Chat, "persona", 1.5),
    (Chat, "translate", 0.4),
    (Chat, "summarise", 0.4),
    // To write a summary or a translation is not to write literature.
    (Chat, "compose a summary", 1.1),
    (Chat, "factual", 0.4),
    (Math, "math", 1.6),
    (Math, "quantities asked and given", 1.5),
    (Math, "numbers", 0.6),
    (Math, "formula signs", 0.8),
    (Math, "tools offered", -2.0),
    (Math, "definitions", -1.5),
    (Creative, "form", 1.0),
    (Creative, "compose a form", 1.1),
    (Creative, "definitions", -1.5),
    (Extraction, "extraction", 1.8),
    (Extraction, "labels of material", 0.3),
    (Extraction, "labels", 0.4),
    (Extraction, "contract: schema", 2.2),
    (Extraction, "contract: json", 1.2),
    (Extraction, "json", 0.3),
    (Coding, "coding", 1.5),
    (Coding, "compose code", 0.6),
    (Coding, "patch", 1.2),
    (Coding, "definitions", 1.6),
    (Coding, "share of code", 1.0),
    (Planning, "planning", 2.0),
    (ToolUse, "tool_use", 2.2),
    (ToolUse, "much of tools", 0.5),
    (ToolUse, "tools offered", 9.0),
    (ToolUse, "tool demanded", 2.0),
    (Rag, "rag", 1.1),
    (Rag, "bound to material", 1.1),
    (Rag, "document", 0.4),
    (Rag, "documents in the ask", 0.8),
    (Rag, "documents in the instructions", 1.0),
    (Rag, "document marks in the instructions", 2.5),
    (Rag, "material and a question", 2.2),
    (Rag, "instructions that are material", 2.2),
    (Eval, "eval", 1.7),
    (Eval, "much of judging", 0.4),
    (Eval, "candidate", 0.3),
    (Eval, "judged candidates", 0.6),
    (AgentLoop, "tool results", 11.0),
    (AgentLoop, "share of command turns", 4.0),
    (AgentLoop, "ends in a prompt", 2.0),
    (AgentLoop, "agent", 1.8),
    (AgentLoop, "actions in a transcript", 1.0),
    // With results at hand, the offer says nothing new.
    (AgentLoop, "tools offered", 2.0),
];

/// Features that may only speak for these classes: no other class may gain more from them. So a tool result
/// never makes an agent loop less likely, nor an offered tool the use of tools.
pub(super) const LEADERS: &[(&str, &[Class])] = &[
    ("tool results", &[AgentLoop]),
    ("number of tool results", &[AgentLoop]),
    ("share of command turns", &[AgentLoop]),
    ("tools offered", &[ToolUse, AgentLoop]),
    ("number of tools", &[ToolUse, AgentLoop]),
    ("tool demanded", &[ToolUse, AgentLoop]),
];

/// Bias and dense weights.
pub(super) fn weights() -> (PerClass, Vec<PerClass>) {
    let mut bias = [0.0; CLASSES];
    for (class, weight) in BIAS {
        set(&mut bias, class, weight);
    }
    let mut dense = vec![[0.0; CLASSES]; dense::COUNT];
    for (class, name, weight) in WEIGHTS {
        if let Some(row) = dense::position(name).and_then(|i| dense.get_mut(i)) {
            set(row, *class, *weight);
        }
    }
    (bias, dense)
}

fn set(row: &mut PerClass, class: Class, weight: f32) {
    if let Some(slot) = row.get_mut(class as usize) {
        *slot = weight;
    }
}

/// The start as a model of its own: structure and cues only.
pub(crate) fn model() -> Model {
    let (bias, dense) = weights();
    Model::quantised(1.1, bias, dense, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_named_exists() {
        for name in WEIGHTS.iter().map(|(_, n, _)| n).chain(LEADERS.iter().map(|(n, _)| n)) {
            assert!(dense::position(name).is_some(), "{name:?} is no feature");
        }
    }

    #[test]
    fn the_start_keeps_its_own_laws() {
        let (_, dense) = weights();
        for (name, leaders) in LEADERS {
            let row = dense[dense::position(name).expect("a feature")];
            let least = leaders.iter().map(|c| row[*c as usize]).fold(f32::INFINITY, f32::min);
            for class in Class::ALL.into_iter().filter(|c| !leaders.contains(c)) {
                assert!(row[class as usize] <= least, "{name}: {class:?}");
            }
        }
    }
}
