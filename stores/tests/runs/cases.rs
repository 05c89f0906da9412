//! One function per promise of [`types::runs::RunStore`].

use crate::conformance::Subject;
use crate::samples::{TENANT, ended, records, wait, waits, wish, wrote};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use types::runs::{
    Advance, Authored, Chosen, Claimed, Created, Durability, Error, Filter, Forgets, Fork, Head, Key, LEASE,
    Lease, NewRun, PlanChoice, Post, Record, Row, Spent, State, To, Told, WEBHOOK_TRIES,
};
use types::{Usd, runs};

pub(crate) type Case = fn(&Subject);

pub(crate) const CASES: &[(&str, Case)] = &[
    ("a run is found as it was asked for", found),
    ("a key gives the same run again, and refuses another body", keys),
    ("a key is forgotten in time, and after a failure that cost nothing", forgotten_keys),
    ("another tenant's run is not there", tenants),
    ("lists filter", filters),
    ("pages show every run once, newest first", pages),
    ("workers get what can run, longest waiting first, each once", claims),
    ("the journal is read as it was written", journal),
    ("a step is whole", steps),
    ("scenario 19: a stale epoch is refused", scenario_19_two_owners),
    ("a lease is kept by renewing and lost by silence", leases),
    ("a wait ends with a post, and misses none", posts),
    ("a wait ends by itself", wakes),
    ("a run that nobody owns is cancelled at once, an owner is told", cancels),
    ("what has not ended in time expires", expires),
    ("only so many runs of a tenant are queued", queues),
    ("failed and waiting runs are queued again", reopens),
    ("a fork begins with another run's journal", forks),
    ("plans are kept once", plans),
    ("plans that no run is pinned to are forgotten in time", forgets_plans),
    ("what ended can be forgotten", forgets),
    ("what led to an end is forgotten where it must be", forgets_what_led_to_an_end),
    ("a run is forgotten when its own time has come", forgets_a_run_when_its_own_time_has_come),
    ("webhooks are tried eight times over a day", webhooks),
    ("many at once", many),
];

impl Subject {
    fn create(&self, new: NewRun) -> Created {
        wait(self.store.create(new)).unwrap()
    }

    fn made(&self, id: &str) -> Head {
        match self.create(wish(id)) {
            Created::New(head) => head,
            Created::Again(head) => panic!("{} was there", head.id),
        }
    }

    fn row(&self, id: &str) -> Row {
        wait(self.store.get(TENANT, id)).unwrap().unwrap()
    }

    fn state(&self, id: &str) -> State {
        self.row(id).head.state
    }

    fn claim(&self, owner: &str) -> Vec<Claimed> {
        wait(self.store.claim(owner, 100)).unwrap().taken
    }

    /// Makes a run and takes it.
    fn owned(&self, id: &str, owner: &str) -> Lease {
        self.made(id);
        self.claim(owner).into_iter().find(|c| c.row.head.id == id).unwrap().lease
    }

    fn advance(&self, lease: &Lease, step: Advance) -> Result<Head, Error> {
        wait(self.store.advance(lease, step))
    }

    fn journal(&self, id: &str) -> Vec<Record> {
        wait(self.store.journal(id, 0, 1_000)).unwrap().into_iter().map(|e| e.record).collect()
    }

    fn list(&self, filter: Filter) -> Vec<String> {
        let filter = Filter { tenant: TENANT.to_owned(), limit: 100, ..filter };
        wait(self.store.list(filter)).unwrap().runs.into_iter().map(|h| h.id).collect()
    }

    fn post(&self, id: &str, key: &str, body: serde_json::Value) -> Result<Head, Error> {
        wait(self.store.post(TENANT, id, vec![Post { key: key.to_owned(), body }], Vec::new()))
    }
}

fn chosen(plan: &str) -> Chosen {
    let (workflow, plan) = ("chosen".to_owned(), plan.to_owned());
    Chosen { workflow, plan, durability: Durability::Exit, authored: Authored::default() }
}

fn found(s: &Subject) {
    let new = wish("run_1");
    let head = s.made("run_1");
    assert_eq!((head.state, head.epoch, head.records, head.created_ms), (State::Queued, 0, 0, (s.now_ms)()));
    let row = s.row("run_1");
    assert_eq!(wait(s.store.head(TENANT, "run_1")).unwrap().as_ref(), Some(&head));
    assert_eq!((row.head, row.submission), (head, new.submission));
    assert_eq!((row.waiting, row.result), (None, None));
    assert!(wait(s.store.get(TENANT, "run_2")).unwrap().is_none());
    assert!(wait(s.store.head(TENANT, "run_2")).unwrap().is_none());
    assert!(wait(s.store.journal("run_2", 0, 10)).unwrap().is_empty());
}

