//! One ownership of a run: from where its journal ends to its end, or to where it has to wait.

use super::assemble::{Admitted, Manner, Walk, assemble};
use super::changes::Kind as Change;
use super::consent::Consent;
use super::drive::{Signals, Stop, drive};
use super::keeper::{Keeper, Lost};
use super::made::{self, Unready};
use super::state::{Keep, Shared};
use super::submission::Submission;
use super::{Service, account, asked, end, means};
use crate::answer::Admission;
use crate::calls::Calls;
use crate::decide::{self, Decider, Reserved};
use crate::error::{Error, Kind};
use crate::failed::Halt;
use crate::govern::Ask;
use crate::limits::{Count, Held};
use crate::profiled::Profiled;
use crate::settle::Settlement;
use crate::shadow_run::{self, Trials};
use crate::task;
use serde::Deserialize as _;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use types::runs::{Claimed, Durability, Entry, Head, Question, Record, Spent, State, To};
use workflows::Finished;

/// Bounds on the wait of a run for which there is no room: it does not hold up others meanwhile.
const SOONEST: Duration = Duration::from_millis(200);
const LATEST: Duration = Duration::from_secs(60);

/// Owns a run until it ends, waits, or is lost.
pub(super) async fn own(service: Arc<Service>, claimed: Claimed) {
    let head = claimed.row.head.clone();
    let mut keeper = Keeper::new(service.store.clone(), claimed.lease, &head, service.changes.clone());
    let submission = claimed.row.submission;
    if let Some(why) = &head.cancel {
        account::cancelled(&service, &head, &submission).await;
        let _ = close(&mut keeper, head.spent, State::Cancelled, end::cancelled(why)).await;
        return;
    }
    let ready = prepare(&service, &head, &submission, claimed.taken_over, &mut keeper).await;
    match ready {
        Ok(walk) => go(&service, &head, walk, keeper).await,
        Err(Unready::Failed(error)) => {
            let error = account::failed(&service, &head, &submission, *error).await;
            let _ = close(&mut keeper, head.spent, State::Failed, end::failed(&error)).await;
        }
        Err(Unready::Recorded(error)) => {
            let _ = close(&mut keeper, head.spent, State::Failed, end::failed(&error)).await;
        }
        Err(Unready::Later(wait)) => {
            let wait = wait.clamp(SOONEST, LATEST);
            let _ = keeper.finish(head.spent, Vec::new(), To::Queued { wait }).await;
        }
        Err(Unready::Waits(waits)) => {
            let (record, to) = *waits;
            if keeper.finish(head.spent, vec![record], to).await.is_ok() {
                asked::tell(&service, &head).await;
            }
        }
        Err(Unready::Lost) => {}
    }
}

