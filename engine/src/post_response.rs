//! What a workflow does after its response, such as grading it for the record: bounded, paid for by whoever asked, and
//! left out first when there is much to do.

use crate::Inner;
use crate::account::billed;
use crate::admit::Gate;
use crate::answer::Admission;
use crate::calls::Calls;
use crate::error::Error;
use crate::limits::{self, Counters, Held, Wanted};
use crate::premium;
use crate::unrecorded;
use crate::who::Who;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use types::Clock;
use types::limits::Amount;
use types::outcome::{Feedback, Late};
use types::store::{OutcomeStore, Record};
use workflows::Later;

/// Requests whose work after the response may be under way at the same time; of more, the newest is left undone.
const MOST: usize = 64;

/// Starts work that nobody waits for, under a name; the caller counts it, and waits for it when it stops.
pub type Background = Arc<dyn Fn(&'static str, BoxFuture<'static, ()>) + Send + Sync>;

/// What came of the work after responses since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pieces of work after a response that were done.
    pub done: u64,
    /// Left out because too many were under way.
    pub shed: u64,
    /// Left out because a limit or budget of whoever asked had no room for it.
    pub unpaid: u64,
}

/// Counts the work after responses, and bounds how much of it is under way.
#[derive(Debug, Default)]
pub(crate) struct Work {
    under_way: AtomicUsize,
    done: AtomicU64,
    shed: AtomicU64,
    unpaid: AtomicU64,
}

/// A place among what is under way; dropping it gives the place back.
pub(crate) struct Place(Arc<Work>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl Work {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            done: self.done.load(Relaxed),
            shed: self.shed.load(Relaxed),
            unpaid: self.unpaid.load(Relaxed),
        }
    }

    /// It was done.
    pub(crate) fn was_done(&self) {
        self.done.fetch_add(1, Relaxed);
    }

    /// There was no money for it.
    pub(crate) fn was_unpaid(&self) {
        self.unpaid.fetch_add(1, Relaxed);
    }

    /// A place, unless there is none or requests need all there is.
    pub(crate) fn enter(self: &Arc<Self>, gate: &Gate) -> Option<Place> {
        let more = |n: usize| (n < MOST && !gate.is_busy()).then_some(n.saturating_add(1));
        let entered = self.under_way.fetch_update(Relaxed, Relaxed, more).is_ok();
        if !entered {
            self.shed.fetch_add(1, Relaxed);
        }
        entered.then(|| Place(self.clone()))
    }
}

/// What the work after the response of one request needs.
pub(crate) struct Afterwards {
    start: Background,
    store: Arc<dyn OutcomeStore>,
    clock: Clock,
    limits: Option<Counters>,
    gate: Arc<Gate>,
    work: Arc<Work>,
    who: Arc<Who>,
    request_id: String,
}

impl Inner {
    /// What is needed after the response; `None` = there is nowhere to work.
    pub(crate) fn afterwards(&self, admission: &Admission) -> Option<Afterwards> {
        Some(self.afterwards_in(self.background.clone()?, admission))
    }

    /// The same with somewhere to work.
    pub(crate) fn afterwards_in(&self, start: Background, admission: &Admission) -> Afterwards {
        Afterwards {
            start,
            store: self.store.clone(),
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            gate: self.gate.clone(),
            work: self.late.clone(),
            who: admission.who.clone(),
            request_id: admission.request_id.clone(),
        }
    }
}

impl Afterwards {
    /// Begins what remains of a run, or leaves it out.
    pub(crate) fn begin(self, later: Later, calls: Arc<Calls>) {
        let Some(place) = self.work.enter(&self.gate) else {
            tracing::debug!(
                request_id = self.request_id,
                "too much to do; nothing is done after this response"
            );
            return;
        };
        let start = self.start.clone();
        start("after_response", Box::pin(self.finish(later, calls, place)));
    }

