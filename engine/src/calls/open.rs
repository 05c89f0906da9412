//! One call under way, from its reservation to its record: written down exactly once, however it ends.

use super::asked::Putting;
use super::log::CallLog;
use super::money::{charges, estimate};
use crate::concurrency::InFlight;
use crate::ledger::{Ledger, Place};
use crate::limits::Share;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::adjustment::Adjustment;
use types::matrix::Model;
use types::provider::{Error, ErrorKind};
use types::run::Purpose;
use types::run::{AtMost, CallError, CallRecord};
use types::{Usage, Usd};
use workflows::Budget;

/// One call under way: goes into the ledger exactly once, as cancelled when it is dropped.
pub(super) struct Open {
    pub(super) ledger: Ledger,
    pub(super) log: Option<CallLog>,
    /// What the node may use, within what the run may.
    pub(super) budget: Arc<Budget>,
    pub(super) node: Arc<str>,
    pub(super) model: Arc<Model>,
    pub(super) free: bool,
    pub(super) purpose: Purpose,
    pub(super) attempt: u32,
    pub(super) reserved: Usd,
    /// What it holds on the limits of its model.
    pub(super) share: Option<Share>,
    pub(super) place: Place,
    pub(super) run_started: Instant,
    pub(super) started: Instant,
    /// When it is cut off.
    pub(super) deadline: Instant,
    /// What goes in, as it is estimated.
    pub(super) est: Usage,
    /// More input than that, for any vendor.
    pub(super) most: Usage,
    /// Tokens of the longest answer that was asked for, all choices together.
    pub(super) longest: u32,
    /// What the model is not told, or otherwise than it was asked for.
    pub(super) adjusted: Vec<Adjustment>,
    /// What its vendor reported before anything of the answer came; it is charged whoever leaves then.
    pub(super) so_far: Option<Usage>,
    pub(super) closed: bool,
    /// How long whoever reads its stream took nothing of it.
    pub(super) unread: Duration,
    /// It counts among the calls of its model until it is closed.
    pub(super) under_way: Option<InFlight>,
    /// Of a repair: what it asks of whom.
    pub(super) putting: Option<Putting>,
}

impl Open {
    /// Writes down how it ended; a second time does nothing.
    pub(super) fn close(&mut self, end: &End<'_>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.under_way = None;
        if let Some(putting) = &self.putting {
            putting.came_to(end.error.map(|e| e.kind));
        }
        let now = Instant::now();
        let ms = |t: Instant, from: Instant| t.saturating_duration_since(from).as_secs_f64() * 1e3;
        let reached = end.first_content.is_some() || end.error.is_none_or(charges);
        let estimated = estimate(reached, self.est, end.output_bytes);
        // What is told with the failure is told of all of it.
        let whole = end.error.and_then(|e| e.used.as_deref().copied());
        let usage = match (whole.or(end.usage), end.error) {
            (Some(so_far), Some(_)) if whole.is_none() => so_far.completed_so_far(estimated),
            (Some(told), _) => told.completed(estimated),
            (None, _) => estimated,
        };
        let cost = self.cost(&usage);
        let cut = whole.is_none() && (end.cut || end.error.is_some_and(charges));
        let uncounted = end.error.is_none() && usage.estimated;
        let at_most = (cut || uncounted).then(|| self.at_most(&usage, end));
        let beyond = cost.map(|cost| cost.minus(self.reserved)).filter(|usd| *usd > Usd::ZERO);
        let record = CallRecord {
            model: self.model.id.clone(),
            purpose: self.purpose.clone(),
            attempt: self.attempt,
            error: end.error.map(|e| CallError { kind: e.kind, status: e.status, detail: e.detail.clone() }),
            cost_usd: if usage == Usage::default() { Some(Usd::ZERO) } else { cost },
            usage,
            at_most,
            beyond_usd: beyond,
            ttft_ms: end.first_content.map(|t| ms(t, self.started)),
            total_ms: ms(now, self.started),
            unread_ms: self.unread.as_secs_f64() * 1e3,
            started_ms: ms(self.started, self.run_started),
            adjusted: std::mem::take(&mut self.adjusted),
            reported_model: end.reported_model.to_owned(),
        };
        self.ledger.await_ends(now);
        // A run counts what its record tells; only limits count the most that the vendor may.
        self.budget.settle(self.reserved, record.cost_usd.unwrap_or_default(), record.usage.total());
        if let Some(log) = &self.log {
            log.push(record.clone());
        }
        if let Some(share) = self.share.take() {
            share.settle(&record);
        }
        self.ledger.settle(&self.node, self.reserved, record);
        self.ledger.leave(&self.model.id, self.place);
    }

