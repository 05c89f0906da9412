//! A run: one request through one workflow.

use crate::ending::{Ending, Input, RunFailure};
use crate::load::of_directive;
use crate::node::Kind;
use crate::plan::Workflow;
use crate::seam::{Ask, Failure, Generated, Models};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::time::Instant;
use types::completion::Accumulator;
use types::matrix::Model;
use types::provider::Edits;
use types::{Completion, UnitInterval, Verdict};
use validators::{Check, Checked};

mod live;
mod scope;
mod state;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use state::{Row, RowId, State};

/// A model's answer within a run.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) completion: Completion,
    pub(crate) model: Arc<Model>,
    /// Milliseconds that it took.
    pub(crate) ms: f64,
}

/// What a node that waits has produced.
pub(crate) enum Produced {
    Answers(Vec<Answer>),
    Repaired(Box<crate::node::repair::Repaired>),
    Scores(Vec<(RowId, f64)>),
}

/// Runs a workflow. Dropping the future drops every call under way; what happened until then is in the
/// trace.
pub async fn run(workflow: &Arc<Workflow>, input: Input, models: &dyn Models) -> Ending {
    let extras: Result<Vec<_>, String> =
        input.extra_validators.iter().map(|set| of_directive(&set.value)).collect();
    let extras = match extras {
        Ok(lists) => lists.into_iter().flatten().collect(),
        Err(why) => {
            let message = format!("a validator that a policy demands cannot be built: {why}");
            return Ending::Failed(RunFailure::new("policy", "evaluation_failed", 500, message));
        }
    };
    let host = Host {
        workflow,
        input: &input,
        extras,
        models,
        calls: AtomicU32::new(0),
        tokens: AtomicU64::new(0),
        started: Instant::now(),
    };
    let (chain, mode) = live::decide(&host);
    input.trace.with(|run| {
        run.workflow.clone_from(&workflow.name);
        run.plan_hash.clone_from(&workflow.plan_hash);
        run.stream_mode = mode;
    });
    let mut first = None;
    if let (Some(chain), Some(sink)) = (chain, &input.sink) {
        match live::run(&host, chain, sink).await {
            live::Live::Ended(ending) => return *ending,
            live::Live::Instead(result) => first = Some((chain.generate, result)),
        }
    }
    match walk::walk(&host, first).await {
        walk::End::Delivered(row) => deliver(&host, row),
        walk::End::Failed(f) => {
            input.trace.with(|run| {
                run.verdict = if f.findings.is_empty() { Verdict::None } else { Verdict::Failed }
            });
            Ending::Failed(f)
        }
    }
}

fn deliver(host: &Host<'_>, row: Row) -> Ending {
    let verdict = row.verdict;
    host.input.trace.with(|run| {
        run.verdict = verdict;
        run.served_by = Some(row.model.id.clone());
        run.judge = row.judge.map(UnitInterval::clamped);
    });
    Ending::Delivered { completion: Arc::unwrap_or_clone(row.completion), model: row.model, verdict }
}

/// What the nodes of one run share.
pub(crate) struct Host<'a> {
    pub(crate) workflow: &'a Workflow,
    pub(crate) input: &'a Input,
    /// Checks that policies demand.
    pub(crate) extras: Vec<Arc<dyn Check>>,
    models: &'a dyn Models,
    calls: AtomicU32,
    tokens: AtomicU64,
    pub(crate) started: Instant,
}

impl Host<'_> {
    /// Milliseconds since the run started.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        self.started.elapsed().as_secs_f64() * 1e3
    }

    /// When the run must start to finish; `None` where the workflow sets no time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let limits = &self.workflow.limits;
        let wall = limits.wall?;
        // A reserve as long as the whole run would leave nothing of it.
        let reserve = if limits.finish_reserve < wall / 2 { limits.finish_reserve } else { wall / 2 };
        Some(self.started + wall.saturating_sub(reserve))
    }

    /// Asks for one call, within the workflow's own limits.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Generated, Failure> {
        let limits = &self.workflow.limits;
        if self.calls.fetch_add(1, Ordering::Relaxed) >= limits.calls {
            return Err(Failure::Budget("calls"));
        }
        if limits.tokens.is_some_and(|t| self.tokens.load(Ordering::Relaxed) >= u64::from(t)) {
            return Err(Failure::Budget("tokens"));
        }
        self.models.generate(ask).await
    }

    /// Counts what a call used.
    pub(crate) fn spent(&self, completion: &Completion) {
        let used = u64::from(completion.usage.input).saturating_add(u64::from(completion.usage.output));
        self.tokens.fetch_add(used, Ordering::Relaxed);
    }

    /// One whole answer.
    pub(crate) async fn call(&self, ask: Ask) -> Result<Answer, Failure> {
        let started = Instant::now();
        let (completion, model) = match self.ask(ask).await? {
            Generated::Whole { completion, model } => (completion, model),
            Generated::Stream { model, head, mut rest } => {
                let mut all = Accumulator::default();
                head.iter().for_each(|c| all.push(c));
                while let Some(chunk) = rest.next().await {
                    all.push(&chunk?);
                }
                (all.finish(), model)
            }
        };
        self.spent(&completion);
        Ok(Answer { completion, model, ms: started.elapsed().as_secs_f64() * 1e3 })
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

    /// The checks of a `validate` or `repair` node, those that policies demand included.
    pub(crate) fn checks(&self, position: usize) -> Vec<Arc<dyn Check>> {
        let nodes = &self.workflow.nodes;
        let (list, last) = match nodes.get(position).map(|n| &n.kind) {
            Some(Kind::Validate(v)) => (v.checks.list.as_slice(), v.last),
            Some(Kind::Repair(r)) => match (&r.checks, r.from.and_then(|f| nodes.get(f)).map(|n| &n.kind)) {
                (Some(own), _) => (own.list.as_slice(), false),
                (None, Some(Kind::Validate(v))) => (v.checks.list.as_slice(), v.last),
                _ => (&[] as &[_], false),
            },
            _ => (&[] as &[_], false),
        };
        let extras = if last { self.extras.as_slice() } else { &[] };
        list.iter().chain(extras).cloned().collect()
    }

    /// Whether the checks of that node include those that policies demand.
    pub(crate) fn has_extras(&self, position: usize) -> bool {
        let nodes = &self.workflow.nodes;
        let last = |i: usize| matches!(nodes.get(i).map(|n| &n.kind), Some(Kind::Validate(v)) if v.last);
        match nodes.get(position).map(|n| &n.kind) {
            Some(Kind::Repair(r)) => r.checks.is_none() && r.from.is_some_and(last),
            _ => last(position),
        }
    }

    pub(crate) fn check(&self, checks: &[Arc<dyn Check>], completion: &Completion) -> Checked {
        validators::run(checks, &validators::Input::new(completion, &self.input.request))
    }

    /// Notes which limit cut the run short; the first one stays.
    pub(crate) fn exhausted(&self, failure: &Failure) {
        let kind = match failure {
            Failure::Budget(kind) => kind,
            Failure::Deadline => "wall",
            Failure::Provider(_) | Failure::NoCandidate(_) => return,
        };
        self.input.trace.with(|run| {
            run.exhausted.get_or_insert_with(|| kind.to_owned());
        });
    }
}
