//! How long a model's whole answers take, how sure that is, and what it says of a ceiling on their time.
//!
//! ```text
//! ln T ~ N(μ, σ²)                                     T: milliseconds of a whole answer to this request
//! p(μ) ∝ N(μ; m, σ²/w) · Φ((μ − ln c)/σ)^k            w: what m rests on, in answers; k calls were cut off after c
//! in time     P(T ≤ ceiling), over p(μ)
//! too slow    P(μ > ln ceiling): that more than half of the answers come later
//! ```
//!
//! A call that was cut off is a censored observation (Tobin 1958, "Estimation of relationships for limited dependent
//! variables"): its answer would have taken longer than it was given, nobody knows by how much.

use crate::learn::{ModelStats, Whole};
use statrs::distribution::{Continuous as _, ContinuousCDF as _, Normal};
use std::time::Duration;
use types::matrix::Prior;

/// What times that somebody has stated weigh, in answers: their own doubt is about a factor of 1.6.
const STATED: f64 = 1.0;
/// What times weigh that nobody has stated. So little that they keep no model out by themselves.
const ASSUMED: f64 = 0.05;
/// Silence after which what was seen keeps a model out no longer: who is never asked is never seen to be faster.
const FRESH_MS: i64 = 60_000;
/// How sure it must be that a model is too slow, for it to be left out.
const SURE: f64 = 0.95;

/// What is known of how long a model's whole answers take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Before anything is seen: milliseconds until an answer begins, and for each token of it.
    prior: (f64, f64),
    /// What that weighs, in answers.
    weight: f64,
    seen: Whole,
}

impl Times {
    pub(super) fn of(prior: &Prior, seen: Option<&ModelStats>) -> Self {
        Times {
            prior: (prior.ttft_ms, 1e3 / prior.tokens_per_second.max(0.1)),
            weight: if prior.timed { STATED } else { ASSUMED },
            seen: seen.map_or_else(Whole::default, |s| s.whole),
        }
    }

    /// Expected milliseconds of a whole answer of so many tokens: exp(m).
    pub(super) fn total_ms(&self, tokens: f64) -> f64 {
        let prior = self.prior.0 + self.prior.1 * tokens;
        let Some(usual) = self.seen.usual_ln(tokens) else { return prior };
        // The mean of the logarithms, each by its weight.
        let answers = self.seen.answers();
        ((self.weight * prior.max(1.0).ln() + answers * usual) / (self.weight + answers)).exp()
    }

    /// What is believed of an answer that is expected to take so long.
    pub(super) fn span(&self, total_ms: f64) -> Span {
        Span {
            middle: total_ms.max(1.0).ln(),
            spread: self.seen.spread(),
            weight: self.answers(),
            cut: self.seen.cuts().map(|(ms, calls)| (ms.ln(), calls)),
        }
    }

    /// What is known of them rests on so many answers: w.
    pub(super) fn answers(&self) -> f64 {
        self.weight + self.seen.answers()
    }

    /// For how long what is known of it may keep it out.
    pub(super) fn hold(&self, now_ms: i64) -> Hold {
        let Some(age) = self.seen.age_ms(now_ms) else { return Hold::Always };
        match u64::try_from(FRESH_MS.saturating_sub(age)) {
            Ok(left) if left > 0 => Hold::For(Duration::from_millis(left)),
            _ => Hold::NoLonger,
        }
    }
}

/// For how long something may keep a model out, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// It was seen, and too long ago.
    NoLonger,
    /// It was seen, and holds for so long if nothing else is seen.
    For(Duration),
    /// It is stated.
    Always,
}

/// What is believed of the time of one whole answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// m.
    middle: f64,
    /// σ.
    spread: f64,
    /// w.
    weight: f64,
    /// ln c and k, where calls were cut off.
    cut: Option<(f64, f64)>,
}

/// What that says of a ceiling.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odds {
    /// P that the answer comes within it.
    pub(super) in_time: f64,
    /// P that more than half of such answers come later.
    too_slow: f64,
    /// Milliseconds that it is expected to take.
    pub(super) expected_ms: f64,
}

impl Odds {
    pub(super) fn are_too_slow(&self) -> bool {
        self.too_slow >= SURE
    }
}

impl Span {
    /// Of a workflow that takes `times` as long as its model alone.
    pub(super) fn stretched(self, times: f64) -> Self {
        let longer = times.max(1e-6).ln();
        Span { middle: self.middle + longer, cut: self.cut.map(|(cut, calls)| (cut + longer, calls)), ..self }
    }

