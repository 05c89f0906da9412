//! The SQLite database: how it is opened, and the error it gives.

mod begun;
pub(crate) mod erase;
pub(crate) mod query;
pub(crate) mod replay;
mod rows;
pub(crate) mod schema;
mod states;
mod sums;
mod used;

pub(crate) use begun::cut_off;
pub(crate) use rows::{Rows, forget, position};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;
use types::store::Error;

/// File name within the data directory, without its ending.
const NAME: &str = "outcomes";

/// The first version in which resetting the write-ahead log cannot corrupt the database.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long a statement waits for another connection's lock.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the connection that writes, there is one, and brings the schema up to date.
///
/// # Errors
/// SQLite is too old, the file cannot be opened or is no database of ours, or of a newer version.
pub(crate) fn writer(dir: &Path) -> Result<Connection, Error> {
    let conn = open_writer(dir, NAME, schema::MIGRATIONS)?;
    // Each batch writes the same few pages again; the longer the log, the fewer of them go to the disk twice.
    // What is deleted is overwritten with zeros: what was erased must not be found in what looks empty.
    let pragmas = "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000; PRAGMA secure_delete = ON;";
    conn.execute_batch(pragmas).map_err(sql)?;
    Ok(conn)
}

/// Opens the connection that writes the database `name`, and brings it up to date with `steps`.
///
/// # Errors
/// As [`writer`].
pub(crate) fn open_writer(dir: &Path, name: &str, steps: &[&str]) -> Result<Connection, Error> {
    check_sqlite(rusqlite::version_number())?;
    let mut conn = Connection::open(file(dir, name)).map_err(sql)?;
    conn.busy_timeout(BUSY).map_err(sql)?;
    schema::migrate(&mut conn, dir, name, steps)?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0)).map_err(sql)?;
    if mode != "wal" {
        return Err(Error::Database(format!(
            "the file system of {} allows no write-ahead log (journal mode is {mode}); use a local disk",
            dir.display()
        )));
    }
    // Without this SQLite plans a statement anew whenever a bound value changes, which is every time, and that
    // was a third of the writer's work.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(sql)?;
    conn.execute_batch("PRAGMA mmap_size = 0;").map_err(sql)?;
    Ok(conn)
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.db"))
}

/// Opens a connection that only reads.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn reader(dir: &Path) -> Result<Connection, Error> {
    open_reader(dir, NAME)
}

/// Opens a connection that only reads the database `name`.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open_reader(dir: &Path, name: &str) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file(dir, name), flags).map_err(sql)?;
    conn.busy_timeout(BUSY).map_err(sql)?;
    conn.execute_batch("PRAGMA mmap_size = 0;").map_err(sql)?;
    Ok(conn)
}

/// How much of the write-ahead log to bring into the database file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Checkpoint {
    /// What no reader still needs.
    Passive,
    /// All, and empty the log.
    Truncate,
}

/// Brings the write-ahead log into the database file and onto the disk; `true` = all of it.
///
/// # Errors
/// The disk refuses.
pub(crate) fn checkpoint(conn: &Connection, how: Checkpoint) -> Result<bool, Error> {
    let pragma = match how {
        Checkpoint::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Checkpoint::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?, r.get(2)?));
    let (busy, log, done): (i64, i64, i64) = conn.query_row(pragma, [], row).map_err(sql)?;
    Ok(busy == 0 && log == done)
}

/// The seam's error for one of SQLite.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
pub(crate) fn sql(error: rusqlite::Error) -> Error {
    Error::Database(error.to_string())
}

fn check_sqlite(version: i32) -> Result<(), Error> {
    if version >= OLDEST_SQLITE {
        return Ok(());
    }
    Err(Error::Database(format!(
        "SQLite {version} can corrupt its write-ahead log, expected {OLDEST_SQLITE} or later; build with the bundled one"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlite_that_can_corrupt_its_log_is_refused() {
        for (version, taken) in [(3_051_002, false), (3_051_003, true), (rusqlite::version_number(), true)] {
            assert_eq!(check_sqlite(version).is_ok(), taken, "{version}");
        }
    }
}
