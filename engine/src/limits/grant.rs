//! What the calls of one tree take from limits while it runs: more money than was set aside for all of it at first,
//! and what the limits of their own models demand.

use super::partial::Partial;
use super::patience::{Waiting, Waits};
use super::{Counters, counted, nanos, refusal};
use crate::error::Error;
use crate::who::Who;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::Usd;
use types::limits::{Amount, Claim, Limit, Metric, Reached, Refused, Reservation};
use types::matrix::ModelIx;
use types::run::CallRecord;

/// How often less is asked for when less is left, before nothing is taken.
const TRIES: usize = 8;

/// The way of one tree to its limits. Nothing comes of it once the tree has settled.
pub(crate) struct Grant {
    store: Counters,
    who: Arc<Who>,
    /// Limits on money that count every call.
    money: Arc<[Limit]>,
    partial: Vec<Partial>,
    /// What the tree counts for on limits on requests.
    one: Amount,
    /// What was taken for the tree; `None` = it has settled.
    taken: Mutex<Option<Vec<Reservation>>>,
    /// Limits on requests of some models that the tree has been counted on. Held across the question, so that two
    /// calls at once are not counted twice.
    entered: tokio::sync::Mutex<Vec<Limit>>,
    /// Limits of models that calls of the tree took from, each once.
    called: Mutex<Vec<Limit>>,
    /// The limit that had no room for the last call of a node, of nodes none of whose calls has gone through since; the
    /// newest last.
    refused: Mutex<Vec<(Arc<str>, Error)>>,
    /// How often one had none.
    refusals: AtomicU64,
    /// The limit for which models were left out of the choice.
    left_out: Mutex<Option<Error>>,
    /// How calls wait for what requests in work have set aside; `None` = they do not.
    waits: Option<Waits>,
    /// How long its calls have waited so, all together, in milliseconds.
    waited_ms: AtomicU64,
}

/// Whether a limit counts a tree once, however many calls it makes.
fn is_per_request(limit: &Limit) -> bool {
    matches!(limit.metric, Metric::Requests | Metric::Concurrency)
}

