//! What counts beyond the life of the process: what is written down of it, and what the disk is known to say.

use super::{Counted, Counter, Counters, Id, Moment, Shard};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use types::limits::{Limit, LimitStore as _, Metric, Window};

/// What was used of a day or month, or of money and tokens within a sliding window of an hour and more: to be kept, and
/// restored after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose counters.
    pub tenant: Arc<str>,
    /// As in [`types::limits::Limit`].
    pub holder: Arc<str>,
    /// What is counted.
    pub metric: Metric,
    /// `Day`, `Month`, or one that slides.
    pub window: Window,
    /// Used and reserved, and ahead of that: what is reserved when the process dies counts as used, where nobody knows
    /// better. 0 = nothing of it need be kept any more.
    pub used: u64,
    /// What of it has been used and settled; `None` = written by a version that did not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<u64>,
    /// What of it is an upper bound alone, of a day or month.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub at_most: u64,
    /// The day or month as a number: the same amount on another day is another thing. 0 = written by a version that did
    /// not say it, and of a window that slides.
    #[serde(default)]
    pub period: i64,
    /// When it was used, of a window that slides: the sums of its parts, the oldest first, each with the Unix milliseconds
    /// since which nothing of it was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<(i64, u64)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_nothing(n: &u64) -> bool {
    *n == 0
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

    /// What counts beyond the life of the process and the disk may not know, for the disk: days, months and money and tokens
    /// of sliding windows of an hour and more, a slice ahead of what is used where something was reserved of late. The same
    /// is given again until it is [`Counters::written`]. Other sliding windows begin anew.
    #[must_use]
    pub fn kept(&self, unix_ms: i64) -> Vec<Kept> {
        let ahead = self.writing.has_begun();
        let day = Counter::period_of(Window::Day, unix_ms).unwrap_or(0);
        // Another one: also where the clock was ahead and has been set back.
        let is_new_day = self.day.swap(day, Ordering::AcqRel) != day;
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let now = shard.moment(self.epoch, unix_ms);
            if is_new_day {
                shard.look_for_past(now);
            }
            let Shard { counters, due, .. } = &mut *shard;
            all.extend(due.iter().filter_map(|id| kept(counters, id, now, ahead)));
        }
        all.sort_by(|a, b| (&a.tenant, &a.holder).cmp(&(&b.tenant, &b.holder)));
        all
    }

    /// Counts what an earlier process had used, as it wrote it down at a moment `at_ms`: in a window that slides each part of
    /// it when it was used, what is not among the parts at that moment.
    pub fn resume(&self, k: &Kept, used: u64, at_ms: i64, now_ms: i64) {
        let (holder, metric, window) = (k.holder.clone(), k.metric, k.window);
        let limit = Limit { holder, metric, ceiling: 0, window, reserved: 0 };
        if !matches!(window, Window::Sliding(_)) {
            self.restore(&k.tenant, &limit, used, at_ms);
            if let Some((mut shard, now)) = self.locked(&k.tenant, at_ms).filter(|_| k.at_most > 0) {
                shard.changing(&k.tenant, &limit, now).counter.is_at_most(k.at_most, now.ns);
            }
            return;
        }
        let Some((mut shard, now)) = self.locked(&k.tenant, now_ms) else { return };
        let Counted { counter, mark, .. } = shard.changing(&k.tenant, &limit, now);
        mark.restored();
        counter.used(window, now);
        let mut left = used;
        // The newest first: a part also holds what was only set aside then, and nothing may come free too early.
        for (since_ms, n) in k.parts.iter().rev().copied().chain([(at_ms, u64::MAX)]) {
            let n = n.min(left);
            left = left.saturating_sub(n);
            // A clock that was set back meanwhile makes it newer than it is.
            counter.add_earlier(n, u64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(0), now);
        }
    }

    /// That is on the disk now.
    pub fn written(&self, all: &[Kept]) {
        for k in all {
            if let Some(mut shard) = self.shard(&k.tenant) {
                shard.written(k);
            }
        }
        self.writing.done();
    }
}

/// What is to be written of a counter: nothing is used of one that was forgotten.
fn kept(counters: &mut HashMap<Id, Counted>, id: &Id, now: Moment, ahead: bool) -> Option<Kept> {
    let (tenant, holder, metric, window) = id.clone();
    let ((used, settled, period), parts, at_most) = match counters.get_mut(id) {
        Some(counted) => {
            let told = counted.told(window, now, ahead)?;
            // Of a window that slides nobody keeps when it was.
            let at_most = if matches!(window, Window::Sliding(_)) { 0 } else { counted.counter.at_most() };
            (told, counted.counter.parts(now), at_most)
        }
        None => ((0, 0, Counter::period_of(window, now.unix_ms).unwrap_or(0)), Vec::new(), 0),
    };
    Some(Kept { tenant, holder, metric, window, used, settled: Some(settled), at_most, period, parts })
}

impl Counted {
    /// Whether more is used now than the disk says, as far as that outlives the process.
    pub(super) fn lags(&mut self) -> bool {
        self.mark.slides(self.counter.slid());
        self.counter.lasting().is_some_and(|used| self.mark.lags(used))
    }

    /// What the disk is to say of it: what is used, what of that is settled, and of which day or month that is.
    fn told(&mut self, window: Window, now: Moment, ahead: bool) -> Option<(u64, u64, i64)> {
        self.counter.used(window, now);
        self.mark.slides(self.counter.slid());
        let (period, used) = self.counter.lasting()?;
        let settled = used.saturating_sub(self.counter.open());
        self.changed = false;
        Some((if ahead { self.mark.next((period, used)) } else { used }, settled, period))
    }
}

impl Shard {
    /// Counters whose day or month is over, or whose window is empty, are due: what the disk says of them counts no more.
    fn look_for_past(&mut self, now: Moment) {
        for (id, counted) in &mut self.counters {
            let is_past = match Counter::period_of(id.3, now.unix_ms) {
                Some(period) => counted.mark.is_past(period),
                None => counted.mark.has_row() && counted.counter.used(id.3, now) == 0,
            };
            if is_past {
                self.due.insert(id.clone());
            }
        }
    }

    /// That is on the disk: a counter that still says so is not due.
    fn written(&mut self, k: &Kept) {
        let id = (k.tenant.clone(), k.holder.clone(), k.metric, k.window);
        let is_said = match self.counters.get_mut(&id) {
            Some(Counted { counter, mark, changed, .. }) => {
                mark.slides(counter.slid());
                mark.written((k.period, k.used));
                !*changed && counter.lasting() == Some((k.period, k.used))
            }
            None => k.used == 0,
        };
        match is_said {
            true => _ = self.due.remove(&id),
            false => _ = self.due.insert(id),
        }
    }
}
