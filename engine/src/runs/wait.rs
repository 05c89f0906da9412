//! Clients that wait for a run, as if it were a request.

use super::service::{Failure, Runs};
use super::{drive, tape};
use crate::error;
use std::sync::Arc;
use std::time::Duration;
use types::runs::{Entry, Record, Row};
use types::{Usage, Usd};

/// How often a run is looked at whatever is heard of it: another process may walk it.
const LOOK: Duration = Duration::from_secs(1);

/// What a run did since it last waited for somebody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stretch {
    /// What its calls used.
    pub usage: Usage,
    /// What they cost; those of unknown price count nothing.
    pub cost: Usd,
    /// Every call had a known price.
    pub cost_known: bool,
    /// Model calls.
    pub calls: u32,
    /// The model that answered last.
    pub model: Option<Arc<str>>,
    /// A model was asked whose answers are made up.
    pub simulated: bool,
    /// Hash of the configuration that the run was decided under, as its record has it; `None` = nothing was decided.
    pub bundle: Option<Arc<str>>,
}

impl Runs {
    /// Waits until a run has ended, or waits for somebody itself. Who leaves before that ends the run.
    ///
    /// # Errors
    /// It is not there; the store failed; the server stops, and the run goes on when it is back.
    pub async fn settled(&self, tenant: &str, id: &str) -> Result<Row, Failure> {
        let (mut changes, mut stop) = (self.follow(id), self.0.stop.subscribe());
        let mut waits = Waits { runs: self, tenant, id, waits: true };
        loop {
            changes.seen();
            let row = self.get(tenant, id).await?;
            if row.head.state.is_final() || row.head.state.is_waiting() {
                waits.waits = false;
                return Ok(row);
            }
            tokio::select! {
                biased;
                () = drive::stopped(&mut stop) => {
                    waits.waits = false;
                    return Err(Failure::Engine(Box::new(error::Kind::ShuttingDown.into())));
                }
                () = changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What a run did since it last waited; whoever asks has looked whose run it is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stretch(&self, id: &str) -> Result<Stretch, Failure> {
        let made_up = |model: &str| self.0.engine.is_simulated(model) == Some(true);
        Ok(stretch(&self.whole_journal(id).await?, &made_up))
    }
}

/// A client that waits for a run.
struct Waits<'r> {
    runs: &'r Runs,
    tenant: &'r str,
    id: &'r str,
    waits: bool,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if !self.waits {
            return;
        }
        let (runs, tenant, id) = (self.runs.clone(), self.tenant.to_owned(), self.id.to_owned());
        let end = async move {
            if let Err(error) = runs.cancel(&tenant, &id, "whoever waited for it has left").await {
                tracing::warn!(run = id, %error, "a run that nobody waits for any more goes on");
            }
        };
        (self.runs.0.start)("run left", Box::pin(end));
    }
}

fn stretch(entries: &[Entry], made_up: &dyn Fn(&str) -> bool) -> Stretch {
    let bundle = entries.iter().rev().find_map(|e| match &e.record {
        Record::Decision { decision } => Some(decision.bundle.as_str().into()),
        _ => None,
    });
    let waited = |e: &Entry| matches!(e.record, Record::Suspended { .. });
    // Where it waits now, that is the end of the stretch and not its beginning.
    let end = entries.iter().rposition(|e| !waited(e)).map_or(0, |at| at.saturating_add(1));
    let entries = entries.get(..end).unwrap_or_default();
    let begin = entries.iter().rposition(waited).unwrap_or(0);
    let mut all = Stretch { cost_known: true, bundle, ..Stretch::default() };
    for entry in entries.iter().skip(begin) {
        let Record::CallResult { result, .. } = &entry.record else { continue };
        for call in tape::paid_calls(result) {
            all.usage = all.usage.plus(call.usage);
            all.cost = all.cost.plus(call.cost_usd.unwrap_or_default());
            all.cost_known &= call.cost_usd.is_some();
            all.calls = all.calls.saturating_add(1);
            all.simulated |= made_up(&call.model);
            all.model = Some(call.model).filter(|_| call.error.is_none()).or(all.model);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use types::runs::State;

    #[test]
    fn a_stretch_reaches_from_one_wait_to_the_next() {
        let call = |model: &str, usd: f64| {
            json!({"calls": [{"model": model, "purpose": "primary", "attempt": 1, "usage": Usage { input: 10, output: 5, ..Usage::default() },
                "cost_usd": usd, "total_ms": 1.0, "started_ms": 0.0}]})
        };
        let result = |result: Value| Record::CallResult { effect: "a".into(), result, cost: None, tokens: 0 };
        let waits = Record::Suspended { state: State::Suspended, waiting: Value::Null };
        let mut taken_over = call("p/c", 9.0);
        taken_over["from"] = json!(1);
        let all =
            [result(call("p/a", 1.0)), waits.clone(), result(taken_over), result(call("p/b", 2.0)), waits];
        let check = |upto: usize, calls: u32, usd: f64, model: Option<&str>| {
            let entries = (1..).zip(all.iter().take(upto).cloned());
            let entries = entries.map(|(seq, record)| Entry { seq, ts_ms: 0, epoch: 1, record });
            let got = stretch(&entries.collect::<Vec<_>>(), &|model| model == "p/b");
            assert_eq!((got.calls, got.cost.dollars(), got.model.as_deref()), (calls, usd, model), "{upto}");
            assert_eq!(got.simulated, model == Some("p/b"), "{upto}");
            assert_eq!(got.usage.output, 5 * calls, "{upto}");
        };
        check(0, 0, 0.0, None);
        check(1, 1, 1.0, Some("p/a"));
        check(2, 1, 1.0, Some("p/a"));
        check(4, 1, 2.0, Some("p/b"));
        check(5, 1, 2.0, Some("p/b"));
    }
}
