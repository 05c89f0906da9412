//! Counters of one process, in memory.

mod kept;

pub use kept::Kept;

use super::ahead::{Mark, Writing};
use super::counter::{Counter, Moment};
use super::pace::Pace;
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::limits::{
    Amount, Claim, Foreseen, Inquiry, Limit, LimitStore, Metric, Reached, Refused, Reservation, Standing,
    Window,
};

/// Requests in work are mostly over within seconds: who waits for what they give back asks again then.
const SOON: Duration = Duration::from_secs(1);
/// Tenants lie in so many parts, each under its own lock, which is held for the arithmetic alone.
const SHARDS: usize = 64;
/// Counters of one part beyond which idle ones are forgotten.
const SWEEP: usize = 16_384;
/// Counters of one kind that requests of a tenant may open. Those who come when so many count something share one more:
/// whoever makes up names gains no room by it beyond these, and takes none from a counter that is there.
const OPENED: usize = 10_000;
/// What the clock of the counters begins with, in nanoseconds: more than the longest window, so that what was used before
/// the process began has its place in it.
const BEGAN_NS: u64 = 400 * 86_400 * 1_000_000_000;
/// Idle ones of a full kind are looked for so often, in milliseconds.
const LOOK: u64 = 1_000;

/// Counts the limits of one process. The parts of all tenants that claims name are locked together, so that check and act
/// are one step.
pub struct Counters {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    epoch: Instant,
    writing: Writing,
    /// The day for which counters whose period is over were last looked for.
    day: AtomicI64,
}

type Id = (Arc<str>, Arc<str>, Metric, Window);

/// What counters have in common that requests of a tenant open.
type Kind = (Arc<str>, Box<str>, Metric, Window);

fn kind(tenant: &Arc<str>, limit: &Limit) -> Option<Kind> {
    Some((tenant.clone(), limit.kind()?.into(), limit.metric, limit.window))
}

#[derive(Default)]
struct Shard {
    counters: HashMap<Id, Counted>,
    sweep_at: usize,
    /// How many of each kind are there.
    opened: HashMap<Kind, usize>,
    /// When idle ones of a full kind were looked for last.
    looked: Option<u64>,
    /// Counters that outlive the process of which the disk may say something else than they do. Those that were forgotten
    /// since they were written are among them.
    due: HashSet<Id>,
    /// When something was done here last, in nanoseconds.
    last_ns: u64,
}

/// A counter, and how fast it fills.
struct Counted {
    counter: Counter,
    pace: Option<Pace>,
    mark: Mark,
    /// It has counted something since it was last told what it counts.
    changed: bool,
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}

impl Default for Counters {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { sweep_at: SWEEP, ..Shard::default() });
        Counters {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            writing: Writing::default(),
            day: AtomicI64::new(i64::MIN),
        }
    }
}

impl Counters {
    /// In which part the counters of a tenant lie.
    fn place(&self, tenant: &str) -> usize {
        usize::try_from(self.hasher.hash_one(tenant) % SHARDS as u64).unwrap_or(0)
    }

    fn part(&self, at: usize) -> Option<MutexGuard<'_, Shard>> {
        // Every write leaves the counters consistent.
        Some(self.shards.get(at)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shard(&self, tenant: &str) -> Option<MutexGuard<'_, Shard>> {
        self.part(self.place(tenant))
    }

    /// The part in which the counters of a tenant lie, and the moment of what is done to it: one after the other, each
    /// later than the one before, so that what was taken before a day began is told from what was taken after.
    fn locked(&self, tenant: &str, unix_ms: i64) -> Option<(MutexGuard<'_, Shard>, Moment)> {
        let mut shard = self.shard(tenant)?;
        let now = shard.moment(self.epoch, unix_ms);
        Some((shard, now))
    }

    /// The parts of all claims, and in which of them each lies.
    fn all_locked(&self, claims: &[Claim], unix_ms: i64) -> (Locked<'_>, Vec<usize>) {
        let at: Vec<usize> = claims.iter().map(|claim| self.place(&claim.tenant)).collect();
        let mut each = at.clone();
        // In one order, so that nobody waits for who waits for them.
        each.sort_unstable();
        each.dedup();
        let lock = |at: usize| {
            let mut shard = self.part(at)?;
            let now = shard.moment(self.epoch, unix_ms);
            shard.sweep(now);
            Some((at, shard, now))
        };
        (Locked(each.into_iter().filter_map(lock).collect()), at)
    }

