//! What policies make of a request before it is routed: values masked, instructions added, people asked.

use crate::approvals::{self, HeldAnswer, Named, Question};
use crate::decide::Decider;
use crate::demands::Demands;
use crate::error::Error;
use crate::history::Conversation;
use crate::profiled::Profiled;
use crate::redact::Redaction;
use crate::rewrite::{Refused, rewrite};
use crate::runs::{About, Consent};
use crate::shown;
use policies::Phase;
use serde_json::Value;
use std::sync::Arc;
use types::ChatRequest;
use types::directives::{Approval, Denial, Directives, Further, Place, Set};
use types::expr::Scope;

/// Who is asked where people have to agree.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// Nobody: the request does not come in earnest.
    Nobody,
    /// People, and the client comes again when they have agreed.
    People,
    /// People, for whom a run waits: what they have said so far.
    Run(&'a Consent),
}

/// A request as policies want it.
pub(crate) struct Governed {
    pub(crate) profiled: Profiled,
    pub(crate) scope: Scope,
    /// What they demand of its answer and its record; `None` = nothing.
    pub(crate) demands: Option<Box<Demands>>,
    /// An answer to it that people have agreed to.
    pub(crate) agreed: Option<Box<HeldAnswer>>,
    /// The approval that it names and has; used up when its work begins.
    pub(crate) approval: Option<String>,
    /// What a rule forbids of it.
    pub(crate) denial: Option<Denial>,
    /// Why it goes no further otherwise.
    pub(crate) refusal: Option<Error>,
}

impl Governed {
    /// As it came. What no policy asks for is not looked at.
    pub(crate) const fn unchanged(profiled: Profiled, scope: Scope) -> Self {
        let (demands, agreed, approval) = (None, None, None);
        Governed { profiled, scope, demands, agreed, approval, denial: None, refusal: None }
    }

    /// As the directives say. No approval is used up by that.
    pub(crate) fn under(
        mut self,
        decider: Decider<'_>,
        directives: &mut Directives,
        turn: Option<Conversation>,
        ask: Ask<'_>,
    ) -> Self {
        let Decider { inner, view, .. } = decider;
        let policies = &view.bundle.policies;
        let later = policies.has(Phase::Tool) || policies.has(Phase::Response);
        let further = directives.further.as_deref();
        if further.is_none() && turn.is_none() && !later && self.profiled.request.options.approval.is_none() {
            return self;
        }
        let rules = further.map_or(&[] as &[_], |f| f.redact.as_slice());
        let tenant = &decider.admission.who.principal.tenant.id;
        let detector = view.bundle.detector.clone();
        let redaction = Redaction::of(
            rules,
            detector,
            &inner.redaction_key,
            tenant,
            self.profiled.request.body().clone(),
        );
        let turn = turn.map(|t| (t, inner.memory.clone()));
        let demands = Demands::of(further, redaction.clone(), turn);
        let unrecorded = demands.unrecorded();
        self.demands = Some(Box::new(demands));
        // Nobody is asked for what would not be on record.
        if unrecorded.is_some() && inner.store.degraded() {
            self.refusal = unrecorded;
            return self;
        }
        if !directives.denials.is_empty() {
            return self;
        }
        if let Some(further) = further {
            self.rewrite(further, &mut directives.validators, &redaction);
        }
        if self.is_refused() {
            return self;
        }
        let demanded = further.map_or(&[] as &[_], |f| f.approvals.as_slice());
        if !matches!(ask, Ask::Nobody) {
            self.ask(decider, demanded, ask);
        }
        self
    }

    const fn is_refused(&self) -> bool {
        self.denial.is_some() || self.refusal.is_some()
    }

    /// Makes the request what policies want, and the checks that it brings, as far as they let it through.
    pub(crate) fn rewrite(&mut self, further: &Further, checks: &mut [Set<Value>], redaction: &Redaction) {
        match rewrite(&self.profiled.request, further, redaction) {
            Ok(None) => {}
            Ok(Some(changed)) => self.replace(changed),
            Err(Refused::Denied(denial)) => self.denial = Some(denial),
            Err(Refused::Unfit(error)) => self.refusal = Some(error),
        }
        if !self.is_refused() {
            self.denial = mask_checks(&self.profiled.request, checks, redaction).err();
        }
    }

    /// Goes on with another request.
    fn replace(&mut self, changed: Arc<ChatRequest>) {
        self.profiled.replace(changed);
        let Profiled { request, profile, .. } = &self.profiled;
        self.scope = policies::changed_scope(&self.scope, request, profile);
    }

    /// Looks for the approval that the request names, or asks for the one it needs.
    fn ask(&mut self, decider: Decider<'_>, demanded: &[Set<Approval>], ask: Ask<'_>) {
        let Decider { inner, view, admission, .. } = decider;
        let who = &*admission.who;
        let named = self.profiled.request.options.approval.as_deref();
        if named.is_none() && demanded.is_empty() {
            return;
        }
        let binding = approvals::binding(&self.profiled.request, who, view.bundle.hash());
        let (tenant, approvers) = (&*who.principal.tenant.id, view.bundle.policies.approvers());
        let of = |id| Named { id, tenant, binding, demanded, approvers };
        let answer = named.map_or(Ok(None), |id| inner.approvals.answer(of(id)));
        self.refusal = match (answer, named) {
            (Err(e), _) => Some(e),
            (Ok(Some(answer)), _) => {
                // It would not be there if the request had not been approved before.
                self.agreed = Some(Box::new(answer));
                None
            }
            (Ok(None), _) if demanded.is_empty() => None,
            (Ok(None), Some(id)) => inner.approvals.holds(of(id)).err(),
            (Ok(None), None) if let Ask::Run(consent) = ask => {
                consent.holds(&About::request(&self.profiled.request, binding), demanded).err()
            }
            (Ok(None), None) => {
                let question = Question {
                    who,
                    phase: approvals::Phase::Request,
                    binding,
                    demanded,
                    approvers,
                    user: self.profiled.request.user.as_deref(),
                    shows: shown::of_request(&self.profiled.request),
                    agreed: &[],
                };
                Some(inner.approvals.ask(&question, None))
            }
        };
        if let (None, Some(id)) = (&self.refusal, named)
            && (self.agreed.is_some() || !demanded.is_empty())
        {
            self.approval = Some(id.to_owned());
        }
    }
}

/// Masks the words of the checks that the request brings itself, as those of its messages. Its options stay as they came,
/// for they stay here; but a repair tells models what a check looks for.
fn mask_checks(
    request: &ChatRequest,
    checks: &mut [Set<Value>],
    redaction: &Redaction,
) -> Result<(), Denial> {
    if !redaction.concerns(Place::Input) {
        return Ok(());
    }
    let own = |rule: &str| request.options.asks.iter().any(|ask| ask.from == rule);
    checks
        .iter_mut()
        .filter(|c| own(&c.rule))
        .try_for_each(|c| redaction.check(&mut c.value))
        .map_err(|value| redaction.denial(value, Place::Input))
}
