//! What a graph needs of the outside that is not there.

use super::Graph;
use crate::load::{Checks, What, lint};
use crate::node::Node;
use crate::node::repair::Repair;
use crate::node::validate::Validate;
use types::doc::Reader;

/// Warns of tests that nothing here can run: every answer they are to judge will be unverified.
pub(crate) fn without_runner(r: &mut Reader<'_>, graph: &Graph) {
    for node in &graph.nodes {
        if own(node).is_some_and(|c| c.outside.iter().any(|o| matches!(o.what, What::CodeTests { .. }))) {
            let message = format!("`{}` runs tests against code, and there is no code runner", node.id);
            let d = r.warning("421", node.span, message);
            d.field = lint::tagged(&node.id, &format!("{}.validators", node.path));
            d.hint = Some(
                "every answer will be `unverified`; switch the runner on with runner.enabled in turnout.yaml"
                    .to_owned(),
            );
        }
        node.spec.bodies().into_iter().for_each(|body| without_runner(r, body));
    }
}

fn own(node: &Node) -> Option<&Checks> {
    let of_repair = || node.spec.get::<Repair>().and_then(|r| r.checks.as_ref());
    node.spec.get::<Validate>().map(|v| &v.checks).or_else(of_repair)
}