    /// Of an answer of which nothing is known but about how long it takes, and on how many answers that rests.
    pub(super) fn about(total_ms: f64, answers: f64) -> Self {
        let spread = Whole::default().spread();
        Span { middle: total_ms.max(1.0).ln(), spread, weight: answers.max(ASSUMED), cut: None }
    }

    pub(super) fn under(&self, ceiling_ms: f64) -> Odds {
        let ceiling = ceiling_ms.max(1.0).ln();
        let doubt = self.spread / self.weight.sqrt();
        let Some((cut, calls)) = self.cut else {
            return Odds {
                in_time: below((ceiling - self.middle) / self.spread.hypot(doubt)),
                too_slow: below((self.middle - ceiling) / doubt),
                expected_ms: self.middle.exp(),
            };
        };
        let (mut mass, mut in_time, mut too_slow, mut expected) = (0.0, 0.0, 0.0, 0.0);
        for (mu, p) in self.posterior(cut, calls) {
            mass += p;
            in_time += p * below((ceiling - mu) / self.spread);
            too_slow += if mu > ceiling { p } else { 0.0 };
            expected += p * mu;
        }
        let mass = if mass > 0.0 && mass.is_finite() { mass } else { 1.0 };
        Odds { in_time: in_time / mass, too_slow: too_slow / mass, expected_ms: (expected / mass).exp() }
    }

    /// p(μ), not normed, at points around its mode.
    fn posterior(&self, cut: f64, calls: f64) -> impl Iterator<Item = (f64, f64)> {
        /// Points, and deviations to either side.
        const POINTS: i32 = 80;
        const WIDTH: f64 = 5.0;
        let Span { middle, spread, weight, .. } = *self;
        let log = move |mu: f64| {
            let off = (mu - middle) / spread;
            calls * log_below((mu - cut) / spread) - 0.5 * weight * off * off
        };
        let (mode, scale) = self.mode(cut, calls);
        let highest = log(mode);
        (-POINTS..=POINTS).map(move |i| {
            let mu = mode + scale * WIDTH * f64::from(i) / f64::from(POINTS);
            (mu, (log(mu) - highest).exp())
        })
    }

    /// Where p(μ) is highest, by Newton's method on its logarithm, which is concave, and how wide it is there.
    fn mode(&self, cut: f64, calls: f64) -> (f64, f64) {
        let Span { middle, spread, weight, .. } = *self;
        // What the cut-off calls say at μ: slope and curvature of ln Φ, in units of σ.
        let pull = |mu: f64| {
            let z = (cut - mu) / spread;
            let hazard = if z > 30.0 { z } else { density(z) / below(-z).max(f64::MIN_POSITIVE) };
            (hazard, (hazard * (hazard - z)).clamp(0.0, 1.0))
        };
        let mut mu = middle;
        for _ in 0..12 {
            let (slope, curve) = pull(mu);
            mu += (weight * (middle - mu) + calls * spread * slope) / (weight + calls * curve);
        }
        let (_, curve) = pull(mu);
        (mu, spread / (weight + calls * curve).sqrt())
    }
}

/// Φ.
fn below(z: f64) -> f64 {
    Normal::standard().cdf(z)
}

/// ln Φ; far below 0, where Φ is 0 to the machine, by its asymptote.
fn log_below(z: f64) -> f64 {
    const FAR: f64 = -30.0;
    if z > FAR { below(z).ln() } else { -0.5 * z * z - (-z).ln() - 0.5 * std::f64::consts::TAU.ln() }
}

