//! The loop closed in process: decide, call, feed back, learn, decide otherwise. Fixed seeds, paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use engine::{Admission, Answer, Bundle, Config, Engine, Event, Files, Kind, Parts};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use types::chat::ChatRequest;
use types::completion::{Choice, Delta};
use types::doc::SourceFile;
use types::matrix::{
    Abilities, Availability, DataPolicy, Dialect, Matrix, Model, Price, Prior, Provider, Quirks, Tier,
    Timeouts,
};
use types::outcome::Feedback;
use types::provider::{Call, ChatProvider, Error, ErrorKind, Reply};
use types::store::{self, Observer, OutcomeStore, Record, Seq, Stored};
use types::{Chunk, Completion, FinishReason, UnitInterval, Usage};

/// A store in memory that observes at once.
struct Shelf(Mutex<(HashMap<String, Stored>, Box<dyn Observer>)>);

impl OutcomeStore for Shelf {
    fn append(&self, record: &Record) -> Result<Seq, store::Error> {
        let mut guard = self.0.lock().unwrap();
        let (rows, observer) = &mut *guard;
        match record {
            Record::Request(r) => {
                observer.outcome(0, &r.outcome);
                rows.insert(r.outcome.request_id.clone(), Stored { record: (**r).clone(), feedback: vec![] });
            }
            Record::Feedback(f) => {
                let row = rows.get_mut(&f.request_id).unwrap();
                row.feedback.retain(|x| x.source != f.source);
                row.feedback.push(f.clone());
                row.record.outcome = observer.feedback(0, &row.record.outcome, &row.feedback);
            }
        }
        observer.batch_done();
        Ok(0)
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), store::Error>> {
        async { Ok(()) }.boxed()
    }
    fn request(&self, id: &str) -> BoxFuture<'_, Result<Option<Stored>, store::Error>> {
        let found = self.0.lock().unwrap().0.get(id).cloned();
        async { Ok(found) }.boxed()
    }
    fn recent(&self, _: usize) -> BoxFuture<'_, Result<Vec<Stored>, store::Error>> {
        async { Ok(vec![]) }.boxed()
    }
}

type Script = Box<dyn Fn(&Call) -> Result<Reply, Error> + Send + Sync>;

/// A provider that answers by a script and counts calls per model.
struct Scripted {
    script: Script,
    calls: Mutex<BTreeMap<String, u32>>,
}

impl ChatProvider for Scripted {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        *self.calls.lock().unwrap().entry(call.model.id.to_string()).or_default() += 1;
        let reply = (self.script)(&call);
        async { reply }.boxed()
    }
}

fn whole(call: &Call, text: &str) -> Reply {
    Reply::Whole(Completion {
        id: "c".into(),
        created: 1,
        model: call.model.upstream_name.clone(),
        choices: vec![Choice {
            text: text.into(),
            finish_reason: Some(FinishReason::Stop),
            ..Choice::default()
        }],
        usage: Usage { input: 10, output: 5, ..Usage::default() },
        raw: None,
    })
}

fn pieces(items: Vec<Result<Chunk, Error>>) -> Reply {
    Reply::Stream(stream::iter(items).boxed())
}

fn text(t: &str) -> Chunk {
    Chunk { choices: vec![Delta { text: Some(t.into()), ..Delta::default() }], ..Chunk::default() }
}

fn end() -> Chunk {
    Chunk {
        choices: vec![Delta { finish_reason: Some(FinishReason::Stop), ..Delta::default() }],
        usage: Some(Usage { input: 10, output: 2, ..Usage::default() }),
        ..Chunk::default()
    }
}

fn model(name: &str, price: f64) -> Model {
    Model {
        id: format!("p/{name}").into(),
        provider: 0,
        upstream_name: name.into(),
        aliases: vec![],
        family: name.into(),
        context_window: 100_000,
        max_output_tokens: 4_000,
        abilities: Abilities {
            streaming: true,
            tools: true,
            json: true,
            json_schema: true,
            ..Abilities::default()
        },
        price: Some(Price { input: price, cached_input: price, cache_write: price, output: price }),
        free_tier: None,
        quality_tier: 2,
        speed_tier: 1,
        prior: Prior::default(),
        tags: vec![],
        simulate: None,
        enabled: true,
    }
}

