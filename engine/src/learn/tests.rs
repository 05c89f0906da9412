//! Laws of learning as a whole.

use super::*;
use crate::outcome::tests::sample;
use types::axis::{AxisValue, OutputContract, TaskFamily};
use types::outcome::{Basis, CallObservation, Feedback, Outcome, RewardParts, Status};
use types::store::Observer;
use types::{Features, UnitInterval, Usd};

fn saving() -> (Learner, Statistics) {
    learner(Limits { save_every: 1, ..Limits::default() })
}

/// Numbers that differ from request to request, the same every time.
fn features(i: u64) -> Features {
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut values = [0.0; Features::COUNT];
    for v in &mut values {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *v = (x % 6_000) as f32 / 1_000.0 - 3.0;
    }
    Features::from_values(&values)
}

fn outcome(i: u64, model: &str, reward: f64) -> Outcome {
    let mut o = sample("w", model, reward);
    o.request_id = format!("req_{i}");
    o.basis = Some(Basis {
        features: features(i),
        prior: 0.6,
        strength: 8.0,
        forecast_usd: Some(Usd::from_dollars(0.01)),
    });
    o.cost_usd = Usd::from_dollars(0.02);
    o
}

fn belief(s: &Snapshot, i: u64, model: &str) -> Belief {
    belief_of(s, i, model, "default")
}

fn belief_of(s: &Snapshot, i: u64, model: &str, tenant: &str) -> Belief {
    let at = s.locate(&Point::new(features(i), TaskFamily::Extraction, None), tenant);
    s.believe(&at, &s.seat(s.place_of("w", model), s.model(model), 8.0), 0.6, true)
}

/// A stream in which `p/a` does well where the sixth number is high and `p/b` where it is low.
fn taught(n: u64) -> (Learner, Statistics) {
    let (mut l, stats) = saving();
    for i in 0..n {
        let (model, high) = (if i % 2 == 0 { "p/a" } else { "p/b" }, features(i).steps()[5] > 0);
        l.outcome(i, &outcome(i, model, if high == (model == "p/a") { 1.0 } else { 0.0 }));
    }
    l.batch_done();
    (l, stats)
}

#[test]
fn what_is_learned_after_a_restart_equals_what_was_learned_before() {
    let (mut a, stats) = taught(300);
    let word = Feedback {
        request_id: "req_7".into(),
        ts_ms: 1,
        score: UnitInterval::clamped(0.25),
        reason: None,
        source: "user".into(),
        principal: String::new(),
    };
    a.feedback(300, &outcome(7, "p/b", 0.0), &[word]);
    let state = a.batch_done().expect("a state");
    let (mut b, again) = saving();
    b.restore(&state).unwrap();
    assert_eq!(stats.load().version, again.load().version);
    let same = |x: &Snapshot, y: &Snapshot| {
        for i in 0..50 {
            for m in ["p/a", "p/b", "p/c"] {
                assert_eq!(belief(x, i, m), belief(y, i, m), "{m} on {i}");
            }
        }
    };
    same(&stats.load(), &again.load());
    // And they go on alike.
    for i in 300..400 {
        let o = outcome(i, if i % 3 == 0 { "p/a" } else { "p/c" }, f64::from(i % 2 == 0));
        a.outcome(i, &o);
        b.outcome(i, &o);
    }
    a.batch_done();
    b.batch_done();
    same(&stats.load(), &again.load());
    assert_eq!(a.save(), b.save());
    assert!(b.restore(b"{}").is_err() && b.restore(&state[..state.len() / 2]).is_err());
}

#[test]
fn beliefs_follow_what_requests_have_in_common() {
    let (_, stats) = taught(1_200);
    let s = stats.load();
    let (mut right, mut n) = (0, 0);
    for i in 5_000..5_200 {
        let (a, b) = (belief(&s, i, "p/a").mean, belief(&s, i, "p/b").mean);
        right += i32::from((a > b) == (features(i).steps()[5] > 0));
        n += 1;
    }
    assert!(f64::from(right) / f64::from(n) > 0.85, "{right} of {n} unseen requests");
}

#[test]
fn doubt_shrinks_where_an_arm_has_been_tried_and_an_unknown_arm_is_all_doubt() {
    let (_, few) = taught(20);
    let (_, many) = taught(800);
    let (few, many) = (few.load(), many.load());
    for i in 5_000..5_020 {
        assert!(belief(&many, i, "p/a").doubt < belief(&few, i, "p/a").doubt);
        let unknown = belief(&many, i, "p/c");
        // Only what all arms make of such requests moves it.
        assert!(unknown.doubt > 0.2 && (unknown.mean - 0.6).abs() < 0.2 && unknown.n == 0.0, "{unknown:?}");
        assert!(belief(&many, i, "p/a").sd() < unknown.sd());
    }
}

