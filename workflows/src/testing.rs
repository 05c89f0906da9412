//! For tests: a small expression language, a matrix of three models, and models that answer by script.

use crate::world::{
    Ask, CacheAsk, Cached, CheckAsk, Failure, GateAsk, GateReply, Generated, Recalled, Served, ToolAsk,
    ToolFailure, ToolReply, ToolSpec, World,
};
use crate::{Ending, Exhausted, Input, Library, Names, Workflow, load};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use types::chat::ToolCall;
use types::completion::{Choice, Delta, FinishReason};
use types::doc::SourceFile;
use types::expr::{Compiled, Error, Expression, Language, Problem, Scope, Type, Variables};
use types::matrix::{Dialect, Matrix, Model, Price, Provider, Tier};
use types::provider::{self, ErrorKind};
use types::runs::SideEffect;
use types::{ChatRequest, Chunk, Completion, Diagnostic, Report, Usage};

/// Comparisons of paths, strings, numbers and booleans, joined by `&&`; `.len()` of lists; a value alone,
/// `a ?? b` and `a + b`; how many texts of `completions` agree.
pub(crate) struct Small;

/// What the language knows beside names: it stands for the name `agreed`.
const AGREED: &str = "agree_count(completions.map(|c| c.text))";

#[derive(Debug)]
struct Compared(String);

fn atoms(source: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let mut at = 0;
    source.split("&&").map(move |part| {
        let start = at;
        at += part.len() + 2;
        (start, part.split_whitespace().collect())
    })
}

fn known(path: &str, variables: &Variables) -> bool {
    let mut parts = path.trim_end_matches(".len()").split('.');
    let mut at = parts.next().and_then(|p| variables.iter().find(|(k, _)| k == p)).map(|(_, t)| t);
    for p in parts {
        at = at.map(|t| if let Type::Optional(of) = t { of } else { t });
        at = match at {
            Some(Type::Map(m)) => m.iter().find(|(k, _)| k == p).map(|(_, t)| t),
            other => other.filter(|t| matches!(t, Type::Any)),
        };
    }
    at.is_some()
}

fn literal(atom: &str) -> Option<Value> {
    if atom == "()" {
        return Some(Value::Null);
    }
    serde_json::from_str(atom).ok()
}

impl Language for Small {
    fn compile(
        &self,
        source: &str,
        variables: &Variables,
        _: Option<&Type>,
    ) -> Result<Compiled, Vec<Problem>> {
        let mut variables = std::borrow::Cow::Borrowed(variables);
        if source.contains(AGREED) {
            variables.to_mut().push(("agreed".to_owned(), Type::Int));
        }
        let (variables, source) = (&*variables, &*source.replace(AGREED, "agreed"));
        let flat = source.replace("||", "&&");
        for (start, tokens) in atoms(&flat) {
            let unknown = |t: &&&str| literal(t).is_none() && !known(t, variables);
            let Some(t) = tokens.iter().step_by(2).find(unknown) else { continue };
            return Err(vec![Problem {
                number: "301",
                warning: false,
                line: 1,
                column: start + source.get(start..).unwrap().find(t).unwrap() + 1,
                message: format!("unknown `{t}`"),
                hint: None,
            }]);
        }
        Ok((Arc::new(Compared(source.to_owned())), Vec::new()))
    }

    fn scope(&self, base: Option<&Scope>, variables: Vec<(String, Value)>) -> Scope {
        let base = base.and_then(|s| s.0.downcast_ref::<Value>().cloned()).unwrap_or(json!({}));
        let Value::Object(mut all) = base else { unreachable!() };
        all.extend(variables);
        Scope(Arc::new(Value::Object(all)))
    }
}

