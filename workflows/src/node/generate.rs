//! `generate`: asks a model, once or several times at once.

use super::{Begun, Node, NodeSpec, NodeType, Out, Read, Resolved, Spec, count};
use crate::canonical;
use crate::ending::RunFailure;
use crate::graph::Graph;
use crate::load::{Cx, Expr, Template};
use crate::outcome::{Outcome, OutcomeSet};
use crate::route::{Route, Strategy};
use crate::run::{Answer, At, Host, MOST_ONWARD, Origin};
use crate::value::Ty;
use crate::world::{Ask, Distinct, EffectId, EffectKind, Spread};
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;
use types::provider::Edits;
use types::run::Purpose;

mod client;
mod conversation;
mod form;
mod hedge;
mod offer;
mod opening;
mod prose;
mod samples;

use conversation::Conversation;
use form::Form;
pub(crate) use hedge::{Hedge, Race};
pub(crate) use offer::Clients;
use offer::Offer;
pub(crate) use opening::Opening;
use samples::Gathered;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Ok, Outcome::ToolCalls, Outcome::Refused, Outcome::Truncated],
    words: &["ok", "tool_calls", "refused", "truncated", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(60),
    cacheable: true,
    retries: true,
    outputs: |_| {
        vec![
            Out::new("completions", Ty::Completions),
            Out::new("completion", Ty::Completion),
            Out::data("ok_count", Type::Int),
            Out::data("failed", RunFailure::ty().list()),
            Out::data("hedge_fired", Type::Bool),
            Out::data("served_by", Type::Str.list()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Generate(Box::new(Generate::lower(cx, f))))
};

/// What becomes of an answer whose stream is lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnLoss {
    /// It is asked for again, as long as the client has seen nothing of it.
    Retry,
    /// The same; once the client has seen a part of it, another model goes on from there.
    Continue,
    /// It has failed.
    Fail,
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Generate {
    pub(crate) route: Arc<Route>,
    /// `primary` as written; after loading: whether it gets the candidate the router chose.
    pub(crate) primary: Option<bool>,
    pub(crate) samples: u32,
    /// What samples do not share.
    distinct: Option<Distinct>,
    pub(crate) min_ok: u32,
    /// Once it holds, the rest of the samples is cancelled.
    stop_when: Option<Expr>,
    pub(crate) hedge: Option<Hedge>,
    /// What becomes of an answer whose stream is lost.
    pub(crate) on_loss: OnLoss,
    pub(crate) edits: Edits,
    /// The form of its answers.
    form: Form,
    /// Which tools a model is offered.
    pub(crate) offer: Offer,
    clients: Clients,
    conversation: Conversation,
    /// How the answer begins, where the model can go on from that.
    prefill: Option<Template>,
}

impl Generate {
    pub(crate) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let route_node = f.take("route");
        let model_node = f.take("model");
        let mut route = match (route_node, model_node) {
            (Some(n), _) => Route::lower(cx, n, &f.at("route")),
            (None, Some(_)) => Route::default(),
            (None, None) => Route::of_pool(cx, "default"),
        };
        if let Some(n) = model_node {
            if route_node.is_some_and(|r| r.get("model").is_some()) {
                let d = cx.r.error("104", n.span, "`model` stands beside `route.model`");
                d.hint = Some("leave one of them out".to_owned());
                d.field = f.at("model");
            }
            route.model = cx.model(n, &f.at("model"));
            route.strategy = Strategy::Fixed;
        }
        let primary = f.take("primary").and_then(|n| cx.r.boolean(n, &f.at("primary")));
        let samples = count(cx, f, "samples", (1, 16), 1);
        let distinct = f.take("distinct").and_then(|n| distinct(cx, n, &f.at("distinct"), &route, samples));
        let min_ok = count(cx, f, "min_ok", (1, samples), 1);
        let stop_when = f.take("stop_when").and_then(|n| {
            let so_far = [("completions", samples::completions())];
            cx.expr(n, &f.at("stop_when"), Some(&Type::Bool), &so_far)
        });
        let hedge_at = f.take("hedge");
        let hedge = hedge_at.and_then(|n| Hedge::lower(cx, n, &f.at("hedge"), &route));
        let on_loss = f.take("on_upstream_loss").map_or(OnLoss::Retry, |n| {
            match cx.r.one_of(n, &f.at("on_upstream_loss"), &["retry", "continue", "fail"]) {
                Some("continue") => OnLoss::Continue,
                Some("fail") => OnLoss::Fail,
                _ => OnLoss::Retry,
            }
        });
        let mut edits = Edits::default();
        if let Some(n) = f.take("params") {
            params(cx, n, &f.at("params"), &mut edits);
        }
        let form = f.take("response").map(|n| Form::lower(cx, n, &f.at("response"))).unwrap_or_default();
        edits.response_format = form.wire();
        let offer = Offer::lower(cx, f);
        if let (Some(n), Some(tool)) = (hedge_at, offer.harmful()) {
            let message = format!("a call that offers the `unsafe` tool `{tool}` is not hedged");
            let d = cx.r.error("104", n.span, message);
            d.hint = Some("leave out `hedge`, or the tool".to_owned());
            d.field = f.at("hedge");
        }
        form.fits(cx, f, &offer);
        form.able(cx, f, (&route, &offer));
        let clients = Clients::lower(cx, f);
        if clients == Clients::Suspend && (samples > 1 || hedge.is_some()) {
            cx.r.error("104", f.span, "several answers cannot wait for the client's tools").hint =
                Some("leave out `samples` and `hedge`, or `client_tools: suspend`".to_owned());
        }
        let conversation = Conversation::lower(cx, f);
        let prefill = f.take("prefill").and_then(|n| Template::lower(cx, n, &f.at("prefill")));
        Generate {
            route: Arc::new(route),
            primary,
            samples,
            distinct,
            min_ok,
            stop_when,
            hedge,
            on_loss,
            edits,
            form,
            offer,
            clients,
            conversation,
            prefill,
        }
    }

    /// Whether its answers are for the client as they come: no call in them is for anybody else.
    pub(crate) fn flows(&self) -> bool {
        !self.offer.is_own() && self.clients == Clients::End
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.primary == Some(true)
    }

    /// Whether policies may say how it asks: it is the primary node of the workflow that the request runs, not of one
    /// that this calls. Several answers cannot wait for the client's tools.
    fn is_led(&self, called: bool) -> bool {
        self.is_primary() && !called && self.clients != Clients::Suspend
    }

    /// How many samples it takes: as the file says, unless policies do.
    pub(crate) fn how_many(&self, host: &Host, called: bool) -> u32 {
        let say = &host.input.overrides;
        let asked = say.fanout.filter(|_| self.is_led(called)).unwrap_or(self.samples);
        say.cap_fanout.map_or(asked, |cap| asked.min(cap))
    }

    /// When its calls are hedged: as the file says, unless policies do. A call that offers an `unsafe` tool never is.
    pub(crate) fn race_by<'a>(&'a self, at: &At<'a>) -> Option<&'a Hedge> {
        self.said_to_race(at).filter(|_| self.offer.harmful().is_none())
    }

    fn said_to_race<'a>(&'a self, at: &At<'a>) -> Option<&'a Hedge> {
        match &at.host.input.overrides.hedge {
            Some(_) if self.is_led(at.frame.is_called()) => at.host.hedge.as_ref(),
            _ => self.hedge.as_ref(),
        }
    }

    /// What the node has come to, saying so where something of what it was to do was left out.
    pub(crate) fn noted(&self, at: &At<'_>, mut resolved: Resolved) -> Resolved {
        let tool = self.offer.harmful().filter(|_| self.said_to_race(at).is_some());
        let hedge = tool.map(|tool| format!("the hedge was left out: the tool `{tool}` is `unsafe`"));
        let prefill = self.without_prefill(at, &resolved);
        let all: Vec<String> = [resolved.note.take(), prefill, hedge].into_iter().flatten().collect();
        if all.is_empty() { resolved } else { resolved.note(all.join("; ")) }
    }

    /// What one sample asks for.
    pub(crate) fn ask(&self, at: &At<'_>, sample: u32, opening: Opening) -> Ask {
        let Opening { messages, prefill } = opening;
        let own = Edits { messages, prefill, ..self.edits.clone() };
        let mut edits = at.host.edits(&own);
        self.offer.put(&mut edits, &at.host.input.request, self.clients);
        self.form.put(&mut edits, &at.host.input.request);
        if sample > 0 {
            // The same seed would give the same answer again.
            let seed = edits.seed.or(at.host.input.request.params.seed);
            edits.seed = seed.map(|s| s.wrapping_add(i64::from(sample)));
        }
        let purpose = match (sample, self.is_primary()) {
            (0, true) => Purpose::Primary,
            (0, false) => Purpose::Generate,
            _ => Purpose::Sample,
        };
        let id = EffectId::new(&at.path, EffectKind::Model, sample, 1);
        let samples = self.how_many(at.host, at.frame.is_called());
        let apart = self.distinct.filter(|_| samples > 1);
        let spread = apart.map(|by| Spread { by, index: sample, of: samples });
        Ask { primary: self.is_primary(), edits, spread, ..at.question(id, purpose, self.route.clone()) }
    }
}

impl Spec for Generate {
    fn canonical(&self) -> Json {
        json!({
            "route": self.route.canonical(), "primary": self.primary, "samples": self.samples,
            "distinct": self.distinct, "min_ok": self.min_ok,
            "stop_when": self.stop_when.as_ref().map(Expr::source),
            "hedge": self.hedge.as_ref().map(Hedge::canonical), "on_loss": self.on_loss,
            "edits": canonical::edits(&self.edits), "form": self.form.canonical(), "tools": self.offer.canonical(),
            "client_tools": self.clients, "messages": self.conversation.canonical(),
            "prefill": self.prefill.as_ref().map(Template::source),
        })
    }

    fn may_wait(&self, client_tools: bool) -> bool {
        client_tools && self.clients == Clients::Suspend
    }

    fn reads(&self) -> Vec<Read<'_>> {
        self.route.reads().chain(self.conversation.reads()).collect()
    }

    fn routes(&self) -> Vec<&Route> {
        std::iter::once(&*self.route).chain(self.hedge.as_ref().and_then(Hedge::route)).collect()
    }

    fn max_again(&self) -> u32 {
        // An answer that is lost is asked for once more, and others go on with what the client has seen of it.
        let each = match self.on_loss {
            OnLoss::Fail => 0,
            OnLoss::Retry => 1,
            OnLoss::Continue => MOST_ONWARD.saturating_add(1),
        };
        let rounds = if self.clients == Clients::Suspend { client::ROUNDS } else { 0 };
        self.samples.saturating_add(rounds).saturating_mul(each)
    }

    fn max_calls(&self) -> u32 {
        let one = self.samples.saturating_mul(self.hedge.as_ref().map_or(0, |h| h.max).saturating_add(1));
        let more = if self.clients == Clients::Suspend { client::ROUNDS } else { 0 };
        one.saturating_add(more)
    }

    fn sure_calls(&self) -> u32 {
        self.samples
    }

    fn exprs(&self) -> Vec<&Expr> {
        let prefill = self.prefill.iter().flat_map(Template::exprs);
        self.stop_when.iter().chain(self.conversation.exprs()).chain(prefill).collect()
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        Begun::waits(self.run(at))
    }
}