/// What is left for a call that a limit has no room for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    /// So much money: less of it may do.
    Usd(Usd),
    /// So many tokens, likewise.
    Tokens(u64),
    /// Nothing that a shorter answer would help.
    Nothing,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("money", &self.money)
            .field("partial", &self.partial)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// `None` where no limit has more to give, or to say.
    pub(super) fn new(
        store: &Counters,
        who: &Arc<Who>,
        money: Arc<[Limit]>,
        (partial, one): (Vec<Partial>, Amount),
        waits: Option<Waits>,
    ) -> Option<Arc<Grant>> {
        (!money.is_empty() || !partial.is_empty()).then(|| {
            Arc::new(Grant {
                store: store.clone(),
                who: who.clone(),
                money,
                partial,
                one,
                taken: Mutex::new(Some(Vec::new())),
                entered: tokio::sync::Mutex::default(),
                called: Mutex::default(),
                refused: Mutex::default(),
                refusals: AtomicU64::new(0),
                left_out: Mutex::default(),
                waits,
                waited_ms: AtomicU64::new(0),
            })
        })
    }

    fn taken(&self) -> MutexGuard<'_, Option<Vec<Reservation>>> {
        // A push or a take leaves it consistent.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so much more money for the tree from every limit alike, or as much as is left where that is less. Gives
    /// what was taken.
    pub(crate) async fn more(&self, node: &Arc<str>, usd: Usd) -> Usd {
        let mut wanted = nanos(usd);
        for _ in 0..TRIES {
            let amount = Amount { usd: wanted, ..Amount::default() };
            let money = super::claims(&self.who.tenant_id, self.money.iter().cloned(), amount);
            match self.reserve(Vec::new(), money).await {
                Ok(_) => return Usd::from_nanos(i64::try_from(wanted).unwrap_or(i64::MAX)),
                Err(refused) => {
                    let Left::Usd(left) = self.note(node, refused, Amount::default()).await else { break };
                    let left = nanos(left);
                    if left == 0 || left >= wanted {
                        break;
                    }
                    wanted = left;
                }
            }
        }
        Usd::ZERO
    }

    /// Takes what one call of a model may use on the limits of that model.
    ///
    /// # Errors
    /// What is left of them.
    pub(crate) async fn call(
        &self,
        node: &Arc<str>,
        (ix, model): (ModelIx, &str),
        (usd, tokens): (Usd, u64),
    ) -> Result<Option<Share>, Left> {
        let limits = self.partial.iter().filter_map(|p| p.of(ix, model));
        let (door, spent): (Vec<Limit>, Vec<Limit>) = limits.partition(is_per_request);
        let mut entered = match door.as_slice() {
            [] => None,
            _ => Some(self.entered.lock().await),
        };
        let is_new = |l: &Limit| {
            let known = entered.iter().flat_map(|all| all.iter());
            !known.into_iter().any(|e| e.counts_with(l) && e.ceiling == l.ceiling)
        };
        let new: Vec<Limit> = door.into_iter().filter(is_new).collect();
        let amount = Amount { usd: nanos(usd), tokens, ..self.one };
        let spends = Amount { requests: 0, concurrency: 0, ..amount };
        let of_call = super::claims(&self.who.tenant_id, spent, spends);
        let mut taken = match self
            .reserve(of_call, super::claims(&self.who.tenant_id, new.iter().cloned(), self.one))
            .await
        {
            Ok(taken) => taken,
            Err(refused) => return Err(self.note(node, refused, amount).await),
        };
        if let Some(entered) = &mut entered {
            entered.extend(new);
        }
        for reservation in &taken {
            self.note_call(&reservation.limits);
        }
        Ok((!taken.is_empty()).then(|| Share { store: self.store.clone(), held: std::mem::take(&mut taken) }))
    }

    /// Takes what one call claims and what the tree does, or nothing; gives what is the call's own.
    async fn reserve(&self, of_call: Vec<Claim>, of_tree: Vec<Claim>) -> Result<Vec<Reservation>, Refused> {
        if of_call.is_empty() && of_tree.is_empty() {
            return Ok(Vec::new());
        }
        let own = of_call.len();
        let all = of_call.into_iter().chain(of_tree).collect();
        let mut taken = self.store.reserve_all(all).await?;
        let of_tree = taken.split_off(own.min(taken.len()));
        if of_tree.is_empty() {
            return Ok(taken);
        }
        match &mut *self.taken() {
            Some(all) => all.extend(of_tree),
            None => {
                for reservation in taken.into_iter().chain(of_tree) {
                    self.store.settle(reservation, Amount::default());
                }
                return Err(Refused::Away("the request has ended".to_owned()));
            }
        }
        Ok(taken)
    }

    fn note_call(&self, limits: &[Limit]) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        for limit in limits {
            if !called.iter().any(|known| known.counts_with(limit)) {
                called.push(limit.clone());
            }
        }
    }

    /// Limits of models that calls of the tree took money or tokens from.
    pub(super) fn called(&self) -> Vec<Limit> {
        self.called.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why so much was refused; gives what is left, where less may do.
    async fn note(&self, node: &Arc<str>, refused: Refused, wanted: Amount) -> Left {
        let left = match &refused {
            // A shorter answer is a request as well.
            Refused::Reached(all) if all.iter().any(|r| is_per_request(&r.limit)) => Left::Nothing,
            _ => match refused.last() {
                Some(Reached { limit, left, .. }) if limit.metric == Metric::Usd => {
                    Left::Usd(super::usd(*left))
                }
                Some(Reached { left, .. }) => Left::Tokens(*left),
                None => Left::Nothing,
            },
        };
        let error = refusal(&self.store, &self.who, (refused, wanted)).await;
        let mut all = self.without(node);
        all.push((node.clone(), error));
        drop(all);
        self.refusals.fetch_add(1, Ordering::Relaxed);
        left
    }

    /// These models' limits left them out.
    pub(super) fn leaves_out(&self, error: Error) {
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What was refused to others than a node.
    fn without(&self, node: &Arc<str>) -> MutexGuard<'_, Vec<(Arc<str>, Error)>> {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _)| of != node);
        all
    }

    /// A call of a node goes through: what was refused to it before is why nothing fails.
    pub(crate) fn went_through(&self, node: &Arc<str>) {
        drop(self.without(node));
    }

    /// The last limit that had no room for a call of the tree, and stands against one still.
    pub(crate) fn refused(&self) -> Option<Error> {
        let all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.last().map(|(_, error)| error.clone())
    }

    /// The same of one node.
    pub(crate) fn refused_to(&self, node: &Arc<str>) -> Option<Error> {
        let all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(of, _)| of == node).map(|(_, error)| error.clone())
    }

    /// The limit for which models were left out before there was a call.
    pub(crate) fn left_out(&self) -> Option<Error> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a limit had no room for a call.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Waits of one call until a moment; `None` = there are none.
    pub(crate) fn waiting(&self, latest: Instant) -> Option<Waiting<'_>> {
        let waited = Duration::from_millis(self.waited_ms.load(Ordering::Relaxed));
        self.waits.as_ref().map(|waits| waits.until(latest, waited))
    }

    /// A call has waited so long: the others of the tree have so much less time for it.
    pub(crate) fn has_waited(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.waited_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Ends it: what was taken beyond what was set aside at first comes back, for that is where all that was used is
    /// counted; requests stay counted.
    pub(super) fn close(&self) {
        for reservation in self.taken().take().into_iter().flatten() {
            let used = Amount { requests: reservation.amount.requests, ..Amount::default() };
            self.store.settle(reservation, used);
        }
    }

    /// Ends it, and gives back all that was taken: nothing came of it.
    pub(super) fn release(&self) {
        for reservation in self.taken().take().into_iter().flatten() {
            self.store.settle(reservation, Amount::default());
        }
    }
}

