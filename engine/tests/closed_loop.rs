//! The loop closed in process: decide, call, feed back, learn, decide otherwise. Fixed seeds, paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use engine::{Admission, Answer, Bundle, Config, Engine, Event, Files, Kind, Parts};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::chat::ChatRequest;
use types::completion::{Choice, Delta};
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, ModelIx, Price, Provider};
use types::outcome::Feedback;
use types::provider::{Call, ChatProvider, Error, ErrorKind, Quota, Reply};
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
            Record::Late(_) | Record::Begun(_) | Record::GoBack(_) => {}
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
    fn usage(&self, _: types::usage::Query) -> BoxFuture<'_, Result<types::usage::Report, store::Error>> {
        async { Ok(types::usage::Report::default()) }.boxed()
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
    /// How long until a free tier is open again, by model; empty = no limits are known.
    quota: Mutex<Vec<Duration>>,
}

impl ChatProvider for Scripted {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        *self.calls.lock().unwrap().entry(call.model.id.to_string()).or_default() += 1;
        let reply = (self.script)(&call);
        async { reply }.boxed()
    }

    fn quota(&self, model: ModelIx) -> Option<Quota> {
        let left = *self.quota.lock().unwrap().get(usize::from(model.0))?;
        Some(Quota { ratio: if left.is_zero() { 1.0 } else { 0.0 }, wait: left })
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
        ..Completion::default()
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
        abilities: Abilities {
            streaming: true,
            tools: true,
            json: true,
            json_schema: true,
            ..Abilities::default()
        },
        price: Some(Price::new(price, price)),
        speed_tier: 1,
        ..Model::new(format!("p/{name}"), 0, (100_000, 4_000))
    }
}

fn provider() -> Provider {
    Provider { base_url: "http://127.0.0.1:1".into(), ..Provider::new("p", Dialect::OpenaiChat) }
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
    house_of(models, rules, vec![], script)
}