#[test]
fn a_belief_rests_on_no_more_outcomes_than_there_were() {
    let (_l, stats) = taught(3_000);
    let s = stats.load();
    for model in ["p/a", "p/b"] {
        let held = s.arm("w", model).expect("learned of").total.n;
        for i in 0..200 {
            let b = belief(&s, i, model);
            assert!(b.n <= held, "{} outcomes of {held}", b.n);
            let least = (b.mean * (1.0 - b.mean) / (8.0 + held + 1.0)).sqrt();
            assert!(b.sd() >= least - 1e-12, "surer than {held} outcomes make one: {} < {least}", b.sd());
        }
    }
}

#[test]
fn more_success_raises_belief_and_more_cost_the_expected_cost() {
    let run = |reward: f64, dollars: f64| {
        let (mut l, stats) = saving();
        for i in 0..40 {
            let mut o = outcome(i, "p/a", reward);
            o.cost_usd = Usd::from_dollars(dollars);
            l.outcome(i, &o);
        }
        l.batch_done();
        belief(&stats.load(), 3, "p/a")
    };
    let (low, high) = (run(0.3, 0.02), run(0.9, 0.05));
    assert!(low.mean < 0.6 && high.mean > 0.6, "{low:?} {high:?}");
    assert!((low.cost - 2.0).abs() < 0.4 && (high.cost - 5.0).abs() < 1.0, "{} {}", low.cost, high.cost);
}

#[test]
fn feedback_counts_an_outcome_once_and_moves_it() {
    let (mut l, stats) = saving();
    let mut o = outcome(1, "p/a", 0.0);
    o.reward = None;
    o.parts = RewardParts::default();
    l.outcome(1, &o);
    let word = |score: f64| Feedback {
        request_id: o.request_id.clone(),
        ts_ms: 0,
        score: UnitInterval::clamped(score),
        reason: None,
        source: "user".into(),
        principal: String::new(),
    };
    let first = l.feedback(2, &o, &[word(1.0)]);
    let second = l.feedback(3, &first, &[word(0.25)]);
    l.batch_done();
    let c = stats.load().arm("w", "p/a").expect("learned").total;
    assert_eq!((c.n, c.s), (1.0, 0.25));
    assert_eq!(second.reward, UnitInterval::new(0.25));
}

#[test]
fn one_loud_source_among_many_moves_an_arm_within_its_bound() {
    let run = |loud: u64| {
        let (mut l, stats) = saving();
        let say = |l: &mut Learner, i: u64, principal: String, score: f64| {
            let mut o = outcome(i, "p/a", 0.0);
            o.reward = None;
            o.parts = RewardParts::default();
            let word = Feedback {
                request_id: o.request_id.clone(),
                ts_ms: 0,
                score: UnitInterval::clamped(score),
                reason: None,
                // As many names as words: it is who says it that counts.
                source: format!("source-{i}"),
                principal,
            };
            l.feedback(i, &o, &[word]);
        };
        for i in 0..200 {
            say(&mut l, i, format!("key-{}", i % 50), 0.8);
        }
        for i in 200..200 + loud {
            say(&mut l, 2 * i, "key-0".to_owned(), 0.4);
            say(&mut l, 2 * i + 1, format!("key-{}", 1 + i % 49), 0.8);
        }
        l.batch_done();
        let s = stats.load();
        let arm = s.arm("w", "p/a").expect("learned");
        [arm.total, arm.quality, s.opinion].map(|c| c.s / c.n)
    };
    // Five per cent of the sample, each 0.4 away from what the others say.
    for (quiet, loud) in run(0).into_iter().zip(run(2_000)) {
        assert!(quiet - loud <= 0.021 && quiet - loud > 0.0, "{quiet} {loud}");
    }
}

fn word(request_id: &str, principal: &str, score: f64) -> Feedback {
    Feedback {
        request_id: request_id.to_owned(),
        ts_ms: 0,
        score: UnitInterval::clamped(score),
        reason: None,
        source: "user".into(),
        principal: principal.to_owned(),
    }
}

/// An outcome whose contract held as far as `reward` says, or that nothing is known of.
fn hard(i: u64, reward: Option<f64>) -> Outcome {
    let mut o = outcome(i, "p/a", reward.unwrap_or_default());
    if reward.is_none() {
        (o.reward, o.parts) = (None, RewardParts::default());
    }
    o
}

/// A learner to which 40 keys have spoken of `p/a`, and of whom `key-0` may say no more.
fn spoken_to() -> (Learner, Statistics) {
    let (mut l, stats) = saving();
    for i in 0..400 {
        let (o, key) = (hard(i, None), format!("key-{}", i % 40));
        l.outcome(i, &o);
        l.feedback(i, &o, &[word(&o.request_id, &key, 0.8)]);
    }
    for i in 400..500 {
        let o = hard(i, None);
        l.outcome(i, &o);
        l.feedback(i, &o, &[word(&o.request_id, "key-0", 0.8)]);
    }
    (l, stats)
}

