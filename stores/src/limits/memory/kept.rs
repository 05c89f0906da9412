//! What counts beyond the life of the process: what is written down of it, and what the disk is known to say.

use super::{Counted, Counter, Counters};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError};
use types::limits::{Metric, Window};

/// What was used of a day or month: to be kept, and restored after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose counters.
    pub tenant: Arc<str>,
    /// As in [`Limit`].
    pub holder: Arc<str>,
    /// What is counted.
    pub metric: Metric,
    /// `Day` or `Month`.
    pub window: Window,
    /// Used and reserved, and ahead of that: what is reserved when the process dies counts as used, where nobody knows
    /// better.
    pub used: u64,
    /// What of it has been used and settled; `None` = written by a version that did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    /// The day or month as a number: the same amount on another day is another thing. 0 = written by a version that did
    /// not say it.
    #[serde(default)]
    pub period: i64,
}

impl Counters {
    /// From now on somebody writes down what is used ([`Counters::kept`], then [`Counters::written`]) whenever that is
    /// [`Counters::wanted`], and reservations wait for it.
    pub fn begin_writing(&self) {
        self.writing.begin();
    }

    /// Resolves when a reservation waits for the disk.
    pub async fn wanted(&self) {
        self.writing.wanted().await;
    }

    /// What counts beyond the life of the process, for the disk: days and months, a slice ahead of what is used where
    /// something was reserved of late. Sliding windows begin anew.
    #[must_use]
    pub fn kept(&self, unix_ms: i64) -> Vec<Kept> {
        let now = self.moment(unix_ms);
        let ahead = self.writing.has_begun();
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for ((tenant, holder, metric, window), Counted { counter, mark, in_work, .. }) in
                &mut shard.counters
            {
                counter.used(*window, now);
                let Some(calendar) = counter.calendar() else { continue };
                let settled = calendar.1.saturating_sub(in_work.of(counter));
                let used = if ahead { mark.next(calendar) } else { calendar.1 };
                if used > 0 {
                    let (tenant, holder) = (tenant.clone(), holder.clone());
                    all.push(Kept {
                        tenant,
                        holder,
                        metric: *metric,
                        window: *window,
                        used,
                        settled: Some(settled),
                        period: calendar.0,
                    });
                }
            }
        }
        all.sort_by(|a, b| (&a.tenant, &a.holder).cmp(&(&b.tenant, &b.holder)));
        all
    }

    /// That is on the disk now; `unix_ms` is the moment at which it was asked for.
    pub fn written(&self, all: &[Kept], unix_ms: i64) {
        let now = self.moment(unix_ms);
        for k in all {
            let Some(mut shard) = self.shard(&k.tenant) else { continue };
            let id = (k.tenant.clone(), k.holder.clone(), k.metric, k.window);
            if let Some(Counted { mark, .. }) = shard.counters.get_mut(&id)
                && let Some(period) = Counter::period_of(k.window, now)
            {
                mark.written((period, k.used), k.used);
            }
        }
        self.writing.done();
    }
}
