//! What a record that is to be erased leaves: figures, and not a byte of what somebody said, in whatever file.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod common;

use common::{SaveEvery, Sums, expiring, request_line, saying, summing, wait};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stores::{Clock, Config, Error, Store};
use types::store::{OutcomeStore, Record};
use types::usage::Query;

/// What must be found nowhere.
const MARK: &str = "marginalia";

/// Small files, and looks that no test waits for.
fn config() -> Config {
    Config { rotate_bytes: 4 << 10, sweep_every: Duration::from_millis(2), ..Config::default() }
}

fn open(dir: &Path, clock: &Clock) -> (Store, Arc<Mutex<Sums>>) {
    let (sums, observer) = summing(SaveEvery(1));
    let store = Store::open_at(dir, config(), clock.clone(), observer).unwrap();
    wait(store.flush()).unwrap();
    (store, sums)
}

/// Names of the files in which the mark stands.
fn marked(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let holds = |bytes: &[u8]| bytes.windows(MARK.len()).any(|w| w == MARK.as_bytes());
    let marked = files.filter(|e| std::fs::read(e.path()).is_ok_and(|bytes| holds(&bytes)));
    marked.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits, in real time and for a bounded while, until the mark stands where it is wanted.
fn until_marked(dir: &Path, wanted: impl Fn(&[String]) -> bool) {
    let tries = (0..2_000).take_while(|_| {
        std::thread::park_timeout(Duration::from_millis(10));
        !wanted(&marked(dir))
    });
    assert!(tries.count() < 2_000, "it stands in {:?}", marked(dir));
}

/// Waits until the mark stands nowhere.
fn until_unmarked(dir: &Path) {
    until_marked(dir, <[String]>::is_empty);
}

fn lose_the_database(dir: &Path) {
    for name in ["outcomes.db", "outcomes.db-wal", "outcomes.db-shm"] {
        drop(std::fs::remove_file(dir.join(name)));
    }
}

fn is_erased(store: &Store, id: &str) -> bool {
    matches!(wait(store.request(id)), Err(Error::Erased { tenant }) if tenant == "acme")
}

/// Requests of which every second one goes at `due_ms`, and words on them: early, late, changed and repeated ones.
fn fill(store: &Store, due_ms: i64) {
    let append = |record: &Record| store.append(record).unwrap();
    for i in 0..20 {
        let (goes, stays) = (format!("goes{i}"), format!("stays{i}"));
        if i % 4 == 0 {
            append(&saying(&goes, "early", 10, MARK));
        }
        append(&expiring(&goes, i, due_ms, MARK));
        append(&request_line(&stays, i));
        append(&saying(&stays, "user", 50, "fine"));
        for score in [30, 30, 60] {
            append(&saying(&goes, "user", score, MARK));
        }
        if i % 5 == 0 {
            wait(store.flush()).unwrap();
        }
    }
    wait(store.flush()).unwrap();
}

#[test]
fn not_a_byte_stays_and_what_was_counted_and_learned_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (store, sums) = open(dir.path(), &clock);
    fill(&store, 1_000);
    let wanted = sums.lock().unwrap().clone();
    let used = wait(store.usage(Query { limit: 99, ..Query::default() })).unwrap();
    assert_eq!((wanted.outcomes, wanted.words, used.total.requests), (40, 20 + 40 + 5, 40));
    clock.pass(Duration::from_millis(999));
    assert_eq!(wait(store.request("goes7")).unwrap().unwrap().feedback.len(), 2);
    // In the database and in more than one file. A file gets its lasting name at any time, and is missed then.
    until_marked(dir.path(), |names| {
        let of = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
        of("outcomes.db") > 0 && of("spool-") > 1
    });

    // While it runs, the write-ahead log included.
    clock.pass(Duration::from_millis(1));
    until_unmarked(dir.path());
    for restart in ["the same process", "a clean restart", "a state that cannot be read", "a lost database"] {
        let (store, sums) = match restart {
            "the same process" => (store.clone(), Arc::clone(&sums)),
            _ => open(dir.path(), &clock),
        };
        let now = sums.lock().unwrap().clone();
        assert_eq!(Sums { last: 0, ..now }, Sums { last: 0, ..wanted.clone() }, "{restart}");
        let again = wait(store.usage(Query { limit: 99, ..Query::default() })).unwrap();
        assert_eq!(again, used, "{restart}");
        let left: Vec<_> = wait(store.recent(99)).unwrap();
        assert!(left.len() == 20 && left.iter().all(|s| s.record.outcome.request_id.starts_with("stays")));
        assert!((0..20).all(|i| is_erased(&store, &format!("goes{i}"))), "{restart}");
        assert_eq!(marked(dir.path()), [""; 0], "{restart}");
        store.close().unwrap();
        match restart {
            "a clean restart" => {
                let conn = rusqlite::Connection::open(dir.path().join("outcomes.db")).unwrap();
                assert_eq!(conn.execute("UPDATE observer_state SET state = x'00'", []).unwrap(), 1);
            }
            _ if restart != "the same process" => lose_the_database(dir.path()),
            _ => {}
        }
    }
}