#[test]
fn a_word_that_was_kept_out_has_no_part_in_what_others_say() {
    let learned = |reward: Option<f64>, loud: &[f64], honest: f64| {
        let (mut l, stats) = spoken_to();
        let told = hard(900, reward);
        l.outcome(900, &told);
        // What the outcome made room for is taken.
        for i in 500..520 {
            let o = hard(i, None);
            l.feedback(i, &o, &[word(&o.request_id, "key-0", 0.8)]);
        }
        l.batch_done();
        let before = stats.load().arm("w", "p/a").expect("learned of").clone();
        let (mut o, mut said) = (told, Vec::new());
        for score in loud {
            said.push(Feedback { source: format!("s-{}", said.len()), ..word("req_900", "key-0", *score) });
            o = l.feedback(900, &o, &said);
        }
        l.batch_done();
        assert_eq!(stats.load().arm("w", "p/a"), Some(&before), "what is beyond the bound is not learned");
        said.push(word("req_900", "key-1", honest));
        o = l.feedback(900, &o, &said);
        l.batch_done();
        let after = stats.load().arm("w", "p/a").expect("learned of").clone();
        let feedback = o.parts.feedback.expect("on record");
        (after.total.n - before.total.n, after.total.s - before.total.s, after.quality, feedback)
    };
    for reward in [Some(1.0), Some(0.0), None] {
        for honest in [0.0, 0.3, 1.0] {
            let alone = learned(reward, &[], honest);
            for loud in [&[0.0][..], &[1.0], &[0.0, 1.0]] {
                let beside = learned(reward, loud, honest);
                assert_eq!(
                    (beside.0, beside.1, beside.2),
                    (alone.0, alone.1, alone.2),
                    "{reward:?} {loud:?} {honest}"
                );
            }
            assert_eq!(alone.3, honest);
        }
    }
    // On record is what was said.
    assert_eq!(learned(Some(1.0), &[0.0], 1.0).3, 0.5);
    // The contract held and somebody is not content: half of the reward goes. Nothing was known: it is one outcome more.
    assert!((learned(Some(1.0), &[0.0], 0.0).1 + 0.5).abs() < 1e-12);
    let (n, ..) = learned(None, &[0.0], 0.0);
    assert!(n > 0.0, "{n}");
}

#[test]
fn a_word_that_is_half_heard_is_half_learned_and_the_rest_can_follow() {
    let (mut l, stats) = saving();
    let o = hard(1, None);
    l.outcome(1, &o);
    let mut learned = words::told(&o, 1.0);
    let said = |score: f64| Outcome {
        reward: UnitInterval::new(score),
        parts: RewardParts { feedback: Some(score), ..RewardParts::default() },
        ..o.clone()
    };
    let now = |l: &mut Learner| {
        l.batch_done();
        let s = stats.load();
        let arm = s.arm("w", "p/a").expect("learned of");
        (arm.total.n, arm.total.s, arm.quality.n, arm.quality.s)
    };
    l.move_towards(&said(1.0), &"p/a".into(), 0.5, &mut learned);
    assert_eq!(now(&mut l), (0.5, 0.5, 0.5, 0.5));
    l.move_towards(&said(0.5), &"p/a".into(), 1.0, &mut learned);
    let (n, s, rated, opinion) = now(&mut l);
    // What is counted anew ages what was counted before it, by the part that it is of an outcome.
    assert!((n - 1.0).abs() < 0.01 && (s - 0.5).abs() < 0.01, "{n} {s}");
    assert!((rated - 0.5).abs() < 0.01 && (opinion - 0.25).abs() < 0.01, "{rated} {opinion}");
    assert_eq!((learned.counted, learned.reward), (1.0, 0.5));
}

/// Q is what is thought of successes: two arms whose successes please alike stand alike, however rare these are.
#[test]
fn quality_is_that_of_successes() {
    let (mut l, stats) = saving();
    for i in 0..400 {
        for (model, fails) in [("p/a", 10), ("p/b", 2)] {
            let o = Outcome { model: model.into(), ..hard(i, None) };
            let mut o = o;
            o.observations[0].model = model.into();
            l.outcome(i, &o);
            l.feedback(i, &o, &[word(&o.request_id, "", f64::from(u8::from(i % fails != 0)))]);
        }
    }
    l.batch_done();
    let s = stats.load();
    let of = |model: &str| s.arm("w", model).expect("learned of").clone();
    let (a, b) = (of("p/a"), of("p/b"));
    assert!(a.total.s / a.total.n > b.total.s / b.total.n + 0.3);
    assert!(a.quality.n > 20.0 && b.quality.n > 20.0);
    assert!((a.quality.posterior(0.8, 8.0) - b.quality.posterior(0.8, 8.0)).abs() < 0.05);
    assert_eq!(s.opinion.s, s.opinion.n, "every success pleased");
}

/// Where people are content by half with what held its contract, an arm that nobody rated is expected to please as little.
#[test]
fn what_is_usual_hears_of_late_words_as_of_early_ones() {
    let (mut l, stats) = saving();
    for i in 0..100 {
        let o = hard(i, Some(1.0));
        l.outcome(i, &o);
        l.feedback(i, &o, &[word(&o.request_id, "", 0.5)]);
    }
    l.batch_done();
    let usual = stats.load().opinion.posterior(0.8, 8.0);
    assert!(usual < 0.6, "{usual}");
}

