//! `cache`: which results of earlier runs a node may use, and whether its own are kept.

use super::{NodeSpec, tool};
use crate::load::Cx;
use crate::node::generate::Generate;
use crate::node::tool::Tool;
use crate::reference::Ref;
use serde_json::{Value as Json, json};
use std::time::Duration;
use types::doc::{Fields, Node, Span};

/// Which stored results a node may use.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cache {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// Shared by all tenants.
    pub(crate) shared: bool,
    pub(crate) ttl: Duration,
    /// What the key is made of; empty: everything that the node reads.
    pub(crate) key: Vec<Ref>,
    /// `match: semantic`: how similar a question has to be to one that was answered, 0..=1.
    pub(crate) similar: Option<f64>,
}

/// `min_similarity` where a file does not say: politeness and the place of a phrase may differ, and little more.
const MIN_SIMILARITY: f64 = 0.97;

impl Cache {
    pub(super) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<Cache> {
        let mut f = cx.r.fields(n, path)?;
        let mode = f
            .take("mode")
            .and_then(|n| cx.r.one_of(n, &f.at("mode"), &["none", "read", "write", "read_write"]))
            .unwrap_or("read_write");
        let scope_at = f.take("scope");
        let scope = scope_at.and_then(|n| cx.r.one_of(n, &f.at("scope"), &["tenant", "engine"]));
        let ttl = f.take("ttl").and_then(|n| cx.r.duration(n, &f.at("ttl")));
        let key_at = f.take("key");
        let key = match key_at {
            None => Vec::new(),
            Some(n) => {
                let at = f.at("key");
                let list = cx.r.list(n, &at).unwrap_or(&[]);
                list.iter().filter_map(|n| Ref::lower(cx, n, &at)).collect()
            }
        };
        let similar = similar(cx, &mut f);
        if similar.is_some() {
            let everybody = scope_at.filter(|_| scope == Some("engine"));
            let why = "what people ask is compared within their tenant alone";
            beside(cx, everybody, f.at("scope"), ("scope: engine", why));
            let why = "all but the words of the question has to be the same";
            beside(cx, key_at, f.at("key"), ("key", why));
        }
        f.finish(&mut cx.r);
        Some(Cache {
            read: mode.starts_with("read"),
            write: mode.ends_with("write"),
            shared: scope == Some("engine"),
            ttl: ttl.unwrap_or(Duration::from_secs(3600)),
            key,
            similar,
        })
    }

    /// Whether anything is kept or found.
    pub(crate) const fn is_used(&self) -> bool {
        self.read || self.write
    }

    /// For the hash of the plan.
    pub(super) fn canonical(&self) -> Json {
        let key: Vec<&str> = self.key.iter().map(Ref::canonical).collect();
        json!([self.read, self.write, self.shared, self.ttl.as_secs_f64(), key, self.similar])
    }

    /// Notes where nothing that the node puts out can be kept in this way.
    pub(super) fn fits(&self, cx: &mut Cx<'_>, (at, path): (Span, String), spec: &NodeSpec) {
        let spoils = spec.get::<Tool>().and_then(tool::Tool::spoils);
        if let Some(tool) = spoils.filter(|_| self.is_used()) {
            let message = format!("a call of `{tool}` changes something, and would not be made");
            let d = cx.r.error("104", at, message);
            d.expected = Some("`cache` at tools with `side_effect: none` alone".to_owned());
            d.field.clone_from(&path);
        }
        let literal = match spec.get::<Generate>() {
            Some(node) => node.is_literal(),
            None => Some(("match", "the node answers no question")),
        };
        if let Some((key, why)) = literal.filter(|_| self.similar.is_some()) {
            let d = cx.r.error("104", at, format!("`match: semantic` cannot stand here: {why}"));
            d.expected = Some(
                "a `generate` node without tools that answers the last message of the request in prose"
                    .to_owned(),
            );
            d.hint = Some(match key {
                "match" => "leave out `match`: what is the same to the letter is found".to_owned(),
                key => {
                    format!("leave out `match`, so that what is the same to the letter is found, or `{key}`")
                }
            });
            d.field = format!("{path}.match");
        }
    }
}

/// How similar another question has to be; `None` = the same to the letter.
fn similar(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Option<f64> {
    let (ways, least) = (f.take("match"), f.take("min_similarity"));
    let said = ways.and_then(|n| cx.r.one_of(n, &f.at("match"), &["exact", "semantic"]));
    let is = said == Some("semantic");
    let share = least.and_then(|n| cx.r.number(n, &f.at("min_similarity"), 0.0, 1.0));
    if let (Some(n), false) = (least, is) {
        let d = cx.r.error("104", n.span, "`min_similarity` says nothing without `match: semantic`");
        d.hint = Some("write `match: semantic`, or leave `min_similarity` out".to_owned());
        d.field = f.at("min_similarity");
    }
    is.then(|| share.unwrap_or(MIN_SIMILARITY))
}

/// Notes a key that cannot stand beside `match: semantic`.
fn beside(cx: &mut Cx<'_>, n: Option<&Node>, field: String, (key, why): (&str, &str)) {
    let Some(n) = n else { return };
    let d = cx.r.error("104", n.span, format!("`{key}` cannot stand beside `match: semantic`: {why}"));
    d.hint = Some("leave one of them out".to_owned());
    d.field = field;
}
