//! `require: models` — all others leave the candidates; the sets intersect.

use super::{Kind, REQUEST, Single, Verb, chosen, put_models};

pub(super) const VERB: Verb = Verb {
    name: "require",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "optional"],
    read: |r, node, field, cx| {
        let chosen = chosen(r, node, field, cx)?;
        put_models(chosen, (), |m, (models, ()), at| m.remove(at, |ix| !models.contains(ix)))
    },
};

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, removed};

    #[test]
    fn the_sets_intersect() {
        let d = check_verb(
            &["require: [\"acme/*\"]", "require: \"*/small\"", "require: \"*\""],
            &["applied", "applied", "no effect: it removes no further model"],
        );
        assert_eq!(removed(&d), ["acme/large by r1", "beta/small by r0", "beta/coder by r0"]);
    }
}
