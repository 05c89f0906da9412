//! How rows, and the files they point into, become what was recorded.

use super::sql;
use crate::archive::Archive;
use crate::record::{self, Hash};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use types::UnitInterval;
use types::decision::Exclusion;
use types::outcome::{Feedback, Outcome};
use types::store::{Error, RequestRecord, Saved, Stored};
use types::usage::{Query, Report};

/// The most words of one request that are read: the newest.
const MAX_WORDS: i64 = 1_000;

/// Finds requests: the database says where, the archive what.
pub(crate) struct Finder {
    conn: Connection,
    archive: Archive,
    /// The constants found last, which most records share.
    constants: Option<(Hash, Arc<Vec<Exclusion>>)>,
}

/// `seq, request_id, outcome, record` of a request.
type Found = (i64, String, Option<String>, Option<String>);

fn row(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

impl Finder {
    pub(crate) fn new(conn: Connection, archive: Archive) -> Self {
        Finder { conn, archive, constants: None }
    }

    /// Finds a request, as things stand at `now_ms`.
    ///
    /// # Errors
    /// Its time is over; the database or the archive cannot be read, or what they hold is not understood.
    pub(crate) fn request(&mut self, request_id: &str, now_ms: i64) -> Result<Option<Stored>, Error> {
        let mut found = self.look(request_id);
        if matches!(found, Err(Error::Corrupt(_))) {
            // It may have been erased between the look into the database and that into the file. The database knows first.
            found = self.look(request_id);
        }
        match found {
            Ok(Some(stored)) if stored.record.outcome.has_expired(now_ms) => {
                Err(Error::Erased { tenant: stored.record.outcome.tenant })
            }
            found => found,
        }
    }

    fn look(&mut self, request_id: &str) -> Result<Option<Stored>, Error> {
        // One snapshot for both tables.
        let tx = self.conn.unchecked_transaction().map_err(sql)?;
        let found = tx
            .prepare_cached(
                "SELECT seq, request_id, outcome, record, erased FROM records WHERE request_id = ?",
            )
            .and_then(|mut select| {
                select.query_row([request_id], |r| Ok((row(r)?, r.get::<_, Option<String>>(4)?))).optional()
            })
            .map_err(sql)?;
        let found = match found {
            Some((_, Some(tenant))) => return Err(Error::Erased { tenant }),
            found => found.map(|(found, _)| found),
        };
        found.map_or(Ok(None), |found| stored(&tx, &mut self.archive, &mut self.constants, found))
    }

    /// What was used and what it cost.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn usage(&self, query: &Query) -> Result<Report, Error> {
        super::used::report(&self.conn, query)
    }

    /// The states of the statistics that are kept, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub(crate) fn saved(&self) -> Result<Vec<Saved>, Error> {
        super::states::list(&self.conn)
    }

    /// The newest requests, newest first. One that is not understood is left out, so that it does not hide the
    /// others; asked for by itself it gives its error.
    ///
    /// # Errors
    /// The database or the archive cannot be read.
    pub(crate) fn recent(&mut self, limit: usize) -> Result<Vec<Stored>, Error> {
        let tx = self.conn.unchecked_transaction().map_err(sql)?;
        let mut select = tx
            .prepare_cached(
                "SELECT seq, request_id, outcome, record FROM records WHERE erased IS NULL ORDER BY seq DESC LIMIT ?",
            )
            .map_err(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select.query_map([limit], row).map_err(sql)?;
        let mut found = Vec::new();
        for row in rows {
            match stored(&tx, &mut self.archive, &mut self.constants, row.map_err(sql)?) {
                Ok(stored) => found.extend(stored),
                Err(Error::Corrupt(why)) => tracing::warn!(why, "left out of the list of requests"),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

fn stored(
    conn: &Connection,
    archive: &mut Archive,
    known: &mut Option<(Hash, Arc<Vec<Exclusion>>)>,
    (seq, request_id, outcome, record): Found,
) -> Result<Option<Stored>, Error> {
    let Some(payload) = payload(archive, seq, record)? else { return Ok(None) };
    let (mut record, hash) = record::request(&payload).map_err(|why| odd("record", &request_id, &why))?;
    if let Some(hash) = hash {
        record.decision.unavailable = constants(conn, known, hash, &record)?;
    }
    if let Some(outcome) = outcome {
        record.outcome = parse(&outcome, "outcome of request", &request_id)?;
    }
    Ok(Some(Stored { record, feedback: words(conn, &request_id)? }))
}

/// A record as it was written: in its row, or in the archive. `None` = it is gone.
fn payload(archive: &mut Archive, seq: i64, record: Option<String>) -> Result<Option<Vec<u8>>, Error> {
    record.map_or_else(|| archive.read(seq.cast_unsigned()), |text| Ok(Some(text.into_bytes())))
}

fn constants(
    conn: &Connection,
    known: &mut Option<(Hash, Arc<Vec<Exclusion>>)>,
    hash: Hash,
    record: &RequestRecord,
) -> Result<Arc<Vec<Exclusion>>, Error> {
    if let Some((_, all)) = known.as_ref().filter(|(known, _)| *known == hash) {
        return Ok(Arc::clone(all));
    }
    let content: Option<Vec<u8>> = conn
        .prepare_cached("SELECT content FROM constants WHERE hash = ?")
        .and_then(|mut select| select.query_row([hash], |r| r.get(0)).optional())
        .map_err(sql)?;
    let request_id = &record.decision.request_id;
    let Some(content) = content else {
        tracing::warn!(request_id, "which models could not be called at all is no longer known");
        return Ok(Arc::default());
    };
    let all = Arc::new(record::constants(&content).map_err(|why| odd("constants", request_id, &why))?);
    *known = Some((hash, Arc::clone(&all)));
    Ok(all)
}

fn odd(what: &str, request_id: &str, why: &str) -> Error {
    Error::Corrupt(format!("the {what} of request {request_id}: {why}"))
}

/// Every word on a request, oldest first, superseded ones included.
fn words(conn: &Connection, request_id: &str) -> Result<Vec<Feedback>, Error> {
    let mut select = conn
        .prepare_cached(
            "SELECT request_id, ts_ms, score, reason, source, principal FROM feedback \
             WHERE request_id = ? ORDER BY applied DESC, seq DESC LIMIT ?",
        )
        .map_err(sql)?;
    let rows = select.query_map(params![request_id, MAX_WORDS], row_word).map_err(sql)?;
    let mut words = rows.collect::<Result<Vec<_>, _>>().map_err(sql)?;
    words.reverse();
    Ok(words)
}

/// A word from the columns `request_id, ts_ms, score, reason, source, principal`.
pub(super) fn row_word(row: &Row<'_>) -> rusqlite::Result<Feedback> {
    Ok(Feedback {
        request_id: row.get(0)?,
        ts_ms: row.get(1)?,
        score: UnitInterval::clamped(row.get(2)?),
        reason: row.get(3)?,
        source: row.get(4)?,
        principal: row.get(5)?,
    })
}

/// The outcome of a request as it was written. `None` = its record is gone.
///
/// # Errors
/// The archive cannot be read, or what stands there is none of a request.
pub(super) fn written_outcome(
    archive: &mut Archive,
    seq: i64,
    record: Option<String>,
    request_id: &str,
) -> Result<Option<Outcome>, Error> {
    let payload = payload(archive, seq, record)?;
    payload.map(|p| record::outcome(&p).map_err(|why| odd("record", request_id, &why))).transpose()
}

/// The outcome of a request as it stands now. `None` = there is no such request, or no more.
///
/// # Errors
/// The database or the archive cannot be read, or what they hold is not understood.
pub(super) fn current_outcome(
    conn: &Connection,
    archive: &mut Archive,
    request_id: &str,
) -> Result<Option<Outcome>, Error> {
    let found: Option<(i64, Option<String>, Option<String>)> = conn
        .prepare_cached("SELECT seq, outcome, record FROM records WHERE request_id = ?")
        .and_then(|mut select| {
            select.query_row([request_id], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).optional()
        })
        .map_err(sql)?;
    match found {
        None => Ok(None),
        Some((_, Some(outcome), _)) => parse(&outcome, "outcome of request", request_id).map(Some),
        Some((seq, None, record)) => written_outcome(archive, seq, record, request_id),
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
