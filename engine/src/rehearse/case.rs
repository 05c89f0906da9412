//! What a test of a workflow says.

use super::ceilings::Ceilings;
use super::names;
use super::pieces::{self, Piece};
use crate::bundle::Bundle;
use policies::TenantTier;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields, Node, Reader, SourceFile};
use types::expr::{Expression, Type};
use types::provider::ErrorKind;
use types::run::Severity;
use types::{Diagnostic, Finding, Report, Usd, Verdict};

/// A case, read and checked.
#[derive(Clone, Debug)]
pub struct Case {
    /// The workflow to run.
    pub workflow: String,
    /// For people.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    pub(super) request: Value,
    pub(super) tenant: Caller,
    pub(super) inputs: Map<String, Value>,
    pub(super) vars: Vec<(String, Value)>,
    pub(super) limits: Ceilings,
    pub(super) calls: Vec<Call>,
    pub(super) tools: Vec<Tool>,
    pub(super) validators: Vec<Forced>,
    pub(super) expect: Expect,
}

impl Case {
    /// One that says nothing of a workflow.
    pub(super) fn empty(workflow: &str) -> Self {
        Case {
            workflow: workflow.to_owned(),
            name: String::new(),
            file: String::new(),
            request: Value::Null,
            tenant: Caller::default(),
            inputs: Map::new(),
            vars: Vec::new(),
            limits: Ceilings::default(),
            calls: Vec::new(),
            tools: Vec::new(),
            validators: Vec::new(),
            expect: Expect::default(),
        }
    }
}

/// Who asks; what is not said is as it is for whoever has no key.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub(super) id: Option<String>,
    pub(super) tier: Option<TenantTier>,
    pub(super) region: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// What a model answers.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Glob over the node instance.
    pub(super) at: String,
    pub(super) model: Option<String>,
    pub(super) reply: Reply,
    pub(super) usage: Option<(u32, u32)>,
    pub(super) latency: Duration,
    pub(super) line: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Text(String),
    /// In pieces.
    Stream(Vec<Piece>),
    /// Name and arguments of each.
    ToolCalls(Vec<(String, String)>),
    /// A failure.
    Error(Fault),
}

/// How a model fails.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// One of [`ERRORS`].
    pub(super) kind: String,
    /// It is what is left of all attempts: none follows it.
    pub(super) last: bool,
}

/// What a tool answers.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) tool: String,
    /// Only to calls whose `args` it holds for.
    pub(super) when: Option<Arc<dyn Expression>>,
    pub(super) reply: Result<Value, String>,
    pub(super) line: usize,
}

/// What a check outside says.
#[derive(Clone, Debug)]
pub(super) struct Forced {
    /// The check.
    pub(super) name: String,
    /// Only of answers that contain this.
    pub(super) when: Option<String>,
    pub(super) report: Report,
}

/// What must come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Expect {
    pub(super) outcome: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) text: Option<String>,
    pub(super) json: Option<Value>,
    pub(super) contains: Vec<String>,
    pub(super) path: Vec<(String, String)>,
    pub(super) not_run: Vec<String>,
    pub(super) calls_max: Option<u32>,
    pub(super) calls_exact: Option<u32>,
    pub(super) cost_max: Option<Usd>,
    pub(super) error: Option<String>,
    pub(super) findings: Vec<String>,
    /// How the answer went out.
    pub(super) stream_mode: Option<String>,
    /// So many chunks went out before it failed.
    pub(super) chunks_before_error: Option<u32>,
}

/// What a call of a tool is made with, in conditions.
pub(super) const ARGS: &str = "args";
/// How an answer reaches the client.
const STREAM_MODES: &[&str] = &["buffered", "windowed", "optimistic", "passthrough"];
const OUTCOMES: &[&str] = &["delivered", "failed", "suspended"];
const VERDICTS: &[&str] = &["passed", "failed", "unverified", "none"];
/// Kinds of failure that a fixture may name.
pub(super) const ERRORS: &[&str] = &[
    "rate_limited",
    "unavailable",
    "timeout",
    "stream_lost",
    "malformed",
    "bad_request",
    "auth",
    "content_filtered",
    "context_overflow",
    NO_CANDIDATE,
];