/// The answers, each with the sample it is, become completions of the run.
pub(crate) fn finish(answers: Vec<(u32, Answer)>, at: &At<'_>) -> Resolved {
    let resolved = {
        let mut table = at.host.table();
        let rows = answers.into_iter().map(|(i, a)| table.add(a, Origin::of(&at.path, i, 1))).collect();
        samples::resolved(Gathered { rows, ..Gathered::default() }, &at.path, &table)
    };
    match at.node.spec.get::<Generate>() {
        Some(own) => own.noted(at, resolved),
        None => resolved,
    }
}

/// What samples do not share; warns where there are fewer choices than samples.
fn distinct(cx: &mut Cx<'_>, n: &doc::Node, path: &str, route: &Route, samples: u32) -> Option<Distinct> {
    let (by, what) = match cx.r.one_of(n, path, &["none", "model", "provider", "family"])? {
        "model" => (Distinct::Model, "models"),
        "provider" => (Distinct::Provider, "providers"),
        "family" => (Distinct::Family, "families"),
        _ => return None,
    };
    let choices = cx.choices(route, by);
    if choices < usize::try_from(samples).unwrap_or(usize::MAX) {
        let message = format!("{samples} samples, and {choices} {what} that may serve them");
        cx.r.warning("431", n.span, message).hint = Some(format!("at most {choices} are taken"));
    }
    Some(by)
}

