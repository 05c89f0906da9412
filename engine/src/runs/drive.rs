//! Runs a walk to its end, or to where it has to wait: gives it one thing after the other, keeps its records
//! on the disk and its lease alive.

use super::changes::Following;
use super::keeper::{Keeper, Lost};
use super::state::{Idle, Shared, Turn};
use super::tape::Divergence;
use futures_util::future::BoxFuture;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use types::runs::{Durability, RENEW, Record, To};
use workflows::Finished;

/// How often the journal of an `async` run is written.
const FLUSH: Duration = Duration::from_millis(100);

/// Why a walk stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// It came to its end.
    Ended(Box<Finished>),
    /// Only people can help it on.
    Waiting(Idle),
    /// It came to its end, and people have to agree before its answer is handed out: how it is left until then.
    Asks(Box<(Record, To)>),
    /// It does something else than was recorded.
    Diverged(Divergence),
    /// It is only repeated, and asks for what is not on record.
    Missing,
    /// Somebody asked for its end; why.
    Cancelled(String),
    /// The process ends.
    Shutdown,
    /// Another owner has the run, or the store cannot be reached any more: nothing may be written.
    Lost,
}

/// Lets the walk go on until it ends (`Ok`) or comes to rest and needs something (`Err`). `flushing`: records
/// are on their way to the disk. May be dropped and asked again.
pub(super) async fn walk_step(
    run: &mut BoxFuture<'_, Finished>,
    shared: &Shared,
    flushing: bool,
) -> Result<Box<Finished>, Turn> {
    let waker = Waker::from(Arc::clone(&shared.flag));
    poll_fn(move |cx| {
        shared.flag.watch(cx.waker());
        loop {
            if shared.flag.take() {
                match run.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(finished) => {
                        let diverged = shared.diverged_at_end();
                        return Poll::Ready(
                            diverged.map_or(Ok(Box::new(finished)), |d| Err(Turn::Diverged(d))),
                        );
                    }
                    // It has woken itself: it is not at rest, and others have their turn first.
                    Poll::Pending if shared.flag.is_woken() => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            match shared.turn() {
                Turn::Given => {}
                Turn::Nothing => return Poll::Pending,
                Turn::Flush if flushing => return Poll::Pending,
                turn => return Poll::Ready(Err(turn)),
            }
        }
    })
    .await
}

/// Repeats a walk from its record alone.
pub(super) async fn repeat(mut run: BoxFuture<'_, Finished>, shared: &Shared) -> Stop {
    match walk_step(&mut run, shared, false).await {
        Ok(finished) => Stop::Ended(finished),
        Err(Turn::Diverged(d)) => Stop::Diverged(d),
        Err(Turn::Idle(idle)) => Stop::Waiting(idle),
        Err(_) => Stop::Missing,
    }
}

/// What reaches a run from outside while it is walked.
pub(super) struct Signals {
    /// Something was posted to it, or its end was asked for.
    pub(super) told: Following,
    /// The process ends when this becomes true.
    pub(super) stop: watch::Receiver<bool>,
}

/// Waits until the process ends.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone: then it ends as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ticks that come one period apart, the first after one: a store that was slow is not asked for all that was missed.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Walks a run under a lease.
pub(super) async fn drive(
    mut run: BoxFuture<'_, Finished>,
    shared: &Shared,
    keeper: &mut Keeper,
    signals: Signals,
) -> Stop {
    let stop = drive_on(&mut run, shared, keeper, signals).await;
    // What a walk that is to go on later lets go of when it is dropped is no part of the record: it would have to
    // let go of it at the same place again. One that was cancelled tells what its calls have cost.
    if !matches!(stop, Stop::Ended(_) | Stop::Cancelled(_)) {
        shared.close();
    }
    drop(run);
    stop
}

async fn drive_on(
    run: &mut BoxFuture<'_, Finished>,
    shared: &Shared,
    keeper: &mut Keeper,
    mut signals: Signals,
) -> Stop {
    let durability = keeper.durability();
    let mut renew = every(RENEW);
    let mut tick = every(FLUSH);
    let mut flushing = false;
    loop {
        let next = tokio::select! {
            biased;
            () = stopped(&mut signals.stop) => return Stop::Shutdown,
            written = keeper.written(), if flushing => match written {
                Ok(mark) => {
                    shared.flushed(mark);
                    flushing = false;
                    continue;
                }
                Err(Lost) => return Stop::Lost,
            },
            _ = renew.tick() => match keeper.renew(shared).await {
                Ok(None) => continue,
                Ok(Some(why)) => return Stop::Cancelled(why),
                Err(Lost) => return Stop::Lost,
            },
            () = signals.told.changed() => match keeper.renew(shared).await {
                Ok(None) => continue,
                Ok(Some(why)) => return Stop::Cancelled(why),
                Err(Lost) => return Stop::Lost,
            },
            _ = tick.tick(), if durability == Durability::Async && !flushing => {
                flushing = keeper.write(shared);
                continue;
            }
            step = walk_step(run, shared, flushing) => step,
        };
        match next {
            Ok(finished) => return Stop::Ended(finished),
            Err(Turn::Flush) => flushing = keeper.write(shared),
            Err(Turn::Idle(idle)) => return Stop::Waiting(idle),
            Err(Turn::Diverged(d)) => return Stop::Diverged(d),
            Err(Turn::Missing | Turn::Given | Turn::Nothing) => return Stop::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[tokio::test(start_paused = true)]
    async fn after_a_slow_write_there_is_one_tick_and_not_all_that_were_missed() {
        let mut ticks = every(RENEW);
        assert!(ticks.tick().now_or_never().is_none(), "the first comes after a period");
        tokio::time::advance(RENEW * 5).await;
        assert!(ticks.tick().now_or_never().is_some());
        assert!(ticks.tick().now_or_never().is_none());
        tokio::time::advance(RENEW).await;
        assert!(ticks.tick().now_or_never().is_some());
    }
}