fn provider() -> Provider {
    Provider {
        id: "p".into(),
        dialect: Dialect::OpenaiChat,
        base_url: "http://127.0.0.1:1".into(),
        api_key_env: vec![],
        region: None,
        tier: Tier::Paid,
        headers: vec![],
        data: DataPolicy::default(),
        quirks: Quirks::default(),
        timeouts: Timeouts::default(),
        enabled: true,
        as_of: None,
        source: None,
        file: None,
        seed: 0,
    }
}

struct House {
    engine: Engine,
    scripted: Arc<Scripted>,
    ids: AtomicU64,
}

fn house(
    models: Vec<Model>,
    rules: &str,
    script: impl Fn(&Call) -> Result<Reply, Error> + Send + Sync + 'static,
) -> House {
    let n = models.len();
    let matrix = Arc::new(Matrix::new(vec![provider()], models));
    let files =
        Files { rules: SourceFile::new("routing_rules.yaml", rules), scripts: vec![], workflows: vec![] };
    let (bundle, problems) = Bundle::load(matrix, &files);
    let bundle = bundle.unwrap_or_else(|| panic!("{problems:?}"));
    let (learner, statistics) = engine::learner(engine::learn::Limits::default());
    let scripted = Arc::new(Scripted { script: Box::new(script), calls: Mutex::default() });
    let engine = Engine::new(Parts {
        bundle,
        provider: scripted.clone(),
        availability: vec![Availability::Ready; n],
        store: Arc::new(Shelf(Mutex::new((HashMap::new(), Box::new(learner))))),
        statistics,
        finished: None,
        config: Config { seed: Some(7), ..Config::default() },
    });
    House { engine, scripted, ids: AtomicU64::new(0) }
}

impl House {
    async fn ask(&self, body: Value) -> (String, Result<Answer, engine::Error>) {
        let id = format!("req_{}", self.ids.fetch_add(1, Ordering::Relaxed));
        let admission = Admission {
            request_id: id.clone(),
            tenant: "default".into(),
            received: tokio::time::Instant::now(),
            deadline: None,
        };
        let answer = self.engine.chat(admission, ChatRequest::from_value(&body).unwrap()).await;
        (id, answer)
    }

    async fn say(&self, id: &str, score: f64) {
        let feedback = Feedback {
            request_id: id.into(),
            ts_ms: 0,
            score: UnitInterval::clamped(score),
            reason: None,
            source: "test".into(),
        };
        self.engine.feedback(feedback).await.unwrap();
    }

    async fn stored(&self, id: &str) -> Stored {
        self.engine.stored(id).await.unwrap().unwrap()
    }

    fn calls(&self, model: &str) -> u32 {
        self.scripted.calls.lock().unwrap().get(model).copied().unwrap_or(0)
    }
}

const RULES: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

fn prose() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me something about the history of bridges, please."}]})
}