fn with_key(id: &str, principal: &str, route: &str, key: &str, body: &str) -> NewRun {
    let key = Key { route: route.to_owned(), key: key.to_owned(), body: body.to_owned() };
    NewRun { principal: principal.to_owned(), key: Some(key), ..wish(id) }
}

fn keys(s: &Subject) {
    assert!(matches!(s.create(with_key("run_1", "alice", "/v1/runs", "k", "b1")), Created::New(_)));
    let again = s.create(with_key("run_2", "alice", "/v1/runs", "k", "b1"));
    assert!(matches!(&again, Created::Again(head) if head.id == "run_1"), "{again:?}");
    let refused = wait(s.store.create(with_key("run_3", "alice", "/v1/runs", "k", "b2")));
    assert!(matches!(&refused, Err(Error::KeyReused { run }) if run == "run_1"), "{refused:?}");
    for (id, principal, route, key) in [
        ("run_4", "bob", "/v1/runs", "k"),
        ("run_5", "alice", "/v1/chat/completions", "k"),
        ("run_6", "alice", "/v1/runs", "k2"),
    ] {
        assert!(matches!(s.create(with_key(id, principal, route, key, "b2")), Created::New(_)), "{id}");
    }
    let other = NewRun { tenant: "other".to_owned(), ..with_key("run_7", "alice", "/v1/runs", "k", "b2") };
    assert!(matches!(s.create(other), Created::New(_)));
    assert_eq!(s.list(Filter::default()), ["run_6", "run_5", "run_4", "run_1"]);
}

fn forgotten_keys(s: &Subject) {
    let new = |id: &str, body: &str| with_key(id, "alice", "/v1/runs", "k", body);
    s.create(new("run_1", "b1"));
    (s.pass)(runs::KEY_KEPT);
    assert!(matches!(s.create(new("run_2", "b2")), Created::New(_)), "a day later");
    let mine = s.claim("w").into_iter().find(|c| c.row.head.id == "run_2").unwrap().lease;
    s.advance(&mine, ended(State::Failed)).unwrap();
    assert!(matches!(s.create(new("run_3", "b3")), Created::New(_)), "it failed and cost nothing");
    let mine = s.claim("w").into_iter().find(|c| c.row.head.id == "run_3").unwrap().lease;
    let spent = Some(Spent { calls: 1, ..Spent::default() });
    s.advance(&mine, Advance { spent, ..ended(State::Failed) }).unwrap();
    assert!(matches!(s.create(new("run_4", "b3")), Created::Again(_)), "it failed and cost something");
}

fn tenants(s: &Subject) {
    s.made("run_1");
    let unknown = |e: Result<Head, Error>| matches!(e, Err(Error::Unknown(id)) if id == "run_1");
    assert!(wait(s.store.get("other", "run_1")).unwrap().is_none());
    assert!(wait(s.store.head("other", "run_1")).unwrap().is_none());
    assert!(unknown(wait(s.store.cancel("other", "run_1", "why"))));
    assert!(unknown(wait(s.store.post("other", "run_1", Vec::new(), Vec::new()))));
    assert!(matches!(wait(s.store.delete("other", "run_1")), Err(Error::Unknown(_))));
    let fork = Some(Fork { run: "run_1".to_owned(), up_to: 1 });
    let forked = wait(s.store.create(NewRun { tenant: "other".to_owned(), fork, ..wish("run_2") }));
    assert!(matches!(forked, Err(Error::Unknown(_))));
    let filter = Filter { tenant: "other".to_owned(), limit: 10, ..Filter::default() };
    assert!(wait(s.store.list(filter)).unwrap().runs.is_empty(), "nothing was left behind either");
}

