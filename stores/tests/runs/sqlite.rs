//! What SQLite's store promises beyond the suite.

use crate::samples::{TENANT, records, wait, wish, wrote};
use std::time::Duration;
use stores::{Clock, Runs};
use types::runs::{Advance, Authored, Chosen, Durability, Error, RunStore as _, State};
use types::store;

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Runs::open(dir.path(), Clock::system()).unwrap();
    let second = Runs::open(dir.path(), Clock::system());
    let busy = matches!(&second, Err(store::Error::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock);
    assert!(busy, "{:?}", second.err());
    first.close();
    assert!(Runs::open(dir.path(), Clock::system()).is_ok());
}

#[test]
fn a_restart_frees_what_the_process_before_owned() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000);
    let store = Runs::open(dir.path(), clock.clone()).unwrap();
    wait(store.create(wish("run_1"))).unwrap();
    let lease = wait(store.claim("one", 1)).unwrap().taken.remove(0).lease;
    wait(store.advance(&lease, wrote(&records()))).unwrap();
    store.close();
    assert!(matches!(wait(store.renew(&lease)), Err(Error::Store(_))), "it is closed");

    clock.pass(Duration::from_millis(5));
    let store = Runs::open(dir.path(), clock).unwrap();
    let taken = wait(store.claim("two", 1)).unwrap().taken.remove(0);
    assert!(taken.taken_over);
    assert_eq!((taken.lease.epoch, taken.row.head.records), (2, 10));
    assert!(matches!(wait(store.renew(&lease)), Err(Error::Stale { .. })));
}

#[test]
fn what_is_answered_is_committed_to_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = Runs::open(dir.path(), Clock::system()).unwrap();
    wait(store.create(wish("run_1"))).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("runs").join("runs.db")).unwrap();
    let state: String =
        conn.query_row("SELECT state FROM runs WHERE id = 'run_1'", [], |r| r.get(0)).unwrap();
    assert_eq!(state, State::Queued.as_str());
}

#[test]
fn a_newer_database_is_refused_and_a_damaged_row_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Runs::open(dir.path(), Clock::system()).unwrap();
    wait(store.create(wish("run_1"))).unwrap();
    store.close();
    let path = dir.path().join("runs").join("runs.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE runs SET head = '{' WHERE id = 'run_1'", []).unwrap();
    drop(conn);
    let store = Runs::open(dir.path(), Clock::system()).unwrap();
    let broken = wait(store.get(TENANT, "run_1"));
    assert!(
        matches!(&broken, Err(Error::Store(store::Error::Corrupt(why))) if why.contains("run_1")),
        "{broken:?}"
    );
    store.close();
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(conn);
    assert!(matches!(Runs::open(dir.path(), Clock::system()), Err(store::Error::Corrupt(_))));
}

#[test]
fn a_database_of_before_knows_the_plans_its_runs_are_pinned_to() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1_000_000_000);
    let store = Runs::open(dir.path(), clock.clone()).unwrap();
    for plan in ["p1", "p2"] {
        wait(store.put_plan(plan, serde_json::json!({"of": plan}))).unwrap();
    }
    wait(store.create(wish("run_1"))).unwrap();
    let lease = wait(store.claim("one", 1)).unwrap().taken.remove(0).lease;
    let (workflow, durability) = ("default".to_owned(), Durability::Exit);
    let plan = Chosen { workflow, plan: "p1".to_owned(), durability, authored: Authored::default() };
    wait(store.advance(&lease, Advance { plan: Some(plan), ..wrote(&records()) })).unwrap();
    store.close();

    let conn = rusqlite::Connection::open(dir.path().join("runs").join("runs.db")).unwrap();
    conn.execute_batch(
        "DROP INDEX runs_pinned; ALTER TABLE runs DROP COLUMN plan; DROP INDEX plans_put; \
         CREATE TABLE before (hash TEXT PRIMARY KEY, plan TEXT NOT NULL) STRICT, WITHOUT ROWID; \
         INSERT INTO before SELECT hash, plan FROM plans; DROP TABLE plans; \
         ALTER TABLE before RENAME TO plans; PRAGMA user_version = 3;",
    )
    .unwrap();
    drop(conn);

    let store = Runs::open(dir.path(), clock).unwrap();
    wait(store.purge(0, 10)).unwrap();
    assert_eq!(wait(store.plan("p1")).unwrap().unwrap(), serde_json::json!({"of": "p1"}));
    assert_eq!(wait(store.plan("p2")).unwrap(), None, "no run is pinned to it");
}
