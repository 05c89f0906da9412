//! What every store promises, asked of each of them.
#![expect(clippy::unwrap_used, reason = "the helpers of tests may fail like tests")]

mod common;

use common::{SaveEvery, Sums, request, request_line, saying, summing, wait, word, word_line};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stores::{Clock, Config, Memory, Store};
use types::outcome::{Account, Billed, Feedback, Late, ReferenceCost};
use types::run::AtMost;
use types::store::{Error, OutcomeStore, Record, RequestRecord, Stored};
use types::usage::{GroupBy, Query, Report, Sums as Used};
use types::{Usage, Usd};

struct Subject {
    store: Box<dyn OutcomeStore>,
    clock: Clock,
    sums: Arc<Mutex<Sums>>,
    _dir: Option<tempfile::TempDir>,
}

/// Often, so that no test waits for it.
const SWEEP_EVERY: Duration = Duration::from_millis(2);

fn memory() -> Subject {
    let (sums, observer) = summing(SaveEvery(1));
    let clock = Clock::manual(0);
    let store = Memory::new_at(Memory::CAPACITY, clock.clone(), SWEEP_EVERY, observer).unwrap();
    Subject { store: Box::new(store), clock, sums, _dir: None }
}

fn embedded() -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let (sums, observer) = summing(SaveEvery(1));
    let config = Config { sweep_every: SWEEP_EVERY, ..Config::default() };
    let clock = Clock::manual(0);
    let store = Store::open_at(dir.path(), config, clock.clone(), observer).unwrap();
    Subject { store: Box::new(store), clock, sums, _dir: Some(dir) }
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
    ("usage sums up by whom and by what", usage_by),
    ("a word that changes an outcome changes the sums", usage_and_feedback),
    ("what is paid after a response is counted once, whenever it comes", usage_and_late),
    ("a record whose time is over is erased, and its figures stay", erased),
];

