//! The world of a test: what models and tools answer stands in the file.

use super::Seen;
use super::again::again;
use super::case::{ARGS, Call, Case, Forced, NO_CANDIDATE, Reply, Tool, error_kind};
use super::clock::Clock;
use super::pieces::{self, Piece};
use super::stub;
use crate::bundle::Bundle;
use crate::outside::script_now;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use policies::PolicySet;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::chat::ToolCall;
use types::completion::{Choice, FinishReason};
use types::matrix::{Matrix, Model, glob};
use types::provider::Error;
use types::runs::SideEffect;
use types::{ChatRequest, Completion, Report, Usage, Usd, Verdict};
use workflows::{
    Ask, CheckAsk, EffectId, Failure, Generated, Moment, ToolAsk, ToolFailure, ToolReply, ToolSpec, World,
};

/// The tools of a case. They take whatever they are given, change nothing, and are for its workflow.
pub(super) fn specs(case: &Case) -> Vec<Arc<ToolSpec>> {
    let mut names: Vec<&str> = case.tools.iter().map(|t| t.tool.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let spec = |name: &str| {
        Arc::new(ToolSpec {
            name: name.into(),
            description: String::new(),
            input_schema: Arc::new(json!({ "type": "object" })),
            side_effect: SideEffect::None,
            timeout: Duration::from_secs(30),
            interruptible: true,
            trusted: false,
            workflows: Some([Arc::from(case.workflow.as_str())].into()),
        })
    };
    names.into_iter().map(spec).collect()
}

/// Plays a case.
pub(super) struct Stage {
    pub(super) clock: Arc<Clock>,
    matrix: Arc<Matrix>,
    calls: Vec<Call>,
    tools: Vec<Tool>,
    specs: Vec<Arc<ToolSpec>>,
    validators: Vec<Forced>,
    policies: PolicySet,
    input: u32,
    /// What nobody has scripted is answered by stubs.
    stubs: Option<Arc<ChatRequest>>,
    /// Nodes for which there is no model.
    lacking: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: Vec<bool>,
    tools_used: Vec<bool>,
    made: u32,
    cost: Usd,
    surprises: Vec<String>,
}

impl Stage {
    pub(super) fn new(case: &Case, bundle: &Bundle, request: &ChatRequest) -> Self {
        let bytes: usize = request.messages.iter().flat_map(|m| m.content.texts()).map(str::len).sum();
        Stage {
            clock: Arc::new(Clock::new()),
            matrix: bundle.matrix().clone(),
            policies: bundle.policies.clone(),
            calls: case.calls.clone(),
            tools: case.tools.clone(),
            specs: specs(case),
            validators: case.validators.clone(),
            input: u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX),
            stubs: None,
            lacking: Vec::new(),
            state: Mutex::new(State {
                used: vec![false; case.calls.len()],
                tools_used: vec![false; case.tools.len()],
                ..State::default()
            }),
        }
    }

    /// With stubs for all that is asked for but by nodes for which there is no model, and these tools.
    pub(super) fn stubbed(
        self,
        request: &Arc<ChatRequest>,
        specs: Vec<Arc<ToolSpec>>,
        lacking: Vec<String>,
    ) -> Self {
        Stage { stubs: Some(request.clone()), specs, lacking, ..self }
    }

    /// The answer that no script has.
    fn stub(&self, ask: &Ask) -> Option<Call> {
        let reply = stub::reply(ask, self.stubs.as_ref()?);
        let at = ask.node().to_string();
        Some(Call { at, model: None, reply, usage: None, latency: Duration::ZERO, line: 0 })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Model calls made.
    pub(super) fn made(&self) -> u32 {
        self.state().made
    }

    /// What they cost by the prices of the matrix.
    pub(super) fn cost(&self) -> Usd {
        self.state().cost
    }

    /// Calls that the file does not answer, and answers that nobody asked for.
    pub(super) fn surprises(&self) -> Vec<String> {
        let s = self.state();
        let mut all = s.surprises.clone();
        for (call, _) in self.calls.iter().zip(&s.used).filter(|(_, used)| !**used) {
            all.push(format!("the reply at line {} for `{}` was never asked for", call.line, call.at));
        }
        all
    }

    /// The first answer for a node instance that was not given yet: which of them.
    fn place(&self, frame: &str) -> Option<usize> {
        let s = self.state();
        let fits = |at: &str| glob(at, frame) || at.strip_suffix("/*").is_some_and(|p| glob(p, frame));
        let mut calls = self.calls.iter().zip(&s.used);
        calls.position(|(call, used)| !used && fits(&call.at))
    }

    /// That answer; from here on it is given.
    fn next(&self, frame: &str) -> Option<Call> {
        let at = self.place(frame)?;
        if let Some(used) = self.state().used.get_mut(at) {
            *used = true;
        }
        self.calls.get(at).cloned()
    }

    /// The models that may answer, first the one that is asked first.
    fn models(&self, ask: &Ask) -> Vec<Arc<Model>> {
        if let Some(name) = ask.route.model.as_deref() {
            return self.named(name).into_iter().collect();
        }
        let allowed =
            |m: &&Arc<Model>| !ask.not_models.contains(&m.id) && !ask.not_families.contains(&m.family);
        let mut order: Vec<&Arc<Model>> = self.matrix.models().iter().filter(allowed).collect();
        if let Some(spread) = ask.spread {
            order = spread.share(order, |m| Some((*m).clone()));
        }
        order.sort_by_key(|m| ask.avoid.contains(&m.id) || ask.avoid_families.contains(&m.family));
        let skip = usize::try_from(ask.skip).unwrap_or(0).checked_rem(order.len()).unwrap_or(0);
        order.rotate_left(skip);
        order.into_iter().cloned().collect()
    }

    fn named(&self, name: &str) -> Option<Arc<Model>> {
        self.matrix.find(name).and_then(|ix| self.matrix.model(ix)).cloned()
    }

    /// What a call uses whose answer has so many bytes; its cost is noted.
    fn charge(&self, call: &Call, model: &Model, bytes: usize) -> Usage {
        let output = u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX);
        let (input, output) = call.usage.unwrap_or((self.input, output));
        let usage = Usage { input, output, ..Usage::default() };
        let mut s = self.state();
        s.cost = s.cost.plus(model.price.map_or(Usd::ZERO, |p| p.cost(&usage)));
        usage
    }

    /// An answer that comes in pieces, from its first text on.
    async fn streamed(&self, call: &Call, all: &[Piece], model: Arc<Model>) -> Result<Generated, Failure> {
        let usage = self.charge(call, &model, pieces::text(all).len());
        let mut rest = pieces::flow(all.iter().cloned().collect(), self.clock.clone(), model.clone(), usage);
        match rest.next().await {
            Some(Ok(first)) => {
                Ok(Generated::Stream { model, head: vec![first], rest, served: workflows::Served::default() })
            }
            Some(Err(e)) => Err(e.into()),
            None => Err(Failure::nobody("an empty stream")),
        }
    }

    /// The answers of the file that are for a call of a tool.
    fn fits(&self, ask: &ToolAsk) -> Result<Vec<usize>, String> {
        let scope = policies::language().scope(None, vec![(ARGS.to_owned(), ask.args.clone())]);
        let mut fits = Vec::new();
        for (i, tool) in self.tools.iter().enumerate().filter(|(_, t)| *t.tool == *ask.tool) {
            let holds = tool.when.as_ref().map_or(Ok(true), |when| when.eval_bool(&scope));
            let why = |e| format!("`when` of the result at line {} for `{}`: {e}", tool.line, tool.tool);
            if holds.map_err(why)? {
                fits.push(i);
            }
        }
        Ok(fits)
    }

    /// One call: what the file has for it, from the model that it names, or else from the one whose turn it is.
    async fn attempt(
        &self,
        call: &Call,
        ask: &Ask,
        models: &[Arc<Model>],
        tries: u32,
    ) -> Result<Generated, Failure> {
        let nobody = matches!(&call.reply, Reply::Error(fault) if fault.kind == NO_CANDIDATE);
        let elsewhere = ask.retry.as_ref().is_none_or(|r| r.reroute);
        let turn = if elsewhere { tries.saturating_sub(1) } else { 0 };
        let turn = usize::try_from(turn).unwrap_or(0).min(models.len().saturating_sub(1));
        let model = match &call.model {
            _ if nobody => None,
            Some(name) => self.named(name),
            None => models.get(turn).cloned(),
        };
        if model.is_none() && !nobody {
            let name = call.model.as_deref().unwrap_or("any");
            self.state().surprises.push(format!("`{}`: the matrix has no model `{name}`", ask.node()));
            return Err(Failure::nobody("no such model"));
        }
        self.state().made += 1;
        self.clock.sleep(call.latency.max(Duration::from_millis(1))).await;
        let Some(model) = model else { return Err(Failure::nobody("as the test says")) };
        match &call.reply {
            Reply::Stream(all) if ask.stream => self.streamed(call, all, model).await,
            Reply::Stream(all) => {
                self.clock.sleep(pieces::time(all)).await;
                self.answer(call, &model)
            }
            _ => self.answer(call, &model),
        }
    }

    fn answer(&self, call: &Call, model: &Arc<Model>) -> Result<Generated, Failure> {
        let mut choice = Choice { finish_reason: Some(FinishReason::Stop), ..Choice::default() };
        match &call.reply {
            Reply::Error(fault) => {
                return Err(Error::new(error_kind(&fault.kind), model, "as the test says").into());
            }
            Reply::Text(text) => choice.text.clone_from(text),
            Reply::Stream(all) => {
                if let Some(kind) = pieces::broken(all) {
                    return Err(Error::new(error_kind(kind), model, "as the test says").into());
                }
                choice.text = pieces::text(all);
            }
            Reply::ToolCalls(calls) => {
                let tool = |(i, (name, arguments)): (usize, &(String, String))| ToolCall {
                    id: format!("call_{i}"),
                    name: name.clone(),
                    arguments: arguments.clone(),
                    ..ToolCall::default()
                };
                choice.tool_calls = calls.iter().enumerate().map(tool).collect();
                choice.finish_reason = Some(FinishReason::ToolCalls);
            }
        }
        let usage = self.charge(call, model, choice.text.len());
        let completion = Completion {
            id: "test".to_owned(),
            created: 0,
            model: model.upstream_name.clone(),
            choices: vec![choice],
            usage,
            ..Completion::default()
        };
        Ok(Generated::whole(completion, model.clone()))
    }
}

