//! `premium: true` or `false` — whether the request may use what budgets hold back (`reserved_premium`), whatever its
//! profile says.

use super::{Kind, REQUEST, Single, Verb, put};

pub(super) const VERB: Verb = Verb {
    name: "premium",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["premium"],
    read: |r, node, field, _| {
        let premium = r.boolean(node, field)?;
        put(premium, |m, v, at| m.single(|m| &mut m.further().premium, v, at))
    },
};
