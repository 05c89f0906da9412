//! `set`: values computed from others.

use super::{Begun, NodeType, Out, Resolved, Spec, no_labels};
use crate::load::{Cx, Expr};
use crate::outcome::Outcome;
use crate::run::At;
use crate::value::Ty;
use serde_json::{Value as Json, json};
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;

pub(crate) static TYPE: NodeType = NodeType {
    name: "set",
    outcomes: &[Outcome::Ok],
    words: &["ok", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    sink: false,
    cacheable: false,
    retries: false,
    outputs: |n| {
        let Some(doc::Value::Map(members)) = n.get("values").map(|n| &n.value) else { return Vec::new() };
        members.iter().map(|(k, _)| Out { name: k.name.clone().into(), ty: Ty::Data(Type::Any) }).collect()
    },
    labels: no_labels,
    lower: |cx, f| Box::new(Set::lower(cx, f)),
};

/// What a file says of it.
#[derive(Clone, Debug)]
struct Set(Vec<Expr>);

impl Set {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let Some(n) = f.require(&mut cx.r, "values") else { return Set(Vec::new()) };
        let at = f.at("values");
        let members = cx.r.map(n, &at).unwrap_or(&[]);
        Set(members.iter().filter_map(|(k, n)| cx.expr(n, &format!("{at}.{}", k.name), None, &[])).collect())
    }
}

impl Spec for Set {
    fn canonical(&self) -> Json {
        json!(self.0.iter().map(Expr::source).collect::<Vec<_>>())
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.0.iter().collect()
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        Begun::now(|| {
            let values = self.0.iter().map(|e| at.eval(e)).collect::<Result<_, _>>()?;
            Ok(Resolved::with(Outcome::Ok, values))
        })
    }
}
