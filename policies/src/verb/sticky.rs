//! `sticky: {by, ttl}` — keeps the previous arm of a conversation, a user or a tenant unless it falls behind.

use super::{Kind, REQUEST, Single, Verb, millis, put};
use types::directives::{Sticky, StickyBy};

/// How long an arm is remembered where nothing is said.
const DEFAULT_TTL_MS: u64 = 3_600_000;

pub(super) const VERB: Verb = Verb {
    name: "sticky",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["by", "ttl"],
    read: |r, node, field, _| {
        const BY: &[&str] = &["conversation", "user", "tenant"];
        let (by, ttl_ms) = if node.as_str().is_some() {
            (r.one_of(node, field, BY), Some(DEFAULT_TTL_MS))
        } else {
            let mut f = r.fields(node, field)?;
            let by = f.require(r, "by").and_then(|n| r.one_of(n, &f.at("by"), BY));
            let ttl = f.take("ttl").map_or(Some(DEFAULT_TTL_MS), |n| millis(r, n, &f.at("ttl")));
            f.finish(r);
            (by, ttl)
        };
        let by = match by? {
            "user" => StickyBy::User,
            "tenant" => StickyBy::Tenant,
            _ => StickyBy::Conversation,
        };
        put(Sticky { by, ttl_ms: ttl_ms? }, |m, v, at| m.single(|m| &mut m.further().sticky, v, at))
    },
};
