//! A run: one request through one workflow.

use crate::ending::{Ending, Input, RunFailure};
use crate::event::Event;
use crate::load::of_directive;
use crate::plan::Workflow;
use crate::world::{Failure, Moment, World};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use types::chat::Message;
use types::matrix::Model;
use types::provider::Edits;
use types::{Completion, UnitInterval, Verdict};
use validators::{Check, Checked};

mod at;
mod frame;
mod live;
mod table;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use at::At;
pub(crate) use frame::{Frame, Progress};
pub(crate) use table::{Origin, Row, RowId, Table};

/// A model's answer within a run.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) completion: Completion,
    pub(crate) model: Arc<Model>,
    /// Milliseconds that it took.
    pub(crate) ms: f64,
}

/// How a graph instance ends.
#[derive(Debug)]
pub(crate) enum End {
    /// With a completion for whoever waits for it.
    Delivered(RowId),
    Failed(RunFailure),
}

/// Runs a workflow. Dropping the future drops every call under way; what happened until then is in the
/// trace.
pub async fn run(workflow: Arc<Workflow>, input: Input, world: Arc<dyn World>) -> Ending {
    let extras: Result<Vec<_>, String> =
        input.extra_validators.iter().map(|set| of_directive(&set.value)).collect();
    let extras = match extras {
        Ok(lists) => lists.into_iter().flatten().collect(),
        Err(why) => {
            let message = format!("a validator that a policy demands cannot be built: {why}");
            return Ending::Failed(RunFailure::new("policy", "evaluation_failed", 500, message));
        }
    };
    let host = Host::new(workflow, input, extras, world);
    let (chain, mode) = live::decide(&host);
    host.input.trace.with(|run| {
        run.workflow.clone_from(&host.workflow.name);
        run.plan_hash.clone_from(&host.workflow.plan_hash);
        run.stream_mode = mode;
    });
    let root = Frame::root(&host.workflow.root);
    let mut first = None;
    if let (Some(chain), Some(sink)) = (chain, &host.input.sink) {
        match live::run(&host, &root, chain, sink).await {
            live::Live::Ended(ending) => return *ending,
            live::Live::Instead(result) => first = Some((chain.generate, result)),
        }
    }
    match walk::root(&host, &root, first).await {
        End::Delivered(id) => deliver(&host, id),
        End::Failed(f) => {
            host.input.trace.with(|run| {
                run.verdict = if f.findings.is_empty() { Verdict::None } else { Verdict::Failed }
            });
            Ending::Failed(f)
        }
    }
}

fn deliver(host: &Host, id: RowId) -> Ending {
    let Some(row) = host.table().row(id).cloned() else {
        return Ending::Failed(RunFailure::new("internal", "no_response", 500, "the answer is gone"));
    };
    host.input.trace.with(|run| {
        run.verdict = row.verdict;
        run.served_by = Some(row.model.id.clone());
        run.judge = row.judge.map(UnitInterval::clamped);
    });
    let completion = Arc::unwrap_or_clone(row.completion);
    Ending::Delivered { completion, model: row.model, verdict: row.verdict }
}

/// What the nodes of one run share, whichever graph instance they stand in.
pub(crate) struct Host {
    pub(crate) workflow: Arc<Workflow>,
    pub(crate) input: Input,
    /// Checks that policies demand.
    pub(crate) extras: Vec<Arc<dyn Check>>,
    pub(crate) world: Arc<dyn World>,
    calls: AtomicU32,
    tokens: AtomicU64,
    /// Nodes that may wait for something outside at the same time.
    slots: Semaphore,
    pub(crate) started: Instant,
    table: Mutex<Table>,
    messages: OnceLock<Arc<Vec<Message>>>,
}

