//! What a success may cost.

use types::Options;
use types::axis::EconomicPolicy;
use types::options::Mode;
use types::profile::Scored;

/// Scores cheapest, balanced, best_possible. The option `economy` wins over the model names `auto:cheapest`,
/// `auto:balanced` and `auto:best`; both are explicit. The text says nothing about money.
pub(crate) fn score(model: &str, options: &Options) -> Scored<EconomicPolicy> {
    let named = match model {
        "auto:cheapest" => Some(EconomicPolicy::Cheapest),
        "auto:balanced" => Some(EconomicPolicy::Balanced),
        "auto:best" => Some(EconomicPolicy::BestPossible),
        _ => None,
    };
    if let Some(value) = options.economy.or(named) {
        return Scored::explicit(value);
    }
    let (mut cheapest, mut best) = (0.2_f32, 0.2_f32);
    if options.mode == Some(Mode::Free) {
        cheapest += 1.5;
    }
    if options.min_quality_tier == Some(3) || options.min_quality.is_some_and(|q| q.get() >= 0.9) {
        best += 1.5;
    }
    Scored::from_weights(&[cheapest, 1.0, best])
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::body;
    use serde_json::{Value, json};
    use types::axis::EconomicPolicy::{self, Balanced, BestPossible, Cheapest};

    fn check(model: &str, routing: &Value, expected: EconomicPolicy, explicit: bool) {
        let p = body(
            json!({"model": model, "messages": [{"role": "user", "content": "Hi"}], "routing": routing}),
        );
        assert_eq!(
            (p.economic_policy.value, p.economic_policy.explicit),
            (expected, explicit),
            "{model} {routing}"
        );
    }

    #[test]
    fn names_and_options() {
        check("auto", &json!({}), Balanced, false);
        check("auto:cheapest", &json!({}), Cheapest, true);
        check("auto:balanced", &json!({}), Balanced, true);
        check("auto:best", &json!({}), BestPossible, true);
        check("auto:best", &json!({"economy": "cheapest"}), Cheapest, true);
        check("auto", &json!({"mode": "free"}), Cheapest, false);
        check("auto", &json!({"min_quality_tier": 3}), BestPossible, false);
    }
}