/// What one call holds on the limits of its model. Until the call is made it was for nothing: dropped, it comes back.
pub(crate) struct Share {
    store: Counters,
    held: Vec<Reservation>,
}

impl Share {
    /// As [`super::Held::marks`], of this call alone.
    pub(crate) fn marks(&self) -> Vec<u64> {
        types::limits::marks(self.held.iter().flat_map(|reservation| reservation.limits.iter()))
    }

    /// Puts what the call used in the place of what it held.
    pub(crate) fn settle(mut self, call: &CallRecord) {
        let used = counted(std::iter::once(call));
        for reservation in self.held.drain(..) {
            self.store.settle(reservation, used);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for reservation in self.held.drain(..) {
            self.store.settle(reservation, Amount::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Clock;
    use types::limits::Window;
    use types::matrix::ModelSet;

    const A: (ModelIx, &str) = (ModelIx(0), "p/a");

    fn limit(metric: Metric, amount: f64) -> Limit {
        Limit::rate("key:k/model:p/a", metric, amount, Window::Day).unwrap()
    }

    fn counters() -> Counters {
        Counters::new(Arc::new(stores::limits::Counters::default()), Clock::stopped(0))
    }

    fn grant(store: &Counters, limits: &[Limit]) -> Arc<Grant> {
        let models: ModelSet = std::iter::once(A.0).collect();
        let partial = limits.iter().map(|limit| Partial::Together(models.clone(), limit.clone())).collect();
        let one = Amount { requests: 1, concurrency: 1, ..Amount::default() };
        Grant::new(store, &Who::open(), Arc::from([]), (partial, one), None).unwrap()
    }

    #[tokio::test]
    async fn what_was_refused_before_a_call_went_through_is_not_why_its_node_fails() {
        let store = counters();
        let grant = grant(&store, &[limit(Metric::Usd, 1.0)]);
        let nodes: [Arc<str>; 2] = ["first".into(), "second".into()];
        let call = async |node, dollars| grant.call(node, A, (Usd::from_dollars(dollars), 0)).await;
        for node in &nodes {
            assert!(matches!(call(node, 2.0).await, Err(Left::Usd(left)) if left == Usd::from_dollars(1.0)));
            assert!(grant.refused_to(node).is_some());
        }
        // A shorter answer of the second fits.
        let _share = call(&nodes[1], 0.5).await.unwrap();
        grant.went_through(&nodes[1]);
        assert!(grant.refused_to(&nodes[1]).is_none());
        assert!(grant.refused().is_some(), "the first has none");
        grant.went_through(&nodes[0]);
        assert!(grant.refused().is_none());
    }

    #[tokio::test]
    async fn a_call_takes_of_all_limits_of_its_model_or_of_none() {
        let store = counters();
        let all = [limit(Metric::Usd, 1.0), limit(Metric::Requests, 1.0), limit(Metric::Concurrency, 1.0)];
        let node: Arc<str> = "ask".into();
        let usd = (Usd::from_dollars(0.5), 0);
        let used = async || {
            let standing = store.standing(&"default".into(), &all).await;
            standing.iter().map(|s| s.used).collect::<Vec<_>>()
        };
        let first = grant(&store, &all);
        let share = first.call(&node, A, usd).await.unwrap();
        let second = grant(&store, &all);
        assert!(
            matches!(second.call(&node, A, usd).await, Err(Left::Nothing)),
            "shorter answers do not help"
        );
        assert_eq!(used().await, [500_000_000, 1, 1]);
        // The same tree is one request, however many calls it makes.
        let again = first.call(&node, A, usd).await.unwrap();
        assert_eq!(used().await, [1_000_000_000, 1, 1]);
        drop((share, again));
        first.close();
        assert_eq!(used().await, [0, 1, 0]);
        // A tree that has ended takes nothing.
        assert!(first.call(&node, (ModelIx(1), "p/b"), usd).await.unwrap().is_none());
        let third = grant(&store, &[limit(Metric::Concurrency, 1.0)]);
        third.close();
        assert!(third.call(&node, A, usd).await.is_err());
        assert_eq!(used().await, [0, 1, 0]);
    }
}
