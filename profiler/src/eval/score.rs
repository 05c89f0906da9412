//! Sums over the labelled set: accuracy, F1, by source, other axes, latency.

use super::reliability::Reliability;
use super::row::{Prediction, Row};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Sources with fewer labelled requests do not enter the mean over sources.
pub(super) const LEAST_OF_A_SOURCE: usize = 20;

/// Names of the axes besides the family that are plotted.
const TOOL_DEPENDENCE: &str = "tool_dependence";
const OUTPUT_CONTRACT: &str = "output_contract";

/// Accuracy within one source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SourceAccuracy {
    /// Share of its labelled requests whose family is right, 0..=1.
    pub accuracy: f64,
    /// Labelled requests.
    pub n: usize,
}

/// Time per profile, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Slowest.
    pub max: f64,
}

/// How well the profiles meet the labels; the numbers of the labelled set's scoring script.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Requests with a task family.
    pub labelled: usize,
    /// Requests without a prediction; always 0 here, kept because the script reports it.
    pub missing: usize,
    /// Share of labelled requests whose family is right, 0..=1.
    pub accuracy: f64,
    /// Unweighted mean of the F1 of the families that occur in the labels, 0..=1.
    pub macro_f1: f64,
    /// Mean accuracy of the sources with at least twenty labelled requests, 0..=1; `None` if there is no such source.
    pub source_macro_accuracy: Option<f64>,
    /// F1 per family, 0..=1.
    pub f1: BTreeMap<String, f64>,
    /// Accuracy per source.
    pub by_source: BTreeMap<String, SourceAccuracy>,
    /// Share of requests whose number of offered tools is right, 0..=1; `None` if no request has that label.
    pub tools_offered: Option<f64>,
    /// Share whose enforced answer contract is right, 0..=1.
    pub output_contract: Option<f64>,
    /// Share whose topology (single turn, multi turn, documents, trajectory) is right, 0..=1.
    pub context_topology: Option<f64>,
    /// Share whose token estimate is within 25 % (plus four tokens) of bytes/4, 0..=1.
    pub tokens_within_25pct: Option<f64>,
    /// Share of requests with offered tools or none that are so profiled (`none` if and only if none are), 0..=1.
    pub tool_dependence: Option<f64>,
    /// How sure the profiles were of the family, against how often right.
    pub reliability: Reliability,
    /// The same of axes whose truth follows from the labels: whether tools may be used (`tool_dependence`), and whether the
    /// answer is to be JSON (`output_contract`). Their scores follow from rules, not from training; axes of which no request
    /// has a label are left out.
    pub axes: BTreeMap<&'static str, Reliability>,
    /// Mean gap between confidence and accuracy over ten bins of confidence, weighted by size, 0..=1.
    pub calibration_error: f64,
    /// Time per profile, if a clock was given.
    pub latency_ms: Option<Latency>,
    /// Families taken for others: label, prediction, how often; most often first.
    pub confusion: Vec<(String, String, usize)>,
    /// One line per request, as the scoring script reads them; not part of the serialised summary.
    #[serde(skip)]
    pub predictions: Vec<Value>,
}

/// A share as it grows.
#[derive(Default)]
struct Share {
    hits: usize,
    n: usize,
}

impl Share {
    fn add(&mut self, hit: bool) {
        self.n = self.n.saturating_add(1);
        self.hits = self.hits.saturating_add(usize::from(hit));
    }

    fn value(&self) -> Option<f64> {
        (self.n > 0).then(|| self.hits as f64 / self.n as f64)
    }
}

/// What is summed while the set is read.
#[derive(Default)]
pub(super) struct Tally {
    pairs: BTreeMap<(String, &'static str), usize>,
    sources: BTreeMap<String, Share>,
    tools: Share,
    contract: Share,
    topology: Share,
    tokens: Share,
    dependence: Share,
    reliability: Reliability,
    axes: BTreeMap<&'static str, Reliability>,
    latencies: Vec<f64>,
    predictions: Vec<Value>,
}

impl Tally {
    pub(super) fn add(&mut self, row: &Row, p: &Prediction) {
        if let Some(label) = row.task_family.as_deref().filter(|l| !l.is_empty()) {
            let hit = label == p.family;
            let pair = self.pairs.entry((label.to_owned(), p.family)).or_default();
            *pair = pair.saturating_add(1);
            self.sources.entry(row.source.clone()).or_default().add(hit);
            self.reliability.add(p.confidence, hit);
        }
        let axes = &row.axes;
        if let Some(tools) = axes.tools_offered {
            self.tools.add(tools == u64::from(p.tools));
            let right = (tools > 0) == p.uses_tools.0;
            self.dependence.add(right);
            self.axes.entry(TOOL_DEPENDENCE).or_default().add(p.uses_tools.1, right);
        }
        if let Some(json) = axes.json() {
            self.axes.entry(OUTPUT_CONTRACT).or_default().add(p.json.1, json == p.json.0);
        }
        if let Some(contract) = &axes.output_contract {
            self.contract.add(contract == p.contract);
        }
        if let Some(topology) = &axes.context_topology {
            self.topology.add(topology == p.topology);
        }
        if let Some(tokens) = axes.approx_input_tokens {
            self.tokens.add((f64::from(p.tokens) - tokens).abs() <= 0.25 * tokens + 4.0);
        }
        self.latencies.extend(p.latency_ms);
        self.predictions.push(p.line());
    }