fn filters(s: &Subject) {
    let label = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    for (id, workflow, labels) in [
        ("run_1", "a", vec![label("x", "1")]),
        ("run_2", "b", vec![label("x", "1"), label("y", "2")]),
        ("run_3", "a", vec![label("x", "2"), label("y", "2")]),
    ] {
        let (workflow, labels) = (workflow.to_owned(), labels.into_iter().collect());
        s.create(NewRun { workflow, labels, ..wish(id) });
        (s.pass)(Duration::from_secs(1));
    }
    let start = s.row("run_1").head.created_ms;
    wait(s.store.cancel(TENANT, "run_3", "enough")).unwrap();
    let check = |filter: Filter, want: &[&str]| assert_eq!(s.list(filter.clone()), want, "{filter:?}");
    check(Filter::default(), &["run_3", "run_2", "run_1"]);
    check(Filter { workflow: Some("a".into()), ..Filter::default() }, &["run_3", "run_1"]);
    check(Filter { states: vec![State::Queued, State::Failed], ..Filter::default() }, &["run_2", "run_1"]);
    check(Filter { states: vec![State::Failed], ..Filter::default() }, &[]);
    check(Filter { labels: vec![label("x", "1")], ..Filter::default() }, &["run_2", "run_1"]);
    check(Filter { labels: vec![label("x", "1"), label("y", "2")], ..Filter::default() }, &["run_2"]);
    check(Filter { labels: vec![label("x", "1"), label("x", "2")], ..Filter::default() }, &[]);
    // The author's labels of its workflow count as the client's do.
    let authored = Authored { labels: [label("kind", "nightly")].into(), revision: Some("7".into()) };
    let labels = [label("x", "3")].into();
    s.create(NewRun { labels, authored: authored.clone(), ..wish("run_4") });
    check(Filter { labels: vec![label("kind", "nightly")], ..Filter::default() }, &["run_4"]);
    check(
        Filter { labels: vec![label("kind", "nightly"), label("x", "3")], ..Filter::default() },
        &["run_4"],
    );
    check(Filter { labels: vec![label("kind", "nightly"), label("x", "1")], ..Filter::default() }, &[]);
    assert_eq!(s.row("run_4").head.authored, authored);
    check(Filter { from_ms: Some(start + 1_000), ..Filter::default() }, &["run_4", "run_3", "run_2"]);
    check(Filter { before_ms: Some(start + 1_000), ..Filter::default() }, &["run_1"]);
}

fn pages(s: &Subject) {
    for i in 0..25 {
        s.made(&format!("run_{i:02}"));
        // Some were asked for in the same millisecond.
        (s.pass)(Duration::from_millis(i % 2));
    }
    let mut filter = Filter { tenant: TENANT.to_owned(), limit: 4, ..Filter::default() };
    let mut seen = Vec::new();
    loop {
        let page = wait(s.store.list(filter.clone())).unwrap();
        assert!(page.runs.len() <= 4 && !page.runs.is_empty());
        seen.extend(page.runs.into_iter().map(|h| (h.created_ms, h.id)));
        match page.next {
            Some(next) => filter.after = Some(next),
            None => break,
        }
        // What is asked for meanwhile changes no later page.
        (s.pass)(Duration::from_secs(1));
        s.made(&format!("late_{}", seen.len()));
    }
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    assert_eq!(seen.len(), 25);
}

fn claims(s: &Subject) {
    for id in ["run_b", "run_a", "run_c"] {
        s.made(id);
        (s.pass)(Duration::from_millis(1));
    }
    let take = |owner: &str, n| -> Vec<String> {
        wait(s.store.claim(owner, n)).unwrap().taken.into_iter().map(|c| c.lease.run).collect()
    };
    assert_eq!(take("one", 2), ["run_b", "run_a"]);
    assert_eq!(take("two", 2), ["run_c"]);
    assert!(take("one", 9).is_empty());
    let row = s.row("run_a");
    let holder = row.head.holder.unwrap();
    assert_eq!((row.head.state, row.head.epoch, holder.owner.as_str()), (State::Running, 1, "one"));
    assert_eq!(row.head.started_ms, Some((s.now_ms)()));
}

fn journal(s: &Subject) {
    let lease = s.owned("run_1", "w");
    for (i, record) in records().into_iter().enumerate() {
        let head = s.advance(&lease, wrote(&[record])).unwrap();
        assert_eq!(head.records, i as u64 + 1);
    }
    s.advance(&lease, wrote(&records())).unwrap();
    let all = wait(s.store.journal("run_1", 0, 1_000)).unwrap();
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(all.iter().all(|e| e.epoch == 1 && e.ts_ms == (s.now_ms)()));
    let twice: Vec<Record> = records().into_iter().chain(records()).collect();
    assert_eq!(s.journal("run_1"), twice);
    let text = |records: &[Record]| serde_json::to_string(records).unwrap();
    assert_eq!(text(&s.journal("run_1")), text(&twice), "to the byte");
    let some = wait(s.store.journal("run_1", 7, 5)).unwrap();
    assert_eq!(some, all[7..12]);
    assert!(wait(s.store.journal("run_1", 20, 5)).unwrap().is_empty());
}

