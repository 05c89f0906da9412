//! How rows become what was recorded.

use super::rows::Head;
use super::sql;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::UnitInterval;
use types::outcome::{Feedback, Outcome};
use types::store::{Error, Record, Stored};

/// The most words of one request that are read: the newest.
const MAX_WORDS: i64 = 1_000;

/// Finds a request.
///
/// # Errors
/// The database cannot be read, or what it holds is not understood.
pub(crate) fn request(conn: &Connection, request_id: &str) -> Result<Option<Stored>, Error> {
    // One snapshot for both tables.
    let tx = conn.unchecked_transaction().map_err(sql)?;
    let found = tx
        .prepare_cached("SELECT record, outcome FROM requests WHERE request_id = ?")
        .map_err(sql)?
        .query_row([request_id], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
        .map_err(sql)?;
    found.map(|row| stored(&tx, request_id, &row)).transpose()
}

/// The newest requests, newest first. One that is not understood is left out, so that it does not hide the
/// others; asked for by itself it gives its error.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn recent(conn: &Connection, limit: usize) -> Result<Vec<Stored>, Error> {
    let tx = conn.unchecked_transaction().map_err(sql)?;
    let mut select = tx
        .prepare_cached("SELECT request_id, record, outcome FROM requests ORDER BY seq DESC LIMIT ?")
        .map_err(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        select.query_map([limit], |r| Ok((r.get::<_, String>(0)?, (r.get(1)?, r.get(2)?)))).map_err(sql)?;
    let mut found = Vec::new();
    for row in rows {
        let (request_id, row) = row.map_err(sql)?;
        match stored(&tx, &request_id, &row) {
            Ok(stored) => found.push(stored),
            Err(Error::Corrupt(why)) => tracing::warn!(why, "left out of the list of requests"),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn stored(conn: &Connection, request_id: &str, row: &(String, Option<String>)) -> Result<Stored, Error> {
    let (record, outcome) = row;
    let mut record = match parse(record, "record of request", request_id)? {
        Record::Request(record) => *record,
        Record::Feedback(_) => {
            return Err(Error::Corrupt(format!("the record of request {request_id} is feedback")));
        }
    };
    if let Some(outcome) = outcome {
        record.outcome = parse(outcome, "outcome of request", request_id)?;
    }
    Ok(Stored { record, feedback: words(conn, request_id)? })
}

/// Every word on a request, oldest first, superseded ones included.
fn words(conn: &Connection, request_id: &str) -> Result<Vec<Feedback>, Error> {
    let mut select = conn
        .prepare_cached(
            "SELECT request_id, ts_ms, score, reason, source FROM feedback \
             WHERE request_id = ? ORDER BY applied DESC, seq DESC LIMIT ?",
        )
        .map_err(sql)?;
    let rows = select.query_map(params![request_id, MAX_WORDS], row_word).map_err(sql)?;
    let mut words = rows.collect::<Result<Vec<_>, _>>().map_err(sql)?;
    words.reverse();
    Ok(words)
}

/// A word from the columns `request_id, ts_ms, score, reason, source`.
pub(super) fn row_word(row: &Row<'_>) -> rusqlite::Result<Feedback> {
    Ok(Feedback {
        request_id: row.get(0)?,
        ts_ms: row.get(1)?,
        score: UnitInterval::clamped(row.get(2)?),
        reason: row.get(3)?,
        source: row.get(4)?,
    })
}

/// The outcome in a request's line, as it was written.
///
/// # Errors
/// The line is not one of a request.
pub(super) fn written_outcome(record: &str, request_id: &str) -> Result<Outcome, Error> {
    match parse(record, "record of request", request_id)? {
        Head::Request(head) => Ok(head.outcome),
        Head::Feedback(_) => Err(Error::Corrupt(format!("the record of request {request_id} is feedback"))),
    }
}

/// Reads JSON of a row.
///
/// # Errors
/// It is not what `what` is in this version.
pub(super) fn parse<T: DeserializeOwned>(json: &str, what: &str, request_id: &str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|e| Error::Corrupt(format!("the {what} {request_id}: {e}")))
}

/// Writes JSON for a row.
///
/// # Errors
/// None in practice: what is written here has string keys only.
pub(super) fn write(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::Io(e.into()))
}
