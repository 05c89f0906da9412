//! What is written beside the model: where the data came from, how it was trained, what it does on unseen sources.

use super::{Corpus, Held, Input, Settings};
use crate::eval::Reliability;
use crate::model::Class;
use serde::Serialize;
use std::collections::BTreeMap;

/// Provenance and results of a training run.
#[derive(Clone, Debug, Serialize)]
pub struct TrainingReport {
    /// How it was trained, the seed included.
    pub settings: Settings,
    /// The files read, in this order: of requests that two files share, the first file's is taken.
    pub inputs: Vec<Read>,
    /// Requests per source, in alphabetical order.
    pub sources: Vec<Source>,
    /// Groups of sources that share no text with each other.
    pub groups: usize,
    /// Requests trained on.
    pub requests: usize,
    /// Copies of them in other clothes, trained on as well.
    pub dressed: usize,
    /// Fitted on unseen sources.
    pub temperature: f32,
    /// Share right on unseen sources, 0..=1.
    pub accuracy: f64,
    /// Mean over families of the F1 on unseen sources, 0..=1.
    pub macro_f1: f64,
    /// Expected calibration error on unseen sources, 0..=1.
    pub calibration_error: f64,
    /// How sure the weights are on unseen sources, against how often right: a list of bins. Reports of earlier versions do not
    /// hold it.
    pub reliability: Reliability,
    /// Per family, on unseen sources.
    pub families: BTreeMap<String, Family>,
}

/// A file that was read.
#[derive(Clone, Debug, Serialize)]
pub struct Read {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its decompressed bytes, in hexadecimal.
    pub blake3: String,
}

/// A source of training data.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// Its name.
    pub source: String,
    /// Its licence, where the data state one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Sources with the same number share text.
    pub group: usize,
    /// Requests per family.
    pub families: BTreeMap<String, usize>,
}

/// A family on unseen sources.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Family {
    /// Requests with that label.
    pub requests: usize,
    /// F1, 0..=1.
    pub f1: f64,
}

pub(super) fn of(
    corpus: &Corpus,
    inputs: &[Input<'_>],
    settings: &Settings,
    held: &[Held],
    temperature: f32,
) -> TrainingReport {
    let mut reliability = Reliability::default();
    let mut pairs: BTreeMap<(Class, Class), usize> = BTreeMap::new();
    for h in held {
        let (class, confidence) = h.best(temperature);
        reliability.add(confidence, class == h.class);
        let n = pairs.entry((h.class, class)).or_default();
        *n = n.saturating_add(1);
    }
    let families: BTreeMap<String, Family> =
        Class::ALL.into_iter().filter_map(|c| Some((c.as_str().to_owned(), family(&pairs, c)?))).collect();
    let right: usize = pairs.iter().filter(|((t, p), _)| t == p).map(|(_, n)| n).sum();
    TrainingReport {
        settings: *settings,
        inputs: inputs
            .iter()
            .map(|i| Read { name: i.name.to_owned(), blake3: blake3::hash(i.text).to_hex().to_string() })
            .collect(),
        sources: sources(corpus),
        groups: corpus.groups(),
        requests: corpus.examples.iter().filter(|e| !e.dressed).count(),
        dressed: corpus.examples.iter().filter(|e| e.dressed).count(),
        temperature: (temperature * 1e3).round() / 1e3,
        accuracy: round(right as f64 / held.len().max(1) as f64),
        macro_f1: round(families.values().map(|f| f.f1).sum::<f64>() / families.len().max(1) as f64),
        calibration_error: round(reliability.error()),
        reliability,
        families,
    }
}

fn family(pairs: &BTreeMap<(Class, Class), usize>, class: Class) -> Option<Family> {
    let sum = |f: &dyn Fn(Class, Class) -> bool| -> usize {
        pairs.iter().filter(|((t, p), _)| f(*t, *p)).map(|(_, n)| n).sum()
    };
    let requests = sum(&|t, _| t == class);
    let hits = sum(&|t, p| t == class && p == class).saturating_mul(2);
    let wrong = sum(&|t, p| (t == class) != (p == class));
    let f1 = round(hits as f64 / hits.saturating_add(wrong).max(1) as f64);
    (requests > 0).then_some(Family { requests, f1 })
}

fn sources(corpus: &Corpus) -> Vec<Source> {
    let mut all: BTreeMap<&str, (usize, BTreeMap<String, usize>)> = BTreeMap::new();
    for e in corpus.examples.iter().filter(|e| !e.dressed) {
        let (group, families) = all.entry(&e.source).or_default();
        *group = e.group;
        let n = families.entry(e.class.as_str().to_owned()).or_default();
        *n = n.saturating_add(1);
    }
    all.into_iter()
        .map(|(source, (group, families))| Source {
            source: source.to_owned(),
            licence: corpus.licences.get(source).cloned(),
            group,
            families,
        })
        .collect()
}

fn round(x: f64) -> f64 {
    (x * 1e4).round() / 1e4
}
