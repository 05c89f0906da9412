//! What was used of days and months, and of free tiers, kept over restarts.

use crate::clock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use providers::FreeUse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stores::limits::{Counters, Kept};
use types::control::{ControlStore, Error, Object};
use types::limits::{Limit, LimitStore as _};

/// Kind and id of the one object that holds what limits count.
const SPENT: &str = "spent";
/// Kind and id of the one object that holds what was used of free tiers.
const FREE: &str = "free_use";
/// How often it is written where something has changed. What limits count is also written whenever more is used than
/// the disk says, so that a killed process forgets none of it.
const EVERY: Duration = Duration::from_secs(1);

/// Tells what is to be kept at a moment, Unix milliseconds.
pub(crate) type Now = Box<dyn Fn(i64) -> Value + Send + Sync>;

/// A value that changes and is kept.
trait Changing: Send + Sync {
    /// As it is to be written down at a moment, Unix milliseconds.
    fn now(&self, unix_ms: i64) -> Value;
    /// That is on the disk, as it was asked for at a moment.
    fn written(&self, _value: &Value, _unix_ms: i64) {}
    /// Resolves when somebody waits for it to be written.
    fn wanted(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

impl Changing for Arc<Counters> {
    fn now(&self, unix_ms: i64) -> Value {
        json!(self.kept(unix_ms))
    }

    fn written(&self, value: &Value, unix_ms: i64) {
        // It was made of these a moment ago.
        let all: Vec<Kept> = serde_json::from_value(value.clone()).unwrap_or_default();
        Counters::written(self, &all, unix_ms);
    }

    fn wanted(&self) -> BoxFuture<'_, ()> {
        Counters::wanted(self).boxed()
    }
}

impl Changing for Now {
    fn now(&self, unix_ms: i64) -> Value {
        self(unix_ms)
    }
}

/// Keeps one changing value in a store.
pub(crate) struct Keeper {
    store: Arc<dyn ControlStore>,
    kind: &'static str,
    version: u64,
    last: Value,
    of: Box<dyn Changing>,
}

/// What was kept under a kind: its version and document.
async fn kept(store: &Arc<dyn ControlStore>, kind: &'static str) -> Result<(u64, Value), String> {
    let found = store.all(kind).await.map_err(|e| e.to_string())?.into_iter().next();
    Ok(found.map_or((0, Value::Null), |o| (o.version, o.doc)))
}

impl Keeper {
    /// Reads what was kept into the counters of limits.
    ///
    /// # Errors
    /// The store, or what it holds, cannot be read.
    pub(crate) async fn spent(
        store: Arc<dyn ControlStore>,
        counters: Arc<Counters>,
    ) -> Result<Keeper, String> {
        let (version, doc) = kept(&store, SPENT).await?;
        let last = doc.get("counters").cloned().unwrap_or_else(|| json!([]));
        let at = doc.get("unix_ms").and_then(Value::as_i64).unwrap_or(0);
        let all: Vec<Kept> =
            serde_json::from_value(last.clone()).map_err(|e| format!("what was spent: {e}"))?;
        for k in &all {
            let (holder, metric, window) = (k.holder.clone(), k.metric, k.window);
            let limit = Limit { holder, metric, ceiling: 0, window, reserved: 0 };
            counters.restore(&k.tenant, &limit, k.used, at);
        }
        counters.begin_writing();
        Ok(Keeper { store, kind: SPENT, version, last, of: Box::new(counters) })
    }

    /// Reads what was used of free tiers and tells `resume` of it.
    ///
    /// # Errors
    /// The store cannot be read. What it holds and is not understood is told to nobody: the vendor's own answer
    /// then says what is used up.
    pub(crate) async fn free_use(
        store: Arc<dyn ControlStore>,
        resume: impl FnOnce(&[FreeUse]),
    ) -> Result<impl FnOnce(Now) -> Keeper, String> {
        let (version, doc) = kept(&store, FREE).await?;
        let last = doc.get("counters").cloned().unwrap_or_else(|| json!([]));
        match serde_json::from_value::<Vec<FreeUse>>(last.clone()) {
            Ok(all) => resume(&all),
            Err(e) => tracing::warn!(error = %e, "what was used of free tiers is not understood"),
        }
        Ok(move |now: Now| Keeper { store, kind: FREE, version, last, of: Box::new(now) })
    }

    /// Writes what has changed, again and again, until nothing is in work any more.
    pub(crate) async fn run(mut self, at_rest: tokio_util::sync::CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = self.of.wanted() => false,
                () = at_rest.cancelled() => true,
            };
            self.try_write().await;
            if stopped {
                // Once more: what was written ran ahead of what is used if anything had been reserved since the last.
                self.try_write().await;
                return;
            }
        }
    }

    async fn try_write(&mut self) {
        if let Err(e) = self.write().await {
            tracing::error!(error = %e, kind = self.kind, "what was used could not be kept");
        }
    }

    async fn write(&mut self) -> Result<(), Error> {
        let at = clock::unix_ms();
        let now = self.of.now(at);
        if now == self.last {
            self.of.written(&now, at);
            return Ok(());
        }
        let object = Object {
            kind: self.kind.to_owned(),
            id: self.kind.to_owned(),
            version: self.version,
            doc: json!({ "unix_ms": at, "counters": now }),
            sealed: Vec::new(),
            updated_ms: at,
        };
        self.store.put(vec![object]).await?;
        self.version = self.version.saturating_add(1);
        self.of.written(&now, at);
        self.last = now;
        Ok(())
    }
}