fn erased(s: &Subject) {
    let day = 20_000;
    let goes = |id: &str, team: &str| {
        let mut r = paid_request(id, day, "k1", team);
        r.outcome.expires_ms = Some(60_000);
        s.store.append(&Record::Request(Box::new(r))).unwrap();
    };
    goes("gone", "jane");
    s.store.append(&paid("stays", day, "k1", "red")).unwrap();
    s.store.append(&saying("gone", "user", 40, "she said so")).unwrap();
    let found = wait(s.store.request("gone")).unwrap().unwrap();
    assert_eq!(found.feedback.len(), 1);
    let tags = |s: &Subject| report(s, GroupBy::Tag, |_| {});
    let want = [("app=web", 2, 600), ("team=jane", 1, 300), ("team=red", 1, 300)];
    assert_eq!(groups(&tags(s)), want);
    let total = tags(s).total;

    s.clock.pass(Duration::from_secs(60));
    let gone =
        |id: &str| matches!(wait(s.store.request(id)), Err(Error::Erased { tenant }) if tenant == "acme");
    assert!(gone("gone"), "to the millisecond, whenever the files follow");
    let mut tries = 0;
    while tags(s).rows.len() > 2 && tries < 2_000 {
        tries += 1;
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(groups(&tags(s)), [("app=web", 1, 300), ("team=red", 1, 300)]);
    assert_eq!(tags(s).total, total, "what was used was used");
    let left: Vec<_> = wait(s.store.recent(9)).unwrap();
    assert_eq!(left.iter().map(|s| s.record.outcome.request_id.as_str()).collect::<Vec<_>>(), ["stays"]);

    // What was on its way counts; it does not bring the record back. Nor does the record itself, once more.
    s.store.append(&saying("gone", "judge", 80, "she said more")).unwrap();
    let calls =
        vec![Billed { model: "p/judge".into(), calls: 1, cost_usd: Usd::from_nanos(7), ..Billed::default() }];
    let late = Late { request_id: "gone".to_owned(), ts_ms: 3, calls, beside: Vec::new() };
    s.store.append(&Record::Late(late)).unwrap();
    goes("gone", "jane");
    wait(s.store.flush()).unwrap();
    let sums = s.sums.lock().unwrap().clone();
    assert_eq!((sums.outcomes, sums.words, sums.points), (2, 2, 40 + 60));
    assert!(gone("gone"));
    assert_eq!(tags(s).total.cost_nanos, total.cost_nanos + 7);
    assert_eq!(groups(&tags(s)), [("app=web", 1, 300), ("team=red", 1, 300)]);

    // One that comes when its time is over goes as well.
    goes("late", "joan");
    assert!(gone("late"));
}

/// One request on a day: two models were called, 0.3 in all.
fn paid(id: &str, day: i64, key: &str, team: &str) -> Record {
    Record::Request(Box::new(paid_request(id, day, key, team)))
}

fn paid_request(id: &str, day: i64, key: &str, team: &str) -> RequestRecord {
    let mut r = request(id, 10);
    r.outcome.ts_ms = day * 86_400_000 + 5;
    r.outcome.tenant = if key == "k9" { "other".to_owned() } else { "acme".to_owned() };
    r.outcome.cost_usd = Usd::from_nanos(300);
    let call = |model: &str, cost: i64, calls: u32| Billed {
        model: model.into(),
        calls,
        usage: Usage { input: 100, cached_input: 40, image: 5, output: 10, reasoning: 4, ..Usage::default() },
        cost_usd: Usd::from_nanos(cost),
        estimated: calls / 2,
        estimated_usd: Usd::from_nanos(if calls > 1 { cost / 2 } else { 0 }),
        at_most: (calls > 1).then(|| AtMost { tokens: 400, usd: Usd::from_nanos(cost + 25) }),
        ..Billed::default()
    };
    r.outcome.served_by = Some("p/strong".into());
    r.outcome.account = Some(Account {
        key: key.to_owned(),
        tags: [("team".to_owned(), team.to_owned()), ("app".to_owned(), "web".to_owned())].into(),
        images: 2,
        calls: vec![call("p/cheap", 100, 2), call("p/strong", 200, 1)],
        late: Vec::new(),
        late_ms: 0,
        beside: Vec::new(),
        reference: Some(ReferenceCost { model: "p/best".into(), cost_usd: Usd::from_nanos(900) }),
        counters: vec![7],
        refused: None,
    });
    r
}

fn report(s: &Subject, group_by: GroupBy, change: impl FnOnce(&mut Query)) -> Report {
    let mut query = Query { group_by, limit: 100, ..Query::default() };
    change(&mut query);
    wait(s.store.usage(query)).unwrap()
}

fn groups(r: &Report) -> Vec<(&str, i64, i64)> {
    r.rows.iter().map(|r| (r.group.as_str(), r.sums.requests, r.sums.cost_nanos)).collect()
}

fn usage_by(s: &Subject) {
    for (i, (day, key, team)) in
        [(10, "k1", "red"), (10, "k1", "blue"), (11, "k2", "red"), (12, "k9", "red")].into_iter().enumerate()
    {
        s.store.append(&paid(&format!("r{i}"), day, key, team)).unwrap();
    }
    let all = report(s, GroupBy::Model, |_| {});
    assert_eq!(groups(&all), [("p/strong", 4, 800), ("p/cheap", 0, 400)], "paid where it was called");
    let want = Used {
        requests: 4,
        successes: 4,
        images: 8,
        calls: 12,
        input_tokens: 800,
        cached_input_tokens: 320,
        output_tokens: 80,
        reasoning_tokens: 32,
        cost_nanos: 1_200,
        compared_nanos: 1_200,
        reference_nanos: 3_600,
        image_input_tokens: 40,
        estimated_calls: 4,
        estimated_nanos: 200,
        beyond_nanos: 100,
        ..Used::default()
    };
    assert_eq!(all.total, want);
    assert_eq!((all.total.saved(), all.total.cost_per_success()), (2_400, Some(Usd::from_nanos(300))));
    assert_eq!(groups(&report(s, GroupBy::Day, |_| {})), [("10", 2, 600), ("11", 1, 300), ("12", 1, 300)]);
    assert_eq!(groups(&report(s, GroupBy::Day, |q| q.limit = 1)), [("12", 1, 300)], "the newest");
    assert_eq!(groups(&report(s, GroupBy::Key, |q| q.limit = 1)), [("k1", 2, 600)], "the dearest");
    assert_eq!(groups(&report(s, GroupBy::Tenant, |_| {})), [("acme", 3, 900), ("other", 1, 300)]);
    assert_eq!(groups(&report(s, GroupBy::Workflow, |_| {})), [("default", 4, 1_200)]);
    let tags = report(s, GroupBy::Tag, |q| q.tenant = Some("acme".to_owned()));
    assert_eq!(groups(&tags), [("app=web", 3, 900), ("team=red", 2, 600), ("team=blue", 1, 300)]);
    assert_eq!(tags.total.requests, 3, "a request with two tags is one request");
    let some = report(s, GroupBy::Day, |q| (q.from, q.to) = (Some(11), Some(11)));
    assert_eq!((groups(&some), some.total.requests), (vec![("11", 1, 300)], 1));
    let none = report(s, GroupBy::Day, |q| q.tenant = Some("nobody".to_owned()));
    assert_eq!(none, Report::default());
}

fn usage_and_feedback(s: &Subject) {
    s.store.append(&paid("r", 10, "k1", "red")).unwrap();
    s.store.append(&request_line("old", 7)).unwrap();
    let good = |s: &Subject| report(s, GroupBy::Day, |q| q.to = Some(10)).total;
    assert_eq!(good(s).successes, 1);
    s.store.append(&word_line("r", "user", 10)).unwrap();
    let after = good(s);
    assert_eq!((after.requests, after.cost_nanos), (1, 300), "nothing is counted twice");
    let old = report(s, GroupBy::Model, |q| q.from = Some(11)).total;
    assert_eq!((old.requests, old.input_tokens, old.cost_nanos), (1, 300, 12_345), "of an earlier version");
}

fn usage_and_late(s: &Subject) {
    let late = |id: &str| {
        let usage = Usage { input: 7, output: 3, ..Usage::default() };
        let judge = Billed {
            model: "p/judge".into(),
            calls: 1,
            usage,
            cost_usd: Usd::from_nanos(50),
            ..Billed::default()
        };
        Record::Late(Late { request_id: id.to_owned(), ts_ms: 9, calls: vec![judge], beside: Vec::new() })
    };
    // Before its request, after it, twice, after feedback, before feedback, on what is not there.
    s.append(&[late("r0"), paid("r0", 10, "k1", "red"), late("r0")]);
    s.append(&[paid("r1", 10, "k1", "red"), late("r1"), late("r1"), word_line("r1", "user", 10)]);
    s.append(&[paid("r2", 11, "k2", "red"), word_line("r2", "user", 90), late("r2"), late("nobody")]);
    let models = report(s, GroupBy::Model, |_| {});
    assert_eq!(groups(&models), [("p/strong", 3, 600), ("p/cheap", 0, 300), ("p/judge", 0, 150)]);
    assert_eq!((models.total.compared_nanos, models.total.calls), (1_050, 12));
    assert_eq!(models.total.successes, 2, "a word still counts");
    assert_eq!(groups(&report(s, GroupBy::Key, |_| {})), [("k1", 2, 700), ("k2", 1, 350)]);
    let stored = s.request("r1").unwrap().record.outcome;
    assert_eq!(stored.cost_usd, Usd::from_nanos(300), "the request itself cost what it cost");
    let account = stored.account.unwrap();
    assert_eq!((account.late.len(), account.late_ms), (1, 9));
    assert_eq!(s.sums().outcomes, 3);
}

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
