//! What the policies say of a request and which arm takes it, under one configuration: in force, or only tried.
//! Nothing is noted and nothing is taken, so that it can be asked as often as one likes.

use crate::View;
use crate::approvals;
use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::decision_slots::{self, Slot};
use crate::error::Error;
use crate::govern::Governed;
use crate::learn::Snapshot;
use crate::limits::{self, UsedUp};
use crate::profiled::Profiled;
use crate::redact::Redaction;
use crate::route::{self, Routed, Warm};
use crate::sticky::Kept;
use crate::who::Who;
use policies::Purpose;
use std::sync::Arc;
use tokio::time::Instant;
use types::decision::Exclusion;
use types::directives::{Approval, Denial, Directives, Set};
use types::expr::Scope;
use types::matrix::{Availability, ModelIx};
use types::options::Mode;
use types::provider::Quota;

/// A request with all that its choice depends on but the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) profiled: &'a Profiled,
    pub(crate) who: &'a Arc<Who>,
    pub(crate) request_id: &'a str,
    pub(crate) moment: &'a Moment,
    /// Models whose own limits have no room now.
    pub(crate) used_up: &'a UsedUp,
}

/// What a choice depends on besides request and configuration.
#[derive(Clone)]
pub(crate) struct Moment {
    pub(crate) statistics: Arc<Snapshot>,
    pub(crate) warm: Option<Warm>,
    pub(crate) explore: bool,
    pub(crate) mode: Mode,
    pub(crate) seed: u64,
    pub(crate) ts_ms: i64,
}

/// What the policies say of a request, under what the key and its tenant allow one request.
pub(crate) struct Evaluated {
    /// What they saw.
    pub(crate) scope: Scope,
    pub(crate) directives: Directives,
    /// Why the request fails, where they cannot say it.
    pub(crate) unevaluated: Option<Error>,
}

/// Under what an arm is chosen.
pub(crate) struct Conditions<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) directives: &'a mut Directives,
    /// Why nothing is chosen.
    pub(crate) refusal: Option<Error>,
    /// What is to be kept while nothing is much better.
    pub(crate) kept: Option<&'a Kept>,
    /// When the choice must have been made, where it takes a turn.
    pub(crate) until: Instant,
}

/// A configuration with the state of what it names.
pub(crate) struct Ground<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) availability: &'a [Availability],
    pub(crate) unavailable: &'a Arc<Vec<Exclusion>>,
    pub(crate) circuit: &'a (dyn Fn(ModelIx) -> Circuit + Sync),
    pub(crate) quota: &'a (dyn Fn(ModelIx) -> Option<Quota> + Sync),
}

/// Asks the policies, to whom things stand as they did when the request came, and chooses. Nothing is noted, nothing is
/// taken.
pub(crate) async fn weigh(on: &Ground<'_>, about: Question<'_>, around: &policies::Around) -> Routed {
    let Bundle { asks, detector, .. } = on.bundle;
    let around = asks.with_patterns(around, detector);
    let Evaluated { scope, mut directives, unevaluated } =
        evaluate(on.bundle, Purpose::Looking, about, &around).await;
    let mut governed = Governed::unchanged(about.profiled.clone(), scope);
    let further = directives.further.as_deref().filter(|_| directives.denials.is_empty());
    if let Some(further) = further {
        let (tenant, body) = (&about.who.principal.tenant.id, about.profiled.request.body().clone());
        // What stands for a value goes nowhere, so that any key will do.
        let redaction = Redaction::of(&further.redact, detector.clone(), &[0; 32], tenant, body);
        governed.rewrite(further, &mut directives.validators, &redaction);
    }
    let Governed { profiled, scope, denial, refusal, .. } = governed;
    let asked = further.and_then(|f| f.approvals.first()).map(unapproved);
    directives.denials.extend(denial.or(asked));
    let conditions = Conditions {
        scope: &scope,
        directives: &mut directives,
        refusal: unevaluated.or(refusal),
        kept: None,
        until: Instant::now() + decision_slots::PATIENCE,
    };
    choose(on, Question { profiled: &profiled, ..about }, conditions).await
}

/// What becomes of a request that people have to agree to, before anybody has.
fn unapproved(asked: &Set<Approval>) -> Denial {
    let (rule, reason) = (asked.rule.clone(), asked.value.reason.clone());
    Denial { rule, reason, code: approvals::REQUIRED.to_owned(), status: 409 }
}

/// The same under a configuration in force.
pub(crate) async fn weigh_under(view: &View, about: Question<'_>, around: &policies::Around) -> Routed {
    let (circuit, quota) = (|ix| view.circuit(ix), |ix| view.reach.provider.quota(ix));
    weigh(&ground(view, &circuit, &quota), about, around).await
}

/// A configuration in force, for which it is known how its models do.
pub(crate) fn ground<'a>(
    view: &'a View,
    circuit: &'a (dyn Fn(ModelIx) -> Circuit + Sync),
    quota: &'a (dyn Fn(ModelIx) -> Option<Quota> + Sync),
) -> Ground<'a> {
    let (availability, unavailable) = (&view.availability, &view.unavailable);
    Ground { bundle: &view.bundle, availability, unavailable, circuit, quota }
}

/// Asks the policies.
pub(crate) async fn evaluate(
    bundle: &Bundle,
    purpose: Purpose,
    about: Question<'_>,
    around: &policies::Around,
) -> Evaluated {
    let Question { profiled: Profiled { request, profile, .. }, moment, who, .. } = about;
    let scope = policies::scope(&policies::Inputs { request, profile, around, unix_ms: moment.ts_ms });
    let evaluated = bundle.policies.evaluate_for(purpose, policies::Phase::Request, &scope).await;
    let (mut directives, unevaluated) = match evaluated {
        Ok(directives) => (directives, None),
        Err(e) => (e.until_then(), Some(e.into())),
    };
    limits::tighten(who, &request.options.tags, &mut directives);
    Evaluated { scope, directives, unevaluated }
}

/// Chooses.
pub(crate) async fn choose(on: &Ground<'_>, about: Question<'_>, conditions: Conditions<'_>) -> Routed {
    let Question { profiled: Profiled { request, profile, features }, .. } = about;
    let Conditions { scope, directives, refusal, kept, until } = conditions;
    let arms =
        if refusal.is_some() { 0 } else { route::breadth(on.bundle, on.availability, (request, directives)) };
    let (slot, refusal) = match Slot::wait(arms, until).await {
        Ok(slot) => (slot, refusal),
        Err(late) => (Slot::Few, Some(late)),
    };
    let Question { who, request_id, moment, used_up, .. } = about;
    let inputs = route::Inputs {
        bundle: on.bundle,
        availability: on.availability,
        unavailable: on.unavailable,
        circuit: on.circuit,
        quota: on.quota,
        statistics: &moment.statistics,
        request,
        profile,
        features,
        warm: moment.warm.as_ref(),
        kept,
        explore: moment.explore,
        scope,
        mode: moment.mode,
        seed: moment.seed,
        request_id,
        who,
        used_up,
        ts_ms: moment.ts_ms,
    };
    slot.decide(|| route::decide(&inputs, directives, refusal))
}