fn under(s: &Snapshot, prior: f64, strength: f64) -> Belief {
    let at = s.locate(&Point::new(features(1), TaskFamily::Extraction, None), "default");
    s.believe(&at, &s.seat(s.place_of("w", "p/a"), s.model("p/a"), strength), prior, true)
}

/// (8·0.7 + 0) / 9 = 0.62: one word is one outcome, whatever else is believed by it.
#[test]
fn a_prior_is_worth_the_outcomes_that_its_strength_says() {
    let mean = |strength: f64| {
        let (mut l, stats) = saving();
        let mut o = outcome(1, "p/a", 0.0);
        o.basis = o.basis.map(|b| Basis { prior: 0.7, strength, ..b });
        l.outcome(1, &o);
        l.batch_done();
        under(&stats.load(), 0.7, strength).mean
    };
    assert!((0.5..0.68).contains(&mean(8.0)), "{}", mean(8.0));
    assert!(mean(1_000.0) > 0.695, "{}", mean(1_000.0));
    assert!(mean(0.5) < mean(8.0) - 0.1, "{} {}", mean(0.5), mean(8.0));
    assert!(mean(30.0) > mean(8.0) && mean(300.0) > mean(30.0));
}

/// What the matrix says of models nobody has outcomes of is not drowned by how little is known of them.
#[test]
fn untried_arms_keep_the_order_of_their_priors() {
    let (_, stats) = saving();
    let hoped = |prior: f64| {
        let b = under(&stats.load(), prior, 8.0);
        b.mean + 0.6 * b.doubt
    };
    let (low, middle, high) = (hoped(0.6), hoped(0.7), hoped(0.9));
    assert!(low < middle - 0.05 && middle < high - 0.05 && middle < 0.9, "{low} {middle} {high}");
}

/// `p/a` fails one tenant and serves the others: the tenant learns of it, the others are hardly touched.
#[test]
fn a_tenant_keeps_its_own_posterior_over_what_is_common() {
    let run = |tenants: u64| {
        let (mut l, stats) = saving();
        for i in 0..600 {
            let tenant = i % tenants;
            let mut o = outcome(i, "p/a", if tenant == 0 { 0.0 } else { 1.0 });
            o.tenant = format!("t{tenant}");
            l.outcome(i, &o);
        }
        l.batch_done();
        let mean = |tenant: &str| {
            let s = stats.load();
            (0..50).map(|i| belief_of(&s, i, "p/a", tenant).mean).sum::<f64>() / 50.0
        };
        (mean("t0"), mean("t1"), mean("stranger"))
    };
    let (own, other, stranger) = run(2);
    assert!(own < stranger - 0.15 && other > stranger + 0.15, "{own} {other} {stranger}");
    let (own, other, stranger) = run(6);
    assert!(own < stranger - 0.15 && other > stranger, "{own} {other} {stranger}");
}

/// One tenant with nearly all the traffic holds less than a third of what is common where there are five.
#[test]
fn one_tenant_does_not_teach_all_the_others() {
    let run = |loud: u64| {
        let (mut l, stats) = saving();
        let mut i = 0;
        let mut say = |l: &mut Learner, tenant: u64, reward: f64| {
            let mut o = outcome(i, "p/a", reward);
            o.tenant = format!("t{tenant}");
            l.outcome(i, &o);
            i += 1;
        };
        for _ in 0..40 {
            (0..6).for_each(|tenant| say(&mut l, tenant, 1.0));
            (0..loud).for_each(|_| say(&mut l, 0, 0.0));
        }
        l.batch_done();
        let s = stats.load();
        let arm = s.arm("w", "p/a").expect("learned");
        [arm.total, arm.forms.of(OutputContract::Schema)].map(|c| c.s / c.n)
    };
    assert_eq!(run(0), [1.0, 1.0]);
    for told in run(20) {
        assert!(told > 0.65, "{told}");
    }
}

/// Nor by what is said later of outcomes that did not count, for those are as many as it likes.
#[test]
fn one_tenant_does_not_teach_all_the_others_by_late_words() {
    let run = |late: f64| {
        let (mut l, stats) = saving();
        let mut i = 0;
        let mut say = |l: &mut Learner, tenant: u64, late: Option<f64>| {
            let mut o = outcome(i, "p/a", 1.0);
            o.tenant = format!("t{tenant}");
            l.outcome(i, &o);
            if let Some(score) = late {
                // Keys are bound by themselves; these are many.
                l.feedback(i, &o, &[word(&o.request_id, &format!("key-{}", i % 200), score)]);
            }
            i += 1;
        };
        for _ in 0..40 {
            (0..6).for_each(|tenant| say(&mut l, tenant, None));
            (0..20).for_each(|_| say(&mut l, 0, Some(late)));
        }
        l.batch_done();
        let total = stats.load().arm("w", "p/a").expect("learned").total;
        total.s / total.n
    };
    // Its words halve the reward of what it holds, three of ten at most.
    let (pleased, loud) = (run(1.0), run(0.0));
    assert!(pleased > 0.999 && loud > 0.8 && loud < 0.95, "{pleased} {loud}");
}

