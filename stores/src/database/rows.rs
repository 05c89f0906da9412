//! How a record becomes rows: the request or word itself, its join, the sums, the observer's state.

use super::query::{self, row_word};
use super::sql;
use crate::spool::Line;
use crate::telling::Telling;
use crate::words;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Deserialize;
use types::outcome::{Feedback, Outcome, Status};
use types::run::Verdict;
use types::store::{Error, Seq};

/// The part of a line that rows are made of; the rest is stored as it was written and read on demand.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Head {
    Request(Box<RequestHead>),
    Feedback(Feedback),
}

#[derive(Deserialize)]
pub(super) struct RequestHead {
    pub(super) outcome: Outcome,
}

/// Writes records into one transaction and tells the observer of them.
pub(crate) struct Rows<'a> {
    pub(crate) tx: &'a Transaction<'a>,
    pub(crate) telling: &'a mut Telling,
}

impl Rows<'_> {
    /// Stores a record. One that is here already changes nothing, and one that makes no sense is kept aside:
    /// neither may stop those behind it.
    ///
    /// # Errors
    /// The database refuses.
    pub(crate) fn store(&mut self, line: &Line) -> Result<(), Error> {
        match serde_json::from_slice(&line.payload) {
            Ok(Head::Request(head)) => self.request(line, &head.outcome),
            Ok(Head::Feedback(word)) => self.feedback(line.seq, &word),
            Err(error) => self.unreadable(line, &error),
        }
    }

    /// Ends the batch at `end`: everything before is stored and observed.
    ///
    /// # Errors
    /// The database refuses.
    pub(crate) fn end(&mut self, end: Seq) -> Result<(), Error> {
        save_state(self.tx, self.telling, end)?;
        set_position(self.tx, end)
    }

    fn request(&mut self, line: &Line, outcome: &Outcome) -> Result<(), Error> {
        if !self.insert_request(line, outcome)? {
            return Ok(());
        }
        self.telling.outcome(line.seq, outcome);
        self.count(outcome, 1)?;
        let mut now = outcome.clone();
        for (seq, word) in self.take_orphans(&outcome.request_id)? {
            now = self.join(line.seq, seq, now, &word)?;
        }
        Ok(())
    }

    /// `false` = the request is here already.
    fn insert_request(&self, line: &Line, outcome: &Outcome) -> Result<bool, Error> {
        // `from_slice` has found the line to be valid text; a lossy reading is the same.
        let text = String::from_utf8_lossy(&line.payload);
        let mut insert = self
            .tx
            .prepare_cached(
                "INSERT INTO requests (seq, request_id, ts_ms, tenant, family, cell, workflow, model, served_by, \
                 status, verdict, reward, cost_nanos, tokens, ttft_ms, total_ms, record) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .map_err(sql)?;
        let inserted = insert
            .execute(params![
                line.seq.cast_signed(),
                outcome.request_id,
                outcome.ts_ms,
                outcome.tenant,
                types::axis::AxisValue::as_str(outcome.cell.family),
                outcome.cell.to_string(),
                &*outcome.workflow,
                &*outcome.model,
                outcome.served_by.as_deref(),
                outcome.status.as_str(),
                outcome.verdict.as_str(),
                outcome.reward.map(types::UnitInterval::get),
                outcome.cost_usd.nanos(),
                i64::from(outcome.usage.input) + i64::from(outcome.usage.output),
                outcome.ttft_ms,
                outcome.total_ms,
                text,
            ])
            .map_err(sql)?;
        Ok(inserted == 1)
    }

    fn feedback(&mut self, seq: Seq, word: &Feedback) -> Result<(), Error> {
        match self.outcome(&word.request_id)? {
            Some(outcome) => self.join(seq, seq, outcome, word).map(|_| ()),
            None => self.insert_orphan(seq, word),
        }
    }

    /// The outcome of a request as it stands now.
    fn outcome(&self, request_id: &str) -> Result<Option<Outcome>, Error> {
        let mut select = self
            .tx
            .prepare_cached(
                "SELECT outcome, iif(outcome IS NULL, record, NULL) FROM requests WHERE request_id = ?",
            )
            .map_err(sql)?;
        let found: Option<(Option<String>, Option<String>)> =
            select.query_row([request_id], |r| Ok((r.get(0)?, r.get(1)?))).optional().map_err(sql)?;
        match found {
            None => Ok(None),
            Some((Some(outcome), _)) => query::parse(&outcome, "outcome of request", request_id).map(Some),
            Some((None, record)) => query::written_outcome(&record.unwrap_or_default(), request_id).map(Some),
        }
    }

    /// Lets a word take effect on a request whose outcome is `before`; gives the outcome after it.
    fn join(&mut self, applied: Seq, seq: Seq, before: Outcome, word: &Feedback) -> Result<Outcome, Error> {
        let current = self.current_words(&word.request_id)?;
        if words::repeats(&current, word) {
            return Ok(before);
        }
        let after = self.telling.feedback(applied, &before, &words::with(current, word));
        let written = query::write(&after)?;
        self.insert_word(applied, seq, word, &written)?;
        self.tx
            .prepare_cached(
                "UPDATE requests SET reward = ?, status = ?, verdict = ?, outcome = ? WHERE request_id = ?",
            )
            .and_then(|mut update| {
                update.execute(params![
                    after.reward.map(types::UnitInterval::get),
                    after.status.as_str(),
                    after.verdict.as_str(),
                    written,
                    word.request_id
                ])
            })
            .map_err(sql)?;
        self.count(&before, -1)?;
        self.count(&after, 1)?;
        Ok(after)
    }

    fn current_words(&self, request_id: &str) -> Result<Vec<Feedback>, Error> {
        let mut select = self
            .tx
            .prepare_cached(
                "SELECT request_id, ts_ms, score, reason, source FROM feedback \
                 WHERE request_id = ? AND superseded = 0 ORDER BY applied, seq",
            )
            .map_err(sql)?;
        let rows = select.query_map([request_id], row_word).map_err(sql)?;
        rows.collect::<Result<_, _>>().map_err(sql)
    }

    fn insert_word(&self, applied: Seq, seq: Seq, word: &Feedback, outcome: &str) -> Result<(), Error> {
        self.tx
            .prepare_cached(
                "UPDATE feedback SET superseded = 1 WHERE request_id = ? AND source = ? AND superseded = 0",
            )
            .and_then(|mut update| update.execute([&word.request_id, &word.source]))
            .map_err(sql)?;
        self.tx
            .prepare_cached(
                "INSERT INTO feedback (seq, applied, request_id, source, ts_ms, score, reason, outcome) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    seq.cast_signed(),
                    applied.cast_signed(),
                    word.request_id,
                    word.source,
                    word.ts_ms,
                    word.score.get(),
                    word.reason,
                    outcome
                ])
            })
            .map_err(sql)?;
        Ok(())
    }

    fn insert_orphan(&self, seq: Seq, word: &Feedback) -> Result<(), Error> {
        self.tx
            .prepare_cached("INSERT INTO orphans (seq, request_id, word) VALUES (?, ?, ?)")
            .map_err(sql)?
            .execute(params![seq.cast_signed(), word.request_id, query::write(word)?])
            .map_err(sql)?;
        Ok(())
    }

    /// The words that waited for a request, oldest first; they wait no longer.
    fn take_orphans(&self, request_id: &str) -> Result<Vec<(Seq, Feedback)>, Error> {
        let mut select = self
            .tx
            .prepare_cached("SELECT seq, word FROM orphans WHERE request_id = ? ORDER BY seq")
            .map_err(sql)?;
        let rows = select
            .query_map([request_id], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))
            .map_err(sql)?;
        let mut found = Vec::new();
        for row in rows {
            let (seq, word) = row.map_err(sql)?;
            found.push((seq.cast_unsigned(), query::parse(&word, "feedback on request", request_id)?));
        }
        if !found.is_empty() {
            self.tx.execute("DELETE FROM orphans WHERE request_id = ?", [request_id]).map_err(sql)?;
        }
        Ok(found)
    }

    fn unreadable(&self, line: &Line, error: &serde_json::Error) -> Result<(), Error> {
        tracing::error!(seq = line.seq, %error, "a record makes no sense and is kept aside");
        self.tx
            .execute(
                "INSERT INTO unreadable (seq, error, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                params![line.seq.cast_signed(), error.to_string(), line.payload],
            )
            .map_err(sql)?;
        Ok(())
    }

    /// Adds an outcome to its minute's sums, or takes it away again (`sign` −1).
    fn count(&self, outcome: &Outcome, sign: i64) -> Result<(), Error> {
        let counted = |yes: bool| if yes { sign } else { 0 };
        let signed = |x: f64| if sign < 0 { -x } else { x };
        self.tx
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
            .and_then(|mut upsert| {
                upsert.execute(params![
                    outcome.ts_ms.div_euclid(60_000),
                    outcome.served_by.as_deref().unwrap_or(&outcome.model),
                    sign,
                    counted(outcome.status == Status::Delivered),
                    counted(outcome.verdict == Verdict::Passed),
                    counted(outcome.status == Status::Failed),
                    counted(outcome.repairs > 0),
                    counted(outcome.reward.is_some()),
                    signed(outcome.reward.map_or(0.0, types::UnitInterval::get)),
                    sign.saturating_mul(outcome.cost_usd.nanos()),
                    sign * i64::from(outcome.usage.input),
                    sign * i64::from(outcome.usage.output),
                    counted(outcome.ttft_ms.is_some()),
                    signed(outcome.ttft_ms.unwrap_or(0.0)),
                    signed(outcome.total_ms),
                ])
            })
            .map_err(sql)?;
        Ok(())
    }
}

