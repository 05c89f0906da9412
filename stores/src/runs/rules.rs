//! How a run may change: pure functions over its head, the same for every store.

use super::clock::millis;
use types::runs::{Advance, Chosen, Error, Head, Holder, LEASE, Lease, NewRun, Spent, State, To};

/// A run that waits for its first worker.
pub(super) fn fresh(new: &NewRun, now: i64) -> Head {
    Head {
        id: new.id.clone(),
        tenant: new.tenant.clone(),
        principal: new.principal.clone(),
        workflow: new.workflow.clone(),
        plan: None,
        state: State::Queued,
        durability: new.durability,
        authored: new.authored.clone(),
        labels: new.labels.clone(),
        created_ms: now,
        updated_ms: now,
        started_ms: None,
        ended_ms: None,
        expires_ms: now.saturating_add(millis(new.lifetime)),
        forget_ms: None,
        wake_ms: None,
        epoch: 0,
        holder: None,
        records: 0,
        posts: 0,
        cancel: None,
        spent: Spent::default(),
        parent: new.fork.clone(),
        callback_url: new.callback_url.clone(),
    }
}

/// When a worker may take the run; `None` = not without a word from outside.
pub(super) fn due(head: &Head) -> Option<i64> {
    match head.state {
        State::Queued => Some(head.wake_ms.unwrap_or(head.updated_ms)),
        State::Running => Some(head.holder.as_ref().map_or(0, |h| h.until_ms)),
        State::Suspended => head.wake_ms,
        _ => None,
    }
}

/// Takes the run; true = from an owner that fell silent.
pub(super) fn claim(head: &mut Head, owner: &str, now: i64) -> (Lease, bool) {
    let taken_over = head.state == State::Running;
    let until_ms = now.saturating_add(millis(LEASE));
    head.state = State::Running;
    head.epoch = head.epoch.saturating_add(1);
    head.holder = Some(Holder { owner: owner.to_owned(), until_ms });
    head.wake_ms = None;
    head.started_ms = head.started_ms.or(Some(now));
    head.updated_ms = now;
    (Lease { run: head.id.clone(), owner: owner.to_owned(), epoch: head.epoch, until_ms }, taken_over)
}

/// Only the last owner may write, and only while the run is its own. A lease that ran out still holds as
/// long as nobody else has taken the run: the epoch decides, not the clock.
///
/// # Errors
/// [`Error::Stale`].
pub(super) fn owned(head: &Head, lease: &Lease) -> Result<(), Error> {
    let holds = head.state == State::Running
        && head.epoch == lease.epoch
        && head.holder.as_ref().is_some_and(|h| h.owner == lease.owner);
    if holds {
        return Ok(());
    }
    Err(Error::Stale { run: head.id.clone(), epoch: lease.epoch, current: head.epoch })
}

/// Keeps the run; gives the new end of the lease.
pub(super) fn renew(head: &mut Head, now: i64) -> i64 {
    let until_ms = now.saturating_add(millis(LEASE));
    if let Some(holder) = &mut head.holder {
        holder.until_ms = until_ms;
    }
    until_ms
}

/// What an owner's step makes of the run. Records are counted by who writes them.
///
/// # Errors
/// [`Error::State`] for a state in which an owner cannot leave a run.
pub(super) fn step(head: &mut Head, step: &Advance, now: i64) -> Result<(), Error> {
    if let Some(chosen) = &step.plan {
        choose(head, chosen);
    }
    head.spent = step.spent.unwrap_or(head.spent);
    head.updated_ms = now;
    let wrong = |state| Err(Error::State { run: head.id.clone(), state });
    match &step.to {
        None => {}
        Some(To::Queued { wait }) => {
            release(head, State::Queued);
            head.wake_ms = (!wait.is_zero()).then(|| now.saturating_add(millis(*wait)));
        }
        Some(To::Waiting { state, .. }) if !state.is_waiting() => return wrong(*state),
        Some(To::Waiting { state, wake_ms, seen, .. }) => {
            let unread = head.posts > *seen;
            release(head, if unread { State::Queued } else { *state });
            head.wake_ms = wake_ms.filter(|_| !unread);
        }
        Some(To::Ended { state, .. }) if !state.is_final() => return wrong(*state),
        Some(To::Ended { state, .. }) => {
            end(head, *state, now);
            head.forget_ms = step.forgets.after.map(|after| now.saturating_add(millis(after)));
        }
    }
    Ok(())
}

/// What the run runs.
pub(super) fn choose(head: &mut Head, chosen: &Chosen) {
    head.workflow.clone_from(&chosen.workflow);
    head.plan = Some(chosen.plan.clone());
    head.durability = chosen.durability;
    head.authored.clone_from(&chosen.authored);
}