/// Nobody is left to ask.
pub(super) const NO_CANDIDATE: &str = "no_candidate";

/// A failure by the name that a fixture gives it.
pub(super) fn error_kind(name: &str) -> ErrorKind {
    match name {
        "rate_limited" => ErrorKind::RateLimited,
        "timeout" => ErrorKind::TotalTimeout,
        "stream_lost" => ErrorKind::StreamLost,
        "malformed" => ErrorKind::Malformed,
        "bad_request" => ErrorKind::BadRequest,
        "auth" => ErrorKind::Auth,
        "content_filtered" => ErrorKind::ContentFiltered,
        "context_overflow" => ErrorKind::ContextOverflow,
        _ => ErrorKind::Unavailable,
    }
}

/// Reads a test; all problems of the file, in its order. `file:` names of requests are found through `read`, relative to
/// the test. What it names is looked for in `bundle`; without one its form alone is looked at.
#[must_use]
pub fn load(
    source: &SourceFile,
    read: &dyn Fn(&str) -> Option<String>,
    bundle: Option<&Bundle>,
) -> (Option<Case>, Vec<Diagnostic>) {
    let root = match doc::parse(source, "WT") {
        Ok(root) => root,
        Err(d) => return (None, vec![*d]),
    };
    let mut r = Reader::new(source, "WT");
    let case = lower(&mut r, &root, source, read);
    if let Some(case) = &case {
        names::request(&mut r, &root, case);
        if let Some(bundle) = bundle {
            names::known(&mut r, &root, case, bundle);
        }
    }
    r.problems.sort_by_key(|d| d.range.start);
    let good = !r.problems.iter().any(|d| d.severity == types::Severity::Error);
    (case.filter(|_| good), r.problems)
}

fn lower(
    r: &mut Reader<'_>,
    root: &Node,
    source: &SourceFile,
    read: &dyn Fn(&str) -> Option<String>,
) -> Option<Case> {
    let mut f = r.fields(root, "")?;
    let workflow = f.require(r, "workflow").and_then(|n| r.ident(n, "workflow")).unwrap_or_default();
    let name = f.require(r, "name").and_then(|n| r.string(n, "name")).unwrap_or_default();
    let inputs = f.take("inputs").and_then(|n| r.map(n, "inputs")).unwrap_or(&[]);
    let inputs: Map<String, Value> = inputs.iter().map(|(k, n)| (k.name.clone(), n.to_json())).collect();
    let mut request = match f.take("request") {
        Some(n) => request(r, n, read),
        // As where a run is asked for.
        None if !inputs.is_empty() => of_inputs(&inputs),
        None => f.require(r, "request").map(Node::to_json).unwrap_or_default(),
    };
    if let Some(n) = f.take("profile") {
        profile(r, n, &mut request);
    }
    let tenant = f.take("tenant").and_then(|n| tenant(r, n)).unwrap_or_default();
    let vars = f.take("vars").and_then(|n| r.map(n, "vars")).unwrap_or(&[]);
    let vars = vars.iter().map(|(k, n)| (k.name.clone(), n.to_json())).collect();
    let limits = f.take("limits").map(|n| Ceilings::lower(r, n)).unwrap_or_default();
    // There is no other one: it is said for whoever reads the file.
    if let Some(n) = f.take("clock") {
        r.one_of(n, "clock", &["virtual"]);
    }
    let calls = f.take("calls").and_then(|n| r.list(n, "calls")).unwrap_or(&[]);
    let calls = calls.iter().enumerate().filter_map(|(i, n)| call(r, n, &format!("calls[{i}]"))).collect();
    let tools = f.take("tools").and_then(|n| r.list(n, "tools")).unwrap_or(&[]);
    let tools = tools.iter().enumerate().filter_map(|(i, n)| tool(r, n, &format!("tools[{i}]"))).collect();
    let validators = f.take("validators").and_then(|n| r.list(n, "validators")).unwrap_or(&[]);
    let validators = validators
        .iter()
        .enumerate()
        .filter_map(|(i, n)| forced(r, n, &format!("validators[{i}]")))
        .collect();
    let expect = f.require(r, "expect").and_then(|n| expect(r, n)).unwrap_or_default();
    f.finish(r);
    Some(Case {
        workflow,
        name,
        file: source.path.clone(),
        request,
        tenant,
        inputs,
        vars,
        limits,
        calls,
        tools,
        validators,
        expect,
    })
}

