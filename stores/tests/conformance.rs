//! What every store promises, asked of each of them.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod common;

use common::{SaveEvery, Sums, request, request_line, summing, wait, word, word_line};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use stores::{Config, Memory, Store};
use types::outcome::Feedback;
use types::store::{OutcomeStore, Stored};

struct Subject {
    store: Box<dyn OutcomeStore>,
    sums: Arc<Mutex<Sums>>,
    _dir: Option<tempfile::TempDir>,
}

fn memory() -> Subject {
    let (sums, observer) = summing(SaveEvery(1));
    Subject { store: Box::new(Memory::new(Memory::CAPACITY, observer).unwrap()), sums, _dir: None }
}

fn embedded() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let (sums, observer) = summing(SaveEvery(1));
    let store = Store::open(dir.path(), Config::default(), observer).unwrap();
    Subject { store: Box::new(store), sums, _dir: Some(dir) }
}

type Case = fn(&Subject);

const CASES: &[(&str, Case)] = &[
    ("what was appended is found at once, as it was", found_as_it_was),
    ("what is not there is not found", not_found),
    ("the newest come first", newest_first),
    ("feedback joins, and the last word of a source counts", feedback_joins),
    ("the same word again changes nothing", repetition),
    ("feedback waits for its request", early_feedback),
    ("a request is kept once", twice),
    ("many threads, one order", many_threads),
];

/// Runs every case against a fresh store.
fn check(make: fn() -> Subject) {
    for (name, case) in CASES {
        let subject = make();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&subject)));
        assert!(result.is_ok(), "case: {name}");
        wait(subject.store.flush()).unwrap();
        assert_eq!(subject.sums.lock().unwrap().disorder, 0, "case: {name}");
    }
}

#[test]
fn memory_conforms() {
    check(memory);
}

#[test]
fn the_embedded_store_conforms() {
    check(embedded);
}

impl Subject {
    fn append(&self, lines: &[types::store::Record]) -> Vec<u64> {
        lines.iter().map(|line| self.store.append(line).unwrap()).collect()
    }

    fn request(&self, id: &str) -> Option<Stored> {
        wait(self.store.request(id)).unwrap()
    }

    fn sums(&self) -> Sums {
        wait(self.store.flush()).unwrap();
        self.sums.lock().unwrap().clone()
    }
}

fn found_as_it_was(s: &Subject) {
    for i in 0..20 {
        let id = format!("r{i}");
        s.append(&[request_line(&id, i)]);
        assert_eq!(s.request(&id).unwrap(), Stored { record: request(&id, i), feedback: Vec::new() });
    }
    assert_eq!((s.sums().outcomes, s.sums().tokens), (20, 190));
}

fn not_found(s: &Subject) {
    assert_eq!(s.request("nobody"), None);
    s.append(&[word_line("nobody", "user", 10)]);
    assert_eq!(s.request("nobody"), None);
    assert_eq!(wait(s.store.recent(10)).unwrap(), Vec::new());
}

fn newest_first(s: &Subject) {
    for i in 0..5 {
        s.append(&[request_line(&format!("r{i}"), i)]);
    }
    let ids = |n| -> Vec<String> {
        wait(s.store.recent(n)).unwrap().into_iter().map(|x| x.record.outcome.request_id).collect()
    };
    assert_eq!(ids(3), ["r4", "r3", "r2"]);
    assert_eq!(ids(99).len(), 5);
    assert_eq!(ids(0).len(), 0);
}

fn scores(feedback: &[Feedback]) -> Vec<(&str, f64)> {
    feedback.iter().map(|f| (f.source.as_str(), f.score.get())).collect()
}

fn feedback_joins(s: &Subject) {
    s.append(&[
        request_line("r", 1),
        request_line("other", 1),
        word_line("r", "user", 10),
        word_line("r", "test", 50),
        word_line("r", "user", 90),
    ]);
    let stored = s.request("r").unwrap();
    assert_eq!(scores(&stored.feedback), [("user", 0.1), ("test", 0.5), ("user", 0.9)]);
    assert_eq!(stored.record.outcome.reward.unwrap().get(), 0.7, "of 0.5 and 0.9");
    assert_eq!(stored.record.decision, request("r", 1).decision);
    assert_eq!(s.request("other").unwrap().record, request("other", 1));
    // 10, then (10 + 50) / 2, then (50 + 90) / 2.
    assert_eq!((s.sums().words, s.sums().points), (3, 110));
}

fn repetition(s: &Subject) {
    let mut later = word("r", "user", 10);
    later.ts_ms += 5;
    let mut reasoned = later.clone();
    reasoned.reason = Some("wrong".to_owned());
    s.append(&[request_line("r", 1), word_line("r", "user", 10)]);
    s.append(&[types::store::Record::Feedback(later)]);
    assert_eq!(s.sums().words, 1);
    assert_eq!(s.request("r").unwrap().feedback, [word("r", "user", 10)]);
    s.append(&[types::store::Record::Feedback(reasoned.clone())]);
    assert_eq!(s.request("r").unwrap().feedback, [word("r", "user", 10), reasoned]);
}

fn early_feedback(s: &Subject) {
    s.append(&[word_line("r", "user", 10), word_line("r", "test", 30), word_line("q", "user", 80)]);
    assert_eq!(s.sums().words, 0);
    s.append(&[word_line("r", "user", 10), request_line("r", 1), word_line("r", "test", 40)]);
    let stored = s.request("r").unwrap();
    assert_eq!(scores(&stored.feedback), [("user", 0.1), ("test", 0.3), ("test", 0.4)]);
    assert_eq!(stored.record.outcome.parts.feedback, Some(0.25));
    assert_eq!((s.sums().words, s.sums().points), (3, 10 + 20 + 25));
}

fn twice(s: &Subject) {
    s.append(&[request_line("r", 1), request_line("r", 2), word_line("r", "user", 40)]);
    assert_eq!(s.request("r").unwrap().record.outcome.usage.output, 1);
    assert_eq!(wait(s.store.recent(9)).unwrap().len(), 1);
    assert_eq!((s.sums().outcomes, s.sums().tokens), (1, 1));
}

fn many_threads(s: &Subject) {
    const EACH: u32 = 100;
    let seqs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|t| {
                let line = move |i| request_line(&format!("t{t}-{i}"), i);
                scope.spawn(move || (0..EACH).map(|i| s.store.append(&line(i)).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    for own in &seqs {
        assert!(own.is_sorted(), "positions grow");
    }
    assert_eq!(seqs.iter().flatten().collect::<BTreeSet<_>>().len(), 800, "positions are unique");
    let found = wait(s.store.recent(10_000)).unwrap();
    let ids: BTreeSet<_> = found.iter().map(|x| x.record.outcome.request_id.clone()).collect();
    let wanted: BTreeSet<_> = (0..8).flat_map(|t| (0..EACH).map(move |i| format!("t{t}-{i}"))).collect();
    assert_eq!(ids, wanted);
    assert_eq!((s.sums().outcomes, s.sums().tokens), (800, 8 * 4950));
}

#[test]
fn memory_forgets_the_oldest() {
    let (_, observer) = summing(SaveEvery(1));
    let store = Memory::new(3, observer).unwrap();
    for i in 0..5 {
        store.append(&request_line(&format!("r{i}"), i)).unwrap();
    }
    assert_eq!(wait(store.recent(9)).unwrap().len(), 3);
    assert_eq!(wait(store.request("r1")).unwrap(), None);
    assert!(wait(store.request("r2")).unwrap().is_some());
    store.close();
    assert!(store.append(&request_line("late", 1)).is_err());
    assert_eq!(store.stats().stored, 5);
}
