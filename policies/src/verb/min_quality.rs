//! `min_quality: ratio` or `{tier: 1–3}` — a floor under the believed success, or under the models' tier.

use super::{Kind, REQUEST, Single, Verb, put};
use types::doc::Value;
use types::matrix::ModelSet;

pub(super) const VERB: Verb = Verb {
    name: "min_quality",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["quality"],
    read: |r, node, field, cx| {
        if !matches!(node.value, Value::Map(_)) {
            let floor = r.number(node, field, 0.0, 1.0)?;
            return put(floor, |m, v, at| m.raise(|m| &mut m.further().min_quality, v, at));
        }
        let mut f = r.fields(node, field)?;
        let tier = f.require(r, "tier").and_then(|n| r.integer(n, &f.at("tier"), 1, 3));
        f.finish(r);
        let tier = tier?;
        let matrix = &cx.resolver.matrix;
        let below = |ix: &types::ModelIx| matrix.model(*ix).is_some_and(|m| i64::from(m.quality_tier) < tier);
        let gone: ModelSet = matrix.indices().filter(below).collect();
        put(gone, |m, gone, at| m.remove(at, |ix| gone.contains(ix)))
    },
};