/// What rules refuse of a model counts against it, and those of one tenant among five for less than a third.
#[test]
fn a_model_whose_answers_rules_refuse_is_known_for_it() {
    let run = |refuses: fn(u64) -> bool| {
        let (mut l, stats) = saving();
        for i in 0..600 {
            let mut o = outcome(i, "p/a", 1.0);
            o.tenant = format!("t{}", i % 6);
            if refuses(i) {
                (o.status, o.served_by, o.reward, o.parts) =
                    (Status::Denied, None, None, RewardParts::default());
            }
            l.outcome(i, &o);
        }
        l.batch_done();
        stats.load().model("p/a").expect("seen").safe.posterior(1.0, 8.0)
    };
    assert_eq!(run(|_| false), 1.0);
    let (half, one) = (run(|i| i / 6 % 2 == 0), run(|i| i % 6 == 0));
    assert!((0.45..0.65).contains(&half), "{half}");
    assert!((0.7..0.9).contains(&one), "{one}");
    // However many requests of one tenant its rules refuse.
    let loud = |among: u64| {
        let (mut l, stats) = saving();
        for i in 0..200 + 40 * among {
            let mut o = outcome(i, "p/a", 1.0);
            o.tenant = format!("t{}", if i < 200 { 1 + i % 5 } else { 0 });
            if i >= 200 && (i - 200) % among != 0 {
                (o.status, o.served_by, o.reward, o.parts) =
                    (Status::Denied, None, None, RewardParts::default());
            } else {
                o.tenant = format!("t{}", 1 + i % 5);
            }
            l.outcome(i, &o);
        }
        l.batch_done();
        stats.load().model("p/a").expect("seen").safe.posterior(1.0, 8.0)
    };
    let (few, many) = (loud(4), loud(20));
    assert!(few > 0.69 && many > 0.69, "{few} {many}");
    // What waits for somebody, or did so in vain, is no word of the model.
    for code in ["approval_required", "approval_rejected"] {
        let (mut l, stats) = saving();
        for i in 0..100 {
            let mut o = outcome(i, "p/a", 1.0);
            if i % 2 == 1 {
                (o.status, o.served_by, o.reward, o.error) =
                    (Status::Denied, None, None, Some(code.to_owned()));
            }
            l.outcome(i, &o);
        }
        l.batch_done();
        let safe = stats.load().model("p/a").expect("seen").safe;
        assert!(safe.s == safe.n && safe.n > 30.0, "{code}: {safe:?}");
    }
    // Refused before it said anything: no word of the model.
    let (mut l, stats) = saving();
    l.outcome(0, &outcome(0, "p/a", 1.0));
    let mut o = outcome(1, "p/a", 1.0);
    (o.status, o.served_by, o.reward) = (Status::Denied, None, None);
    o.observations.clear();
    l.outcome(1, &o);
    l.batch_done();
    assert_eq!(stats.load().model("p/a").map(|m| m.safe.s - m.safe.n), Some(0.0));
}

#[test]
fn an_unreachable_model_is_not_blamed_for_the_answer_of_another() {
    let (mut l, stats) = saving();
    let mut o = outcome(1, "p/a", 1.0);
    let ok = o.observations[0].clone();
    o.observations =
        vec![CallObservation { ok: false, ..ok.clone() }, CallObservation { model: "p/b".into(), ..ok }];
    l.outcome(1, &o);
    l.batch_done();
    let s = stats.load();
    assert!(s.arm("w", "p/a").is_none());
    assert_eq!(s.arm("w", "p/b").map(|a| a.total.n), Some(1.0));
    assert_eq!(s.model("p/a").map(|m| m.answered.s), Some(0.0));
}

#[test]
fn the_time_of_a_whole_answer_is_not_that_of_its_first_token() {
    let (mut l, stats) = saving();
    for i in 0..50 {
        let mut o = outcome(i, "p/a", 1.0);
        let call = &mut o.observations[0];
        (call.ttft_ms, call.total_ms, call.output_tokens) = (None, 20_800.0, 1_000);
        l.outcome(i, &o);
    }
    l.batch_done();
    let s = stats.load();
    let m = s.model("p/a").expect("seen");
    assert_eq!(m.ttft.n(), 0.0);
    let per_token = m.per_token.median(16.0);
    assert!((15.0..=21.0).contains(&per_token), "{per_token}");
}

