//! Who may decide alone: where two must agree, or somebody must vouch with a signature, one person's word is not enough.

use crate::app::App;
use crate::control::Actor;
use crate::error::Failure;
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// Keys of one line of rotations that are looked at.
const ROTATIONS: usize = 100;

impl App {
    /// Whether one may put a bundle in force: under the rule of two persons, not who brought it.
    ///
    /// # Errors
    /// 403 with who brought it.
    pub(super) async fn may_activate(&self, actor: &Actor, hash: &Arc<str>) -> Result<(), Failure> {
        if !self.server.bundles.two_person {
            return Ok(());
        }
        let by = self.bundles.book().entry(hash).map(|e| e.by.clone()).unwrap_or_default();
        if by != actor.to_string() && !self.is_successor(actor, &by).await {
            return Ok(());
        }
        Err(second_person(&format!(
            "bundle {hash} was brought by {by}, so somebody else has to put it in force"
        )))
    }

    /// Whether the key that asks came of rotations of the one that `by` names: it has the same holder.
    async fn is_successor(&self, actor: &Actor, by: &str) -> bool {
        let mut id = by.strip_prefix("key ").map(str::to_owned);
        for _ in 0..ROTATIONS {
            let Some(known) = id else { return false };
            let key = self.plane.key(&Actor::local(), &known).await.ok();
            id = key.and_then(|k| k.get("rotated_to").and_then(Value::as_str).map(str::to_owned));
            if actor.kind == "key" && id.as_deref() == Some(&actor.id) {
                return true;
            }
        }
        false
    }

    /// Whether one may change what is in force in one step: not where two must agree, or a bundle must be signed, which
    /// what comes of the change is not.
    ///
    /// # Errors
    /// 403 with the way there is.
    pub(super) fn may_change_alone(&self) -> Result<(), Failure> {
        if !self.server.bundles.require_signature.is_empty() {
            let text = "this server takes up signed bundles alone (`bundles.require_signature`): change the files, sign \
                        them with `turnout bundle sign` and upload them";
            return Err(Failure::new(StatusCode::FORBIDDEN, "signature_required", text));
        }
        match self.server.bundles.two_person {
            true => Err(second_person("this would put a change in force at once; upload it as a bundle")),
            false => Ok(()),
        }
    }
}

fn second_person(why: &str) -> Failure {
    let text = format!("{why} (`bundles.two_person`)");
    Failure::new(StatusCode::FORBIDDEN, "second_person_required", text)
}
