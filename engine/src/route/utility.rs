//! Expected utility of an arm: a product of factors less what its cost is worth, each kept for the record.

use super::Weights;
use types::decision::Terms;
use types::directives::TermWeights;

/// V = P⁺^w1 · Q^w2 · S^w3 · L^w5 · safety^w6 · in_time · preference · circuit, and U = V − price − switching.
///
/// P⁺ = min(1, P + bonus): the bonus sits inside the probability, where it is on scale. Q, S, L and safety stand
/// relative to the best arm (see [`level`]), so that V stays on the scale of a probability and λ keeps its
/// meaning: 0.2 says that the reference model's price is worth 20 points of success, whether success is likely
/// or not. A product with exp(−λ·cost) would pay the same price for a tenth of the points where success is
/// unlikely; on recorded outcomes that costs one to three points of reward (docs/routing.md).
///
/// in_time is the chance of an answer within the ceiling on its time, where there is one: one that comes later is
/// cut off, and nobody has it.
///
/// What is left of budgets is no factor: it is the same for all arms of a request, so that it would do nothing but raise λ
/// towards the end of each day and month, for those who spend as planned as well (docs/routing.md).
///
/// `multipliers` are the policies' and scale the exponents; that of the cost scales the price.
pub(crate) fn utility(t: &Terms, w: &Weights, multipliers: &TermWeights) -> f64 {
    value(t, w, multipliers) - t.price - t.switching
}

/// The utility without the bonus, and how far that may be off where success may be by `doubt`, both as standard deviations;
/// `exponent` is that of success: V ∝ P^e, so that dV = e·V/P·dP.
pub(crate) fn believed(utility: f64, t: &Terms, exponent: f64, doubt: f64) -> (f64, f64) {
    if t.success <= 0.0 || t.optimistic <= 0.0 {
        return (utility, doubt);
    }
    let costs = t.price + t.switching;
    let value = (utility + costs) * (t.success / t.optimistic).powf(exponent);
    (value - costs, exponent * value / t.success * doubt)
}

fn value(t: &Terms, w: &Weights, multipliers: &TermWeights) -> f64 {
    let power = |x: f64, weight: f64, multiplier: f64| {
        let e = weight * multiplier;
        // Most exponents are 1, 0 or a half, and `powf` is the dearest operation here.
        if e == 1.0 || x == 1.0 {
            x
        } else if e == 0.0 {
            1.0
        } else if e == 0.5 {
            x.sqrt()
        } else {
            x.powf(e)
        }
    };
    power(t.optimistic, w.success, multipliers.success)
        * power(t.quality, w.quality, multipliers.quality)
        * power(t.schema, w.schema, multipliers.schema)
        * power(t.latency, w.latency, multipliers.latency)
        * power(t.safety, w.safety, multipliers.safety)
        * t.in_time
        * t.preference
        * t.circuit
}

/// λ·weight·cost/cost_ref: what a cost is worth in points of success; 0 when nothing costs anything or the price
/// is unknown.
pub(crate) fn price(lambda: f64, weight: f64, cost: Option<f64>, reference: f64) -> f64 {
    match cost {
        Some(c) if reference > 0.0 => lambda * weight * c / reference,
        _ => 0.0,
    }
}

/// L = 1 / (1 + p95_ttft / budget).
pub(crate) fn latency_factor(p95_ttft_ms: f64, budget_ms: f64) -> f64 {
    1.0 / (1.0 + p95_ttft_ms.max(0.0) / budget_ms.max(1.0))
}

/// Puts Q, S, L and safety of all arms on the scale of the best one: 1 for that. What all arms share would otherwise
/// make success look cheaper than it is.
pub(crate) fn level<T>(arms: &mut [T], terms: impl Fn(&mut T) -> &mut Terms) {
    let best = arms.iter_mut().map(&terms).fold([0.0_f64; 4], |[q, s, l, o], t| {
        [q.max(t.quality), s.max(t.schema), l.max(t.latency), o.max(t.safety)]
    });
    // Where no arm has any of a factor, there is nothing to compare.
    let [q, s, l, o] = best.map(|x| if x > 0.0 { x } else { 1.0 });
    for t in arms.iter_mut().map(terms) {
        (t.quality, t.schema, t.latency, t.safety) =
            (t.quality / q, t.schema / s, t.latency / l, t.safety / o);
    }
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
            cost: 1.0,
            latency: latency_factor(ttft, 3_000.0),
            safety: 1.0,
            in_time: 1.0,
            preference: 1.0,
            circuit: 1.0,
            price: price(0.2, 1.0, Some(cost), 1.0),
            switching: 0.0,
            prior: p,
            strength: 8.0,
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

        #[test]
        fn what_is_believed_is_the_utility_without_its_bonus(p in 0.05_f64..0.9, bonus in 0.0_f64..0.1, c in 0.0_f64..2.0, by in 0.2_f64..2.0) {
            let w = Config::default().weights[1];
            let m = TermWeights { success: by, ..TermWeights::default() };
            let t = Terms { optimistic: p + bonus, ..terms(p, c, 100.0) };
            let (plain, doubt) = believed(utility(&t, &w, &m), &t, w.success * by, 0.001);
            prop_assert!((plain - utility(&terms(p, c, 100.0), &w, &m)).abs() < 1e-9);
            let more = Terms { optimistic: p + 0.001, ..t };
            let less = Terms { optimistic: p - 0.001, ..t };
            prop_assert!((2.0 * doubt - (utility(&more, &w, &m) - utility(&less, &w, &m))).abs() < 1e-4);
        }

        #[test]
        fn what_all_arms_share_changes_no_utility(p in 0.1_f64..0.9, q in 0.2_f64..1.0, c in 0.0_f64..2.0) {
            let mut plain = [terms(p, c, 100.0), terms(p / 2.0, c / 2.0, 100.0)];
            let mut dimmed = plain.map(|t| Terms { quality: t.quality * q, schema: t.schema * q, safety: t.safety * q, ..t });
            level(&mut plain, |t| t);
            level(&mut dimmed, |t| t);
            for (a, b) in plain.iter().zip(&dimmed) {
                let (w, m) = (Config::default().weights[1], TermWeights::default());
                prop_assert!((utility(a, &w, &m) - utility(b, &w, &m)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn an_unknown_price_is_no_advantage_over_a_free_model_and_no_penalty() {
        assert_eq!(price(0.5, 1.0, None, 1.0), price(0.5, 1.0, Some(0.0), 1.0));
        assert_eq!(price(0.5, 1.0, Some(1.0), 0.0), 0.0);
    }

    #[test]
    fn lambda_is_the_points_of_success_that_the_reference_price_is_worth() {
        let w = Weights { quality: 0.0, schema: 0.0, latency: 0.0, ..Config::default().weights[1] };
        let u = |p, c| utility(&terms(p, c, 1.0), &w, &TermWeights::default());
        for p in [0.1, 0.5, 0.8] {
            assert!((u(p + 0.2, 1.0) - u(p, 0.0)).abs() < 1e-9, "whether success is likely or not");
        }
    }
}
