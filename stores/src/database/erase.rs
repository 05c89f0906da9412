//! Records whose time is over: first the database forgets what they say, then their lines in the log are overwritten.
//!
//! The two are not one transaction, so the database says first, and for certain, what is to stand in each line. From then
//! on nobody reads such a line, and whoever finds the word later overwrites it again ([`finish`]).

use super::query::{current_outcome, parse, write};
use super::{sql, used};
use crate::archive::Archive;
use crate::record;
use crate::spool::{Instead, Spool};
use crate::used::Used;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::collections::BTreeSet;
use types::outcome::Outcome;
use types::store::{Error, Seq};

/// The most lines that are overwritten at once: they are held in memory meanwhile.
const MOST: i64 = 256;

/// What [`begin`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    None,
    /// All that was due.
    All,
    /// As much as is done at once.
    Some,
}

/// Notes that a line is to be erased, and when.
///
/// # Errors
/// The database refuses.
pub(super) fn expires(conn: &Connection, seq: Seq, request_id: &str, due_ms: i64) -> Result<(), Error> {
    conn.prepare_cached("INSERT INTO expiring VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .and_then(|mut insert| insert.execute(params![seq.cast_signed(), request_id, due_ms]))
        .map_err(sql)?;
    Ok(())
}

/// Takes what is due by `now_ms` out of the database, and writes there what is to stand in its lines. That is on the disk
/// when this returns: a power cut must not take it back once a line is overwritten.
///
/// # Errors
/// The database refuses.
pub(crate) fn begin(conn: &mut Connection, archive: &mut Archive, now_ms: i64) -> Result<Due, Error> {
    let due = lines(
        conn,
        "SELECT seq, request_id FROM expiring WHERE due_ms <= ? ORDER BY due_ms, seq LIMIT ?",
        now_ms,
    )?;
    take(conn, archive, &due)
}

/// As [`begin`], of what stands before a position and goes with its file, whenever it is due: nothing that was counted
/// under its labels may stay when nobody knows them any more.
///
/// # Errors
/// The database refuses.
pub(crate) fn begin_before(conn: &mut Connection, archive: &mut Archive, first: Seq) -> Result<Due, Error> {
    let going = "SELECT seq, request_id FROM expiring WHERE seq < ? ORDER BY seq LIMIT ?";
    let due = lines(conn, going, first.cast_signed())?;
    take(conn, archive, &due)
}

fn take(conn: &mut Connection, archive: &mut Archive, due: &[(Seq, String)]) -> Result<Due, Error> {
    if due.is_empty() {
        return Ok(Due::None);
    }
    conn.execute_batch("PRAGMA synchronous = FULL").map_err(sql)?;
    let done = forget(conn, archive, due);
    conn.execute_batch("PRAGMA synchronous = NORMAL").map_err(sql)?;
    done?;
    let all = i64::try_from(due.len()).is_ok_and(|n| n < MOST);
    Ok(if all { Due::All } else { Due::Some })
}

/// Overwrites the lines that [`begin`] named.
///
/// # Errors
/// The disk or the database refuses; those that it refuses are still named.
pub(crate) fn finish(conn: &Connection, spool: &Spool) -> Result<(), Error> {
    let mut select = conn.prepare_cached("SELECT seq, length, stays FROM erasing").map_err(sql)?;
    let rows = select
        .query_map([], |r| {
            let length = usize::try_from(r.get::<_, i64>(1)?).unwrap_or(0);
            Ok(Instead { seq: r.get::<_, i64>(0)?.cast_unsigned(), length, left: r.get(2)? })
        })
        .map_err(sql)?;
    let all = rows.collect::<Result<Vec<_>, _>>().map_err(sql)?;
    if all.is_empty() {
        return Ok(());
    }
    let (done, refused) = spool.overwrite(&all);
    let mut delete = conn.prepare_cached("DELETE FROM erasing WHERE seq = ?").map_err(sql)?;
    for seq in done {
        delete.execute([seq.cast_signed()]).map_err(sql)?;
    }
    refused.map_or(Ok(()), Err)
}

/// Up to [`MOST`] lines that are below a bound, by a statement that says of what.
fn lines(conn: &Connection, statement: &'static str, bound: i64) -> Result<Vec<(Seq, String)>, Error> {
    let mut select = conn.prepare_cached(statement).map_err(sql)?;
    let rows = select
        .query_map([bound, MOST], |r| Ok((r.get::<_, i64>(0)?.cast_unsigned(), r.get(1)?)))
        .map_err(sql)?;
    rows.collect::<Result<_, _>>().map_err(sql)
}

fn forget(conn: &mut Connection, archive: &mut Archive, due: &[(Seq, String)]) -> Result<(), Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    for (seq, request_id) in due {
        if let Some((length, left)) = instead(archive, *seq, request_id)? {
            tx.prepare_cached("INSERT OR REPLACE INTO erasing VALUES (?, ?, ?)")
                .and_then(|mut insert| insert.execute(params![seq.cast_signed(), length, left]))
                .map_err(sql)?;
        }
        tx.prepare_cached("DELETE FROM expiring WHERE seq = ?")
            .and_then(|mut delete| delete.execute([seq.cast_signed()]))
            .map_err(sql)?;
    }
    let mut labels = Used::default();
    for request_id in due.iter().map(|(_, id)| id).collect::<BTreeSet<_>>() {
        of_request(&tx, archive, request_id, &mut labels)?;
    }
    used::forget_tags(&labels, &tx)?;
    tx.commit().map_err(sql)
}

