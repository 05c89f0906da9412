//! `retry: {max_attempts, backoff}` — attempts of one call; `cap_attempts` bounds them.

use super::{Kind, REQUEST, Single, Verb, count, millis, put};
use types::directives::RetryRule;

pub(super) const VERB: Verb = Verb {
    name: "retry",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["max_attempts", "backoff"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let max = f.require(r, "max_attempts").and_then(|n| count(r, n, &f.at("max_attempts"), 1, 5));
        let backoff = f.take("backoff").map(|n| millis(r, n, &f.at("backoff")));
        f.finish(r);
        let rule = RetryRule { max: max?, backoff_ms: backoff.map_or(Some(None), |b| b.map(Some))? };
        put(rule, |m, v, at| m.single(|m| &mut m.further().retry, v, at))
    },
};
