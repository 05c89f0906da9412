//! Questions that policies put to people: bound to one request, or to one answer, and answered once.
//!
//! Kept in memory: a restart forgets them, and what was not answered is a rejection.

use crate::error::{Error, Kind};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::Completion;
use types::directives::{Approval, Set};
use types::matrix::Model;
use types::run::Verdict;
use uuid::Uuid;

/// Most questions that stand at once.
const MAX_PENDING: usize = 1_000;

/// What a question is about; an answer to one thing never holds for another.
pub(crate) type Binding = [u8; 32];

/// An answer that waits.
#[derive(Clone, Debug)]
pub(crate) struct HeldAnswer {
    pub(crate) completion: Completion,
    pub(crate) model: Arc<Model>,
    pub(crate) verdict: Verdict,
}

/// What one group has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupStanding {
    /// The group.
    pub group: String,
    /// Why it is asked.
    pub reason: String,
    /// The rule that asks.
    pub rule: String,
    /// Who may answer.
    pub members: Vec<String>,
    /// Who has, and what.
    pub decided: Option<(String, bool)>,
}

/// A question as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApprovalStanding {
    /// Its identifier.
    pub id: String,
    /// Whose request.
    pub tenant: String,
    /// `request`, `tool` or `response`.
    pub phase: &'static str,
    /// Who made the request.
    pub requester: String,
    /// What each group has said.
    pub groups: Vec<GroupStanding>,
    /// `pending`, `approved` or `rejected`.
    pub state: &'static str,
    /// Milliseconds until no answer counts as a rejection.
    pub expires_in_ms: u64,
}

/// Why somebody's answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// There is no such question, or no longer.
    #[error("there is no such approval, or it has expired")]
    Unknown,
    /// They are in none of the groups that are asked.
    #[error("`{0}` is in no group that is asked")]
    NotAsked(String),
    /// It is their own request.
    #[error("nobody approves their own request")]
    Own,
    /// It is decided.
    #[error("it is decided already")]
    Decided,
}

struct Pending {
    tenant: String,
    requester: String,
    phase: &'static str,
    binding: Binding,
    groups: Vec<GroupStanding>,
    until: Instant,
    held: Option<HeldAnswer>,
}

impl Pending {
    fn state(&self) -> &'static str {
        let said = |want: bool| self.groups.iter().filter(move |g| g.decided.as_ref().is_some_and(|d| d.1 == want));
        if said(false).next().is_some() {
            "rejected"
        } else if said(true).count() == self.groups.len() {
            "approved"
        } else {
            "pending"
        }
    }
}

/// All questions that stand.
#[derive(Default)]
pub(crate) struct Approvals(Mutex<Desk>);

#[derive(Default)]
struct Desk {
    pending: BTreeMap<String, Pending>,
    order: VecDeque<String>,
}

/// Who asks, and for what.
pub(crate) struct Asked<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) requester: &'a str,
    pub(crate) phase: &'static str,
    pub(crate) binding: Binding,
    pub(crate) demanded: &'a [Set<Approval>],
    pub(crate) approvers: &'a BTreeMap<String, Vec<String>>,
}

