//! What people and clients say to a run that waits: decisions, results of tools, settled doubts.

use super::gates::{Names, names_of};
use super::service::{Failure, Runs, list, text};
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

/// What became of a call that may or may not have taken effect.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The call.
    pub effect: String,
    /// `done`, `retry` or `fail`.
    pub choice: String,
    /// Its result, where it is done.
    pub result: Value,
}

impl Runs {
    /// Decides a gate.
    ///
    /// # Errors
    /// The run does not wait there; what was shown has changed; somebody else has to decide.
    pub async fn decide(&self, who: &Who, id: &str, frame: &str, said: Decided) -> Result<Head, Failure> {
        let names = who.principal.key.as_ref().map(|_| names_of(&who.principal));
        self.decided(&who.principal.tenant.id, names.as_deref(), id, frame, said).await
    }

    /// Takes a decision of somebody with these names.
    pub(super) async fn decided(
        &self,
        tenant: &str,
        names: Names<'_>,
        id: &str,
        frame: &str,
        said: Decided,
    ) -> Result<Head, Failure> {
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
        self.may_decide(names, &row, &question)?;
        let decision = if said.approved { "approved" } else { "rejected" };
        let body = json!({"decision": decision, "comment": said.comment, "by": names.and_then(<[_]>::first)});
        let key = text(&question, "key").to_owned();
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

    pub(super) async fn post(&self, tenant: &str, id: &str, posts: Vec<Post>) -> Result<Head, Failure> {
        let head = self.0.store.post(tenant, id, posts).await?;
        self.0.changes.told(id);
        Ok(head)
    }
}

/// What is posted to settle the doubts of a run.
///
/// # Errors
/// The run does not doubt one of them.
pub(super) fn settlements(row: &Row, settled: Vec<Settled>) -> Result<Vec<Post>, Failure> {
    let post = |Settled { effect, choice, result }: Settled| {
        let question = question(row, "attention", |q| text(q, "effect") == effect)?;
        let body = json!({"choice": choice, "result": result});
        Ok(Post { key: text(&question, "key").to_owned(), body })
    };
    settled.into_iter().map(post).collect()
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
