//! `validate`: runs checks over completions and sorts them by what the checks say.

use super::{Begun, Fault, NodeResult, NodeSpec, NodeType, Out, Read, Resolved, Spec};
use crate::load::{Checks, Cx, Expr};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::run::{At, RowId, Table};
use crate::value::{self, Ty, Value, completion, finding};
use futures_util::future::join_all;
use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use types::Verdict;
use types::doc::Fields;
use types::expr::Type;
use validators::{Checked, OnFail};

mod early_abort;
mod outside;
mod suite;
#[cfg(test)]
mod tests;
mod timed;

pub(crate) use early_abort::{lets_failed_on, mends, watch};
pub(crate) use suite::Suite;

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Passed, Outcome::Unverified, Outcome::Failed],
    words: &["passed", "unverified", "failed", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(10),
    tells_of_checks: true,
    outputs: |_| {
        vec![
            Out::new("completions", Ty::Completions),
            Out::new("passing", Ty::Completions),
            Out::new("usable", Ty::Completions),
            Out::new("failing", Ty::Completions),
            Out::new("best", Ty::Completion),
            Out::data("passed", Type::Bool),
            Out::data("all_passed", Type::Bool),
            Out::data("score", Type::Float.optional()),
            Out::data("unverified", Type::Str.list()),
            Out::data("findings", finding().list()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Validate(Box::new(Validate::lower(cx, f))))
};

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Validate {
    /// Filled in by the loader where the file leaves it out.
    pub(crate) input: Vec<Ref>,
    pub(crate) checks: Checks,
    /// The first check that fails ends the checks of a completion.
    pub(crate) fail_fast: bool,
    /// What decides in the place of severities.
    pub(crate) pass_when: Option<Expr>,
    /// `keep: passing`.
    pub(crate) passing_only: bool,
    /// It may stop an answer that cannot pass before its end.
    pub(crate) early_abort: bool,
    /// No other `validate` lies between it and delivery: checks that policies demand join it.
    pub(crate) last: bool,
}

impl Validate {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let wanted: (fn(&Ty) -> bool, &str) = (Ty::may_be_text_or_list, "completions, a text or data");
        let input =
            f.take("input").map(|n| Ref::lower_each(cx, n, &f.at("input"), wanted)).unwrap_or_default();
        let checks = f
            .require(&mut cx.r, "validators")
            .map(|n| Checks::lower_some(cx, n, &f.at("validators")))
            .unwrap_or_default();
        let fail_fast = f
            .take("mode")
            .is_some_and(|n| cx.r.one_of(n, &f.at("mode"), &["all", "fail_fast"]) == Some("fail_fast"));
        let pass_when = f.take("pass_when").and_then(|n| {
            let seen = [("completion", completion()), ("findings", finding().list()), ("score", Type::Float)];
            cx.expr(n, &f.at("pass_when"), Some(&Type::Bool), &seen)
        });
        let passing_only = f
            .take("keep")
            .is_some_and(|n| cx.r.one_of(n, &f.at("keep"), &["passing", "all"]) == Some("passing"));
        let early_abort =
            f.take("early_abort").and_then(|n| cx.r.boolean(n, &f.at("early_abort"))).unwrap_or(true);
        Validate { input, checks, fail_fast, pass_when, passing_only, early_abort, last: false }
    }

    /// Puts what the checks say of a completion to what is known of it.
    fn note(&self, at: &At<'_>, checks: &Suite<'_>, id: RowId, checked: Checked) -> Result<(), Fault> {
        let checked = checks.decide(checked, || at.host.table().json(id))?;
        let dropped = checks.failed(&checked.report.findings, &[OnFail::Drop]).is_some();
        if let Some(row) = at.host.table().row_mut(id) {
            row.join(checked);
            row.extras |= self.last;
            row.dropped |= dropped;
        }
        Ok(())
    }

    fn sort(&self, rows: &[RowId], table: &Table) -> Resolved {
        let with = |wanted: &[Verdict]| -> Vec<RowId> {
            let is = |id: &RowId| table.row(*id).is_some_and(|r| wanted.contains(&r.verdict));
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
        let score = |id: &RowId| table.row(*id).map_or(0.0, |r| r.score);
        let best = rows.iter().copied().reduce(|a, b| if score(&b) > score(&a) { b } else { a });
        let best_row = best.and_then(|b| table.row(b));
        let kept = |id: &RowId| table.row(*id).is_none_or(|r| !r.dropped);
        let kept = rows.iter().copied().filter(kept).collect();
        let mut usable = passing.clone();
        usable.extend(&unverified);
        let (passed, all) = (!passing.is_empty(), !rows.is_empty() && passing.len() == rows.len());
        let unable = best_row.map(|r| r.unverified.as_slice()).unwrap_or_default();
        let findings = best_row.map(|r| r.findings.clone()).unwrap_or_default();
        let outputs = vec![
            Value::Rows(if self.passing_only { passing.clone() } else { kept }),
            Value::Rows(passing),
            Value::Rows(usable),
            Value::Rows(with(&[Verdict::Failed])),
            Value::row(best),
            Value::Bool(passed),
            Value::Bool(all),
            Value::float(best_row.map(|r| r.score)),
            Value::list(unable),
            Value::list(&value::findings(&findings)),
        ];
        let note = best_row.and_then(|r| r.reason.clone());
        Resolved { findings, note, ..Resolved::with(outcome, outputs) }
    }
}

impl Spec for Validate {
    fn canonical(&self) -> Json {
        let input: Vec<&str> = self.input.iter().map(Ref::canonical).collect();
        json!({"input": input, "checks": self.checks.canonical, "passing_only": self.passing_only,
            "early_abort": self.early_abort, "fail_fast": self.fail_fast,
            "pass_when": self.pass_when.as_ref().map(Expr::source)})
    }

    fn given(&self, outputs: &mut Map<String, Json>) -> Result<Outcome, String> {
        // That nothing could be checked is not known to be a failure either.
        Ok(match outputs.get("passed").and_then(Json::as_bool) {
            Some(true) => Outcome::Passed,
            Some(false) => Outcome::Failed,
            None => Outcome::Unverified,
        })
    }

    fn reads(&self) -> Vec<Read<'_>> {
        let own = self.input.iter().map(|reference| Read { reference, may_be_absent: false });
        own.chain(self.checks.reads()).collect()
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.pass_when.iter().collect()
    }

    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let rows = at.answers(&self.input);
        let checks = Suite::of_node(&at, self);
        if !checks.is_pure() {
            return Begun::waits(self.outside(at, rows, checks));
        }
        Begun::now(|| {
            for id in &rows {
                let whole = at.host.table().row(*id).filter(|r| !r.doomed).map(|r| r.completion.clone());
                let Some(completion) = whole else { continue };
                self.note(&at, &checks, *id, checks.at_once(&completion))?;
            }
            Ok(self.sort(&rows, &at.host.table()))
        })
    }
}

impl Validate {
    /// Checks completions, all at the same time, that something outside has a say in.
    async fn outside(&self, at: At<'_>, rows: Vec<RowId>, checks: Suite<'_>) -> NodeResult {
        let completions: Vec<_> = {
            let table = at.host.table();
            let whole = rows.iter().filter_map(|id| Some((*id, table.row(*id).filter(|r| !r.doomed)?)));
            whole.map(|(id, r)| (id, r.completion.clone())).collect()
        };
        let each = completions.iter().map(|(id, c)| {
            let checks = &checks;
            async move { (*id, checks.check(c).await) }
        });
        for (id, checked) in join_all(each).await {
            self.note(&at, &checks, id, checked)?;
        }
        Ok(self.sort(&rows, &at.host.table()))
    }
}
