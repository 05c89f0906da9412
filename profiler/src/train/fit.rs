//! Fits weights to the examples of some sources.

use super::objective::{Objective, Point, ROWS, Row};
use super::{Corpus, Example, Mask, Settings, lbfgs, prior};
use crate::dense;
use crate::model::{CLASSES, Class, Model, PerClass};

/// Fitted weights, before they are rounded.
pub(crate) struct Weights {
    rows: Vec<Row>,
}

/// Fits to the examples `inside`; of the cues only those count that `mask` vouches for.
pub(crate) fn fit(
    corpus: &Corpus,
    inside: impl Fn(&Example) -> bool,
    mask: Option<&Mask>,
    settings: &Settings,
) -> Weights {
    let weights = corpus.weights(&inside);
    let points = corpus.examples.iter().zip(weights).filter(|(_, w)| *w > 0.0);
    let (bias, dense) = prior::weights();
    let mut start: Vec<f64> = bias.iter().chain(dense.iter().flatten()).map(|w| f64::from(*w)).collect();
    start.resize(ROWS.saturating_mul(CLASSES), 0.0);
    let objective = Objective {
        points: points
            .map(|(e, weight)| Point { numbers: numbers(e, mask), class: e.class as usize, weight })
            .collect(),
        start: start.clone(),
        dense_penalty: settings.dense_penalty,
        gram_penalty: settings.gram_penalty,
    };
    let fitted = lbfgs::minimise(&objective, start, settings.steps);
    let mut weights = Weights { rows: fitted.as_chunks::<CLASSES>().0.to_vec() };
    weights.obey();
    weights
}

/// Row and value of everything an example shows: the bias, its numbers, its n-grams.
fn numbers(example: &Example, mask: Option<&Mask>) -> Vec<(usize, f64)> {
    let dense = example.numbers(mask);
    let dense = dense.into_iter().enumerate().filter(|(_, v)| *v != 0.0);
    let dense = dense.map(|(i, v)| (i.saturating_add(1), f64::from(v)));
    let first = dense::COUNT.saturating_add(1);
    let grams = example.grams.iter().map(|(b, v)| (first.saturating_add(*b as usize), f64::from(*v)));
    std::iter::once((0, 1.0)).chain(dense).chain(grams).collect()
}

impl Weights {
    /// No class gains more from a feature than those it stands for ([`prior::LEADERS`]).
    fn obey(&mut self) {
        for (name, leaders) in prior::LEADERS {
            let row = dense::position(name).and_then(|i| self.rows.get_mut(i.saturating_add(1)));
            let Some(row) = row else { continue };
            let least =
                leaders.iter().filter_map(|c| row.get(*c as usize)).copied().fold(f64::INFINITY, f64::min);
            for class in Class::ALL.into_iter().filter(|c| !leaders.contains(c)) {
                if let Some(w) = row.get_mut(class as usize) {
                    *w = w.min(least);
                }
            }
        }
    }

    /// Log odds of an example.
    pub(crate) fn log_odds(&self, example: &Example, mask: Option<&Mask>) -> PerClass {
        let mut odds: Row = [0.0; CLASSES];
        for (row, v) in numbers(example, mask) {
            for (o, w) in odds.iter_mut().zip(self.rows.get(row).into_iter().flatten()) {
                *o += v * w;
            }
        }
        odds.map(|o| o as f32)
    }

    /// The model of these weights.
    pub(crate) fn quantised(&self, temperature: f32) -> Model {
        let narrow = |row: &Row| row.map(|w| w as f32);
        let mut rows = self.rows.iter().map(narrow);
        let bias = rows.next().unwrap_or_default();
        let dense: Vec<PerClass> = rows.by_ref().take(dense::COUNT).collect();
        let grams: Vec<PerClass> = rows.collect();
        Model::quantised(temperature, bias, dense, &grams)
    }
}
