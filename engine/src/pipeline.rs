//! The way of a request, top to bottom, one call per room.

use crate::Inner;
use crate::admit::Asks;
use crate::answer::{Admission, Answer};
use crate::decide::Decider;
use crate::ending::Promised;
use crate::error::{Error, Kind};
use crate::govern::Ask;
use crate::limits::{Count, Held};
use crate::profiled::Profiled;
use crate::settle::Settlement;
use crate::task::{self, Task};
use std::sync::Arc;
use types::chat::ChatRequest;

/// Answers one request.
pub(crate) async fn chat(inner: &Inner, admission: Admission, request: ChatRequest) -> Result<Answer, Error> {
    // admit
    let ts_ms = inner.clock.unix_ms();
    let permit = inner.gate.admit(asks(&admission, &request)).await?;
    let held = Held::enter(inner.limits.as_ref(), &admission.who, Count::Request).await?;
    let view = inner.view.load_full();
    if let Some((param, message)) = workflows::impossible(&request) {
        return Err(Kind::Invalid { param, message }.into());
    }

    // profile, policy, route, reserve
    let decider = Decider { inner, view: &view, admission: &admission, ts_ms };
    let profiled = Profiled::of(Arc::new(request));
    let directed = decider.policy(profiled, Ask::People).await;
    let decided = decider.route(directed).await;
    let reserved = decider.reserve(decided, held, inner.config.patience).await;

    // From here on it is on record, however it ends.
    let (mut settlement, task) = task::begin(inner, &view, admission, permit, reserved);
    let mut task = match task {
        Ok(task) => task,
        Err(e) => return Err(settlement.failed(e)),
    };
    if task.must_be_run(inner, &view, &settlement) {
        settlement.becomes_run();
        return Ok(Answer::AsRun);
    }
    if let Err(e) = may_begin(inner, &mut settlement, &mut task).await {
        return Err(settlement.failed(e));
    }
    let deadline = task.deadline(inner, &settlement);
    let promised = Promised::of(&view, &task, &settlement, deadline);
    if let Some(agreed) = task.agreed.take() {
        return promised.agreed_on(*agreed, settlement).await;
    }

    // workflow (and provider and validate, within)
    let launched = task.launch(inner, &view, &settlement, deadline);

    // settle, assess: in `Settlement`, whichever way the run ends; learn follows the log
    promised.keep(launched, settlement).await
}

/// Takes what the work of a request begins with: a place, and the approval that it names.
async fn may_begin(inner: &Inner, settlement: &mut Settlement, task: &mut Task) -> Result<(), Error> {
    place(inner, settlement, task).await?;
    task.begin_approved(inner, settlement)?;
    task.note(inner, settlement);
    Ok(())
}

/// Keeps the place of a request, unless a rule has it give way and wait for another one.
///
/// # Errors
/// No other became free.
async fn place(inner: &Inner, settlement: &mut Settlement, task: &Task) -> Result<(), Error> {
    let class = task.directives.further.as_ref().and_then(|f| f.priority.as_ref());
    let Some((class, permit)) = class.and_then(|class| Some((class.value, settlement.permit.take()?))) else {
        return Ok(());
    };
    settlement.permit =
        Some(inner.gate.give_way(permit, class, asks(&settlement.admission, &task.request)).await?);
    Ok(())
}

/// Who asks for a place.
fn asks(admission: &Admission, request: &ChatRequest) -> Asks {
    // An answer that must be there by then is not worth waiting for longer.
    let within = [admission.deadline, request.options.max_latency].into_iter().flatten().min();
    Asks {
        tenant: admission.who.tenant_id.clone(),
        share: admission.who.principal.tenant.tier.share_of_places(),
        until: within.map(|d| admission.received + d),
    }
}