/// How much a model may be told to think.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];
/// Most sequences at which an answer ends: what vendors take at most.
const MAX_STOPS: usize = 4;

/// One sequence at which an answer ends, or several.
fn stops(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<String> {
    let found = match &n.value {
        doc::Value::Str(one) => vec![one.clone()],
        _ => cx.r.strings(n, path).unwrap_or_default(),
    };
    let wrong = if found.len() > MAX_STOPS {
        format!("`{path}` has {} sequences", found.len())
    } else if found.iter().any(String::is_empty) {
        format!("`{path}` has an empty sequence")
    } else {
        return found;
    };
    let d = cx.r.error("104", n.span, wrong);
    d.expected = Some(format!("at most {MAX_STOPS} texts, none of them empty"));
    path.clone_into(&mut d.field);
    Vec::new()
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
    edits.stop = f.take("stop").map(|n| stops(cx, n, &f.at("stop")));
    let mut penalty =
        |key, f: &mut Fields<'_>| f.take(key).and_then(|n| cx.r.number(n, &f.at(key), -2.0, 2.0));
    edits.presence_penalty = penalty("presence_penalty", &mut f);
    edits.frequency_penalty = penalty("frequency_penalty", &mut f);
    edits.reasoning_effort = f
        .take("reasoning_effort")
        .and_then(|n| cx.r.one_of(n, &f.at("reasoning_effort"), EFFORTS))
        .map(Into::into);
    edits.logprobs = f.take("logprobs").and_then(|n| cx.r.boolean(n, &f.at("logprobs")));
    f.finish(&mut cx.r);
}

/// Gives the router's candidate to one node: the one that says so, else the first in topological order
/// that leaves the choice to utility.
pub(crate) fn appoint(root: &mut Graph) {
    let says = any(root, &|n| n.spec.get::<Generate>().is_some_and(Generate::is_primary));
    let mut open = !says;
    give(root, &mut open);
}

fn any(graph: &Graph, what: &dyn Fn(&Node) -> bool) -> bool {
    graph.nodes.iter().any(|n| what(n) || n.spec.bodies().into_iter().any(|g| any(g, what)))
}

/// How nodes resolve whose answer is not good enough.
const SHORT: OutcomeSet = OutcomeSet::of(&[
    Outcome::Refused,
    Outcome::Truncated,
    Outcome::Unverified,
    Outcome::Failed,
    Outcome::Exhausted,
    Outcome::Abstained,
    Outcome::NoConsensus,
    Outcome::None,
    Outcome::Rejected,
    Outcome::Error,
    Outcome::Timeout,
]);

/// Whether a node runs only where others have fallen short.
fn takes_over(graph: &Graph, node: usize) -> bool {
    let into = graph.incoming.get(node).map_or(&[] as &[_], Vec::as_slice);
    !into.is_empty()
        && into.iter().all(|e| graph.edges.get(*e).is_some_and(|edge| edge.accepts.is_within(SHORT)))
}

fn give(graph: &mut Graph, open: &mut bool) {
    for i in graph.topo.clone() {
        let takes_over = takes_over(graph, i);
        let Some(n) = graph.nodes.get_mut(i) else { continue };
        let enabled = n.enabled;
        if let Some(g) = n.spec.get_mut::<Generate>() {
            let open_to_all = g.route.is_usual || g.route.strategy == Strategy::Utility;
            let free = enabled && g.primary.is_none() && open_to_all;
            g.primary = Some(g.is_primary() || free && std::mem::take(open));
            // Who answers here the router has chosen: rules say from whom, and a client may have named the model.
            if g.is_primary() && g.route.is_usual {
                g.route = Arc::default();
            }
            let anybody = g.route.is_open() && g.route.prefer.is_empty();
            if takes_over && anybody && !g.is_primary() && g.route.strategy == Strategy::Strongest {
                Arc::make_mut(&mut g.route).escalates = true;
            }
        }
        if enabled {
            n.spec.bodies_mut().into_iter().for_each(|g| give(g, open));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes that rules can send elsewhere, of the workflows that are shipped.
    #[test]
    fn who_takes_over_is_told_from_who_runs_beside() {
        let (library, problems) = crate::testing::load_all(&crate::shipped());
        assert!(problems.iter().all(|d| d.severity != types::Severity::Error), "{problems:?}");
        let escalates = |n: &&Node| n.spec.get::<Generate>().is_some_and(|g| g.route.escalates);
        let of = |w: &Arc<crate::Workflow>| {
            w.root.nodes.iter().filter(escalates).map(|n| format!("{} {}", w.name, n.id)).collect::<Vec<_>>()
        };
        let all: Vec<String> = library.iter().flat_map(of).collect();
        assert_eq!(all, ["cheap_first_cascade strong"]);
    }
}