fn steps(s: &Subject) {
    let lease = s.owned("run_1", "w");
    let spent = Spent { usd: Usd::from_nanos(5), tokens: 9, calls: 1 };
    let plan = chosen("p1");
    let step = Advance { plan: Some(plan), spent: Some(spent), ..wrote(&records()[..2]) };
    let head = s.advance(&lease, step).unwrap();
    assert_eq!((head.workflow.as_str(), head.plan.as_deref(), head.spent), ("chosen", Some("p1"), spent));
    assert_eq!(s.row("run_1").head, head);
    // A step to a place where no owner can leave a run writes none of its records.
    let to = To::Ended { state: State::Queued, result: json!(1) };
    let wrong = s.advance(&lease, Advance { to: Some(to), ..wrote(&records()) });
    assert!(matches!(wrong, Err(Error::State { .. })), "{wrong:?}");
    assert_eq!((s.row("run_1").head, s.journal("run_1").len()), (head, 2));
    let head = s.advance(&lease, ended(State::Succeeded)).unwrap();
    assert_eq!((head.state, head.spent, head.holder), (State::Succeeded, spent, None));
    let row = s.row("run_1");
    assert_eq!((row.result, row.head.ended_ms), (Some(json!({"text": "an answer"})), Some((s.now_ms)())));
}

fn scenario_19_two_owners(s: &Subject) {
    let first = s.owned("run_1", "one");
    s.advance(&first, wrote(&records()[..3])).unwrap();
    (s.pass)(LEASE);
    let taken = s.claim("two").remove(0);
    assert!(taken.taken_over);
    assert_eq!((taken.lease.epoch, taken.row.head.records), (2, 3));
    // The first owner wakes from a long pause and knows nothing of the second.
    let stale =
        |e: Result<Head, Error>| matches!(e, Err(Error::Stale { epoch, current: 2, .. }) if epoch == 1);
    assert!(stale(s.advance(&first, wrote(&records()[3..]))));
    assert!(stale(s.advance(&first, ended(State::Failed))));
    assert!(matches!(wait(s.store.renew(&first)), Err(Error::Stale { .. })));
    assert_eq!(s.journal("run_1").len(), 3, "nothing of the first owner was written");
    // Nor can it use the number of the second.
    let forged = Lease { epoch: 2, ..first };
    assert!(matches!(s.advance(&forged, wrote(&records())), Err(Error::Stale { .. })));
    s.advance(&taken.lease, wrote(&records()[3..])).unwrap();
    s.advance(&taken.lease, ended(State::Succeeded)).unwrap();
    assert!(matches!(s.advance(&taken.lease, wrote(&records())), Err(Error::Stale { .. })), "it has ended");
    let epochs: Vec<u64> = wait(s.store.journal("run_1", 0, 99)).unwrap().iter().map(|e| e.epoch).collect();
    assert_eq!(epochs, [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]);
}

fn leases(s: &Subject) {
    let lease = s.owned("run_1", "one");
    assert_eq!(lease.until_ms, (s.now_ms)() + 15_000);
    for _ in 0..4 {
        (s.pass)(Duration::from_millis(14_999));
        assert!(s.claim("two").is_empty());
        let renewed = wait(s.store.renew(&lease)).unwrap();
        assert_eq!((renewed.until_ms, renewed.cancel, renewed.posts), ((s.now_ms)() + 15_000, None, 0));
    }
    (s.pass)(LEASE);
    // It is late, but nobody has taken the run.
    s.advance(&lease, wrote(&records()[..1])).unwrap();
    wait(s.store.renew(&lease)).unwrap();
    assert!(s.claim("two").is_empty());
    // A shutdown gives the run back at once.
    s.advance(&lease, queued(Duration::ZERO)).unwrap();
    let taken = s.claim("two").remove(0);
    assert!(!taken.taken_over && taken.lease.epoch == 2);
    // Whoever has no room for it lets others go first.
    s.advance(&taken.lease, queued(Duration::from_secs(30))).unwrap();
    assert_eq!((s.state("run_1"), s.claim("two").len()), (State::Queued, 0));
    s.made("run_2");
    assert_eq!(s.claim("two").remove(0).row.head.id, "run_2");
    (s.pass)(Duration::from_secs(30));
    let taken = s.claim("two").into_iter().find(|c| c.row.head.id == "run_1").unwrap();
    assert_eq!((taken.lease.epoch, taken.row.head.wake_ms, taken.taken_over), (3, None, false));
}

