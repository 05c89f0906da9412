//! Model calls of one request: which candidate, again or another, within money and time, all on record.
//!
//! The only implementor of the workflows' seam; a workflow knows nodes, this knows candidates.

use crate::breaker::Breaker;
use crate::config::Retry;
use crate::ledger::{Ledger, Place};
use crate::outside::Outside;
use crate::route::{Candidates, resolve};
use crate::tools::{self, Toolbox};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use types::chat::{ChatRequest, Message, ResponseFormat, Role};
use types::matrix::{Matrix, Model, ModelIx, Provider, Tier};
use types::profile::WorkloadProfile;
use types::provider::{Call, ChatProvider, Edits, Error, ErrorKind, Reply};
use types::run::{AtMost, CallError, CallRecord};
use types::{Chunk, Completion, Report, Usage, Usd};
use workflows::{
    Ask, CheckAsk, Failure, Generated, Purse, Route, Strategy, ToolAsk, ToolFailure, ToolReply, ToolSpec,
    World,
};

mod hedges;
mod log;
mod money;
mod tracked;

pub(crate) use hedges::Hedges;
pub(crate) use log::CallLog;
pub(crate) use money::Ceilings;
use money::{charges, estimate};

/// What all requests under one configuration share.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) provider: Arc<dyn ChatProvider>,
    pub(crate) breakers: Vec<Arc<Breaker>>,
    pub(crate) retry: Retry,
    pub(crate) hedges: Arc<Hedges>,
}

/// Makes the calls of one request.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) reach: Arc<Reach>,
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) request_id: String,
    pub(crate) profile: WorkloadProfile,
    pub(crate) candidates: Candidates,
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
    /// The tools that it may call.
    pub(crate) tools: Toolbox,
    /// Calls made so far, for their identifiers.
    pub(crate) made: Arc<AtomicU32>,
    /// Where the calls are told besides; for who asks one question at a time.
    pub(crate) log: Option<CallLog>,
}

/// One call under way: goes into the ledger exactly once, as cancelled when it is dropped.
struct Open {
    ledger: Ledger,
    log: Option<CallLog>,
    /// What the node may use, within what the run may.
    purse: Arc<Purse>,
    node: Arc<str>,
    model: Arc<Model>,
    free: bool,
    purpose: String,
    attempt: u32,
    reserved: Usd,
    place: Place,
    run_started: Instant,
    started: Instant,
    est_input: u32,
    /// Tokens of the longest answer that was asked for, all choices together.
    longest: u32,
    /// Nothing of the answer can be passed on yet.
    awaited: bool,
    closed: bool,
}

/// Tokens that a vendor may have written of an answer before it learns that nobody reads it any more.
const ON_ITS_WAY: u32 = 2_048;

/// How a call ended.
struct End<'a> {
    error: Option<&'a Error>,
    /// It was left before its end, so that the vendor may count more than we have seen.
    cut: bool,
    usage: Option<Usage>,
    output_bytes: usize,
    first_content: Option<Instant>,
    reported_model: &'a str,
}

impl Open {
    fn close(&mut self, end: &End<'_>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let now = Instant::now();
        let ms = |t: Instant, from: Instant| t.saturating_duration_since(from).as_secs_f64() * 1e3;
        let reached = end.first_content.is_some() || end.error.is_none_or(|e| charges(e.kind));
        let estimated = estimate(reached, self.est_input, end.output_bytes);
        let usage = match end.usage {
            Some(reported) if end.error.is_none() => reported,
            // What was reported before an answer broke off may be of its beginning only.
            Some(so_far) => Usage { output: so_far.output.max(estimated.output), estimated: true, ..so_far },
            None => estimated,
        };
        let cost = self.cost(&usage);
        let cut = end.cut || end.error.is_some_and(|e| charges(e.kind));
        let at_most = cut.then(|| self.at_most(&usage, end));
        let record = CallRecord {
            model: self.model.id.clone(),
            purpose: std::mem::take(&mut self.purpose),
            attempt: self.attempt,
            error: end.error.map(|e| CallError { kind: e.kind, status: e.status, detail: e.detail.clone() }),
            cost_usd: if usage == Usage::default() { Some(Usd::ZERO) } else { cost },
            usage,
            at_most,
            ttft_ms: end.first_content.map(|t| ms(t, self.started)),
            total_ms: ms(now, self.started),
            started_ms: ms(self.started, self.run_started),
            reported_model: end.reported_model.to_owned(),
        };
        self.arrived(now);
        self.purse.settle(self.reserved, record.counted().usd);
        if let Some(log) = &self.log {
            log.push(record.clone());
        }
        self.ledger.settle(&self.node, self.reserved, record);
        self.ledger.leave(self.place);
    }

