//! Trains the model of the task family from labelled requests: deterministic, seeded, without randomness of its own.
//!
//! A multinomial logistic regression by L-BFGS, drawn back to the hand-written start (`prior`). Every family
//! weighs the same, and within a family every group of sources does, so that no large source drowns the others.
//! The temperature is fitted on requests of sources that the fitted weights have not seen.

mod dress;
mod example;
mod fit;
mod folds;
mod lbfgs;
mod objective;
pub(crate) mod prior;
mod report;
mod temperature;

pub use report::{Family, Read, Source, TrainingReport};

pub(crate) use example::{Corpus, Example, Mask};
pub(crate) use fit::fit;
pub(crate) use folds::in_parallel;
pub(crate) use temperature::{Held, calibrate};

use crate::model;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Settings {
    /// Chooses which requests of a large source are taken; the same seed and data give the same bytes.
    pub seed: u64,
    /// How strongly the weights of structure and signals are drawn back to the start.
    pub dense_penalty: f64,
    /// How strongly the weights of n-grams are drawn back to zero.
    pub gram_penalty: f64,
    /// Steps of the optimiser at most.
    pub steps: usize,
    /// Requests taken of one source and family at most.
    pub per_source: usize,
    /// Of how many requests one also comes in other clothes (`dress`); 0 for none.
    pub dressed_every: u64,
    /// Parts that the sources are dealt into to fit the temperature, at least 2.
    pub folds: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            seed: 20_261_121,
            dense_penalty: 20.0,
            gram_penalty: 10.0,
            steps: 80,
            per_source: 100,
            dressed_every: 2,
            folds: 8,
        }
    }
}

/// A file of labelled requests: its name, for the report, and its lines (JSON lines, already decompressed).
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Name in messages and in the report.
    pub name: &'a str,
    /// The text: labelled requests as the eval set has them, or queries of a routing pack.
    pub text: &'a [u8],
}

/// A trained model and how it came about.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The bytes to embed.
    pub model: Vec<u8>,
    /// Sources, settings, and accuracy on unseen sources.
    pub report: TrainingReport,
}

/// Why there is no model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line of an input is no labelled request.
    #[error("{name}, line {line}: {problem}")]
    Line {
        /// Name of the input.
        name: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Too few sources to hold one out.
    #[error(
        "found {found} sources with a task family; at least {least} are needed to fit on some and check on others"
    )]
    Sources {
        /// Groups of sources found.
        found: usize,
        /// Least number.
        least: usize,
    },
}

/// Trains on `inputs`; `progress` is told how many of how many fits are done, from several threads.
///
/// # Errors
/// The first line that is no labelled request; too few sources.
pub fn train(
    inputs: &[Input<'_>],
    settings: &Settings,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Trained, Error> {
    let corpus = Corpus::read(inputs, 0, settings)?;
    let groups = corpus.groups();
    if groups < 2 {
        return Err(Error::Sources { found: groups, least: 2 });
    }
    let parts = folds::deal(&corpus, settings);
    let total = parts.len().saturating_add(1);
    let held = in_parallel(parts.len(), &|done| progress(done, total), &|i| {
        let Some(part) = parts.get(i) else { return Vec::new() };
        let inside = |e: &Example| !part.contains(&e.group);
        let weights = fit(&corpus, inside, None, settings);
        Held::all(&corpus, |e| part.contains(&e.group) && !e.dressed, &weights, None)
    });
    let held: Vec<Held> = held.into_iter().flatten().collect();
    let temperature = calibrate(&held);
    let weights = fit(&corpus, |_| true, None, settings);
    progress(total, total);
    let quantised = weights.quantised(temperature);
    let report = report::of(&corpus, inputs, settings, &held, temperature);
    Ok(Trained { model: model::write(&quantised), report })
}

#[cfg(test)]
mod tests;