impl Approvals {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        desk.pending.retain(|_, p| p.until > now);
        let Desk { pending, order } = &mut *desk;
        order.retain(|id| pending.contains_key(id));
        desk
    }

    /// Whether an approval that a request names is given for what is asked; it is used up by that.
    ///
    /// # Errors
    /// It is not given (yet), or for something else.
    pub(crate) fn redeem(&self, id: &str, asked: &Asked<'_>) -> Result<Option<HeldAnswer>, Error> {
        let mut desk = self.desk();
        let found = desk.pending.get(id).filter(|p| p.tenant == asked.tenant && p.phase == asked.phase);
        let Some(pending) = found else {
            return Err(refusal("approval_unknown", 403, "there is no such approval, or it has expired".to_owned()));
        };
        if pending.binding != asked.binding {
            let reason = "the approval was given for another request".to_owned();
            return Err(refusal("approval_mismatch", 403, reason));
        }
        match pending.state() {
            "approved" => Ok(desk.pending.remove(id).and_then(|p| p.held)),
            "rejected" => {
                desk.pending.remove(id);
                Err(refusal("approval_rejected", 403, "the approval was refused".to_owned()))
            }
            _ => Err(required(id, &pending.groups)),
        }
    }

    /// The answer that waits for an approval a request names; `None` = it waits for none. It is used up by that.
    ///
    /// # Errors
    /// It is not given (yet), or for something else.
    pub(crate) fn redeem_answer(
        &self,
        id: &str,
        tenant: &str,
        request: Binding,
    ) -> Result<Option<HeldAnswer>, Error> {
        let phase = {
            let desk = self.desk();
            match desk.pending.get(id) {
                Some(p) if p.tenant == tenant && p.phase != "request" => p.phase,
                _ => return Ok(None),
            }
        };
        let none = BTreeMap::new();
        let asked =
            Asked { tenant, requester: "", phase, binding: request, demanded: &[], approvers: &none };
        self.redeem(id, &asked)
    }

    /// Puts a question; gives the refusal that names it.
    pub(crate) fn ask(&self, asked: &Asked<'_>, held: Option<HeldAnswer>) -> Error {
        let expires = asked.demanded.iter().map(|a| a.value.expires_ms).min().unwrap_or(0);
        let groups: Vec<GroupStanding> = asked
            .demanded
            .iter()
            .map(|a| GroupStanding {
                group: a.value.group.clone(),
                reason: a.value.reason.clone(),
                rule: a.rule.to_string(),
                members: asked.approvers.get(&a.value.group).cloned().unwrap_or_default(),
                decided: None,
            })
            .collect();
        let id = format!("apr_{}", Uuid::now_v7().simple());
        let error = required(&id, &groups);
        let mut desk = self.desk();
        if desk.pending.len() >= MAX_PENDING {
            return Error { retry_after: Some(Duration::from_secs(60)), ..Error::from(Kind::Overloaded) };
        }
        let pending = Pending {
            tenant: asked.tenant.to_owned(),
            requester: asked.requester.to_owned(),
            phase: asked.phase,
            binding: asked.binding,
            groups,
            until: Instant::now() + Duration::from_millis(expires),
            held,
        };
        desk.order.push_back(id.clone());
        desk.pending.insert(id, pending);
        error
    }

    /// Every question that stands, oldest first.
    pub(crate) fn standing(&self) -> Vec<ApprovalStanding> {
        let desk = self.desk();
        desk.order.iter().filter_map(|id| Some(standing(id, desk.pending.get(id)?))).collect()
    }

    /// Somebody's answer, for every group they are in.
    pub(crate) fn decide(&self, id: &str, who: &str, approve: bool) -> Result<ApprovalStanding, ApprovalError> {
        let mut desk = self.desk();
        let pending = desk.pending.get_mut(id).ok_or(ApprovalError::Unknown)?;
        if pending.state() != "pending" {
            return Err(ApprovalError::Decided);
        }
        if pending.requester == who {
            return Err(ApprovalError::Own);
        }
        let mut asked = false;
        for group in pending.groups.iter_mut().filter(|g| g.members.iter().any(|m| m == who)) {
            asked = true;
            group.decided.get_or_insert_with(|| (who.to_owned(), approve));
        }
        if !asked {
            return Err(ApprovalError::NotAsked(who.to_owned()));
        }
        Ok(standing(id, pending))
    }
}

fn standing(id: &str, p: &Pending) -> ApprovalStanding {
    let left = p.until.saturating_duration_since(Instant::now());
    ApprovalStanding {
        id: id.to_owned(),
        tenant: p.tenant.clone(),
        phase: p.phase,
        requester: p.requester.clone(),
        groups: p.groups.clone(),
        state: p.state(),
        expires_in_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }
}