#[test]
fn a_whole_answer_had_begun_before_it_ended() {
    let (mut l, stats) = saving();
    for i in 0..50 {
        let mut o = outcome(i, "p/a", 1.0);
        let call = &mut o.observations[0];
        (call.ttft_ms, call.total_ms, call.output_tokens) = (None, 30.0, 5);
        l.outcome(i, &o);
    }
    l.batch_done();
    let s = stats.load();
    let first = s.model("p/a").expect("seen").ttft.median(800.0);
    assert!(first < 60.0, "{first}");
}

#[test]
fn a_model_that_refuses_what_another_answers_loses_its_place() {
    let (mut l, stats) = saving();
    let mut o = outcome(1, "p/a", 1.0);
    let answered = CallObservation { model: "p/b".into(), ..o.observations[0].clone() };
    let refused = CallObservation { ok: false, refused: true, ..o.observations[0].clone() };
    o.observations = vec![refused, answered];
    l.outcome(1, &o);
    o.status = Status::Failed;
    l.outcome(2, &o);
    l.batch_done();
    let s = stats.load();
    let total = |m| s.arm("w", m).map(|a| (a.total.n, a.total.s));
    assert_eq!(total("p/a"), Some((1.0, 0.0)), "not by a total failure");
    assert_eq!(s.arm("w", "p/b").map(|a| a.total.s), Some(1.99));
}

#[test]
fn a_model_that_changes_is_noticed_and_what_was_learned_of_it_forgotten() {
    let (mut l, stats) = saving();
    for i in 0..300 {
        l.outcome(i, &outcome(i, "p/a", f64::from(i % 10 != 0)));
        l.outcome(i, &outcome(i, "p/b", f64::from(i % 10 != 0)));
    }
    l.batch_done();
    let before = stats.load();
    assert!(before.changes.is_empty(), "{:?}", before.changes);
    let mut seen = None;
    for i in 300..400 {
        l.outcome(i, &outcome(i, "p/a", f64::from(i % 10 < 3)));
        l.batch_done();
        if let Some(c) = stats.load().changes.first() {
            seen = Some((i - 300, c.clone()));
            break;
        }
    }
    let (after, change) = seen.expect("a change");
    assert!(after < 40, "after {after} outcomes");
    assert_eq!((&*change.model, change.aspect, change.way), ("p/a", Aspect::Success, Way::Down));
    assert_eq!(change.family, TaskFamily::Extraction);
    let s = stats.load();
    assert!(s.model("p/a").is_some_and(|m| m.reopened > 0));
    assert!(belief(&s, 1, "p/a").n < belief(&before, 1, "p/a").n / 2.0);
    assert_eq!(belief(&s, 1, "p/b").n, belief(&before, 1, "p/b").n);
}

/// The form holds throughout; people were content, and no longer are.
#[test]
fn a_model_that_changes_in_what_people_say_of_it_is_noticed() {
    let (mut l, stats) = saving();
    for i in 0..360 {
        let o = hard(i, Some(1.0));
        l.outcome(i, &o);
        l.feedback(i, &o, &[word(&o.request_id, "", f64::from(u8::from(i < 300)))]);
        l.batch_done();
        let s = stats.load();
        if i < 300 {
            assert!(s.changes.is_empty(), "{i}: {:?}", s.changes);
        } else if let Some(c) = s.changes.first() {
            assert_eq!((&*c.model, c.way, c.family), ("p/a", Way::Down, TaskFamily::Extraction));
            assert!(matches!(c.aspect, Aspect::Opinion | Aspect::Success), "{c:?}");
            let stats = s.model("p/a").expect("learned of");
            assert_eq!(stats.changes.iter().map(|(.., n)| n).sum::<u64>(), 1);
            return;
        }
    }
    panic!("nothing was noticed");
}

/// Every answer is rated long after it was checked, and never better than half: that is how it is, and no change.
#[test]
fn what_is_said_later_than_it_is_checked_is_no_change_of_a_model() {
    let (mut l, stats) = saving();
    for i in 0..900 {
        l.outcome(i, &hard(i, Some(1.0)));
        if let Some(of) = i.checked_sub(60) {
            let o = hard(of, Some(1.0));
            l.feedback(i, &o, &[word(&o.request_id, "", f64::from(u8::from(of % 2 == 0)))]);
        }
    }
    l.batch_done();
    assert_eq!(*stats.load().changes, []);
}