/// φ.
fn density(z: f64) -> f64 {
    Normal::standard().pdf(z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNKNOWN: Prior = Prior {
        strength: 8.0,
        default: types::UnitInterval::ZERO,
        by_family: Vec::new(),
        sources: Vec::new(),
        ttft_ms: 800.0,
        tokens_per_second: 60.0,
        timed: false,
    };

    /// A model that answered in these times, ten tokens each, and was cut off after these.
    fn times(prior: &Prior, answered: &[f64], cut: &[f64]) -> Times {
        let mut whole = Whole::default();
        answered.iter().for_each(|ms| whole.answered(*ms, 10, 0.99, 1));
        cut.iter().for_each(|ms| whole.cut_off(*ms, 0.99, 1));
        Times::of(prior, Some(&ModelStats { whole, ..ModelStats::default() }))
    }

    fn odds(t: &Times, ceiling: f64) -> Odds {
        t.span(t.total_ms(10.0)).under(ceiling)
    }

    #[test]
    fn a_few_answers_say_what_they_take() {
        for took in [50.0, 400.0, 9_000.0] {
            for prior in [UNKNOWN, Prior { timed: true, ..UNKNOWN }] {
                let t = times(&prior, &[took; 12], &[]);
                let expected = t.total_ms(10.0);
                assert!((took / 1.3..took * 1.3).contains(&expected), "{took}: {expected}");
                assert!(odds(&t, took * 2.0).in_time > 0.9 && !odds(&t, took * 2.0).are_too_slow());
                assert!(odds(&t, took / 2.0).in_time < 0.1 && odds(&t, took / 2.0).are_too_slow());
            }
        }
    }

    #[test]
    fn what_is_not_known_is_neither_left_out_nor_preferred() {
        let (unknown, fast) = (times(&UNKNOWN, &[], &[]), times(&UNKNOWN, &[50.0; 3], &[]));
        assert!(!odds(&unknown, 120.0).are_too_slow());
        assert!(odds(&fast, 120.0).in_time > 2.0 * odds(&unknown, 120.0).in_time);
        // Times that somebody has stated do keep it out, where the ceiling is far below them.
        let stated = times(&Prior { timed: true, ..UNKNOWN }, &[], &[]);
        assert!(odds(&stated, 120.0).are_too_slow() && !odds(&stated, 900.0).are_too_slow());
    }

    #[test]
    fn who_was_cut_off_again_and_again_is_too_slow_for_that_ceiling_and_lower_ones() {
        for answered in [&[][..], &[50.0; 12]] {
            let t = times(&UNKNOWN, answered, &[120.0; 6]);
            assert!(odds(&t, 120.0).are_too_slow(), "{:?}", odds(&t, 120.0));
            assert!(odds(&t, 60.0).are_too_slow());
            assert!(!odds(&t, 2_000.0).are_too_slow(), "nobody knows how long it would have taken");
        }
    }

    proptest! {
        /// As the mean is defined: what is usual, times a power of how far the prior is from it.
        #[test]
        fn the_mean_of_logarithms_is_the_weighted_geometric_mean(
            took in prop::collection::vec(0.5..1e5_f64, 1..20), tokens in 0.0..20_000.0_f64,
            ttft_ms in 0.0..1e4_f64, tokens_per_second in 0.0..500.0_f64, timed: bool,
        ) {
            let prior = Prior { ttft_ms, tokens_per_second, timed, ..UNKNOWN };
            let t = times(&prior, &took, &[]);
            let usual = t.seen.usual_ln(tokens).unwrap().exp();
            let stated = (t.prior.0 + t.prior.1 * tokens).max(1.0);
            let want = usual * (stated / usual).powf(t.weight / t.answers());
            let got = t.total_ms(tokens);
            prop_assert!((got / want - 1.0).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn one_call_that_hung_does_not_condemn_a_model_that_is_fast() {
        let t = times(&UNKNOWN, &[50.0; 12], &[30_000.0]);
        assert!(odds(&t, 200.0).in_time > 0.5, "{:?}", odds(&t, 200.0));
        assert!(!odds(&t, 200.0).are_too_slow());
    }

    #[test]
    fn who_is_fast_again_is_believed_to_be() {
        let mut t = times(&UNKNOWN, &[], &[120.0; 12]);
        (0..4).for_each(|_| t.seen.answered(50.0, 10, 0.99, 1));
        assert!(odds(&t, 120.0).in_time > 0.8, "{:?}", odds(&t, 120.0));
    }

    #[test]
    fn what_was_seen_keeps_a_model_out_for_a_while_only() {
        let t = times(&UNKNOWN, &[], &[120.0; 6]);
        assert_eq!(t.hold(1), Hold::For(Duration::from_secs(60)));
        assert_eq!(t.hold(FRESH_MS), Hold::For(Duration::from_millis(1)));
        assert_eq!(t.hold(FRESH_MS + 1), Hold::NoLonger);
        assert_eq!(times(&UNKNOWN, &[], &[]).hold(i64::MAX), Hold::Always, "what is stated stands");
    }

    #[test]
    fn a_workflow_of_two_calls_takes_twice_as_long() {
        let t = times(&UNKNOWN, &[50.0; 12], &[]);
        let span = t.span(t.total_ms(10.0));
        let (alone, twice) = (span.under(60.0), span.stretched(2.0).under(120.0));
        assert!((alone.in_time - twice.in_time).abs() < 1e-9);
    }
}
