//! `escalate: {to: models or a workflow}` — where a request goes that needs more than its first model gives.

use super::{Kind, REQUEST_RESPONSE, Single, Verb, put, put_models};
use crate::selector::{Context, models};
use types::directives::Escalate;
use types::doc::Node;

/// Whether it is a workflow that is escalated to.
pub(super) fn to_workflow(node: &Node, cx: &Context<'_>) -> bool {
    let to = node.get("to").and_then(Node::as_str);
    to.is_some_and(|name| cx.resolver.workflows.iter().any(|w| w == name))
}

pub(super) const VERB: Verb = Verb {
    name: "escalate",
    kind: Kind::Soft,
    phases: REQUEST_RESPONSE,
    single: Single::Value,
    arguments: &["to"],
    read: |r, node, field, cx| {
        let mut f = r.fields(node, field)?;
        let to = f.require(r, "to");
        let at = f.at("to");
        f.finish(r);
        let to = to?;
        let workflow = to.as_str().filter(|name| cx.resolver.workflows.iter().any(|w| w == name));
        match workflow {
            Some(name) => {
                let to = Escalate::Workflow(name.to_owned());
                put(to, |m, v, at| m.single(|m| &mut m.further().escalate, v, at))
            }
            None => put_models(models(r, to, &at, cx, false)?, (), |m, (models, ()), at| {
                m.single(|m| &mut m.further().escalate, Escalate::Models(models), at);
            }),
        }
    },
};
