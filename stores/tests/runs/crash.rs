//! Kills a process at every journal boundary: what it was told to be written is there, once, and the next
//! process can go on.

use crate::samples::{TENANT, ended, records, wait, wish, wrote};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use stores::{Clock, Runs};
use types::runs::{Created, NewRun, Record, RunStore, State};

/// Names the data directory to the process that will be killed.
const DIR: &str = "TURNOUT_RUNS_CRASH_DIR";
/// What it says when nothing is left to do.
const OVER: &str = "over";

/// The process that will be killed; does nothing when it runs as a test among others.
#[test]
fn child_advances_a_run_until_it_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = Runs::open(Path::new(&dir), Clock::system()).unwrap();
    let mut out = std::io::stdout().lock();
    let mut say = |what: &str| {
        writeln!(out, "ack {what}").unwrap();
        out.flush().unwrap();
    };
    advance(&store, &mut say);
    // Who was killed between the end and saying so leaves nothing to claim: the next one must say that.
    say(OVER);
    // Wait to be killed.
    loop {
        std::thread::park();
    }
}

/// Goes on where the journal ends: creates the run if it is absent, writes record by record, ends it.
fn advance(store: &Runs, say: &mut dyn FnMut(&str)) {
    let key = types::runs::Key { route: "/v1/runs".into(), key: "k".into(), body: "b".into() };
    let created = wait(store.create(NewRun { key: Some(key), ..wish("run_1") })).unwrap();
    say(if matches!(created, Created::New(_)) { "created" } else { "found" });
    let Some(claimed) = wait(store.claim("child", 1)).unwrap().taken.into_iter().next() else { return };
    say(&format!("claimed {}", claimed.lease.epoch));
    let done = usize::try_from(claimed.row.head.records).unwrap();
    for (i, record) in records().into_iter().enumerate().skip(done) {
        wait(store.advance(&claimed.lease, wrote(&[record]))).unwrap();
        say(&format!("wrote {}", i + 1));
    }
    wait(store.advance(&claimed.lease, ended(State::Succeeded))).unwrap();
    say("ended");
}

/// Runs the child and kills it after its `n`-th acknowledgement, or when nothing is left to do; gives all it got out.
fn kill_after(dir: &Path, n: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::child_advances_a_run_until_it_is_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The harness writes "test ... " before the first line, without an end of line.
    let mut acks = lines.filter_map(|l| l.find("ack ").map(|at| l[at + 4..].to_owned()));
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < n && !seen.iter().any(|s| s == OVER) {
        seen.push(acks.next().expect("it ended early"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    seen.extend(acks);
    seen
}

fn written(said: &[String]) -> usize {
    said.iter().filter_map(|s| s.strip_prefix("wrote ")?.parse().ok()).max().unwrap_or(0)
}

/// Boundaries of the child: created, claimed, each record, the end.
const BOUNDARIES: usize = 13;

/// Scenario 18 of the workflow format, as far as the store goes.
#[test]
fn scenario_18_what_was_acknowledged_is_there_at_every_boundary() {
    for n in 1..=BOUNDARIES {
        let dir = tempfile::tempdir().unwrap();
        let said = kill_after(dir.path(), n);
        let store = Runs::open(dir.path(), Clock::system()).unwrap();
        let head = wait(store.get(TENANT, "run_1")).unwrap().unwrap().head;
        let entries = wait(store.journal("run_1", 0, 1_000)).unwrap();
        assert_eq!(entries.len() as u64, head.records, "killed after {n}");
        assert!(entries.iter().zip(1..).all(|(e, seq)| e.seq == seq), "killed after {n}");
        let found: Vec<Record> = entries.into_iter().map(|e| e.record).collect();
        let whole = ended(State::Succeeded).records;
        let all: Vec<Record> = records().into_iter().chain(whole).collect();
        // What was being written when the kill came may be there or not; what was told is.
        assert_eq!(found, all[..found.len()], "killed after {n}");
        assert!(found.len() >= written(&said), "killed after {n}: {said:?}");
        if said.iter().any(|s| s == "ended") {
            assert_eq!(head.state, State::Succeeded);
        }
        // The next process finishes the run, without writing anything twice.
        advance(&store, &mut |_| {});
        let entries = wait(store.journal("run_1", 0, 1_000)).unwrap();
        assert_eq!(entries.into_iter().map(|e| e.record).collect::<Vec<_>>(), all, "killed after {n}");
        let row = wait(store.get(TENANT, "run_1")).unwrap().unwrap();
        assert_eq!(row.head.state, State::Succeeded);
        assert!(row.head.epoch <= 2, "{}", row.head.epoch);
    }
}

#[test]
fn a_run_survives_a_kill_at_every_step_of_its_way() {
    let dir = tempfile::tempdir().unwrap();
    // Each process gets three acknowledgements far: found, claimed, one record.
    let mut epochs = Vec::new();
    for round in 0..records().len() {
        let said = kill_after(dir.path(), 3);
        assert_eq!(said[0], if round == 0 { "created" } else { "found" });
        epochs.extend(said.iter().filter_map(|s| s.strip_prefix("claimed ")?.parse::<u64>().ok()));
        if said.iter().any(|s| s == "ended" || s == OVER) {
            break;
        }
    }
    assert!(epochs.len() > 3 && epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    let store = Runs::open(dir.path(), Clock::system()).unwrap();
    advance(&store, &mut |_| {});
    let entries = wait(store.journal("run_1", 0, 1_000)).unwrap();
    assert_eq!(entries.len(), records().len() + 1);
    assert!(entries.is_sorted_by(|a, b| a.epoch <= b.epoch));
}
