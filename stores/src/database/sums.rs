//! Counts and sums per minute and model, gathered over a batch and written once.

use super::sql;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::sync::Arc;
use types::outcome::{Outcome, Status};
use types::run::Verdict;
use types::store::Error;

/// What a batch adds.
#[derive(Default)]
pub(super) struct Sums(HashMap<(i64, Arc<str>), Row>);

#[derive(Clone, Copy, Default)]
struct Row {
    requests: i64,
    delivered: i64,
    passed: i64,
    failed: i64,
    repaired: i64,
    rewarded: i64,
    reward: f64,
    cost_nanos: i64,
    input_tokens: i64,
    output_tokens: i64,
    ttfts: i64,
    ttft_ms: f64,
    total_ms: f64,
}

impl Sums {
    /// Adds an outcome to its minute, or takes it away again (`sign` −1).
    pub(super) fn count(&mut self, outcome: &Outcome, sign: i64) {
        let model = outcome.served_by.as_ref().unwrap_or(&outcome.model);
        let row = self.0.entry((outcome.ts_ms.div_euclid(60_000), Arc::clone(model))).or_default();
        let counted = |yes: bool| if yes { sign } else { 0 };
        let signed = |x: f64| if sign < 0 { -x } else { x };
        row.requests += sign;
        row.delivered += counted(outcome.status == Status::Delivered);
        row.passed += counted(outcome.verdict == Verdict::Passed);
        row.failed += counted(outcome.status == Status::Failed);
        row.repaired += counted(outcome.repairs > 0);
        row.rewarded += counted(outcome.reward.is_some());
        row.reward += signed(outcome.reward.map_or(0.0, types::UnitInterval::get));
        row.cost_nanos = row.cost_nanos.saturating_add(sign.saturating_mul(outcome.cost_usd.nanos()));
        row.input_tokens += sign * i64::from(outcome.usage.input);
        row.output_tokens += sign * i64::from(outcome.usage.output);
        row.ttfts += counted(outcome.ttft_ms.is_some());
        row.ttft_ms += signed(outcome.ttft_ms.unwrap_or(0.0));
        row.total_ms += signed(outcome.total_ms);
    }

    /// Adds all of it to what the database holds.
    ///
    /// # Errors
    /// The database refuses.
    pub(super) fn write(&self, conn: &Connection) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut upsert = conn
            .prepare_cached(
                "INSERT INTO rollups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
                 requests = requests + excluded.requests, delivered = delivered + excluded.delivered, \
                 passed = passed + excluded.passed, failed = failed + excluded.failed, \
                 repaired = repaired + excluded.repaired, rewarded = rewarded + excluded.rewarded, \
                 reward_sum = reward_sum + excluded.reward_sum, cost_nanos = cost_nanos + excluded.cost_nanos, \
                 input_tokens = input_tokens + excluded.input_tokens, \
                 output_tokens = output_tokens + excluded.output_tokens, \
                 ttft_count = ttft_count + excluded.ttft_count, ttft_ms_sum = ttft_ms_sum + excluded.ttft_ms_sum, \
                 total_ms_sum = total_ms_sum + excluded.total_ms_sum",
            )
            .map_err(sql)?;
        for ((minute, model), r) in &self.0 {
            upsert
                .execute(params![
                    minute,
                    &**model,
                    r.requests,
                    r.delivered,
                    r.passed,
                    r.failed,
                    r.repaired,
                    r.rewarded,
                    r.reward,
                    r.cost_nanos,
                    r.input_tokens,
                    r.output_tokens,
                    r.ttfts,
                    r.ttft_ms,
                    r.total_ms,
                ])
                .map_err(sql)?;
        }
        Ok(())
    }
}
