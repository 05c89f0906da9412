//! What can be asked of runs, and the worker that walks them.

use super::submission::Submission;
use super::walk;
use super::{drive, end, plan};
use crate::error;
use crate::who::Who;
use crate::{Background, Engine};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;
use types::doc::SourceFile;
use types::runs::{
    Created, Durability, Entry, Error, Filter, Fork, Head, Key, NewRun, Page, PlanChoice, Post, Record, Row,
    RunStore, State, Told, Webhook,
};

/// Finds who a tenant's principal is now; `None` = it may not use the server any more.
pub type People = Arc<dyn Fn(&str, &str) -> Option<Arc<Who>> + Send + Sync>;

/// Settings of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Runs walked at once. Default 16.
    pub parallel: usize,
    /// Longest time a run may run where neither its workflow nor its client says less. Default one hour.
    pub wall: Duration,
    /// Longest time from asking to end, waiting included. Default 7 days.
    pub lifetime: Duration,
    /// How long runs that have ended are kept. Default 30 days.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 24 * 3_600);
        Config { parallel: 16, wall: Duration::from_secs(3_600), lifetime: days(7), keep: days(30) }
    }
}

/// What runs are made of.
pub struct Setup {
    /// Decides and calls.
    pub engine: Engine,
    /// Keeps them.
    pub store: Arc<dyn RunStore>,
    /// Knows who asks.
    pub people: People,
    /// Starts the worker and each walk; the caller counts them and waits for them when it stops.
    pub start: Background,
    /// Settings.
    pub config: Config,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store of runs.
    #[error(transparent)]
    Runs(#[from] Error),
    /// The engine.
    #[error(transparent)]
    Engine(Box<error::Error>),
    /// What was asked makes no sense for this run.
    #[error("{message}")]
    Invalid {
        /// The member at fault.
        param: String,
        /// What is wrong with it.
        message: String,
    },
    /// The run is not in a state for it.
    #[error("{message}")]
    Conflict {
        /// Machine-readable.
        code: &'static str,
        /// For the client.
        message: String,
        /// More to it, such as the nodes that have changed.
        details: Value,
    },
    /// Somebody else has to do this.
    #[error("{0}")]
    Forbidden(String),
}

impl From<walk::Unready> for Failure {
    fn from(unready: walk::Unready) -> Self {
        match unready {
            walk::Unready::Failed(error) => Failure::Engine(error),
            walk::Unready::Later(_) | walk::Unready::Lost => {
                Failure::Engine(Box::new(error::Kind::Overloaded.into()))
            }
        }
    }
}

/// Durable runs: a cheap handle.
#[derive(Clone)]
pub struct Runs(pub(super) Arc<Service>);

pub(crate) struct Service {
    pub(super) engine: Engine,
    pub(super) store: Arc<dyn RunStore>,
    pub(super) people: People,
    pub(super) start: Background,
    pub(super) config: Config,
    /// Bumped whenever something of some run has changed.
    pub(super) changed: Arc<watch::Sender<u64>>,
    pub(super) stop: watch::Sender<bool>,
    owner: String,
    walking: AtomicUsize,
}

impl Service {
    /// The time, for questions that lapse.
    pub(super) fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn touch(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Identifier for the run.
    pub id: String,
    /// Who asks.
    pub who: Arc<Who>,
    /// The workflow, where it is named; empty = it is chosen when the run starts.
    pub workflow: String,
    /// What is asked.
    pub submission: Submission,
    /// The client's words on it.
    pub labels: BTreeMap<String, String>,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// The key under which asking again gives the same run.
    pub key: Option<Key>,
}

/// What a fork changes.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Another request body.
    pub body: Option<String>,
    /// Other values for the workflow's own variables.
    pub vars: Map<String, Value>,
    /// The plan in force instead of the pinned one.
    pub latest: bool,
}

/// A person's word on a gate.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Approved, or else rejected.
    pub approved: bool,
    /// Why.
    pub comment: Option<String>,
    /// Of what was shown: a decision holds for that only.
    pub content_hash: String,
}

/// How a repetition went.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Replay {
    /// Everything came again, and the result is the same to the byte.
    pub same: bool,
    /// The first record that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<super::Divergence>,
    /// Effects that are not on record and would have to be asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_call: Vec<String>,
    /// Records compared.
    pub records: u64,
    /// The result of the repetition, if it came to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// How often the worker looks for runs that became due by themselves.
const LOOK: Duration = Duration::from_secs(1);
/// How often what is too old is forgotten.
const SWEEP: Duration = Duration::from_secs(600);
/// Most that is forgotten at once.
const SWEEP_MOST: usize = 500;

