//! Calls that were begun for requests that have not ended: what is left of those that a killed process cut off.

use super::sql;
use crate::record;
use rusqlite::{Connection, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use types::begun::{Begun, unsettled, unsettled_late};
use types::store::{Error, Record, Seq};

/// The calls of a batch. Most requests begin and end within one, and so leave nothing in the table.
pub(super) struct Calls {
    /// By request: positions and contents.
    fresh: HashMap<String, Vec<(Seq, Vec<u8>)>>,
    /// The table holds something; mostly it does not.
    kept: bool,
}

impl Calls {
    /// Begins a batch.
    ///
    /// # Errors
    /// The database refuses.
    pub(super) fn new(tx: &Transaction<'_>) -> Result<Self, Error> {
        let kept = tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM begun)")
            .and_then(|mut select| select.query_row([], |r| r.get(0)))
            .map_err(sql)?;
        Ok(Calls { fresh: HashMap::new(), kept })
    }

    /// A call begins. `what` it is made for: a request, or what [`late`] names.
    pub(super) fn begin(&mut self, seq: Seq, what: String, content: &[u8]) {
        self.fresh.entry(what).or_default().push((seq, content.to_vec()));
    }

    /// A request, or what is done after its response, has ended: its own line says what its calls came to.
    ///
    /// # Errors
    /// The database refuses.
    pub(super) fn end(&mut self, tx: &Transaction<'_>, request_id: &str) -> Result<(), Error> {
        self.fresh.remove(request_id);
        if self.kept {
            tx.prepare_cached("DELETE FROM begun WHERE request_id = ?")
                .and_then(|mut delete| delete.execute([request_id]))
                .map_err(sql)?;
        }
        Ok(())
    }

    /// Ends the batch: what is still under way is kept.
    ///
    /// # Errors
    /// The database refuses.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> Result<(), Error> {
        let mut insert = tx
            .prepare_cached(
                "INSERT INTO begun (seq, request_id, content) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .map_err(sql)?;
        for (request_id, calls) in &self.fresh {
            for (seq, content) in calls {
                insert.execute(params![seq.cast_signed(), request_id, content]).map_err(sql)?;
            }
        }
        Ok(())
    }
}

/// The name of what is done after the response of a request: it ends by itself.
pub(super) fn late(request_id: &str) -> String {
    format!("{request_id}\n")
}

/// What is to be recorded at `ts_ms` of requests, and of what is done after their responses, that began before `end`,
/// where the log of an earlier process ends, and have no record.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn cut_off(conn: &Connection, end: Seq, ts_ms: i64) -> Result<Vec<Record>, Error> {
    let mut select =
        conn.prepare("SELECT request_id, content FROM begun WHERE seq < ? ORDER BY seq").map_err(sql)?;
    let rows = select
        .query_map([end.cast_signed()], |r| Ok((r.get::<_, String>(0)?, r.get::<_, Vec<u8>>(1)?)))
        .map_err(sql)?;
    let mut calls: BTreeMap<String, Vec<Begun>> = BTreeMap::new();
    for row in rows {
        let (request_id, content) = row.map_err(sql)?;
        match record::begun(&content) {
            Ok(begun) => calls.entry(request_id).or_default().push(begun),
            Err(why) => tracing::warn!(request_id, why, "a call that was begun is not understood"),
        }
    }
    let record = |calls: &Vec<Begun>| match calls.first()?.late {
        true => unsettled_late(calls, ts_ms).map(Record::Late),
        false => unsettled(calls).map(|r| Record::Request(Box::new(r))),
    };
    Ok(calls.values().filter_map(record).collect())
}
