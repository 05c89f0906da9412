//! Model calls of one request: which candidate, again or another, within money and time, all on record.
//!
//! The only implementor of the workflows' seam; a workflow knows nodes, this knows candidates.

use crate::breaker::{Answering, Breaker};
use crate::config::Retry;
use crate::kept::Kept;
use crate::ledger::Ledger;
use crate::limits::Asker;
use crate::outside::Outside;
use crate::room::UnderWay;
use crate::route::Candidates;
use crate::tools::{self, Toolbox};
use again::Next;
use futures_util::future::BoxFuture;
use policies::PolicySet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::time::Instant;
use types::chat::ChatRequest;
use types::matrix::{Matrix, ModelIx};
use types::profile::WorkloadProfile;
use types::provider::{ChatProvider, Error, ErrorKind};
use types::{Report, Usd};
use workflows::{
    Ask, CacheAsk, Cached, CheckAsk, Failure, Generated, ToolAsk, ToolFailure, ToolReply, ToolSpec, World,
};

mod again;
mod attempt;
mod begins;
mod choices;
mod extra;
mod log;
mod money;
mod open;
mod order;
mod prepare;
mod tracked;

pub(crate) use begins::Begins;
pub use extra::Counts as ExtraCounts;
pub(crate) use extra::Extra;
pub(crate) use log::CallLog;
pub(crate) use money::Ceilings;

/// What all requests under one configuration share.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) provider: Arc<dyn ChatProvider>,
    pub(crate) breakers: Vec<Arc<Breaker>>,
    pub(crate) retry: Retry,
    pub(crate) extra: Arc<Extra>,
}

/// Makes the calls of one request.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) reach: Arc<Reach>,
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) request_id: String,
    pub(crate) profile: WorkloadProfile,
    pub(crate) candidates: Candidates,
    /// Who asks, for the limits of rules.
    pub(crate) asker: Asker,
    pub(crate) ledger: Ledger,
    /// Of the calls that are made after the response.
    pub(crate) after: Ledger,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Ceiling that the request or a policy set: never passed, whatever a call turns out to cost.
    pub(crate) cap: Option<Usd>,
    pub(crate) ceilings: Ceilings,
    pub(crate) seed: u64,
    /// What lies outside besides models.
    pub(crate) outside: Outside,
    /// Whose functions look at answers.
    pub(crate) policies: PolicySet,
    /// The tools that it may call.
    pub(crate) tools: Toolbox,
    /// What nodes put out earlier; `None` = nothing is kept.
    pub(crate) kept: Option<Kept>,
    /// Calls made so far, for their identifiers.
    pub(crate) made: Arc<AtomicU32>,
    /// Where calls are written down before they are made; `None` = what they are made for is found again without that,
    /// or is nobody's request.
    pub(crate) begins: Option<Begins>,
    /// Where the calls are told besides; for who asks one question at a time.
    pub(crate) log: Option<CallLog>,
}

impl World for Calls {
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>> {
        Box::pin(self.generate_one(ask))
    }

    fn patience(&self, ask: &Ask, q: f64) -> Option<Duration> {
        let first = *self.order(ask).first()?;
        let ms = self.candidates.patience(first, q, ask.stream)?;
        Duration::try_from_secs_f64(ms / 1e3).ok()
    }

    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(self.outside.check(ask, &self.policies))
    }

    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        self.tools.named(name)
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(tools::call(self, ask))
    }

    fn recall(&self, ask: CacheAsk) -> BoxFuture<'_, Option<Cached>> {
        Box::pin(std::future::ready(self.recalled(&ask)))
    }

    fn keep(&self, ask: CacheAsk, cached: Cached) -> BoxFuture<'_, ()> {
        self.keep_result(&ask, cached);
        Box::pin(std::future::ready(()))
    }
}

/// How far the loop over an ask's candidates has come.
struct SoFar {
    deadline: Instant,
    /// Jitter of pauses.
    rng: StdRng,
    attempts: u32,
    /// Some call was made.
    made: bool,
    /// Providers that the question was put to.
    asked: Vec<usize>,
    /// The next call has been counted.
    counted: bool,
    refused_by_budget: bool,
    /// The first model that has as many calls under way as its vendor bears.
    full: Option<ModelIx>,
    last: Option<Error>,
}

/// Whether a model that has as many calls under way as its vendor bears is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Full {
    Wait,
    PassBy,
}

