//! Configurations that come and go under a running engine: tried beside the one in force, swapped, forgotten.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use engine::shadow::{Difference, QUEUE, Report, Sample};
use engine::{Admission, Answer, Background, Bundle, Config, Engine, Files, Outside, Parts};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use types::chat::ChatRequest;
use types::completion::Choice;
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, Price, Provider};
use types::provider::{Call, ChatProvider, Error, Reply};
use types::store::{self, OutcomeStore, Record, Seq, Stored};
use types::{Clock, Completion, FinishReason, Usage};

/// Keeps nothing.
struct Nowhere;

impl OutcomeStore for Nowhere {
    fn append(&self, _: &Record) -> Result<Seq, store::Error> {
        Ok(0)
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), store::Error>> {
        async { Ok(()) }.boxed()
    }
    fn request(&self, _: &str) -> BoxFuture<'_, Result<Option<Stored>, store::Error>> {
        async { Ok(None) }.boxed()
    }
    fn usage(&self, _: types::usage::Query) -> BoxFuture<'_, Result<types::usage::Report, store::Error>> {
        async { Ok(types::usage::Report::default()) }.boxed()
    }
    fn recent(&self, _: usize) -> BoxFuture<'_, Result<Vec<Stored>, store::Error>> {
        async { Ok(vec![]) }.boxed()
    }
}

/// Always answers, and counts.
#[derive(Default)]
struct Ready(AtomicU64);

impl ChatProvider for Ready {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        async move {
            Ok(Reply::Whole(Completion {
                id: "c".into(),
                created: 1,
                model: call.model.upstream_name.clone(),
                choices: vec![Choice {
                    text: "an answer".into(),
                    finish_reason: Some(FinishReason::Stop),
                    ..Choice::default()
                }],
                usage: Usage { input: 10, output: 5, ..Usage::default() },
                ..Completion::default()
            }))
        }
        .boxed()
    }
}

fn model(name: &str) -> Model {
    let price = 1.0;
    Model {
        abilities: Abilities { streaming: true, tools: true, json: true, ..Abilities::default() },
        price: Some(Price::new(price, price)),
        speed_tier: 1,
        ..Model::new(format!("p/{name}"), 0, (100_000, 4_000))
    }
}

fn matrix() -> Arc<Matrix> {
    let provider =
        Provider { base_url: "http://127.0.0.1:1".into(), ..Provider::new("p", Dialect::OpenaiChat) };
    Arc::new(Matrix::new(vec![provider], vec![model("one"), model("two")]))
}

const ALL: [Availability; 2] = [Availability::Ready, Availability::Ready];
const POOLS: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

/// A bundle of two models with these rules.
fn bundle(rules: &str) -> Arc<Bundle> {
    let rules = SourceFile::new("routing_rules.yaml", format!("{POOLS}{rules}"));
    let files = Files { runner: true, ..Files::new(rules) };
    let (bundle, problems) = Bundle::load(matrix(), &files);
    Arc::new(bundle.unwrap_or_else(|| panic!("{problems:?}")))
}

const NO_ONE: &str = "rules:\n  - id: no_one\n    actions: { exclude: [p/one] }\n";
const NO_TWO: &str = "rules:\n  - id: no_two\n    actions: { exclude: [p/two] }\n";
const NONE: &str = "rules:\n  - id: none\n    actions: { exclude: [\"*\"] }\n";
const DENY: &str = "rules:\n  - id: closed\n    actions: { deny: { reason: closed today, code: closed } }\n";

struct House {
    engine: Engine,
    provider: Arc<Ready>,
    ids: AtomicU64,
}

fn house(rules: &str) -> House {
    house_in(rules, running())
}

fn house_in(rules: &str, background: Background) -> House {
    let (_, statistics) = engine::learner(engine::learn::Limits::default());
    let provider = Arc::new(Ready::default());
    let engine = Engine::new(Parts {
        bundle: bundle(rules),
        provider: provider.clone(),
        availability: ALL.to_vec(),
        store: Arc::new(Nowhere),
        statistics,
        limits: None,
        finished: None,
        background: Some(background),
        outside: Outside::default(),
        redaction_key: [7; 32],
        clock: Clock::stopped(1_790_000_000_000),
        config: Config { seed: Some(7), ..Config::default() },
    });
    House { engine, provider, ids: AtomicU64::new(0) }
}

impl House {
    /// Asks so many times, and lets the work beside it run.
    async fn ask(&self, times: usize) -> usize {
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me something."}]});
        let mut answered = 0;
        for _ in 0..times {
            let admission = Admission::new(
                format!("req_{}", self.ids.fetch_add(1, Ordering::Relaxed)),
                engine::Who::open(),
                tokio::time::Instant::now(),
            );
            let answer = self.engine.chat(admission, ChatRequest::from_value(&body).unwrap()).await;
            answered += usize::from(matches!(answer, Ok(Answer::Whole(_))));
            tokio::task::yield_now().await;
        }
        answered
    }

    /// What came of it once nothing waits any more.
    async fn report(&self, requests: u64) -> Report {
        for _ in 0..10_000 {
            let report = self.engine.trial().unwrap();
            if report.requests + report.dropped >= requests {
                return report;
            }
            tokio::task::yield_now().await;
        }
        panic!("the work beside the requests does not end: {:?}", self.engine.trial());
    }
}

