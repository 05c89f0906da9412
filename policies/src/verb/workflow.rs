//! `workflow: name` — fixes the workflow; single-valued by priority, then order.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use crate::selector::Context;
use std::sync::Arc;
use types::diagnostic::suggestion;
use types::doc::{Node, Reader};

pub(super) const VERB: Verb = Verb {
    name: "workflow",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["name"],
    read: |r, node, field, cx| Some(Arc::new(Workflow(read(r, node, field, cx)?))),
};

#[derive(Debug)]
struct Workflow(String);

fn read(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<String> {
    let name = r.string(node, field)?;
    let known = &cx.resolver.workflows;
    if known.contains(&name) {
        return Some(name);
    }
    let hint = suggestion(&name, known.iter().map(String::as_str));
    let d = r.error("205", node.span, format!("there is no workflow `{name}`"));
    d.hint = Some(hint);
    field.clone_into(&mut d.field);
    None
}

impl Action for Workflow {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.single(|m| &mut m.workflow, self.0.clone(), at);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_rules, check_verb};

    #[test]
    fn the_earlier_rule_wins_unless_a_later_one_has_priority() {
        let d = check_verb(&["workflow: default", "workflow: careful"], &["applied", "overridden by r0"]);
        assert_eq!(d.workflow.unwrap().value, "default");
        let d = check_rules(
            "- { id: a, actions: { workflow: default } }\n- { id: b, priority: 5, actions: { workflow: careful } }",
            &["overridden by b", "applied"],
        );
        assert_eq!(d.workflow.unwrap().rule.as_ref(), "b");
    }
}
