//! `prefer: models` or `{models, strength}` — utility × 2^strength, and `avoid` — utility × 2^−strength; strengths
//! add up within −2..=2.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use crate::selection::Selection;
use crate::selector::{Context, models};
use std::sync::Arc;
use types::doc::{Node, Reader, Value};

/// Strength where none is given.
const DEFAULT_STRENGTH: f64 = 0.3;

pub(super) const VERB: Verb = Verb {
    name: "prefer",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "strength", "optional"],
    read: |r, node, field, cx| Some(Arc::new(read(r, node, field, cx)?)),
};

pub(super) const AVOID: Verb = Verb {
    name: "avoid",
    read: |r, node, field, cx| {
        let Prefer(list) = read(r, node, field, cx)?;
        Some(Arc::new(Prefer(list.into_iter().map(|(models, strength)| (models, -strength)).collect())))
    },
    ..VERB
};

/// One or several preferences; strengths below 0 avoid.
#[derive(Debug)]
struct Prefer(Vec<(Selection, f64)>);

fn read(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Prefer> {
    if let Value::List(items) = &node.value
        && items.first().is_some_and(|i| i.get("models").is_some())
    {
        let each = items.iter().enumerate();
        let each = each.map(|(i, item)| one(r, item, &format!("{field}[{i}]"), cx)).collect::<Vec<_>>();
        return each.into_iter().collect::<Option<Vec<_>>>().map(Prefer);
    }
    Some(Prefer(vec![one(r, node, field, cx)?]))
}

fn one(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<(Selection, f64)> {
    if node.get("models").is_none() && node.get("strength").is_none() {
        return Some((models(r, node, field, cx, false)?, DEFAULT_STRENGTH));
    }
    let mut f = r.fields(node, field)?;
    let selectors = f.require(r, "models");
    let strength = match f.take("strength") {
        Some(n) => r.number(n, &f.at("strength"), 0.05, 1.0),
        None => Some(DEFAULT_STRENGTH),
    };
    let optional = f.take("optional").and_then(|n| r.boolean(n, &f.at("optional"))).unwrap_or(false);
    let at = f.at("models");
    f.finish(r);
    Some((models(r, selectors?, &at, cx, optional)?, strength?))
}

impl Action for Prefer {
    fn apply(&self, at: At, merge: &mut Merge) {
        for (models, strength) in &self.0 {
            let models = merge.chosen(models);
            merge.prefer(&models, *strength, at);
        }
    }

    fn selections(&self) -> Vec<&Selection> {
        self.0.iter().map(|(models, _)| models).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;
    use types::matrix::ModelIx;

    #[test]
    fn strengths_add_up_within_their_bounds() {
        let strong = "prefer: { models: [acme/large], strength: 1 }";
        let d = check_verb(&["prefer: [acme/small]", strong, strong, strong], &["applied"; 4]);
        assert_eq!((d.boost_of(ModelIx(0)), d.boost_of(ModelIx(1)), d.boost_of(ModelIx(2))), (0.3, 2.0, 0.0));
    }

    #[test]
    fn what_is_avoided_is_taken_off_what_is_preferred() {
        let d = check_verb(
            &["prefer: [acme/small]", "avoid: { models: [\"acme/*\"], strength: 0.5 }"],
            &["applied"; 2],
        );
        assert!((d.boost_of(ModelIx(0)) + 0.2).abs() < 1e-9 && d.boost_of(ModelIx(1)) == -0.5);
    }

    #[test]
    fn several_preferences_stand_in_one_list() {
        let d = check_verb(
            &["prefer: [{ models: acme/small, strength: 0.5 }, { models: acme/large, strength: 0.25 }]"],
            &["applied"],
        );
        assert_eq!((d.boost_of(ModelIx(0)), d.boost_of(ModelIx(1))), (0.5, 0.25));
    }

    #[test]
    fn an_optional_selector_may_match_nothing() {
        let d = check_verb(
            &["prefer: { models: [gone/model], optional: true }"],
            &["no effect: it matches no model"],
        );
        assert!(d.boost.is_empty());
    }
}