impl Host {
    fn new(
        workflow: Arc<Workflow>,
        input: Input,
        extras: Vec<Arc<dyn Check>>,
        world: Arc<dyn World>,
    ) -> Self {
        let slots = Semaphore::new(usize::try_from(workflow.limits.parallel).unwrap_or(1));
        let started = world.now(&Moment { frame: "", what: "begin", index: 0, attempt: 1 });
        Host {
            workflow,
            input,
            extras,
            world,
            calls: AtomicU32::new(0),
            tokens: AtomicU64::new(0),
            slots,
            started,
            table: Mutex::default(),
            messages: OnceLock::new(),
        }
    }

    /// The completions of the run. The lock is short and never held across a wait.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        // Every write leaves the table consistent, so a panic elsewhere does not spoil it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time as the run sees it, in milliseconds since its start.
    pub(crate) fn ms(&self, moment: &Moment<'_>) -> f64 {
        self.world.now(moment).saturating_duration_since(self.started).as_secs_f64() * 1e3
    }

    /// When the run must start to finish; `None` where neither the workflow nor the request sets a time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limits = &self.workflow.limits;
        let given = self.input.deadline.map(|d| d.saturating_duration_since(self.started));
        let wall = [limits.wall, given].into_iter().flatten().min()?;
        // A reserve as long as the whole run would leave nothing of it.
        let reserve = if limits.finish_reserve < wall / 2 { limits.finish_reserve } else { wall / 2 };
        Some(self.started + wall.saturating_sub(reserve))
    }

    /// Takes one of the calls that the run may make.
    fn admit(&self) -> Result<(), Failure> {
        let limits = &self.workflow.limits;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= limits.calls {
            return Err(Failure::Budget("calls"));
        }
        if limits.tokens.is_some_and(|t| self.tokens.load(Ordering::Relaxed) >= u64::from(t)) {
            return Err(Failure::Budget("tokens"));
        }
        Ok(())
    }

    /// Counts what a call used.
    pub(crate) fn spent(&self, completion: &Completion) {
        let used = u64::from(completion.usage.input).saturating_add(u64::from(completion.usage.output));
        self.tokens.fetch_add(used, Ordering::Relaxed);
    }

    /// Messages of the request, shared.
    pub(crate) fn messages(&self) -> Arc<Vec<Message>> {
        self.messages.get_or_init(|| Arc::new(self.input.request.messages.clone())).clone()
    }

    /// The file's constants.
    pub(crate) fn vars(&self) -> &serde_json::Value {
        &self.workflow.vars
    }

    /// One of them.
    pub(crate) fn var(&self, name: &str) -> Option<&serde_json::Value> {
        self.vars().get(name)
    }

    /// What a node changes in the request, under the ceilings that hold for every call.
    pub(crate) fn edits(&self, own: &Edits) -> Edits {
        let base = &self.input.edits;
        let lower = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Edits {
            messages: own.messages.clone().or_else(|| base.messages.clone()),
            response_format: own.response_format.clone().or_else(|| base.response_format.clone()),
            temperature: lower(own.temperature, base.temperature),
            top_p: own.top_p.or(base.top_p),
            max_tokens: match (own.max_tokens, base.max_tokens) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            seed: own.seed.or(base.seed),
            without_tools: own.without_tools || base.without_tools,
        }
    }

    pub(crate) fn check(&self, checks: &[Arc<dyn Check>], completion: &Completion) -> Checked {
        validators::run(checks, &validators::Input::new(completion, &self.input.request))
    }

    /// Tells whoever watches; the event is made only if someone does.
    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.input.observer {
            observer.event(&event());
        }
    }

    /// Notes which limit cut the run short; the first one stays.
    pub(crate) fn exhausted(&self, failure: &Failure) {
        let kind = match failure {
            Failure::Budget(kind) => kind,
            Failure::Deadline => "wall",
            Failure::Provider(_) | Failure::NoCandidate(_) => return,
        };
        self.tell(|| Event::Exhausted { kind: kind.to_owned() });
        self.input.trace.with(|run| {
            run.exhausted.get_or_insert_with(|| kind.to_owned());
        });
    }
}
