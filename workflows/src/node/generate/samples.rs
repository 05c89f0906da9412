//! The samples of a `generate` node, side by side.

use super::{Generate, OnLoss, Opening, Race};
use crate::ending::RunFailure;
use crate::node::{Fault, NodeResult, Resolved, validate};
use crate::outcome::Outcome;
use crate::run::{Answer, At, EarlyAbort, Origin, RowId, Table, Together};
use crate::value::{Ty, Value};
use crate::world::Failure;
use std::sync::Arc;
use types::completion::FinishReason;
use types::expr;

/// What has come of the samples so far.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In the order in which they arrived.
    pub(super) rows: Vec<RowId>,
    /// Each with how many calls that sample had made.
    pub(super) failed: Vec<(Failure, u32)>,
    /// Samples that were not taken: no model was left for them that the others do not have.
    pub(super) fewer: u32,
    pub(super) hedged: bool,
}

/// What became of one sample.
struct One {
    sample: u32,
    /// The answer, and which call it came of.
    result: Result<(Answer, u32), Failure>,
    calls: u32,
    hedged: bool,
}

impl Generate {
    /// Asks until there are enough answers, and until the client has no more tools to run for them.
    pub(super) async fn run(&self, at: At<'_>) -> NodeResult {
        let opening = self.opening(&at)?;
        let first = self.gather(&at, 0, &opening).await?;
        self.with_client(&at, first, opening).await
    }

    /// Takes all samples at once, the first of which has this number, until there are enough of them.
    pub(super) async fn gather(&self, at: &At<'_>, from: u32, opening: &Opening) -> Result<Gathered, Fault> {
        let mut calls = Together::new();
        let samples = self.how_many(at.host, at.frame.is_called());
        let numbers = from..from.saturating_add(samples);
        numbers.for_each(|i| calls.push(Box::pin(self.one(at, i, opening.clone()))));
        let mut got = Gathered::default();
        while let Some(one) = calls.next().await {
            got.hedged |= one.hedged;
            match one.result {
                Ok((answer, attempt)) => {
                    let origin = Origin::of(&at.path, one.sample, attempt);
                    got.rows.push(at.host.table().add(answer, origin));
                    if self.stop(at, &got.rows)? {
                        break;
                    }
                }
                Err(Failure::NoCandidate { .. }) if self.distinct.is_some() && one.sample > 0 => {
                    got.fewer = got.fewer.saturating_add(1);
                }
                Err(e) => got.failed.push((e, one.calls)),
            }
        }
        // What is still under way is not waited for.
        drop(calls);
        // Policies may ask for fewer samples than the file wants answers.
        let least = self.min_ok.min(samples);
        if got.rows.len() >= usize::try_from(least).unwrap_or(usize::MAX) {
            return Ok(got);
        }
        let few = || {
            let own = samples.saturating_sub(got.fewer);
            let why = format!(
                "only {own} of {samples} samples find one that no other has, and `min_ok` is {least}"
            );
            Failure::nobody(why)
        };
        let Some((last, _)) = got.failed.pop() else { return Err(few().into()) };
        Err(Fault::Calls(last, of_samples(got.failed, &at.path)))
    }

    /// One sample; where its answer is lost on the way, another call may take its place.
    async fn one(&self, at: &At<'_>, sample: u32, opening: Opening) -> One {
        let watch = validate::watch(at);
        let mut ask = self.ask(at, sample, opening);
        ask.stream |= watch.is_some();
        let mut race = Race::new(self.race_by(at), at, ask);
        let result = loop {
            let (attempt, opened) = match race.winner().await {
                Ok(won) => won,
                Err(e) => break Err(e),
            };
            // What is watched is read as a stream, which may be lost where a whole answer is asked for again.
            let may = race.more() || watch.is_some() && attempt == 1;
            match at.read(opened, watch.as_ref().map(EarlyAbort::again)).await {
                Err(e) if self.on_loss != OnLoss::Fail && e.is_lost() && may => {}
                result => break result.map(|answer| (answer, attempt)),
            }
        };
        One { sample, result, calls: race.made(), hedged: race.hedged() }
    }

    /// Whether what there is suffices, so that the rest is cancelled.
    fn stop(&self, at: &At<'_>, rows: &[RowId]) -> Result<bool, expr::Error> {
        let Some(e) = &self.stop_when else { return Ok(false) };
        if rows.len() < usize::try_from(self.min_ok).unwrap_or(usize::MAX) {
            return Ok(false);
        }
        let completions = Value::Rows(rows.to_vec()).json(&at.host.table());
        e.holds(&at.frame.scope(e, at.host, &[("completions", completions)]))
    }
}

/// The type of `completions` in `stop_when`.
pub(super) fn completions() -> expr::Type {
    Ty::Completions.expr()
}

/// What the node of that path puts out.
pub(super) fn resolved(got: Gathered, path: &Arc<str>, table: &Table) -> Resolved {
    let rows: Vec<_> = got.rows.iter().filter_map(|id| table.row(*id)).collect();
    let served: Vec<&str> = rows.iter().map(|r| &*r.model.id).collect();
    let all =
        |f: &dyn Fn(&types::Completion) -> bool| !rows.is_empty() && rows.iter().all(|r| f(&r.completion));
    let outcome = if rows.iter().any(|r| !r.completion.tool_calls().is_empty()) {
        Outcome::ToolCalls
    } else if all(&|c| c.refused()) {
        Outcome::Refused
    } else if all(&|c| c.finish_reason() == Some(&FinishReason::Length)) {
        Outcome::Truncated
    } else {
        Outcome::Ok
    };
    let stopped = rows.iter().find(|r| r.doomed).and_then(|r| r.findings.first());
    let stopped = stopped.map(|f| format!("stopped before its end: {}", f.message));
    let failed = of_samples(got.failed, path);
    let notes: Vec<String> = stopped.into_iter().chain(missing(got.rows.len(), &failed, got.fewer)).collect();
    let note = (!notes.is_empty()).then(|| notes.join("; "));
    let failed: Vec<_> = failed.iter().map(RunFailure::as_json).collect();
    let outputs = vec![
        Value::row(got.rows.first().copied()),
        Value::count(got.rows.len()),
        Value::list(&failed),
        Value::Bool(got.hedged),
        Value::list(&served),
    ];
    let outputs = std::iter::once(Value::Rows(got.rows)).chain(outputs).collect();
    Resolved { note, ..Resolved::with(outcome, outputs) }
}

/// Why samples of the node of that path have given nothing.
fn of_samples(failed: Vec<(Failure, u32)>, path: &Arc<str>) -> Vec<RunFailure> {
    failed.into_iter().map(|(f, calls)| RunFailure::of(f).at(path, calls)).collect()
}

/// For the record: how many samples there are not, beside those there are, and why.
fn missing(answers: usize, failed: &[RunFailure], fewer: u32) -> impl Iterator<Item = String> {
    let asked = answers.saturating_add(failed.len()).saturating_add(usize::try_from(fewer).unwrap_or(0));
    let first = failed.first();
    let failed = first.map(|f| format!("{} of {asked} samples failed: {}", failed.len(), f.message));
    let apart = (fewer > 0).then(|| format!("{fewer} of {asked} samples found no model that no other has"));
    failed.into_iter().chain(apart)
}
