//! `set`: values computed from others.

use super::{Begun, NodeSpec, NodeType, Out, Resolved, Spec};
use crate::load::{Cx, Expr};
use crate::outcome::Outcome;
use crate::run::At;
use crate::value::Ty;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Ok],
    words: &["ok", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    outputs: |n| {
        let Some(doc::Value::Map(members)) = n.get("values").map(|n| &n.value) else { return Vec::new() };
        let named = members.iter().filter(|(k, _)| !k.is_note());
        named.map(|(k, _)| Out { name: k.name.clone().into(), ty: Ty::Data(Type::Any) }).collect()
    },
    ..NodeType::of(|cx, f| NodeSpec::Set(Box::new(Set::lower(cx, f))))
};

/// What a file says of it: names and expressions, in the order of its outputs.
#[derive(Clone, Debug)]
pub(crate) struct Set(Vec<(Arc<str>, Expr)>);

impl Set {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let Some(n) = f.require(&mut cx.r, "values") else { return Set(Vec::new()) };
        let at = f.at("values");
        let members = cx.r.names(n, &at);
        let mut value = |name: &str, n: &doc::Node| cx.expr(n, &format!("{at}.{name}"), None, &[]);
        Set(members
            .into_iter()
            .filter_map(|(k, n)| Some((k.name.as_str().into(), value(&k.name, n)?)))
            .collect())
    }

    /// The types of its values, in their order, as far as they are known from what they read.
    pub(crate) fn types(cx: &mut Cx<'_>, n: &doc::Node) -> Vec<Ty> {
        let Some(doc::Value::Map(members)) = n.get("values").map(|n| &n.value) else { return Vec::new() };
        let mut ty = |n: &doc::Node| cx.expr(n, "", None, &[]).map_or(Type::Any, |e| e.ty());
        members.iter().filter(|(k, _)| !k.is_note()).map(|(_, n)| Ty::of(ty(n))).collect()
    }

    fn values(&self) -> impl Iterator<Item = &Expr> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl Spec for Set {
    fn canonical(&self) -> Json {
        // Names and all: whoever reads a value does so by its name.
        self.0.iter().map(|(name, value)| (name.to_string(), json!(value.source()))).collect()
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.values().collect()
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        Begun::now(|| {
            let values = self.values().map(|e| at.eval(e)).collect::<Result<_, _>>()?;
            Ok(Resolved::with(Outcome::Ok, values))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::workflow;

    #[test]
    fn whoever_swaps_two_names_makes_another_plan() {
        let plan = |values: &str| {
            let say = "{ id: say, type: merge, method: template, from: [], template: \"${ nodes.s.keep }\" }";
            let set = format!("{{ id: s, type: set, values: {{ {values} }} }}");
            let edges = "edges: [{ from: s, to: say }]";
            workflow(&format!("nodes:\n  - {set}\n  - {say}\n{edges}\n")).plan_hash.clone()
        };
        let first = plan("keep: \"1\", drop: \"2\"");
        assert_ne!(first, plan("drop: \"1\", keep: \"2\""));
        assert_ne!(first, plan("keep: \"1\", other: \"2\""));
        assert_eq!(first, plan("drop: \"2\", keep: \"1\""), "their order says nothing");
    }
}
