//! The completions of a run, and what each node has put out.

use super::Answer;
use crate::node::Output;
use crate::reference::Ref;
use std::sync::Arc;
use types::matrix::Model;
use types::run::Severity;
use types::{Completion, Finding, Verdict};
use validators::Checked;

/// A completion of the run's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowId(usize);

/// A completion and everything that is known about it. What checks and judges add is seen through every
/// reference to it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) completion: Arc<Completion>,
    pub(crate) model: Arc<Model>,
    pub(crate) verdict: Verdict,
    pub(crate) score: f64,
    pub(crate) findings: Vec<Finding>,
    /// Why something could not be checked.
    pub(crate) reason: Option<String>,
    pub(crate) unverified: Vec<&'static str>,
    pub(crate) judge: Option<f64>,
    pub(crate) total_ms: f64,
    /// The checks that policies demand have seen it.
    pub(crate) extras: bool,
}

impl Row {
    /// The default ranking: judge's score if there is one, else the checks', else one half.
    pub(crate) fn quality(&self) -> f64 {
        match (self.judge, self.verdict) {
            (Some(j), _) => j,
            (None, Verdict::None) => 0.5,
            (None, _) => self.score,
        }
    }

    /// Dollars; an unknown price counts as the highest.
    pub(crate) fn cost(&self) -> f64 {
        self.model.price.map_or(f64::INFINITY, |p| p.cost(&self.completion.usage).dollars())
    }

    /// Σ severity weight of its findings.
    pub(crate) fn weight(&self) -> f64 {
        self.findings.iter().map(|f| f.severity.weight()).sum()
    }

    /// Never to be delivered.
    pub(crate) fn blocked(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Block)
    }

    /// Adds what the checks of a node say to what earlier ones said: the worse verdict counts.
    pub(crate) fn join(&mut self, checked: Checked) {
        const fn rank(v: Verdict) -> u8 {
            match v {
                Verdict::None => 0,
                Verdict::Passed => 1,
                Verdict::Unverified => 2,
                Verdict::Failed => 3,
            }
        }
        let new = checked.report.verdict;
        if new == Verdict::None {
            return;
        }
        self.score =
            if self.verdict == Verdict::None { checked.score } else { self.score.min(checked.score) };
        if rank(new) > rank(self.verdict) {
            self.verdict = new;
        }
        for f in checked.report.findings {
            if !self.findings.contains(&f) {
                self.findings.push(f);
            }
        }
        self.reason = self.reason.take().or(checked.report.reason);
        self.unverified.extend(checked.unverified);
    }

    /// What is known of it, as one combined check.
    pub(crate) fn checked(&self) -> Checked {
        Checked {
            report: types::Report {
                verdict: self.verdict,
                reason: self.reason.clone(),
                findings: self.findings.clone(),
            },
            score: self.score,
            unverified: self.unverified.clone(),
        }
    }
}

/// Completions and outputs of a run.
pub(crate) struct State {
    rows: Vec<Row>,
    outputs: Vec<Output>,
}

impl State {
    pub(crate) fn new(nodes: usize) -> Self {
        State { rows: Vec::new(), outputs: vec![Output::default(); nodes] }
    }

    /// Adds a completion that nothing has checked yet.
    pub(crate) fn add(&mut self, answer: Answer) -> RowId {
        self.rows.push(Row {
            completion: Arc::new(answer.completion),
            model: answer.model,
            verdict: Verdict::None,
            score: 1.0,
            findings: Vec::new(),
            reason: None,
            unverified: Vec::new(),
            judge: None,
            total_ms: answer.ms,
            extras: false,
        });
        RowId(self.rows.len().saturating_sub(1))
    }

    pub(crate) fn row(&self, id: RowId) -> Option<&Row> {
        self.rows.get(id.0)
    }

    pub(crate) fn row_mut(&mut self, id: RowId) -> Option<&mut Row> {
        self.rows.get_mut(id.0)
    }

    pub(crate) fn output(&self, node: usize) -> Option<&Output> {
        self.outputs.get(node)
    }

    pub(crate) fn put(&mut self, node: usize, output: Output) {
        if let Some(o) = self.outputs.get_mut(node) {
            *o = output;
        }
    }

    /// The completions that references name, in their order, each once. Nodes that did not run give none.
    pub(crate) fn read(&self, refs: &[Ref]) -> Vec<RowId> {
        let mut found = Vec::new();
        for r in refs {
            let Some(output) = self.outputs.get(r.node) else { continue };
            for id in output.read(r.field) {
                if !found.contains(id) {
                    found.push(*id);
                }
            }
        }
        found
    }

    /// The best completion there is: passing first, then by quality. Never a blocked one.
    pub(crate) fn best(&self) -> Option<RowId> {
        let rank = |r: &Row| match r.verdict {
            Verdict::Passed | Verdict::None => 0_u8,
            Verdict::Unverified => 1,
            Verdict::Failed => 2,
        };
        let fit = self.rows.iter().enumerate().filter(|(_, r)| !r.blocked());
        fit.min_by(|(_, a), (_, b)| {
            rank(a)
                .cmp(&rank(b))
                .then(b.quality().total_cmp(&a.quality()))
                .then(a.weight().total_cmp(&b.weight()))
        })
        .map(|(i, _)| RowId(i))
    }

    /// Findings of the completion that is nearest to passing.
    pub(crate) fn worst_findings(&self) -> Vec<Finding> {
        let failed = self.rows.iter().filter(|r| !r.findings.is_empty());
        failed
            .min_by(|a, b| a.weight().total_cmp(&b.weight()))
            .map(|r| r.findings.clone())
            .unwrap_or_default()
    }
}