impl Expression for Compared {
    fn eval(&self, scope: &Scope) -> Result<Value, Error> {
        let values = scope.0.downcast_ref::<Value>().unwrap();
        let read = |atom: &str| -> Result<Value, Error> {
            if let Some(v) = literal(atom) {
                return Ok(v);
            }
            if atom == "agreed" {
                let texts: Vec<&Value> =
                    values["completions"].as_array().unwrap().iter().map(|c| &c["text"]).collect();
                return Ok(json!(texts.iter().map(|t| texts.iter().filter(|o| o == &t).count()).max()));
            }
            let path = atom.trim_end_matches(".len()").replace('.', "/");
            let found = values.pointer(&format!("/{path}"));
            let found = found.ok_or(Error { message: format!("no {atom}"), limit: false })?;
            Ok(if atom.ends_with(".len()") { json!(found.as_array().unwrap().len()) } else { found.clone() })
        };
        let compare = |tokens: &[&str]| -> Result<bool, Error> {
            Ok(match tokens {
                [one] => read(one)? == json!(true),
                [a, "==", b] => read(a)? == read(b)?,
                [a, "!=", b] => read(a)? != read(b)?,
                [a, ">", b] => read(a)?.as_f64() > read(b)?.as_f64(),
                [a, ">=", b] => read(a)?.as_f64() >= read(b)?.as_f64(),
                other => panic!("{other:?}"),
            })
        };
        match self.0.split_whitespace().collect::<Vec<_>>().as_slice() {
            [one] => return read(one),
            [a, "??", b] => return read(a).and_then(|v| if v.is_null() { read(b) } else { Ok(v) }),
            [a, "+", b] => return Ok(json!(read(a)?.as_i64().unwrap() + read(b)?.as_i64().unwrap())),
            _ => {}
        }
        for way in self.0.split("||") {
            let mut holds = true;
            for (_, tokens) in atoms(way) {
                holds &= compare(&tokens)?;
            }
            if holds {
                return Ok(json!(true));
            }
        }
        Ok(json!(false))
    }

    fn source(&self) -> &str {
        &self.0
    }
}

pub(crate) fn variables() -> Variables {
    let workload =
        [("task_family", Type::Str), ("output_contract", Type::Str), ("economic_policy", Type::Str)];
    let workload = Type::map(
        workload.into_iter().chain([("latency_class", Type::Str), ("precision_sensitivity", Type::Str)]),
    );
    vec![
        ("workload".to_owned(), workload),
        ("request".to_owned(), Type::map([("model", Type::Str), ("response_format", Type::Str)])),
        ("flag".to_owned(), Type::Bool),
        ("broken".to_owned(), Type::Bool),
    ]
}