    fn cost(&self, usage: &Usage) -> Option<Usd> {
        if self.free { Some(Usd::ZERO) } else { self.model.price.map(|p| p.cost(usage)) }
    }

    /// What a call that was cut off may have used: as much as it was allowed to, or, where its answer was on its
    /// way, a token for each byte of what came and what may have been written by then.
    fn at_most(&self, usage: &Usage, end: &End<'_>) -> AtMost {
        let seen = end
            .first_content
            .map(|_| u32::try_from(end.output_bytes).unwrap_or(u32::MAX).saturating_add(ON_ITS_WAY));
        let output = seen.map_or(self.longest, |n| n.min(self.longest)).max(usage.output);
        let most = Usage { input: usage.input.max(self.est_input), output, ..*usage };
        let tokens = u64::from(most.input).saturating_add(u64::from(output));
        AtMost { tokens, usd: self.cost(&most).unwrap_or_default() }
    }

    /// What comes from here on can be passed on as it comes.
    fn arrived(&mut self, now: Instant) {
        if std::mem::replace(&mut self.awaited, false) {
            self.ledger.await_ends(now);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let error = Error::new(ErrorKind::Cancelled, &self.model, "no longer needed, or the client left");
        self.close(&End {
            error: Some(&error),
            cut: true,
            usage: None,
            output_bytes: 0,
            first_content: None,
            reported_model: "",
        });
    }
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
        Box::pin(self.outside.check(ask))
    }

    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        self.tools.named(name)
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(tools::call(self, ask))
    }
}

/// A failure by the name that workflow files give it.
const fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::FirstTokenTimeout | ErrorKind::InterTokenTimeout | ErrorKind::TotalTimeout => "timeout",
        ErrorKind::StreamLost => "stream_lost",
        ErrorKind::Malformed | ErrorKind::TooLarge => "malformed",
        _ => "unavailable",
    }
}

/// What the loop over candidates does next.
enum Next {
    Again(Duration),
    Another,
    GiveUp,
}

