//! What one request's tree has called, spent and waited for. One reservation for the whole tree.

use crate::error::Error;
use crate::limits::{self, Each, Grant, Held};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use types::Usd;
use types::limits::{Amount, Limit, Metric};
use types::matrix::{Matrix, ModelSet};
use types::provider;
use types::run::{CallRecord, Run};
use workflows::Exhausted;

/// Shared by everything that makes calls for one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    calls: Vec<(Arc<str>, CallRecord)>,
    spent: Usd,
    reserved: Usd,
    /// Time in which at least one provider was awaited; calls that run beside each other count once.
    waited: Duration,
    waiting: u32,
    waiting_since: Option<Instant>,
    worst: Option<provider::Error>,
    /// The shortest wait that a vendor named after which it may be asked again.
    soonest: Option<Duration>,
    limits: Limits,
    /// What calls have cost that were made before this ledger was opened.
    before: Usd,
    /// Calls admitted so far.
    admitted: u32,
    /// Tokens that calls under way may use, and those of calls made before.
    tokens: u64,
    /// Money that limits have given the tree so far; `None` = none of them counts it.
    given: Option<Usd>,
    /// Where more of it comes from.
    grant: Option<Arc<Grant>>,
    /// Something is held for the tree, and has not been settled yet.
    holds: bool,
    heir: Option<Heir>,
    /// How limits on what the request may use stand.
    own: Vec<Account>,
    /// The last of them that had no room for a call, and what that would have taken all in all.
    refused: Option<(Limit, u64)>,
}

/// What of the tree counts on one limit that is its own.
#[derive(Debug)]
struct Account {
    limit: Limit,
    /// The models whose calls count; `None` = all do.
    models: Option<BTreeSet<Arc<str>>>,
    spent: u64,
    held: u64,
}

impl Account {
    fn counts(&self, metric: Metric, model: &str) -> bool {
        self.limit.metric == metric && self.models.as_ref().is_none_or(|models| models.contains(model))
    }

    const fn taken(&self) -> u64 {
        self.spent.saturating_add(self.held)
    }

    const fn left(&self) -> u64 {
        self.limit.ceiling.saturating_sub(self.taken())
    }
}

/// Who gets what a tree leaves of what was set aside for it, before anybody else may take it.
pub(crate) struct Heir {
    /// As much of it as is wanted.
    pub(crate) wants: Amount,
    pub(crate) to: oneshot::Sender<Held>,
}

impl fmt::Debug for Heir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heir").field("wants", &self.wants).finish_non_exhaustive()
    }
}

/// Why a ledger has no money left for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// A ceiling: nobody may spend more.
    Ceiling,
    /// Only what limits have given so far; with so much more it could be made.
    Given(Usd),
}

impl Book {
    /// The lowest of what may be spent, whatever limits give.
    fn ceiling(&self, cap: Option<Usd>) -> Option<Usd> {
        let fresh = self.limits.fresh.map(|most| most.plus(self.before));
        [cap, self.limits.usd, fresh].into_iter().flatten().min()
    }

    /// The accounts of a metric on which calls of a model count.
    fn own(&mut self, metric: Metric, model: &str) -> impl Iterator<Item = &mut Account> {
        self.own.iter_mut().filter(move |account| account.counts(metric, model))
    }

    /// The account with the least left for a model.
    fn scarcest(&mut self, metric: Metric, model: &str) -> Option<&Account> {
        self.own(metric, model).map(|account| &*account).min_by_key(|account| account.left())
    }

    /// Counts a call that was made.
    fn spend(&mut self, record: &CallRecord) {
        let counted = record.counted();
        let usd = limits::nanos(counted.usd);
        for (metric, used) in [(Metric::Usd, usd), (Metric::Tokens, counted.tokens)] {
            self.own(metric, &record.model).for_each(|own| own.spent = own.spent.saturating_add(used));
        }
    }

    /// Holds tokens for a call of a model.
    fn hold(&mut self, model: &str, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.own(Metric::Tokens, model).for_each(|own| own.held = own.held.saturating_add(tokens));
    }
}

/// What policies allow the whole tree at most; `None` = as much as it likes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Calls of models.
    pub(crate) calls: Option<u32>,
    /// Tokens, input and output.
    pub(crate) tokens: Option<u32>,
    /// Money.
    pub(crate) usd: Option<Usd>,
    /// Money for calls that are made now, beside what those have cost that were made before.
    pub(crate) fresh: Option<Usd>,
}

