//! `explore: none` or `{max_rate: ratio}` — bounds how often a choice other than the best is drawn.

use super::{Kind, REQUEST, Single, Verb, put};
use types::doc::Value;

pub(super) const VERB: Verb = Verb {
    name: "explore",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["max_rate"],
    read: |r, node, field, _| {
        let rate = match &node.value {
            Value::Map(_) => {
                let mut f = r.fields(node, field)?;
                let rate = f.require(r, "max_rate").and_then(|n| r.number(n, &f.at("max_rate"), 0.0, 1.0));
                f.finish(r);
                rate?
            }
            _ if node.as_str() == Some("none") => 0.0,
            _ => {
                r.wrong_type(node, field, "`none`, or {max_rate: ratio}");
                return None;
            }
        };
        put(rate, |m, v, at| m.lower(|m| &mut m.further().explore, v, at))
    },
};