fn posts(s: &Subject) {
    let lease = s.owned("run_1", "w");
    s.advance(&lease, waits(State::Suspended, None, 0)).unwrap();
    assert_eq!(s.row("run_1").waiting, Some(json!({"gate": "g"})));
    assert!(s.claim("w").is_empty());
    let head = s.post("run_1", "gate:g", json!({"decision": "approved"})).unwrap();
    assert_eq!((head.state, head.posts), (State::Queued, 1));
    assert_eq!(s.post("run_1", "gate:g", json!({"decision": "approved"})).unwrap().posts, 1, "said again");
    let other = s.post("run_1", "gate:g", json!({"decision": "rejected"}));
    assert!(matches!(&other, Err(Error::Answered { key, .. }) if key == "gate:g"), "{other:?}");
    let both = vec![
        Post { key: "tool:1".into(), body: json!(1) },
        Post { key: "gate:g".into(), body: json!("another") },
    ];
    assert!(wait(s.store.post(TENANT, "run_1", both, Vec::new())).is_err());
    let posted = wait(s.store.posted("run_1", 0)).unwrap();
    assert_eq!(posted.len(), 1, "all of it or nothing: {posted:?}");
    assert_eq!((posted[0].number, posted[0].key.as_str()), (1, "gate:g"));

    // Somebody answers before the owner has put the run to rest.
    let lease = s.claim("w").remove(0).lease;
    s.post("run_1", "tool:2", json!(2)).unwrap();
    assert_eq!(s.state("run_1"), State::Running);
    assert_eq!(wait(s.store.renew(&lease)).unwrap().posts, 2);
    assert_eq!(s.advance(&lease, waits(State::Suspended, None, 1)).unwrap().state, State::Queued);
    let lease = s.claim("w").remove(0).lease;
    assert_eq!(
        s.advance(&lease, waits(State::NeedsAttention, None, 2)).unwrap().state,
        State::NeedsAttention
    );
    assert_eq!(s.post("run_1", "attention:x", json!("retry")).unwrap().state, State::Queued);
    assert_eq!(wait(s.store.posted("run_1", 1)).unwrap().len(), 2);
    let lease = s.claim("w").remove(0).lease;
    // What is told bit by bit wakes it when it is complete.
    s.advance(&lease, waits(State::Suspended, None, 3)).unwrap();
    let sets = [["tool:a", "tool:b"], ["tool:c", "tool:d"]];
    let whole = || sets.iter().map(|keys| keys.map(str::to_owned).to_vec()).collect::<Vec<_>>();
    let bit = |key: &str| {
        let post = Post { key: key.into(), body: json!(key) };
        wait(s.store.post(TENANT, "run_1", vec![post], whole())).unwrap().state
    };
    assert_eq!([bit("tool:a"), bit("tool:c"), bit("tool:a")], [State::Suspended; 3]);
    assert_eq!(bit("tool:b"), State::Queued);
    let lease = s.claim("w").remove(0).lease;
    s.advance(&lease, ended(State::Succeeded)).unwrap();
    assert!(matches!(s.post("run_1", "tool:3", json!(3)), Err(Error::State { .. })));
}

fn wakes(s: &Subject) {
    let lease = s.owned("run_1", "w");
    let at = (s.now_ms)() + 60_000;
    s.advance(&lease, waits(State::Suspended, Some(at), 0)).unwrap();
    (s.pass)(Duration::from_millis(59_999));
    assert!(s.claim("w").is_empty());
    (s.pass)(Duration::from_millis(1));
    let taken = s.claim("w").remove(0);
    assert!(!taken.taken_over);
    assert_eq!((taken.row.head.state, taken.row.head.wake_ms), (State::Running, None));
}

fn cancels(s: &Subject) {
    s.made("run_1");
    let head = wait(s.store.cancel(TENANT, "run_1", "enough")).unwrap();
    assert_eq!((head.state, head.cancel.as_deref()), (State::Cancelled, Some("enough")));
    let row = s.row("run_1");
    assert_eq!(row.result.unwrap()["error"]["code"], "cancelled");
    assert!(matches!(s.journal("run_1")[..], [Record::RunFinished { state: State::Cancelled, .. }]));
    assert!(s.claim("w").is_empty());
    assert_eq!(wait(s.store.cancel(TENANT, "run_1", "again")).unwrap(), s.row("run_1").head, "nothing more");

    let lease = s.owned("run_2", "w");
    let head = wait(s.store.cancel(TENANT, "run_2", "enough")).unwrap();
    assert_eq!(head.state, State::Running);
    assert_eq!(wait(s.store.renew(&lease)).unwrap().cancel.as_deref(), Some("enough"));
    assert_eq!(s.advance(&lease, ended(State::Cancelled)).unwrap().state, State::Cancelled);

    let lease = s.owned("run_3", "w");
    s.advance(&lease, waits(State::Suspended, None, 0)).unwrap();
    assert_eq!(wait(s.store.cancel(TENANT, "run_3", "enough")).unwrap().state, State::Cancelled);
    // Its owner is silent: nobody would end it otherwise.
    let lease = s.owned("run_4", "w");
    (s.pass)(LEASE);
    assert_eq!(wait(s.store.cancel(TENANT, "run_4", "enough")).unwrap().state, State::Cancelled);
    assert!(matches!(s.advance(&lease, wrote(&records())), Err(Error::Stale { .. })));
    assert!(matches!(wait(s.store.cancel(TENANT, "run_5", "x")), Err(Error::Unknown(_))));
}