/// Work that runs.
#[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
fn running() -> Background {
    Arc::new(|_, work| {
        tokio::spawn(work);
    })
}

/// Tries `other` beside `active` over a hundred requests.
async fn check(active: &str, other: &str, want: Option<Difference>) -> Report {
    let h = house(active);
    h.engine.try_beside(bundle(other), ALL.to_vec(), Sample::ALL);
    let answered = h.ask(100).await;
    let report = h.report(100).await;
    assert_eq!((report.requests, report.dropped), (100, 0), "{active} / {other}");
    let different: u64 = report.different.values().sum();
    assert_eq!(report.same + different, 100);
    match want {
        None => assert_eq!(report.same, 100, "{report:?}"),
        Some(kind) => assert_eq!(report.different.get(&kind), Some(&100), "{report:?}"),
    }
    // Trying it called nobody.
    assert_eq!(h.provider.0.load(Ordering::Relaxed), answered as u64);
    report
}

#[tokio::test]
async fn the_same_rules_never_differ() {
    check("", "", None).await;
    check(NO_ONE, NO_ONE, None).await;
    check(DENY, DENY, None).await;
    // With half of all choices drawn: the draw is the same for both.
    let drawn = "exploration: { epsilon: 0.2 }\n";
    check(drawn, drawn, None).await;
}

#[tokio::test]
async fn what_differs_is_told_with_both_reasons() {
    check(NO_ONE, NO_TWO, Some(Difference::OtherArm)).await;
    check("", NONE, Some(Difference::NewlyFailing)).await;
    check(NONE, "", Some(Difference::NoLongerFailing)).await;
    check(NONE, DENY, Some(Difference::OtherReason)).await;
    check(DENY, "", Some(Difference::NoLongerDenied)).await;
    let report = check("", DENY, Some(Difference::NewlyDenied)).await;
    assert_eq!(report.examples.len(), engine::shadow::EXAMPLES, "only so many are kept");
    let first = report.examples.first().unwrap();
    assert_eq!(first.request_id, "req_0");
    assert!(first.shadow.why.contains("closed today") && first.shadow.refused.as_deref() == Some("closed"));
    assert!(first.active.model.is_some() && !first.active.why.is_empty());
}

/// What is tried is decided a second time, and counted once.
#[tokio::test]
async fn a_trial_leaves_no_trace_on_the_rules() {
    let h = house(NO_ONE);
    let tried = bundle(NO_TWO);
    h.engine.try_beside(tried.clone(), ALL.to_vec(), Sample::ALL);
    h.ask(10).await;
    assert_eq!(h.report(10).await.requests, 10);
    let matched = |b: &Bundle| b.policies().listing(0).first().map(|rule| rule.matched);
    assert_eq!((matched(&h.engine.bundle()), matched(&tried)), (Some(10), Some(0)));
}

#[tokio::test]
async fn a_share_is_a_share() {
    let h = house("");
    h.engine.try_beside(bundle(NO_ONE), ALL.to_vec(), Sample { share: 0.25, most: None });
    h.ask(400).await;
    let report = h.report(90).await;
    assert!((90..=110).contains(&report.requests), "{}", report.requests);
}

#[tokio::test]
async fn a_number_is_a_number() {
    let h = house("");
    h.engine.try_beside(bundle(NO_ONE), ALL.to_vec(), Sample { share: 1.0, most: Some(7) });
    h.ask(30).await;
    let report = h.report(7).await;
    h.ask(30).await;
    assert_eq!((report.requests, report.dropped), (7, 0), "{report:?}");
    let later = h.engine.end_trial().unwrap();
    assert_eq!((later.requests, later.dropped), (7, 0), "{later:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    // Work that is held and never runs.
    let held = Arc::new(Mutex::new(Vec::new()));
    let keep = held.clone();
    let h = house_in("", Arc::new(move |_, work| keep.lock().unwrap().push(work)));
    h.engine.try_beside(bundle(NO_ONE), ALL.to_vec(), Sample::ALL);
    let asked = QUEUE + 44;
    assert_eq!(h.ask(asked).await, asked, "requests do not wait for it");
    let report = h.engine.trial().unwrap();
    assert_eq!((report.requests, report.dropped), (0, 44));
    // What waited is done when it can be, and then the work ends.
    h.engine.end_trial();
    assert!(h.engine.trial().is_none());
    let work = held.lock().unwrap().pop().unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(60), work).await.unwrap();
}

#[tokio::test]
async fn a_thousand_reloads_keep_no_bundle_alive() {
    let h = house("");
    let mut seen = Vec::new();
    for _ in 0..20 {
        let pair = [bundle(NO_ONE), bundle(NO_TWO)];
        seen.extend(pair.iter().map(Arc::downgrade));
        for one in pair.iter().cycle().take(50) {
            h.engine.reload(one.clone(), h.provider.clone(), ALL.to_vec());
        }
        h.engine.try_beside(pair.first().cloned().unwrap(), ALL.to_vec(), Sample::ALL);
        assert_eq!(h.ask(1).await, 1);
    }
    h.engine.end_trial();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let alive = seen.iter().filter(|b| b.strong_count() > 0).count();
    assert_eq!(alive, 1, "only the one in force");
}
