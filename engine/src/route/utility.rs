//! Expected utility of an arm: a product of factors, each kept for the record.

use super::Weights;
use types::decision::Terms;
use types::directives::TermWeights;

/// U = P⁺^w1 · Q^w2 · S^w3 · cost^w4 · L^w5 · safety^w6 · preference · circuit · budget (`routing.md` §5).
///
/// P⁺ = min(1, P + bonus): the bonus sits inside the probability, where it is on scale. A factor that is not
/// known is 1. `multipliers` are the policies' and scale the exponents.
pub(crate) fn utility(t: &Terms, w: &Weights, multipliers: &TermWeights) -> f64 {
    let power = |x: f64, weight: f64, multiplier: f64| {
        let e = weight * multiplier;
        // Most exponents are 1 or 0, and `powf` is the dearest operation here.
        if e == 1.0 || x == 1.0 {
            x
        } else if e == 0.0 {
            1.0
        } else {
            x.powf(e)
        }
    };
    power(t.optimistic, w.success, multipliers.success)
        * power(t.quality, w.quality, multipliers.quality)
        * power(t.schema, w.schema, multipliers.schema)
        * power(t.cost, w.cost, multipliers.cost)
        * power(t.latency, w.latency, multipliers.latency)
        * power(t.safety, w.safety, multipliers.safety)
        * t.preference
        * t.circuit
        * t.budget
}

/// exp(−λ·cost/cost_ref); 1 when nothing costs anything or the price is unknown.
pub(crate) fn cost_factor(lambda: f64, cost: Option<f64>, reference: f64) -> f64 {
    match cost {
        Some(c) if reference > 0.0 => (-lambda * c / reference).exp(),
        _ => 1.0,
    }
}

/// L = 1 / (1 + p95_ttft / budget).
pub(crate) fn latency_factor(p95_ttft_ms: f64, budget_ms: f64) -> f64 {
    1.0 / (1.0 + p95_ttft_ms.max(0.0) / budget_ms.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Config;
    use proptest::prelude::*;

    fn terms(p: f64, cost: f64, ttft: f64) -> Terms {
        Terms {
            success: p,
            bonus: 0.0,
            optimistic: p,
            quality: 0.8,
            schema: 0.9,
            cost: cost_factor(0.2, Some(cost), 1.0),
            latency: latency_factor(ttft, 3_000.0),
            safety: 1.0,
            preference: 1.0,
            circuit: 1.0,
            budget: 1.0,
            price: 0.0,
            prior: 0.0,
        }
    }

    proptest! {
        #[test]
        fn it_rises_with_success_and_falls_with_cost_and_latency(p in 0.01_f64..0.98, c in 0.0_f64..10.0, l in 1.0_f64..1e5, d in 0.01_f64..1.0) {
            for w in Config::default().weights {
                let m = TermWeights::default();
                let u = |p, c, l| utility(&terms(p, c, l), &w, &m);
                prop_assert!(u((p + d).min(1.0), c, l) > u(p, c, l));
                prop_assert!(u(p, c + d, l) < u(p, c, l));
                prop_assert!(u(p, c, l * (1.0 + d)) < u(p, c, l));
            }
        }
    }

    #[test]
    fn an_unknown_price_is_no_advantage_over_a_free_model_and_no_penalty() {
        assert_eq!(cost_factor(0.5, None, 1.0), cost_factor(0.5, Some(0.0), 1.0));
        assert_eq!(cost_factor(0.5, Some(1.0), 0.0), 1.0);
    }
}
