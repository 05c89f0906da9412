//! `generate`: asks a model, once or several times at once.

use super::{Begun, Node, NodeResult, NodeType, Out, Read, Resolved, Spec, count, no_labels};
use crate::graph::Graph;
use crate::load::{Cx, later};
use crate::outcome::Outcome;
use crate::route::{Route, Strategy};
use crate::run::{Answer, At, Origin, Table};
use crate::value::{Ty, Value};
use crate::world::{Ask, EffectId, EffectKind};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::chat::ResponseFormat;
use types::completion::FinishReason;
use types::doc::{self, Fields};
use types::expr::Type;
use types::provider::Edits;

pub(crate) static TYPE: NodeType = NodeType {
    name: "generate",
    outcomes: &[Outcome::Ok, Outcome::ToolCalls, Outcome::Refused, Outcome::Truncated],
    words: &["ok", "tool_calls", "refused", "truncated", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(60),
    sink: false,
    cacheable: true,
    retries: true,
    outputs: |_| {
        vec![
            Out::new("completions", Ty::Completions),
            Out::new("completion", Ty::Completion),
            Out::data("ok_count", Type::Int),
        ]
    },
    labels: no_labels,
    lower: |cx, f| Box::new(Generate::lower(cx, f)),
};

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Generate {
    pub(crate) route: Arc<Route>,
    /// `primary` as written; after loading: whether it gets the candidate the router chose.
    pub(crate) primary: Option<bool>,
    pub(crate) samples: u32,
    pub(crate) min_ok: u32,
    pub(crate) edits: Edits,
}

impl Generate {
    pub(crate) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let mut route = f.take("route").map(|n| Route::lower(cx, n, &f.at("route"))).unwrap_or_default();
        if let Some(n) = f.take("model") {
            route.model = cx.model(n, &f.at("model"));
            route.strategy = Strategy::Fixed;
        }
        let primary = f.take("primary").and_then(|n| cx.r.boolean(n, &f.at("primary")));
        let samples = count(cx, f, "samples", (1, 16), 1);
        let min_ok = count(cx, f, "min_ok", (1, samples), 1);
        let mut edits = Edits::default();
        if let Some(n) = f.take("params") {
            params(cx, n, &f.at("params"), &mut edits);
        }
        if let Some(n) = f.take("response") {
            edits.response_format = response(cx, n, &f.at("response"));
        }
        if let Some(n) = f.take("tools") {
            if matches!(n.value, doc::Value::List(_)) {
                cx.unsupported(n.span, "tools: [names]");
            } else {
                edits.without_tools = cx.r.one_of(n, &f.at("tools"), &["inherit", "none"]) == Some("none");
            }
        }
        if let Some(n) = f.take("messages")
            && n.as_str() != Some("request")
        {
            cx.unsupported(n.span, "messages other than `request`");
        }
        later(cx, f, &["distinct", "stop_when", "hedge", "client_tools", "prefill", "on_upstream_loss"]);
        Generate { route: Arc::new(route), primary, samples, min_ok, edits }
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.primary == Some(true)
    }

    /// What one sample asks for.
    pub(crate) fn ask(&self, at: &At<'_>, sample: u32) -> Ask {
        let mut edits = at.host.edits(&self.edits);
        if sample > 0 {
            // The same seed would give the same answer again.
            let seed = edits.seed.or(at.host.input.request.params.seed);
            edits.seed = seed.map(|s| s.wrapping_add(i64::from(sample)));
        }
        let purpose = match (sample, self.is_primary()) {
            (0, true) => "primary",
            (0, false) => "generate",
            _ => "sample",
        };
        let id = EffectId::new(&at.path, EffectKind::Model, sample, 1);
        Ask { primary: self.is_primary(), edits, ..at.question(id, purpose, self.route.clone()) }
    }

    async fn run(&self, at: At<'_>) -> NodeResult {
        let mut calls: FuturesUnordered<_> = (0..self.samples)
            .map(|i| {
                let ask = self.ask(&at, i);
                let at = &at;
                async move { (i, at.call(ask).await) }
            })
            .collect();
        let (mut answers, mut failure) = (Vec::new(), None);
        while let Some((sample, result)) = calls.next().await {
            match result {
                Ok(a) => answers.push((sample, a)),
                Err(e) => failure = Some(e),
            }
        }
        let enough = answers.len() >= usize::try_from(self.min_ok).unwrap_or(usize::MAX);
        match failure {
            Some(e) if !enough => Err(e.into()),
            _ => Ok(finish(answers, &at.path, &mut at.host.table())),
        }
    }
}

impl Spec for Generate {
    fn canonical(&self) -> Json {
        json!({
            "route": self.route.canonical(), "primary": self.primary, "samples": self.samples,
            "min_ok": self.min_ok, "edits": format!("{:?}", self.edits),
        })
    }

    fn reads(&self) -> Vec<Read<'_>> {
        self.route.reads().collect()
    }

    fn max_calls(&self) -> u32 {
        self.samples
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        if self.samples > 1 {
            return Begun::waits(self.run(at));
        }
        let ask = self.ask(&at, 0);
        Begun::waits(async move {
            let answer = at.call(ask).await?;
            Ok(finish(vec![(0, answer)], &at.path, &mut at.host.table()))
        })
    }
}