impl Runs {
    /// Runs without a worker yet. `owner` names this process; another one must have another name.
    #[must_use]
    pub fn new(setup: Setup, owner: String) -> Self {
        let Setup { engine, store, people, start, config } = setup;
        Runs(Arc::new(Service {
            engine,
            store,
            people,
            start,
            config,
            changed: Arc::new(watch::channel(0).0),
            stop: watch::channel(false).0,
            owner,
            walking: AtomicUsize::new(0),
        }))
    }

    /// Starts the worker.
    pub fn work(&self) {
        let service = self.0.clone();
        (self.0.start)("runs", Box::pin(work(service)));
    }

    /// Lets go of every run, for others to go on with; nothing is taken any more. What still has to be written is
    /// written by the tasks that were started.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Changes whenever something of some run has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Takes a run. It is on the disk when this returns.
    ///
    /// # Errors
    /// The key came with another body; the store failed; the request is none.
    pub async fn submit(&self, wish: Wish) -> Result<Created, Failure> {
        let Wish { id, who, workflow, submission, labels, callback_url, key } = wish;
        if *self.0.stop.borrow() {
            return Err(Failure::Engine(Box::new(error::Kind::ShuttingDown.into())));
        }
        submission.request().map_err(|e| Failure::Engine(Box::new(e)))?;
        let new = NewRun {
            id,
            tenant: who.principal.tenant.id.clone(),
            principal: principal(&who),
            workflow,
            durability: Durability::Sync,
            labels,
            submission: json!(submission),
            callback_url,
            lifetime: self.0.config.lifetime,
            key,
            fork: None,
            records: Vec::new(),
        };
        let created = self.0.store.create(new).await?;
        self.0.touch();
        Ok(created)
    }

