//! `exclude: models` — these are no candidates; the sets add up.

use super::{Kind, REQUEST, Single, Verb, chosen, put_models};

pub(super) const VERB: Verb = Verb {
    name: "exclude",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "optional"],
    read: |r, node, field, cx| {
        let chosen = chosen(r, node, field, cx)?;
        put_models(chosen, (), |m, (models, ()), at| m.remove(at, |ix| models.contains(ix)))
    },
};

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, removed};

    #[test]
    fn the_sets_add_up_and_the_first_rule_is_named() {
        let d = check_verb(
            &["exclude: [acme/small]", "exclude: [\"acme/*\"]", "exclude: acme/large"],
            &["applied", "applied", "no effect: it removes no further model"],
        );
        assert_eq!(removed(&d), ["acme/small by r0", "acme/large by r1"]);
    }
}