fn request(r: &mut Reader<'_>, n: &Node, read: &dyn Fn(&str) -> Option<String>) -> Value {
    let Some(text) = n.as_str() else { return n.to_json() };
    let found = text.strip_prefix("file:").and_then(|path| read(path.trim()));
    let parsed = found.and_then(|t| serde_json::from_str(&t).ok());
    parsed.unwrap_or_else(|| {
        let d = r.error("104", n.span, format!("`{text}` gives no request"));
        d.expected =
            Some("a chat request as a map, or file:<path of a JSON file beside this one>".to_owned());
        Value::Null
    })
}

/// The request of a run on inputs alone.
fn of_inputs(inputs: &Map<String, Value>) -> Value {
    let said = Value::Object(inputs.clone()).to_string();
    json!({ "model": "auto", "messages": [{ "role": "user", "content": said }] })
}

/// What the profiler would find becomes an option of the request, which outranks it.
fn profile(r: &mut Reader<'_>, n: &Node, request: &mut Value) {
    let mut options = request.get("routing").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    for (key, value) in r.map(n, "profile").unwrap_or(&[]) {
        if !super::is_option(&key.name) {
            r.error("104", key.span, format!("`{}` is no option that sets the profile", key.name)).hint = Some(
                "task_family, latency_class, precision, determinism, safety, economy as in `routing` of a request"
                    .to_owned(),
            );
        } else if let Some(o) = options.as_object_mut() {
            o.insert(key.name.clone(), value.to_json());
        }
    }
    if let Some(o) = request.as_object_mut() {
        o.insert("routing".to_owned(), options);
    }
}

fn tenant(r: &mut Reader<'_>, n: &Node) -> Option<Caller> {
    let mut f = r.fields(n, "tenant")?;
    let id = f.take("id").and_then(|n| r.string(n, "tenant.id"));
    let tier = f.take("tier").and_then(|n| tier(r, n));
    let region = f.take("region").and_then(|n| r.string(n, "tenant.region"));
    let labels = f.take("labels").and_then(|n| r.map(n, "tenant.labels")).unwrap_or(&[]);
    let mut label = |k: &str, n: &Node| Some((k.to_owned(), r.string(n, &format!("tenant.labels.{k}"))?));
    let labels = labels.iter().filter_map(|(k, n)| label(&k.name, n)).collect();
    f.finish(r);
    Some(Caller { id, tier, region, labels })
}

fn tier(r: &mut Reader<'_>, n: &Node) -> Option<TenantTier> {
    use TenantTier::{Bronze, Gold, Platinum, Silver};
    let all = [Bronze, Silver, Gold, Platinum];
    let said = r.one_of(n, "tenant.tier", &all.map(TenantTier::as_str))?;
    all.into_iter().find(|t| t.as_str() == said)
}