fn schema() -> Value {
    json!({"model": "auto",
        "messages": [{"role": "user", "content": "Extract the name: Ada"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": {
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": {"type": "string"}}}}}})
}

#[tokio::test(start_paused = true)]
async fn the_choice_moves_to_the_better_arm_and_back_when_they_swap() {
    let h = house(vec![model("a", 1.0), model("b", 1.0)], RULES, |c| Ok(whole(c, "an answer")));
    let mut share = Vec::new();
    for phase in 0..2 {
        let good = if phase == 0 { "p/b" } else { "p/a" };
        let mut last_100 = 0;
        for i in 0..400 {
            let (id, answer) = h.ask(prose()).await;
            let Ok(Answer::Whole(w)) = answer else { panic!("{answer:?}") };
            // 9 in 10 against 4 in 10, spread evenly so that no seed is lucky.
            let p = if &*w.head.model == good { 9 } else { 4 };
            h.say(&id, if i % 10 < p { 1.0 } else { 0.0 }).await;
            if i >= 300 && &*w.head.model == good {
                last_100 += 1;
            }
        }
        share.push(last_100);
    }
    assert!(
        share.iter().all(|s| *s >= 85),
        "share of the better arm in the last 100 of each phase: {share:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_excluded_model_is_never_called() {
    let rules = format!("{RULES}rules:\n  - {{ id: not_a, actions: {{ exclude: [\"p/a\"] }} }}\n");
    let h = house(vec![model("a", 0.1), model("b", 1.0)], &rules, |c| {
        if &*c.model.id == "p/b" {
            Err(Error::new(ErrorKind::Unavailable, &c.model, "down"))
        } else {
            Ok(whole(c, "x"))
        }
    });
    for _ in 0..20 {
        let (id, answer) = h.ask(prose()).await;
        assert!(answer.is_err());
        let d = h.stored(&id).await.record.decision;
        assert!(
            d.excluded.iter().any(|e| &*e.model == "p/a" && e.rule.as_deref() == Some("not_a"))
                || d.arms.is_empty()
        );
    }
    assert_eq!(h.calls("p/a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_candidate_is_invisible_and_then_kept_out() {
    // `a` is cheaper, so it is tried first until its breaker opens.
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        if &*c.model.id == "p/a" {
            Err(Error::new(ErrorKind::Connect, &c.model, "refused"))
        } else {
            Ok(whole(c, "x"))
        }
    });
    for _ in 0..40 {
        let (id, answer) = h.ask(prose()).await;
        let Ok(Answer::Whole(w)) = answer else { panic!("{answer:?}") };
        assert_eq!(&*w.head.model, "p/b");
        assert_eq!(h.stored(&id).await.record.outcome.served_by.as_deref(), Some("p/b"));
    }
    assert!((1..=5).contains(&h.calls("p/a")), "{} calls of a dead model", h.calls("p/a"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_validation_is_repaired_and_the_record_shows_each_attempt() {
    let h = house(vec![model("a", 1.0)], RULES, |c| {
        let repairing = c.edits.messages.is_some();
        Ok(whole(c, if repairing { "{\"name\": \"Ada\"}" } else { "{\"nam\": 3}" }))
    });
    let (id, answer) = h.ask(schema()).await;
    let Ok(Answer::Whole(w)) = answer else { panic!("{answer:?}") };
    assert_eq!(serde_json::from_str::<Value>(w.completion.text()).unwrap(), json!({"name": "Ada"}));
    let stored = h.stored(&id).await;
    assert!(stored.record.run.calls().count() >= 2, "{:?}", stored.record.run);
    assert_eq!(stored.record.outcome.verdict, types::Verdict::Passed);
    assert_eq!(stored.record.outcome.repairs, 1);
    assert_eq!(w.tail.usage.input, 20, "the client is charged for the whole tree");
    assert!(engine::explain::table(&stored).contains("repair"), "{}", engine::explain::table(&stored));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_ends_in_a_failure_and_one_that_never_begins_falls_back() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        let lost = Error::new(ErrorKind::StreamLost, &c.model, "cut");
        Ok(if &*c.model.id == "p/a" {
            pieces(vec![Ok(Chunk::default()), Err(lost)])
        } else {
            pieces(vec![Ok(text("Hel")), Err(lost)])
        })
    });
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
    assert_eq!(&*live.head.model, "p/b", "nothing of the first candidate was shown");
    let events: Vec<Event> = live.events.collect().await;
    assert!(matches!(events.first(), Some(Event::Chunk(c)) if c.choices[0].text.as_deref() == Some("Hel")));
    assert!(matches!(events.last(), Some(Event::Failed(e)) if matches!(e.kind, Kind::Provider(_))));
    assert!(!events.iter().any(|e| matches!(e, Event::Done(_))));
    assert_eq!(h.stored(&id).await.record.outcome.status, types::outcome::Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_through_and_is_charged_what_was_reported() {
    let h =
        house(vec![model("a", 1.0)], RULES, |_| Ok(pieces(vec![Ok(text("Hel")), Ok(text("lo")), Ok(end())])));
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
    let events: Vec<Event> = live.events.collect().await;
    assert!(matches!(events.last(), Some(Event::Done(t)) if t.usage.output == 2 && t.cost_known));
    let stored = h.stored(&id).await.record;
    assert!(stored.run.stream_mode.starts_with("passthrough"), "{}", stored.run.stream_mode);
    assert!(!stored.outcome.usage.estimated);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_call_and_the_request_is_still_recorded() {
    let h = house(vec![model("a", 1.0)], RULES, |_| {
        Ok(Reply::Stream(stream::iter(vec![Ok(text("x"))]).chain(stream::pending()).boxed()))
    });
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(mut live)) = answer else { panic!("{answer:?}") };
    assert!(live.events.next().await.is_some());
    drop(live);
    let o = h.stored(&id).await.record.outcome;
    assert_eq!(o.status, types::outcome::Status::Cancelled);
    assert!(o.usage.estimated && o.cost_usd > types::Usd::ZERO, "{o:?}");
    assert_eq!(o.reward, None);
    assert_eq!(h.engine.health().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn total_failure_is_an_error_that_lists_every_attempt() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        let kind = if &*c.model.id == "p/a" { ErrorKind::RateLimited } else { ErrorKind::Connect };
        Err(Error::new(kind, &c.model, "no"))
    });
    let (_, answer) = h.ask(prose()).await;
    let e = answer.unwrap_err();
    assert!(matches!(&e.kind, Kind::Provider(p) if p.kind == ErrorKind::RateLimited), "{e:?}");
    let models: Vec<&str> = e.attempts.iter().map(|a| a.model.as_str()).collect();
    assert!(models.contains(&"p/a") && models.contains(&"p/b"), "{models:?}");
}

#[tokio::test(start_paused = true)]
async fn strict_requests_are_never_explored() {
    let h = house(vec![model("a", 1.0), model("b", 1.0), model("c", 1.0)], RULES, |c| Ok(whole(c, "x")));
    for _ in 0..200 {
        let mut body = prose();
        body["routing"] = json!({"determinism": "strict"});
        let (id, answer) = h.ask(body).await;
        assert!(answer.is_ok());
        let d = h.stored(&id).await.record.decision;
        assert!(!d.explored && d.epsilon == 0.0 && d.arms.iter().all(|a| a.terms.bonus == 0.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_ceiling_on_cost_is_never_passed_and_unknown_prices_are_left_out() {
    let mut unpriced = model("u", 0.0);
    unpriced.price = None;
    let h = house(vec![model("a", 1.0), unpriced], RULES, |c| Ok(whole(c, "x")));
    let mut body = prose();
    body["routing"] = json!({"max_cost_usd": 0.01});
    let (id, answer) = h.ask(body).await;
    assert!(answer.is_ok());
    let d = h.stored(&id).await.record.decision;
    assert!(d.excluded.iter().any(|e| &*e.model == "p/u" && e.reason == "unknown_price"));
    let mut body = prose();
    body["routing"] = json!({"max_cost_usd": 0.000_000_001});
    let (_, answer) = h.ask(body).await;
    assert!(matches!(answer.unwrap_err().kind, Kind::NoCandidates { .. }));
    assert_eq!(h.calls("p/u"), 0);
}

#[tokio::test(start_paused = true)]
async fn unknown_models_and_workflows_are_named_with_the_nearest() {
    let h = house(vec![model("alpha", 1.0)], RULES, |c| Ok(whole(c, "x")));
    for (name, near) in [("p/alpah", "p/alpha"), ("workflow/defalt", "default"), ("auto:bets", "auto:best")] {
        let (_, answer) =
            h.ask(json!({"model": name, "messages": [{"role": "user", "content": "hi"}]})).await;
        assert!(answer.as_ref().is_err_and(|e| e.to_string().contains(near)), "{answer:?}");
    }
    let (_, answer) = h.ask(json!({"model": "alpha", "messages": [{"role": "user", "content": "hi"}]})).await;
    assert!(answer.is_ok(), "a bare name that only one provider has");
}