/// Saves what the observer gives, if it gives something, as its state at `position`.
///
/// # Errors
/// The database refuses.
pub(super) fn save_state(conn: &Connection, telling: &mut Telling, position: Seq) -> Result<(), Error> {
    if let Some(state) = telling.batch_done() {
        conn.prepare_cached("INSERT OR REPLACE INTO observer_state VALUES (1, ?, ?)")
            .and_then(|mut replace| replace.execute(params![state, position.cast_signed()]))
            .map_err(sql)?;
    }
    Ok(())
}

/// The observer's saved state, and the position up to which it had observed then.
///
/// # Errors
/// The database cannot be read.
pub(super) fn state(conn: &Connection) -> Result<Option<(Vec<u8>, Seq)>, Error> {
    conn.query_row("SELECT state, position FROM observer_state", [], |r| {
        Ok((r.get(0)?, r.get::<_, i64>(1)?.cast_unsigned()))
    })
    .optional()
    .map_err(sql)
}

/// Everything before this position of the log is in the database.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn position(conn: &Connection) -> Result<Seq, Error> {
    conn.query_row("SELECT value FROM meta WHERE key = 'position'", [], |r| r.get(0))
        .map(i64::cast_unsigned)
        .map_err(sql)
}

/// See [`position`].
///
/// # Errors
/// The database refuses.
fn set_position(conn: &Connection, position: Seq) -> Result<(), Error> {
    conn.prepare_cached("UPDATE meta SET value = ? WHERE key = 'position'")
        .and_then(|mut update| update.execute([position.cast_signed()]))
        .map_err(sql)?;
    Ok(())
}