fn required(id: &str, groups: &[GroupStanding]) -> Error {
    let names: Vec<String> = groups.iter().map(|g| format!("{} ({})", g.group, g.reason)).collect();
    let reason = format!(
        "approval `{id}` is needed from {}; once it is given, send the same request with the header \
         x-turnout-approval: {id}",
        names.join(" and ")
    );
    refusal("approval_required", 409, reason)
}

fn refusal(code: &str, status: u16, reason: String) -> Error {
    Kind::Denied { reason, code: code.to_owned(), status }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demanded(groups: &[&str]) -> Vec<Set<Approval>> {
        let one = |g: &&str| Set {
            value: Approval { group: (*g).to_owned(), reason: "why".to_owned(), expires_ms: 60_000 },
            rule: "r".into(),
        };
        groups.iter().map(one).collect()
    }

    fn approvers() -> BTreeMap<String, Vec<String>> {
        let group = |name: &str, members: &[&str]| {
            (name.to_owned(), members.iter().map(|m| (*m).to_owned()).collect())
        };
        BTreeMap::from([group("ops", &["user:dana", "user:lee"]), group("law", &["user:kim"])])
    }

    /// Asks for one request and gives the identifier of the question.
    fn ask(a: &Approvals, binding: u8, groups: &[&str]) -> String {
        let (demanded, approvers) = (demanded(groups), approvers());
        a.ask(&asked(binding, &demanded, &approvers), None);
        a.standing().last().unwrap().id.clone()
    }

    fn asked<'a>(
        binding: u8,
        demanded: &'a [Set<Approval>],
        approvers: &'a BTreeMap<String, Vec<String>>,
    ) -> Asked<'a> {
        let binding = [binding; 32];
        Asked { tenant: "acme", requester: "user:lee", phase: "request", binding, demanded, approvers }
    }

    #[track_caller]
    fn redeem(a: &Approvals, id: &str, binding: u8, want: &str) {
        let (demanded, approvers) = (demanded(&["ops"]), approvers());
        let got = a.redeem(id, &asked(binding, &demanded, &approvers));
        assert_eq!(got.as_ref().map_or_else(Error::code, |_| "ok"), want);
    }

    #[tokio::test(start_paused = true)]
    async fn t10_an_approval_holds_for_one_request_once_and_nobody_approves_their_own() {
        let a = Approvals::default();
        let id = ask(&a, 1, &["ops"]);
        redeem(&a, &id, 1, "approval_required");
        assert_eq!(a.decide(&id, "user:lee", true), Err(ApprovalError::Own));
        assert_eq!(a.decide(&id, "user:eve", true), Err(ApprovalError::NotAsked("user:eve".to_owned())));
        assert_eq!(a.decide(&id, "user:dana", true).unwrap().state, "approved");
        redeem(&a, &id, 2, "approval_mismatch");
        redeem(&a, &id, 1, "ok");
        redeem(&a, &id, 1, "approval_unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn t10_all_groups_agree_one_refusal_ends_it_and_silence_is_a_refusal() {
        let a = Approvals::default();
        let both = ask(&a, 1, &["ops", "law"]);
        assert_eq!(a.decide(&both, "user:dana", true).unwrap().state, "pending");
        redeem(&a, &both, 1, "approval_required");
        assert_eq!(a.decide(&both, "user:kim", false).unwrap().state, "rejected");
        assert_eq!(a.decide(&both, "user:dana", true), Err(ApprovalError::Decided));
        redeem(&a, &both, 1, "approval_rejected");
        let silent = ask(&a, 3, &["ops"]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(a.decide(&silent, "user:dana", true), Err(ApprovalError::Unknown));
        redeem(&a, &silent, 3, "approval_unknown");
    }

    #[test]
    fn questions_are_bounded() {
        let a = Approvals::default();
        let (demanded, approvers) = (demanded(&["ops"]), approvers());
        for _ in 0..MAX_PENDING {
            a.ask(&asked(1, &demanded, &approvers), None);
        }
        assert_eq!(a.ask(&asked(1, &demanded, &approvers), None).code(), "queue_full");
    }
}
