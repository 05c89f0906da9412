//! `hedge: none` or `{after: duration or p50…p99, max: 1–3}` — a second call beside a slow one.

use super::{Kind, REQUEST, Single, Verb, millis, put};
use types::directives::{Hedge, HedgeAfter};
use types::doc::{Node, Reader};

/// When, where nothing is said.
const DEFAULT_PERCENTILE: u8 = 95;

pub(super) const VERB: Verb = Verb {
    name: "hedge",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["after", "max"],
    read: |r, node, field, _| {
        let hedge = if node.as_str() == Some("none") {
            Hedge { after: HedgeAfter::Percentile(DEFAULT_PERCENTILE), max: 0 }
        } else {
            let mut f = r.fields(node, field)?;
            let after = f
                .take("after")
                .map_or(Some(HedgeAfter::Percentile(DEFAULT_PERCENTILE)), |n| after(r, n, &f.at("after")));
            let max = f.take("max").map_or(Some(1), |n| r.integer(n, &f.at("max"), 1, 3));
            f.finish(r);
            Hedge { after: after?, max: u8::try_from(max?).unwrap_or(1) }
        };
        put(hedge, |m, v, at| m.single(|m| &mut m.further().hedge, v, at))
    },
};

/// `500ms`, or `p95`.
fn after(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<HedgeAfter> {
    let percentile = node.as_str().and_then(|s| s.strip_prefix('p')).and_then(|p| p.parse::<u8>().ok());
    match percentile {
        Some(p @ 50..=99) => Some(HedgeAfter::Percentile(p)),
        Some(_) => {
            r.wrong_type(node, field, "a duration, or p50 to p99");
            None
        }
        None => millis(r, node, field).map(HedgeAfter::Ms),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn none_is_a_value_like_any_other() {
        let d =
            check_verb(&["hedge: none", "hedge: { after: 500ms, max: 2 }"], &["applied", "overridden by r0"]);
        assert_eq!(d.further.unwrap().hedge.unwrap().value.max, 0);
    }
}