    pub(super) fn finish(self) -> Evaluation {
        let labelled: usize = self.pairs.values().sum();
        let hits: usize = self.pairs.iter().filter(|((t, p), _)| t == p).map(|(_, n)| n).sum();
        let f1 = f1(&self.pairs);
        let by_source: BTreeMap<String, SourceAccuracy> = self
            .sources
            .into_iter()
            .filter_map(|(s, share)| Some((s, SourceAccuracy { accuracy: share.value()?, n: share.n })))
            .collect();
        let mut big = by_source.values().filter(|s| s.n >= LEAST_OF_A_SOURCE).map(|s| s.accuracy).peekable();
        let mut confusion: Vec<(String, String, usize)> = self
            .pairs
            .into_iter()
            .filter(|((t, p), _)| t != p)
            .map(|((t, p), n)| (t, p.to_owned(), n))
            .collect();
        confusion.sort_by_key(|c| std::cmp::Reverse(c.2));
        Evaluation {
            labelled,
            missing: 0,
            accuracy: hits as f64 / labelled.max(1) as f64,
            macro_f1: mean(f1.values().copied()),
            source_macro_accuracy: big.peek().is_some().then(|| mean(big)),
            f1,
            by_source,
            tools_offered: self.tools.value(),
            output_contract: self.contract.value(),
            context_topology: self.topology.value(),
            tokens_within_25pct: self.tokens.value(),
            tool_dependence: self.dependence.value(),
            calibration_error: self.reliability.error(),
            reliability: self.reliability,
            axes: self.axes,
            latency_ms: latency(self.latencies),
            confusion,
            predictions: self.predictions,
        }
    }
}

/// 2·tp / (2·tp + fp + fn) for every family that occurs as a label.
fn f1(pairs: &BTreeMap<(String, &'static str), usize>) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    for (family, _) in pairs.keys() {
        let sum = |f: &dyn Fn(&str, &str) -> bool| -> usize {
            pairs.iter().filter(|((t, p), _)| f(t, p)).map(|(_, n)| n).sum()
        };
        let tp = sum(&|t, p| t == family && p == family);
        let wrong = sum(&|t, p| (t == family) != (p == family));
        let twice = tp.saturating_mul(2);
        out.insert(family.clone(), twice as f64 / twice.saturating_add(wrong).max(1) as f64);
    }
    out
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_usize), |(s, n), v| (s + v, n.saturating_add(1)));
    sum / n.max(1) as f64
}

/// Percentiles as the script takes them: the element at ⌊n·q⌋ of the sorted list.
fn latency(mut all: Vec<f64>) -> Option<Latency> {
    all.sort_by(f64::total_cmp);
    let at = |q: f64| all.get((all.len() as f64 * q) as usize).copied();
    Some(Latency { p50: at(0.5)?, p99: at(0.99)?, max: all.last().copied()? })
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "task family: n={} accuracy={:.4} macro-F1={:.4} source-macro accuracy={} calibration error={:.4}",
            self.labelled,
            self.accuracy,
            self.macro_f1,
            self.source_macro_accuracy.map_or_else(|| "-".to_owned(), |a| format!("{a:.4}")),
            self.calibration_error
        )?;
        writeln!(f, "\n  {:<12} {:>6}", "family", "F1")?;
        for (family, f1) in &self.f1 {
            writeln!(f, "  {family:<12} {f1:>6.3}")?;
        }
        let width = self.by_source.keys().map(|s| s.chars().count()).max().unwrap_or(0).max("source".len());
        writeln!(f, "\n  {:<width$} {:>9} {:>5}", "source", "accuracy", "n")?;
        for (source, s) in &self.by_source {
            writeln!(f, "  {source:<width$} {:>9.3} {:>5}", s.accuracy, s.n)?;
        }
        writeln!(f)?;
        for (name, share) in [
            ("tools offered", self.tools_offered),
            ("output contract", self.output_contract),
            ("tool dependence", self.tool_dependence),
            ("context topology", self.context_topology),
            ("tokens within 25 %", self.tokens_within_25pct),
        ] {
            if let Some(share) = share {
                writeln!(f, "  {name:<20} {share:.4}")?;
            }
        }
        if let Some(l) = self.latency_ms {
            writeln!(
                f,
                "  {:<20} p50 {:.4} ms, p99 {:.4} ms, max {:.4} ms",
                "time per profile", l.p50, l.p99, l.max
            )?;
        }
        if self.labelled > 0 {
            write!(f, "\n  task_family\n{}", self.reliability)?;
        }
        for (axis, reliability) in &self.axes {
            write!(f, "\n  {axis}\n{reliability}")?;
        }
        if !self.confusion.is_empty() {
            writeln!(f, "\n  taken for another (label -> profile)")?;
        }
        for (label, predicted, n) in self.confusion.iter().take(15) {
            writeln!(f, "  {n:>5}  {label} -> {predicted}")?;
        }
        Ok(())
    }
}
