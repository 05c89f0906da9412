//! The search for an answer to one question: candidate after candidate, and one again where that may help, until one
//! answers or nothing more may be tried.

use super::Calls;
use super::asked::Before;
use super::retry::Next;
use super::retry_budget::Counted;
use crate::breaker::{Answering, Breaker, Permission};
use crate::concurrency::InFlight;
use crate::ledger::Unplaced;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::matrix::{Model, ModelIx, Provider};
use types::provider::{Error, ErrorKind};
use types::run::Purpose;
use workflows::{Ask, Exhausted, Failure, Generated, Taken};

/// Share of a model's answers that are waited for at least.
const LONGEST: f64 = 0.99;

/// Silence after which a call that is cut off, by the client or by a deadline, counts against the model: one
/// that accepts calls and never answers would otherwise never be kept out.
const SILENCE: Duration = Duration::from_secs(30);

/// How far the search has come.
pub(super) struct Search<'a> {
    calls: &'a Calls,
    ask: &'a Ask,
    deadline: Instant,
    /// Jitter of pauses.
    rng: StdRng,
    /// Calls made.
    attempts: u32,
    /// The model that was asked first.
    first: Option<ModelIx>,
    /// Candidates that were asked and could be reached.
    reached: usize,
    /// Providers that the question was put to.
    asked: Vec<usize>,
    /// The next call is counted already: it is a hedge, or its turn comes after a pause.
    counted: Option<Counted<'a>>,
    refused_by_budget: bool,
    /// The pause that the model asked for last is not kept, and must not keep it out.
    impatient: bool,
    /// Somebody was left out who has been asked just that before.
    repeats: bool,
    /// The first model that has as many calls under way as its vendor bears.
    full: Option<ModelIx>,
    last: Option<Error>,
}

/// One of those that may answer.
struct Candidate<'a> {
    ix: ModelIx,
    model: &'a Arc<Model>,
    provider: &'a Arc<Provider>,
    breaker: Option<&'a Arc<Breaker>>,
    /// Its answer comes in one piece: it is silent until that is there.
    whole: bool,
    /// Others stand behind it.
    rest: bool,
    /// One of them may be asked in its place, even if this one can be reached.
    more: bool,
    full: Full,
}

/// Whether a model that has as many calls under way as its vendor bears is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    Wait,
    PassBy,
}

/// Why a candidate gave no answer.
enum Stop {
    /// Another one may.
    Another,
    /// Nobody is asked any more.
    Ended(Failure),
}

/// What one call needs: a place among those under way, permission of its model's breaker, and to be one of the calls that may
/// be made. Whatever of it is dropped before the call is made is given back.
struct Permit<'a> {
    under_way: Option<InFlight>,
    permission: Option<Permission<'a>>,
    counted: Counted<'a>,
    /// One of the calls of the node and the run; `None` = the first, which the node has taken.
    taken: Option<Taken<'a>>,
}

impl<'a> Search<'a> {
    /// `hedge`: what the first call is counted as where it is one beside a slow one.
    pub(super) fn new(calls: &'a Calls, ask: &'a Ask, hedge: Option<Counted<'a>>) -> Self {
        Search {
            calls,
            ask,
            deadline: calls.deadline_of(ask),
            rng: StdRng::seed_from_u64(calls.seed),
            attempts: 0,
            first: None,
            reached: 0,
            asked: Vec::new(),
            counted: hedge,
            refused_by_budget: false,
            impatient: false,
            repeats: false,
            full: None,
            last: None,
        }
    }