    /// Does what remains of a run. What judges say of the answer goes on record as a word on it; what their calls
    /// cost counts against the budgets of whoever asked, and goes on record as a line of its own, since the record of
    /// the request is closed.
    async fn finish(self, later: Later, calls: Arc<Calls>, _place: Place) {
        let held = match self.pay(&calls).await {
            Ok(held) => held,
            Err(e) => {
                self.work.was_unpaid();
                tracing::info!(request_id = self.request_id, why = %e, "nothing is done after this response");
                return;
            }
        };
        let mut run = later.run().await;
        calls.after.hand_over(&mut run);
        if let Some(held) = held {
            held.settle(&run);
        }
        self.work.was_done();
        let (cost, _) = run.cost();
        let told = |s: &types::run::Step| match &s.note {
            Some(note) => format!("{}:{} ({note})", s.node, s.outcome),
            None => format!("{}:{}", s.node, s.outcome),
        };
        let nodes: Vec<String> = run.steps.iter().map(told).collect();
        tracing::info!(
            request_id = self.request_id,
            cost_usd = cost.dollars(),
            calls = run.calls().count(),
            ?nodes,
            "after the response"
        );
        let late = Late {
            request_id: self.request_id.clone(),
            ts_ms: self.clock.unix_ms(),
            calls: billed(&run),
            beside: Vec::new(),
        };
        if !late.calls.is_empty() {
            self.write(&Record::Late(late));
        }
        let Some(score) = run.judge else { return };
        let source = format!("judge:{}", run.workflow);
        let (request_id, ts_ms) = (self.request_id.clone(), self.clock.unix_ms());
        self.write(&Record::Feedback(Feedback {
            request_id,
            ts_ms,
            score,
            reason: None,
            source,
            principal: String::new(),
        }));
    }

    /// Reserves what the calls may cost with the limits of key, tenant and policies.
    async fn pay(&self, calls: &Calls) -> Result<Option<Held>, Error> {
        let premium = premium::why(&self.who, &calls.profile, calls.ceilings.premium).is_some();
        let (request, rules) = (&*calls.request, &*calls.ceilings.limits);
        let models = (&*calls.reach.matrix, &**calls.candidates.pools());
        let partial = limits::partial(&self.who, models, &request.options.tags, rules, premium);
        let worst = calls.worst_after();
        // What the request leaves of what was set aside for it comes before what anybody else may take.
        let wants = Amount { usd: limits::nanos(worst.usd), tokens: worst.tokens, ..Amount::default() };
        let left = match calls.ledger.leaves(wants) {
            Some(left) => left.await.ok(),
            None => None,
        };
        // What one request may use is for all its calls, whenever they are made.
        calls.after.goes_on_from(&calls.ledger);
        let wanted = Wanted { asker: &calls.asker, rules, tags: &request.options.tags, worst, premium };
        let mut held = Held::afterwards(self.limits.as_ref(), wanted, partial, left).await?;
        if let Some(held) = &mut held {
            calls.after.draw_on(held);
        }
        Ok(held)
    }

    /// Writes a line of the log; one that comes before its request waits there for it.
    fn write(&self, record: &Record) {
        if let Err(e) = self.store.append(record) {
            unrecorded::say(&self.request_id, &e, "what was done after the response is not recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_and_nothing_under_load() {
        let (work, gate) = (Arc::<Work>::default(), Gate::new(10, (0, std::time::Duration::ZERO)));
        let mut places: Vec<Place> = std::iter::from_fn(|| work.enter(&gate)).take(1_000).collect();
        assert_eq!((places.len(), work.counts().shed), (MOST, 1));
        places.pop();
        let _one = work.enter(&gate).unwrap();
        drop(places);
        let _busy: Vec<_> = (0..9).map(|_| gate.enter(1.0).unwrap()).collect();
        assert!(work.enter(&gate).is_none(), "requests come first");
        assert_eq!(work.counts(), Counts { done: 0, shed: 2, unpaid: 0 });
    }
}