    fn take(&self, mut claims: Vec<Claim>, unix_ms: i64) -> Result<(Vec<Reservation>, bool), Refused> {
        let (mut locked, at) = self.all_locked(&claims, unix_ms);
        for (claim, at) in claims.iter_mut().zip(&at) {
            if let Some((shard, now)) = locked.of(*at) {
                claim.limits = shard.bounded(&claim.tenant, &claim.limits, now);
            }
        }
        let mut refused: Vec<Reached> = Vec::new();
        for (claim, at) in claims.iter().zip(&at) {
            let Some((shard, now)) = locked.of(*at) else { continue };
            let all = claim.limits.iter().map(|limit| (limit, wanted(&claims, claim, limit)));
            refused.extend(all.filter_map(|(limit, want)| shard.reached((&claim.tenant, limit), want, now)));
        }
        if !refused.is_empty() {
            // Of those that end together the first stays the first.
            refused.sort_by_key(|reached| std::cmp::Reverse(reached.retry_after));
            return Err(Refused::Reached(refused));
        }
        let (mut taken, mut lags) = (Vec::new(), false);
        for (Claim { tenant, limits, amount }, at) in claims.into_iter().zip(at) {
            let at_ns = locked.of(at).map_or(0, |(shard, now)| {
                lags |= shard.reserve((&tenant, &limits), amount, now);
                now.ns
            });
            taken.push(Reservation { tenant, limits, amount, unix_ms, at_ns });
        }
        Ok((taken, lags))
    }

    /// Whether more of what a reservation holds is used than the disk says.
    fn lags(&self, r: &Reservation) -> bool {
        let Some((mut shard, now)) = self.locked(&r.tenant, r.unix_ms) else { return false };
        r.limits.iter().filter(|l| r.amount.of(l.metric) > 0).any(|l| shard.counted(&r.tenant, l, now).lags())
    }
}

/// Parts of the counters, each with the moment of what is done to it.
struct Locked<'a>(Vec<(usize, MutexGuard<'a, Shard>, Moment)>);

impl Locked<'_> {
    fn of(&mut self, at: usize) -> Option<(&mut Shard, Moment)> {
        let (_, shard, now) = self.0.iter_mut().find(|(of, ..)| *of == at)?;
        Some((shard, *now))
    }
}

/// What one counter is to give to all claims together.
fn wanted(claims: &[Claim], claim: &Claim, limit: &Limit) -> u64 {
    if claims.len() == 1 {
        return claim.amount.of(limit.metric);
    }
    let same = |c: &&Claim| c.tenant == claim.tenant && c.limits.iter().any(|l| l.counts_with(limit));
    claims.iter().filter(same).map(|c| c.amount.of(limit.metric)).fold(0, u64::saturating_add)
}

/// The limits of a reservation, one for each counter: several ceilings over the same are one thing to count.
fn each(limits: &[Limit]) -> impl Iterator<Item = &Limit> {
    let first = move |(i, limit): &(usize, &Limit)| !limits.iter().take(*i).any(|l| l.counts_with(limit));
    limits.iter().enumerate().filter(first).map(|(_, limit)| limit)
}

fn id(tenant: &Arc<str>, limit: &Limit) -> Id {
    (tenant.clone(), limit.holder.clone(), limit.metric, limit.window)
}

impl Shard {
    /// Now, which is later than whatever was done here before.
    fn moment(&mut self, epoch: Instant, unix_ms: i64) -> Moment {
        let ns = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(BEGAN_NS);
        self.last_ns = ns.max(self.last_ns.saturating_add(1));
        Moment { ns: self.last_ns, unix_ms }
    }

