//! How sure to be: the temperature under which log odds of unseen sources tell the truth.

use super::fit::Weights;
use super::{Corpus, Example, Mask};
use crate::model::{Class, PerClass, softmax};

/// An example as weights see it that have not seen its source.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Its source.
    pub(crate) source: String,
    /// Its label.
    pub(crate) class: Class,
    /// Log odds.
    pub(crate) log_odds: PerClass,
}

impl Held {
    /// Every example `inside`.
    pub(crate) fn all(
        corpus: &Corpus,
        inside: impl Fn(&Example) -> bool,
        weights: &Weights,
        mask: Option<&Mask>,
    ) -> Vec<Held> {
        let held = corpus.examples.iter().filter(|e| inside(e));
        held.map(|e| Held { source: e.source.clone(), class: e.class, log_odds: weights.log_odds(e, mask) })
            .collect()
    }

    /// The most likely class and its probability.
    pub(crate) fn best(&self, temperature: f32) -> (Class, f32) {
        let p = softmax(&self.log_odds, temperature);
        let mut best = (Class::Chat, 0.0);
        for (class, p) in Class::ALL.into_iter().zip(p) {
            if p > best.1 {
                best = (class, p);
            }
        }
        best
    }
}

/// Range of temperatures, and how finely it is searched.
const COLDEST: f32 = 0.3;
const HOTTEST: f32 = 5.0;
const NARROWINGS: usize = 40;

/// The temperature of least cross-entropy; every source weighs the same. 1 if there is nothing to go by.
pub(crate) fn calibrate(held: &[Held]) -> f32 {
    if held.is_empty() {
        return 1.0;
    }
    let mut sizes: std::collections::BTreeMap<&str, f64> = std::collections::BTreeMap::new();
    for h in held {
        *sizes.entry(&h.source).or_default() += 1.0;
    }
    let loss = |t: f32| -> f64 {
        let one = |h: &Held| {
            let p = softmax(&h.log_odds, t).get(h.class as usize).copied().unwrap_or(0.0);
            -f64::from(p.max(1e-12)).ln() / sizes.get(h.source.as_str()).copied().unwrap_or(1.0)
        };
        held.iter().map(one).sum()
    };
    // The loss has one valley: narrow it down by thirds, on a logarithmic scale.
    let (mut low, mut high) = (COLDEST.ln(), HOTTEST.ln());
    for _ in 0..NARROWINGS {
        let third = (high - low) / 3.0;
        if loss((low + third).exp()) < loss((high - third).exp()) {
            high -= third;
        } else {
            low += third;
        }
    }
    f32::midpoint(low, high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims of 1.5 : 0 log odds of which `right` in ten are right.
    fn claims(right: usize) -> Vec<Held> {
        let mut log_odds = [-500.0; crate::model::CLASSES];
        log_odds[0] = 1.5;
        log_odds[1] = 0.0;
        let one = |i: usize| Held {
            source: "s".into(),
            class: if i % 10 < right { Class::Chat } else { Class::Math },
            log_odds,
        };
        (0..100).map(one).collect()
    }

    #[test]
    fn confidence_meets_accuracy() {
        for right in [6, 8, 9] {
            let held = claims(right);
            let t = calibrate(&held);
            let (class, p) = held[0].best(t);
            assert_eq!(class, Class::Chat);
            assert!((p - right as f32 / 10.0).abs() < 0.02, "{right}: {p} at {t}");
        }
        assert_eq!(calibrate(&[]), 1.0);
    }
}
