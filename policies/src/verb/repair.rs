//! `repair: {max_attempts, strategies}` — how answers that fail their checks are mended.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::RepairRule;

/// The strategies of the workflow format.
const STRATEGIES: &[&str] =
    &["fix", "reprompt", "structured", "deterministic", "resample", "rewrite", "escalate"];

pub(super) const VERB: Verb = Verb {
    name: "repair",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["max_attempts", "strategies"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let attempts = f.take("max_attempts").map(|n| super::count(r, n, &f.at("max_attempts"), 0, 4));
        let strategies = f.take("strategies").map(|n| {
            let at = f.at("strategies");
            let list = r.list(n, &at)?;
            let each: Vec<_> = list
                .iter()
                .enumerate()
                .map(|(i, s)| r.one_of(s, &format!("{at}[{i}]"), STRATEGIES).map(str::to_owned))
                .collect();
            each.into_iter().collect::<Option<Vec<_>>>()
        });
        f.finish(r);
        let rule = RepairRule {
            max_attempts: attempts.map_or(Some(None), |a| a.map(Some))?,
            strategies: strategies.unwrap_or(Some(Vec::new()))?,
        };
        if rule.max_attempts.is_none() && rule.strategies.is_empty() {
            r.wrong_type(node, field, "a map with max_attempts, strategies or both");
            return None;
        }
        put(rule, |m, v, at| m.single(|m| &mut m.further().repair, v, at))
    },
};
