//! What the calls of one tree take from limits while it runs: more money than was set aside for all of it at first,
//! and what the limits of their own models demand.

use super::partial::Partial;
use super::patience::{Waiting, Waits};
use super::{nanos, refusal};
use crate::error::Error;
use crate::settle::unix_ms;
use crate::who::Who;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::Usd;
use types::limits::{Amount, Limit, LimitStore, Metric, Refused, Reservation};
use types::matrix::ModelIx;
use types::run::AtMost;

/// How often less is asked for when less is left, before nothing is taken.
const TRIES: usize = 8;

/// The way of one tree to its limits. Nothing comes of it once the tree has settled.
pub(crate) struct Grant {
    store: Arc<dyn LimitStore>,
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
    /// The last limit that had no room for a call.
    refused: Mutex<Option<Error>>,
    /// How often one had none.
    refusals: AtomicU64,
    /// The limit for which models were left out of the choice.
    left_out: Mutex<Option<Error>>,
    /// How calls wait for what requests in work have set aside; `None` = they do not.
    waits: Option<Waits>,
    /// How long its calls have waited so, all together, in milliseconds.
    waited_ms: AtomicU64,
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
        store: &Arc<dyn LimitStore>,
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
    pub(crate) async fn more(&self, usd: Usd) -> Usd {
        let mut wanted = nanos(usd);
        for _ in 0..TRIES {
            let amount = Amount { usd: wanted, ..Amount::default() };
            match self.take(&self.money, amount).await {
                Ok(()) => return Usd::from_nanos(i64::try_from(wanted).unwrap_or(i64::MAX)),
                Err(refused) => {
                    let Left::Usd(left) = self.note(refused, Amount::default()).await else { break };
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
        (ix, model): (ModelIx, &str),
        usd: Usd,
        tokens: u64,
    ) -> Result<Option<Share>, Left> {
        let limits = self.partial.iter().filter_map(|p| p.of(ix, model));
        let per_request = |l: &Limit| matches!(l.metric, Metric::Requests | Metric::Concurrency);
        let (door, spent): (Vec<Limit>, Vec<Limit>) = limits.partition(per_request);
        let mut share = None;
        if !spent.is_empty() {
            let amount = Amount { usd: nanos(usd), tokens, ..Amount::default() };
            match self.store.reserve(&self.who.tenant_id, &spent.into(), amount, unix_ms()).await {
                Ok(reservation) => {
                    self.note_call(&reservation.limits);
                    share = Some(Share(Some((self.store.clone(), reservation))));
                }
                Err(refused) => return Err(self.note(refused, amount).await),
            }
        }
        if let Err(refused) = self.enter(door).await {
            drop(share);
            self.note(refused, Amount::default()).await;
            return Err(Left::Nothing);
        }
        Ok(share)
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

    /// Counts the tree once on limits on requests.
    async fn enter(&self, door: Vec<Limit>) -> Result<(), Refused> {
        if door.is_empty() {
            return Ok(());
        }
        let mut entered = self.entered.lock().await;
        let is_new = |l: &Limit| !entered.iter().any(|e| e.counts_with(l) && e.ceiling == l.ceiling);
        let new: Arc<[Limit]> = door.into_iter().filter(is_new).collect();
        if !new.is_empty() {
            self.take(&new, self.one).await?;
            entered.extend(new.iter().cloned());
        }
        Ok(())
    }

    async fn take(&self, limits: &Arc<[Limit]>, amount: Amount) -> Result<(), Refused> {
        if limits.is_empty() {
            return Ok(());
        }
        let reservation = self.store.reserve(&self.who.tenant_id, limits, amount, unix_ms()).await?;
        match &mut *self.taken() {
            Some(all) => all.push(reservation),
            None => {
                self.store.settle(reservation, Amount::default());
                return Err(Refused::Away("the request has ended".to_owned()));
            }
        }
        Ok(())
    }

    /// Notes why so much was refused; gives what is left, where less may do.
    async fn note(&self, refused: Refused, wanted: Amount) -> Left {
        let left = match &refused {
            Refused::Reached { limit, left, .. } => match limit.metric {
                Metric::Usd => Left::Usd(super::usd(*left)),
                Metric::Tokens => Left::Tokens(*left),
                Metric::Requests | Metric::Concurrency => Left::Nothing,
            },
            Refused::Away(_) => Left::Nothing,
        };
        let error = refusal(&*self.store, &self.who, (refused, wanted), unix_ms()).await;
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.refusals.fetch_add(1, Ordering::Relaxed);
        left
    }

    /// These models' limits left them out.
    pub(super) fn leaves_out(&self, error: Error) {
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The last limit that had no room for a call of the tree.
    pub(crate) fn refused(&self) -> Option<Error> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
pub(crate) struct Share(Option<(Arc<dyn LimitStore>, Reservation)>);

impl Share {
    /// As [`super::Held::marks`], of this call alone.
    pub(crate) fn marks(&self) -> Vec<u64> {
        let limits = self.0.iter().flat_map(|(_, reservation)| reservation.limits.iter());
        types::limits::marks(limits)
    }

    /// Puts what the call used in the place of what it held.
    pub(crate) fn settle(mut self, used: AtMost) {
        if let Some((store, reservation)) = self.0.take() {
            store.settle(
                reservation,
                Amount { usd: nanos(used.usd), tokens: used.tokens, ..Amount::default() },
            );
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some((store, reservation)) = self.0.take() {
            store.settle(reservation, Amount::default());
        }
    }
}
