//! A process that is killed anywhere on the way of an erasure: the next one ends it, and knows what the first one knew.

use super::{Due, begin, finish};
use crate::archive::Archive;
use crate::database;
use crate::samples::{SaveEvery, Sums, expiring, request_line, saying, summing, wait};
use crate::spool::{Disk, HEADER, Limits, Spool};
use crate::{Clock, Config, Store};
use rusqlite::Connection;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::store::{Error, OutcomeStore};

/// What must be found nowhere.
const MARK: &str = "marginalia";

/// When the record in question goes.
const DUE: i64 = 1_000;

const LIMITS: Limits =
    Limits { spool_max: 1 << 30, rotate_bytes: 1 << 30, ring_max: 1 << 20, archive_max: 1 << 30 };

fn open(dir: &Path, now_ms: i64) -> (Store, Sums) {
    let (sums, observer) = summing(SaveEvery(0));
    let store = Store::open_at(dir, Config::default(), Clock::manual(now_ms), observer).unwrap();
    wait(store.flush()).unwrap();
    let sums = sums.lock().unwrap().clone();
    (store, sums)
}

/// A folder with one record that goes, words on it, and records around it; and what an observer was told of them.
fn folder() -> (tempfile::TempDir, Sums) {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), 0);
    store.append(&request_line("before", 1)).unwrap();
    store.append(&expiring("it", 2, DUE, MARK)).unwrap();
    store.append(&saying("it", "user", 30, MARK)).unwrap();
    store.append(&request_line("after", 4)).unwrap();
    wait(store.flush()).unwrap();
    store.close().unwrap();
    let (store, sums) = open(dir.path(), 0);
    store.close().unwrap();
    assert!(marked(dir.path()) && sums.words == 1);
    (dir, sums)
}

/// Whether the mark stands in any file.
fn marked(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(MARK.len()).any(|w| w == MARK.as_bytes()))
}

/// The parts of a store that erase, without its threads.
fn parts(dir: &Path) -> (Connection, Arc<Spool>, Archive) {
    let conn = database::writer(dir).unwrap();
    let moved = database::position(&conn).unwrap();
    let spool = Arc::new(Spool::open(dir, LIMITS, moved, Box::new(Disk)).unwrap().0);
    let archive = Archive::new(Arc::clone(&spool));
    (conn, spool, archive)
}

/// What stands in the database about lines that are overwritten: position and what comes there.
fn named(conn: &Connection) -> Vec<(u64, Vec<u8>)> {
    let mut select = conn.prepare("SELECT seq, stays FROM erasing ORDER BY seq").unwrap();
    let rows = select.query_map([], |r| Ok((r.get::<_, i64>(0)?.cast_unsigned(), r.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn log(dir: &Path) -> PathBuf {
    dir.join("spool-00000000000000000000.log")
}

/// The next process finds the record gone and everything else as it was; so does one that has only the files.
fn check_healed(dir: &Path, wanted: &Sums, case: &str) {
    for database in [true, false] {
        if !database {
            for name in ["outcomes.db", "outcomes.db-wal", "outcomes.db-shm"] {
                drop(std::fs::remove_file(dir.join(name)));
            }
        }
        let (store, sums) = open(dir, DUE);
        assert_eq!(sums, *wanted, "{case}, with the database: {database}");
        let gone = wait(store.request("it"));
        assert!(matches!(&gone, Err(Error::Erased { tenant }) if tenant == "acme"), "{case}: {gone:?}");
        let left: Vec<_> =
            wait(store.recent(9)).unwrap().into_iter().map(|s| s.record.outcome.request_id).collect();
        assert_eq!(left, ["after", "before"], "{case}");
        store.close().unwrap();
        assert!(!marked(dir), "{case}, with the database: {database}");
    }
}

#[test]
fn whoever_is_killed_before_anything_is_overwritten_is_followed_by_who_does_it() {
    let (dir, wanted) = folder();
    let (mut conn, spool, mut archive) = parts(dir.path());
    assert_eq!(begin(&mut conn, &mut archive, DUE - 1).unwrap(), Due::None);
    assert_eq!(begin(&mut conn, &mut archive, DUE).unwrap(), Due::All);
    assert_eq!(named(&conn).len(), 2, "the request and the word");
    drop((conn, spool, archive));
    assert!(marked(dir.path()), "the database only says what is to be done");
    check_healed(dir.path(), &wanted, "killed after the word");
}

#[test]
fn a_line_that_is_overwritten_in_part_is_overwritten_again() {
    let (dir, wanted) = folder();
    let (mut conn, spool, mut archive) = parts(dir.path());
    begin(&mut conn, &mut archive, DUE).unwrap();
    let seq = named(&conn)[0].0;
    let before = std::fs::read(log(dir.path())).unwrap();
    finish(&conn, &spool).unwrap();
    let after = std::fs::read(log(dir.path())).unwrap();
    assert_eq!(before.len(), after.len(), "nothing moves");
    drop((conn, spool, archive));

    let start = usize::try_from(seq).unwrap();
    let length = u32::from_le_bytes(*before[start..].first_chunk().unwrap()) as usize;
    let end = start + HEADER + length;
    for cut in [0, 4, 7, HEADER].into_iter().chain((HEADER + 1..HEADER + length).step_by(331)) {
        let (dir, again) = folder();
        assert_eq!(again, wanted);
        let (mut conn, spool, mut archive) = parts(dir.path());
        begin(&mut conn, &mut archive, DUE).unwrap();
        drop((conn, spool, archive));
        // What a power cut leaves of a write, in whatever order: its beginning, or its end.
        for part in [start..start + cut, start + cut..end] {
            let mut file = OpenOptions::new().write(true).open(log(dir.path())).unwrap();
            file.write_all(&before).unwrap();
            file.seek(SeekFrom::Start(part.start as u64)).unwrap();
            file.write_all(&after[part]).unwrap();
        }
        check_healed(dir.path(), &wanted, &format!("cut at {cut}"));
    }
}

#[test]
fn what_was_overwritten_and_is_still_named_is_overwritten_again() {
    let (dir, wanted) = folder();
    let (mut conn, spool, mut archive) = parts(dir.path());
    begin(&mut conn, &mut archive, DUE).unwrap();
    let named = conn.query_row("SELECT count(*) FROM erasing", [], |r| r.get::<_, i64>(0)).unwrap();
    conn.execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM erasing").unwrap();
    finish(&conn, &spool).unwrap();
    conn.execute_batch("INSERT INTO erasing SELECT * FROM kept").unwrap();
    assert_eq!(named, 2);
    drop((conn, spool, archive));
    check_healed(dir.path(), &wanted, "killed before it was noted as done");
}

#[test]
fn what_stands_in_other_files_than_the_database_tells_of_is_not_touched() {
    let (dir, _) = folder();
    let (mut conn, spool, mut archive) = parts(dir.path());
    begin(&mut conn, &mut archive, DUE).unwrap();
    conn.execute_batch("UPDATE erasing SET length = length + 1").unwrap();
    let before = std::fs::read(log(dir.path())).unwrap();
    finish(&conn, &spool).unwrap();
    assert_eq!(std::fs::read(log(dir.path())).unwrap(), before);
}
