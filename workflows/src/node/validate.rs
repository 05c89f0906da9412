//! `validate`: runs checks over completions and sorts them by what the checks say.

use super::{Output, Resolved};
use crate::load::{Checks, Cx, later};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::run::{Host, RowId, State};
use serde_json::{Value, json};
use std::sync::Arc;
use types::Verdict;
use types::doc::Fields;

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Validate {
    /// Filled in by the loader where the file leaves it out.
    pub(crate) input: Vec<Ref>,
    pub(crate) checks: Checks,
    /// `keep: passing`.
    pub(crate) passing_only: bool,
    /// No other `validate` lies between it and delivery: checks that policies demand join it.
    pub(crate) last: bool,
}

impl Validate {
    pub(crate) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let input = f.take("input").map(|n| Ref::lower_list(cx, n, &f.at("input"))).unwrap_or_default();
        let checks = f
            .require(&mut cx.r, "validators")
            .map(|n| Checks::lower(cx, n, &f.at("validators")))
            .unwrap_or_default();
        if let Some(n) = f.take("mode")
            && cx.r.one_of(n, &f.at("mode"), &["all", "fail_fast"]) == Some("fail_fast")
        {
            cx.unsupported(n.span, "mode: fail_fast");
        }
        let passing_only = f
            .take("keep")
            .is_some_and(|n| cx.r.one_of(n, &f.at("keep"), &["passing", "all"]) == Some("passing"));
        later(cx, f, &["pass_when", "early_abort"]);
        Validate { input, checks, passing_only, last: false }
    }

    pub(crate) fn canonical(&self, ids: &[Arc<str>]) -> Value {
        let input: Vec<String> = self.input.iter().map(|r| r.canonical(ids)).collect();
        json!({"input": input, "checks": self.checks.canonical, "passing_only": self.passing_only})
    }

    pub(crate) fn run(&self, position: usize, host: &Host<'_>, state: &mut State) -> Resolved {
        let rows = state.read(&self.input);
        let checks = host.checks(position);
        for id in &rows {
            if let Some(row) = state.row_mut(*id) {
                let checked = host.check(&checks, &row.completion);
                row.join(checked);
                row.extras |= self.last;
            }
        }
        self.sort(rows, state)
    }

    fn sort(&self, rows: Vec<RowId>, state: &State) -> Resolved {
        let with = |wanted: &[Verdict]| -> Vec<RowId> {
            let is = |id: &RowId| state.row(*id).is_some_and(|r| wanted.contains(&r.verdict));
            rows.iter().copied().filter(is).collect()
        };
        // Nothing to check is nothing against it.
        let passing = with(&[Verdict::Passed, Verdict::None]);
        let unverified = with(&[Verdict::Unverified]);
        let outcome = if !passing.is_empty() {
            Outcome::Passed
        } else if !unverified.is_empty() {
            Outcome::Unverified
        } else {
            Outcome::Failed
        };
        let score = |id: &RowId| state.row(*id).map_or(0.0, |r| r.score);
        let best = rows.iter().copied().reduce(|a, b| if score(&b) > score(&a) { b } else { a });
        let best_row = best.and_then(|b| state.row(b));
        let mut usable = passing.clone();
        usable.extend(&unverified);
        let mut output = Output {
            failing: with(&[Verdict::Failed]),
            best,
            usable,
            completions: if self.passing_only { passing.clone() } else { rows },
            passing,
            ..Output::default()
        };
        output.facts.score = best_row.map(|r| r.score);
        output.facts.unverified = best_row.map(|r| r.unverified.clone()).unwrap_or_default();
        Resolved {
            outcome,
            output,
            findings: best_row.map(|r| r.findings.clone()).unwrap_or_default(),
            note: best_row.and_then(|r| r.reason.clone()),
        }
    }
}
