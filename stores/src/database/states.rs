//! States of the observer from earlier hours, to go back to.

use super::sql;
use crate::telling::Telling;
use rusqlite::{Connection, OptionalExtension, params};
use types::store::{Error, Saved};

/// Between two states that are kept.
const EVERY_MS: i64 = 3_600_000;
/// How long one is kept.
const KEPT_MS: i64 = 14 * 24 * EVERY_MS;
/// Bytes of all of them; the oldest go first.
const MOST_BYTES: i64 = 512 << 20;

/// Keeps the observer's state of `now_ms`, when its last request ended, if an hour has passed since the last one that is
/// kept; forgets those that are too old or too much.
///
/// # Errors
/// The database refuses.
pub(super) fn keep(conn: &Connection, telling: &Telling, now_ms: i64) -> Result<(), Error> {
    let last: Option<i64> = conn
        .prepare_cached("SELECT max(unix_ms) FROM states")
        .and_then(|mut select| select.query_row([], |r| r.get(0)))
        .map_err(sql)?;
    if last.is_some_and(|last| now_ms.saturating_sub(last) < EVERY_MS) {
        return Ok(());
    }
    let Some(state) = telling.state() else { return Ok(()) };
    conn.execute("INSERT OR REPLACE INTO states VALUES (?, ?)", params![now_ms, state])
        .and_then(|_| {
            conn.execute("DELETE FROM states WHERE unix_ms < ?", [now_ms.saturating_sub(KEPT_MS)])
        })
        .and_then(|_| {
            conn.execute(
                "DELETE FROM states WHERE unix_ms IN (SELECT unix_ms FROM (SELECT unix_ms, sum(length(state)) OVER \
                 (ORDER BY unix_ms DESC) AS all_bytes FROM states) WHERE all_bytes > ? AND unix_ms < ?)",
                params![MOST_BYTES, now_ms],
            )
        })
        .map_err(sql)?;
    Ok(())
}

/// The state that was kept then. `None` = it is not kept any more.
///
/// # Errors
/// The database cannot be read.
pub(super) fn at(conn: &Connection, unix_ms: i64) -> Result<Option<Vec<u8>>, Error> {
    conn.query_row("SELECT state FROM states WHERE unix_ms = ?", [unix_ms], |r| r.get(0))
        .optional()
        .map_err(sql)
}

/// All that are kept, newest first.
///
/// # Errors
/// The database cannot be read.
pub(super) fn list(conn: &Connection) -> Result<Vec<Saved>, Error> {
    let mut select =
        conn.prepare("SELECT unix_ms, length(state) FROM states ORDER BY unix_ms DESC").map_err(sql)?;
    let row =
        |r: &rusqlite::Row<'_>| Ok(Saved { unix_ms: r.get(0)?, bytes: r.get::<_, i64>(1)?.cast_unsigned() });
    let rows = select.query_map([], row).map_err(sql)?;
    rows.collect::<Result<_, _>>().map_err(sql)
}