    /// A run of a tenant.
    ///
    /// # Errors
    /// It is not there; the store failed.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Row, Failure> {
        let row = self.0.store.get(tenant, id).await?;
        row.ok_or_else(|| Error::Unknown(id.to_owned()).into())
    }

    /// Runs of a tenant.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self, filter: Filter) -> Result<Page, Failure> {
        Ok(self.0.store.list(filter).await?)
    }

    /// Records of a run after a sequence number; whoever asks has looked whose run it is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn journal(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Entry>, Failure> {
        Ok(self.0.store.journal(id, after, limit).await?)
    }

    /// The whole journal of a run; whoever asks has looked whose run it is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn whole_journal(&self, id: &str) -> Result<Vec<Entry>, Failure> {
        Ok(walk::journal(&self.0, id).await?)
    }

    /// Asks for a run's end.
    ///
    /// # Errors
    /// It is not there; the store failed.
    pub async fn cancel(&self, tenant: &str, id: &str, why: &str) -> Result<Head, Failure> {
        let head = self.0.store.cancel(tenant, id, why).await?;
        self.0.touch();
        Ok(head)
    }

    /// Forgets a run that has ended.
    ///
    /// # Errors
    /// It is not there, or has not ended; the store failed.
    pub async fn delete(&self, tenant: &str, id: &str) -> Result<(), Failure> {
        Ok(self.0.store.delete(tenant, id).await?)
    }

    /// Ends of runs that are due to be told to somebody; each has to be followed by [`Runs::told`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn webhooks(&self, limit: usize) -> Result<Vec<Webhook>, Failure> {
        Ok(self.0.store.webhooks(limit).await?)
    }

    /// What became of a try.
    ///
    /// # Errors
    /// The store failed.
    pub async fn told(&self, webhook_id: &str, told: Told) -> Result<(), Failure> {
        Ok(self.0.store.told(webhook_id, told).await?)
    }

    /// Decides a gate.
    ///
    /// # Errors
    /// The run does not wait there; what was shown has changed; somebody else has to decide.
    pub async fn decide(&self, who: &Who, id: &str, frame: &str, said: Decided) -> Result<Head, Failure> {
        let tenant = &who.principal.tenant.id;
        let row = self.get(tenant, id).await?;
        let question = question(&row, "decision", |q| text(q, "frame") == frame)?;
        let shown = text(&question, "content_hash");
        if shown != said.content_hash {
            return Err(Failure::Conflict {
                code: "content_changed",
                message: "the decision is about something else than is shown; look again".to_owned(),
                details: json!({"content_hash": shown}),
            });
        }
        self.may_decide(who, &row.head, &question)?;
        let decision = if said.approved { "approved" } else { "rejected" };
        let body = json!({"decision": decision, "comment": said.comment, "by": principal(who)});
        let key = text(&question, "key").to_owned();
        self.post(tenant, id, vec![Post { key, body }]).await
    }

    fn may_decide(&self, who: &Who, head: &Head, question: &Value) -> Result<(), Failure> {
        // Without keys everybody is the same.
        let Some(key) = &who.principal.key else { return Ok(()) };
        let self_approval = question.get("self_approval").and_then(Value::as_bool).unwrap_or(false);
        if !self_approval && principal(who) == head.principal {
            let text = "whoever started this run may not decide about it as well";
            return Err(Failure::Forbidden(text.to_owned()));
        }
        let groups: Vec<&str> = list(question, "approvers").iter().filter_map(Value::as_str).collect();
        let view = self.0.engine.0.view.load();
        let known = view.bundle.policies.approvers();
        let user = key.labels.get("user").map(|u| format!("user:{u}"));
        let own = [Some(format!("key:{}", key.id)), user];
        let is_in = |group: &&str| {
            known.get(*group).is_some_and(|members| own.iter().flatten().any(|me| members.contains(me)))
        };
        if groups.is_empty() || groups.iter().any(is_in) {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("only members of {} may decide this", groups.join(", "))))
    }

    /// Says what became of a call that may or may not have taken effect.
    ///
    /// # Errors
    /// The run has no such doubt.
    pub async fn settle_doubt(
        &self,
        tenant: &str,
        id: &str,
        effect: &str,
        choice: &str,
        result: Value,
    ) -> Result<Head, Failure> {
        let row = self.get(tenant, id).await?;
        let question = question(&row, "attention", |q| text(q, "effect") == effect)?;
        let key = text(&question, "key").to_owned();
        let body = json!({"choice": choice, "result": result});
        self.post(tenant, id, vec![Post { key, body }]).await
    }

    /// Gives results of the client's own tools.
    ///
    /// # Errors
    /// The run does not wait for them.
    pub async fn tool_outputs(
        &self,
        tenant: &str,
        id: &str,
        outputs: Vec<(String, Value)>,
    ) -> Result<Head, Failure> {
        let row = self.get(tenant, id).await?;
        let waited = question(&row, "client_tools", |_| true)?;
        let calls: Vec<&str> = list(&waited, "tool_calls").iter().map(|c| text(c, "id")).collect();
        if let Some((odd, _)) = outputs.iter().find(|(call, _)| !calls.contains(&call.as_str())) {
            return Err(Failure::Invalid {
                param: "tool_outputs".to_owned(),
                message: format!("the run waits for no call `{odd}`; it waits for {}", calls.join(", ")),
            });
        }
        let post = |(call, output)| Post { key: format!("tool:{call}"), body: json!({"output": output}) };
        self.post(tenant, id, outputs.into_iter().map(post).collect()).await
    }

    async fn post(&self, tenant: &str, id: &str, posts: Vec<Post>) -> Result<Head, Failure> {
        let head = self.0.store.post(tenant, id, posts).await?;
        self.0.touch();
        Ok(head)
    }

    /// Lets a failed or waiting run go on: under its pinned plan, or under the one in force where nothing that
    /// has resolved is different in it. Calls that failed are made again.
    ///
    /// # Errors
    /// The run's state does not allow it, or the new plan does not: [`Failure::Conflict`] names the nodes.
    pub async fn resume(&self, tenant: &str, id: &str, choice: PlanChoice) -> Result<Head, Failure> {
        let row = self.get(tenant, id).await?;
        let entries = self.whole_journal(id).await?;
        let chosen = match choice {
            PlanChoice::Pinned => None,
            PlanChoice::Latest => Some(self.latest(&row.head, &entries).await?),
        };
        let anew = choice == PlanChoice::Latest || row.head.state == State::Failed;
        let resumed = Record::Resumed {
            why: "asked".to_owned(),
            plan: choice,
            posts: Vec::new(),
            anew,
            retry: if anew { failures(&entries) } else { Vec::new() },
        };
        let head = self.0.store.reopen(tenant, id, resumed, chosen).await?;
        self.0.touch();
        Ok(head)
    }

    /// The plan in force for a run, where what has resolved is the same in it.
    async fn latest(&self, head: &Head, entries: &[Entry]) -> Result<types::runs::Chosen, Failure> {
        let view = self.0.engine.0.view.load_full();
        let changed = |message: String, nodes: Vec<Value>| Failure::Conflict {
            code: "plan_changed",
            message,
            details: json!({"nodes": nodes}),
        };
        let Some(workflow) = view.bundle.library.get(&head.workflow).cloned() else {
            return Err(changed(format!("the workflow `{}` is gone", head.workflow), Vec::new()));
        };
        let kept = match &head.plan {
            Some(hash) => self.0.store.plan(hash).await?,
            None => None,
        };
        let (then, now) = (kept.as_ref().map(plan::nodes).unwrap_or_default(), workflow.node_hashes());
        let different: Vec<Value> = resolved(entries)
            .into_iter()
            .filter(|node| then.get(node) != now.get(node))
            .map(|node| json!({"node": node, "change": if now.contains_key(&node) { "changed" } else { "removed" }}))
            .collect();
        if !different.is_empty() {
            let names: Vec<&str> = different.iter().map(|d| text(d, "node")).collect();
            let text =
                format!("nodes that have resolved are different in the plan in force: {}", names.join(", "));
            return Err(changed(text, different));
        }
        self.0.store.put_plan(&workflow.plan_hash, plan::write(&view.bundle, &workflow)).await?;
        Ok(walk::chosen(&workflow))
    }

    /// Makes a new run that begins with what another one did up to the end of a node instance.
    ///
    /// # Errors
    /// That instance has not resolved; the store failed.
    pub async fn fork(
        &self,
        who: &Who,
        (id, new_id): (&str, String),
        after: &str,
        overrides: Overrides,
    ) -> Result<Head, Failure> {
        let tenant = who.principal.tenant.id.clone();
        let row = self.get(&tenant, id).await?;
        let entries = self.whole_journal(id).await?;
        let resolved = |e: &&Entry| matches!(&e.record, Record::NodeResolved { frame, .. } if frame == after);
        let Some(up_to) = entries.iter().rev().find(resolved).map(|e| e.seq) else {
            let message =
                format!("`{after}` has not resolved in run `{id}`; GET /v1/runs/{id}/trace lists what has");
            return Err(Failure::Invalid { param: "after".to_owned(), message });
        };
        let mut submission: Submission =
            serde_json::from_value(row.submission).map_err(|e| internal(e.to_string()))?;
        submission.decide = overrides.body.is_some() || overrides.latest;
        if let Some(body) = overrides.body {
            submission.body = body;
        }
        submission.vars.extend(overrides.vars);
        submission.request().map_err(|e| Failure::Engine(Box::new(e)))?;
        let plan = if overrides.latest { PlanChoice::Latest } else { PlanChoice::Pinned };
        let forked = Record::Resumed {
            why: "forked".to_owned(),
            plan,
            posts: Vec::new(),
            anew: true,
            retry: Vec::new(),
        };
        let new = NewRun {
            id: new_id,
            tenant,
            principal: principal(who),
            workflow: String::new(),
            durability: row.head.durability,
            labels: row.head.labels,
            submission: json!(submission),
            callback_url: None,
            lifetime: self.0.config.lifetime,
            key: None,
            fork: Some(Fork { run: id.to_owned(), up_to }),
            records: vec![forked],
        };
        let created = self.0.store.create(new).await?;
        self.0.touch();
        Ok(created.head().clone())
    }

    /// Repeats a run from its journal, without a call: every record has to come again, and the result to be the
    /// same to the byte. With a file the calls on record are given to that workflow instead.
    ///
    /// # Errors
    /// The run has not started, or its plan cannot be made any more; the file is no workflow.
    pub async fn replay(&self, tenant: &str, id: &str, file: Option<SourceFile>) -> Result<Replay, Failure> {
        let row = self.get(tenant, id).await?;
        let mut entries = self.whole_journal(id).await?;
        let instead = match file {
            None => None,
            Some(file) => {
                let name = file.stem().to_owned();
                let view = self.0.engine.0.view.load_full();
                let files: Vec<SourceFile> = view.bundle.sources.iter().cloned().chain([file]).collect();
                let message = format!("`{name}` is no workflow; turnout workflow check says why");
                let compiled = view.bundle.compile(&files, &name);
                Some(compiled.ok_or(Failure::Invalid { param: "workflow".to_owned(), message })?)
            }
        };
        let edited = instead.is_some();
        if edited {
            let seq = entries.last().map_or(1, |e| e.seq.saturating_add(1));
            let record = Record::Resumed {
                why: "replayed".to_owned(),
                plan: PlanChoice::Latest,
                posts: Vec::new(),
                anew: true,
                retry: Vec::new(),
            };
            entries.push(Entry { seq, ts_ms: 0, epoch: 0, record });
        }
        let recorded = entries.iter().rev().find_map(|e| match &e.record {
            Record::RunFinished { result, .. } => Some(result.clone()),
            _ => None,
        });
        let records = entries.last().map_or(0, |e| e.seq);
        let (shared, run) = walk::repetition(&self.0, &row.head, row.submission, entries, instead).await?;
        let stop = drive::repeat(run, &shared).await;
        shared.close();
        let (mut divergence, mut result) = (None, None);
        match stop {
            drive::Stop::Ended(finished) => result = Some(end::told(&finished.ending)),
            drive::Stop::Diverged(d) => divergence = Some(d),
            _ => {}
        }
        let more = shared.take_fresh().0;
        if divergence.is_none()
            && !edited
            && recorded.is_some()
            && let Some(first) = more.first()
        {
            divergence = Some(super::Divergence {
                seq: shared.seq(),
                recorded: String::new(),
                found: super::tape::words(first),
            });
        }
        let bytes = |v: &Option<Value>| v.as_ref().map(|v| end::comparable(v).to_string());
        let same_result = bytes(&recorded) == bytes(&result) || (recorded.is_none() && result.is_none());
        if divergence.is_none() && !edited && !same_result {
            divergence = Some(super::Divergence {
                seq: records,
                recorded: bytes(&recorded).unwrap_or_default(),
                found: bytes(&result).unwrap_or_default(),
            });
        }
        let same = divergence.is_none() && same_result;
        Ok(Replay { same, divergence, would_call: shared.missing(), records, result })
    }
}

