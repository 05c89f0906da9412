//! What people and clients say to a run that waits: decisions, results of tools, settled doubts.

use super::service::{Failure, Runs, list, principal, text};
use crate::who::Who;
use serde_json::{Value, json};
use types::runs::{Head, Post, Row};

/// A person's word on a gate.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Approved, or else rejected.
    pub approved: bool,
    /// Why.
    pub comment: Option<String>,
    /// Of what was shown: a decision holds for that only.
    pub content_hash: String,
}

impl Runs {
    /// Decides a gate.
    ///
    /// # Errors
    /// The run does not wait there; what was shown has changed; somebody else has to decide.
    pub async fn decide(&self, who: &Who, id: &str, frame: &str, said: Decided) -> Result<Head, Failure> {
        let tenant = &who.principal.tenant.id;
        let row = self.get(tenant, id).await?;
        let question = question(&row, "decision", |q| text(q, "frame") == frame)?;
        let shown = text(&question, "content_hash");
        if shown != said.content_hash {
            return Err(Failure::Conflict {
                code: "content_changed",
                message: "the decision is about something else than is shown; look again".to_owned(),
                details: json!({"content_hash": shown}),
            });
        }
        self.may_decide(who, &row.head, &question)?;
        let decision = if said.approved { "approved" } else { "rejected" };
        let body = json!({"decision": decision, "comment": said.comment, "by": principal(who)});
        let key = text(&question, "key").to_owned();
        self.post(tenant, id, vec![Post { key, body }]).await
    }

    fn may_decide(&self, who: &Who, head: &Head, question: &Value) -> Result<(), Failure> {
        // Without keys everybody is the same.
        let Some(key) = &who.principal.key else { return Ok(()) };
        let self_approval = question.get("self_approval").and_then(Value::as_bool).unwrap_or(false);
        if !self_approval && principal(who) == head.principal {
            let text = "whoever started this run may not decide about it as well";
            return Err(Failure::Forbidden(text.to_owned()));
        }
        let groups: Vec<&str> = list(question, "approvers").iter().filter_map(Value::as_str).collect();
        let view = self.0.engine.0.view.load();
        let known = view.bundle.policies.approvers();
        let user = key.labels.get("user").map(|u| format!("user:{u}"));
        let own = [Some(format!("key:{}", key.id)), user];
        let is_in = |group: &&str| {
            known.get(*group).is_some_and(|members| own.iter().flatten().any(|me| members.contains(me)))
        };
        if groups.is_empty() || groups.iter().any(is_in) {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("only members of {} may decide this", groups.join(", "))))
    }

    /// Says what became of a call that may or may not have taken effect.
    ///
    /// # Errors
    /// The run has no such doubt.
    pub async fn settle_doubt(
        &self,
        tenant: &str,
        id: &str,
        effect: &str,
        choice: &str,
        result: Value,
    ) -> Result<Head, Failure> {
        let row = self.get(tenant, id).await?;
        let question = question(&row, "attention", |q| text(q, "effect") == effect)?;
        let key = text(&question, "key").to_owned();
        let body = json!({"choice": choice, "result": result});
        self.post(tenant, id, vec![Post { key, body }]).await
    }

    /// Gives results of the client's own tools.
    ///
    /// # Errors
    /// The run does not wait for them.
    pub async fn tool_outputs(
        &self,
        tenant: &str,
        id: &str,
        outputs: Vec<(String, Value)>,
    ) -> Result<Head, Failure> {
        let row = self.get(tenant, id).await?;
        let waited = question(&row, "client_tools", |_| true)?;
        let calls: Vec<&str> = list(&waited, "tool_calls").iter().map(|c| text(c, "id")).collect();
        if let Some((odd, _)) = outputs.iter().find(|(call, _)| !calls.contains(&call.as_str())) {
            return Err(Failure::Invalid {
                param: "tool_outputs".to_owned(),
                message: format!("the run waits for no call `{odd}`; it waits for {}", calls.join(", ")),
            });
        }
        let post = |(call, output)| Post { key: format!("tool:{call}"), body: json!({"output": output}) };
        self.post(tenant, id, outputs.into_iter().map(post).collect()).await
    }

    async fn post(&self, tenant: &str, id: &str, posts: Vec<Post>) -> Result<Head, Failure> {
        let head = self.0.store.post(tenant, id, posts).await?;
        self.0.touch();
        Ok(head)
    }
}

/// The question of a kind that a run waits with.
fn question(row: &Row, kind: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    let all = row.waiting.as_ref().map_or(&[] as &[Value], |w| list(w, "questions"));
    let found = all.iter().find(|q| text(q, "for") == kind && fits(q));
    found.cloned().ok_or_else(|| Failure::Conflict {
        code: "not_waiting",
        message: format!("run `{}` is {} and does not wait for this", row.head.id, row.head.state.as_str()),
        details: json!({"questions": all}),
    })
}
