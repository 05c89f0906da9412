//! `tool`: calls a tool, with arguments of the file's own or with those of a model's call.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Read, Resolved, Spec};
use crate::ending::{Class, RunFailure};
use crate::load::{Cx, Data, Expr, Template};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::retry::Retry;
use crate::run::At;
use crate::schema::Schema;
use crate::value::{Ty, Value};
use crate::world::{EffectId, EffectKind, ToolAsk, ToolFailure, ToolReply, ToolSpec};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::doc::{self, Fields};
use types::expr::Type;
use types::runs::SideEffect;

mod args;
mod consent;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Ok, Outcome::ToolError, Outcome::Denied],
    words: &["ok", "tool_error", "denied", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(30),
    cacheable: true,
    retries: true,
    outputs: |_| {
        vec![
            Out::data("result", Type::Any),
            Out::data("text", Type::Str.optional()),
            Out::data("is_error", Type::Bool),
            Out::data("truncated", Type::Bool),
            Out::data("trusted", Type::Bool),
            Out::data("call_id", Type::Str.optional()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Tool(Box::new(Tool::lower(cx, f))))
};

/// Longest result that is passed on, unless the file says otherwise, in bytes.
const MAX_RESULT: u64 = 64 * 1024;
/// What stands at the end of a result that was cut.
const CUT: &str = "\n[the rest was cut off]";

/// Where name and arguments come from.
#[derive(Clone, Debug)]
enum Source {
    Own {
        tool: Arc<str>,
        args: Data,
    },
    /// A model's call.
    Call(Ref),
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    source: Option<Source>,
    allow: Vec<Arc<str>>,
    key: Option<Template>,
    max_result: usize,
    /// One of its tools may change the world each time it is called.
    is_unsafe: bool,
    /// One of its tools changes something at least the first time it is called.
    spoils: Option<Arc<str>>,
    /// What of the tools decides what happens, for the hash of the plan.
    signatures: Vec<Json>,
}

/// What `call` refers to, and how that is called.
const CALL: (fn(&Ty) -> bool, &str) =
    (Ty::may_be_call, "a call that a model has made, such as nodes.ask.completion.tool_calls[0]");

/// A call that is ready to be made.
struct Ready {
    name: Arc<str>,
    args: Json,
    call_id: Option<String>,
    key: String,
}

impl Tool {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let span = f.span;
        let tool = f.take("tool").and_then(|n| name(cx, n, &f.at("tool")));
        let args_node = f.take("args");
        let args = args_node.map(|n| Data::lower(cx, n, &f.at("args")));
        let call = f.take("call").map(|n| (Ref::lower_to(cx, n, &f.at("call"), CALL), n.span));
        if let Some(n) = args_node.filter(|_| call.is_some()) {
            let d = cx.r.error("104", n.span, "`args` means nothing beside `call`");
            d.hint = Some("leave `args` out: the model's call brings its own".to_owned());
            d.field = f.at("args");
        }
        let source = match (tool.clone(), call) {
            (Some(_), Some((_, at))) => {
                cx.r.error("103", at, "`tool` and `call` exclude each other");
                None
            }
            (Some(tool), None) => Some(Source::Own { tool, args: args.unwrap_or(Data::Plain(json!({}))) }),
            (None, Some((call, _))) => call.map(Source::Call),
            (None, None) => {
                if !cx.r.problems.iter().any(|d| d.code == "WF204" && d.line >= span.line) {
                    cx.r.error("102", span, "`tool` is missing").expected =
                        Some("`tool`, or `call` with `allow`".to_owned());
                }
                None
            }
        };
        if let Some(Source::Own { tool, args }) = &source {
            args::check(cx, tool, (args, args_node.map_or(span, |n| n.span)), (args_node, &f.at("args")));
        }
        let allow: Vec<Arc<str>> = match f.take("allow") {
            None => {
                if let Some(Source::Call(r)) = &source {
                    cx.r.error("102", r.span, "`allow` is missing").expected =
                        Some("the tools that a model may call here".to_owned());
                }
                tool.into_iter().collect()
            }
            Some(n) => {
                if matches!(&n.value, doc::Value::List(_)) {
                    cx.some_of(n, &f.at("allow"), "the tools that may be called here");
                }
                names(cx, n, &f.at("allow"))
            }
        };
        let key = f.take("idempotency_key").and_then(|n| Template::lower(cx, n, &f.at("idempotency_key")));
        let max_result =
            f.take("max_result").and_then(|n| cx.r.bytes(n, &f.at("max_result"))).unwrap_or(MAX_RESULT);
        let is_unsafe = allow.iter().any(|t| cx.tool(t).is_some_and(|s| s.side_effect == SideEffect::Unsafe));
        let changes = |t: &&Arc<str>| cx.tool(t).is_some_and(|s| s.side_effect != SideEffect::None);
        let spoils = allow.iter().find(changes).cloned();
        let spec = |t: &Arc<str>| cx.tool(t).cloned();
        let signatures = allow
            .iter()
            .filter_map(spec)
            .map(|s| json!([&*s.name, &*s.input_schema, s.side_effect, s.trusted]));
        let signatures = signatures.collect();
        Tool {
            source,
            allow,
            key,
            max_result: usize::try_from(max_result).unwrap_or(usize::MAX),
            is_unsafe,
            spoils,
            signatures,
        }
    }

    /// A tool of it whose calls have to be made, whatever an earlier one came to.
    pub(crate) fn spoils(&self) -> Option<&Arc<str>> {
        self.spoils.as_ref()
    }

    /// Whether it may change the world, so that it is worth running for itself.
    pub(crate) fn is_unsafe(&self) -> bool {
        self.is_unsafe
    }

    /// Name, arguments and key, as they stand at the start; `Err`: how the node resolves without a call.
    fn ready(&self, at: &At<'_>) -> Result<Ready, NodeResult> {
        let fault = |e: types::expr::Error| Err(Fault::from(e));
        let (name, args, call_id) = match &self.source {
            None => return Err(Ok(Resolved::plain(Outcome::Error))),
            Some(Source::Own { tool, args }) => {
                (tool.clone(), args.value(at.frame, at.host).map_err(fault)?, None)
            }
            Some(Source::Call(r)) => {
                let call = at.value(r).json(&at.host.table());
                let text = |key: &str| call.get(key).and_then(Json::as_str);
                let Some(name) = text("name") else {
                    return Err(Ok(refused(Outcome::ToolError, "there is no tool call here", None)));
                };
                let id = text("id").map(str::to_owned);
                if !self.allow.iter().any(|t| **t == *name) {
                    let why = format!("the tool `{name}` is not allowed here");
                    return Err(Ok(refused(Outcome::Denied, &why, id)));
                }
                let args = call.get("args").filter(|a| !a.is_null()).cloned();
                let Some(args) = args else {
                    return Err(Ok(refused(Outcome::ToolError, "the arguments are no JSON", id)));
                };
                (Arc::from(name), args, id)
            }
        };
        let key = match &self.key {
            Some(t) => t.render(at.frame, at.host, &[]).map_err(fault)?,
            None => format!("{}/{}", at.host.input.facts.id, at.path),
        };
        Ok(Ready { name, args, call_id, key })
    }

    async fn run(&self, at: At<'_>, ready: Ready) -> NodeResult {
        let Some(spec) = at.host.world.tool_named(&ready.name) else {
            let why = ToolFailure::Unknown(ready.name.to_string()).to_string();
            return Ok(refused(Outcome::ToolError, &why, ready.call_id));
        };
        if let Err(why) = Schema::new(&spec.input_schema).and_then(|s| s.check(&ready.args)) {
            let why = ToolFailure::BadArgs(why).to_string();
            return Ok(refused(Outcome::ToolError, &why, ready.call_id));
        }
        let retry = at.node.common.retry.clone().unwrap_or_default();
        let most = match spec.side_effect {
            SideEffect::Unsafe => 1,
            SideEffect::None | SideEffect::Idempotent => retry.max_attempts.unwrap_or(2),
        };
        let (mut attempt, mut most, mut approved) = (1, most, Vec::new());
        loop {
            let ask = ToolAsk {
                id: EffectId::new(&at.path, EffectKind::Tool, 0, attempt),
                tool: ready.name.clone(),
                args: ready.args.clone(),
                idempotency_key: ready.key.clone(),
                timeout: spec.timeout.min(at.node.timeout),
                approved: approved.clone(),
            };
            let failure = match at.tool(ask).await {
                Ok(reply) => return Ok(self.resolve(reply, &spec, ready.call_id)),
                // Rules may have come to name others since somebody was asked.
                Err(ToolFailure::Approval(groups)) if groups.iter().any(|g| !approved.contains(&g.group)) => {
                    if let Some(why) = consent::ask(&at, &ready.name, &ready.args, &groups).await? {
                        return Ok(refused(Outcome::Denied, &why, ready.call_id));
                    }
                    // Nothing was called: the attempt that asked is none of those that there are.
                    approved.extend(groups.into_iter().map(|g| g.group));
                    (attempt, most) = (attempt.saturating_add(1), most.saturating_add(1));
                    continue;
                }
                Err(failure) => failure,
            };
            let again = attempt < most && may_pass(&failure, &retry);
            if !again || !at.pause(retry.pause(attempt, at.draw(attempt)), attempt).await {
                return Self::failed(&failure, ready.call_id);
            }
            attempt = attempt.saturating_add(1);
        }
    }

    fn failed(failure: &ToolFailure, call_id: Option<String>) -> NodeResult {
        match failure {
            ToolFailure::Timeout => Err(RunFailure::new(Class::Tool, "timeout", failure.to_string()).into()),
            ToolFailure::Denied(_) | ToolFailure::Approval(_) => {
                Ok(refused(Outcome::Denied, &failure.to_string(), call_id))
            }
            ToolFailure::Unknown(_) | ToolFailure::BadArgs(_) | ToolFailure::Failed(_) => {
                Ok(refused(Outcome::ToolError, &failure.to_string(), call_id))
            }
        }
    }

    fn resolve(&self, reply: ToolReply, spec: &ToolSpec, call_id: Option<String>) -> Resolved {
        let mut text = match &reply.result {
            Json::String(s) => s.clone(),
            other => other.to_string(),
        };
        let truncated = text.len() > self.max_result;
        let mut result = Value::of(reply.result);
        if truncated {
            let end = (0..=self.max_result).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
            text.push_str(CUT);
            result = Value::Text(text.as_str().into());
        }
        let outcome = if reply.is_error { Outcome::ToolError } else { Outcome::Ok };
        let outputs = vec![
            result,
            Value::Text(text.into()),
            Value::Bool(reply.is_error),
            Value::Bool(truncated),
            Value::Bool(spec.trusted),
            call_id.map_or(Value::Nothing, |id| Value::Text(id.into())),
        ];
        Resolved::with(outcome, outputs)
    }
}

/// Whether the same call may do better a moment later.
fn may_pass(failure: &ToolFailure, retry: &Retry) -> bool {
    match failure {
        ToolFailure::Timeout => retry.covers("timeout"),
        ToolFailure::Failed(_) => retry.covers("error"),
        ToolFailure::Unknown(_)
        | ToolFailure::Denied(_)
        | ToolFailure::BadArgs(_)
        | ToolFailure::Approval(_) => false,
    }
}

/// How a node resolves whose tool gave no result.
fn refused(outcome: Outcome, why: &str, call_id: Option<String>) -> Resolved {
    let outputs = vec![
        Value::Nothing,
        Value::Text(why.into()),
        Value::Bool(true),
        Value::Bool(false),
        // Our own words, not the tool's.
        Value::Bool(true),
        call_id.map_or(Value::Nothing, |id| Value::Text(id.into())),
    ];
    Resolved::with(outcome, outputs).note(why)
}

/// Stands for every tool that was declared for the workflow that says it.
pub(crate) const REGISTERED: &str = "registered";

/// Names of tools of the registry: one, or a list.
pub(crate) fn names(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<Arc<str>> {
    let entries: &[doc::Node] = match &n.value {
        doc::Value::List(l) => l,
        _ => std::slice::from_ref(n),
    };
    let mut all: Vec<Arc<str>> = Vec::new();
    for n in entries {
        let found: Vec<Arc<str>> = match n.as_str() {
            Some(REGISTERED) => cx.own_tools().map(|t| t.name.clone()).collect(),
            _ => name(cx, n, path).into_iter().collect(),
        };
        for name in found {
            if !all.contains(&name) {
                all.push(name);
            }
        }
    }
    all
}

/// The name of a tool of the registry that this workflow may call.
fn name(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<Arc<str>> {
    let name = cx.r.string(n, path)?;
    if let Some(tool) = cx.tool(&name) {
        if tool.is_for(cx.r.file.stem()) {
            return Some(name.into());
        }
        let message = format!("the tool `{name}` is not for the workflow `{}`", cx.r.file.stem());
        let d = cx.r.error("204", n.span, message);
        d.hint = Some(format!("add it to `tools.{name}.workflows` in routing_rules.yaml"));
        path.clone_into(&mut d.field);
        return None;
    }
    let known = cx.tools();
    let hint = if known.is_empty() {
        "no tools are registered".to_owned()
    } else {
        suggestion(&name, known.iter().map(|t| &*t.name))
    };
    let d = cx.r.error("204", n.span, format!("there is no tool `{name}`"));
    d.hint = Some(hint);
    path.clone_into(&mut d.field);
    None
}

impl Spec for Tool {
    fn canonical(&self) -> Json {
        let source = match &self.source {
            None => Json::Null,
            Some(Source::Own { tool, args }) => json!([&**tool, args.canonical()]),
            Some(Source::Call(r)) => json!(r.canonical()),
        };
        json!([source, self.signatures, self.key.as_ref().map(Template::source), self.max_result])
    }

    fn given(&self, outputs: &mut Map<String, Json>) -> Result<Outcome, String> {
        let is_error = outputs.get("is_error").and_then(Json::as_bool).unwrap_or(false);
        Ok(if is_error { Outcome::ToolError } else { Outcome::Ok })
    }

    fn reads(&self) -> Vec<Read<'_>> {
        match &self.source {
            Some(Source::Call(reference)) => vec![Read { reference, may_be_absent: false }],
            _ => Vec::new(),
        }
    }

    fn exprs(&self) -> Vec<&Expr> {
        let mut all = match &self.source {
            Some(Source::Own { args, .. }) => args.exprs(),
            _ => Vec::new(),
        };
        all.extend(self.key.iter().flat_map(Template::exprs));
        all
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        match self.ready(&at) {
            Ok(ready) => Begun::waits(self.run(at, ready)),
            Err(result) => Begun::Done(result),
        }
    }
}
