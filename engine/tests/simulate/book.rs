//! What is true of a run: what vendors billed, what was asked and how it ended, what is recorded, and what is wrong.

use crate::days::Periods;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::time::Instant;
use types::outcome::{Billed, Late, Status};
use types::store::RequestRecord;
use types::{Usage, Usd};

/// Shared by everything in a run, over all lives of its engine.
pub(crate) struct Book {
    began: Instant,
    facts: Mutex<Facts>,
}

#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) trace: Vec<String>,
    pub(crate) problems: Vec<String>,
    /// What vendors were asked for, in the order of the calls.
    pub(crate) bills: Vec<Bill>,
    /// Calls that have not ended.
    pub(crate) in_flight: usize,
    pub(crate) asked: BTreeMap<String, Asked>,
    /// By request: what was written down of it.
    pub(crate) records: BTreeMap<String, RequestRecord>,
    /// By request: what was paid for after its answer.
    pub(crate) late: BTreeMap<String, Vec<Billed>>,
    /// Requests of which the store took no record.
    pub(crate) refused: BTreeSet<String>,
    /// By tenant: texts that a vendor gave to their end.
    pub(crate) texts: BTreeMap<&'static str, BTreeSet<String>>,
}

/// What one call really came to, by its vendor's own count.
pub(crate) struct Bill {
    pub(crate) request: String,
    pub(crate) model: Arc<str>,
    pub(crate) usd: u64,
    /// What it told of it; `None` = nothing, or not all.
    pub(crate) told: Option<Usage>,
    /// The answer came to its end.
    pub(crate) whole: bool,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) tenant: &'static str,
    /// Models that must not be called for it, whatever rules say.
    pub(crate) never: BTreeSet<&'static str>,
    /// It is going to have a record.
    pub(crate) on_record: Option<engine::OnRecord>,
    /// How its client saw it end; `None` = the process died before.
    pub(crate) end: Option<Status>,
    /// The life of the engine that it was put to.
    pub(crate) life: u32,
    /// On which day, and in which month.
    pub(crate) periods: Periods,
    /// A day or month began, or the clock was set, while it was in work: it may count in either.
    pub(crate) crosses: bool,
    /// Nothing of it is in work any more.
    pub(crate) rested: bool,
    /// With which key.
    pub(crate) key: String,
}

impl Book {
    pub(crate) fn new() -> Arc<Book> {
        Arc::new(Book { began: Instant::now(), facts: Mutex::default() })
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn say(&self, line: impl AsRef<str>) {
        let ms = self.began.elapsed().as_millis();
        self.facts().trace.push(format!("{ms:>8} {}", line.as_ref()));
    }

    /// Something that must hold does not.
    pub(crate) fn wrong(&self, what: impl AsRef<str>) {
        let ms = self.began.elapsed().as_millis();
        self.facts().problems.push(format!("at {ms} ms: {}", what.as_ref()));
    }

    pub(crate) fn must(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong(what());
        }
    }

    /// A record passes on its way to the store.
    pub(crate) fn records(&self, record: &RequestRecord, taken: bool) {
        let (o, id) = (&record.outcome, record.outcome.request_id.clone());
        let calls: Vec<String> = record
            .run
            .calls()
            .map(|c| {
                let end = c.error.as_ref().map_or("ok", |e| e.kind.as_str());
                format!("{} {} {end} {}+{}", c.model, c.purpose, c.usage.input, c.usage.output)
            })
            .collect();
        let error = o.error.as_deref().unwrap_or("-");
        let kept = if taken { "record" } else { "lost record" };
        let recalled = if record.run.recalled > 0 { " recalled" } else { "" };
        self.say(format!(
            "{kept} {id} {:?} {error} {} of {}{recalled} [{}]",
            o.status,
            o.cost_usd,
            record.decision.why,
            calls.join(", ")
        ));
        let sum: i64 = record.run.calls().filter_map(|c| c.cost_usd).map(Usd::nanos).sum();
        self.must(sum == o.cost_usd.nanos(), || format!("{id}: its calls cost {sum}, it {}", o.cost_usd));
        let mut facts = self.facts();
        if facts.records.insert(id.clone(), record.clone()).is_some() {
            facts.problems.push(format!("{id} has two records"));
        }
        if !taken {
            facts.refused.insert(id);
        }
    }

    /// So does what was paid for after an answer.
    pub(crate) fn pays_late(&self, late: &Late) {
        let calls: Vec<String> = late.calls.iter().map(|b| format!("{} {}", b.model, b.cost_usd)).collect();
        self.say(format!("late {} [{}]", late.request_id, calls.join(", ")));
        let before = self.facts().late.insert(late.request_id.clone(), late.calls.clone());
        self.must(before.is_none(), || format!("{} is paid for twice after its answer", late.request_id));
    }
}
