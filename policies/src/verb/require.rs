//! `require: models` — all others leave the candidates; the sets intersect.

use super::{Kind, REQUEST, Single, Verb, model_set};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use types::matrix::ModelSet;

pub(super) const VERB: Verb = Verb {
    name: "require",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "optional"],
    read: |r, node, field, cx| Some(Arc::new(Require(model_set(r, node, field, cx)?))),
};

#[derive(Debug)]
struct Require(ModelSet);

impl Action for Require {
    fn apply(&self, at: At, merge: &mut Merge) {
        merge.remove(at, |ix| !self.0.contains(ix));
    }
}

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
