//! What was spent of days and months, kept over restarts.

use crate::clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stores::limits::{Counters, Kept};
use types::control::{ControlStore, Error, Object};
use types::limits::{Limit, LimitStore as _};

/// Kind and id of the one object that holds it.
const SPENT: &str = "spent";
/// How often it is written where something has changed: a killed process forgets at most so much.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps counters in a store.
pub(crate) struct Keeper {
    store: Arc<dyn ControlStore>,
    counters: Arc<Counters>,
    version: u64,
    last: Vec<Kept>,
}

impl Keeper {
    /// Reads what was kept into the counters.
    ///
    /// # Errors
    /// The store, or what it holds, cannot be read.
    pub(crate) async fn restore(
        store: Arc<dyn ControlStore>,
        counters: Arc<Counters>,
    ) -> Result<Keeper, String> {
        let found = store.all(SPENT).await.map_err(|e| e.to_string())?.into_iter().next();
        let (mut version, mut last) = (0, Vec::new());
        if let Some(o) = found {
            let at = o.doc.get("unix_ms").and_then(Value::as_i64).unwrap_or(0);
            let kept: Vec<Kept> = serde_json::from_value(o.doc.get("counters").cloned().unwrap_or_default())
                .map_err(|e| format!("what was spent: {e}"))?;
            for k in &kept {
                let limit =
                    Limit { holder: k.holder.clone(), metric: k.metric, ceiling: 0, window: k.window };
                counters.restore(&k.tenant, &limit, k.used, at);
            }
            (version, last) = (o.version, kept);
        }
        Ok(Keeper { store, counters, version, last })
    }

    /// Writes what has changed, again and again.
    pub(crate) async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = stop.cancelled() => true,
            };
            if let Err(e) = self.write().await {
                tracing::error!(error = %e, "what was spent could not be kept");
            }
            if stopped {
                return;
            }
        }
    }

    async fn write(&mut self) -> Result<(), Error> {
        let now = clock::unix_ms();
        let kept = self.counters.kept(now);
        if kept == self.last {
            return Ok(());
        }
        let object = Object {
            kind: SPENT.to_owned(),
            id: SPENT.to_owned(),
            version: self.version,
            doc: json!({ "unix_ms": now, "counters": kept }),
            sealed: Vec::new(),
            updated_ms: now,
        };
        self.store.put(vec![object]).await?;
        self.version = self.version.saturating_add(1);
        self.last = kept;
        Ok(())
    }
}
