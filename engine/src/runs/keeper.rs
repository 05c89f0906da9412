//! Writes for one run under its lease: records in order, each once, and nothing after the lease is lost.

use super::changes::Changes;
use super::state::Shared;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use types::runs::{
    Advance, Chosen, Durability, Error, Forgets, Head, LEASE, Lease, Record, RunStore, Spent, To,
};

/// The run is somebody else's, or its store has been away for longer than the lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// Pause before a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// The right to write for one run.
pub(super) struct Keeper {
    store: Arc<dyn RunStore>,
    lease: Lease,
    durability: Durability,
    /// Told after every write, for those who follow the run.
    changes: Changes,
    /// When the lease was last known to hold.
    held: Instant,
    /// Posts that the walk knows.
    seen: u64,
    /// Records that wait to be written with the next ones.
    kept: Vec<Record>,
    chosen: Option<Chosen>,
    forgets: Forgets,
    writing: Option<BoxFuture<'static, Result<u64, Error>>>,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn RunStore>, lease: Lease, head: &Head, changes: Changes) -> Self {
        Keeper {
            store,
            lease,
            durability: head.durability,
            changes,
            held: Instant::now(),
            seen: 0,
            kept: Vec::new(),
            chosen: None,
            forgets: Forgets::default(),
            writing: None,
        }
    }

    pub(super) const fn durability(&self) -> Durability {
        self.durability
    }

    /// From now on it is written so.
    pub(super) const fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// A record of the worker's own; it goes out with the next ones.
    pub(super) fn note(&mut self, record: Record) {
        if self.durability != Durability::None {
            self.kept.push(record);
        }
    }

    /// The workflow and plan of the run; they go out with the next records.
    pub(super) fn choose(&mut self, chosen: Chosen) {
        self.chosen = Some(chosen);
    }

    /// So much of the run is not kept, once it has ended.
    pub(super) const fn forget(&mut self, forgets: Forgets) {
        self.forgets = forgets;
    }

    /// Begins to write what the walk has made; false = there is nothing to write.
    pub(super) fn write(&mut self, shared: &Shared) -> bool {
        let (fresh, mark) = shared.take_fresh();
        let mut records = std::mem::take(&mut self.kept);
        records.extend(fresh);
        let (plan, spent) = (self.chosen.take(), Some(shared.spent()));
        let step = Advance { records, plan, spent, ..Advance::default() };
        if step.records.is_empty() && step.plan.is_none() {
            shared.flushed(mark);
            return false;
        }
        let (store, lease, changes) = (self.store.clone(), self.lease.clone(), self.changes.clone());
        let until = self.held + LEASE;
        self.writing = Some(Box::pin(async move {
            write(&*store, &lease, step, until).await?;
            changes.written(&lease.run);
            Ok(mark)
        }));
        true
    }

    /// Waits for what [`Keeper::write`] began; gives its mark. May be dropped and asked again.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn written(&mut self) -> Result<u64, Lost> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let done = writing.await;
        self.writing = None;
        match done {
            Ok(mark) => {
                self.held = Instant::now();
                Ok(mark)
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Keeps the lease and hands over what was posted; gives why the run is to end, if it is.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn renew(&mut self, shared: &Shared) -> Result<Option<String>, Lost> {
        let renewed = match self.store.renew(&self.lease).await {
            Ok(renewed) => renewed,
            Err(error @ Error::Store(_)) if self.held.elapsed() < LEASE => {
                tracing::warn!(run = self.lease.run, %error, "the store of runs does not answer");
                return Ok(None);
            }
            Err(error) => return Err(self.lost(&error)),
        };
        self.held = Instant::now();
        if renewed.cancel.is_some() {
            return Ok(renewed.cancel);
        }
        // The lease ends a known time after the store's now.
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(0);
        self.hand_over(shared, renewed.until_ms.saturating_sub(lease_ms)).await?;
        Ok(None)
    }

    /// Hands over what was posted since.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn hand_over(&mut self, shared: &Shared, now_ms: i64) -> Result<(), Lost> {
        match self.store.posted(&self.lease.run, self.seen).await {
            Ok(posts) => {
                self.seen = posts.last().map_or(self.seen, |p| p.number);
                shared.told(posts, now_ms);
                Ok(())
            }
            Err(error) if self.held.elapsed() < LEASE => {
                tracing::warn!(run = self.lease.run, %error, "what was posted cannot be read");
                Ok(())
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// The last write: whatever is left, and where the run stands from now on.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn leave(
        &mut self,
        shared: &Shared,
        records: Vec<Record>,
        to: To,
    ) -> Result<Head, Lost> {
        if self.writing.is_some() {
            let mark = self.written().await?;
            shared.flushed(mark);
        }
        let (fresh, _) = shared.take_fresh();
        self.kept.extend(fresh);
        self.finish(shared.spent(), records, to).await
    }

    /// As [`Keeper::leave`], where nothing was walked.
    ///
    /// # Errors
    /// [`Lost`].
    pub(super) async fn finish(&mut self, spent: Spent, records: Vec<Record>, to: To) -> Result<Head, Lost> {
        let mut all = std::mem::take(&mut self.kept);
        if self.forgets.contents {
            all.clear();
        }
        all.extend(records);
        let (plan, forgets) = (self.chosen.take(), self.forgets);
        let step = Advance { records: all, plan, spent: Some(spent), to: Some(to), forgets };
        let head = write(&*self.store, &self.lease, step, self.held + LEASE).await;
        let head = head.map_err(|error| self.lost(&error))?;
        self.changes.written(&self.lease.run);
        if head.state.is_final() {
            self.changes.ended();
        }
        Ok(head)
    }

    fn lost(&self, error: &Error) -> Lost {
        tracing::warn!(run = self.lease.run, epoch = self.lease.epoch, %error, "the run is no longer ours");
        Lost
    }
}

/// Writes one step; a store that is away is asked again as long as nobody else can have the run.
async fn write(store: &dyn RunStore, lease: &Lease, step: Advance, until: Instant) -> Result<Head, Error> {
    loop {
        match store.advance(lease, step.clone()).await {
            Err(error @ Error::Store(_)) if Instant::now() + AGAIN < until => {
                tracing::warn!(run = lease.run, %error, "a step of a run could not be written; trying again");
                sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}