pub(crate) fn scope() -> Scope {
    let workload = json!({"task_family": "chat", "output_contract": "prose", "economic_policy": "balanced",
        "latency_class": "interactive", "precision_sensitivity": "low"});
    let request = json!({"model": "auto", "response_format": "text"});
    let variables = [("workload", workload), ("flag", json!(true)), ("request", request)];
    Small.scope(None, variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

pub(crate) fn model(name: &str, tier: u8) -> Model {
    Model { quality_tier: tier, speed_tier: 1, ..Model::new(format!("p/{name}"), 0, (8000, 1000)) }
}

pub(crate) fn matrix() -> Matrix {
    let provider = Provider { tier: Tier::Free, ..Provider::new("p", Dialect::Simulated) };
    Matrix::new(vec![provider], vec![model("a", 1), model("b", 2), model("c", 3)])
}

/// A tool of each kind.
pub(crate) fn tools() -> Vec<Arc<ToolSpec>> {
    let tool = |name: &str, side_effect| {
        Arc::new(ToolSpec {
            name: name.into(),
            description: String::new(),
            input_schema: Arc::new(json!({"type": "object", "properties": {"q": {"type": "string"}}})),
            side_effect,
            timeout: Duration::from_secs(10),
            interruptible: true,
            trusted: name == "look",
            workflows: None,
        })
    };
    vec![
        tool("look", SideEffect::None),
        tool("put", SideEffect::Idempotent),
        tool("send", SideEffect::Unsafe),
    ]
}

pub(crate) fn load_all(files: &[SourceFile]) -> (Library, Vec<Diagnostic>) {
    load_with(files, &Small)
}

/// The same with another language for its expressions.
pub(crate) fn load_with(files: &[SourceFile], language: &dyn Language) -> (Library, Vec<Diagnostic>) {
    let (matrix, variables) = (matrix(), variables());
    let pools = ["default".to_owned(), "judge".to_owned()];
    load(
        files,
        &Names {
            matrix: &matrix,
            pools: &pools,
            approvers: Some(&["ops".to_owned()]),
            tools: &tools(),
            scripts: &["tone".to_owned()],
            runner: true,
            may_ask: Some(&|url| {
                if url.contains("forbidden") { Err("its host is not allowed".to_owned()) } else { Ok(()) }
            }),
            language,
            variables: &variables,
        },
    )
}

/// A file `w.yaml` of these nodes and edges.
pub(crate) fn file(body: &str) -> SourceFile {
    SourceFile::new("w.yaml", format!("version: 1\nname: w\n{body}"))
}

/// The workflow of such a file, which must be clean.
pub(crate) fn workflow(body: &str) -> Arc<Workflow> {
    let (library, problems) = load_all(&[file(body)]);
    assert!(
        problems.is_empty(),
        "{}",
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(shape_of(body), Ok(()), "what loads is valid by the schema for editors: {body}");
    library.get("w").unwrap().clone()
}

pub(crate) fn shipped(name: &str) -> Arc<Workflow> {
    let (library, problems) = load_all(&crate::shipped());
    assert!(problems.is_empty(), "{problems:?}");
    library.get(name).unwrap().clone()
}

/// What a model does when it is asked.
#[derive(Clone)]
pub(crate) enum Says {
    /// Answers, after some milliseconds.
    Text(u64, &'static str),
    /// Answers and names the model.
    As(&'static str, &'static str),
    /// Fails.
    Fail(Failure),
    /// Streams pieces (`None`: the stream is lost here).
    Stream(Vec<Option<&'static str>>),
    /// Streams these.
    Chunks(Vec<Chunk>),
    /// Calls tools: name and arguments of each.
    Calls(&'static [(&'static str, &'static str)]),
    /// Never answers.
    Never,
}

/// An answer for a node: the first unused line of its script. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Lines>);

#[derive(Default)]
pub(crate) struct Lines {
    lines: Mutex<Vec<(&'static str, VecDeque<Says>)>>,
    pub(crate) asked: Mutex<Vec<Ask>>,
    pub(crate) dropped: Arc<Mutex<Vec<String>>>,
    tools: Mutex<VecDeque<Result<ToolReply, ToolFailure>>>,
    checks: Mutex<VecDeque<Report>>,
    pub(crate) check_asks: Mutex<Vec<CheckAsk>>,
    pub(crate) tool_calls: Mutex<Vec<ToolAsk>>,
    /// How the models' answers come about.
    pub(crate) served: Mutex<Served>,
    /// What the models' answers cost.
    pub(crate) price: Mutex<Option<Price>>,
    /// Money is set aside before each call, as the engine does.
    pub(crate) reserves: AtomicBool,
    /// Calls that were paid for.
    pub(crate) paid: AtomicU32,
    pub(crate) decision: Mutex<Option<GateReply>>,
    pub(crate) gates: Mutex<Vec<GateAsk>>,
    pub(crate) kept: Mutex<Vec<(CacheAsk, Cached)>>,
    /// Pieces of streams that were read, beginnings left out.
    pub(crate) pulled: Arc<AtomicU32>,
}

impl std::ops::Deref for Script {
    type Target = Lines;
    fn deref(&self) -> &Lines {
        &self.0
    }
}

impl Script {
    /// By the path of the node instance.
    pub(crate) fn new(lines: Vec<(&'static str, Vec<Says>)>) -> Self {
        let lines = lines.into_iter().map(|(n, l)| (n, l.into())).collect();
        Script(Arc::new(Lines { lines: Mutex::new(lines), ..Lines::default() }))
    }

    /// What tools answer, in the order in which they are called.
    pub(crate) fn with_tools(self, replies: Vec<Result<ToolReply, ToolFailure>>) -> Self {
        *self.tools.lock().unwrap() = replies.into();
        self
    }

    /// What checks outside say, in the order in which they are asked.
    pub(crate) fn with_checks(self, reports: Vec<Report>) -> Self {
        *self.checks.lock().unwrap() = reports.into();
        self
    }

    pub(crate) fn purposes(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|a| a.purpose.to_string()).collect()
    }
}

/// Notes the node when a call is dropped before it has answered.
struct Guard(Arc<Mutex<Vec<String>>>, Option<String>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(node) = self.1.take() {
            self.0.lock().unwrap().push(node);
        }
    }
}

pub(crate) fn lost(m: &Model) -> provider::Error {
    provider::Error::new(ErrorKind::StreamLost, m, "lost")
}

pub(crate) fn unavailable() -> Failure {
    Failure::Provider(provider::Error::new(ErrorKind::Unavailable, &model("a", 1), "down"))
}

pub(crate) fn completion(text: &str) -> Completion {
    Completion {
        choices: vec![Choice {
            text: text.to_owned(),
            finish_reason: Some(FinishReason::Stop),
            ..Choice::default()
        }],
        usage: Usage { input: 10, output: 5, ..Usage::default() },
        ..Completion::default()
    }
}

pub(crate) fn chunk(text: &str) -> Chunk {
    Chunk {
        choices: vec![Delta {
            text: Some(text.to_owned()),
            finish_reason: (text.is_empty() || text.ends_with('.')).then_some(FinishReason::Stop),
            ..Delta::default()
        }],
        ..Chunk::default()
    }
}

/// What a tool answers.
pub(crate) fn replies(result: Value) -> Result<ToolReply, ToolFailure> {
    Ok(ToolReply { result, is_error: false })
}

impl World for Script {
    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        tools().into_iter().find(|t| *t.name == *name)
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        let reply = self.tools.lock().unwrap().pop_front().unwrap_or_else(|| panic!("no reply for {ask:?}"));
        self.tool_calls.lock().unwrap().push(ask);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            reply
        })
    }

    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        if let Some(own) = ask.own.clone().filter(|_| self.checks.lock().unwrap().is_empty()) {
            self.check_asks.lock().unwrap().push(ask);
            return Box::pin(async move { own.run() });
        }
        let report =
            self.checks.lock().unwrap().pop_front().unwrap_or_else(|| panic!("no report for {ask:?}"));
        self.check_asks.lock().unwrap().push(ask);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            report
        })
    }

    fn gate(&self, ask: GateAsk) -> BoxFuture<'_, Option<GateReply>> {
        self.gates.lock().unwrap().push(ask);
        let decision = self.decision.lock().unwrap().clone();
        Box::pin(async move { decision })
    }

    fn recall(&self, ask: CacheAsk) -> BoxFuture<'_, Option<Recalled>> {
        let kept = self.kept.lock().unwrap();
        let found = kept.iter().find(|(k, _)| k.key == ask.key).map(|(_, c)| c.clone());
        let found = found.map(|cached| Recalled { cached, of: None, similarity: None });
        Box::pin(async move { found })
    }

    fn keep(&self, ask: CacheAsk, cached: Cached) -> BoxFuture<'_, ()> {
        self.kept.lock().unwrap().push((ask, cached));
        Box::pin(async {})
    }

    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>> {
        let mut lines = self.lines.lock().unwrap();
        let says = lines.iter_mut().find(|(n, _)| *n == &**ask.node()).and_then(|(_, l)| l.pop_front());
        let says = says.unwrap_or_else(|| panic!("no line for {ask:?}"));
        let price = *self.price.lock().unwrap();
        let guard = Guard(self.dropped.clone(), Some(ask.node().to_string()));
        let cost =
            price.map(|p| p.cost(&completion("").usage)).filter(|_| self.reserves.load(Ordering::Relaxed));
        let budget = ask.budget.clone();
        self.asked.lock().unwrap().push(ask);
        Box::pin(async move {
            let mut guard = guard;
            if let Some(cost) = cost {
                if !budget.reserve(cost) {
                    return Err(Failure::Budget(Exhausted::Usd));
                }
                self.paid.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                budget.settle(cost, cost, completion("").usage.total());
            }
            let served = self.served.lock().unwrap().clone();
            let whole = |text: &str, by: &str| {
                let tier = match by {
                    "a" => 1,
                    "b" => 2,
                    _ => 3,
                };
                let model = Arc::new(Model { price, ..model(by, tier) });
                Generated::Whole { completion: completion(text), model, served: served.clone() }
            };
            let result = match says {
                Says::Text(ms, text) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(whole(text, "a"))
                }
                Says::As(by, text) => Ok(whole(text, by)),
                Says::Fail(f) => Err(f),
                Says::Calls(calls) => {
                    let mut answer = completion("");
                    let choice = answer.choices.first_mut().unwrap();
                    choice.finish_reason = Some(FinishReason::ToolCalls);
                    choice.tool_calls = calls
                        .iter()
                        .enumerate()
                        .map(|(i, (name, arguments))| ToolCall {
                            id: format!("c{i}"),
                            name: (*name).to_owned(),
                            arguments: (*arguments).to_owned(),
                            ..ToolCall::default()
                        })
                        .collect();
                    Ok(Generated::whole(answer, Arc::new(model("a", 1))))
                }
                Says::Never => std::future::pending().await,
                Says::Chunks(chunks) => {
                    let rest = stream::iter(chunks.into_iter().map(Ok)).boxed();
                    let model = Arc::new(model("a", 1));
                    Ok(Generated::Stream { model, served: served.clone(), head: Vec::new(), rest })
                }
                Says::Stream(pieces) => {
                    let m = Arc::new(model("a", 1));
                    let by = m.clone();
                    let mut pieces = pieces.into_iter();
                    let pulled = self.pulled.clone();
                    let head = pieces.next().flatten().map(chunk).into_iter().collect();
                    let rest = stream::iter(pieces.map(move |p| {
                        pulled.fetch_add(1, Ordering::Relaxed);
                        p.map(chunk).ok_or_else(|| lost(&by))
                    }));
                    Ok(Generated::Stream { model: m, served: served.clone(), head, rest: rest.boxed() })
                }
            };
            guard.1.take();
            result
        })
    }
}