impl SoFar {
    /// Whether the question may be put to a provider: for the first time always, again while there is room.
    fn may_ask(&mut self, extra: &Extra, provider: usize, now: Instant) -> bool {
        let counted = std::mem::take(&mut self.counted);
        let again = self.asked.contains(&provider);
        if !again {
            self.asked.push(provider);
        }
        match (counted, again) {
            (true, _) => true,
            (false, true) => extra.again(provider, now),
            (false, false) => {
                extra.first(provider, now);
                true
            }
        }
    }
}

impl Calls {
    async fn generate_one(&self, ask: Ask) -> Result<Generated, Failure> {
        let hedge = ask.purpose == "hedge";
        if hedge && !self.reach.extra.hedge(Instant::now()) {
            return Err(Failure::NoCandidate("too many calls have company already".to_owned()));
        }
        let order = self.order(&ask);
        if order.is_empty() {
            return Err(Failure::NoCandidate(format!("no model is left for node `{}`", ask.node())));
        }
        let elsewhere = ask.retry.as_ref().is_none_or(|r| r.reroute);
        let most = if elsewhere { self.reach.retry.max_candidates } else { 1 };
        let candidates = order.len().min(most);
        let mut so_far = SoFar {
            deadline: self.deadline_of(&ask),
            rng: StdRng::seed_from_u64(self.seed),
            attempts: 0,
            made: false,
            // Room for the first call of a hedge has been taken.
            asked: Vec::new(),
            counted: hedge,
            refused_by_budget: false,
            full: None,
            last: None,
        };
        for (position, ix) in order.into_iter().take(candidates).enumerate() {
            let more = position.saturating_add(1) < candidates;
            if let Some(end) = self.try_one(&ask, ix, (more, Full::PassBy), &mut so_far).await {
                return end;
            }
        }
        // Nobody else could do it. What only keeps a slow call company waits for nobody.
        if let Some(ix) = so_far.full.filter(|_| !hedge)
            && let Some(end) = self.try_one(&ask, ix, (false, Full::Wait), &mut so_far).await
        {
            return end;
        }
        match so_far.last {
            Some(last) => Err(self.most_useful(&ask, Some(last))),
            None if so_far.refused_by_budget => Err(Failure::Budget("usd")),
            None if Instant::now() >= so_far.deadline => Err(Failure::Deadline),
            None => {
                Err(Failure::NoCandidate("every candidate is failing and kept out for a while".to_owned()))
            }
        }
    }