fn expires(s: &Subject) {
    s.made("run_1");
    let lease = s.owned("run_2", "w");
    s.advance(&lease, waits(State::Suspended, None, 0)).unwrap();
    let alive = s.owned("run_3", "w");
    (s.pass)(Duration::from_secs(3_599));
    wait(s.store.renew(&alive)).unwrap();
    assert_eq!(s.state("run_2"), State::Suspended);
    (s.pass)(Duration::from_secs(1));
    let expired = wait(s.store.claim("w", 100)).unwrap().expired;
    assert_eq!(expired.iter().map(|h| &*h.id).collect::<Vec<_>>(), ["run_1", "run_2"]);
    assert_eq!((s.state("run_1"), s.state("run_2")), (State::Expired, State::Expired));
    assert_eq!(s.state("run_3"), State::Running, "its owner is alive and ends it");
    assert_eq!(s.row("run_1").result.unwrap()["error"]["code"], "run_expired");
    (s.pass)(LEASE);
    s.claim("w");
    assert_eq!(s.state("run_3"), State::Expired);
}

fn reopens(s: &Subject) {
    let resumed = || Record::Resumed {
        why: "asked".into(),
        plan: PlanChoice::Latest,
        posts: vec![],
        anew: true,
        retry: vec![],
    };
    let reopen = |id: &str| wait(s.store.reopen(TENANT, id, (resumed(), Some(chosen("p2"))), None));
    let lease = s.owned("run_1", "w");
    assert!(matches!(reopen("run_1"), Err(Error::State { state: State::Running, .. })));
    s.advance(&lease, ended(State::Failed)).unwrap();
    (s.pass)(Duration::from_secs(7_200));
    let head = reopen("run_1").unwrap();
    assert_eq!((head.state, head.ended_ms, head.records), (State::Queued, None, 2));
    assert_eq!((head.plan.as_deref(), head.durability), (Some("p2"), Durability::Exit));
    assert_eq!(s.row("run_1").result, None);
    let taken = s.claim("w").remove(0);
    assert_eq!((taken.lease.epoch, taken.taken_over), (2, false));
    assert!(matches!(s.journal("run_1")[..], [Record::RunFinished { .. }, Record::Resumed { .. }]));
    s.advance(&taken.lease, ended(State::Succeeded)).unwrap();
    assert!(matches!(reopen("run_1"), Err(Error::State { state: State::Succeeded, .. })));
    assert!(matches!(reopen("run_9"), Err(Error::Unknown(_))));
}

/// Leaves the run to others, after a while.
fn queued(wait: Duration) -> Advance {
    Advance { to: Some(To::Queued { wait }), ..Advance::default() }
}

fn queues(s: &Subject) {
    let wanted = |id: &str, tenant: &str| {
        let key = Some(Key { route: "/v1/runs".into(), key: id.into(), body: "b".into() });
        wait(s.store.create(NewRun { tenant: tenant.to_owned(), room: Some(2), key, ..wish(id) }))
    };
    let lease = s.owned("run_0", "w");
    assert!(wanted("run_1", TENANT).is_ok() && wanted("run_2", TENANT).is_ok(), "what runs is not queued");
    assert!(matches!(wanted("run_3", TENANT), Err(Error::Full { most: 2 })));
    assert!(wait(s.store.get(TENANT, "run_3")).unwrap().is_none());
    assert!(matches!(wanted("run_2", TENANT), Ok(Created::Again(_))), "it asks for nothing more");
    assert!(wanted("run_4", "other").is_ok(), "others have room of their own");
    // One that is resumed needs room as well.
    s.advance(&lease, ended(State::Failed)).unwrap();
    let resumed = || {
        let why = "asked".to_owned();
        (Record::Resumed { why, plan: PlanChoice::Pinned, posts: vec![], anew: true, retry: vec![] }, None)
    };
    assert!(matches!(wait(s.store.reopen(TENANT, "run_0", resumed(), Some(2))), Err(Error::Full { .. })));
    assert_eq!((s.state("run_0"), s.journal("run_0").len()), (State::Failed, 1));
    s.claim("w");
    assert_eq!(wait(s.store.reopen(TENANT, "run_0", resumed(), Some(2))).unwrap().state, State::Queued);
    assert!(wanted("run_5", TENANT).is_ok() && wanted("run_6", TENANT).is_err());
}