/// Brings everything together for a walk.
async fn prepare(
    service: &Arc<Service>,
    head: &Head,
    submission: &Value,
    taken_over: bool,
    keeper: &mut Keeper,
) -> Result<Walk, Unready> {
    let internal = |why: String| Unready::Failed(Box::new(Kind::Internal(why).into()));
    let submission = Submission::deserialize(submission)
        .map_err(|e| internal(format!("what was asked of run {} cannot be read: {e}", head.id)))?;
    let Some(who) = (service.people)(&head.tenant, &head.principal) else {
        let reason = "whoever started this run may not use this server any more".to_owned();
        let gone = Kind::denied("forbidden", reason);
        return Err(Unready::Failed(Box::new(gone.into())));
    };
    let inner = &service.engine.0;
    let ts_ms = inner.clock.unix_ms();
    let permit = inner.gate.enter(who.principal.tenant.tier.share_of_places())?;
    let mut held = Held::enter(inner.limits.as_ref(), &who, Count::Place).await?;
    let entries = made::journal(service, &head.id).await?;
    note_resumption(keeper, &entries, taken_over);
    let view = inner.view.load_full();
    let admission = submission.admission(&head.id, who);
    let consent = Consent::of(service, head, &entries).await?;
    let known = made::walkable(&head.id, &entries, submission.decide)?;
    let made = match known {
        Some((started, decision)) => {
            let workflow = made::pinned(service, &view, head, started).await?;
            let mut made = made::again(head, workflow, submission, started, decision)?;
            means::renew(inner, &view, &admission.who, head, &mut made, &mut held).await?;
            made
        }
        None => {
            let request = submission.request()?;
            if let Some((param, message)) = workflows::impossible(&request) {
                return Err(Error::from(Kind::Invalid { param, message }).into());
            }
            let decider = Decider { inner, view: &view, admission: &admission, ts_ms };
            let directed = decider.policy(Profiled::of(Arc::new(request)), Ask::Run(&consent)).await;
            let decided = decider.route(directed).await;
            let mut reserved = decider.reserve(decided, held, Duration::ZERO).await;
            match made::choice(&view, &reserved.decided) {
                Ok(chosen) => {
                    let Reserved { decided, held: taken, .. } = reserved;
                    held = taken;
                    // Who answers is noted at the end of the walk, which may be another process's.
                    decide::note(inner, &decided.stays, &decided.decision);
                    made::first(service, &view, submission, (decided, chosen), keeper, ts_ms).await?
                }
                Err(error) => {
                    let waits = consent.waits(&error);
                    // What is tried again is decided again.
                    if error.retryable() || waits.is_some() {
                        if let Some(demands) = &reserved.decided.demands {
                            demands.comes_again();
                        }
                        return Err(waits.map_or_else(|| error.into(), Unready::Waits));
                    }
                    let decision = &mut reserved.decided.decision;
                    keeper.note(Record::Decision { decision: Box::new(decision.clone()) });
                    decision.request_id = account::name(&head.id, &entries);
                    let (mut settlement, _) = task::begin(inner, &view, admission, permit, reserved);
                    return Err(Unready::Recorded(Box::new(settlement.failed(error))));
                }
            }
        }
    };
    keeper.set_durability(made.workflow.durability);
    let manner = Manner { keep: Keep::Record(keeper.durability()), usd: None, consent: Some(consent) };
    let admitted = Admitted { admission, permit, held };
    let walk = assemble(service, &view, made, entries, admitted, manner);
    let now_ms = service.now_ms();
    keeper.hand_over(&walk.shared, now_ms).await.map_err(|Lost| Unready::Lost)?;
    Ok(walk)
}

/// Says in the journal why the run goes on, unless it says so already.
fn note_resumption(keeper: &mut Keeper, entries: &[Entry], taken_over: bool) {
    let Some(last) = entries.last() else { return };
    let why = match &last.record {
        Record::Resumed { .. } => return,
        _ if taken_over => "taken_over",
        Record::Suspended { .. } => "posted",
        _ => "woken",
    };
    keeper.note(Record::Resumed {
        why: why.to_owned(),
        plan: types::runs::PlanChoice::Pinned,
        posts: Vec::new(),
        anew: false,
        retry: Vec::new(),
    });
}