    /// The answer of the first candidate that has one.
    pub(super) async fn run(mut self) -> Result<Generated, Failure> {
        let mut order = self.calls.order(self.ask);
        if order.is_empty() {
            return Err(self.calls.nobody(self.ask));
        }
        let elsewhere = self.calls.reroutes(self.ask);
        if !elsewhere {
            order.truncate(1);
        }
        let grant = self.calls.ledger_of(self.ask).grant().filter(|_| !is_hedge(self.ask));
        let mut waiting = grant.as_ref().and_then(|grant| grant.waiting(self.deadline));
        loop {
            let before = grant.as_ref().map(|grant| grant.refusals());
            if let Some(ended) = self.round(&order).await {
                return ended;
            }
            // Where limits gave nobody what is only set aside for others, it is waited for.
            let refused =
                grant.as_ref().filter(|grant| before.is_some_and(|before| grant.refusals() > before));
            let refused = refused
                .and_then(|grant| grant.refused_to(self.ask.node()))
                .filter(|_| self.refused_by_budget);
            let (Some(waiting), Some(refused), None) = (&mut waiting, refused, &self.last) else { break };
            let begun = Instant::now();
            // Its request keeps what it holds: other calls of it are made meanwhile.
            let keeps: Option<fn()> = None;
            let helps = self.calls.ledger_of(self.ask).awaiting(waiting.helps(&refused, keeps)).await;
            grant.iter().for_each(|grant| grant.has_waited(begun.elapsed()));
            if !helps {
                break;
            }
            self.refused_by_budget = false;
        }
        // Nobody else could do it. What only hedges a slow call waits for nobody.
        if let Some(ix) = self.full.filter(|_| !is_hedge(self.ask)) {
            match self.candidate(ix, false, Full::Wait).await {
                Ok(generated) => return Ok(generated),
                Err(Stop::Ended(failure)) => return Err(failure),
                Err(Stop::Another) => {}
            }
        }
        Err(self.found_none())
    }

    /// Asks one candidate after the other; `None` = none of them gave an answer, and others may.
    async fn round(&mut self, order: &[ModelIx]) -> Option<Result<Generated, Failure>> {
        // Whoever is passed by or cannot be reached costs next to nothing: the deadline and the calls that the run may
        // make bound those, and their number.
        let mut order = order.iter().peekable();
        while let Some(ix) = order.next().filter(|_| self.reached < self.most()) {
            match self.candidate(*ix, order.peek().is_some(), Full::PassBy).await {
                Ok(generated) => return Some(Ok(generated)),
                Err(Stop::Ended(failure)) => return Some(Err(failure)),
                Err(Stop::Another) => {}
            }
        }
        None
    }

    /// Candidates that may be asked and reached for one answer.
    fn most(&self) -> usize {
        self.calls.reach.retry.max_candidates
    }

    /// Why nobody answered, once all have been tried.
    fn found_none(self) -> Failure {
        match self.last {
            Some(last) => self.calls.most_useful(self.ask, Some(last)),
            None if self.refused_by_budget => Failure::Budget(Exhausted::Usd),
            None if Instant::now() >= self.deadline => Failure::Deadline,
            None if self.repeats => {
                Failure::nobody("everybody who may be asked has been asked just that before")
            }
            None => self.calls.all_kept_out(self.ask),
        }
    }

