//! What a run is made of: decided when it starts, read from its journal whenever it goes on.

use super::again::last_anew;
use super::beside;
use super::bounds::Bounds;
use super::keeper::Keeper;
use super::submission::{Given, Submission, Tools, write_scope};
use super::{Service, plan, version};
use crate::caps;
use crate::decide::Decided;
use crate::error::{Error, Kind};
use crate::failed::Halt;
use crate::{View, respond, route};
use serde::Deserialize as _;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use types::runs::{Authored, Chosen, Entry, Head, JOURNAL, JOURNAL_PAGE, Record, To};
use types::{ChatRequest, Decision};
use workflows::Workflow;

/// Why a run cannot be walked now.
pub(super) enum Unready {
    /// It has ended before it began.
    Failed(Box<Error>),
    /// The same, and its record says so.
    Recorded(Box<Error>),
    /// It is to be tried again after a while.
    Later(Duration),
    /// People have to agree first: how it is left until they have answered.
    Waits(Box<(Record, To)>),
    /// Nothing may be written any more.
    Lost,
}

impl From<Error> for Unready {
    fn from(error: Error) -> Self {
        match error.retryable() {
            true => Unready::Later(error.retry_after.unwrap_or(Duration::from_secs(1))),
            false => Unready::Failed(Box::new(error)),
        }
    }
}

impl From<types::runs::Error> for Unready {
    fn from(error: types::runs::Error) -> Self {
        tracing::warn!(%error, "the store of runs did not answer");
        Unready::Lost
    }
}

/// What a run is made of.
pub(super) struct Made {
    pub(super) request: Arc<ChatRequest>,
    pub(super) submission: Submission,
    pub(super) given: Given,
    pub(super) decision: Decision,
    pub(super) seed: u64,
    pub(super) workflow: Arc<Workflow>,
    pub(super) variant: Option<String>,
}

/// The whole journal of a run.
///
/// # Errors
/// The store failed.
pub(super) async fn journal(service: &Service, id: &str) -> Result<Vec<Entry>, types::runs::Error> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |e| e.seq);
        let page = service.store.journal(id, after, JOURNAL_PAGE).await?;
        let last = page.len() < JOURNAL_PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// How the run started and was decided, unless that is to be done anew.
pub(super) fn known(entries: &[Entry], decide: bool) -> Option<(&Record, &Decision)> {
    let from = if decide { last_anew(entries).unwrap_or(0) } else { 0 };
    let part = || entries.iter().skip(from).map(|e| &e.record).rev();
    let started = part().find(|r| matches!(r, Record::RunStarted { .. }))?;
    let decision = part().find_map(|r| match r {
        Record::Decision { decision } => Some(&**decision),
        _ => None,
    })?;
    Some((started, decision))
}

/// The same of a run that is to be walked again.
///
/// # Errors
/// The journal is of another version.
pub(super) fn walkable<'a>(
    id: &str,
    entries: &'a [Entry],
    decide: bool,
) -> Result<Option<(&'a Record, &'a Decision)>, Error> {
    version::check(id, entries)?;
    Ok(known(entries, decide))
}

/// Whether rules may keep the answer of a run from its client, as it was when the run started. What models said on the way
/// to it is not shown to clients then.
#[must_use]
pub fn is_judged(entries: &[Entry]) -> bool {
    entries.iter().any(|e| match &e.record {
        Record::RunStarted { input, .. } => input.get("judged").is_some_and(|judged| judged == true),
        _ => false,
    })
}

/// What a run that has not started yet is to run, as it was decided.
///
/// # Errors
/// Why it does not start.
pub(super) fn choice(view: &View, decided: &Decided) -> Result<route::Chosen, Error> {
    let Decided { profiled, scope, directives, demands, chosen, .. } = decided;
    let bound = || bound_to_requests(view, &profiled.request, scope, directives, demands.as_deref());
    match chosen {
        Ok(chosen) => bound().map_or_else(|| Ok(chosen.clone()), Err),
        Err(error) => Err(error.clone()),
    }
}

