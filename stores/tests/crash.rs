//! Kills a process that appends, again and again: everything it was told to be kept is kept, once.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod common;

use common::{SaveEvery, Sums, points, request_line, summing, wait, word_line};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use stores::{Config, Store};
use types::outcome::Feedback;
use types::store::OutcomeStore;

/// Names the data directory to the process that will be killed.
const DIR: &str = "TURNOUT_STORES_CRASH_DIR";
/// Sets its identifiers apart from those of other rounds.
const ROUND: &str = "TURNOUT_STORES_CRASH_ROUND";

/// Small, so that files rotate within a round.
const CONFIG: Config = Config {
    spool_max: Config::SPOOL_MAX,
    rotate_bytes: 64 << 10,
    archive_max: Config::ARCHIVE_MAX,
    ring_max: Config::RING_MAX,
    sweep_every: Config::SWEEP_EVERY,
};

/// Not every batch, so that a restart has to tell the observer some of it again.
const SAVE: SaveEvery = SaveEvery(3);

/// The process that will be killed; does nothing when it runs as a test among others.
#[test]
fn child_appends_until_it_is_killed() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let store = Store::open(Path::new(&dir), CONFIG, summing(SAVE).1).unwrap();
    let mut out = std::io::stdout().lock();
    for i in 0..2_000_u32 {
        let id = format!("r{round}-{i}");
        store.append(&request_line(&id, i)).unwrap();
        writeln!(out, "ack {id}").unwrap();
        if i % 5 == 4 {
            // On an earlier request, and by few sources, so that words are superseded.
            let on = format!("r{round}-{}", i / 2);
            store.append(&word_line(&on, &format!("s{}", i % 3), i % 101)).unwrap();
            writeln!(out, "word {on} s{} {}", i % 3, i % 101).unwrap();
        }
        out.flush().unwrap();
    }
    // Wait to be killed.
    loop {
        std::thread::park();
    }
}

fn spawn(dir: &Path, round: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs the child, kills it after about `n` lines, gives every line it got out.
fn run_and_kill(dir: &Path, round: u32, n: usize) -> Vec<String> {
    let mut child = spawn(dir, round);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut seen: Vec<String> = lines.by_ref().take(n).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    seen.extend(lines);
    // The test harness writes "test child_... ... " before the first line, without an end of line.
    let start = |line: &str| line.find("ack ").or_else(|| line.find("word "));
    seen.iter().filter_map(|line| Some(line[start(line)?..].to_owned())).collect()
}

#[test]
fn what_was_acknowledged_is_found_once_and_observed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut requests, mut words) = (BTreeSet::new(), BTreeSet::new());
    let mut random = 0x2545_f491_u32;
    for round in 0..10 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for line in run_and_kill(dir.path(), round, (random >> 8) as usize % 1_500) {
            match line.split_once(' ') {
                Some(("ack", id)) => assert!(requests.insert(id.to_owned()), "{id}"),
                Some((_, word)) => assert!(words.insert(word.to_owned()), "{word}"),
                None => {}
            }
        }

        let (sums, observer) = summing(SAVE);
        let store = Store::open(dir.path(), CONFIG, observer).unwrap();
        wait(store.flush()).unwrap();
        for id in requests.iter().step_by(97) {
            assert!(wait(store.request(id)).unwrap().is_some(), "{id}");
        }
        store.close().unwrap();
        let conn = Connection::open(dir.path().join("outcomes.db")).unwrap();
        let lost: Vec<_> = requests.difference(&ids(&conn)).cloned().collect();
        assert!(lost.is_empty(), "round {round}: {} of {} lost: {lost:?}", lost.len(), requests.len());
        let lost: Vec<_> = words.difference(&said(&conn)).cloned().collect();
        assert!(lost.is_empty(), "round {round}: {} words lost: {lost:?}", lost.len());
        let sums = sums.lock().unwrap().clone();
        assert_eq!(Sums { last: 0, ..sums }, fold(&conn), "round {round}");
    }
    assert!(requests.len() > 1_000 && words.len() > 100, "{} {}", requests.len(), words.len());
}

fn ids(conn: &Connection) -> BTreeSet<String> {
    let mut select = conn.prepare("SELECT request_id FROM records").unwrap();
    let all: Vec<String> = select.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    let set: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "each once");
    set
}

fn said(conn: &Connection) -> BTreeSet<String> {
    let query =
        "SELECT request_id || ' ' || source || ' ' || CAST(round(score * 100) AS INTEGER) FROM feedback";
    let mut select = conn.prepare(query).unwrap();
    select.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
}

/// What an observer that never died would have summed.
fn fold(conn: &Connection) -> Sums {
    let mut sums = Sums::default();
    // The n-th request of a round has n output tokens.
    let tokens = "CAST(substr(request_id, instr(request_id, '-') + 1) AS INTEGER)";
    let query = format!("SELECT count(*), coalesce(sum({tokens}), 0) FROM records");
    let mut select = conn.prepare(&query).unwrap();
    (sums.outcomes, sums.tokens) = select
        .query_row([], |r| Ok((r.get::<_, i64>(0)?.cast_unsigned(), r.get::<_, i64>(1)?.cast_unsigned())))
        .unwrap();
    let mut current: BTreeMap<String, Vec<Feedback>> = BTreeMap::new();
    let mut select = conn
        .prepare("SELECT request_id, source, round(score * 100) FROM feedback ORDER BY applied, seq")
        .unwrap();
    let mut rows = select.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (id, source): (String, String) = (row.get(0).unwrap(), row.get(1).unwrap());
        let words = current.entry(id.clone()).or_default();
        words.retain(|f| f.source != source);
        words.push(common::word(&id, &source, row.get::<_, f64>(2).unwrap() as u32));
        sums.words += 1;
        sums.points += points(words);
    }
    sums
}