    fn known(&self, ix: ModelIx, rest: bool, full: Full) -> Option<Candidate<'a>> {
        let reach = &self.calls.reach;
        let (model, provider) = (reach.matrix.model(ix)?, reach.matrix.provider_of(ix)?);
        let breaker = reach.breakers.get(usize::from(ix.0));
        let whole = !(self.ask.stream && model.abilities.streaming);
        let more = rest && self.reached.saturating_add(1) < self.most();
        Some(Candidate { ix, model, provider, breaker, whole, rest, more, full })
    }

    /// Asks one candidate, again where that may help.
    async fn candidate(&mut self, ix: ModelIx, rest: bool, full: Full) -> Result<Generated, Stop> {
        let c = self.known(ix, rest, full).ok_or(Stop::Another)?;
        // A hedge is for whoever can be asked; all else was counted for the candidate before.
        self.counted = self.counted.take().filter(Counted::is_hedge);
        if self.calls.asked.before(self.ask, &c.model.id) == Before::Settled {
            self.repeats = true;
            return Err(Stop::Another);
        }
        let mut tries = 0;
        let mut was_reached = false;
        loop {
            let permit = self.permit(&c).await?;
            tries += 1;
            let error = match self.call(&c, permit).await? {
                Ok(generated) => return Ok(generated),
                Err(error) => error,
            };
            if error.kind != ErrorKind::Connect && !std::mem::replace(&mut was_reached, true) {
                self.reached = self.reached.saturating_add(1);
            }
            self.pause(&c, error, tries).await?;
        }
    }

    /// All that a call needs but money: time, room at the model and its provider, and one of the calls that are allowed.
    async fn permit(&mut self, c: &Candidate<'a>) -> Result<Permit<'a>, Stop> {
        if Instant::now() >= self.deadline {
            return Err(self.ended(Failure::Deadline));
        }
        let under_way = match c.breaker {
            Some(breaker) => Some(self.room(c, breaker).await?),
            None => None,
        };
        let now = Instant::now();
        let impatient = std::mem::take(&mut self.impatient);
        let permission = c.breaker.and_then(|breaker| breaker.permit(now, c.patience()));
        if permission.is_none() && c.breaker.is_some() && !impatient {
            return Err(Stop::Another);
        }
        let counted = self.count(c.model, now).ok_or(Stop::Another)?;
        if self.calls.ceilings.attempts.is_some_and(|most| self.attempts >= most) {
            return Err(self.given_up());
        }
        let taken = match self.attempts {
            0 => None,
            _ => Some(self.ask.budget.take().map_err(|used_up| self.ended(Failure::Budget(used_up)))?),
        };
        Ok(Permit { under_way, permission, counted, taken })
    }

    /// Room for one more call of a model, unless there is none and it is not waited for, or came too late.
    async fn room(&mut self, c: &Candidate<'_>, breaker: &Breaker) -> Result<InFlight, Stop> {
        let room = breaker.room();
        // A hedge of a slow call is the last thing that a vendor in trouble needs.
        if is_hedge(self.ask) && (room.is_limited() || !breaker.is_closed()) {
            return Err(Stop::Another);
        }
        if let Some(under_way) = room.enter(Instant::now()) {
            return Ok(under_way);
        }
        if c.full == Full::PassBy {
            self.full.get_or_insert(c.ix);
            return Err(Stop::Another);
        }
        let waited = self.calls.ledger_of(self.ask).awaiting(room.wait());
        tokio::time::timeout_at(self.deadline, waited).await.map_err(|_| Stop::Another)
    }

    /// Counts a call of a model: the first to its provider always, another one while there is room.
    fn count(&mut self, model: &Model, now: Instant) -> Option<Counted<'a>> {
        let failed_before = self.calls.asked.before(self.ask, &model.id) == Before::Open;
        self.repeats |= failed_before;
        if let Some(counted) = self.counted.take() {
            return Some(counted);
        }
        let extra = &self.calls.reach.extra;
        if failed_before || self.asked.contains(&model.provider) {
            extra.again(model.provider, now)
        } else {
            Some(extra.first(model.provider, now))
        }
    }

    /// Makes a call that is permitted, if there is money for it. What its model turns out to be worth, its breaker is told.
    async fn call(
        &mut self,
        c: &Candidate<'_>,
        permit: Permit<'a>,
    ) -> Result<Result<Generated, Error>, Stop> {
        let Permit { under_way, permission, mut counted, taken } = permit;
        let calls = self.calls;
        let attempt = self.attempts.saturating_add(1);
        // Time is left for another model where one would be asked.
        let leaves = c.whole && c.more && !calls.ends_with(self.ask, ErrorKind::TotalTimeout, attempt);
        let own = if leaves { self.share(c.ix, Instant::now()) } else { self.deadline };
        let prepared = calls.prepare(self.ask, (c.ix, c.model), c.provider, (attempt, under_way), own).await;
        let (call, mut open) = match prepared {
            Ok(prepared) => prepared,
            Err(Unplaced::Exhausted(Exhausted::Usd) | Unplaced::OfModel) => {
                self.refused_by_budget = true;
                self.counted = Some(counted);
                return Err(Stop::Another);
            }
            Err(Unplaced::Exhausted(
                limit @ (Exhausted::Tokens | Exhausted::Calls | Exhausted::NodeRuns),
            )) => {
                return Err(self.ended(Failure::Budget(limit)));
            }
        };
        self.attempts = attempt;
        let first = *self.first.get_or_insert(c.ix);
        if first != c.ix && open.purpose == Purpose::Primary {
            open.purpose = Purpose::Fallback;
        }
        counted.made();
        if let Some(taken) = taken {
            taken.made();
        }
        let answering = c.breaker.zip(permission.as_ref()).map(|(b, l)| Answering::of(b, l));
        let made = calls.attempt(call, open, answering, own).await;
        if matches!(&made, Err(e) if e.kind.is_unasked()) {
            // Its vendor was not asked.
            counted.unmade();
            self.counted = Some(counted);
        } else {
            self.asked.push(c.model.provider);
        }
        let now = Instant::now();
        match (&made, permission) {
            (_, None) => {}
            (Ok(Generated::Stream { .. }), Some(permission)) => permission.began(),
            (Ok(Generated::Whole { .. }), Some(permission)) => permission.succeeded(now),
            // A call that our own deadline cut off tells what any dropped call does.
            (Err(e), Some(_)) if e.kind == ErrorKind::TotalTimeout && now >= self.deadline => {}
            // A probe is left to the next call.
            (Err(e), Some(_)) if e.kind.is_unasked() => {}
            (Err(e), Some(permission)) => permission.failed(e, now, self.rng.random()),
        }
        Ok(made)
    }

    /// What follows on a call that failed: it returns where the same candidate is to be asked again, when it is time.
    async fn pause(&mut self, c: &Candidate<'_>, error: Error, tries: u32) -> Result<(), Stop> {
        let ledger = self.calls.ledger_of(self.ask);
        ledger.failed(&error);
        let tried = (self.attempts, tries);
        let more = if error.kind == ErrorKind::Connect { c.rest } else { c.more };
        let next = self.calls.next(&error, self.ask, tried, more, self.deadline, &mut self.rng);
        let heeds = self.calls.heeds(self.ask);
        let impatient = !heeds && error.retry_after.is_some();
        self.last = Some(error);
        match next {
            Next::Again(wait) => {
                // Where there is no room the client is told at once.
                let counted = self.count(c.model, Instant::now()).ok_or(Stop::Another)?;
                // A vendor that says when it may be asked again is waited for.
                ledger.pause(wait).await;
                self.counted = Some(counted);
                self.impatient = impatient;
                Ok(())
            }
            Next::Another => Err(Stop::Another),
            Next::NoTime => Err(Stop::Ended(self.most_useful().without_time())),
            Next::GiveUp => Err(self.given_up()),
        }
    }

    /// The moment until which a model is waited for that answers in one piece, while another one could be asked. It says
    /// nothing until then, so that one which never will is told from a slow one by nothing but time.
    fn share(&self, ix: ModelIx, now: Instant) -> Instant {
        let left = self.deadline.saturating_duration_since(now);
        let retry = &self.calls.reach.retry;
        let share = match retry.time_share {
            part if part < 1.0 => left.mul_f64(part.max(0.0)).min(retry.share_max),
            _ => left,
        };
        let usual = self.calls.candidates.patience(ix, LONGEST, false).unwrap_or(0.0) / 1e3;
        now + share.max(Duration::try_from_secs_f64(usual).unwrap_or(left)).min(left)
    }

    /// The end: with what a provider said last, or for another reason where none has said anything.
    fn ended(&mut self, otherwise: Failure) -> Stop {
        Stop::Ended(self.last.take().map_or(otherwise, |e| self.calls.told(self.ask, e)))
    }

    /// The end: with what says most of all that providers said.
    fn given_up(&mut self) -> Stop {
        Stop::Ended(self.most_useful())
    }

    /// What says most of all that providers said.
    fn most_useful(&mut self) -> Failure {
        self.calls.most_useful(self.ask, self.last.take())
    }
}

impl Candidate<'_> {
    /// How long silence of it is no wonder.
    fn patience(&self) -> Duration {
        let times = self.provider.timeouts;
        let heard = if self.whole { times.total } else { times.first_token };
        heard.min(SILENCE)
    }
}

/// A call that only hedges a slow one.
pub(super) fn is_hedge(ask: &Ask) -> bool {
    ask.purpose == Purpose::Hedge
}
