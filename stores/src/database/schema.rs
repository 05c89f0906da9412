//! The tables, and how an older database becomes a current one.

use super::sql;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use types::store::Error;

/// Step `i` brings a database of `user_version` `i` to `i + 1`. Steps are never changed, only added.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
    include_str!("schema/9.sql"),
    include_str!("schema/10.sql"),
];

/// Brings the database `name` to the last version, each step in one transaction. One that holds something is
/// copied first, to `<name>-v<version>.bak` beside it.
///
/// # Errors
/// The database is newer than the steps, or one fails, which leaves it at the version before.
pub(crate) fn migrate(conn: &mut Connection, dir: &Path, name: &str, steps: &[&str]) -> Result<(), Error> {
    let found = version(conn)?;
    if found > steps.len() {
        return Err(Error::Corrupt(format!(
            "the database in {} has version {found}, this program knows {} at most; use the program that wrote it, \
             or another data directory",
            dir.display(),
            steps.len()
        )));
    }
    if found < steps.len() && !is_empty(conn)? {
        back_up(conn, &dir.join(format!("{name}-v{found}.bak")))?;
    }
    for (i, step) in steps.iter().enumerate().skip(found) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        tx.execute_batch(step).map_err(|e| {
            Error::Database(format!(
                "bringing the database in {} from version {i} to {}: {e}",
                dir.display(),
                i + 1
            ))
        })?;
        tx.execute_batch(&format!("PRAGMA user_version = {}", i + 1)).map_err(sql)?;
        tx.commit().map_err(sql)?;
    }
    Ok(())
}

fn version(conn: &Connection) -> Result<usize, Error> {
    let found: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(sql)?;
    usize::try_from(found)
        .map_err(|_| Error::Corrupt(format!("the database has version {found}, expected 0 or more")))
}

fn is_empty(conn: &Connection) -> Result<bool, Error> {
    conn.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0)).map_err(sql)
}

/// A copy of an earlier, failed upgrade gives way: the database is unchanged since, or has grown.
fn back_up(conn: &Connection, to: &Path) -> Result<(), Error> {
    if to.exists() {
        std::fs::remove_file(to)?;
    }
    let name = to.to_str().ok_or_else(|| {
        Error::Database(format!("the path {} is no valid text, which SQLite needs", to.display()))
    })?;
    conn.execute("VACUUM INTO ?1", [name]).map_err(sql)?;
    tracing::info!(copy = name, "copied the database before bringing it up to date");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[&str] = &[
        "CREATE TABLE a (x INTEGER NOT NULL); INSERT INTO a VALUES (1);",
        "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7;",
        "CREATE TABLE b AS SELECT x + y AS z FROM a;",
    ];

    fn database(dir: &Path, steps: &[&str]) -> (Connection, Result<(), Error>) {
        let mut conn = Connection::open(dir.join("outcomes.db")).unwrap();
        let result = migrate(&mut conn, dir, "outcomes", steps);
        (conn, result)
    }

    fn number(conn: &Connection, query: &str) -> i64 {
        conn.query_row(query, [], |r| r.get(0)).unwrap()
    }

    #[test]
    fn every_older_version_becomes_the_last_one() {
        for from in 0..=STEPS.len() {
            let dir = tempfile::tempdir().unwrap();
            database(dir.path(), &STEPS[..from]).1.unwrap();
            let (conn, result) = database(dir.path(), STEPS);
            result.unwrap();
            assert_eq!(version(&conn).unwrap(), STEPS.len());
            assert_eq!(number(&conn, "SELECT z FROM b"), 8);

            let copy = dir.path().join(format!("outcomes-v{from}.bak"));
            assert_eq!(copy.exists(), (1..STEPS.len()).contains(&from), "copy of version {from}");
            if copy.exists() {
                let copy = Connection::open(copy).unwrap();
                assert_eq!(version(&copy).unwrap(), from);
                assert_eq!(number(&copy, "SELECT x FROM a"), 1);
            }
        }
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        database(dir.path(), STEPS).1.unwrap();
        let (conn, result) = database(dir.path(), &STEPS[..2]);
        let message = result.unwrap_err().to_string();
        assert!(message.contains("has version 3, this program knows 2 at most"), "{message}");
        assert_eq!(version(&conn).unwrap(), 3);
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let broken = [STEPS[0], "CREATE TABLE c (x); CREATE TABLE a (x);"];
        let (conn, result) = database(dir.path(), &broken);
        assert!(result.unwrap_err().to_string().contains("from version 1 to 2: table a already exists"));
        assert_eq!(version(&conn).unwrap(), 1);
        assert_eq!(number(&conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'c'"), 0);
    }
}
