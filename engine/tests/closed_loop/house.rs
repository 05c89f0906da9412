//! An engine in process over a scripted provider, a store in memory, and the requests of these tests.

use engine::{Admission, Answer, Bundle, Config, Engine, Files, Outside, Parts};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use types::chat::ChatRequest;
use types::completion::{Choice, Delta};
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, ModelIx, Price, Provider};
use types::outcome::Feedback;
use types::provider::{Call, ChatProvider, Error, Quota, Reply, Short};
use types::store::{self, Observer, OutcomeStore, Record, Seq, Stored};
use types::{Chunk, Clock, Completion, FinishReason, UnitInterval, Usage};

/// A store in memory that observes at once, until it is full.
pub(crate) struct Shelf(Mutex<(HashMap<String, Stored>, Box<dyn Observer>)>, Arc<AtomicBool>);

impl OutcomeStore for Shelf {
    fn append(&self, record: &Record) -> Result<Seq, store::Error> {
        if self.1.load(Ordering::Relaxed) {
            return Err(store::Error::Full("the shelf"));
        }
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

pub(crate) type Script = Box<dyn Fn(&Call) -> Result<Reply, Error> + Send + Sync>;

/// A provider that answers by a script and counts calls per model.
pub(crate) struct Scripted {
    script: Script,
    calls: Mutex<BTreeMap<String, u32>>,
    /// How long until a free tier is open again, by model; empty = no limits are known.
    pub(crate) quota: Mutex<Vec<Duration>>,
}

impl ChatProvider for Scripted {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        *self.calls.lock().unwrap().entry(call.model.id.to_string()).or_default() += 1;
        let reply = (self.script)(&call);
        async { reply }.boxed()
    }

    fn quota(&self, model: ModelIx) -> Option<Quota> {
        let left = *self.quota.lock().unwrap().get(usize::from(model.0))?;
        Some(Quota { ratio: if left.is_zero() { 1.0 } else { 0.0 }, wait: left, why: Short::UsedUp })
    }
}

pub(crate) fn whole(call: &Call, text: &str) -> Reply {
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

pub(crate) fn pieces(items: Vec<Result<Chunk, Error>>) -> Reply {
    Reply::Stream(stream::iter(items).boxed())
}

pub(crate) fn text(t: &str) -> Chunk {
    Chunk { choices: vec![Delta { text: Some(t.into()), ..Delta::default() }], ..Chunk::default() }
}

pub(crate) fn end() -> Chunk {
    Chunk {
        choices: vec![Delta { finish_reason: Some(FinishReason::Stop), ..Delta::default() }],
        usage: Some(Usage { input: 10, output: 2, ..Usage::default() }),
        ..Chunk::default()
    }
}

pub(crate) fn model(name: &str, price: f64) -> Model {
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

pub(crate) fn provider() -> Provider {
    Provider { base_url: "http://127.0.0.1:1".into(), ..Provider::new("p", Dialect::OpenaiChat) }
}

type Work = Arc<Mutex<Vec<BoxFuture<'static, ()>>>>;

pub(crate) struct House {
    pub(crate) engine: Engine,
    pub(crate) scripted: Arc<Scripted>,
    /// Whether its store takes no more records.
    pub(crate) full: Arc<AtomicBool>,
    /// What is to be done after answers; nothing of it begins by itself.
    pub(crate) work: Work,
    ids: AtomicU64,
}

pub(crate) fn house(
    models: Vec<Model>,
    rules: &str,
    script: impl Fn(&Call) -> Result<Reply, Error> + Send + Sync + 'static,
) -> House {
    house_of(models, rules, vec![], script)
}

pub(crate) fn house_of(
    models: Vec<Model>,
    rules: &str,
    workflows: Vec<SourceFile>,
    script: impl Fn(&Call) -> Result<Reply, Error> + Send + Sync + 'static,
) -> House {
    let n = models.len();
    let matrix = Arc::new(Matrix::new(vec![provider()], models));
    let rules = SourceFile::new("routing_rules.yaml", rules);
    let files = Files { workflows, runner: true, ..Files::new(rules) };
    let (bundle, problems) = Bundle::load(matrix, &files);
    let bundle = bundle.unwrap_or_else(|| panic!("{problems:?}"));
    let (learner, statistics) = engine::learner(engine::learn::Limits::default());
    let scripted =
        Arc::new(Scripted { script: Box::new(script), calls: Mutex::default(), quota: Mutex::default() });
    let full = Arc::new(AtomicBool::new(false));
    let work: Work = Arc::default();
    let keep = work.clone();
    let engine = Engine::new(Parts {
        bundle: bundle.into(),
        provider: scripted.clone(),
        availability: vec![Availability::Ready; n],
        store: Arc::new(Shelf(Mutex::new((HashMap::new(), Box::new(learner))), full.clone())),
        statistics,
        limits: None,
        finished: None,
        background: Some(Arc::new(move |_, future| keep.lock().unwrap().push(future))),
        outside: Outside::default(),
        redaction_key: [7; 32],
        clock: Clock::stopped(1_790_000_000_000),
        config: Config { seed: Some(7), ..Config::default() },
    });
    House { engine, scripted, full, work, ids: AtomicU64::new(0) }
}

impl House {
    pub(crate) async fn ask(&self, body: Value) -> (String, Result<Answer, engine::Error>) {
        self.ask_as(&engine::Who::open(), body).await
    }

    pub(crate) async fn ask_as(
        &self,
        who: &Arc<engine::Who>,
        body: Value,
    ) -> (String, Result<Answer, engine::Error>) {
        let id = format!("req_{}", self.ids.fetch_add(1, Ordering::Relaxed));
        let admission = Admission::new(id.clone(), who.clone(), tokio::time::Instant::now());
        let answer = self.engine.chat(admission, ChatRequest::from_value(&body).unwrap()).await;
        (id, answer)
    }

    pub(crate) async fn say(&self, id: &str, score: f64) {
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

    pub(crate) async fn stored(&self, id: &str) -> Stored {
        self.engine.stored(id).await.unwrap().unwrap()
    }

    pub(crate) fn calls(&self, model: &str) -> u32 {
        self.scripted.calls.lock().unwrap().get(model).copied().unwrap_or(0)
    }
}

pub(crate) const RULES: &str = "version: 1\npools: { default: { models: [\"*\"] }, extraction: { models: [\"*\"] }, judge: { models: [\"*\"] } }\n";

pub(crate) fn prose() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me something about the history of bridges, please."}]})
}

pub(crate) fn schema() -> Value {
    json!({"model": "auto",
        "messages": [{"role": "user", "content": "Extract the name: Ada"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": {
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": {"type": "string"}}}}}})
}

/// A stream that never gives anything.
pub(crate) fn silence() -> Reply {
    Reply::Stream(stream::pending().boxed())
}

/// A workflow `w` of these nodes that serves every request.
pub(crate) fn flow(nodes: &str) -> SourceFile {
    SourceFile::new("w.yaml", format!("version: 1\nname: w\n{nodes}"))
}

pub(crate) fn by_name() -> Value {
    json!({"model": "workflow/w", "messages": [{"role": "user", "content": "hello"}]})
}