    fn cost(&self, usage: &Usage) -> Option<Usd> {
        if self.free { Some(Usd::ZERO) } else { self.model.price.map(|p| p.cost(usage)) }
    }

    /// What a call may have used whose vendor did not say: as much as it was allowed to, or, where its answer came or was on
    /// its way, a token for each byte of what came and what may have been written by then. What a model thinks beside its
    /// answer nobody sees.
    fn at_most(&self, usage: &Usage, end: &End<'_>) -> AtMost {
        let bytes = u32::try_from(end.output_bytes).unwrap_or(u32::MAX);
        // What its vendor told, as far as that is believed.
        let reported = end.usage.and_then(Usage::reported).unwrap_or_default();
        let is_whole = end.error.is_none() && !end.cut;
        let seen = match end.error {
            None if is_whole && reported.output > 0 && reported.output == usage.output => Some(usage.output),
            None if is_whole => (!self.model.abilities.reasoning).then_some(bytes),
            _ => end.first_content.map(|_| bytes.saturating_add(ON_ITS_WAY)),
        };
        let output = seen.map_or(self.longest, |n| n.min(self.longest)).max(usage.output);
        // What went in is told at the beginning or not at all.
        let told = reported.input > 0 && reported.input == usage.input;
        let (input, image) =
            if told { (usage.input, usage.image) } else { (self.most.input, self.most.image) };
        let cache_write_1h = if told { usage.cache_write_1h } else { self.most.cache_write_1h };
        let most = Usage { input, image, output, cache_write_1h, ..*usage };
        let tokens = u64::from(most.input).saturating_add(u64::from(output));
        let usd = self.model.price.filter(|_| !self.free).map(|p| p.most(&most));
        AtMost { tokens, usd: usd.unwrap_or_default() }
    }

    /// Why it is dropped: its time is over, or nobody waits for it any more.
    pub(super) fn dropped(&self, detail: &str) -> Error {
        if Instant::now() < self.deadline {
            return self.cancelled(detail);
        }
        Error::new(ErrorKind::TotalTimeout, &self.model, LATE)
    }

    /// Nobody waits for it any more.
    pub(super) fn cancelled(&self, detail: &str) -> Error {
        Error::new(ErrorKind::Cancelled, &self.model, detail)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let error = self.dropped("no longer needed, or the client left");
        self.close(&End { usage: self.so_far, ..End::unanswered(&error, true) });
    }
}

/// What is said of a call that its time cut off.
pub(super) const LATE: &str = "the time that it was given passed";

/// How a call ended.
pub(super) struct End<'a> {
    pub(super) error: Option<&'a Error>,
    /// It was left before its end, so that the vendor may count more than we have seen.
    pub(super) cut: bool,
    pub(super) usage: Option<Usage>,
    pub(super) output_bytes: usize,
    pub(super) first_content: Option<Instant>,
    pub(super) reported_model: &'a str,
}

impl<'a> End<'a> {
    /// It failed before anything of an answer came.
    pub(super) const fn unanswered(error: &'a Error, cut: bool) -> End<'a> {
        let (usage, output_bytes, first_content) = (None, 0, None);
        End { error: Some(error), cut, usage, output_bytes, first_content, reported_model: "" }
    }
}

/// Tokens that a vendor may have written of an answer before it learns that nobody reads it any more.
const ON_ITS_WAY: u32 = 2_048;