/// Ends the run.
pub(super) fn end(head: &mut Head, state: State, now: i64) {
    release(head, state);
    head.ended_ms = Some(now);
    head.updated_ms = now;
}

/// Queues a run that was told something it waits for.
pub(super) fn wake(head: &mut Head, now: i64) {
    head.updated_ms = now;
    if head.state.is_waiting() {
        release(head, State::Queued);
    }
}

/// Queues a failed or waiting run again, its time anew.
///
/// # Errors
/// [`Error::State`].
pub(super) fn reopen(head: &mut Head, now: i64) -> Result<(), Error> {
    if !(head.state == State::Failed || head.state.is_waiting()) {
        return Err(Error::State { run: head.id.clone(), state: head.state });
    }
    let lifetime = head.expires_ms.saturating_sub(head.created_ms);
    head.expires_ms = head.expires_ms.max(now.saturating_add(lifetime));
    (head.ended_ms, head.forget_ms) = (None, None);
    head.cancel = None;
    head.updated_ms = now;
    release(head, State::Queued);
    Ok(())
}

fn release(head: &mut Head, state: State) {
    head.state = state;
    head.holder = None;
    head.wake_ms = None;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use types::runs::Durability;

    fn head(state: State) -> Head {
        let new = NewRun {
            id: "run_1".into(),
            tenant: "t".into(),
            principal: "p".into(),
            workflow: String::new(),
            durability: Durability::Sync,
            authored: Default::default(),
            labels: Default::default(),
            submission: serde_json::Value::Null,
            callback_url: None,
            lifetime: Duration::from_secs(100),
            key: None,
            fork: None,
            records: Vec::new(),
            room: None,
        };
        Head { state, ..fresh(&new, 1_000) }
    }

    #[test]
    fn who_may_take_a_run_and_when() {
        let check = |state, want| {
            let mut head = head(state);
            head.wake_ms = Some(7_000);
            head.holder = (state == State::Running).then(|| Holder { owner: "a".into(), until_ms: 5_000 });
            assert_eq!(due(&head), want, "{state:?}");
        };
        check(State::Queued, Some(7_000));
        check(State::Running, Some(5_000));
        check(State::Suspended, Some(7_000));
        for state in
            [State::NeedsAttention, State::Succeeded, State::Failed, State::Cancelled, State::Expired]
        {
            check(state, None);
        }
    }

    #[test]
    fn only_the_last_owner_writes() {
        let mut head = head(State::Queued);
        let (first, taken_over) = claim(&mut head, "a", 2_000);
        assert!(!taken_over && owned(&head, &first).is_ok());
        // Its lease is over, but nobody has taken the run.
        assert!(owned(&head, &first).is_ok());
        let (second, taken_over) = claim(&mut head, "b", 20_000);
        assert!(taken_over && second.epoch == first.epoch + 1);
        assert!(matches!(owned(&head, &first), Err(Error::Stale { epoch: 1, current: 2, .. })));
        assert!(owned(&head, &second).is_ok());
        end(&mut head, State::Succeeded, 21_000);
        assert!(owned(&head, &second).is_err());
    }

    #[test]
    fn a_wait_does_not_miss_what_was_posted_meanwhile() {
        let wait = |posts, seen| {
            let mut head = head(State::Queued);
            claim(&mut head, "a", 2_000);
            head.posts = posts;
            let waiting = serde_json::Value::Null;
            let to = To::Waiting { state: State::Suspended, waiting, wake_ms: Some(9_000), seen };
            step(&mut head, &Advance { to: Some(to), ..Advance::default() }, 3_000).unwrap();
            (head.state, head.wake_ms, head.holder)
        };
        assert_eq!(wait(0, 0), (State::Suspended, Some(9_000), None));
        assert_eq!(wait(2, 2), (State::Suspended, Some(9_000), None));
        assert_eq!(wait(3, 2), (State::Queued, None, None));
    }

    #[test]
    fn a_run_cannot_be_left_in_a_state_of_another_kind() {
        let to = [
            To::Waiting { state: State::Failed, waiting: serde_json::Value::Null, wake_ms: None, seen: 0 },
            To::Ended { state: State::Queued, result: serde_json::Value::Null },
        ];
        for to in to {
            let mut head = head(State::Queued);
            claim(&mut head, "a", 2_000);
            assert!(step(&mut head, &Advance { to: Some(to), ..Advance::default() }, 3_000).is_err());
        }
    }

    #[test]
    fn failed_and_waiting_runs_can_be_reopened() {
        for state in State::ALL {
            let may = matches!(state, State::Failed | State::Suspended | State::NeedsAttention);
            let mut head = head(state);
            assert_eq!(reopen(&mut head, 500_000).is_ok(), may, "{state:?}");
            if may {
                assert_eq!((head.state, head.expires_ms), (State::Queued, 600_000));
            }
        }
    }
}