fn forks(s: &Subject) {
    let lease = s.owned("run_1", "w");
    let plan = chosen("p1");
    s.advance(&lease, Advance { plan: Some(plan), ..wrote(&records()) }).unwrap();
    let fork = Fork { run: "run_1".to_owned(), up_to: 5 };
    let first = records()[9..].to_vec();
    let (workflow, fork) = (String::new(), Some(fork));
    let created = s.create(NewRun { fork: fork.clone(), workflow, records: first, ..wish("run_2") });
    let head = created.head();
    assert_eq!((head.records, head.plan.as_deref(), head.parent.as_ref()), (6, Some("p1"), fork.as_ref()));
    assert_eq!((head.workflow.as_str(), head.state), ("chosen", State::Queued));
    assert_eq!(s.journal("run_2"), [&records()[..5], &records()[9..]].concat());
    let lease = s.claim("w").remove(0).lease;
    assert_eq!(s.advance(&lease, wrote(&records()[..1])).unwrap().records, 7);
    assert_eq!(s.journal("run_1").len(), 10, "the first run is as it was");
    let all = Fork { run: "run_1".to_owned(), up_to: 99 };
    assert_eq!(s.create(NewRun { fork: Some(all), ..wish("run_3") }).head().records, 10);
}

fn plans(s: &Subject) {
    assert_eq!(wait(s.store.plan("h")).unwrap(), None);
    wait(s.store.put_plan("h", json!({"b": 1, "a": [0.1]}))).unwrap();
    wait(s.store.put_plan("h", json!({"other": true}))).unwrap();
    assert_eq!(wait(s.store.plan("h")).unwrap().unwrap().to_string(), r#"{"b":1,"a":[0.1]}"#);
}

fn forgets_plans(s: &Subject) {
    let put = |hash: &str| wait(s.store.put_plan(hash, json!({"of": hash}))).unwrap();
    let purge = |ended_before_ms, limit| wait(s.store.purge(ended_before_ms, limit)).unwrap();
    let kept = || {
        let is_kept = |hash: &&str| wait(s.store.plan(hash)).unwrap().is_some();
        ["p1", "p2", "p3"].into_iter().filter(is_kept).collect::<Vec<_>>()
    };
    let minutes = |n: u64| (s.pass)(Duration::from_secs(60 * n));
    ["p1", "p2", "p3"].into_iter().for_each(put);
    let lease = s.owned("run_1", "w");
    s.advance(&lease, Advance { plan: Some(chosen("p1")), ..ended(State::Succeeded) }).unwrap();
    minutes(40);
    put("p2");
    purge(0, 10);
    assert_eq!(kept(), ["p1", "p2", "p3"], "a run may be pinned to them yet");
    minutes(25);
    purge(0, 10);
    assert_eq!(kept(), ["p1", "p2"], "the second was put again");
    minutes(40);
    put("p3");
    purge(0, 10);
    assert_eq!(kept(), ["p1", "p3"]);
    // Whoever makes another run of it needs its plan; after the last of them nobody does.
    let fork = Fork { run: "run_1".to_owned(), up_to: 1 };
    s.create(NewRun { fork: Some(fork), ..wish("run_2") });
    assert_eq!(purge(i64::MAX, 10), 1);
    assert_eq!(kept(), ["p1", "p3"], "the fork is pinned to it");
    wait(s.store.cancel(TENANT, "run_2", "why")).unwrap();
    minutes(70);
    purge(i64::MAX, 1);
    assert_eq!(kept().len(), 1, "no more at once than was asked for");
    purge(i64::MAX, 1);
    assert!(kept().is_empty());
}

fn forgets(s: &Subject) {
    let lease = s.owned("run_1", "w");
    s.advance(&lease, wrote(&records())).unwrap();
    assert!(matches!(wait(s.store.delete(TENANT, "run_1")), Err(Error::State { .. })));
    s.advance(&lease, ended(State::Succeeded)).unwrap();
    wait(s.store.delete(TENANT, "run_1")).unwrap();
    assert!(wait(s.store.get(TENANT, "run_1")).unwrap().is_none());
    assert!(s.journal("run_1").is_empty() && s.list(Filter::default()).is_empty());

    for id in ["run_2", "run_3", "run_4"] {
        let lease = s.owned(id, "w");
        (s.pass)(Duration::from_secs(1));
        if id != "run_4" {
            s.advance(&lease, ended(State::Failed)).unwrap();
        }
    }
    let between = s.row("run_3").head.ended_ms.unwrap();
    assert_eq!(wait(s.store.purge(between, 10)).unwrap(), 1);
    assert_eq!(s.list(Filter::default()), ["run_4", "run_3"]);
    assert_eq!(wait(s.store.purge(i64::MAX, 10)).unwrap(), 1, "what has not ended stays");
    assert_eq!(s.list(Filter::default()), ["run_4"]);
}

fn forgets_what_led_to_an_end(s: &Subject) {
    let lease = s.owned("run_1", "w");
    s.advance(&lease, wrote(&records())).unwrap();
    let contents = Forgets { contents: true, after: None };
    s.advance(&lease, Advance { forgets: contents, ..wrote(&records()[..1]) }).unwrap();
    assert_eq!(s.journal("run_1").len(), records().len() + 1, "it has not ended");
    s.advance(&lease, Advance { forgets: contents, ..ended(State::Succeeded) }).unwrap();
    let (row, journal) = (s.row("run_1"), wait(s.store.journal("run_1", 0, 10)).unwrap());
    let seqs: Vec<u64> = journal.iter().map(|e| e.seq).collect();
    assert_eq!((seqs, row.submission), (vec![records().len() as u64 + 2], json!(null)));
    assert!(row.result.is_some(), "the result is for who asked");
    assert_eq!(wait(s.store.posted("run_1", 0)).unwrap(), []);
}

fn forgets_a_run_when_its_own_time_has_come(s: &Subject) {
    let soon = Forgets { contents: false, after: Some(Duration::from_secs(5)) };
    for (id, forgets) in [("run_1", Forgets::default()), ("run_2", soon)] {
        let lease = s.owned(id, "w");
        s.advance(&lease, Advance { forgets, ..ended(State::Succeeded) }).unwrap();
    }
    assert_eq!(wait(s.store.purge(0, 10)).unwrap(), 0, "its time has not come");
    (s.pass)(Duration::from_secs(6));
    assert_eq!(wait(s.store.purge(0, 10)).unwrap(), 1);
    assert_eq!(s.list(Filter::default()), ["run_1"]);
}

fn webhooks(s: &Subject) {
    let url = "https://example.com/hook".to_owned();
    let with_hook = |id: &str| NewRun { callback_url: Some(url.clone()), ..wish(id) };
    let due = || wait(s.store.webhooks(10)).unwrap();
    s.create(with_hook("run_1"));
    let lease = s.claim("w").remove(0).lease;
    assert!(due().is_empty());
    s.advance(&lease, ended(State::Succeeded)).unwrap();
    let start = (s.now_ms)();
    let mut names = BTreeSet::new();
    for (i, offset) in WEBHOOK_TRIES.iter().enumerate() {
        let at = start + i64::try_from(offset.as_millis()).unwrap();
        let wait_ms = u64::try_from(at - (s.now_ms)()).unwrap();
        if wait_ms > 0 {
            (s.pass)(Duration::from_millis(wait_ms - 1));
            assert!(due().is_empty(), "try {i} is not due yet");
            (s.pass)(Duration::from_millis(1));
        }
        let mut hooks = due();
        assert_eq!(hooks.len(), 1, "try {i}");
        let hook = hooks.remove(0);
        assert_eq!((hook.attempt as usize, hook.url.as_str()), (i + 1, url.as_str()));
        assert_eq!((hook.row.head.state, hook.row.result.is_some()), (State::Succeeded, true));
        assert!(due().is_empty(), "each for one try");
        wait(s.store.told(&hook.id, Told::Failed)).unwrap();
        names.insert(hook.id);
    }
    assert_eq!(names.len(), 1, "the same name over all tries");
    (s.pass)(Duration::from_secs(1_000_000));
    assert!(due().is_empty(), "given up");

    s.create(with_hook("run_2"));
    wait(s.store.cancel(TENANT, "run_2", "enough")).unwrap();
    let hook = due().remove(0);
    // Whoever took it died: it is due again.
    (s.pass)(Duration::from_secs(60));
    let again = due().remove(0);
    assert_eq!((again.id.as_str(), again.attempt), (hook.id.as_str(), 2));
    wait(s.store.told(&again.id, Told::Delivered)).unwrap();
    (s.pass)(Duration::from_secs(1_000_000));
    assert!(due().is_empty());
}

fn many(s: &Subject) {
    const RUNS: usize = 40;
    for i in 0..RUNS {
        s.made(&format!("run_{i}"));
    }
    // Four workers, each on its own thread, take and advance runs until none is left.
    let taken: Vec<Vec<String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|w| {
                let store = s.store.clone();
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    loop {
                        let claimed = wait(store.claim(&format!("w{w}"), 3)).unwrap().taken;
                        if claimed.is_empty() {
                            return mine;
                        }
                        for Claimed { lease, .. } in claimed {
                            for record in records() {
                                wait(store.advance(&lease, wrote(&[record]))).unwrap();
                            }
                            wait(store.advance(&lease, ended(State::Succeeded))).unwrap();
                            mine.push(lease.run);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let all: Vec<&String> = taken.iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (RUNS, RUNS), "each run once");
    for id in all {
        assert_eq!(s.journal(id).len(), 11);
        assert_eq!(s.state(id), State::Succeeded);
    }
}
