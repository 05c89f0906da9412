//! The numbers of routing, from the sections `utility` and `exploration` of `routing_rules.yaml`.

use std::time::Duration;
use types::axis::{EconomicPolicy, LatencyClass, PrecisionSensitivity};
use types::directives::TermWeights;
use types::doc::{Node, Reader};

/// Weights of the utility's terms, each 0 or more: exponents of the factors, and what the price is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Weights {
    /// w1: exponent of P⁺.
    pub success: f64,
    /// w2: exponent of Q.
    pub quality: f64,
    /// w3: exponent of S.
    pub schema: f64,
    /// w4: multiplies the price λ·cost/cost_ref, which is subtracted; no exponent.
    pub cost: f64,
    /// w5: exponent of L.
    pub latency: f64,
    /// w6: exponent of the safety factor.
    pub safety: f64,
}

/// The numbers of routing.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Weights, per economic policy in the order of the axis.
    pub weights: [Weights; 3],
    /// Multipliers of these, per precision sensitivity in the order of the axis. Default 1 each.
    pub precision: [TermWeights; 3],
    /// λ, likewise: 0.5 cheapest, 0.2 balanced, 0.05 best_possible.
    pub lambda: [f64; 3],
    /// Time to first content that halves L, per latency class: 3 s, 30 s, 300 s.
    pub latency_budget: [Duration; 3],
    /// ε: share of choices that are randomised. Default 0.05.
    pub epsilon: f64,
    /// Arms, at most, that a randomised choice is drawn from. Default 3.
    pub explore_arms: usize,
    /// Share of the best arm's utility, 0..=1, that an arm has to reach to be one of them. Default 0.8.
    pub explore_within: f64,
    /// β of the UCB bonus β·doubt, in standard deviations of what is believed. Default 0.6.
    pub beta: f64,
    /// β while a family has fewer than `young` outcomes, and for a model that was seen to change. Default 0.6.
    pub beta_young: f64,
    /// Outcomes of a family below which `beta_young` is in force. Default 30.
    pub young: u64,
    /// Confidence of the profile below which nothing is explored. Default 0.5.
    pub min_confidence: f64,
    /// What exploring may add to a tenant's spend, as a share of it. Default 0.02.
    pub budget: f64,
    /// What leaving a session's model costs beside its lost prompt cache, in points of success: conversion of the
    /// transcript, and an answer in another voice. Default 0.01.
    pub switch: f64,
    /// Cost that counts as 1, in dollars; `None` = for each request that of the model with the best prior.
    pub cost_ref: Option<f64>,
}

impl Default for Config {
    fn default() -> Self {
        let weights = |quality, cost, latency| Weights {
            success: 1.0,
            quality,
            schema: 1.0,
            cost,
            latency,
            safety: 1.0,
        };
        Config {
            weights: [weights(0.25, 1.0, 0.1), weights(0.5, 1.0, 0.2), weights(1.0, 1.0, 0.1)],
            precision: [TermWeights::default(); 3],
            lambda: [0.5, 0.2, 0.05],
            latency_budget: [Duration::from_secs(3), Duration::from_secs(30), Duration::from_secs(300)],
            epsilon: 0.05,
            explore_arms: 3,
            explore_within: 0.8,
            beta: 0.6,
            beta_young: 0.6,
            young: 30,
            min_confidence: 0.5,
            budget: 0.02,
            switch: 0.01,
            cost_ref: None,
        }
    }
}

