//! How often anybody says anything: what is said by itself is weighted by how rarely it is.
//!
//! Answers that nothing checks are known by what judges and people say alone, and these do not speak of all of them alike:
//! where one family in ten answers is rated and every one of another, what all have in common would be learned of the
//! second. So each such outcome counts by the inverse of the rate in its family (Horvitz and Thompson 1952), clipped,
//! over the mean of that among what is said, so that as many outcomes count as there are:
//!
//! ```text
//! w_f = min(10, 1/rate_f)      worth = w_f / (Σ s_f·w_f / Σ s_f)      s_f: answers of a family of which somebody spoke
//! ```

use super::Count;
use serde::{Deserialize, Serialize};
use types::axis::{AxisValue, TaskFamily};
use types::outcome::RewardParts;

/// What an answer weighs after the next one, of whatever family: about the last 2 000 count.
const DISCOUNT: f64 = 0.9995;
/// The rate over all families weighs as much in each as so many answers.
const STRENGTH: f64 = 20.0;
/// No outcome counts as more than so many times another for being rare.
const CLIP: f64 = 10.0;

/// Answers that nothing checked, by family, and of how many of them somebody spoke.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Spoken([Count; 8]);

/// Whether an answer is known by what is said of it alone.
pub(super) fn is_unchecked(parts: &RewardParts) -> bool {
    parts.contract.is_none() && parts.semantic.is_none()
}

impl Spoken {
    /// An answer that nothing checked; whether a judge spoke of it at once.
    pub(super) fn answered(&mut self, family: TaskFamily, judged: bool) {
        self.0.iter_mut().for_each(|c| c.scale(DISCOUNT));
        if let Some(c) = self.0.get_mut(family.index()) {
            c.add(f64::from(u8::from(judged)), 1.0);
        }
    }

    /// Somebody spoke of one of which nobody had.
    pub(super) fn spoken_of(&mut self, family: TaskFamily) {
        self.0.get_mut(family.index()).into_iter().for_each(|c| c.revise(0.0, 1.0));
    }

    /// What an outcome of a family counts as that is known by what is said of it alone.
    pub(super) fn worth(&self, family: TaskFamily) -> f64 {
        let (n, s) = self.0.iter().fold((0.0, 0.0), |(n, s), c| (n + c.n, s + c.s));
        if s <= 0.0 {
            return 1.0;
        }
        let weight = |c: &Count| (1.0 / c.posterior(s / n, STRENGTH)).min(CLIP);
        let mean = self.0.iter().map(|c| c.s * weight(c)).sum::<f64>() / s;
        self.0.get(family.index()).map_or(1.0, |c| weight(c) / mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is learned of answers that succeed nine times in ten in one family and three times in ten in another.
    fn mean(every: [usize; 2]) -> (f64, f64) {
        let (mut spoken, mut n, mut s) = (Spoken::default(), 0.0, 0.0);
        let mut said = 0.0;
        for i in 0..4_000 {
            for ((family, p), every) in
                [(TaskFamily::Coding, 0.9), (TaskFamily::Chat, 0.3)].into_iter().zip(every)
            {
                spoken.answered(family, false);
                if i % every == 0 {
                    spoken.spoken_of(family);
                    let worth = spoken.worth(family);
                    (n, s, said) = (n + worth, s + worth * p, said + 1.0);
                }
            }
        }
        (s / n, n / said)
    }

    #[test]
    fn families_that_say_little_count_as_much_as_those_that_say_all() {
        for every in [[1, 1], [1, 10], [5, 1], [8, 8]] {
            let (mean, count) = mean(every);
            assert!((mean - 0.6).abs() < 0.03, "{every:?}: {mean}");
            assert!((0.9..=1.1).contains(&count), "{every:?}: as many count as there are, {count}");
        }
    }

    #[test]
    fn where_all_families_speak_alike_a_word_is_one_outcome() {
        let mut spoken = Spoken::default();
        assert_eq!(spoken.worth(TaskFamily::Chat), 1.0);
        for _ in 0..50 {
            spoken.answered(TaskFamily::Rag, true);
        }
        assert_eq!(spoken.worth(TaskFamily::Rag), 1.0);
        assert!((spoken.worth(TaskFamily::Chat) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_that_hardly_ever_speaks_is_not_everything() {
        let mut spoken = Spoken::default();
        for i in 0..3_000 {
            spoken.answered(TaskFamily::Chat, true);
            spoken.answered(TaskFamily::Rag, i == 2_999);
        }
        let (rare, usual) = (spoken.worth(TaskFamily::Rag), spoken.worth(TaskFamily::Chat));
        assert!(rare / usual > 0.9 * CLIP && rare / usual <= CLIP, "{rare} {usual}");
    }
}