/// Length of a line's payload, and what is to stand in its place; `None` = nothing in it has to go.
fn instead(archive: &mut Archive, seq: Seq, request_id: &str) -> Result<Option<(i64, Vec<u8>)>, Error> {
    let odd = |why: String| {
        tracing::error!(
            seq,
            request_id,
            why,
            "a record that is to be erased makes no sense and stays as it is"
        );
        None
    };
    match archive.read(seq) {
        Ok(None) => Ok(None),
        Ok(Some(payload)) => {
            let length = i64::try_from(payload.len()).unwrap_or(i64::MAX);
            Ok(record::erased(&payload).unwrap_or_else(odd).map(|left| (length, left)))
        }
        // One that is damaged must not keep the others.
        Err(Error::Corrupt(why)) => Ok(odd(why).map(|left| (0, left))),
        Err(error) => Err(error),
    }
}

/// Takes out of the rows of a request what its record says; `labels` get what was counted under its labels.
fn of_request(
    tx: &Transaction<'_>,
    archive: &mut Archive,
    request_id: &str,
    labels: &mut Used,
) -> Result<(), Error> {
    let outcome = current_outcome(tx, archive, request_id).or_else(|error| match error {
        Error::Corrupt(why) => {
            tracing::error!(request_id, why, "what is erased was counted under labels that are not known");
            Ok(None)
        }
        error => Err(error),
    })?;
    let tenant = outcome.as_ref().map(|o| o.tenant.as_str()).unwrap_or_default();
    let first = tx
        .prepare_cached("UPDATE records SET erased = ? WHERE request_id = ? AND erased IS NULL")
        .and_then(|mut update| update.execute([tenant, request_id]))
        .map_err(sql)?;
    // Its lines may go one after the other; what it counted goes once.
    if let Some(outcome) = outcome.filter(|_| first > 0) {
        labels.count_tags(&outcome, -1);
        // From now on nobody reads it in its line, which may not be overwritten at once.
        tx.prepare_cached("UPDATE records SET outcome = ? WHERE request_id = ?")
            .and_then(|mut update| update.execute(params![write(&outcome.figures()).ok(), request_id]))
            .map_err(sql)?;
    }
    tx.prepare_cached("UPDATE feedback SET reason = NULL WHERE request_id = ?")
        .and_then(|mut update| update.execute([request_id]))
        .map_err(sql)?;
    figures(tx, "records", request_id)?;
    figures(tx, "feedback", request_id)
}

/// Leaves of the outcomes in the rows of a request what stays.
fn figures(tx: &Transaction<'_>, table: &'static str, request_id: &str) -> Result<(), Error> {
    let select = format!("SELECT seq, outcome FROM {table} WHERE request_id = ? AND outcome IS NOT NULL");
    let mut select = tx.prepare_cached(&select).map_err(sql)?;
    let rows = select.query_map([request_id], |r| Ok((r.get(0)?, r.get(1)?))).map_err(sql)?;
    let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>().map_err(sql)?;
    let mut update =
        tx.prepare_cached(&format!("UPDATE {table} SET outcome = ? WHERE seq = ?")).map_err(sql)?;
    for (seq, outcome) in rows {
        match parse::<Outcome>(&outcome, "outcome of request", request_id) {
            Ok(outcome) => update.execute(params![write(&outcome.figures())?, seq]).map_err(sql)?,
            // One that is damaged must not keep the others.
            Err(error) => {
                tracing::error!(%error, table, "an outcome that is to lose its labels stays as it is");
                0
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests;