#[test]
fn a_fall_in_one_family_is_seen_in_its_outcomes_and_the_others_keep_what_is_known() {
    const RARE: TaskFamily = TaskFamily::Coding;
    let (mut l, stats) = saving();
    let others: Vec<TaskFamily> = TaskFamily::ALL.iter().copied().filter(|f| *f != RARE).collect();
    let tell = |l: &mut Learner, i: u64, fell: bool| {
        let rare = i.is_multiple_of(12);
        let family = if rare { RARE } else { others[(i % 7) as usize] };
        let fails = if rare && fell { !i.is_multiple_of(60) } else { i % 10 == 3 };
        let mut o = outcome(i, "p/a", f64::from(u8::from(!fails)));
        o.cell.family = family;
        l.outcome(i, &o);
        rare
    };
    for i in 0..1_200 {
        tell(&mut l, i, false);
    }
    l.batch_done();
    let before = stats.load();
    assert_eq!(*before.changes, []);
    let total = before.arm("w", "p/a").expect("learned of").total.n;
    let mut seen = 0;
    for i in 1_200.. {
        seen += i32::from(tell(&mut l, i, true));
        assert!(seen <= 80, "nothing was noticed");
        if !l.changes.is_empty() {
            break;
        }
    }
    l.batch_done();
    let s = stats.load();
    let c = s.changes.first().expect("a change");
    assert_eq!((c.aspect, c.way, c.family, c.alone), (Aspect::Success, Way::Down, RARE, true));
    assert!(s.model("p/a").is_some_and(|m| m.reopened > 0 && m.trust.is_none()));
    assert!(s.arm("w", "p/a").expect("learned of").total.n > 0.9 * total);
}

#[test]
fn a_few_milliseconds_are_no_change_of_a_model_and_a_slower_one_is() {
    let check = |quick: f64, slow: f64| {
        let (mut l, stats) = saving();
        for i in 0..600_u64 {
            let mut o = outcome(i, "p/a", 1.0);
            let call = &mut o.observations[0];
            // Scatter of a tenth, the same every time.
            let scatter = 0.95 + (i % 11) as f64 / 100.0;
            let writes = if i < 300 { quick } else { slow } * scatter;
            (call.ttft_ms, call.total_ms, call.output_tokens) = (Some(1.0), 1.0 + writes, 40);
            l.outcome(i, &o);
        }
        l.batch_done();
        stats.load().changes.iter().map(|c| (c.aspect, c.way)).collect::<Vec<_>>()
    };
    // As where ten more are served at once on the same processors.
    assert_eq!(check(1.0, 4.0), []);
    assert_eq!(check(5.0, 2.0), []);
    assert_eq!(check(400.0, 1_200.0), [(Aspect::Latency, Way::Up)]);
}

#[test]
fn a_model_that_is_likened_to_another_is_doubted_no_more_than_that_one() {
    let (mut l, stats) = taught(600);
    l.liken("p/a", "p/b");
    l.batch_done();
    let s = stats.load();
    for i in 5_000..5_020 {
        let (a, b) = (belief(&s, i, "p/a"), belief(&s, i, "p/b"));
        assert!(a.doubt < 1.2 * b.doubt, "{a:?} {b:?}");
    }
}

#[test]
fn a_table_that_is_studied_is_a_prior_that_goes_on_learning() {
    let (mut l, stats) = saving();
    let table: Vec<Outcome> = (0..400)
        .flat_map(|i| {
            let high = features(i).steps()[5] > 0;
            [outcome(i, "p/a", f64::from(high)), outcome(i, "p/b", f64::from(!high))]
        })
        .collect();
    l.study(&table);
    let s = stats.load();
    let right = (9_000..9_200).filter(|i| {
        (belief(&s, *i, "p/a").mean > belief(&s, *i, "p/b").mean) == (features(*i).steps()[5] > 0)
    });
    assert!(right.count() > 170);
    let before = belief(&s, 1, "p/a");
    for i in 0..60 {
        l.outcome(i, &outcome(1, "p/a", 0.0));
    }
    l.batch_done();
    assert!(belief(&stats.load(), 1, "p/a").mean < before.mean - 0.2);
}

