//! Cross-validation by source: every source is judged by weights that have not seen it, nor any that shares its text.

use super::Reliability;
use crate::model::Class;
use crate::train::{self, Corpus, Example, Held, Input, Settings, calibrate, fit, in_parallel};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One group of sources, held out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fold {
    /// The sources of the group that were judged.
    pub sources: Vec<String>,
    /// Requests judged.
    pub requests: usize,
    /// Share right with the cue lists as written, 0..=1.
    pub accuracy: f64,
    /// Share right with only those cues that other sources vouch for, 0..=1.
    pub accuracy_vouched: f64,
}

/// How right the model is on sources it has not seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// Share of requests right, 0..=1.
    pub accuracy: f64,
    /// Unweighted mean of the F1 of the families that occur, 0..=1.
    pub macro_f1: f64,
    /// Mean accuracy of the sources with at least twenty requests, 0..=1.
    pub source_macro_accuracy: f64,
    /// F1 per family, 0..=1.
    pub f1: BTreeMap<String, f64>,
    /// Families taken for others: label, prediction, how often; most often first.
    pub confusion: Vec<(String, String, usize)>,
    /// Confidence against accuracy.
    pub reliability: Reliability,
    /// Expected calibration error, 0..=1.
    pub calibration_error: f64,
}

/// Both readings of a cross-validation by source.
///
/// The cue lists were written by people who had seen some of the sources. `written` takes them as they are;
/// `vouched` leaves out, in each fold, every cue that no request outside the fold, labelled with the family it speaks
/// for, contains. The second is what to expect of a source nobody has looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BySource {
    /// One per group of sources.
    pub folds: Vec<Fold>,
    /// With the cue lists as written.
    pub written: Reading,
    /// With only the cues that other sources vouch for.
    pub vouched: Reading,
    /// Requests judged.
    pub requests: usize,
    /// Requests of other sources that were trained on as well.
    pub others: usize,
}

/// Cross-validates by source on `judged`; `others` are trained on as well, never judged, and held out too where they
/// share text with the fold. `progress` is told how many of how many fits are done, from several threads.
///
/// # Errors
/// The first line that is no labelled request; fewer than two groups of sources.
pub fn by_source(
    judged: &Input<'_>,
    others: &[Input<'_>],
    settings: &Settings,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<BySource, train::Error> {
    // Nothing that is judged is left out.
    let none = Settings { dressed_every: 0, ..*settings };
    let judged_only = Corpus::read(std::slice::from_ref(judged), 1, &none)?;
    let ids: BTreeSet<String> = judged_only.examples.into_iter().map(|e| e.id).collect();
    let inputs: Vec<Input<'_>> = std::iter::once(*judged).chain(others.iter().copied()).collect();
    let corpus = Corpus::read(&inputs, 1, settings)?;
    let is_judged = |e: &Example| !e.dressed && ids.contains(&e.id);
    let groups: BTreeSet<usize> = corpus.examples.iter().filter(|e| is_judged(e)).map(|e| e.group).collect();
    if corpus.groups() < 2 {
        return Err(train::Error::Sources { found: corpus.groups(), least: 2 });
    }
    let groups: Vec<usize> = groups.into_iter().collect();
    let total = groups.len().saturating_mul(2);
    let held = in_parallel(total, &|done| progress(done, total), &|i| {
        let Some(group) = groups.get(i / 2).copied() else { return Vec::new() };
        let inside = |e: &Example| e.group != group;
        let mask = (i % 2 == 1).then(|| corpus.vouched(inside));
        let weights = fit(&corpus, inside, mask.as_ref(), settings);
        Held::all(&corpus, |e| e.group == group && is_judged(e), &weights, mask.as_ref())
    });
    let side = |odd: usize| held.iter().skip(odd).step_by(2);
    let (written, vouched): (Vec<&[Held]>, Vec<&[Held]>) =
        (side(0).map(Vec::as_slice).collect(), side(1).map(Vec::as_slice).collect());
    let (written_reading, vouched_reading) = (reading(&written), reading(&vouched));
    let folds = written.iter().zip(&vouched).map(|(w, v)| fold(w, v)).collect();
    let requests = corpus.examples.iter().filter(|e| is_judged(e)).count();
    Ok(BySource {
        folds,
        written: written_reading,
        vouched: vouched_reading,
        requests,
        others: corpus.examples.iter().filter(|e| !e.dressed).count().saturating_sub(requests),
    })
}

fn right(h: &Held) -> bool {
    h.best(1.0).0 == h.class
}

fn share(held: &[Held]) -> f64 {
    held.iter().filter(|h| right(h)).count() as f64 / held.len().max(1) as f64
}

fn fold(written: &[Held], vouched: &[Held]) -> Fold {
    let sources: BTreeSet<&str> = written.iter().map(|h| h.source.as_str()).collect();
    Fold {
        sources: sources.into_iter().map(str::to_owned).collect(),
        requests: written.len(),
        accuracy: share(written),
        accuracy_vouched: share(vouched),
    }
}

/// The temperature of each fold is fitted on the other folds only.
fn reading(folds: &[&[Held]]) -> Reading {
    let mut reliability = Reliability::default();
    let mut pairs: BTreeMap<(Class, Class), usize> = BTreeMap::new();
    let mut sources: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (i, held) in folds.iter().enumerate() {
        let others: Vec<Held> =
            folds.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, f)| f.iter().cloned()).collect();
        let temperature = calibrate(&others);
        for h in *held {
            let (class, confidence) = h.best(temperature);
            reliability.add(confidence, class == h.class);
            let n = pairs.entry((h.class, class)).or_default();
            *n = n.saturating_add(1);
            let (hits, n) = sources.entry(&h.source).or_default();
            *hits = hits.saturating_add(usize::from(class == h.class));
            *n = n.saturating_add(1);
        }
    }
    let n: usize = pairs.values().sum();
    let hits: usize = pairs.iter().filter(|((t, p), _)| t == p).map(|(_, n)| n).sum();
    let f1 = f1(&pairs);
    let big: Vec<f64> = sources
        .values()
        .filter(|(_, n)| *n >= super::score::LEAST_OF_A_SOURCE)
        .map(|(hits, n)| *hits as f64 / *n as f64)
        .collect();
    Reading {
        accuracy: hits as f64 / n.max(1) as f64,
        macro_f1: f1.values().sum::<f64>() / f1.len().max(1) as f64,
        source_macro_accuracy: big.iter().sum::<f64>() / big.len().max(1) as f64,
        f1,
        confusion: confusion(&pairs),
        calibration_error: reliability.error(),
        reliability,
    }
}

