//! `hedge: {after, max}` or `none` — further calls beside a slow one of the primary `generate` node.

use super::{Kind, REQUEST, Single, Verb, count, put};
use types::directives::{HedgeAfter, HedgeRule};

pub(super) const VERB: Verb = Verb {
    name: "hedge",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["after", "max"],
    read: |r, node, field, _| {
        let rule = match node.as_str() {
            Some("none") => HedgeRule::None,
            Some(_) => {
                r.wrong_type(node, field, "`none`, or {after, max}");
                return None;
            }
            None => {
                let mut f = r.fields(node, field)?;
                let after = f.require(r, "after").and_then(|n| HedgeAfter::read(r, n, &f.at("after")));
                let max = f.take("max").map_or(Some(1), |n| count(r, n, &f.at("max"), 1, 3));
                f.finish(r);
                HedgeRule::Begin { after: after?, max: max? }
            }
        };
        put(rule, |m, v, at| m.single(|m| &mut m.further().hedge, v, at))
    },
};

#[cfg(test)]
mod tests {
    use crate::testing::{check_rules, check_verb};
    use types::directives::{Directives, HedgeAfter, HedgeRule};

    fn hedge(d: &Directives) -> Option<HedgeRule> {
        d.further.as_ref().and_then(|f| f.hedge.as_ref()).map(|s| s.value)
    }

    #[test]
    fn one_of_them_counts_and_none_needs_no_call() {
        let begin = |after, max| Some(HedgeRule::Begin { after, max });
        let d = check_verb(&["hedge: { after: p95, max: 3 }"], &["applied"]);
        assert_eq!(hedge(&d), begin(HedgeAfter::Percentile(95), 3));
        let d = check_rules(
            "- { id: a, actions: { hedge: { after: 1.5s } } }\n- { id: b, priority: 5, actions: { hedge: none } }",
            &["overridden by b", "applied"],
        );
        assert_eq!(hedge(&d), Some(HedgeRule::None));
        let d = check_verb(
            &["hedge: { after: 2s }", "cap_calls: 2", "hedge: none"],
            &["applied", "applied", "overridden by r0"],
        );
        assert_eq!(hedge(&d), begin(HedgeAfter::Ms(2_000), 1));
        let none_left = "no effect: `cap_calls` leaves no call for it";
        let d = check_verb(&["hedge: { after: 2s }", "cap_calls: 1"], &[none_left, "applied"]);
        assert_eq!(hedge(&d), None);
        let d = check_verb(
            &["hedge: { after: 2s }", "cap_calls: 3", "fanout: 3"],
            &[none_left, "applied", "applied"],
        );
        assert_eq!(hedge(&d), None);
        let d = check_verb(&["hedge: none", "cap_calls: 1"], &["applied", "applied"]);
        assert_eq!(hedge(&d), Some(HedgeRule::None));
    }
}