impl World for Stage {
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>> {
        Box::pin(async move {
            let frame = ask.node().to_string();
            if self.lacking.contains(&Seen::plain(&frame)) {
                return Err(Failure::nobody(format!("no model is left for node `{frame}`")));
            }
            let Some(mut call) = self.next(&frame).or_else(|| self.stub(&ask)) else {
                let mut s = self.state();
                s.made = s.made.saturating_add(1);
                s.surprises.push(format!(
                    "`{frame}` asked a model ({}), and the test has no reply for it",
                    ask.purpose
                ));
                return Err(Failure::nobody("the test has no reply"));
            };
            let own = ask.timeout.map(|most| self.clock.now() + most);
            let until = [own, ask.deadline].into_iter().flatten().min();
            let models = self.models(&ask);
            for tries in 1.. {
                let failure = match self.attempt(&call, &ask, &models, tries).await {
                    Ok(generated) => return Ok(generated),
                    Err(failure) => failure,
                };
                let wait = again(&call.reply, &ask, tries, models.len());
                let in_time = |wait: &Duration| until.is_none_or(|until| self.clock.now() + *wait < until);
                let ends_before =
                    |end: tokio::time::Instant| wait.is_some_and(|wait| self.clock.now() + wait >= end);
                if ask.deadline.is_some_and(ends_before) {
                    return Err(failure.without_time());
                }
                let Some(wait) = wait.filter(in_time).filter(|_| self.place(&frame).is_some()) else {
                    return Err(failure);
                };
                let Ok(taken) = ask.budget.take() else { return Err(failure) };
                taken.made();
                match self.next(&frame) {
                    Some(next) => call = next,
                    None => return Err(failure),
                }
                self.clock.sleep(wait).await;
            }
            Err(Failure::nobody("the test has no reply"))
        })
    }

    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        self.specs.iter().find(|t| *t.name == *name).cloned()
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(async move {
            self.clock.sleep(Duration::from_millis(1)).await;
            let mut s = self.state();
            if self.stubs.is_some() {
                return Ok(ToolReply { result: stub::result(&ask.tool), is_error: false });
            }
            let named = match self.fits(&ask) {
                Ok(named) => named,
                Err(why) => {
                    s.surprises.push(why);
                    return Err(ToolFailure::Failed("the test cannot tell its result".to_owned()));
                }
            };
            let free = |i: &usize| !s.tools_used.get(*i).copied().unwrap_or(true);
            // The last one that fits answers every further call.
            let Some(at) = named.iter().find(|i| free(i)).or(named.last()).copied() else {
                s.surprises
                    .push(format!("the tool `{}` was called, and the test has no result for it", ask.tool));
                return Err(ToolFailure::Unknown(ask.tool.to_string()));
            };
            if let Some(u) = s.tools_used.get_mut(at) {
                *u = true;
            }
            match self.tools.get(at).map(|t| t.reply.clone()) {
                Some(Ok(result)) => Ok(ToolReply { result, is_error: false }),
                Some(Err(why)) => Err(ToolFailure::Failed(why)),
                None => Err(ToolFailure::Unknown(ask.tool.to_string())),
            }
        })
    }

    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            if let Some(own) = &ask.own {
                // Where time is simulated it takes none.
                return own.run();
            }
            self.clock.sleep(Duration::from_millis(1)).await;
            let text = ask.completion.text();
            let fits =
                |v: &&Forced| v.name == *ask.check && v.when.as_deref().is_none_or(|w| text.contains(w));
            // As where nothing outside is there to ask.
            let nothing = || Report {
                verdict: Verdict::Unverified,
                reason: Some(format!("the test says nothing of `{}`", ask.check)),
                findings: Vec::new(),
            };
            match self.validators.iter().find(fits) {
                Some(forced) => forced.report.clone(),
                // Nothing outside is needed to run it.
                None if *ask.check == *"script" => script_now(&self.policies, &ask),
                None => nothing(),
            }
        })
    }

    fn wait(&self, _: EffectId, until: Instant) -> BoxFuture<'_, ()> {
        Box::pin(self.clock.sleep_until(until))
    }

    fn now(&self, _: &Moment<'_>) -> Instant {
        self.clock.now()
    }
}