fn f1(pairs: &BTreeMap<(Class, Class), usize>) -> BTreeMap<String, f64> {
    let labels: BTreeSet<Class> = pairs.keys().map(|(t, _)| *t).collect();
    let one = |class: Class| {
        let sum = |f: &dyn Fn(Class, Class) -> bool| -> usize {
            pairs.iter().filter(|((t, p), _)| f(*t, *p)).map(|(_, n)| n).sum()
        };
        let hits = sum(&|t, p| t == class && p == class).saturating_mul(2);
        let wrong = sum(&|t, p| (t == class) != (p == class));
        hits as f64 / hits.saturating_add(wrong).max(1) as f64
    };
    labels.into_iter().map(|class| (class.as_str().to_owned(), one(class))).collect()
}

fn confusion(pairs: &BTreeMap<(Class, Class), usize>) -> Vec<(String, String, usize)> {
    let wrong = pairs.iter().filter(|((t, p), _)| t != p);
    let mut all: Vec<(String, String, usize)> =
        wrong.map(|((t, p), n)| (t.as_str().to_owned(), p.as_str().to_owned(), *n)).collect();
    all.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.cmp(b)));
    all
}

impl fmt::Display for BySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "by source: {} requests judged by weights that have not seen their source, {} others trained on",
            self.requests, self.others
        )?;
        writeln!(f, "\n  {:<44} {:>9} {:>8}", "", "as written", "vouched")?;
        for (name, read) in [
            ("accuracy", (|r| r.accuracy) as fn(&Reading) -> f64),
            ("macro-F1", |r| r.macro_f1),
            ("source-macro accuracy", |r| r.source_macro_accuracy),
            ("calibration error", |r| r.calibration_error),
        ] {
            writeln!(f, "  {name:<44} {:>9.4} {:>9.4}", read(&self.written), read(&self.vouched))?;
        }
        for (family, f1) in &self.written.f1 {
            let vouched = self.vouched.f1.get(family).copied().unwrap_or(0.0);
            writeln!(f, "  F1 {family:<41} {f1:>9.3} {vouched:>9.3}")?;
        }
        writeln!(f, "\n  {:<44} {:>9} {:>9} {:>5}", "held out together", "accuracy", "vouched", "n")?;
        for fold in &self.folds {
            for (i, source) in fold.sources.iter().enumerate() {
                if i + 1 < fold.sources.len() {
                    writeln!(f, "  {source}")?;
                } else {
                    writeln!(
                        f,
                        "  {source:<44} {:>9.3} {:>9.3} {:>5}",
                        fold.accuracy, fold.accuracy_vouched, fold.requests
                    )?;
                }
            }
        }
        writeln!(f, "\n  task_family, vouched\n{}", self.vouched.reliability)?;
        writeln!(f, "  taken for another (label -> prediction)")?;
        for (label, predicted, n) in self.written.confusion.iter().take(15) {
            writeln!(f, "  {n:>5}  {label} -> {predicted}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = include_bytes!("../../data/own.jsonl");

    #[test]
    fn every_source_is_judged_once_by_weights_that_have_not_seen_it() {
        let settings = Settings { steps: 10, ..Settings::default() };
        let own = Input { name: "own", text: OWN };
        let fits = std::sync::Mutex::new(Vec::new());
        let progress = |done: usize, total: usize| fits.lock().expect("no panic").push((done, total));
        let found = by_source(&own, &[], &settings, &progress).expect("five sources");
        let lines = OWN.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
        assert_eq!((found.requests, found.others, found.folds.len()), (lines, 0, 5));
        assert_eq!(found.folds.iter().map(|f| f.requests).sum::<usize>(), lines);
        assert_eq!(fits.into_inner().expect("no panic").len(), 10, "two fits a fold");
        // What is written in one language says something of the others, and the start already knows much.
        assert!(found.written.accuracy > 0.6, "{found}");
        assert!(found.written.accuracy >= found.vouched.accuracy - 0.05, "{found}");
        assert!(found.to_string().contains("macro-F1"));
    }

    #[test]
    fn one_source_cannot_be_held_out() {
        let line = OWN.split(|b| *b == b'\n').next().expect("a line");
        let error = by_source(&Input { name: "own", text: line }, &[], &Settings::default(), &|_, _| {});
        assert!(matches!(error, Err(train::Error::Sources { found: 1, .. })), "{error:?}");
    }
}
