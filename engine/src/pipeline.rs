//! The way of a request, top to bottom, one call per room.

use crate::Inner;
use crate::admit::Permit;
use crate::answer::{Admission, Answer};
use crate::decide::{Decided, decide};
use crate::ending::Promised;
use crate::error::{Error, Kind};
use crate::limits::{Count, Held};
use crate::settle;
use crate::task::{self, Admitted};
use std::sync::Arc;
use types::chat::ChatRequest;

/// Answers one request.
pub(crate) async fn chat(inner: &Inner, admission: Admission, request: ChatRequest) -> Result<Answer, Error> {
    // admit
    let ts_ms = settle::unix_ms();
    let who = admission.who.clone();
    let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places())?;
    let mut held = Held::enter(inner.limits.as_ref(), &who, Count::Request, ts_ms).await?;
    let view = inner.view.load_full();
    if let Some((param, message)) = workflows::impossible(&request) {
        return Err(Kind::Invalid { param, message }.into());
    }

    // profile, policy, route
    let decided = decide(inner, &view, &admission, Arc::new(request), &mut held, ts_ms).await;
    let (permit, crowded) = place(inner, &admission, &decided, permit).await;
    let (mut tree, task) = task::begin(inner, &view, decided, Admitted { admission, permit, held });
    let mut task = match (crowded, task) {
        (None, Ok(task)) => task,
        (Some(e), _) | (None, Err(e)) => return Err(tree.failed(e)),
    };
    if task.must_be_run(inner, &view, &tree) {
        tree.leave();
        return Ok(Answer::AsRun);
    }
    let deadline = task.deadline(inner, &tree);
    let promised = Promised::of(&view, &task, &tree, deadline);
    if let Some(agreed) = task.agreed.take() {
        return promised.agreed_on(*agreed, tree).await;
    }

    // workflow (and provider and validate, within)
    let launched = task.launch(inner, &view, &tree, deadline);

    // settle, assess: in `Tree`, whichever way the run ends; learn follows the log
    promised.keep(launched, tree).await
}

/// The place of a request, which a rule may have wait for one; without one, why.
async fn place(
    inner: &Inner,
    admission: &Admission,
    decided: &Decided,
    permit: Permit,
) -> (Option<Permit>, Option<Error>) {
    let class = decided.directives.further.as_ref().and_then(|f| f.priority.as_ref());
    let Some(class) = class.filter(|_| decided.routed.is_ok()) else { return (Some(permit), None) };
    let own = admission.who.principal.tenant.tier.share_of_places();
    let until = admission.deadline.map(|d| admission.received + d);
    match inner.gate.give_way(permit, class.value, own, until).await {
        Ok(permit) => (Some(permit), None),
        Err(e) => (None, Some(e)),
    }
}
