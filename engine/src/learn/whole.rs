//! How long whole answers of a model take, and after what time calls of it were cut off.

use super::Latency;
use serde::{Deserialize, Serialize};

/// Tokens that the beginning of an answer counts as, so that one pace fits short and long ones: the time to the first
/// token of a usual model is that of so many more.
const LEAD: f64 = 48.0;
/// What remains of what was seen once a call tells otherwise.
const KEPT: f64 = 0.5;

/// What is known of the time of a model's whole answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// Milliseconds per token of answers, their beginning counted as some tokens more.
    pace: Latency,
    /// Milliseconds of answers, whatever their length.
    took: Latency,
    /// Milliseconds after which calls were cut off.
    cut: Latency,
    /// When one was last answered or cut off, Unix time in milliseconds.
    seen_ms: i64,
}

impl Whole {
    /// An answer of so many tokens took so long.
    pub(crate) fn answered(&mut self, total_ms: f64, tokens: u32, discount: f64, now_ms: i64) {
        // Sooner than others were cut off: it is not, or no longer, as slow as those seemed.
        if self.cut.measured().is_some_and(|cut| total_ms < cut) {
            self.cut.scale(KEPT);
        }
        self.pace.add(total_ms / length(f64::from(tokens)), discount);
        self.took.add(total_ms, discount);
        self.seen_ms = now_ms;
    }

    /// A call had no whole answer after so long.
    pub(crate) fn cut_off(&mut self, after_ms: f64, discount: f64, now_ms: i64) {
        let longest = self.took.measured().into_iter().chain(self.cut.measured()).fold(0.0, f64::max);
        // After a fraction of the time that it is known to take, nothing is told.
        if after_ms < longest * KEPT {
            return;
        }
        // A model that changed is soon believed to have: what is longer than was known halves what was.
        if self.took.measured().is_some_and(|took| after_ms > took) {
            self.pace.scale(KEPT);
            self.took.scale(KEPT);
        }
        if self.cut.measured().is_some_and(|cut| after_ms * KEPT > cut) {
            self.cut.scale(KEPT);
        }
        self.cut.add(after_ms, discount);
        self.seen_ms = now_ms;
    }

    /// The model is another: what was seen is worth `factor` of what it was.
    pub(super) fn scale(&mut self, factor: f64) {
        for seen in [&mut self.pace, &mut self.took, &mut self.cut] {
            seen.scale(factor);
        }
    }

    /// Logarithm of the milliseconds that an answer of so many tokens usually takes, as far as answers were seen.
    pub(crate) fn usual_ln(&self, tokens: f64) -> Option<f64> {
        Some(self.pace.measured_ln()? + length(tokens).ln())
    }

    /// Answers that were seen, discounted.
    pub(crate) const fn answers(&self) -> f64 {
        self.pace.n()
    }

    /// How far the times of answers of one length scatter, as a deviation of their logarithm.
    pub(crate) fn spread(&self) -> f64 {
        self.pace.spread()
    }

    /// After how many milliseconds calls were cut off, and how many.
    pub(crate) fn cuts(&self) -> Option<(f64, f64)> {
        Some((self.cut.measured()?, self.cut.n()))
    }

    /// How long ago something was seen of it, in milliseconds, not below 0; `None` = nothing was yet.
    pub(crate) fn age_ms(&self, now_ms: i64) -> Option<i64> {
        (self.seen_ms != 0).then(|| now_ms.saturating_sub(self.seen_ms).max(0))
    }
}

fn length(tokens: f64) -> f64 {
    LEAD + tokens
}