/// Who asks, as it stands in runs.
#[must_use]
pub fn principal(who: &Who) -> String {
    who.principal.key.as_ref().map_or_else(|| "open".to_owned(), |k| k.id.clone())
}

fn internal(why: String) -> Failure {
    Failure::Engine(Box::new(error::Kind::Internal(why).into()))
}

/// The question of a kind that a run waits with.
fn question(row: &Row, kind: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, Failure> {
    let all = row.waiting.as_ref().map_or(&[] as &[Value], |w| list(w, "questions"));
    let found = all.iter().find(|q| text(q, "for") == kind && fits(q));
    found.cloned().ok_or_else(|| Failure::Conflict {
        code: "not_waiting",
        message: format!("run `{}` is {} and does not wait for this", row.head.id, row.head.state.as_str()),
        details: json!({"questions": all}),
    })
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Calls and tools that failed; asked again they may do better.
fn failures(entries: &[Entry]) -> Vec<String> {
    let failed = entries.iter().filter_map(|e| match &e.record {
        Record::CallResult { effect, result, .. } if result.get("error").is_some() => Some(effect.clone()),
        _ => None,
    });
    let mut failed: Vec<String> = failed.collect();
    failed.sort_unstable();
    failed.dedup();
    failed
}

/// Nodes at the root that have resolved, skipped ones left out.
fn resolved(entries: &[Entry]) -> Vec<String> {
    let nodes = entries.iter().filter_map(|e| match &e.record {
        Record::NodeResolved { frame, outcome, .. }
            if !frame.contains(['/', '[']) && outcome != "skipped" && outcome != "cancelled" =>
        {
            Some(frame.clone())
        }
        _ => None,
    });
    let mut nodes: Vec<String> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Takes runs and walks them until it is told to stop.
async fn work(service: Arc<Service>) {
    let mut stop = service.stop.subscribe();
    let mut changed = service.changed.subscribe();
    let mut swept = Instant::now();
    loop {
        let free = service.config.parallel.saturating_sub(service.walking.load(Ordering::Acquire));
        if free > 0 {
            match service.store.claim(&service.owner, free).await {
                Ok(claimed) => claimed.into_iter().for_each(|one| walk(&service, one)),
                Err(error) => tracing::warn!(%error, "no run can be taken"),
            }
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            sweep(&service).await;
        }
        tokio::select! {
            biased;
            () = drive::stopped(&mut stop) => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn walk(service: &Arc<Service>, claimed: types::runs::Claimed) {
    service.walking.fetch_add(1, Ordering::AcqRel);
    let own = service.clone();
    let place = Place(service.clone());
    (service.start)(
        "run",
        Box::pin(async move {
            let _place = place;
            Box::pin(walk::own(own, claimed)).await;
        }),
    );
}

/// A place among the runs that are walked at once.
struct Place(Arc<Service>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.walking.fetch_sub(1, Ordering::AcqRel);
        self.0.touch();
    }
}

async fn sweep(service: &Service) {
    let keep = i64::try_from(service.config.keep.as_millis()).unwrap_or(i64::MAX);
    let before = service.now_ms().saturating_sub(keep);
    match service.store.purge(before, SWEEP_MOST).await {
        Ok(0) => {}
        Ok(n) => tracing::info!(runs = n, "forgot runs that ended long ago"),
        Err(error) => tracing::warn!(%error, "old runs cannot be forgotten"),
    }
}