    /// Why a limit does not give so much; `None` = it does.
    fn reached(&mut self, (tenant, limit): (&Arc<str>, &Limit), want: u64, now: Moment) -> Option<Reached> {
        let Counted { counter, .. } = self.counted(tenant, limit, now);
        let used = counter.used(limit.window, now);
        // A request that uses nothing of it passes even where the ceiling was lowered below what is used.
        if want == 0 || used.saturating_add(want) <= limit.ceiling {
            return None;
        }
        let settled = used.saturating_sub(counter.open());
        let free = limit.ceiling.saturating_sub(settled);
        let retry_after = match want <= free {
            true => SOON,
            false => Duration::from_millis(counter.wait(want, limit.ceiling, limit.window, now)),
        };
        let left = limit.ceiling.saturating_sub(used);
        Some(Reached { tenant: tenant.clone(), limit: limit.clone(), left, free, retry_after })
    }

    /// How a limit stands.
    fn standing(&mut self, tenant: &Arc<str>, limit: &Limit, now: Moment) -> Standing {
        let Counted { counter, pace, .. } = self.counted(tenant, limit, now);
        let used = counter.used(limit.window, now);
        let pace_per_h = pace.as_mut().map(|p| p.per_hour(now.ms()));
        let wait = match limit.window {
            // Nothing has to come back.
            Window::Sliding(_) if used == 0 => 0,
            _ => counter.wait(limit.ceiling, limit.ceiling, limit.window, now),
        };
        let (in_work, at_most) = (counter.open(), counter.at_most());
        let resets_in = Duration::from_millis(wait);
        Standing { limit: limit.clone(), used, in_work, at_most, resets_in, pace_per_h }
    }

    /// Sets an amount aside on limits that give it; whether more is used then than the disk says.
    fn reserve(&mut self, (tenant, limits): (&Arc<str>, &[Limit]), amount: Amount, now: Moment) -> bool {
        let mut lags = false;
        for limit in each(limits) {
            let want = amount.of(limit.metric);
            let counted = self.changing(tenant, limit, now);
            counted.counter.reserve(limit.metric, want);
            if counted.counter.lasts() && want > 0 {
                counted.mark.reserved(limit.ceiling);
                lags |= counted.lags();
            }
        }
        lags
    }

    fn counted(&mut self, tenant: &Arc<str>, limit: &Limit, now: Moment) -> &mut Counted {
        self.entry(tenant, limit, now).0
    }

    /// The counter of a limit, to count something.
    fn changing(&mut self, tenant: &Arc<str>, limit: &Limit, now: Moment) -> &mut Counted {
        let (counted, due) = self.entry(tenant, limit, now);
        if counted.counter.lasts() && !std::mem::replace(&mut counted.changed, true) {
            due.insert(id(tenant, limit));
        }
        counted
    }

    fn entry(&mut self, tenant: &Arc<str>, limit: &Limit, now: Moment) -> (&mut Counted, &mut HashSet<Id>) {
        let Shard { counters, opened, due, .. } = self;
        let id = id(tenant, limit);
        let counted = counters.entry(id).or_insert_with_key(|id| {
            if let Some(kind) = kind(tenant, limit) {
                let n = opened.entry(kind).or_default();
                *n = n.saturating_add(1);
            }
            let mut mark = Mark::default();
            if due.contains(id) {
                // It was forgotten, and the disk has not been told yet.
                mark.restored();
            }
            Counted {
                counter: Counter::new(limit.metric, limit.window),
                pace: Pace::new(limit.window, now.ms()).filter(|_| limit.metric != Metric::Concurrency),
                mark,
                changed: false,
            }
        });
        (counted, due)
    }

    /// The limits, those that would open one counter too many of their kind on the one that its latecomers share.
    fn bounded(&mut self, tenant: &Arc<str>, limits: &Arc<[Limit]>, now: Moment) -> Arc<[Limit]> {
        let late: Vec<bool> = limits.iter().map(|limit| self.is_late(tenant, limit, now)).collect();
        if !late.contains(&true) {
            return limits.clone();
        }
        let counts = |(limit, late): (&Limit, bool)| match limit.kind().filter(|_| late) {
            Some(kind) => Limit { holder: kind.into(), ..limit.clone() },
            None => limit.clone(),
        };
        limits.iter().zip(late).map(counts).collect()
    }

