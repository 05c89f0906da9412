//! `assume_price: {in, out}` — USD per million tokens for models whose price is not known.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::AssumedPrice;

pub(super) const VERB: Verb = Verb {
    name: "assume_price",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["in", "out"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let input = f.require(r, "in").and_then(|n| r.number(n, &f.at("in"), 0.0, 1e6));
        let output = f.require(r, "out").and_then(|n| r.number(n, &f.at("out"), 0.0, 1e6));
        f.finish(r);
        let price = AssumedPrice { input: input?, output: output? };
        put(price, |m, v, at| m.single(|m| &mut m.further().assume_price, v, at))
    },
};
