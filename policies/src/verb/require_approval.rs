//! `require_approval: {group, reason, expires}` — people must agree; all groups, within the shortest time.

use super::{ANY, Kind, Single, Verb, millis, put};
use types::diagnostic::suggestion;
use types::directives::Approval;

/// How long a question stands where nothing is said: a day.
const DEFAULT_EXPIRES_MS: u64 = 86_400_000;

pub(super) const VERB: Verb = Verb {
    name: "require_approval",
    kind: Kind::Hard,
    phases: ANY,
    single: Single::No,
    arguments: &["group", "reason", "expires"],
    read: |r, node, field, cx| {
        let mut f = r.fields(node, field)?;
        let group_node = f.require(r, "group");
        let group = group_node.and_then(|n| r.ident(n, &f.at("group")));
        let reason = f.require(r, "reason").and_then(|n| r.string(n, &f.at("reason")));
        let expires = f.take("expires").map_or(Some(DEFAULT_EXPIRES_MS), |n| millis(r, n, &f.at("expires")));
        let at = f.at("group");
        f.finish(r);
        let group = group?;
        if !cx.resolver.approvers.contains_key(&group) {
            let hint = suggestion(&group, cx.resolver.approvers.keys().map(String::as_str));
            let span = group_node.map_or(node.span, |n| n.span);
            let d = r.error("207", span, format!("there is no group of approvers `{group}`"));
            d.hint = Some(hint);
            d.field = at;
            return None;
        }
        let approval = Approval { group, reason: reason?, expires_ms: expires? };
        put(approval, |m, v, at| {
            m.shorter(|m| &mut m.further().approvals, v.group.clone(), v, at);
        })
    },
};