#[test]
fn a_record_goes_whose_database_was_lost_before_its_time_and_one_that_falls_due_while_nobody_runs() {
    for lost in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(0);
        let (store, sums) = open(dir.path(), &clock);
        fill(&store, 1_000);
        let wanted = sums.lock().unwrap().clone();
        store.close().unwrap();
        if lost {
            lose_the_database(dir.path());
        }
        clock.pass(Duration::from_secs(1));
        let (store, sums) = open(dir.path(), &clock);
        assert!(is_erased(&store, "goes3"), "to the millisecond, whenever the files follow");
        until_unmarked(dir.path());
        assert_eq!(*sums.lock().unwrap(), wanted, "lost: {lost}");
        assert_eq!(wait(store.recent(99)).unwrap().len(), 20);
    }
}

#[test]
fn what_goes_for_want_of_room_before_its_time_leaves_no_labels_behind() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { archive_max: 16 << 10, ..config() };
    let store = Store::open_at(dir.path(), config, Clock::manual(0), summing(SaveEvery(1)).1).unwrap();
    for i in 0..300 {
        store.append(&expiring(&format!("r{i}"), i, 1_000, MARK)).unwrap();
    }
    wait(store.flush()).unwrap();
    assert!(!marked(dir.path()).is_empty());
    // A file grows on until the one before it is on the disk, so that how many records a file holds is not given.
    let gone = (0..4_000).any(|i| {
        store.append(&request_line(&format!("s{i}"), i)).unwrap();
        wait(store.flush()).unwrap();
        matches!(wait(store.request("r299")), Ok(None))
    });
    assert!(gone, "its file is there");
    // At the latest when the write-ahead log is taken up.
    store.close().unwrap();
    assert_eq!(marked(dir.path()), [""; 0]);
}

#[test]
fn who_reads_meanwhile_finds_a_record_whole_or_erased() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(0);
    let (store, _) = open(dir.path(), &clock);
    for i in 0..400 {
        store.append(&expiring(&format!("r{i}"), i, 10 + i64::from(i), MARK)).unwrap();
    }
    wait(store.flush()).unwrap();
    for i in 0..400_u32 {
        clock.pass(Duration::from_millis(1));
        for id in [i / 2, i, (i + 50).min(399)] {
            match wait(store.request(&format!("r{id}"))) {
                Ok(Some(stored)) => assert_eq!(stored.record.run.steps[0].note.as_deref(), Some(MARK)),
                Err(Error::Erased { .. }) => {}
                odd => panic!("{odd:?}"),
            }
        }
    }
    clock.pass(Duration::from_millis(10));
    until_unmarked(dir.path());
    assert!(wait(store.recent(999)).unwrap().is_empty());
}
