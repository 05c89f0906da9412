//! The shipped rules, pools and policies load and do what they say.

use crate::Phase;
use crate::SHIPPED;
use crate::testing::{load_text, profile, scope_of, sound};
use types::axis::{DeterminismNeeds, EconomicPolicy, LatencyClass, SafetyPosture};
use types::profile::Scored;

const RULES: &str = include_str!("../../../routing_rules.yaml");

#[test]
fn they_load_without_a_word() {
    let (set, problems) = load_text(RULES, SHIPPED);
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!(set.pools()["default"].iter().count(), 4);
}

#[test]
fn an_ordinary_request_is_left_alone_and_the_example_only_watched() {
    let d = sound(RULES, SHIPPED).evaluate_now(Phase::Request, &scope_of(&profile())).unwrap();
    assert!(
        d.denials.is_empty() && d.removed.is_empty() && d.cap_temperature.is_none() && d.cap_cost.is_none()
    );
    assert_eq!(d.weights, types::directives::TermWeights::default());
    assert!(
        d.rules.iter().any(|r| &*r.id == "spend_guard" && r.result == types::directives::RuleResult::Shadow)
    );
}

#[test]
fn the_example_caps_far_away_once_it_is_enforced() {
    let (name, text) = SHIPPED[0];
    let enforced = text.replace("mode: \"shadow\"", "mode: \"enforce\"");
    let set = sound(RULES, &[(name, &enforced)]);
    assert!(
        set.evaluate_now(Phase::Request, &scope_of(&profile())).unwrap().cap_cost.unwrap().value.dollars()
            > 1.0
    );
    let mut p = profile();
    p.economic_policy = Scored::certain(EconomicPolicy::Cheapest);
    let d = set.evaluate_now(Phase::Request, &scope_of(&p)).unwrap();
    assert!(d.cap_cost.unwrap().value.dollars() < 0.3);
    assert_eq!(d.weights.cost, 1.5);
}

#[test]
fn each_rule_has_its_effect() {
    let set = sound(RULES, SHIPPED);
    let mut p = profile();
    p.determinism_needs = Scored::certain(DeterminismNeeds::Strict);
    p.safety_posture = Scored::certain(SafetyPosture::LockedDown);
    p.latency_class = Scored::certain(LatencyClass::Batch);
    let d = set.evaluate_now(Phase::Request, &scope_of(&p)).unwrap();
    assert_eq!(d.cap_temperature.unwrap().value, 0.0);
    assert_eq!((d.weights.safety, d.weights.latency), (2.0, 0.25));
}