impl Config {
    /// From the two sections; what is absent keeps its default, what is wrong is noted.
    pub(crate) fn lower(r: &mut Reader<'_>, utility: Option<&Node>, exploration: Option<&Node>) -> Self {
        let mut c = Config::default();
        if let Some(mut f) = utility.and_then(|n| r.fields(n, "utility")) {
            if let Some(mut w) = f.take("weights").and_then(|n| r.fields(n, "utility.weights")) {
                for (name, slot) in EconomicPolicy::NAMES.iter().copied().zip(&mut c.weights) {
                    if let Some(n) = w.take(name) {
                        weights(r, n, &format!("utility.weights.{name}"), slot);
                    }
                }
                w.finish(r);
            }
            if let Some(mut p) = f.take("precision").and_then(|n| r.fields(n, "utility.precision")) {
                for (name, slot) in PrecisionSensitivity::NAMES.iter().copied().zip(&mut c.precision) {
                    if let Some(n) = p.take(name) {
                        multipliers(r, n, &format!("utility.precision.{name}"), slot);
                    }
                }
                p.finish(r);
            }
            if let Some(mut l) = f.take("lambda").and_then(|n| r.fields(n, "utility.lambda")) {
                for (name, slot) in EconomicPolicy::NAMES.iter().copied().zip(&mut c.lambda) {
                    if let Some(x) =
                        l.take(name).and_then(|n| r.number(n, &format!("utility.lambda.{name}"), 0.0, 100.0))
                    {
                        *slot = x;
                    }
                }
                l.finish(r);
            }
            if let Some(mut b) = f.take("latency_budget").and_then(|n| r.fields(n, "utility.latency_budget"))
            {
                for (name, slot) in LatencyClass::NAMES.iter().copied().zip(&mut c.latency_budget) {
                    let Some(n) = b.take(name) else { continue };
                    let field = format!("utility.latency_budget.{name}");
                    if let Some(d) = r.duration(n, &field) {
                        if d.is_zero() {
                            r.error("104", n.span, format!("`{field}` is 0")).expected =
                                Some("more than 0".to_owned());
                        }
                        *slot = d;
                    }
                }
                b.finish(r);
            }
            if let Some(n) = f.take("cost_ref_usd") {
                c.cost_ref = r.number(n, "utility.cost_ref_usd", 1e-12, 1e6);
            }
            f.finish(r);
        }
        if let Some(mut f) = exploration.and_then(|n| r.fields(n, "exploration")) {
            let mut number = |key: &'static str, lo: f64, hi: f64, slot: &mut f64| {
                if let Some(x) = f.take(key).and_then(|n| r.number(n, &format!("exploration.{key}"), lo, hi))
                {
                    *slot = x;
                }
            };
            number("epsilon", 0.0, 0.5, &mut c.epsilon);
            number("within", 0.0, 1.0, &mut c.explore_within);
            number("beta", 0.0, 10.0, &mut c.beta);
            number("beta_young", 0.0, 10.0, &mut c.beta_young);
            number("min_confidence", 0.0, 1.0, &mut c.min_confidence);
            number("budget", 0.0, 1.0, &mut c.budget);
            number("switch", 0.0, 1.0, &mut c.switch);
            if let Some(n) = f.take("arms").and_then(|n| r.integer(n, "exploration.arms", 1, 16)) {
                c.explore_arms = usize::try_from(n).unwrap_or(1);
            }
            if let Some(n) = f.take("young").and_then(|n| r.integer(n, "exploration.young", 0, 1_000_000)) {
                c.young = u64::try_from(n).unwrap_or(0);
            }
            f.finish(r);
        }
        c
    }
}

fn weights(r: &mut Reader<'_>, node: &Node, path: &str, slot: &mut Weights) {
    let Some(mut f) = r.fields(node, path) else { return };
    let mut take = |key: &'static str, slot: &mut f64| {
        if let Some(x) = f.take(key).and_then(|n| r.number(n, &format!("{path}.{key}"), 0.0, 10.0)) {
            *slot = x;
        }
    };
    take("success", &mut slot.success);
    take("quality", &mut slot.quality);
    take("schema", &mut slot.schema);
    take("cost", &mut slot.cost);
    take("latency", &mut slot.latency);
    take("safety", &mut slot.safety);
    f.finish(r);
}

fn multipliers(r: &mut Reader<'_>, node: &Node, path: &str, slot: &mut TermWeights) {
    let Some(mut f) = r.fields(node, path) else { return };
    for name in TermWeights::NAMES.iter().copied() {
        let read = f.take(name).and_then(|n| r.number(n, &format!("{path}.{name}"), 0.0, 4.0));
        if let (Some(x), Some(weight)) = (read, slot.weight(name)) {
            *weight = x;
        }
    }
    f.finish(r);
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::doc::{SourceFile, parse};

    #[test]
    fn the_document_says_the_defaults() {
        let page = include_str!("../../../docs/configuration.md");
        let c = Config::default();
        for (key, value) in [
            ("epsilon", c.epsilon),
            ("arms", c.explore_arms as f64),
            ("within", c.explore_within),
            ("beta", c.beta),
            ("beta_young", c.beta_young),
            ("young", c.young as f64),
            ("min_confidence", c.min_confidence),
            ("budget", c.budget),
            ("switch", c.switch),
        ] {
            assert!(page.contains(&format!("| `exploration.{key}` | {value} |")), "{key}: {value}");
        }
    }

    #[test]
    fn numbers_are_read_and_every_wrong_one_is_named() {
        let file = SourceFile::new(
            "r.yaml",
            "utility:\n  precision: { high: { cost: 0.25, success: 5 } }\n  lambda: { cheapest: 0.7, cheap: 1 }\n  latency_budget: { batch: 5 }\nexploration: { epsilon: 2, arms: 2 }\n",
        );
        let node = parse(&file, "PL").unwrap();
        let mut r = Reader::new(&file, "PL");
        let c = Config::lower(&mut r, node.get("utility"), node.get("exploration"));
        assert_eq!((c.lambda[0], c.explore_arms), (0.7, 2));
        assert_eq!((c.precision[2].cost, c.precision[2].success, c.precision[1].cost), (0.25, 1.0, 1.0));
        let got: Vec<_> = r.problems.iter().map(|d| (d.code.as_str(), d.line)).collect();
        assert_eq!(got, [("PL104", 2), ("PL101", 3), ("PL111", 4), ("PL104", 5)]);
    }
}