/// A run that has not started yet: pinned to the plan of now.
pub(super) async fn first(
    service: &Service,
    view: &View,
    submission: Submission,
    (decided, chosen): (Decided, route::Chosen),
    keeper: &mut Keeper,
    ts_ms: i64,
) -> Result<Made, Unready> {
    let Decided { profiled, scope, history, directives, seed, decision, ceiling, approval, .. } = decided;
    let request = profiled.request;
    let route::Chosen { workflow, candidates, cap } = chosen;
    if let Some(id) = &approval {
        service.engine.0.approvals.use_up(id, &decision.tenant)?;
    }
    let walls = [
        submission.wall_ms.map(Duration::from_millis),
        request.options.max_latency,
        directives.cap_latency.as_ref().map(|s| s.value),
        workflow.limits.wall.or_else(|| submission.usual_wall_ms.map(Duration::from_millis)),
    ];
    let wall = walls.into_iter().flatten().min().unwrap_or(service.config.wall);
    let validators = directives.validators.iter().map(|s| (s.rule.to_string(), s.value.clone())).collect();
    let given = Given {
        scope: write_scope(&scope, &view.bundle.language)?,
        candidates: candidates.write(view.bundle.matrix()),
        cap: [cap, submission.usd].into_iter().flatten().min(),
        ceiling: [ceiling, submission.usd].into_iter().flatten().min(),
        bounds: Bounds::of(&directives, view.bundle.matrix()),
        validators,
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        request: (*request.body() != *submission.body.as_bytes())
            .then(|| String::from_utf8_lossy(request.body()).into_owned()),
        tools: Tools::of(directives.further.as_deref()),
        overrides: caps::overrides(&directives),
        shadow: beside::draw(directives.further.as_deref(), seed, view.bundle.matrix()),
        judged: view.bundle.policies.holds_back(&scope),
        history,
    };
    service.store.put_plan(&workflow.plan_hash, plan::write(&view.bundle, &workflow)).await?;
    keeper.choose(pinned_to(&workflow));
    keeper.note(Record::RunStarted {
        plan: workflow.plan_hash.clone(),
        workflow: workflow.name.clone(),
        bundle: view.bundle.hash().to_string(),
        seed,
        at_ms: ts_ms,
        input: serde_json::to_value(&given).unwrap_or(Value::Null),
        variant: None,
        journal: JOURNAL,
        version: version::OURS.to_owned(),
    });
    keeper.note(Record::Decision { decision: Box::new(decision.clone()) });
    tracing::debug!(run = decision.request_id, workflow = workflow.name, "a run starts");
    Ok(Made { request, submission, given, decision, seed, workflow, variant: None })
}

/// Why policies keep a request from becoming a run, which outlives this process and what is kept in its memory.
pub(crate) fn bound_to_requests(
    view: &View,
    request: &ChatRequest,
    scope: &types::expr::Scope,
    directives: &types::directives::Directives,
    demands: Option<&crate::demands::Demands>,
) -> Option<Error> {
    let further = directives.further.as_deref();
    let policies = &view.bundle.policies;
    // A run hands out calls of the client's tools while it goes on, before there is an answer to look at.
    let hands_out = || !request.tools.is_empty() && policies.holds_back(scope);
    let of_calls = || respond::looks_at_calls(view, request, further) || hands_out();
    let verb = demands.and_then(crate::demands::Demands::not_in_runs);
    let verb = verb.or_else(|| policies.not_in_runs(scope));
    let verb = verb.or_else(|| of_calls().then_some("rules about calls of its tools"));
    let reason = format!(
        "policies hold for this request that a run in the background cannot be held to ({}); send it to \
         /v1/chat/completions",
        verb?
    );
    Some(Kind::denied("not_in_runs", reason).into())
}

/// The plan that a run begins under from now on.
pub(super) fn pinned_to(workflow: &Workflow) -> Chosen {
    Chosen {
        workflow: workflow.name.clone(),
        plan: workflow.plan_hash.clone(),
        durability: workflow.durability,
        authored: authored(workflow),
    }
}

/// What its author says of a workflow.
pub(super) fn authored(workflow: &Workflow) -> Authored {
    Authored { revision: workflow.revision.clone(), labels: workflow.labels.iter().cloned().collect() }
}

/// A run that has started before: as it was decided then, under its pinned plan.
pub(super) fn again(
    head: &Head,
    workflow: Arc<Workflow>,
    submission: Submission,
    started: &Record,
    decision: &Decision,
) -> Result<Made, Unready> {
    let broken = |why: String| Unready::Failed(Box::new(Kind::Internal(why).into()));
    let Record::RunStarted { input, seed, variant, .. } = started else {
        return Err(broken("a run did not start".to_owned()));
    };
    let given: Given = serde_json::from_value(input.clone())
        .map_err(|e| broken(format!("what run {} was given cannot be read: {e}", head.id)))?;
    let request = Arc::new(as_given(&submission, &given)?);
    let (seed, variant) = (*seed, variant.clone());
    let decision = decision.clone();
    Ok(Made { request, submission, given, decision, seed, workflow, variant })
}

/// The request of a run that has started; `None` = it cannot be read any more.
pub(super) fn request(submission: &Submission, started: &Record) -> Option<ChatRequest> {
    let Record::RunStarted { input, .. } = started else { return None };
    as_given(submission, &Given::deserialize(input).ok()?).ok()
}

/// The request as policies left it.
fn as_given(submission: &Submission, given: &Given) -> Result<ChatRequest, Error> {
    match &given.request {
        None => submission.request(),
        Some(body) => submission.request_with(body),
    }
}

/// The plan that a run began under.
pub(super) async fn pinned(
    service: &Service,
    view: &View,
    head: &Head,
    started: &Record,
) -> Result<Arc<Workflow>, Unready> {
    let name = match started {
        Record::RunStarted { workflow, .. } if head.workflow.is_empty() => workflow,
        _ => &head.workflow,
    };
    let hash = head.plan.as_deref().unwrap_or_default();
    let found = plan::find(&*service.store, &view.bundle, name, hash).await?;
    found.ok_or_else(|| {
        let message = format!(
            "the plan that run {} is pinned to cannot be made any more: models, pools or tools that it names \
             are gone; resume it with the latest plan",
            head.id
        );
        let kind = Halt::PlanMissing.told(message);
        Unready::Failed(Box::new(kind.into()))
    })
}
