//! `gate`: a person decides whether the run goes on.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Resolved, Spec};
use crate::ending::{Suspension, Waiting};
use crate::load::{Cx, Expr, Template};
use crate::outcome::{Outcome, OutcomeSet};
use crate::run::At;
use crate::value::Value;
use crate::world::{EffectId, EffectKind, GateAsk, GateReply};
use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use types::doc::Fields;
use types::expr::Type;

/// What can be read of a decision.
const DECISIONS: &[&str] = &["approved", "rejected", "expired"];
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Approved, Outcome::Rejected, Outcome::Expired],
    words: &["approved", "rejected", "expired", "error", "timeout", "cancelled", "skipped"],
    timeout: DAY,
    outputs: |_| {
        vec![Out::data("decision", Type::Enum(DECISIONS)), Out::data("comment", Type::Str.optional())]
    },
    ..NodeType::of(|cx, f| NodeSpec::Gate(Box::new(Gate::lower(cx, f))))
};

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    prompt: Template,
    approvers: Vec<String>,
    expires: Duration,
    /// A question that lapses counts as rejected; otherwise it has an outcome of its own.
    lapse_rejects: bool,
    self_approval: bool,
}

impl Gate {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let prompt = f.require(&mut cx.r, "prompt").and_then(|n| Template::lower(cx, n, &f.at("prompt")));
        let approvers = f.take("approvers").map(|n| cx.groups(n, &f.at("approvers"))).unwrap_or_default();
        let expires = f.take("expires").and_then(|n| cx.time_limit(n, &f.at("expires"))).unwrap_or(DAY);
        let on_expire =
            f.take("on_expire").and_then(|n| cx.r.one_of(n, &f.at("on_expire"), &["reject", "expire"]));
        let self_approval =
            f.take("self_approval").and_then(|n| cx.r.boolean(n, &f.at("self_approval"))).unwrap_or(false);
        Gate {
            prompt: prompt.unwrap_or_default(),
            approvers,
            expires,
            lapse_rejects: on_expire != Some("expire"),
            self_approval,
        }
    }

    async fn run(&self, at: At<'_>, prompt: String) -> NodeResult {
        let ask = GateAsk {
            id: EffectId::new(&at.path, EffectKind::Gate, 0, 1),
            prompt,
            approvers: self.approvers.clone(),
            self_approval: self.self_approval,
            expires: self.expires,
        };
        let (outcome, comment) = match at.gate(ask.clone()).await {
            None => {
                let waiting = Waiting::Decision(ask);
                return Err(Fault::Suspended(vec![Suspension { frame: at.path.clone(), waiting }]));
            }
            Some(GateReply::Approved(comment)) => (Outcome::Approved, comment),
            Some(GateReply::Rejected(comment)) => (Outcome::Rejected, comment),
            Some(GateReply::Expired) if self.lapse_rejects => (Outcome::Rejected, None),
            Some(GateReply::Expired) => (Outcome::Expired, None),
        };
        let comment = comment.map_or(Value::Nothing, |c| Value::Text(c.into()));
        Ok(Resolved::with(outcome, vec![Value::Text(outcome.as_str().into()), comment]))
    }
}

impl Spec for Gate {
    fn canonical(&self) -> Json {
        json!([
            self.prompt.source(),
            self.approvers,
            self.expires.as_secs_f64(),
            self.lapse_rejects,
            self.self_approval
        ])
    }

    fn given(&self, outputs: &mut Map<String, Json>) -> Result<Outcome, String> {
        match outputs.get("decision").and_then(Json::as_str) {
            Some("approved") => Ok(Outcome::Approved),
            Some("rejected") => Ok(Outcome::Rejected),
            Some("expired") if !self.lapse_rejects => Ok(Outcome::Expired),
            _ if self.lapse_rejects => Err("`decision` as approved or rejected".to_owned()),
            _ => Err("`decision` as approved, rejected or expired".to_owned()),
        }
    }

    fn may_wait(&self, _: bool) -> bool {
        true
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.prompt.exprs().collect()
    }

    fn possible(&self) -> Option<OutcomeSet> {
        let set = OutcomeSet::of(&[Outcome::Approved, Outcome::Rejected]);
        Some(if self.lapse_rejects { set } else { set.with(Outcome::Expired) })
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        match self.prompt.render(at.frame, at.host, &[]) {
            Ok(prompt) => Begun::waits(self.run(at, prompt)),
            Err(e) => Begun::Done(Err(e.into())),
        }
    }
}