impl Calls {
    async fn generate_one(&self, ask: Ask) -> Result<Generated, Failure> {
        if ask.purpose != "hedge" {
            self.reach.hedges.call();
        } else if !self.reach.hedges.take() {
            return Err(Failure::NoCandidate("too many calls have company already".to_owned()));
        }
        let order = self.order(&ask);
        if order.is_empty() {
            return Err(Failure::NoCandidate(format!("no model is left for node `{}`", ask.node())));
        }
        let deadline = self.deadline_of(&ask);
        let mut rng = StdRng::seed_from_u64(self.seed);
        let (mut attempt, mut refused_by_budget) = (0_u32, false);
        let mut last: Option<Error> = None;
        let elsewhere = ask.retry.as_ref().is_none_or(|r| r.reroute);
        let most = if elsewhere { self.reach.retry.max_candidates } else { 1 };
        let candidates = order.len().min(most);
        for (position, ix) in order.into_iter().take(candidates).enumerate() {
            let more = position.saturating_add(1) < candidates;
            let (Some(model), Some(provider)) =
                (self.reach.matrix.model(ix), self.reach.matrix.provider_of(ix))
            else {
                continue;
            };
            let mut tries = 0;
            loop {
                let now = Instant::now();
                if now >= deadline {
                    return Err(last.map_or(Failure::Deadline, Failure::Provider));
                }
                let breaker = self.reach.breakers.get(usize::from(ix.0));
                let patience = provider.timeouts.first_token.min(SILENCE);
                let leave = match breaker.map(|b| b.leave(now, patience)) {
                    Some(None) => break,
                    Some(Some(leave)) => Some(leave),
                    None => None,
                };
                if self.ceilings.attempts.is_some_and(|most| attempt >= most) {
                    return Err(self.most_useful(&ask, last));
                }
                attempt = attempt.saturating_add(1);
                let (call, open) = match self.prepare(&ask, model, provider, attempt, deadline) {
                    Ok(prepared) => prepared,
                    Err("usd") => {
                        refused_by_budget = true;
                        break;
                    }
                    Err(used_up) => return Err(last.map_or(Failure::Budget(used_up), Failure::Provider)),
                };
                tries += 1;
                match self.attempt(call, open, breaker, deadline).await {
                    Ok(generated) => {
                        if let Some(l) = leave {
                            l.succeeded(Instant::now());
                        }
                        return Ok(generated);
                    }
                    Err(e) => {
                        // A call that our own deadline cut off tells what any dropped call does.
                        let ours = e.kind == ErrorKind::TotalTimeout && Instant::now() >= deadline;
                        if let Some(l) = leave.filter(|_| !ours) {
                            l.failed(&e, Instant::now(), rng.random());
                        }
                        self.ledger_of(&ask).failed(&e);
                        let next = self.next(&e, &ask, tries, more, deadline, &mut rng);
                        last = Some(e);
                        match next {
                            Next::Again(wait) => tokio::time::sleep(wait).await,
                            Next::Another => break,
                            Next::GiveUp => return Err(self.most_useful(&ask, last)),
                        }
                    }
                }
            }
        }
        match last {
            Some(_) => Err(self.most_useful(&ask, last)),
            None if refused_by_budget => Err(Failure::Budget("usd")),
            None => {
                Err(Failure::NoCandidate("every candidate is failing and kept out for a while".to_owned()))
            }
        }
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

    /// Another candidate is the better retry; the same one again only where there is no other.
    fn next(
        &self,
        e: &Error,
        ask: &Ask,
        tries: u32,
        more: bool,
        deadline: Instant,
        rng: &mut StdRng,
    ) -> Next {
        // The provider's own limit on a whole call leaves time for another model, ours does not.
        let timed_out = e.kind == ErrorKind::TotalTimeout && Instant::now() < deadline;
        if !e.kind.another_may_do() && !timed_out {
            return Next::GiveUp;
        }
        if more {
            return Next::Another;
        }
        let mut usual = self.reach.retry;
        let own = ask.retry.as_deref();
        // A policy knows better than the settings, a node better than a policy.
        let policy = self.ceilings.retry;
        usual.backoff = policy.and_then(|p| p.backoff_ms).map_or(usual.backoff, Duration::from_millis);
        let set = policy.map_or(usual.max_attempts, |p| p.max);
        let most = own.and_then(|r| r.max_attempts).unwrap_or(set);
        if !e.retryable() || tries >= most || own.is_some_and(|r| !r.covers(code(e.kind))) {
            return Next::GiveUp;
        }
        let pause = match own {
            Some(r) => r.pause(tries, rng.random()),
            None => {
                let ceiling = usual.backoff.saturating_mul(1 << tries.saturating_sub(1).min(10));
                ceiling.min(usual.backoff_max).mul_f64(rng.random())
            }
        };
        let asked = e.retry_after.filter(|_| own.is_none_or(|r| r.respect_retry_after));
        let wait = asked.unwrap_or(pause);
        if Instant::now() + wait >= deadline { Next::GiveUp } else { Next::Again(wait) }
    }

    /// The candidates for a node, best first; models it should avoid come last, those it must not use not at
    /// all.
    fn order(&self, ask: &Ask) -> Vec<ModelIx> {
        let mut order = if ask.primary {
            self.candidates.primary.clone()
        } else {
            resolve(&ask.route, &self.candidates, &self.reach.matrix, self.seed)
        };
        if let Some(set) = self.ceilings.escalate.as_ref().filter(|_| ask.purpose.contains("escalate")) {
            let all = resolve(&strongest(), &self.candidates, &self.reach.matrix, self.seed);
            let stronger: Vec<ModelIx> = all.into_iter().filter(|ix| set.contains(*ix)).collect();
            if !stronger.is_empty() {
                order = stronger;
            }
        }
        let model = |ix: &ModelIx| self.reach.matrix.model(*ix);
        if ask.edits.tools.is_some() {
            order.retain(|ix| model(ix).is_some_and(|m| m.abilities.tools));
        }
        if !ask.not_models.is_empty() || !ask.not_families.is_empty() {
            let barred =
                |m: &Arc<Model>| ask.not_models.contains(&m.id) || ask.not_families.contains(&m.family);
            order.retain(|ix| !model(ix).is_some_and(barred));
        }
        if let Some(spread) = ask.spread {
            order = spread.share(order, |ix| model(ix).cloned());
        }
        if !order.is_empty() {
            let skip = usize::try_from(ask.skip).unwrap_or(0);
            // Company of the same model is no help unless it was asked for.
            if ask.purpose == "hedge" && skip >= order.len() {
                return Vec::new();
            }
            let skip = skip % order.len();
            order.rotate_left(skip);
        }
        let used = |ix: &ModelIx| {
            model(ix).is_some_and(|m| ask.avoid.contains(&m.id) || ask.avoid_families.contains(&m.family))
        };
        order.sort_by_key(used);
        order
    }

    /// The call for one candidate with its money, and its place in the tree, reserved.
    ///
    /// # Errors
    /// What does not reach: `usd`, `calls`, `tokens`.
    fn prepare(
        &self,
        ask: &Ask,
        model: &Arc<Model>,
        provider: &Arc<Provider>,
        attempt: u32,
        deadline: Instant,
    ) -> Result<(Call, Open), &'static str> {
        let model = &self.ceilings.priced(model);
        let mut edits = ask.edits.clone();
        self.ceilings.lower(&mut edits, &self.request);
        adapt(&mut edits, &self.request, model);
        let est_input = self.est_input(&edits);
        let longest = edits.max_tokens.or(self.request.params.max_tokens).unwrap_or(model.max_output_tokens);
        let place = self.ledger_of(ask).admit(est_input, longest)?;
        if place.output.is_some_and(|most| most < longest) {
            edits.max_tokens = place.output;
        }
        let Some(reserved) = self.reserve(model, provider, &mut edits, est_input, ask) else {
            self.ledger_of(ask).unmade(place);
            return Err("usd");
        };
        let granted = edits.max_tokens.unwrap_or(longest);
        let now = Instant::now();
        let purpose =
            if attempt > 1 && ask.purpose == "primary" { "fallback".into() } else { ask.purpose.to_string() };
        let ledger = self.ledger_of(ask);
        ledger.await_begins(now);
        let open = Open {
            ledger: ledger.clone(),
            log: self.log.clone(),
            purse: ask.purse.clone(),
            node: ask.node().clone(),
            model: model.clone(),
            free: provider.tier == Tier::Free,
            purpose,
            attempt,
            reserved,
            place,
            run_started: self.started,
            started: now,
            est_input,
            longest: granted.saturating_mul(self.request.params.n.max(1)),
            awaited: true,
            closed: false,
        };
        let call = Call {
            request: self.request.clone(),
            edits,
            model: model.clone(),
            provider: provider.clone(),
            stream: ask.stream && model.abilities.streaming,
            remaining: deadline.saturating_duration_since(now),
            id: format!("{}.{}.{}", self.request_id, ask.node(), self.made.fetch_add(1, Ordering::Relaxed)),
            family: self.profile.task_family.value,
            sub_label: self.profile.sub_label,
        };
        Ok((call, open))
    }

