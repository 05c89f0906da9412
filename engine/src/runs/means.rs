//! What a run that goes on may use: the models that its key may use by now, and what limits have left.

use super::made::Made;
use crate::error::{Error, Kind};
use crate::limits::{Asker, Count, Held};
use crate::reserve::{self, Purpose};
use crate::route::{self, Candidates};
use crate::who::Who;
use crate::{Inner, View, premium};
use std::sync::Arc;
use types::Usd;
use types::runs::Head;

/// Takes what the walk may use from the limits in force, as for the run's first one, but for the request, which was
/// counted when it was asked for.
///
/// # Errors
/// The limit that is reached; the key may not use the workflow any more, or none of the models.
pub(super) async fn renew(
    inner: &Inner,
    view: &Arc<View>,
    who: &Arc<Who>,
    head: &Head,
    made: &mut Made,
    held: &mut Option<Held>,
) -> Result<(), Error> {
    let left = made.given.cap.map(|cap| cap.minus(head.spent.usd));
    take(inner, view, who, made, held, (left, Count::Place)).await
}

/// Takes what the walk may use from the limits in force: so much money at most, and what else is counted.
///
/// # Errors
/// As for [`renew`].
pub(super) async fn take(
    inner: &Inner,
    view: &Arc<View>,
    who: &Arc<Who>,
    made: &mut Made,
    held: &mut Option<Held>,
    (left, count): (Option<Usd>, Count),
) -> Result<(), Error> {
    within_scopes(made, view, who)?;
    let matrix = view.bundle.matrix();
    let ceilings = made.given.bounds.ceilings(matrix);
    let profile = profiler::profile(&made.request);
    let purpose = Purpose {
        request: &made.request,
        profile: &profile,
        asker: &Asker::of(inner, view, who, &made.request),
        rules: &ceilings.limits,
        cap: ceilings.max_tokens,
        premium: premium::why(who, &profile, ceilings.premium).is_some(),
        count,
    };
    let candidates = Candidates::read(&made.given.candidates, matrix, view.bundle.pools.clone());
    let chosen = route::Chosen { workflow: made.workflow.clone(), candidates, cap: left };
    reserve::reserve(inner, view, held, purpose, &chosen).await
}

/// Keeps to what the key may use by now.
fn within_scopes(made: &mut Made, view: &View, who: &Who) -> Result<(), Error> {
    let Some(scopes) = who.principal.key.as_ref().map(|k| &k.scopes) else { return Ok(()) };
    let denied = |code: &str, reason: String| Err(Kind::denied(code, reason).into());
    let name = &made.workflow.name;
    if !who.may_run(name) {
        return denied("workflow_not_allowed", format!("the key may not use the workflow `{name}`"));
    }
    if scopes.models.is_empty() {
        return Ok(());
    }
    let (matrix, may) = (view.bundle.matrix(), route::selected(&view.bundle, &scopes.models));
    if made.given.candidates.retain(|model| matrix.find(model).is_some_and(|ix| may.contains(ix))) {
        return Ok(());
    }
    denied("model_not_allowed", "the key may use none of the models of the run any more".to_owned())
}