    /// Tries one candidate, again where that may help; `None` = another one may do.
    async fn try_one(
        &self,
        ask: &Ask,
        ix: ModelIx,
        (more, full): (bool, Full),
        so_far: &mut SoFar,
    ) -> Option<Result<Generated, Failure>> {
        let (model, provider) = (self.reach.matrix.model(ix)?, self.reach.matrix.provider_of(ix)?);
        let breaker = self.reach.breakers.get(usize::from(ix.0));
        let times = provider.timeouts;
        // An answer that comes whole is silent until it is there.
        let whole = !(ask.stream && model.abilities.streaming);
        let heard = if whole { times.total } else { times.first_token };
        let patience = heard.min(SILENCE);
        let deadline = so_far.deadline;
        let mut tries = 0;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Some(Err(so_far.last.take().map_or(Failure::Deadline, Failure::Provider)));
            }
            let under_way = match breaker {
                Some(b) => Some(self.room(ask, (b, full), ix, so_far).await?),
                None => None,
            };
            let now = Instant::now();
            let leave = match breaker {
                Some(b) => Some(b.leave(now, patience)?),
                None => None,
            };
            if !so_far.may_ask(&self.reach.extra, model.provider, now) {
                return None;
            }
            if self.ceilings.attempts.is_some_and(|most| so_far.attempts >= most) {
                return Some(Err(self.most_useful(ask, so_far.last.take())));
            }
            let attempt = so_far.attempts.saturating_add(1);
            // The node has taken the first call.
            if so_far.made
                && let Err(used_up) = ask.purse.call()
            {
                let last = so_far.last.take();
                return Some(Err(last.map_or(Failure::Budget(used_up), Failure::Provider)));
            }
            let own = if whole && more { self.share(ix, now, deadline) } else { deadline };
            let (call, open) = match self.prepare(ask, (ix, model), provider, (attempt, under_way), own).await
            {
                Ok(prepared) => prepared,
                Err("usd") => {
                    so_far.refused_by_budget = true;
                    return None;
                }
                Err(used_up) => {
                    let last = so_far.last.take();
                    return Some(Err(last.map_or(Failure::Budget(used_up), Failure::Provider)));
                }
            };
            tries += 1;
            (so_far.made, so_far.attempts) = (true, attempt);
            let answering = breaker.zip(leave.as_ref()).map(|(b, l)| Answering::of(b, l));
            let error = match self.attempt(call, open, answering, own).await {
                Ok(generated) => {
                    match (leave, &generated) {
                        (Some(l), Generated::Stream { .. }) => l.began(),
                        (Some(l), Generated::Whole { .. }) => l.succeeded(Instant::now()),
                        (None, _) => {}
                    }
                    return Some(Ok(generated));
                }
                Err(e) => e,
            };
            // A call that our own deadline cut off tells what any dropped call does.
            let ours = error.kind == ErrorKind::TotalTimeout && Instant::now() >= deadline;
            if let Some(l) = leave.filter(|_| !ours) {
                l.failed(&error, Instant::now(), so_far.rng.random());
            }
            self.ledger_of(ask).failed(&error);
            let next = self.next(&error, ask, tries, more, deadline, &mut so_far.rng);
            so_far.last = Some(error);
            match next {
                Next::Again(wait) => {
                    // Where there is no room the client is told at once.
                    so_far.counted = so_far.may_ask(&self.reach.extra, model.provider, Instant::now());
                    if !so_far.counted {
                        return None;
                    }
                    // A vendor that says when it may be asked again is waited for.
                    self.ledger_of(ask).pause(wait).await;
                }
                Next::Another => return None,
                Next::GiveUp => return Some(Err(self.most_useful(ask, so_far.last.take()))),
            }
        }
    }

    /// Room for one more call of a model; `None` = there is none, and it is not waited for, or came too late.
    async fn room(
        &self,
        ask: &Ask,
        (breaker, full): (&Breaker, Full),
        ix: ModelIx,
        so_far: &mut SoFar,
    ) -> Option<UnderWay> {
        let room = breaker.room();
        // Company for a slow call is the last thing that a vendor in trouble needs.
        if ask.purpose == "hedge" && (room.is_limited() || !breaker.is_closed()) {
            return None;
        }
        if let Some(under_way) = room.enter(Instant::now()) {
            return Some(under_way);
        }
        if full == Full::PassBy {
            so_far.full.get_or_insert(ix);
            return None;
        }
        let waited = self.ledger_of(ask).awaiting(room.wait());
        tokio::time::timeout_at(so_far.deadline, waited).await.ok()
    }

    /// The moment until which a model is waited for that answers in one piece, while another one could be asked. It says
    /// nothing until then, so that one which never will is told from a slow one by nothing but time.
    fn share(&self, ix: ModelIx, now: Instant, deadline: Instant) -> Instant {
        let left = deadline.saturating_duration_since(now);
        let share = left.mul_f64(self.reach.retry.time_share.clamp(0.0, 1.0));
        let usual = self.candidates.patience(ix, LONGEST, false).unwrap_or(0.0) / 1e3;
        now + share.max(Duration::try_from_secs_f64(usual).unwrap_or(left)).min(left)
    }

    /// The moment before which an ask must have come to something.
    fn deadline_of(&self, ask: &Ask) -> Instant {
        let own = ask.timeout.map(|t| Instant::now() + t);
        // What is done after the response is not bound by the request's time.
        let request = (!ask.late).then_some(self.deadline);
        // The run has to end a little earlier, to deliver what there is.
        let run = ask.deadline.filter(|_| !ask.late);
        [own, request, run].into_iter().flatten().min().unwrap_or(self.deadline)
    }

    /// Where the calls of an ask are written down.
    fn ledger_of(&self, ask: &Ask) -> &Ledger {
        if ask.late { &self.after } else { &self.ledger }
    }

    fn most_useful(&self, ask: &Ask, last: Option<Error>) -> Failure {
        self.ledger_of(ask).worst().or(last).map_or(Failure::Deadline, Failure::Provider)
    }
}

/// Share of a model's answers that are waited for at least.
const LONGEST: f64 = 0.99;

/// Silence after which a call that is cut off, by the client or by a deadline, counts against the model: one
/// that accepts calls and never answers would otherwise never be kept out.
const SILENCE: Duration = Duration::from_secs(30);