    async fn attempt(
        &self,
        call: Call,
        mut open: Open,
        breaker: Option<&Arc<Breaker>>,
        deadline: Instant,
    ) -> Result<Generated, Error> {
        let model = call.model.clone();
        let late = || Error::new(ErrorKind::TotalTimeout, &model, "the request's deadline passed");
        let reply = match timeout_at(deadline, self.reach.provider.call(call)).await {
            Ok(reply) => reply,
            Err(_) => Err(late()),
        };
        let failed = |open: &mut Open, e: Error| {
            open.close(&End {
                error: Some(&e),
                cut: false,
                usage: None,
                output_bytes: 0,
                first_content: None,
                reported_model: "",
            });
            Err(e)
        };
        match reply {
            Ok(Reply::Whole(c)) if c.choices.is_empty() => {
                failed(&mut open, Error::new(ErrorKind::Malformed, &model, "the answer holds no choice"))
            }
            Ok(Reply::Whole(completion)) => {
                let completion = Self::settle_whole(&mut open, completion);
                Ok(Generated::Whole { completion, model })
            }
            Ok(Reply::Stream(stream)) => match timeout_at(deadline, commit(stream, &model)).await {
                Ok(Ok((head, rest))) => {
                    open.arrived(Instant::now());
                    let rest = tracked::track(open, &head, rest, breaker.cloned());
                    Ok(Generated::Stream { model, head, rest })
                }
                Ok(Err(e)) => failed(&mut open, e),
                Err(_) => failed(&mut open, late()),
            },
            Err(e) => failed(&mut open, e),
        }
    }

