//! The task family's log odds, taken apart.

use crate::cues::Signal;
use crate::dense;
use crate::features::Features;
use crate::grams::{Gram, Sink};
use crate::model::{CLASSES, Class, Model, PerClass};
use crate::outright;
use crate::scan::Token;
use serde::Serialize;
use types::WorkloadProfile;

/// Why the winner is ahead of the runner-up.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyReasons {
    /// The likeliest class: a family, or `math` or `creative` within chat.
    pub winner: &'static str,
    /// The next likeliest one.
    pub runner_up: &'static str,
    /// Probability per class.
    pub probabilities: Vec<(&'static str, f32)>,
    /// Log odds of the winner over the runner-up; the steps add up to it.
    pub log_odds: f32,
    /// Log odds are divided by this before they become probabilities.
    pub temperature: f32,
    /// What each feature adds to the log odds, greatest first, signs counting.
    pub steps: Vec<Step>,
    /// Set by an option: the model was not asked.
    pub explicit: bool,
}

/// One feature's share in the log odds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// `structure`, `signal` or `n-gram`; `start` for what holds before anything is known.
    pub kind: &'static str,
    /// The feature, or the words of the n-gram.
    pub feature: String,
    /// Its value in this request.
    pub value: f32,
    /// Value times weight, winner less runner-up.
    pub adds: f32,
}

/// N-grams with their words.
#[derive(Default)]
pub(super) struct Grams {
    found: Vec<(usize, f32, String)>,
    words: Vec<String>,
}

impl Sink for Grams {
    fn piece(&mut self, text: &str, tokens: &[Token]) {
        let word = |t: &Token| {
            let start = t.start as usize;
            text.get(start..start.saturating_add(usize::from(t.bytes))).unwrap_or("").to_lowercase()
        };
        self.words = tokens.iter().map(word).collect();
    }

    fn gram(&mut self, bucket: usize, weight: f32, gram: Gram) {
        let word = |i: usize| self.words.get(i).map_or("", String::as_str);
        let words = match gram {
            Gram::Word(i) => word(i).to_owned(),
            Gram::LineStart(i) => format!("⏎ {}", word(i)),
            Gram::Pair(i) => format!("{} {}", word(i.saturating_sub(1)), word(i)),
            Gram::TextStart(i) => format!("⇤ {}", word(i)),
        };
        self.found.push((bucket, weight, words));
    }
}

/// Steps smaller than this are left out of the list, and summed up at its end.
const SMALLEST: f32 = 0.02;

pub(super) fn reasons(
    model: &Model,
    features: &Features,
    numbers: &[f32; dense::COUNT],
    grams: &Grams,
    profile: &WorkloadProfile,
) -> FamilyReasons {
    let length = grams.found.iter().map(|(_, w, _)| w * w).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    let mut sums = model.sums();
    grams.found.iter().for_each(|(bucket, weight, _)| sums.gram(*bucket, *weight, Gram::Word(0)));
    let mut log_odds = model.log_odds(numbers, &sums);
    outright::add(features, &mut log_odds);
    let (winner, runner_up) = first_two(&log_odds);
    let gap = |row: &PerClass| at(row, winner) - at(row, runner_up);
    let signals = dense::FIRST_SIGNAL..dense::FIRST_SIGNAL.saturating_add(Signal::WEIGHED);
    let mut steps =
        vec![Step { kind: "start", feature: "how common".into(), value: 1.0, adds: gap(&model.bias) }];
    for (i, ((name, value), weights)) in dense::names().zip(numbers).zip(&model.dense).enumerate() {
        let kind = if signals.contains(&i) { "signal" } else { "structure" };
        steps.push(Step { kind, feature: name.to_owned(), value: *value, adds: value * gap(weights) });
    }
    for (name, row) in outright::found(features) {
        steps.push(Step { kind: "structure", feature: name.to_owned(), value: 1.0, adds: gap(&row) });
    }
    for (bucket, weight, words) in &grams.found {
        let value = weight / length;
        steps.push(Step {
            kind: "n-gram",
            feature: words.clone(),
            value,
            adds: value * gap(&model.gram(*bucket)),
        });
    }
    FamilyReasons {
        winner: winner.as_str(),
        runner_up: runner_up.as_str(),
        probabilities: Class::ALL.iter().map(|c| c.as_str()).zip(model.probabilities(&log_odds)).collect(),
        log_odds: gap(&log_odds),
        temperature: model.temperature,
        steps: gather(steps),
        explicit: profile.task_family.explicit,
    }
}

/// Greatest first; what is too small to matter becomes one line per kind.
fn gather(steps: Vec<Step>) -> Vec<Step> {
    let (mut large, small): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|s| s.adds.abs() >= SMALLEST);
    large.sort_by(|a, b| b.adds.total_cmp(&a.adds).then_with(|| a.feature.cmp(&b.feature)));
    for kind in ["structure", "signal", "n-gram"] {
        let rest: Vec<&Step> = small.iter().filter(|s| s.kind == kind && s.adds != 0.0).collect();
        if !rest.is_empty() {
            let adds = rest.iter().map(|s| s.adds).sum();
            large.push(Step { kind, feature: format!("{} smaller ones", rest.len()), value: 0.0, adds });
        }
    }
    large
}

fn at(row: &PerClass, class: Class) -> f32 {
    row.get(class as usize).copied().unwrap_or(0.0)
}

fn first_two(log_odds: &PerClass) -> (Class, Class) {
    let mut order: [Class; CLASSES] = Class::ALL;
    order.sort_by(|a, b| at(log_odds, *b).total_cmp(&at(log_odds, *a)));
    let [first, second, ..] = order;
    (first, second)
}
