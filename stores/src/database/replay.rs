//! Tells the observer again what its saved state does not know, from the rows and the archive.

use super::query::{parse, row_word, written_outcome};
use super::{rows, sql};
use crate::archive::Archive;
use crate::telling::Telling;
use crate::words;
use rusqlite::{Connection, OptionalExtension, params};
use types::outcome::Outcome;
use types::store::{Error, Seq};

/// Brings the observer to `position`, the end of what the database holds: its saved state, then every
/// request and word after it, in the order and with the values of the first time. What it says of feedback
/// is in the rows already and not taken again.
///
/// A state it cannot read counts as none: everything is told again.
///
/// # Errors
/// The database cannot be read, or does not take the observer's new state.
pub(crate) fn catch_up(
    conn: &mut Connection,
    archive: &mut Archive,
    telling: &mut Telling,
    position: Seq,
) -> Result<(), Error> {
    let from = match rows::state(conn)? {
        None => 0,
        Some((state, at)) => match telling.restore(&state) {
            Ok(()) => at,
            Err(error) => {
                tracing::warn!(
                    error,
                    "the saved statistics cannot be read; they are learned again from all records"
                );
                0
            }
        },
    };
    let told = replay(conn, archive, telling, from)?;
    if told > 0 {
        tracing::info!(records = told, from, "told the observer again what its state did not know");
        let tx = conn.transaction().map_err(sql)?;
        rows::save_state(&tx, telling, position)?;
        tx.commit().map_err(sql)?;
        telling.committed();
    }
    Ok(())
}

fn replay(conn: &Connection, archive: &mut Archive, telling: &mut Telling, from: Seq) -> Result<u64, Error> {
    let mut select = conn
        .prepare(
            "SELECT seq AS at, 0 AS word, seq, request_id, record FROM records WHERE seq >= ?1 UNION ALL \
             SELECT applied, 1, seq, request_id, NULL FROM feedback WHERE applied >= ?1 ORDER BY 1, 2, 3",
        )
        .map_err(sql)?;
    let mut rows = select.query([from.cast_signed()]).map_err(sql)?;
    let mut told = 0;
    while let Some(row) = rows.next().map_err(sql)? {
        let (at, word, seq): (i64, bool, i64) =
            (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?, row.get(2).map_err(sql)?);
        let request_id: String = row.get(3).map_err(sql)?;
        if word {
            replay_word(conn, archive, telling, &request_id, at, seq)?;
        } else if let Some(outcome) = written_outcome(archive, seq, row.get(4).map_err(sql)?, &request_id)? {
            telling.outcome(at.cast_unsigned(), &outcome);
        }
        // Nothing here is tried again, so nothing needs to be kept.
        telling.committed();
        telling.begin();
        told += 1;
    }
    Ok(told)
}

fn replay_word(
    conn: &Connection,
    archive: &mut Archive,
    telling: &mut Telling,
    request_id: &str,
    applied: i64,
    seq: i64,
) -> Result<(), Error> {
    let Some(before) = outcome_before(conn, archive, request_id, applied, seq)? else { return Ok(()) };
    let mut select = conn
        .prepare_cached(
            "SELECT request_id, ts_ms, score, reason, source, principal FROM feedback \
             WHERE request_id = ?1 AND (applied, seq) <= (?2, ?3) ORDER BY applied, seq",
        )
        .map_err(sql)?;
    let said = select.query_map(params![request_id, applied, seq], row_word).map_err(sql)?;
    let mut all = Vec::new();
    for word in said {
        all = words::with(all, &word.map_err(sql)?);
    }
    telling.feedback(applied.cast_unsigned(), &before, &all);
    Ok(())
}

/// The outcome of a request before a word took effect: that after the word before, or as it was written.
fn outcome_before(
    conn: &Connection,
    archive: &mut Archive,
    request_id: &str,
    applied: i64,
    seq: i64,
) -> Result<Option<Outcome>, Error> {
    let earlier: Option<String> = conn
        .prepare_cached(
            "SELECT outcome FROM feedback WHERE request_id = ?1 AND (applied, seq) < (?2, ?3) \
             ORDER BY applied DESC, seq DESC LIMIT 1",
        )
        .and_then(|mut select| select.query_row(params![request_id, applied, seq], |r| r.get(0)).optional())
        .map_err(sql)?;
    if let Some(outcome) = earlier {
        return parse(&outcome, "outcome of request", request_id).map(Some);
    }
    let (at, record) = conn
        .prepare_cached("SELECT seq, record FROM records WHERE request_id = ?")
        .and_then(|mut select| select.query_row([request_id], |r| Ok((r.get(0)?, r.get(1)?))))
        .map_err(sql)?;
    written_outcome(archive, at, record, request_id)
}