pub(crate) fn request(extra: Value) -> Arc<ChatRequest> {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "question"}]});
    if let (Some(b), Value::Object(e)) = (body.as_object_mut(), extra) {
        b.extend(e);
    }
    Arc::new(ChatRequest::from_value(&body).unwrap())
}

pub(crate) fn input(request: Arc<ChatRequest>, sink: Option<mpsc::Sender<Chunk>>) -> Input {
    Input {
        sink,
        facts: crate::Facts { id: "r1".into(), ..crate::Facts::default() },
        ..Input::new(request, Arc::new(Small), scope())
    }
}

/// Runs a workflow on a script.
pub(crate) async fn run(w: &Arc<Workflow>, input: Input, script: &Script) -> Ending {
    crate::run(w.clone(), input, Arc::new(script.clone())).await.ending
}

/// The same with what remains for later.
pub(crate) async fn finish(w: &Arc<Workflow>, input: Input, script: &Script) -> crate::Finished {
    crate::run(w.clone(), input, Arc::new(script.clone())).await
}

/// Runs without a stream; gives the ending and the nodes with their outcomes.
pub(crate) async fn play(
    w: &Arc<Workflow>,
    request: Arc<ChatRequest>,
    script: &Script,
) -> (Ending, Vec<String>) {
    let input = input(request, None);
    let trace = input.trace.clone();
    let ending = run(w, input, script).await;
    let steps = trace.snapshot().steps.into_iter().map(|s| format!("{}:{}", s.node, s.outcome)).collect();
    (ending, steps)
}

/// The text that was delivered, or why there is none.
pub(crate) fn text(ending: &Ending) -> String {
    match ending {
        Ending::Delivered { completion, verdict, .. } | Ending::Streamed { completion, verdict, .. } => {
            format!("{}|{}", completion.text(), verdict.as_str())
        }
        Ending::Broken { partial, .. } => format!("broken after {}", partial.text()),
        Ending::Failed(f) => format!("{}.{}", f.class, f.code),
        Ending::Suspended(s) => {
            format!("waits at {}", s.iter().map(|s| &*s.frame).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Whether the committed schema for editors takes a file of these nodes and edges; a text that is no tree counts
/// as refused.
pub(crate) fn shape_of(body: &str) -> Result<(), String> {
    static SCHEMA: std::sync::OnceLock<jsonschema::Validator> = std::sync::OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let text = include_str!("../schema/workflow.v1.json");
        jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
    });
    let tree = types::doc::parse(&file(body), "WF").map_err(|d| d.to_string())?;
    schema.validate(&tree.to_json()).map_err(|e| format!("{e} at {}", e.instance_path()))
}