    fn settle_whole(open: &mut Open, mut completion: Completion) -> Completion {
        let bytes = completion
            .choices
            .iter()
            .map(|c| {
                c.text.len()
                    + c.reasoning.len()
                    + c.tool_calls.iter().map(|t| t.arguments.len()).sum::<usize>()
            })
            .sum();
        let reported = (completion.usage != Usage::default()).then_some(completion.usage);
        let model = completion.model.clone();
        open.close(&End {
            error: None,
            cut: false,
            usage: reported,
            output_bytes: bytes,
            first_content: None,
            reported_model: &model,
        });
        if reported.is_none() {
            completion.usage = estimate(true, open.est_input, bytes);
        }
        completion
    }
}

/// Every candidate, the strongest first.
fn strongest() -> Route {
    Route { strategy: Strategy::Strongest, ..Route::default() }
}

/// Silence after which a call that is cut off, by the client or by a deadline, counts against the model: one
/// that accepts calls and never answers would otherwise never be kept out.
const SILENCE: Duration = Duration::from_secs(30);

/// Most events held back while waiting for the first content.
const MAX_HEAD: usize = 64;

type Committed = (Vec<Chunk>, BoxStream<'static, Result<Chunk, Error>>);

/// Waits for the first live content: until then a failure can be hidden behind another candidate.
async fn commit(
    mut stream: BoxStream<'static, Result<Chunk, Error>>,
    model: &Model,
) -> Result<Committed, Error> {
    let mut head = Vec::with_capacity(2);
    loop {
        match stream.next().await {
            Some(Ok(chunk)) => {
                let live = chunk.has_content();
                head.push(chunk);
                if live || head.len() >= MAX_HEAD {
                    return Ok((head, stream));
                }
            }
            Some(Err(e)) => return Err(e),
            None => return Err(Error::new(ErrorKind::Malformed, model, "the stream ended without content")),
        }
    }
}

/// Fits the wishes to what the model can do: its longest answer, and the strongest form it can promise. A
/// schema the model cannot be held to goes into the instructions; the checks hold the answer to it anyway.
fn adapt(edits: &mut Edits, request: &ChatRequest, model: &Model) {
    if let Some(wish) = edits.max_tokens.or(request.params.max_tokens)
        && wish > model.max_output_tokens
    {
        edits.max_tokens = Some(model.max_output_tokens);
    }
    let format = edits.response_format.as_ref().unwrap_or(&request.response_format);
    let instruction = match format {
        ResponseFormat::JsonSchema { schema, .. } if !model.abilities.json_schema => {
            format!(
                "Answer with one JSON value and nothing else. It must be valid under this JSON Schema:\n{schema}"
            )
        }
        ResponseFormat::JsonObject if !model.abilities.json => {
            "Answer with one JSON object and nothing else.".to_owned()
        }
        _ => return,
    };
    edits.response_format =
        Some(if model.abilities.json { ResponseFormat::JsonObject } else { ResponseFormat::Text });
    let mut messages = edits.messages.take().unwrap_or_else(|| request.messages.clone());
    let place = messages.iter().take_while(|m| m.role.is_instruction()).count();
    messages.insert(place, Message::text(Role::System, instruction));
    edits.messages = Some(messages);
}