/// The answers, each with the sample it is, become completions of the run.
pub(crate) fn finish(answers: Vec<(u32, Answer)>, path: &Arc<str>, table: &mut Table) -> Resolved {
    let outcome = outcome(&answers);
    let ids: Vec<_> = answers.into_iter().map(|(i, a)| table.add(a, Origin::of(path, i, 1))).collect();
    let (first, count) = (ids.first().copied(), ids.len());
    Resolved::with(outcome, vec![Value::Rows(ids), Value::row(first), Value::count(count)])
}

fn outcome(answers: &[(u32, Answer)]) -> Outcome {
    let all = |f: fn(&Answer) -> bool| !answers.is_empty() && answers.iter().all(|(_, a)| f(a));
    if answers.iter().any(|(_, a)| !a.completion.tool_calls().is_empty()) {
        Outcome::ToolCalls
    } else if all(|a| a.completion.refused()) {
        Outcome::Refused
    } else if all(|a| a.completion.finish_reason() == Some(&FinishReason::Length)) {
        Outcome::Truncated
    } else {
        Outcome::Ok
    }
}

pub(crate) fn params(cx: &mut Cx<'_>, node: &doc::Node, path: &str, edits: &mut Edits) {
    let Some(mut f) = cx.r.fields(node, path) else { return };
    edits.temperature = f.take("temperature").and_then(|n| cx.r.number(n, &f.at("temperature"), 0.0, 2.0));
    edits.top_p = f.take("top_p").and_then(|n| cx.r.number(n, &f.at("top_p"), 0.0, 1.0));
    edits.max_tokens = f
        .take("max_tokens")
        .and_then(|n| cx.r.integer(n, &f.at("max_tokens"), 1, i64::from(u32::MAX)))
        .and_then(|n| u32::try_from(n).ok());
    edits.seed = f.take("seed").and_then(|n| cx.r.integer(n, &f.at("seed"), i64::MIN, i64::MAX));
    later(cx, &mut f, &["stop", "presence_penalty", "frequency_penalty", "reasoning_effort", "logprobs"]);
    f.finish(&mut cx.r);
}

fn response(cx: &mut Cx<'_>, node: &doc::Node, path: &str) -> Option<ResponseFormat> {
    let mut f = cx.r.fields(node, path)?;
    let schema = f.take("schema");
    let format = f.take("format").and_then(|n| {
        if let Some(name) = n.as_str().filter(|s| matches!(*s, "tool_calls" | "code")) {
            cx.unsupported(n.span, &format!("format: {name}"));
            return None;
        }
        cx.r.one_of(n, &f.at("format"), &["inherit", "text", "json", "json_schema"]).map(|s| (s, n.span))
    });
    if let Some(n) = f.take("enforce")
        && n.as_str() != Some("auto")
    {
        cx.unsupported(n.span, "enforce other than `auto`");
    }
    later(cx, &mut f, &["languages"]);
    let at = f.at("schema");
    f.finish(&mut cx.r);
    match format? {
        ("text", _) => Some(ResponseFormat::Text),
        ("json", _) => Some(ResponseFormat::JsonObject),
        ("json_schema", span) => {
            let Some(n) = schema else {
                cx.r.error("102", span, "`schema` is missing").field = at;
                return None;
            };
            match &n.value {
                // The request's own format already says so.
                doc::Value::Str(s) if s == "request" => None,
                doc::Value::Map(_) => Some(ResponseFormat::JsonSchema {
                    name: "answer".to_owned(),
                    schema: Arc::new(n.to_json()),
                    strict: false,
                }),
                doc::Value::Str(s) if s.starts_with("file:") => {
                    cx.unsupported(n.span, "schema: file:…");
                    None
                }
                _ => {
                    cx.r.wrong_type(n, &at, "an inline JSON Schema or `request`");
                    None
                }
            }
        }
        _ => None,
    }
}

/// Gives the router's candidate to one node: the one that says so, else the first in topological order
/// that leaves the choice to utility.
pub(crate) fn appoint(root: &mut Graph) {
    let says = any(root, &|n| n.get::<Generate>().is_some_and(Generate::is_primary));
    let mut open = !says;
    give(root, &mut open);
}

fn any(graph: &Graph, what: &dyn Fn(&Node) -> bool) -> bool {
    graph.nodes.iter().any(|n| what(n) || n.spec.bodies().into_iter().any(|g| any(g, what)))
}

fn give(graph: &mut Graph, open: &mut bool) {
    for i in graph.topo.clone() {
        let Some(n) = graph.nodes.get_mut(i) else { continue };
        let enabled = n.enabled;
        if let Some(g) = n.get_mut::<Generate>() {
            let free = enabled && g.primary.is_none() && g.route.strategy == Strategy::Utility;
            g.primary = Some(g.is_primary() || free && std::mem::take(open));
        }
        if enabled {
            n.spec.bodies_mut().into_iter().for_each(|g| give(g, open));
        }
    }
}
