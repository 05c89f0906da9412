//! `repair: {max_attempts, strategies}` — at most so many attempts of repair nodes, only those of their strategies.

use super::{Kind, REQUEST, Single, Verb, count, put};
use types::directives::RepairRule;
use types::doc::{Node, Reader};
use types::repair::Strategy;

pub(super) const VERB: Verb = Verb {
    name: "repair",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["max_attempts", "strategies"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let (attempts, list) = (f.take("max_attempts"), f.take("strategies"));
        let most = attempts.map(|n| count(r, n, &f.at("max_attempts"), 0, 4));
        let named = list.map(|n| strategies(r, n, &f.at("strategies")));
        f.finish(r);
        if attempts.is_none() && list.is_none() {
            r.wrong_type(node, field, "{max_attempts, strategies}, or one of the two");
            return None;
        }
        let rule = RepairRule {
            max_attempts: most.map_or(Some(None), |m| m.map(Some))?,
            strategies: named.map_or(Some(None), |s| s.map(Some))?,
        };
        put(rule, |m, v, at| m.single(|m| &mut m.further().repair, v, at))
    },
};

fn strategies(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Vec<Strategy>> {
    let list = r.list(node, field)?;
    if list.is_empty() {
        r.wrong_type(node, field, "a list of at least one strategy; `max_attempts: 0` asks no model");
        return None;
    }
    // Every one is looked at, so that all problems are told.
    let each: Vec<_> =
        list.iter().map(|n| r.one_of(n, field, Strategy::NAMES).and_then(Strategy::of)).collect();
    each.into_iter().collect()
}