    /// Whether a limit has no counter, and its kind no room for one.
    fn is_late(&mut self, tenant: &Arc<str>, limit: &Limit, now: Moment) -> bool {
        let Some(kind) = kind(tenant, limit) else { return false };
        if self.counters.contains_key(&id(tenant, limit)) {
            return false;
        }
        let full = |shard: &Shard| shard.opened.get(&kind).is_some_and(|n| *n >= OPENED);
        if full(self) && self.looked.is_none_or(|at| now.ms() >= at.saturating_add(LOOK)) {
            self.looked = Some(now.ms());
            self.forget(now);
        }
        full(self)
    }

    /// Forgets counters that count nothing, when there are many: the map is bounded by what is in use.
    fn sweep(&mut self, now: Moment) {
        if self.counters.len() >= self.sweep_at {
            self.forget(now);
            self.sweep_at = self.counters.len().saturating_mul(2).max(SWEEP);
        }
    }

    fn forget(&mut self, now: Moment) {
        let due = &mut self.due;
        self.counters.retain(|id, c| {
            let is_idle = c.counter.is_idle(id.3, now);
            match c.mark.has_row() {
                true if is_idle => _ = due.insert(id.clone()),
                false if is_idle => _ = due.remove(id),
                _ => {}
            }
            !is_idle
        });
        self.opened.clear();
        for (tenant, holder, metric, window) in self.counters.keys() {
            let (holder, metric, window) = (holder.clone(), *metric, *window);
            let limit = Limit { holder, metric, ceiling: 0, window, reserved: 0 };
            if let Some(kind) = kind(tenant, &limit) {
                let n = self.opened.entry(kind).or_default();
                *n = n.saturating_add(1);
            }
        }
    }
}

/// Reservations that wait for the disk: whoever stops waiting has used nothing.
struct Open<'a> {
    counters: &'a Counters,
    reservations: Vec<Reservation>,
}

impl Open<'_> {
    fn hand_over(mut self) -> Vec<Reservation> {
        std::mem::take(&mut self.reservations)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        for reservation in self.reservations.drain(..) {
            self.counters.settle(reservation, Amount::default());
        }
    }
}

impl LimitStore for Counters {
    fn reserve_all(
        &self,
        claims: Vec<Claim>,
        unix_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
        match self.take(claims, unix_ms) {
            Ok((reservations, true)) if self.writing.has_begun() => Box::pin(async move {
                let open = Open { counters: self, reservations };
                let lags = || open.reservations.iter().any(|r| self.lags(r));
                match self.writing.until(lags).await {
                    true => Ok(open.hand_over()),
                    false => Err(Refused::Away("what is used cannot be written down".to_owned())),
                }
            }),
            taken => ready(taken.map(|(reservations, _)| reservations)).boxed(),
        }
    }

    fn settle(&self, reservation: Reservation, used: Amount) {
        let Some((mut shard, now)) = self.locked(&reservation.tenant, reservation.unix_ms) else { return };
        for limit in each(&reservation.limits) {
            let at_most = used.at_most_of(limit.metric);
            let (reserved, used) = (reservation.amount.of(limit.metric), used.of(limit.metric));
            let Counted { counter, pace, .. } = shard.changing(&reservation.tenant, limit, now);
            if let Some(pace) = pace {
                pace.add(used, now.ms());
            }
            counter.settle((limit.metric, limit.window), (reserved, used), reservation.at_ns, now);
            counter.is_at_most(at_most, reservation.at_ns);
        }
    }

    fn restore(&self, tenant: &Arc<str>, limit: &Limit, used: u64, unix_ms: i64) {
        let Some((mut shard, now)) = self.locked(tenant, unix_ms) else { return };
        let Counted { counter, pace, mark, .. } = shard.changing(tenant, limit, now);
        mark.restored();
        counter.used(limit.window, now);
        counter.add(used);
        // When the row was written is no reading of the clock of today.
        counter.forget_when_asked();
        if let Some(pace) = pace {
            pace.resume(used, Counter::begun(limit.window, now));
        }
    }

