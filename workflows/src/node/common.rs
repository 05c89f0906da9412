//! Keys that every node may have, whatever its type.

use super::{Cache, NodeKind, Out, Outcome, Spec};
use crate::budget::Amounts;
use crate::load::Cx;
use crate::retry::Retry;
use crate::value::Value;
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::diagnostic::suggestion;
use types::doc::{self, Fields};

/// What happens when a node fails and no edge takes that up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum OnError {
    /// It ends the graph instance.
    #[default]
    Fail,
    /// The node counts as skipped.
    Skip,
    /// The node counts as completed in this way, with these outputs by name.
    Value(Outcome, Map<String, Json>),
}

/// The common keys that say how a node runs.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) on_error: OnError,
    pub(crate) budget: Option<Amounts>,
    pub(crate) retry: Option<Retry>,
    pub(crate) cache: Option<Cache>,
    /// `async`: it runs after the response. `None`: as its place tells.
    pub(crate) later: Option<bool>,
    /// For traces and events.
    pub(crate) labels: Arc<[(String, String)]>,
}

impl Default for Common {
    fn default() -> Self {
        Common {
            on_error: OnError::Fail,
            budget: None,
            retry: None,
            cache: None,
            later: None,
            labels: Arc::default(),
        }
    }
}

impl Common {
    pub(super) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>, kind: NodeKind, outputs: &[Out]) -> Self {
        let of_type = kind.node_type();
        let mut common = Common::default();
        if let Some(n) = f.take("on_error") {
            common.on_error = on_error(cx, n, &f.at("on_error"), outputs);
        }
        common.budget = f.take("budget").and_then(|n| Amounts::lower(cx, n, &f.at("budget")));
        if let Some(n) = f.take("retry") {
            if of_type.retries {
                common.retry = Retry::lower(cx, n, &f.at("retry"));
            } else {
                meaningless(
                    cx,
                    n,
                    "retry",
                    kind,
                    "generate, judge, tool and other nodes that call something",
                );
            }
        }
        if let Some(n) = f.take("cache") {
            if of_type.cacheable {
                common.cache = Cache::lower(cx, n, &f.at("cache"));
            } else {
                meaningless(cx, n, "cache", kind, "generate, classify, tool and merge");
            }
        }
        if let Some(n) = f.take("async") {
            common.later = cx.r.boolean(n, &f.at("async"));
            if common.later == Some(true) && cx.depth() > 1 {
                cx.r.error("104", n.span, "`async` within a body").hint =
                    Some("put the node behind the loop or map".to_owned());
            }
            if common.later == Some(true) && of_type.sink {
                cx.r.error("104", n.span, format!("a `{kind}` node cannot be `async`"));
            }
        }
        // Where labels are the node's own outcomes, that is what the key means.
        if !of_type.words.is_empty()
            && let Some(n) = f.take("labels")
        {
            let members = cx.r.noted(n, &f.at("labels"));
            common.labels = members
                .into_iter()
                .filter_map(|(k, v)| Some((k.name.clone(), cx.r.string(v, "labels")?)))
                .collect();
        }
        common
    }

    /// Whether what the node puts out may come from an earlier run.
    pub(crate) fn caches(&self) -> bool {
        self.cache.as_ref().is_some_and(Cache::is_used)
    }

    /// Its labels, for the record of a run.
    pub(crate) fn told(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    /// For the hash of the plan.
    pub(super) fn canonical(&self) -> Json {
        let on_error = match &self.on_error {
            OnError::Fail => json!("fail"),
            OnError::Skip => json!("skip"),
            OnError::Value(_, v) => json!(v),
        };
        let cache = self.cache.as_ref().map(Cache::canonical);
        json!({
            "on_error": on_error, "budget": self.budget.as_ref().map(Amounts::canonical),
            "retry": self.retry.as_ref().map(Retry::canonical), "cache": cache, "later": self.later,
        })
    }
}

fn meaningless(cx: &mut Cx<'_>, n: &doc::Node, key: &str, kind: NodeKind, where_: &str) {
    let d = cx.r.error("101", n.span, format!("`{key}` means nothing at a `{kind}` node"));
    d.hint = Some(format!("it is for {where_}"));
}

fn on_error(cx: &mut Cx<'_>, n: &doc::Node, path: &str, outputs: &[Out]) -> OnError {
    if !matches!(n.value, doc::Value::Map(_)) {
        return match cx.r.one_of(n, path, &["fail", "skip"]) {
            Some("skip") => OnError::Skip,
            _ => OnError::Fail,
        };
    }
    let Some(mut f) = cx.r.fields(n, path) else { return OnError::Fail };
    let (mut value, mut wrong) = (Map::new(), false);
    if let Some(n) = f.require(&mut cx.r, "value") {
        let at = f.at("value");
        for (k, v) in cx.r.noted(n, &at) {
            if let Some(output) = outputs.iter().find(|o| o.name == k.name) {
                let given = v.to_json();
                if let Some(expected) = output.ty.refuses(&given) {
                    let d =
                        cx.r.error("104", v.span, format!("the output `{}` cannot be {}", k.name, v.kind()));
                    d.expected = Some(expected);
                    wrong = true;
                    d.field = format!("{at}.{}", k.name);
                }
                value.insert(k.name.clone(), given);
                continue;
            }
            let hint = suggestion(&k.name, outputs.iter().map(|o| &*o.name));
            let d = cx.r.error("101", k.span, format!("the node has no output `{}`", k.name));
            d.hint = Some(hint);
            d.field.clone_from(&at);
        }
    }
    f.finish(&mut cx.r);
    if wrong {
        return OnError::Fail;
    }
    OnError::Value(Outcome::Ok, value)
}

impl OnError {
    /// Says what the outputs that a file gives come to, once it is known what the node does.
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, (span, path): (doc::Span, String), spec: &dyn Spec) {
        let OnError::Value(outcome, outputs) = self else { return };
        match spec.given(outputs) {
            Ok(said) => *outcome = said,
            Err(expected) => {
                let d = cx.r.error("104", span, "the outputs do not say how the node resolves");
                (d.expected, d.field) = (Some(expected), path);
            }
        }
    }

    /// The outcome that its outputs come to, where a file gives some.
    pub(super) const fn outcome(&self) -> Option<Outcome> {
        match self {
            OnError::Value(outcome, _) => Some(*outcome),
            OnError::Fail | OnError::Skip => None,
        }
    }

    /// How the node resolves instead of failing, if it does.
    pub(crate) fn instead(&self, outputs: &[Out]) -> Option<(Outcome, Vec<Value>)> {
        match self {
            OnError::Fail => None,
            OnError::Skip => Some((Outcome::Skipped, Vec::new())),
            OnError::Value(outcome, given) => {
                let value = |o: &Out| Value::of(given.get(&*o.name).cloned().unwrap_or_else(|| o.absent()));
                Some((*outcome, outputs.iter().map(value).collect()))
            }
        }
    }
}