fn house_of(
    models: Vec<Model>,
    rules: &str,
    workflows: Vec<SourceFile>,
    script: impl Fn(&Call) -> Result<Reply, Error> + Send + Sync + 'static,
) -> House {
    let n = models.len();
    let matrix = Arc::new(Matrix::new(vec![provider()], models));
    let rules = SourceFile::new("routing_rules.yaml", rules);
    let files = Files {
        rules,
        defaults: None,
        scripts: vec![],
        workflows,
        schemas: vec![],
        runner: true,
        around: None,
    };
    let (bundle, problems) = Bundle::load(matrix, &files);
    let bundle = bundle.unwrap_or_else(|| panic!("{problems:?}"));
    let (learner, statistics) = engine::learner(engine::learn::Limits::default());
    let scripted =
        Arc::new(Scripted { script: Box::new(script), calls: Mutex::default(), quota: Mutex::default() });
    let engine = Engine::new(Parts {
        bundle: bundle.into(),
        provider: scripted.clone(),
        availability: vec![Availability::Ready; n],
        store: Arc::new(Shelf(Mutex::new((HashMap::new(), Box::new(learner))))),
        statistics,
        limits: None,
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
            who: engine::Who::open(),
            received: tokio::time::Instant::now(),
            deadline: None,
            headers: Arc::default(),
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
            principal: String::new(),
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
async fn a_used_up_free_tier_is_passed_over_and_the_client_hears_when_it_opens_again() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| Ok(whole(c, "x")));
    let (open, used_up) = (Duration::ZERO, Duration::from_secs(90));
    *h.scripted.quota.lock().unwrap() = vec![used_up, open];
    for _ in 0..10 {
        let (id, answer) = h.ask(prose()).await;
        assert!(answer.is_ok());
        let excluded = h.stored(&id).await.record.decision.excluded;
        assert!(excluded.iter().any(|e| &*e.model == "p/a" && e.reason == "quota"), "{excluded:?}");
    }
    assert_eq!((h.calls("p/a"), h.calls("p/b")), (0, 10));
    *h.scripted.quota.lock().unwrap() = vec![used_up, Duration::from_secs(40)];
    let e = h.ask(prose()).await.1.unwrap_err();
    assert_eq!(e.retry_after, Some(Duration::from_secs(40)), "{e:?}");
    assert_eq!(h.calls("p/b"), 10, "nothing was called");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_free_tier_has_too_little_left_for_keeps_its_model_out_for_nobody_else() {
    let h = house(vec![model("a", 0.1)], RULES, |c| {
        let large = c.request.messages.iter().any(|m| m.content.text().contains("summary of all"));
        let over = Error {
            retry_after: Some(Duration::from_secs(2_400)),
            ..Error::new(ErrorKind::FreeTier, &c.model, "")
        };
        if large { Err(over) } else { Ok(whole(c, "x")) }
    });
    let mut large = prose();
    large["messages"][0]["content"] = json!("A summary of all that follows, please.");
    for _ in 0..6 {
        let e = h.ask(large.clone()).await.1.unwrap_err();
        assert!(matches!(&e.kind, Kind::Provider(p) if p.kind == ErrorKind::FreeTier), "{e:?}");
        assert_eq!(e.retry_after, Some(Duration::from_secs(2_400)));
    }
    assert!(h.ask(prose()).await.1.is_ok());
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
    assert!(
        engine::explain::table(&stored, false).contains("repair"),
        "{}",
        engine::explain::table(&stored, false)
    );
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
    assert!(matches!(answer.unwrap_err().kind, Kind::Unfit { .. }));
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

/// A stream that never gives anything.
fn silence() -> Reply {
    Reply::Stream(stream::pending().boxed())
}

#[tokio::test(start_paused = true)]
async fn a_buffered_stream_names_its_model_and_is_on_record_once_it_was_taken() {
    let h = house(vec![model("a", 1.0)], RULES, |c| Ok(whole(c, "{\"name\": \"Ada\"}")));
    for taken in [1, usize::MAX] {
        let mut body = schema();
        body["stream"] = json!(true);
        let (id, answer) = h.ask(body).await;
        let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
        assert_eq!(&*live.head.model, "p/a");
        let n = live.events.take(taken).count().await;
        let record = h.stored(&id).await.record;
        assert!(record.run.stream_mode.starts_with("buffered"), "{}", record.run.stream_mode);
        let (cut, status) = (n == taken, record.outcome.status);
        let expected =
            if cut { types::outcome::Status::Cancelled } else { types::outcome::Status::Delivered };
        assert_eq!(status, expected, "after {n} events");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_charged_for_all_that_came() {
    for kind in [ErrorKind::Unavailable, ErrorKind::TotalTimeout, ErrorKind::StreamLost] {
        let h = house(vec![model("a", 1.0)], RULES, move |c| {
            let mut first = text("x");
            first.usage = Some(Usage { input: 10, output: 1, ..Usage::default() });
            let broken = Error::new(kind, &c.model, "cut");
            Ok(pieces(vec![Ok(first), Ok(text(&"x".repeat(4_000))), Err(broken)]))
        });
        let mut body = prose();
        body["stream"] = json!(true);
        let (id, answer) = h.ask(body).await;
        let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
        assert!(matches!(live.events.collect::<Vec<_>>().await.last(), Some(Event::Failed(_))));
        let usage = h.stored(&id).await.record.outcome.usage;
        assert!(usage.output >= 1_000 && usage.input == 10 && usage.estimated, "{kind:?}: {usage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_answers_is_kept_out() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        Ok(if &*c.model.id == "p/a" { silence() } else { whole(c, "x") })
    });
    for stream in [false, true] {
        let mut served = 0;
        for _ in 0..20 {
            let mut body = prose();
            body["stream"] = json!(stream);
            served += u32::from(h.ask(body).await.1.is_ok());
        }
        assert!(served >= 10, "{served} of 20 with stream {stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_short_deadline_does_not_keep_a_model_out() {
    let h = house(vec![model("a", 1.0)], RULES, |_| Ok(silence()));
    for _ in 0..20 {
        let mut body = prose();
        body["routing"] = json!({"max_latency_ms": 10_000});
        assert!(h.ask(body).await.1.is_err());
    }
    // Under that ceiling it is known to be too slow. Who gives it more time asks it.
    let asked = h.calls("p/a");
    assert_eq!(((2..20).contains(&asked), h.engine.health().open), (true, 0), "{asked}");
    assert!(h.ask(prose()).await.1.is_err());
    assert!(h.calls("p/a") > asked);
}

#[tokio::test(start_paused = true)]
async fn a_models_own_time_limit_leads_to_the_next_candidate() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        if &*c.model.id == "p/a" {
            Err(Error::new(ErrorKind::TotalTimeout, &c.model, "20 s"))
        } else {
            Ok(whole(c, "x"))
        }
    });
    let Ok(Answer::Whole(w)) = h.ask(prose()).await.1 else { panic!("no answer") };
    assert_eq!(&*w.head.model, "p/b");
}

#[tokio::test(start_paused = true)]
async fn the_best_answer_so_far_is_delivered_when_the_clients_time_is_up() {
    let h = house(vec![model("a", 1.0)], RULES, |c| {
        Ok(if c.edits.messages.is_some() { silence() } else { whole(c, "{\"nam\": 3}") })
    });
    let mut body = schema();
    body["routing"] = json!({"max_latency_ms": 30_000, "workflow": "default"});
    let (id, answer) = h.ask(body).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(h.stored(&id).await.record.outcome.verdict, types::Verdict::Failed);
}

#[tokio::test(start_paused = true)]
async fn ceilings_of_policies_hold_for_every_node_and_every_call_has_its_own_identifier() {
    let rules = format!(
        "{RULES}rules:\n  - {{ id: caps, actions: {{ cap_temperature: 0.3, cap_max_tokens: 100 }} }}\n"
    );
    let seen: Arc<Mutex<Vec<(f64, u32, String)>>> = Arc::default();
    let log = seen.clone();
    let h = house(vec![model("a", 1.0), model("b", 2.0)], &rules, move |c| {
        let temperature = c.edits.temperature.or(c.request.params.temperature).unwrap_or(1.0);
        let tokens = c.edits.max_tokens.or(c.request.params.max_tokens).unwrap_or(u32::MAX);
        log.lock().unwrap().push((temperature, tokens, c.id.clone()));
        Ok(whole(c, "x"))
    });
    let mut body = prose();
    body["model"] = json!("workflow/cheap_first_cascade");
    body["temperature"] = json!(0.2);
    body["max_tokens"] = json!(50);
    assert!(h.ask(body).await.1.is_ok());
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2 && seen.iter().all(|(t, n, _)| *t <= 0.3 && *n <= 100), "{seen:?}");
    let ids: std::collections::BTreeSet<&str> = seen.iter().map(|(_, _, id)| id.as_str()).collect();
    assert_eq!(ids.len(), seen.len(), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn every_choice_and_every_word_a_repair_adds_is_reserved() {
    let asked: Arc<Mutex<Vec<(u64, u32)>>> = Arc::default();
    let log = asked.clone();
    let h = house(vec![model("a", 1.0)], RULES, move |c| {
        let input = c.edits.messages.iter().flatten().flat_map(|m| m.content.texts()).map(str::len);
        let bytes = u64::try_from(input.sum::<usize>()).unwrap();
        log.lock().unwrap().push((bytes, c.edits.max_tokens.unwrap_or(4_000)));
        Ok(whole(c, &"{".repeat(40_000)))
    });
    let mut body = prose();
    body["n"] = json!(8);
    body["routing"] = json!({"max_cost_usd": 0.004});
    assert!(h.ask(body).await.1.is_ok());
    let most = asked.lock().unwrap().first().unwrap().1;
    assert!((64..500).contains(&most), "8 choices of {most} tokens at 1 USD a million");

    // The repair shows the model its own 40 000 bytes, which do not fit under the ceiling.
    asked.lock().unwrap().clear();
    let mut body = schema();
    body["max_tokens"] = json!(100);
    body["routing"] = json!({"max_cost_usd": 0.002, "workflow": "default"});
    let _ = h.ask(body).await;
    let longest = asked.lock().unwrap().iter().map(|(bytes, _)| *bytes).max().unwrap();
    assert!(longest < 8_000, "a call with {longest} bytes of messages went out");
}

#[tokio::test(start_paused = true)]
async fn a_workflows_own_limit_on_money_holds() {
    let tight = SourceFile::new(
        "tight.yaml",
        "version: 1\nname: tight\nlimits: { usd: 0.000001 }\nnodes:\n  - { id: generate, type: generate }\n  - { id: answer, type: stream, from: nodes.generate.completion, needs: generate }\n",
    );
    let h = house_of(vec![model("a", 1.0)], RULES, vec![tight], |c| Ok(whole(c, "x")));
    let mut body = prose();
    body["model"] = json!("workflow/tight");
    let (id, answer) = h.ask(body.clone()).await;
    assert!(matches!(answer.as_ref().unwrap_err().kind, Kind::NoCandidates { .. }), "{answer:?}");
    assert!(h.stored(&id).await.record.decision.excluded.iter().any(|e| e.reason == "workflow_limit"));
    // It is told as the workflow's own, whoever else sets a higher one.
    body["routing"] = json!({"max_cost_usd": 1.0});
    let (id, _) = h.ask(body).await;
    let excluded = h.stored(&id).await.record.decision.excluded;
    let told = excluded.iter().find(|e| e.reason == "workflow_limit").and_then(|e| e.detail.clone());
    assert!(told.is_some_and(|d| d.contains("its own `limits.usd`")), "{excluded:?}");
    assert_eq!(h.calls("p/a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_preferred_pool_is_preferred() {
    let rules = RULES.replace("judge:", "good: { models: [\"p/b\"] }, judge:");
    let h = house(vec![model("a", 1.0), model("b", 1.0)], &rules, |c| Ok(whole(c, "x")));
    let mut body = prose();
    body["routing"] = json!({"prefer": ["pool:good"], "determinism": "strict"});
    let Ok(Answer::Whole(w)) = h.ask(body).await.1 else { panic!("no answer") };
    assert_eq!(&*w.head.model, "p/b");
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_none_is_refused_before_anybody_is_called() {
    let h = house(vec![model("a", 1.0)], RULES, |c| Ok(whole(c, "x")));
    let mut body = schema();
    body["response_format"]["json_schema"]["schema"] = json!({"type": "objct"});
    let (_, answer) = h.ask(body).await;
    assert!(matches!(answer.unwrap_err().kind, Kind::Invalid { .. }));
    assert_eq!(h.calls("p/a"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_names_nothing_is_a_mistake() {
    let h = house(vec![model("alpha", 1.0)], RULES, |c| Ok(whole(c, "x")));
    for (option, selector, near) in
        [("prefer", "pool:defalt", "default"), ("require", "p/alpah", "p/alpha"), ("exclude", "nope/*", "")]
    {
        let mut body = prose();
        body["routing"] = json!({ option: [selector] });
        let (_, answer) = h.ask(body).await;
        let e = answer.unwrap_err();
        assert!(matches!(&e.kind, Kind::Invalid { param, .. } if param.ends_with(option)), "{e:?}");
        assert!(e.to_string().contains(near), "{e}");
    }
}

#[test]
fn the_same_configuration_has_the_same_hash_and_built_in_pools_hold_where_none_are_named() {
    let load = |rules: &str, defaults: Option<&str>| {
        let models = (0..20).map(|i| model(&format!("m{i}"), 1.0)).collect();
        let rules = SourceFile::new("routing_rules.yaml", rules);
        let defaults = defaults.map(|d| SourceFile::new("built in", d));
        Bundle::load(
            Arc::new(Matrix::new(vec![provider()], models)),
            &Files {
                rules,
                defaults,
                scripts: vec![],
                workflows: vec![],
                schemas: vec![],
                runner: true,
                around: None,
            },
        )
    };
    let hash = |rules: &str| load(rules, None).0.unwrap().hash().clone();
    assert_eq!(hash(RULES), hash(RULES));
    assert_ne!(hash(RULES), hash("version: 1\n"));
    let rule = "version: 1\nrules: [{ id: a, actions: { prefer: [\"pool:extraction\"] } }]\n";
    assert!(load(rule, None).0.is_none());
    assert!(load(rule, Some(RULES)).0.is_some());
}

/// A workflow `w` of these nodes that serves every request.
fn flow(nodes: &str) -> SourceFile {
    SourceFile::new("w.yaml", format!("version: 1\nname: w\n{nodes}"))
}

fn by_name() -> Value {
    json!({"model": "workflow/w", "messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test(start_paused = true)]
async fn what_a_workflow_does_after_its_response_is_a_word_on_it_and_not_in_its_record() {
    let nodes = "\
nodes:
  - { id: ask, type: generate }
  - { id: audit, type: judge, input: nodes.ask.completion, needs: ask }
  - { id: answer, type: stream, from: nodes.ask.completion, needs: ask }
";
    let grade = "{\"scores\": {\"correctness\": 3, \"helpfulness\": 3}, \"rationale\": \"so so\"}";
    let h = house_of(vec![model("a", 1.0), model("b", 1.0)], RULES, vec![flow(nodes)], move |c| {
        let judge = c.edits.messages.is_some();
        Ok(whole(c, if judge { grade } else { "an answer" }))
    });
    let work: Arc<Mutex<Vec<BoxFuture<'static, ()>>>> = Arc::default();
    let keep = work.clone();
    h.engine.work_in(Arc::new(move |_, future| keep.lock().unwrap().push(future)));
    let (id, answer) = h.ask(by_name()).await;
    assert!(matches!(answer, Ok(Answer::Whole(_))), "{answer:?}");
    let before = h.stored(&id).await;
    assert_eq!((before.record.outcome.calls, before.feedback.len()), (1, 0));
    let started = std::mem::take(&mut *work.lock().unwrap());
    assert_eq!(started.len(), 1);
    for future in started {
        future.await;
    }
    let after = h.stored(&id).await;
    assert_eq!((after.record.outcome.calls, h.calls("p/a") + h.calls("p/b")), (1, 2));
    assert_eq!((after.feedback[0].source.as_str(), after.feedback[0].score.get()), ("judge:w", 0.5));
    // Without anywhere to do it, it is left undone, and the answer is the same.
    let h = house_of(vec![model("a", 1.0)], RULES, vec![flow(nodes)], |c| Ok(whole(c, "an answer")));
    let (id, answer) = h.ask(by_name()).await;
    assert!(matches!(answer, Ok(Answer::Whole(_))), "{answer:?}");
    assert_eq!((h.stored(&id).await.record.outcome.calls, h.calls("p/a")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_nodes_budget_is_set_aside_before_its_calls() {
    // Four thousand tokens at 100 a million are 0.4: more than the node may use.
    let nodes = "\
nodes:
  - { id: ask, type: generate, budget: { usd: 0.2 }, params: { max_tokens: 4000 } }
  - { id: answer, type: stream, from: nodes.ask.completion, needs: ask }
";
    let h = house_of(vec![model("a", 100.0)], RULES, vec![flow(nodes)], |c| {
        Ok(whole(c, &c.edits.max_tokens.unwrap_or(0).to_string()))
    });
    // Prose is shortened to what the node can pay for.
    let Ok(Answer::Whole(w)) = h.ask(by_name()).await.1 else { panic!() };
    let most: u32 = w.completion.text().parse().unwrap();
    assert!((1_000..2_000).contains(&most), "{most}");
    // An answer with a form cannot be.
    let mut form = by_name();
    form["response_format"] = json!({"type": "json_object"});
    let Err(e) = h.ask(form).await.1 else { panic!() };
    assert!(matches!(e.kind, Kind::Budget(_)), "{e:?}");
    assert_eq!(h.calls("p/a"), 1);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_a_file_states_are_set_aside_before_its_calls() {
    let most = async |limits: &str, budget: &str, form: &str| {
        let nodes = format!(
            "limits: {{ {limits} }}\nnodes:\n  - {{ id: ask, type: generate, budget: {{ {budget} }}, params: {{ max_tokens: \
             200 }}{form} }}\n  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: ask }}\n"
        );
        let h = house_of(vec![model("a", 1.0)], RULES, vec![flow(&nodes)], |c| {
            Ok(whole(c, &c.edits.max_tokens.unwrap_or(0).to_string()))
        });
        match h.ask(by_name()).await.1 {
            Ok(Answer::Whole(w)) => Ok(w.completion.text().parse::<u32>().unwrap()),
            Ok(_) => panic!(),
            Err(e) => Err((e.code().to_owned(), h.calls("p/a"))),
        }
    };
    let stated = most("tokens: 150", "calls: 4", "").await.unwrap();
    assert!((64..150).contains(&stated), "{stated}");
    let node = most("tokens: 150", "tokens: 110", "").await.unwrap();
    assert_eq!(stated - node, 40, "what goes in takes its part");
    assert_eq!(most("calls: 4", "calls: 4", "").await, Ok(200), "what is usual shortens nothing");
    // A few words, and half a structure, are no answer: nobody is asked for them.
    let refused = Err(("budget_exhausted".to_owned(), 0));
    assert_eq!(most("tokens: 60", "calls: 4", "").await, refused);
    assert_eq!(most("tokens: 150", "calls: 4", ", response: { format: json }").await, refused);
    assert_eq!(most("tokens: 400", "calls: 4", ", response: { format: json }").await, Ok(200));
}
