//! The runs of a replay: which queries each protocol plays, what is known before, and what happens meanwhile.

use super::error::Error;
use super::off_policy::{self, Estimate};
use super::plan::{Event, Plan, Protocol};
use super::play::{Choice, Run, study};
use super::player::Prepared;
use super::reference::References;
use super::stage::{Exploration, Stage};
use super::summary::Summary;
use super::table::Table;
use std::borrow::Cow;

/// How a table is replayed.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// How runs explore.
    pub exploration: Exploration,
    /// What priors are learned from, and tested on, change places.
    pub swap: bool,
    /// Every seed has an order of its own, instead of the table's.
    pub shuffled: bool,
    /// What happens to models; `None` = what belongs to each protocol.
    pub events: Option<Vec<Event>>,
}

/// What warm runs know before they begin.
#[derive(Clone, Debug)]
pub enum Prior {
    /// There are none.
    Nothing,
    /// What one half of the table says; they play the other one.
    Half,
    /// What a learner saved; they play the whole table.
    Learned(Vec<u8>),
}

/// One run that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// What happens in it.
    pub protocol: Protocol,
    /// Points of success that the reference cost is worth.
    pub lambda: f64,
    /// Of order, draws and losses.
    pub seed: u64,
}

/// A table that is ready to be replayed.
#[derive(Debug)]
pub struct Replay<'a> {
    table: &'a Table,
    seen: Vec<Prepared>,
    setting: Setting,
    prior: Option<Vec<u8>>,
    /// What the prior was learned from.
    training: Vec<usize>,
    /// What warm runs play.
    tested: Vec<usize>,
}

/// Profiles all queries of a table; `step` is told of each. With `hide_task` the router is not told the source's family.
///
/// # Errors
/// The models of the table make no configuration.
pub fn prepare(table: &Table, hide_task: bool, step: impl Fn()) -> Result<Vec<Prepared>, Error> {
    let stage = Stage::new(&table.models, 0.2, table.cost_ref, Exploration::default())?;
    let one = |q: &super::table::Query| {
        step();
        Prepared::new(&stage, q.request.clone(), if hide_task { "" } else { &q.task })
    };
    Ok(table.queries.iter().map(one).collect())
}

impl<'a> Replay<'a> {
    /// Of a table whose queries are prepared.
    ///
    /// # Errors
    /// The prior cannot be learned.
    pub fn new(table: &'a Table, seen: Vec<Prepared>, prior: Prior, setting: Setting) -> Result<Self, Error> {
        let of = |tested: bool| -> Vec<usize> {
            let is = |q: &super::table::Query| q.is_tested(setting.swap) == tested;
            (0..table.queries.len()).filter(|i| table.queries.get(*i).is_some_and(is)).collect()
        };
        let whole = || (0..table.queries.len()).collect();
        let (prior, training, tested) = match prior {
            Prior::Nothing => (None, Vec::new(), whole()),
            Prior::Learned(state) => (Some(state), Vec::new(), whole()),
            Prior::Half => {
                let training = of(false);
                let state = study(table, &seen, &training, setting.exploration)?;
                (Some(state), training, of(true))
            }
        };
        Ok(Replay { table, seen, setting, prior, training, tested })
    }

    /// The queries of a protocol, in order.
    #[must_use]
    pub fn stream(&self, protocol: Protocol) -> Vec<usize> {
        let mut stream: Vec<usize> =
            if protocol.is_warm() { self.tested.clone() } else { (0..self.table.queries.len()).collect() };
        if protocol == Protocol::Blocks {
            stream.sort_by_key(|q| self.table.queries.get(*q).map(|x| x.blocks));
        }
        stream
    }

    /// What happens in the runs of a protocol. Which models change in it is found by a run without changes.
    ///
    /// # Errors
    /// As of [`Run::play`].
    pub fn plan(&self, protocol: Protocol, lambda: f64) -> Result<Plan, Error> {
        let mut used: Vec<usize> = Vec::new();
        if protocol.disturbs() {
            let job = Job { protocol: Protocol::Warm, lambda, seed: 1 };
            let made = self.play(job, &Plan::default(), &|| {})?;
            used = (0..self.table.models.len()).collect();
            used.sort_by_key(|m| std::cmp::Reverse(made.iter().filter(|x| x.model == *m).count()));
        }
        let plan = Plan::of(protocol, self.table, &used);
        let events = self.setting.events.clone().unwrap_or(plan.events);
        Ok(Plan { events, shuffled: self.setting.shuffled, ..plan })
    }

    /// Makes one run; `step` is told of every query.
    ///
    /// # Errors
    /// As of [`Run::play`].
    pub fn play(&self, job: Job, plan: &Plan, step: &(dyn Fn() + Sync)) -> Result<Vec<Choice>, Error> {
        let stream = self.stream(job.protocol);
        let prior = self.prior.as_deref().filter(|_| job.protocol.is_warm());
        self.run(&stream, plan, prior, (job.lambda, job.seed)).play(step, |_, _| {})
    }

    /// The table as a protocol serves it: what fixed models, and those who know everything, are measured on as well.
    #[must_use]
    pub fn served(&self, protocol: Protocol, plan: &Plan) -> Cow<'a, Table> {
        plan.on(self.table, &self.stream(protocol))
    }

    /// What runs of one protocol and λ came to on the table as it was served.
    #[must_use]
    pub fn summary(
        &self,
        (protocol, lambda): (Protocol, f64),
        served: &Table,
        runs: &[Vec<Choice>],
    ) -> Summary {
        let stream = self.stream(protocol);
        let training = if protocol.is_warm() { self.training.as_slice() } else { &[] };
        let references = References::of(served, &stream, training, lambda);
        Summary::of((protocol, lambda), stream.len(), references, runs)
    }

    /// Makes one cold run of the whole table, and estimates other λ from its log; `step` is told of every query.
    ///
    /// # Errors
    /// As of [`Run::play`].
    pub fn estimate(
        &self,
        (lambda, seed): (f64, u64),
        targets: &[f64],
        step: &(dyn Fn() + Sync),
    ) -> Result<Vec<Estimate>, Error> {
        let whole: Vec<usize> = (0..self.table.queries.len()).collect();
        let plan = Plan { shuffled: true, ..Plan::default() };
        off_policy::estimate(&self.run(&whole, &plan, None, (lambda, seed)), targets, step)
    }

    fn run<'r>(
        &'r self,
        stream: &'r [usize],
        plan: &'r Plan,
        prior: Option<&'r [u8]>,
        (lambda, seed): (f64, u64),
    ) -> Run<'r> {
        let (table, seen, exploration) = (self.table, &self.seen, self.setting.exploration);
        Run { table, seen, stream, plan, prior, lambda, seed, exploration }
    }
}
