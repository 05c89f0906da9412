//! Whether the answer depends on tools.

use crate::cues::Signal;
use crate::features::Features;
use types::axis::ToolDependence;
use types::profile::Scored;

/// Scores none, optional, mandatory. Only offered tools count: a tool told of in the text is text.
pub(crate) fn score(f: &Features) -> Scored<ToolDependence> {
    if f.facts.tools == 0 || f.tools_forbidden {
        return Scored::certain(ToolDependence::None);
    }
    if f.tools_demanded {
        return Scored::certain(ToolDependence::Mandatory);
    }
    // A first turn that asks for something done is likelier to need a tool than talk is; after results the
    // next step may as well be the answer.
    let talk = f.signal(Signal::Chat);
    let mandatory: f32 =
        if f.facts.tool_results > 0 { 0.6 } else { 0.8 } + if f.facts.tools == 1 { 0.1 } else { 0.0 };
    Scored::from_weights(&[0.15 + 0.1 * talk.min(3.0), 1.0, mandatory])
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text, tool, trajectory};
    use serde_json::json;
    use types::axis::ToolDependence::{Mandatory, None, Optional};

    #[test]
    fn structure_decides() {
        assert_eq!(text("Use the tools.").tool_dependence.value, None);
        let ask = json!([{"role": "user", "content": "Is it warm in Rome?"}]);
        for (choice, expected) in [("none", None), ("auto", Optional), ("required", Mandatory)] {
            let p = body(json!({"messages": ask, "tools": [tool()], "tool_choice": choice}));
            assert_eq!(p.tool_dependence.value, expected, "{choice}");
        }
        let p = body(json!({"messages": trajectory(), "tools": [tool()]}));
        assert_eq!(p.tool_dependence.value, Optional);
        assert!(p.tool_dependence.confidence < 1.0);
    }
}