/// What has no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// A limit of the whole tree: a call of another model may have room under money, and under nothing else.
    Exhausted(Exhausted),
    /// A limit on what the request may use of that model: another one may serve.
    OfModel,
}

impl From<Exhausted> for Unplaced {
    fn from(limit: Exhausted) -> Self {
        Unplaced::Exhausted(limit)
    }
}

/// A call that the tree may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Tokens held for it; 0 where they are not limited.
    tokens: u64,
    /// Most tokens of its answer; `None` = no limit of this kind.
    pub(crate) output: Option<u32>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Book> {
        // Every write leaves the book consistent, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A ledger of a tree that may use no more than this.
    pub(crate) fn under(limits: Limits) -> Self {
        Ledger(Arc::new(Mutex::new(Book { limits, ..Book::default() })))
    }

    /// The tree keeps to these limits on what the request may use, besides.
    pub(crate) fn bind(self, each: Vec<Each>, matrix: &Matrix) -> Self {
        let ids =
            |models: ModelSet| models.iter().filter_map(|ix| Some(matrix.model(ix)?.id.clone())).collect();
        let account = |e: Each| Account { limit: e.limit, models: e.models.map(ids), spent: 0, held: 0 };
        self.lock().own = each.into_iter().map(account).collect();
        self
    }

    /// What another ledger of the same request has used of these limits is used here, too.
    pub(crate) fn goes_on_from(&self, other: &Ledger) {
        let taken: Vec<(Limit, u64)> =
            other.lock().own.iter().map(|own| (own.limit.clone(), own.taken())).collect();
        let mut b = self.lock();
        for (limit, taken) in taken {
            let own = b.own.iter_mut().filter(|own| own.limit == limit);
            own.for_each(|own| own.spent = own.spent.saturating_add(taken));
        }
    }

    /// Why a call was not made for which a limit on what the request may use had no room.
    pub(crate) fn refused(&self) -> Option<Error> {
        let (limit, needs) = self.lock().refused.take()?;
        Some(limits::too_large(&limit, needs, true))
    }

    /// A call of a node goes through: a limit that had no room for one before is not why anything fails.
    pub(crate) fn went_through(&self, node: &Arc<str>) {
        let grant = {
            let mut b = self.lock();
            b.refused = None;
            b.grant.clone()
        };
        if let Some(grant) = grant {
            grant.went_through(node);
        }
    }

    /// Money that limits on what the request may use leave to calls of a model; `None` = none counts it.
    pub(crate) fn left_of(&self, model: &str) -> Option<Usd> {
        let left = self.lock().scarcest(Metric::Usd, model)?.left();
        Some(Usd::from_nanos(i64::try_from(left).unwrap_or(i64::MAX)))
    }

    /// Takes one of the calls, and the tokens for it, that the tree may still use; check and act are one step. Limits on
    /// what the request may use have room for an answer of `least` tokens, or for none.
    ///
    /// # Errors
    /// What does not reach.
    pub(crate) fn admit(
        &self,
        model: &str,
        input: u32,
        (output, least): (u32, u32),
    ) -> Result<Place, Unplaced> {
        let mut b = self.lock();
        if b.limits.calls.is_some_and(|most| b.admitted >= most) {
            return Err(Exhausted::Calls.into());
        }
        let least = u64::from(input).saturating_add(u64::from(least.max(1)));
        let own = b.scarcest(Metric::Tokens, model).map(|own| {
            let short = || (own.limit.clone(), own.taken().saturating_add(least));
            let told = if own.models.is_some() { Unplaced::OfModel } else { Exhausted::Tokens.into() };
            if own.left() < least { Err((told, short())) } else { Ok(own.left()) }
        });
        let own = match own.transpose() {
            Ok(left) => left,
            Err((told, short)) => {
                b.refused = Some(short);
                return Err(told);
            }
        };
        let mut place = Place { tokens: 0, output: None };
        let of_tree = b.limits.tokens.map(|most| {
            let used: u64 = b.calls.iter().map(|(_, c)| c.counted().tokens).sum();
            u64::from(most).saturating_sub(used).saturating_sub(b.tokens)
        });
        if let Some(left) = [of_tree, own].into_iter().flatten().min() {
            let for_output =
                left.checked_sub(u64::from(input)).filter(|n| *n > 0).ok_or(Exhausted::Tokens)?;
            let granted = u32::try_from(for_output).unwrap_or(u32::MAX).min(output);
            place.output = Some(granted);
            place.tokens = u64::from(input).saturating_add(u64::from(granted));
        }
        b.admitted = b.admitted.saturating_add(1);
        b.hold(model, place.tokens);
        Ok(place)
    }

    /// Gives the tokens of a call of a model back: what it used stands in its record.
    pub(crate) fn leave(&self, model: &str, place: Place) {
        let mut b = self.lock();
        b.tokens = b.tokens.saturating_sub(place.tokens);
        b.own(Metric::Tokens, model).for_each(|own| own.held = own.held.saturating_sub(place.tokens));
    }

    /// Gives a call of a model back that was not made after all.
    pub(crate) fn unmade(&self, model: &str, place: Place) {
        self.leave(model, place);
        let mut b = self.lock();
        b.admitted = b.admitted.saturating_sub(1);
    }

    /// Reserves money for one call of a model if the tree stays within `cap`, its own limits and what limits gave; check
    /// and act are one step.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) fn reserve(&self, model: &str, amount: Usd, cap: Option<Usd>) -> Result<(), Short> {
        let mut b = self.lock();
        let nanos = limits::nanos(amount);
        let short = b.scarcest(Metric::Usd, model).filter(|own| own.left() < nanos);
        if let Some(short) = short.map(|own| (own.limit.clone(), own.taken().saturating_add(nanos))) {
            b.refused = Some(short);
            return Err(Short::Ceiling);
        }
        let after = b.spent.plus(b.reserved).plus(amount);
        if b.ceiling(cap).is_some_and(|c| after > c) {
            return Err(Short::Ceiling);
        }
        if let Some(given) = b.given.filter(|given| after > *given) {
            return Err(Short::Given(after.minus(given)));
        }
        b.reserved = b.reserved.plus(amount);
        b.own(Metric::Usd, model).for_each(|own| own.held = own.held.saturating_add(nanos));
        Ok(())
    }

    /// What the calls so far cost; calls of unknown price count nothing and make the second part false.
    pub(crate) fn cost(&self) -> (Usd, bool) {
        self.lock().calls.iter().fold((Usd::ZERO, true), |(sum, known), (_, c)| match c.cost_usd {
            Some(x) => (sum.plus(x), known),
            None => (sum, false),
        })
    }

    /// Whether no model has been asked, nor is being asked.
    pub(crate) fn asks_nobody(&self) -> bool {
        self.lock().admitted == 0
    }

    /// Whether a model of that kind has been asked.
    pub(crate) fn asked(&self, is: impl Fn(&str) -> bool) -> bool {
        self.lock().calls.iter().any(|(_, c)| is(&c.model))
    }

    /// What was spent so far (`None` = the price of a call is not known), and in how many calls.
    pub(crate) fn so_far(&self) -> (Option<Usd>, u32) {
        let b = self.lock();
        let known = b.calls.iter().all(|(_, c)| c.cost_usd.is_some());
        (known.then_some(b.spent), u32::try_from(b.calls.len()).unwrap_or(u32::MAX))
    }

    /// The tree spends what limits gave, and takes more from where they give it.
    pub(crate) fn draw_on(&self, held: &mut Held) {
        held.is_spent_by(self);
        let mut b = self.lock();
        b.given = held.allowed();
        b.grant = held.grant();
        b.holds = true;
        let tokens = held.tokens().map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        b.limits.tokens = [b.limits.tokens, tokens].into_iter().flatten().min();
    }

    /// What the tree will leave of what is set aside for it, so much of it at most; `None` = nothing is any more.
    pub(crate) fn leaves(&self, wants: Amount) -> Option<oneshot::Receiver<Held>> {
        let mut b = self.lock();
        let (to, left) = oneshot::channel();
        b.holds.then(|| b.heir = Some(Heir { wants, to }))?;
        Some(left)
    }

    /// What was set aside for the tree is settled now; with it who gets what is left.
    pub(crate) fn settles(&self) -> Option<Heir> {
        let mut b = self.lock();
        b.holds = false;
        b.heir.take()
    }

    /// The tree was kept waiting before its first call, by what is not ours to hasten.
    pub(crate) fn was_kept(&self, waited: Duration) {
        let mut b = self.lock();
        b.waited = b.waited.saturating_add(waited);
    }

    /// What limits have to count of it as it stands: calls that were made, and all that calls under way may cost.
    pub(crate) fn used(&self) -> Amount {
        let b = self.lock();
        let made = limits::counted(b.calls.iter().map(|(_, call)| call));
        Amount { usd: made.usd.saturating_add(limits::nanos(b.reserved)), ..made }
    }

    /// What its calls cost beyond what was set aside for them: nano-dollars.
    pub(crate) fn beyond(&self) -> u64 {
        let b = self.lock();
        let beyond = b.calls.iter().filter_map(|(_, call)| call.beyond_usd);
        beyond.map(limits::nanos).fold(0, u64::saturating_add)
    }

    /// Limits have given so much more.
    pub(crate) fn give(&self, usd: Usd) {
        let mut b = self.lock();
        b.given = b.given.map(|given| given.plus(usd));
    }

    /// Where more comes from; `None` = nothing is limited.
    pub(crate) fn grant(&self) -> Option<Arc<Grant>> {
        self.lock().grant.clone()
    }

    /// Money that nobody has reserved, under `cap` and what limits gave; `None` = as much as it likes.
    pub(crate) fn left(&self, cap: Option<Usd>) -> Option<Usd> {
        let b = self.lock();
        let least = [b.ceiling(cap), b.given].into_iter().flatten().min()?;
        Some(least.minus(b.spent.plus(b.reserved)))
    }

    /// The same where limits give as much as it takes.
    pub(crate) fn allowed(&self, cap: Option<Usd>) -> Option<Usd> {
        let b = self.lock();
        Some(b.ceiling(cap)?.minus(b.spent.plus(b.reserved)))
    }

    /// Puts a finished call in the place of its reservation.
    pub(crate) fn settle(&self, node: &Arc<str>, reserved: Usd, record: CallRecord) {
        let mut b = self.lock();
        b.reserved = b.reserved.minus(reserved);
        b.spent = b.spent.plus(record.counted().usd);
        let held = limits::nanos(reserved);
        b.own(Metric::Usd, &record.model).for_each(|own| own.held = own.held.saturating_sub(held));
        b.spend(&record);
        b.calls.push((node.clone(), record));
    }

    /// Counts a call of the tree that was made before this ledger was opened.
    pub(crate) fn made_before(&self, record: &CallRecord) {
        let counted = record.counted();
        let mut b = self.lock();
        b.spent = b.spent.plus(counted.usd);
        b.before = b.before.plus(counted.usd);
        // Limits have counted it: what they give now is beside it.
        b.given = b.given.map(|given| given.plus(counted.usd));
        b.admitted = b.admitted.saturating_add(1);
        b.tokens = b.tokens.saturating_add(counted.tokens);
        b.spend(record);
    }

    /// Adds a call whose money is settled.
    pub(crate) fn add(&self, node: &Arc<str>, record: CallRecord) {
        self.lock().calls.push((node.clone(), record));
    }

    /// Notes the most useful failure so far.
    pub(crate) fn failed(&self, error: &provider::Error) {
        let mut b = self.lock();
        if b.worst.as_ref().is_none_or(|w| usefulness(error) > usefulness(w)) {
            b.worst = Some(error.clone());
        }
        if let Some(wait) = error.retry_after.filter(|_| error.retryable()) {
            b.soonest = Some(b.soonest.map_or(wait, |soonest| soonest.min(wait)));
        }
    }

    /// The most useful failure. One that passes says when the first of the vendors takes requests again.
    pub(crate) fn worst(&self) -> Option<provider::Error> {
        let b = self.lock();
        let mut worst = b.worst.clone()?;
        if worst.retryable() {
            worst.retry_after = b.soonest.or(worst.retry_after);
        }
        Some(worst)
    }

    /// Time in which a provider was awaited so far.
    pub(crate) fn waited(&self) -> Duration {
        let b = self.lock();
        b.waited.saturating_add(b.waiting_since.map(|since| since.elapsed()).unwrap_or_default())
    }

    /// A provider is awaited from now on.
    pub(crate) fn await_begins(&self, now: Instant) {
        let mut b = self.lock();
        b.waiting = b.waiting.saturating_add(1);
        b.waiting_since.get_or_insert(now);
    }

    /// It has answered to its end, or failed, or is left.
    pub(crate) fn await_ends(&self, now: Instant) {
        let mut b = self.lock();
        b.waiting = b.waiting.saturating_sub(1);
        if b.waiting == 0
            && let Some(since) = b.waiting_since.take()
        {
            b.waited = b.waited.saturating_add(now.saturating_duration_since(since));
        }
    }

    /// Waits until a provider may be asked again: time that is its, as that of its answers is.
    pub(crate) async fn pause(&self, wait: Duration) {
        self.awaiting(tokio::time::sleep(wait)).await;
    }

    /// Waits for something in time that is a provider's.
    pub(crate) async fn awaiting<T>(&self, what: impl Future<Output = T>) -> T {
        struct Awaited<'a>(&'a Ledger);
        impl Drop for Awaited<'_> {
            fn drop(&mut self) {
                self.0.await_ends(Instant::now());
            }
        }
        self.await_begins(Instant::now());
        let _ends = Awaited(self);
        what.await
    }

    /// Hands the calls to the steps of the nodes that made them. Calls of a node without a step (it was
    /// cancelled) get one.
    pub(crate) fn hand_over(&self, run: &mut Run) {
        for (node, call) in std::mem::take(&mut self.lock().calls) {
            match run.steps.iter_mut().rev().find(|s| s.node == node) {
                Some(step) => step.calls.push(call),
                None => run.steps.push(types::run::Step {
                    started_ms: call.started_ms,
                    duration_ms: call.total_ms,
                    calls: vec![call],
                    ..types::run::Step::new(node, "generate", "cancelled")
                }),
            }
        }
    }
}

