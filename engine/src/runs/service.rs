//! Durable runs as the rest of the house sees them: asked for, looked at, listed, ended, forgotten.

use super::asked::Tell;
use super::changes::{Changes, Following, Kind};
use super::made::Unready;
use super::submission::Submission;
use super::{account, forget, made, worker};
use crate::error;
use crate::limits::{Count, Held};
use crate::who::{NO_KEY, Who};
use crate::{Background, Engine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use types::run::Run;
use types::runs::{
    Created, Durability, Entry, Error, Filter, Head, Key, NewRun, Page, Row, RunStore, State, Told, Webhook,
};

/// Finds who a tenant's principal is now; `None` = it may not use the server any more.
pub type People = Arc<dyn Fn(&str, &str) -> Option<Arc<Who>> + Send + Sync>;

/// Settings of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Runs walked at once. Default 16.
    pub parallel: usize,
    /// Most runs of one tenant that may wait for that; more are refused. Default 1000.
    pub queued: usize,
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
        Config {
            parallel: 16,
            queued: 1_000,
            wall: Duration::from_secs(3_600),
            lifetime: days(7),
            keep: days(30),
        }
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
    /// Is told when a run has come to wait for people.
    pub tell: Option<Tell>,
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

impl From<Unready> for Failure {
    fn from(unready: Unready) -> Self {
        match unready {
            Unready::Failed(error) | Unready::Recorded(error) => Failure::Engine(error),
            Unready::Later(_) | Unready::Waits(_) | Unready::Lost => {
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
    pub(super) tell: Option<Tell>,
    pub(super) config: Config,
    pub(super) changes: Changes,
    pub(super) stop: watch::Sender<bool>,
    pub(super) owner: String,
    pub(super) walking: AtomicUsize,
}

impl Service {
    /// The time, for questions that lapse.
    pub(super) fn now_ms(&self) -> i64 {
        self.engine.0.clock.unix_ms()
    }
}

/// What a run has spent that somebody walked when the last process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Identifier of the key that asked for it; empty = none was asked for.
    pub key: String,
    /// Nano-dollars.
    pub usd: u64,
    /// What of them was beyond what was set aside for its calls.
    pub beyond: u64,
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

impl Runs {
    /// Runs without a worker yet. `owner` names this process; another one must have another name.
    #[must_use]
    pub fn new(setup: Setup, owner: String) -> Self {
        let Setup { engine, store, people, start, tell, config } = setup;
        Runs(Arc::new(Service {
            engine,
            store,
            people,
            start,
            tell,
            config,
            changes: Changes::default(),
            stop: watch::channel(false).0,
            owner,
            walking: AtomicUsize::new(0),
        }))
    }

    /// Starts the worker, and what forgets old runs.
    pub fn work(&self) {
        let service = self.0.clone();
        service.engine.0.keeps_runs.store(true, Ordering::Relaxed);
        (self.0.start)("runs", Box::pin(worker::work(service)));
        (self.0.start)("old runs", Box::pin(forget::forget(self.0.clone())));
    }

    /// Lets go of every run, for others to go on with; nothing is taken any more. What still has to be written is
    /// written by the tasks that were started.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Follows what is written of a run.
    #[must_use]
    pub fn follow(&self, id: &str) -> Following {
        self.0.changes.follow(Kind::Written, id)
    }

    /// Changes whenever a run ends.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<()> {
        self.0.changes.when_ended()
    }

    /// Takes a run, which counts as a request. It is on the disk when this returns.
    ///
    /// # Errors
    /// A limit on requests is reached; too many runs wait; the key came with another body; the store failed; the request is
    /// none; policies demand for it what no run can be held to.
    pub async fn submit(&self, wish: Wish) -> Result<Created, Failure> {
        let Wish { id, who, workflow, submission, labels, callback_url, key } = wish;
        if *self.0.stop.borrow() {
            return Err(Failure::Engine(Box::new(error::Kind::ShuttingDown.into())));
        }
        let request = submission.request().map_err(|e| Failure::Engine(Box::new(e)))?;
        let named = self.0.engine.0.view.load().bundle.library.get(&workflow).cloned();
        // Whoever names a workflow hears at once that it takes other inputs.
        if let Some(named) = &named {
            let wrong = |message| Failure::Invalid { param: "inputs".to_owned(), message };
            named.takes(&submission.inputs).map_err(wrong)?;
        }
        self.may_be_kept(&who, &id, &submission, request).await?;
        let new = NewRun {
            id,
            tenant: who.principal.tenant.id.clone(),
            principal: principal(&who),
            workflow,
            durability: Durability::Sync,
            authored: named.as_deref().map(made::authored).unwrap_or_default(),
            labels,
            submission: json!(submission),
            callback_url,
            lifetime: self.0.config.lifetime,
            key,
            fork: None,
            records: Vec::new(),
            room: Some(self.0.config.queued),
        };
        let again = new.key.is_some().then(|| NewRun { room: Some(0), ..new.clone() });
        let created = match (self.counted(&who, || self.0.store.create(new)).await, again) {
            (Err(limit @ Failure::Engine(_)), Some(again)) => self.known(again, limit).await?,
            (created, _) => created?,
        };
        self.0.changes.due();
        Ok(created)
    }

    /// The run that a key made before: whoever asks again asks for nothing new, whatever limit is reached. There is no
    /// room for another one.
    ///
    /// # Errors
    /// The limit, where the key made none; the key came with another body; the store failed.
    async fn known(&self, again: NewRun, limit: Failure) -> Result<Created, Failure> {
        match self.0.store.create(again).await {
            Err(Error::Full { .. }) => Err(limit),
            known => Ok(known?),
        }
    }

    /// Does what counts as a request of somebody; where it makes or wakes no run, it counts nothing. Stores begin when
    /// they are asked, not when they are waited for: they are asked once the limits have room.
    ///
    /// # Errors
    /// The limit that is reached; what the store refuses.
    pub(super) async fn counted<T: Makes, F: Future<Output = Result<T, Error>>>(
        &self,
        who: &Who,
        act: impl FnOnce() -> F,
    ) -> Result<T, Failure> {
        let asked = self.asked(who).await?;
        let done = act().await?;
        if let Some(asked) = asked.filter(|_| done.makes()) {
            asked.settle(&Run::default());
        }
        Ok(done)
    }

    /// Counts a request of somebody; dropped, it never was one.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) async fn asked(&self, who: &Who) -> Result<Option<Held>, Failure> {
        let limits = self.0.engine.0.limits.as_ref();
        let asked = Held::enter(limits, who, Count::Asked).await;
        asked.map_err(|e| Failure::Engine(Box::new(e)))
    }

    /// A run of a tenant.
    ///
    /// # Errors
    /// It is not there; the store failed.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Row, Failure> {
        let row = self.0.store.get(tenant, id).await?;
        row.ok_or_else(|| Error::Unknown(id.to_owned()).into())
    }

    /// A run of a tenant as a list shows it: for whoever looks often, or only wants to know how it stands.
    ///
    /// # Errors
    /// It is not there; the store failed.
    pub async fn head(&self, tenant: &str, id: &str) -> Result<Head, Failure> {
        let head = self.0.store.head(tenant, id).await?;
        head.ok_or_else(|| Error::Unknown(id.to_owned()).into())
    }

    /// Runs of a tenant.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self, filter: Filter) -> Result<Page, Failure> {
        Ok(self.0.store.list(filter).await?)
    }

    /// What runs of a tenant have spent that somebody walked when the last process ended, and settled with no limit.
    /// Before anybody walks them again.
    ///
    /// # Errors
    /// The store failed.
    pub async fn under_way(&self, tenant: &str) -> Result<Vec<Walked>, Failure> {
        let mut all = Vec::new();
        let mut filter =
            Filter { tenant: tenant.to_owned(), states: vec![State::Running], ..Filter::default() };
        loop {
            let page = self.list(filter.clone()).await?;
            for head in page.runs {
                let entries = self.whole_journal(&head.id).await?;
                let key = if head.principal == NO_KEY { String::new() } else { head.principal };
                let (usd, beyond) = account::unsettled(&entries, head.epoch);
                all.push(Walked { key, usd, beyond });
            }
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(all),
            }
        }
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
        Ok(made::journal(&self.0, id).await?)
    }

    /// Asks for a run's end.
    ///
    /// # Errors
    /// It is not there; the store failed.
    pub async fn cancel(&self, tenant: &str, id: &str, why: &str) -> Result<Head, Failure> {
        let before = self.get(tenant, id).await?.head;
        let head = self.0.store.cancel(tenant, id, why).await?;
        self.0.changes.told(id);
        if head.state.is_final() {
            self.0.changes.ended();
        }
        if head.state == State::Cancelled && !before.state.is_final() && before.epoch == head.epoch {
            account::ended(&self.0, &head).await;
        }
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
}

/// What came of a wish.
pub(super) trait Makes {
    /// Something that was not there before, or that goes on.
    fn makes(&self) -> bool;
}

impl Makes for Created {
    fn makes(&self) -> bool {
        matches!(self, Created::New(_))
    }
}

impl Makes for Head {
    fn makes(&self) -> bool {
        true
    }
}

/// Who asks, as it stands in runs.
#[must_use]
pub fn principal(who: &Who) -> String {
    who.principal.key.as_ref().map_or_else(|| NO_KEY.to_owned(), |k| k.id.clone())
}

pub(super) fn internal(why: String) -> Failure {
    Failure::Engine(Box::new(error::Kind::Internal(why).into()))
}
