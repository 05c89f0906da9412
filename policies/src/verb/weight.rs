//! `weight: {term: factor}` — multiplies the weights of the utility's terms; products stay within 0..=4.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use types::directives::TermWeights;
use types::doc::{Node, Reader};

pub(super) const VERB: Verb = Verb {
    name: "weight",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::No,
    arguments: &["weights"],
    read: |r, node, field, _| Some(Arc::new(read(r, node, field)?)),
};

#[derive(Debug)]
struct Weight(Vec<(&'static str, f64)>);

fn read(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Weight> {
    let mut f = r.fields(node, field)?;
    let mut factors = Vec::new();
    let mut sound = true;
    for name in TermWeights::NAMES.iter().copied() {
        let Some(n) = f.take(name) else { continue };
        match r.number(n, &f.at(name), 0.0, 4.0) {
            Some(x) => factors.push((name, x)),
            None => sound = false,
        }
    }
    let before = r.problems.len();
    f.finish(r);
    sound &= r.problems.len() == before;
    if sound && factors.is_empty() {
        r.wrong_type(node, field, &format!("a map with some of {}", TermWeights::NAMES.join(", ")));
        return None;
    }
    sound.then_some(Weight(factors))
}

impl Action for Weight {
    fn apply(&self, _: At, merge: &mut Merge) {
        for (term, factor) in &self.0 {
            merge.weight(term, *factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn factors_multiply_within_their_bounds() {
        let d = check_verb(
            &["weight: { cost: 1.5 }", "weight: { cost: 2, latency: 3 }", "weight: { latency: 3 }"],
            &["applied"; 3],
        );
        assert_eq!((d.weights.cost, d.weights.latency, d.weights.quality), (3.0, 4.0, 1.0));
    }
}