/// How much a client can do with a failure when several happened: what is wrong with the request comes
/// before load, load before absence, absence before what is wrong with our entry of a model, and that before our keys.
fn usefulness(e: &provider::Error) -> u8 {
    use provider::ErrorKind as K;
    match e.kind {
        K::ContentFiltered => 10,
        K::ContextOverflow => 9,
        K::BadRequest if e.finds_fault_with_request() => 8,
        K::RateLimited | K::FreeTier | K::KeyLimit => 7,
        K::Unavailable => 6,
        K::FirstTokenTimeout | K::InterTokenTimeout | K::TotalTimeout => 5,
        K::StreamLost | K::Malformed | K::TooLarge => 4,
        K::Connect => 3,
        K::BadRequest => 2,
        K::Quota | K::Auth => 1,
        K::Cancelled => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_beside_each_other_are_awaited_once() {
        let (l, t) = (Ledger::default(), Instant::now());
        let at = |s| t + Duration::from_secs(s);
        l.await_begins(at(0));
        l.await_begins(at(1));
        l.await_ends(at(3));
        l.await_ends(at(5));
        l.await_begins(at(8));
        l.await_ends(at(9));
        assert_eq!(l.waited(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_between_calls_are_the_providers_time_even_where_nobody_waits_to_their_end() {
        let l = Ledger::default();
        l.pause(Duration::from_secs(3)).await;
        assert_eq!(l.waited(), Duration::from_secs(3));
        let left = tokio::time::timeout(Duration::from_secs(2), l.pause(Duration::from_secs(9))).await;
        assert!(left.is_err());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(l.waited(), Duration::from_secs(5));
    }

    #[test]
    fn the_failure_that_is_told_is_one_that_the_client_can_do_something_about() {
        use provider::ErrorKind as K;
        type Failed = (K, u16, Option<u64>);
        let check = |failures: &[Failed], want: Failed| {
            let l = Ledger::default();
            let model = types::matrix::Model::new("p/m", 0, (1_000, 100));
            for (kind, status, wait) in failures {
                let retry_after = wait.map(Duration::from_secs);
                let status = Some(*status);
                l.failed(&provider::Error { status, retry_after, ..provider::Error::new(*kind, &model, "") });
            }
            let told = l.worst().unwrap();
            let wait = told.retry_after.map(|d| d.as_secs());
            assert_eq!((told.kind, told.status.unwrap(), wait), want, "{failures:?}");
        };
        let (unknown, wrong) = ((K::BadRequest, 404, None), (K::BadRequest, 400, None));
        let limited = |wait| (K::RateLimited, 429, wait);
        check(&[unknown, limited(Some(7))], limited(Some(7)));
        check(&[limited(None), unknown], limited(None));
        check(&[unknown, (K::Unavailable, 500, None)], (K::Unavailable, 500, None));
        check(&[unknown, (K::Auth, 401, None)], unknown);
        check(&[wrong, limited(Some(7))], wrong);
        check(&[limited(Some(30)), limited(Some(3))], limited(Some(3)));
        check(&[limited(Some(30)), (K::Unavailable, 503, Some(3))], limited(Some(3)));
        check(&[limited(Some(30)), (K::Quota, 402, Some(3))], limited(Some(30)));
    }

    #[test]
    fn calls_and_tokens_of_a_tree_are_bounded() {
        let l = Ledger::under(Limits { calls: Some(3), tokens: Some(100), ..Limits::default() });
        let first = l.admit("p/a", 30, (40, 1)).unwrap();
        assert_eq!(first.output, Some(40));
        assert_eq!(
            l.admit("p/a", 30, (40, 1)),
            Err(Exhausted::Tokens.into()),
            "only 30 are left, and none for an answer"
        );
        assert_eq!(l.admit("p/a", 20, (40, 1)).unwrap().output, Some(10));
        l.unmade("p/a", first);
        assert!(l.admit("p/a", 10, (20, 1)).is_ok() && l.admit("p/a", 10, (20, 1)).is_ok());
        assert_eq!(l.admit("p/a", 0, (1, 1)), Err(Exhausted::Calls.into()));
        assert!(Ledger::default().admit("p/a", u32::MAX, (u32::MAX, 1)).is_ok());
    }

    #[test]
    fn parallel_calls_never_pass_the_cap() {
        let l = Ledger::default();
        let cap = Some(Usd::from_dollars(1.0));
        let part = Usd::from_dollars(0.4);
        assert!(l.reserve("p/a", part, cap).is_ok() && l.reserve("p/a", part, cap).is_ok());
        assert_eq!(l.reserve("p/a", part, cap), Err(Short::Ceiling), "a third would pass it");
        assert_eq!((l.left(cap), l.left(None)), (Some(Usd::from_dollars(0.2)), None));
    }

    /// A ledger with limits on what the request may use: of all models, and of `p/a` alone.
    fn bound(metric: Metric, of_all: u64, of_one: u64) -> Ledger {
        let model = |name: &str| types::matrix::Model::new(format!("p/{name}"), 0, (8_000, 1_000));
        let provider = types::matrix::Provider::new("p", types::matrix::Dialect::Simulated);
        let matrix = Matrix::new(vec![provider], vec![model("a"), model("b")]);
        let each = |ceiling, models, holder: &str| {
            let window = types::limits::Window::Request;
            Each { models, limit: Limit { holder: holder.into(), metric, ceiling, window, reserved: 0 } }
        };
        let one = matrix.find("p/a").into_iter().collect();
        let all = vec![each(of_all, None, "key:k"), each(of_one, Some(one), "key:k/model:p/a")];
        Ledger::default().bind(all, &matrix)
    }

    fn call(model: &str, usd: Usd, tokens: u32) -> CallRecord {
        let usage = types::Usage { input: tokens, ..types::Usage::default() };
        CallRecord {
            usage,
            ..CallRecord::lost(model.into(), types::run::Purpose::Primary, Some(usd), "as it may be")
        }
    }

    #[test]
    fn money_of_one_request_is_bounded_with_all_its_calls_and_of_a_model_by_itself() {
        let usd = Usd::from_dollars;
        let l = bound(Metric::Usd, 1_000_000_000, 400_000_000);
        assert_eq!((l.left_of("p/a"), l.left_of("p/b")), (Some(usd(0.4)), Some(usd(1.0))));
        assert_eq!(l.reserve("p/a", usd(0.5), None), Err(Short::Ceiling));
        let told = l.refused().unwrap().to_string();
        assert!(
            told.contains("at least 0.5 USD, more than the limit of 0.4 USD per request for key:k/model:p/a")
        );
        assert_eq!(l.reserve("p/a", usd(0.3), None), Ok(()));
        assert_eq!((l.left_of("p/a"), l.left_of("p/b")), (Some(usd(0.1)), Some(usd(0.7))));
        assert_eq!(l.reserve("p/b", usd(0.8), None), Err(Short::Ceiling), "beside the other");
        assert_eq!(l.reserve("p/b", usd(0.7), None), Ok(()));
        l.went_through(&"n".into());
        assert!(l.refused().is_none(), "it found room in the end");
        // What was used comes in the place of what was set aside, be it less or more.
        l.settle(&"n".into(), usd(0.3), call("p/a", usd(0.1), 5));
        assert_eq!(l.left_of("p/a"), Some(usd(0.2)), "of all models no more is left");
        l.settle(&"n".into(), usd(0.7), call("p/b", usd(0.85), 5));
        assert_eq!((l.left_of("p/a"), l.left_of("p/b")), (Some(usd(0.05)), Some(usd(0.05))));
        // Work after the response goes on from there.
        let after = bound(Metric::Usd, 1_000_000_000, 400_000_000);
        after.goes_on_from(&l);
        assert_eq!(after.reserve("p/b", usd(0.06), None), Err(Short::Ceiling));
        assert_eq!(after.left_of("p/b"), Some(usd(0.05)));
        l.made_before(&call("p/b", usd(0.3), 5));
        assert_eq!(l.reserve("p/b", Usd::from_nanos(1), None), Err(Short::Ceiling));
    }

    #[test]
    fn tokens_of_one_request_shorten_an_answer_or_leave_a_model_to_another() {
        let l = bound(Metric::Tokens, 1_000, 300);
        let first = l.admit("p/a", 100, (4_000, 64)).unwrap();
        assert_eq!(first.output, Some(200));
        assert_eq!(l.admit("p/a", 10, (4_000, 64)), Err(Unplaced::OfModel), "another model may");
        let told = l.refused().unwrap().to_string();
        assert!(told.contains(
            "at least 374 tokens, more than the limit of 300 tokens per request for key:k/model:p/a"
        ));
        let second = l.admit("p/b", 100, (4_000, 64)).unwrap();
        assert_eq!(second.output, Some(600));
        assert_eq!(l.admit("p/b", 10, (4_000, 64)), Err(Exhausted::Tokens.into()), "nobody may");
        l.unmade("p/b", second);
        l.settle(&"n".into(), Usd::ZERO, call("p/a", Usd::ZERO, 250));
        l.leave("p/a", first);
        assert_eq!(l.admit("p/b", 100, (4_000, 64)).unwrap().output, Some(650));
    }

    #[test]
    fn what_limits_gave_is_spent_until_they_give_more() {
        let usd = Usd::from_dollars;
        let l = Ledger::default();
        l.lock().given = Some(usd(0.9));
        let cap = Some(usd(2.0));
        assert_eq!(l.reserve("p/a", usd(0.5), cap), Ok(()));
        assert_eq!(l.reserve("p/a", usd(0.6), cap), Err(Short::Given(usd(0.2))));
        assert_eq!((l.left(cap), l.allowed(cap), l.allowed(None)), (Some(usd(0.4)), Some(usd(1.5)), None));
        l.give(usd(0.2));
        assert_eq!(l.reserve("p/a", usd(0.6), cap), Ok(()));
        assert_eq!(l.reserve("p/a", usd(1.0), cap), Err(Short::Ceiling), "which no limit helps over");
    }

    #[test]
    fn what_limits_give_is_for_new_calls() {
        let usd = Usd::from_dollars;
        let l = Ledger::default();
        l.lock().given = Some(usd(0.5));
        let made = CallRecord {
            model: "p/a".into(),
            purpose: types::run::Purpose::Primary,
            attempt: 1,
            error: None,
            usage: types::Usage::default(),
            cost_usd: Some(usd(2.0)),
            at_most: None,
            beyond_usd: None,
            ttft_ms: None,
            total_ms: 1.0,
            unread_ms: 0.0,
            started_ms: 0.0,
            reported_model: String::new(),
            adjusted: Vec::new(),
        };
        l.made_before(&made);
        assert_eq!((l.left(None), l.left(Some(usd(2.25)))), (Some(usd(0.5)), Some(usd(0.25))));
        assert_eq!(
            (l.reserve("p/a", usd(0.5), None), l.reserve("p/a", usd(0.01), None)),
            (Ok(()), Err(Short::Given(usd(0.01))))
        );
    }
}
