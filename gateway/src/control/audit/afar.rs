//! The newest anchor, told to an address (`audit.anchor_url`): out of reach of whoever can change the data folder.
//!
//! The trail never waits for it. Only the newest anchor counts, since it covers all lines before it: one that is not taken
//! is sent again until a newer one takes its place.

use crate::edge::request_id;
use crate::metrics::Metrics;
use crate::webhooks::Webhooks;
use crate::{clock, control::audit};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// After the first try that fails the next one follows so soon; each later one in twice the time, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Tells anchors to an address.
#[derive(Debug, Default)]
pub(crate) struct Afar {
    /// `None` = nobody is told.
    url: Option<String>,
    /// Tries since one was taken.
    failed: AtomicU64,
}

impl Afar {
    /// `url` is the address.
    ///
    /// # Errors
    /// In words: the address may not be told.
    pub(crate) fn new(url: Option<String>, webhooks: &Webhooks) -> Result<Afar, String> {
        if let Some(url) = &url {
            webhooks.check(url).map_err(|why| why.replace("`callback_url`", "audit.anchor_url"))?;
        }
        Ok(Afar { url, failed: AtomicU64::new(0) })
    }

    /// What is amiss, for whoever looks at the server's health.
    pub(crate) fn degraded(&self) -> Option<String> {
        let failed = self.failed.load(Relaxed);
        (failed > 0).then(|| {
            format!("audit: the anchor of the trail is not taken by audit.anchor_url ({failed} tries so far)")
        })
    }

    /// Tells the newest anchor whenever there is one, until the server stops.
    pub(crate) async fn run(
        &self,
        webhooks: &Webhooks,
        metrics: &Metrics,
        mut newest: watch::Receiver<Option<Value>>,
        stop: CancellationToken,
    ) {
        let Some(url) = &self.url else { return };
        let mut wait = FIRST;
        loop {
            let anchor = newest.borrow_and_update().clone();
            let taken = match anchor {
                None => true,
                Some(anchor) => tokio::select! {
                    () = stop.cancelled() => return,
                    taken = send(webhooks, url, anchor) => self.note(taken, metrics),
                },
            };
            if taken {
                wait = FIRST;
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = newest.changed() => if changed.is_err() { return },
                }
            } else {
                // A newer one does not go out sooner: whoever takes none may be overwhelmed.
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = wait.saturating_mul(2).min(LONGEST);
            }
        }
    }

    /// Whether it was taken.
    fn note(&self, sent: Result<(), String>, metrics: &Metrics) -> bool {
        match sent {
            Ok(()) => {
                self.failed.store(0, Relaxed);
                metrics.anchor("sent");
                true
            }
            Err(why) => {
                // Each try of a day would fill the log.
                if self.failed.fetch_add(1, Relaxed).is_multiple_of(10) {
                    tracing::warn!(why, "the anchor of the audit trail was not taken; it is sent again");
                }
                metrics.anchor("failed");
                false
            }
        }
    }
}

async fn send(webhooks: &Webhooks, url: &str, anchor: Value) -> Result<(), String> {
    let id = request_id::fresh_of("anc_");
    let body = json!({ "id": id, "type": audit::ANCHOR, "created": clock::unix(), "data": anchor });
    match webhooks.post(url, &id, body.to_string()).await {
        Ok(200..=299) => Ok(()),
        other => Err(other.map_or_else(|e| e, |status| format!("status {status}"))),
    }
}