#[test]
fn snapshots_are_never_seen_half_updated() {
    let (mut l, stats) = taught(40);
    let reader = {
        let stats = stats.clone();
        std::thread::spawn(move || {
            let (mut last, mut seen) = (0, 0);
            while last < 250 {
                let s = stats.load();
                assert!(s.version >= last);
                last = s.version;
                seen += 1;
                // One table column, one linear part and one count per arm that has a name.
                let n: f64 = s.arms().map(|(_, _, a)| a.ever).sum();
                let families: u64 = TaskFamily::ALL.iter().map(|f| s.seen_in(*f)).sum();
                assert_eq!(n, families as f64, "counts of one publication belong together");
                assert!(belief(&s, 3, "p/a").mean.is_finite());
            }
            seen
        })
    };
    for i in 40..400 {
        l.outcome(i, &outcome(i, "p/a", 1.0));
        l.batch_done();
    }
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn memory_is_bounded_whatever_is_offered() {
    let (mut l, stats) = learner(Limits { arms: 20, ..Limits::default() });
    for i in 0..600 {
        l.outcome(i, &outcome(i, &format!("p/{i}"), 1.0));
    }
    // A million requests, each a cell of its own if it were up to them.
    for i in 600..1_000_600 {
        l.offer(&Point::new(features(i), TaskFamily::ALL[(i % 8) as usize], None));
    }
    l.batch_done();
    let s = stats.load();
    assert_eq!(s.arms().count(), 20);
    let (nodes, entries) = l.size();
    assert!(nodes <= forest::TREES * forest::NODES, "{nodes} nodes");
    assert!(entries <= forest::TREES * cells::ENTRIES, "{entries} entries");
    assert!(l.past.len() <= forest::PAST);
    let bytes = l.save().unwrap().len();
    assert!(bytes < 6_000_000, "{bytes} bytes saved");
}

/// Trees that grew beside few arms give way to many, and what was learned with them comes back after a restart.
#[test]
fn memory_is_bounded_where_arms_come_after_the_trees_have_grown() {
    let (mut l, stats) = learner(Limits::default());
    for i in 0..64 {
        l.outcome(i, &outcome(i, &format!("p/{}", i % 16), f64::from(u8::from(i % 3 == 0))));
    }
    for i in 64..40_000 {
        l.offer(&Point::new(features(i), TaskFamily::ALL[(i % 8) as usize], None));
    }
    let grown = l.size().0;
    assert!(grown > forest::TREES * 200, "{grown} nodes");
    for i in 0..600 {
        l.outcome(i, &outcome(i, &format!("p/{}", 16 + i), f64::from(u8::from(i % 2 == 0))));
    }
    for i in 40_000..60_000 {
        l.offer(&Point::new(features(i), TaskFamily::ALL[(i % 8) as usize], None));
    }
    l.batch_done();
    let (nodes, entries) = l.size();
    assert!(entries <= forest::TREES * cells::ENTRIES, "{entries} entries");
    assert!(nodes > forest::TREES * 50, "{nodes} nodes");
    let (mut again, after) = learner(Limits::default());
    again.restore(&l.save().unwrap()).expect("what was saved can be read");
    let (a, b) = (stats.load(), after.load());
    assert_eq!(a.arms().count(), 616);
    for i in 0..20 {
        for model in ["p/0", "p/7", "p/300", "p/615"] {
            assert_eq!(belief(&a, i, model), belief(&b, i, model), "{model} on {i}");
        }
    }
    assert_eq!(l.save(), again.save());
}

/// States of the version before this one are read: what they do not hold begins anew.
#[test]
fn a_state_of_the_last_format_is_taken_up_and_others_are_told() {
    let (l, stats) = taught(200);
    let state = l.save().unwrap();
    let in_format = |n: u8| {
        let key = b"format".as_slice();
        let at = state.windows(key.len()).position(|w| w == key).expect("named") + key.len();
        let mut other = state.clone();
        other[at] = n;
        other
    };
    let (mut again, after) = saving();
    again.restore(&in_format(5)).expect("the last format");
    assert_eq!(belief(&stats.load(), 3, "p/a"), belief(&after.load(), 3, "p/a"));
    let told = again.restore(&in_format(4)).expect_err("another format");
    assert!(told.contains("format 4") && told.contains("5 to 6"), "{told}");
}

/// What requests read of arms in groups, against what each arm's own counts say when they are walked one by one.
#[test]
fn arms_in_groups_are_believed_as_each_alone() {
    let (mut l, stats) = learner(Limits::default());
    for i in 0..900 {
        let arm = (i * i + i / 7) % 40;
        l.outcome(i, &outcome(i, &format!("p/{arm}"), ((i + arm) % 3) as f64 / 2.0));
        if i % 50 == 49 {
            l.batch_done();
        }
    }
    l.batch_done();
    let s = stats.load();
    let k = l.shrinkage.k();
    for i in 5_000..5_010 {
        let p = Point::new(features(i), TaskFamily::Extraction, None);
        let (phi, ease) = (p.full(), l.ease.publish().at(&lines::Place::of(&p)));
        for (arm, held) in l.arms.iter().enumerate() {
            let of_model = s.model(&held.model).unwrap().surprise.mean(0.0, 8.0);
            let start = 0.6 + held.stats.surprise.mean(of_model, 8.0) + ease;
            let ways = l.cells.iter().map(|c| f64::from(c.believe(&p, arm, start as f32, l.root(held), k)));
            let cells = ways.sum::<f64>() / l.cells.len() as f64;
            let solved = held.ridge.solve(held.strength);
            let square = |i: usize, j: usize| solved.inverse[ridge::packed(i, j)] * phi[i] * phi[j];
            let tried: f64 = (0..phi.len()).map(|i| (0..phi.len()).map(|j| square(i, j)).sum::<f64>()).sum();
            let blank = phi.iter().map(|x| x * x).sum::<f64>() / ridge::alpha(8.0);
            let linear = 0.6 + solved.along(&phi) + (tried / blank).min(1.0) * ease;
            let omega = 200.0 / (200.0 + held.stats.ever);
            let mean = (omega * linear + (1.0 - omega) * cells).clamp(0.01, 0.99);
            let b = belief(&s, i, &held.model);
            assert!((b.mean - mean).abs() < 1e-5, "arm {arm}: {} {mean}", b.mean);
            let doubt = (b.variance + 0.25 * tried).sqrt();
            assert!((b.doubt - doubt).abs() < 1e-5, "arm {arm}: {} {doubt}", b.doubt);
        }
    }
}
