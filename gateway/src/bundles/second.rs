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
        if by != actor.to_string() && !self.is_same_holder(actor, &by).await? {
            return Ok(());
        }
        Err(second_person(&format!(
            "bundle {hash} was brought by {by}, so somebody else has to put it in force"
        )))
    }

    /// Whether the key that asks and the one that `by` names came of rotations of each other: both work for a while.
    ///
    /// # Errors
    /// That cannot be found out.
    async fn is_same_holder(&self, actor: &Actor, by: &str) -> Result<bool, Failure> {
        let (Some(by), "key") = (by.strip_prefix("key "), actor.kind) else { return Ok(false) };
        Ok(self.came_of(by, &actor.id).await? || self.came_of(&actor.id, by).await?)
    }

    /// Whether a key came of rotations of an earlier one.
    async fn came_of(&self, earlier: &str, later: &str) -> Result<bool, Failure> {
        let mut id = earlier.to_owned();
        for _ in 0..ROTATIONS {
            let key = match self.plane.key(&Actor::local(), &id).await {
                Ok(key) => key,
                Err(gone) if gone.status == StatusCode::NOT_FOUND => return Ok(false),
                Err(away) => return Err(away),
            };
            let Some(next) = key.get("rotated_to").and_then(Value::as_str) else { return Ok(false) };
            if next == later {
                return Ok(true);
            }
            next.clone_into(&mut id);
        }
        // Nobody rotates so often but to be taken for another.
        Ok(true)
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
