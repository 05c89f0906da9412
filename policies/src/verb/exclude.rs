//! `exclude: models` — these are no candidates; the sets add up.

use super::{Kind, REQUEST, Single, Verb, model_set};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use types::matrix::ModelSet;

pub(super) const VERB: Verb = Verb {
    name: "exclude",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "optional"],
    read: |r, node, field, cx| Some(Arc::new(Exclude(model_set(r, node, field, cx)?))),
};

#[derive(Debug)]
struct Exclude(ModelSet);

impl Action for Exclude {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.remove(at, |ix| self.0.contains(ix));
    }
}

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