/// Walks on, and leaves the run as the walk ended.
async fn go(service: &Arc<Service>, head: &Head, walk: Walk, mut keeper: Keeper) {
    let Walk { shared, run, mut settlement, after, trials, judge } = walk;
    let told = service.changes.follow(Change::Told, &head.id);
    let signals = Signals { told, stop: service.stop.subscribe() };
    let stop = match (drive(run, &shared, &mut keeper, signals).await, judge) {
        (Stop::Ended(finished), Some(judge)) => Box::pin(judge.of(&service.engine.0, *finished)).await,
        (stop, _) => stop,
    };
    if !matches!(stop, Stop::Ended(_)) {
        // The walk is gone; what it let go of on the way out is no part of the record.
        shared.close();
    }
    let left = match stop {
        Stop::Ended(finished) => {
            let result = ended(service, &shared, settlement, *finished, (after, trials), &mut keeper).await;
            if result.is_ok() {
                tracing::debug!(run = head.id, "a run has ended");
            }
            return;
        }
        Stop::Waiting(_) | Stop::Asks(_) if keeper.durability() == Durability::None => {
            let message = "the workflow waits for somebody, and nothing of it is kept; give it a durability";
            let kind = Halt::Approval.told(message.to_owned());
            let error = settlement.failed(kind.into());
            close(&mut keeper, shared.spent(), State::Failed, end::failed(&error)).await
        }
        Stop::Waiting(idle) => {
            drop(settlement);
            let state = if idle.in_doubt { State::NeedsAttention } else { State::Suspended };
            let waiting = Question::waiting(&idle.questions);
            let record = Record::Suspended { state, waiting: waiting.clone() };
            let seen = keeper.seen();
            let to = To::Waiting { state, waiting, wake_ms: idle.lapses_ms, seen };
            keeper.leave(&shared, vec![record], to).await
        }
        Stop::Asks(waits) => {
            drop(settlement);
            let (record, to) = *waits;
            keeper.leave(&shared, vec![record], to).await
        }
        Stop::Diverged(d) => {
            settlement.failed(end::no_repetition(&d));
            drop(settlement);
            tracing::error!(
                run = head.id,
                seq = d.seq,
                d.recorded,
                d.found,
                "a run does not repeat its journal"
            );
            close(&mut keeper, shared.spent(), State::Failed, end::diverged(&d)).await
        }
        Stop::Cancelled(why) => {
            settlement.cancelled();
            let result = end::cancelled(&why);
            let record = Record::RunFinished { state: State::Cancelled, result: result.clone() };
            keeper.leave(&shared, vec![record], To::Ended { state: State::Cancelled, result }).await
        }
        Stop::Shutdown => {
            drop(settlement);
            keeper.leave(&shared, Vec::new(), To::Queued { wait: Duration::ZERO }).await
        }
        Stop::Missing | Stop::Lost => {
            drop(settlement);
            Err(Lost)
        }
    };
    match left {
        Ok(head) if head.state.is_waiting() => asked::tell(service, &head).await,
        Ok(_) => {}
        Err(Lost) => tracing::warn!(run = head.id, "a run was left to others"),
    }
}

/// The end of a walk that came to its end.
async fn ended(
    service: &Arc<Service>,
    shared: &Arc<Shared>,
    mut settlement: Settlement,
    finished: Finished,
    (after, trials): (Arc<Calls>, Option<Trials>),
    keeper: &mut Keeper,
) -> Result<Head, Lost> {
    // What is called after the end is told of under the name of its record.
    let admission =
        Admission { request_id: settlement.recorded_as().to_owned(), ..settlement.admission.clone() };
    let answer = shadow_run::answer(&finished.ending);
    if let Some(demands) = &settlement.demands {
        keeper.forget(demands.said.forgets());
    }
    let (state, result, text) = end::of(finished.ending, &mut settlement);
    drop(settlement);
    let mut records = Vec::new();
    if let Some(text) = text {
        records.push(Record::Stream { offset: 0, text });
    }
    records.push(Record::RunFinished { state, result: result.clone() });
    let head = keeper.leave(shared, records, To::Ended { state, result }).await?;
    if let Some((trials, answer)) = trials.zip(answer) {
        trials.begin(answer);
    }
    if let Some(later) = finished.later {
        // The run has ended; what is still asked is no part of its record.
        shared.pass_through();
        let inner = &service.engine.0;
        inner.afterwards_in(service.start.clone(), &admission).begin(later, after);
    }
    Ok(head)
}

async fn close(keeper: &mut Keeper, spent: Spent, state: State, result: Value) -> Result<Head, Lost> {
    let record = Record::RunFinished { state, result: result.clone() };
    keeper.finish(spent, vec![record], To::Ended { state, result }).await
}