    fn standing(&self, tenant: &Arc<str>, limits: &[Limit], unix_ms: i64) -> BoxFuture<'_, Vec<Standing>> {
        let Some((mut shard, now)) = self.locked(tenant, unix_ms) else { return ready(Vec::new()).boxed() };
        let all: Vec<Standing> = limits.iter().map(|limit| shard.standing(tenant, limit, now)).collect();
        drop(shard);
        ready(all).boxed()
    }

    fn foresee(&self, tenant: &Arc<str>, asked: &[Inquiry], unix_ms: i64) -> BoxFuture<'_, Vec<Foreseen>> {
        let Some((mut shard, now)) = self.locked(tenant, unix_ms) else { return ready(Vec::new()).boxed() };
        let foresee = |Inquiry { limit, amounts }: &Inquiry| {
            let standing = shard.standing(tenant, limit, now);
            let left = standing.left();
            // What is left is asked for most of the time, and needs no further look.
            let reached = |want: &u64| match *want <= left {
                true => None,
                false => shard.reached((tenant, limit), *want, now),
            };
            Foreseen { reached: amounts.iter().map(reached).collect(), standing }
        };
        let all: Vec<Foreseen> = asked.iter().map(foresee).collect();
        drop(shard);
        ready(all).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_ceilings_over_one_counter_count_once() {
        let counters = Counters::default();
        let limit = |amount| Limit::rate("key:k", Metric::Requests, amount, Window::Day).unwrap();
        let limits: Arc<[Limit]> = Arc::new([limit(10.0), limit(5.0)]);
        let one = Amount { requests: 1, ..Amount::default() };
        for _ in 0..5 {
            let r = counters.reserve(&"acme".into(), &limits, one, 0).await.unwrap();
            counters.settle(r, one);
        }
        assert!(counters.reserve(&"acme".into(), &limits, one, 0).await.is_err());
        let used = counters.standing(&"acme".into(), &limits, 0).await;
        assert_eq!(used.iter().map(|s| s.used).collect::<Vec<_>>(), [used[0].used; 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_up_names_gains_no_room_and_takes_none_away() {
        let counters = Counters::default();
        let one = Amount { requests: 1, ..Amount::default() };
        let ask = async |tenant: &str, user: &str| {
            let limit = Limit::rate(
                &format!("rule:slow:user={user}"),
                Metric::Requests,
                2.0,
                Window::Sliding(60_000),
            );
            let limits: Arc<[Limit]> = limit.into_iter().collect();
            let reserved = counters.reserve(&tenant.into(), &limits, one, 0).await;
            reserved.map(|r| counters.settle(r, one)).is_ok()
        };
        let open = || counters.shards.iter().map(|s| s.lock().unwrap().counters.len()).sum::<usize>();
        assert!(ask("acme", "ada").await);
        let mut admitted = 0;
        for i in 0..3 * OPENED {
            admitted += usize::from(ask("acme", &format!("made-up-{i}")).await);
        }
        assert_eq!((open(), admitted), (OPENED + 1, OPENED - 1 + 2), "two more for all that came late");
        // Who was there is counted as before, and nobody else's tenant is touched.
        assert_eq!((ask("acme", "ada").await, ask("acme", "ada").await), (true, false));
        assert!(ask("other", "bob").await && !ask("acme", "late").await);
        // When the flood is over its counters are idle, and there is room for others.
        tokio::time::advance(Duration::from_secs(62)).await;
        assert!(ask("acme", "late").await && ask("acme", "late").await && !ask("acme", "late").await);
        assert!(ask("acme", "later").await && open() < 10, "{}", open());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_counters_are_forgotten() {
        let counters = Counters::default();
        let tenant: Arc<str> = "t".into();
        for i in 0..3 * SWEEP {
            let limits: Arc<[Limit]> =
                Limit::rate(&format!("label:{i}"), Metric::Requests, 1.0, Window::Sliding(1_000))
                    .into_iter()
                    .collect();
            let one = Amount { requests: 1, ..Amount::default() };
            counters.reserve(&tenant, &limits, one, 0).await.unwrap();
            if i % 1_000 == 0 {
                tokio::time::advance(Duration::from_millis(200)).await;
            }
        }
        let most = counters.shards.iter().map(|s| s.lock().unwrap().counters.len()).max().unwrap();
        assert!(most <= SWEEP, "{most}");
    }
}