fn call(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Call> {
    let mut f = r.fields(n, path)?;
    let at = f.require(r, "at").and_then(|n| r.string(n, &f.at("at"))).unwrap_or_default();
    let model = f.take("model").and_then(|n| r.string(n, &f.at("model")));
    let reply = f.require(r, "reply").and_then(|n| reply(r, n, &f.at("reply")));
    let usage = f.take("usage").and_then(|n| usage(r, n, &f.at("usage")));
    let latency = f.take("latency").and_then(|n| r.duration(n, &f.at("latency"))).unwrap_or_default();
    f.finish(r);
    Some(Call { at, model, reply: reply?, usage, latency, line: n.span.line })
}

fn usage(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<(u32, u32)> {
    let mut f = r.fields(n, path)?;
    let count = |r: &mut Reader<'_>, f: &mut Fields<'_>, key| {
        let n = f.take(key)?;
        r.integer(n, &f.at(key), 0, i64::from(u32::MAX)).and_then(|i| u32::try_from(i).ok())
    };
    let (input, output) = (count(r, &mut f, "input"), count(r, &mut f, "output"));
    f.finish(r);
    Some((input.unwrap_or(0), output.unwrap_or(0)))
}

fn reply(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Reply> {
    if let Some(text) = n.as_str() {
        return Some(Reply::Text(text.to_owned()));
    }
    let mut f = r.fields(n, path)?;
    let error = f.take("error").and_then(|n| r.one_of(n, &f.at("error"), ERRORS)).map(str::to_owned);
    let at_last = f.at("last");
    let last = f.take("last").map(|n| (n.span, r.boolean(n, &at_last)));
    let json = f.take("json").map(Node::to_json);
    let stream = f.take("stream").and_then(|n| pieces::lower(r, n, &f.at("stream")));
    let at = f.at("tool_calls");
    let tools = f.take("tool_calls").and_then(|n| r.list(n, &at));
    f.finish(r);
    if let Some(kind) = error {
        return Some(Reply::Error(Fault { kind, last: last.and_then(|(_, last)| last).unwrap_or(false) }));
    }
    if let Some((span, _)) = last {
        r.error("101", span, "`last` says something of an `error` alone").field = at_last;
    }
    if let Some(pieces) = stream {
        return Some(Reply::Stream(pieces));
    }
    if let Some(v) = json {
        return Some(Reply::Text(v.to_string()));
    }
    let Some(list) = tools else {
        r.error("102", n.span, "the reply says nothing").expected =
            Some("a text, or a map with `json`, `stream`, `tool_calls` or `error`".to_owned());
        return None;
    };
    let mut calls = Vec::new();
    for n in list {
        let Some(mut f) = r.fields(n, &at) else { continue };
        let name = f.require(r, "name").and_then(|n| r.string(n, &format!("{at}.name")));
        let args = f.take("args").map_or_else(|| "{}".to_owned(), |n| n.to_json().to_string());
        f.finish(r);
        calls.extend(name.map(|name| (name, args)));
    }
    Some(Reply::ToolCalls(calls))
}

fn tool(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Tool> {
    let mut f = r.fields(n, path)?;
    let tool = f.require(r, "tool").and_then(|n| r.string(n, &f.at("tool")));
    let when = f.take("when").and_then(|n| condition(r, n, &f.at("when")));
    let result = f.take("result").map(Node::to_json);
    let error = f.take("error").and_then(|n| r.string(n, &f.at("error")));
    f.finish(r);
    let reply = match (result, error) {
        (Some(_), Some(_)) | (None, None) => {
            r.error("102", n.span, "a tool gives either `result` or `error`");
            return None;
        }
        (Some(v), None) => Ok(v),
        (None, Some(e)) => Err(e),
    };
    Some(Tool { tool: tool?, when, reply, line: n.span.line })
}

/// An expression over the arguments of a call.
fn condition(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Arc<dyn Expression>> {
    let source = r.string(n, path)?;
    let variables = vec![(ARGS.to_owned(), Type::Any)];
    let (compiled, problems) = match policies::language().compile(&source, &variables, Some(&Type::Bool)) {
        Ok((compiled, warnings)) => (Some(compiled), warnings),
        Err(problems) => (None, problems),
    };
    for p in problems {
        let d = match p.warning {
            true => r.warning(p.number, n.span, p.message),
            false => r.error(p.number, n.span, p.message),
        };
        (d.field, d.hint) = (path.to_owned(), p.hint);
    }
    compiled
}

/// Checks whose verdict a test may say; every other one is computed.
pub(super) const OUTSIDE: &[&str] = &["code_tests", "http", "script"];

fn forced(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Forced> {
    let mut f = r.fields(n, path)?;
    let name = f.require(r, "use").and_then(|n| r.one_of(n, &f.at("use"), OUTSIDE)).map(str::to_owned);
    let when = f.take("when").and_then(|n| r.string(n, &f.at("when")));
    let verdict = f
        .require(r, "verdict")
        .and_then(|n| r.one_of(n, &f.at("verdict"), &["passed", "failed", "unverified"]));
    let list = f.take("findings").and_then(|n| r.list(n, &f.at("findings"))).unwrap_or(&[]);
    let at = f.at("findings");
    let findings = list.iter().filter_map(|n| finding(r, n, &at)).collect();
    f.finish(r);
    let verdict = match verdict? {
        "passed" => Verdict::Passed,
        "failed" => Verdict::Failed,
        _ => Verdict::Unverified,
    };
    Some(Forced { name: name?, when, report: Report { verdict, reason: None, findings } })
}

fn finding(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Finding> {
    let mut f = r.fields(n, path)?;
    let code = f.require(r, "code").and_then(|n| r.string(n, &f.at("code")));
    let message = f.take("message").and_then(|n| r.string(n, &f.at("message"))).unwrap_or_default();
    f.finish(r);
    Some(Finding {
        validator: String::new(),
        code: code?,
        severity: Severity::Repair,
        path: None,
        span: None,
        message,
        expected: None,
        actual: None,
        hint: None,
    })
}

fn expect(r: &mut Reader<'_>, n: &Node) -> Option<Expect> {
    let mut f = r.fields(n, "expect")?;
    let mut e = Expect::default();
    let text =
        |r: &mut Reader<'_>, f: &mut Fields<'_>, key| f.take(key).and_then(|n| r.string(n, &f.at(key)));
    let list = |r: &mut Reader<'_>, f: &mut Fields<'_>, key| {
        f.take(key).and_then(|n| r.strings(n, &f.at(key))).unwrap_or_default()
    };
    e.outcome = f.take("outcome").and_then(|n| r.one_of(n, "expect.outcome", OUTCOMES)).map(str::to_owned);
    e.verdict = f.take("verdict").and_then(|n| r.one_of(n, "expect.verdict", VERDICTS)).map(str::to_owned);
    e.text = text(r, &mut f, "text");
    e.json = f.take("json").map(Node::to_json);
    e.contains = list(r, &mut f, "contains");
    e.not_run = list(r, &mut f, "not_run");
    e.findings = list(r, &mut f, "findings");
    e.error = text(r, &mut f, "error");
    for n in f.take("path").and_then(|n| r.list(n, "expect.path")).unwrap_or(&[]) {
        for (k, v) in r.map(n, "expect.path").unwrap_or(&[]) {
            e.path.extend(r.string(v, "expect.path").map(|outcome| (k.name.clone(), outcome)));
        }
    }
    if let Some(mut c) = f.take("calls").and_then(|n| r.fields(n, "expect.calls")) {
        for (key, place) in [("max", &mut e.calls_max), ("exact", &mut e.calls_exact)] {
            let found = c.take(key).and_then(|n| r.integer(n, &c.at(key), 0, 10_000));
            *place = found.and_then(|i| u32::try_from(i).ok());
        }
        c.finish(r);
    }
    if let Some(mut s) = f.take("stream").and_then(|n| r.fields(n, "expect.stream")) {
        let mode = s.take("mode").and_then(|n| r.one_of(n, &s.at("mode"), STREAM_MODES));
        e.stream_mode = mode.map(str::to_owned);
        let chunks = s
            .take("chunks_before_error")
            .and_then(|n| r.integer(n, &s.at("chunks_before_error"), 0, 100_000));
        e.chunks_before_error = chunks.and_then(|n| u32::try_from(n).ok());
        s.finish(r);
    }
    if let Some(mut c) = f.take("cost_usd").and_then(|n| r.fields(n, "expect.cost_usd")) {
        e.cost_max = c.take("max").and_then(|n| r.usd(n, "expect.cost_usd.max"));
        c.finish(r);
    }
    f.finish(r);
    Some(e)
}
