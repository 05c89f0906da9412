//! What stands for everything that a node's outputs depend on, and for the question among it.

use crate::node::Cache;
use crate::node::generate::Generate;
use crate::reference::Ref;
use crate::run::At;
use crate::world::{CacheAsk, EffectId, EffectKind, Similar, digest};
use serde_json::{Value as Json, json};
use types::ChatRequest;
use types::chat::{Content, Message};

/// Members of a request that say how it is answered, recorded and kept, and nothing of the question.
const BESIDE: &[&str] = &["routing", "metadata", "stream", "stream_options"];

/// Under what the outputs of a node are kept, and found.
pub(super) fn ask(at: &At<'_>, cache: &Cache) -> CacheAsk {
    CacheAsk {
        id: EffectId::new(&at.path, EffectKind::Cache, 0, 1),
        kind: at.node.kind(),
        key: key(at, cache),
        shared: cache.shared,
        ttl: cache.ttl,
        similar: cache.similar.and_then(|least| similar(at, least)),
    }
}

/// What stands for the node and everything it depends on.
fn key(at: &At<'_>, cache: &Cache) -> String {
    if !cache.key.is_empty() {
        let listed: Vec<Json> = cache.key.iter().map(|r| value(at, r)).collect();
        return digest(&json!([&*at.node.id, at.host.workflow.name, listed]));
    }
    // What the node asks of a model is made of the request as well.
    let asks = at.node.spec.max_calls() > 0;
    let request = asks.then(|| asked(&at.host.input.request, BESIDE));
    all(at, (asks, request))
}

/// The question, and what stands for everything else; `None` = the node or the request wants more than prose.
fn similar(at: &At<'_>, least: f64) -> Option<Similar> {
    let question = at.node.spec.get::<Generate>()?.question(at)?.to_owned();
    let request = &at.host.input.request;
    let (last, before) = request.messages.split_last()?;
    let silent = Message { content: Content::None, ..last.clone() };
    // Members of its one part that nobody here knows are not the question.
    let beside = match &last.content {
        Content::Parts(parts) => parts.iter().map(|p| &p.extra).collect(),
        _ => Vec::new(),
    };
    let others = asked(request, &[BESIDE, &["messages"]].concat());
    let space = all(at, (true, Some(digest(&json!([others, before, silent, beside])))));
    Some(Similar { space, question, least })
}

/// The node with all that it reads, and the request as far as it goes into it.
fn all(at: &At<'_>, (asks, request): (bool, Option<String>)) -> String {
    let spec = &at.node.spec;
    let reads: Vec<Json> = spec.reads().iter().map(|r| value(at, r.reference)).collect();
    let exprs: Vec<Json> = spec
        .exprs()
        .iter()
        // What cannot be evaluated fails again when the node runs.
        .map(|e| at.eval(e).map_or(Json::Null, |v| v.json(&at.host.table())))
        .collect();
    let edits = asks.then(|| format!("{:?}", at.host.input.edits));
    digest(&json!([at.node.canonical(), reads, exprs, request, edits]))
}

fn value(at: &At<'_>, r: &Ref) -> Json {
    let value = at.value(r);
    json!([r.canonical(), value.json(&at.host.table())])
}

/// What stands for a request without some of its members: BLAKE3 of the others, 64 hex digits.
fn asked(request: &ChatRequest, without: &[&str]) -> String {
    let mut hash = blake3::Hasher::new();
    for member in request.members().iter().filter(|m| !without.contains(&m.key.as_str())) {
        for part in [&member.key, request.raw(&member.key).unwrap_or_default()] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().to_hex().to_string()
}
