//! `fail`: ends the run with the author's own error.

use super::{Begun, NodeSpec, NodeType, Resolved, Spec};
use crate::ending::{Class, RunFailure};
use crate::load::{Cx, Expr, Template};
use crate::outcome::Outcome;
use crate::run::{At, End};
use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use types::doc::Fields;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Failed],
    words: &["failed", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    sink: true,
    outputs: |_| Vec::new(),
    ..NodeType::of(|cx, f| NodeSpec::Fail(Box::new(Fail::lower(cx, f))))
};

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Fail {
    code: String,
    message: Template,
    status: u16,
}

impl Fail {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let code =
            f.require(&mut cx.r, "code").and_then(|n| cx.r.ident(n, &f.at("code"))).unwrap_or_default();
        let message = f.require(&mut cx.r, "message").and_then(|n| Template::lower(cx, n, &f.at("message")));
        let status = f
            .take("status")
            .and_then(|n| cx.r.integer(n, &f.at("status"), 400, 599))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(422);
        Fail { code, message: message.unwrap_or_default(), status }
    }
}

impl Spec for Fail {
    fn canonical(&self) -> Json {
        json!([self.code, self.message.source(), self.status])
    }

    fn given(&self, _: &mut Map<String, Json>) -> Result<Outcome, String> {
        Ok(Outcome::Failed)
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.message.exprs().collect()
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        Begun::now(|| {
            let message = self.message.render(at.frame, at.host, &[])?;
            let findings = at.host.table().worst_findings();
            let failure = RunFailure::new(Class::Workflow, &self.code, message);
            let end = End::Failed(RunFailure { status: Some(self.status), findings, ..failure });
            Ok(Resolved { end: Some(Box::new(end)), ..Resolved::plain(Outcome::Failed) })
        })
    }
}
