//! The lives of an engine in one run, and what must hold after each step and at rest.

use crate::book::Book;
use crate::clients;
use crate::keeping::{Counted, Folders, Kept, Wall};
use crate::traffic::{self, Budget, Caller, EXCLUDED, Pause, Plan, Step, TENANTS};
use crate::vendor::Vendors;
use engine::{Bundle, Config, Engine, Parts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use types::decision::Exclusion;
use types::limits::{Amount, Metric};
use types::matrix::Availability;
use types::outcome::{Billed, Feedback, Status};
use types::run::CallRecord;
use types::store::RequestRecord;
use types::{UnitInterval, Usd};

const DAY_MS: i64 = 86_400_000;
/// Why a model is excluded that nothing may call all the same.
const FIRM: [&str; 5] = ["rule", "option", "no_key", "unknown_price", "context_window"];
/// 2026-07-01 10:00 UTC.
const MORNING: i64 = 1_782_900_000_000;
/// Nobody waits for longer than this for an answer.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What came of a run.
pub(crate) struct Run {
    pub(crate) trace: Vec<String>,
    pub(crate) problems: Vec<String>,
}

/// The run of a seed.
pub(crate) fn run(seed: u64) -> Run {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed, traffic::plan(seed));
        world.all().await;
        let mut facts = world.book.facts();
        Run { trace: std::mem::take(&mut facts.trace), problems: std::mem::take(&mut facts.problems) }
    })
}

/// One life of the engine.
struct Life {
    engine: Engine,
    kept: Arc<Kept>,
    counted: Arc<Counted>,
    clients: JoinSet<()>,
    /// What goes on after answers.
    work: Arc<Mutex<JoinSet<()>>>,
}

struct World {
    book: Arc<Book>,
    wall: Arc<Wall>,
    vendors: Arc<Vendors>,
    bundles: [Arc<Bundle>; 2],
    in_force: usize,
    /// The provider whose key is gone; one that there is not = none is.
    gone: usize,
    callers: Arc<Vec<Caller>>,
    budgets: Vec<Budget>,
    steps: Vec<(Duration, Step)>,
    folders: Option<Folders>,
    config: Config,
    /// The latest day that there was.
    day: i64,
    /// Of the engine.
    number: u32,
    life: Option<Life>,
}

impl World {
    fn new(seed: u64, plan: Plan) -> World {
        let book = Book::new();
        let Plan { disk, callers, budgets, max_inflight, steps } = plan;
        book.say(format!("seed {seed}, {}", if disk { "disk" } else { "memory" }));
        World {
            vendors: Vendors::new(&book, seed),
            wall: Wall::at(MORNING),
            bundles: traffic::bundles(),
            in_force: 0,
            gone: usize::MAX,
            callers: Arc::new(callers),
            budgets,
            steps,
            folders: disk.then(Folders::new),
            config: Config { max_inflight, queue: 8, seed: Some(seed), ..Config::default() },
            day: MORNING.div_euclid(DAY_MS),
            number: 0,
            life: None,
            book,
        }
    }

    async fn all(&mut self) {
        self.begin();
        for (wait, step) in std::mem::take(&mut self.steps) {
            sleep(wait).await;
            self.step(step).await;
            self.no_budget_is_overspent();
            self.no_limit_on_places_is_passed();
        }
        self.rest(Pause::Minute).await;
        let life = self.life.take().unwrap();
        drop(life.engine);
        life.kept.close();
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().unwrap()
    }

    /// Which models have a key.
    fn availability(&self) -> Vec<Availability> {
        let models = self.bundles[0].matrix().models();
        let of = |provider| match provider == self.gone {
            true => Availability::NoKey(vec!["KEY".to_owned()]),
            false => Availability::Ready,
        };
        models.iter().map(|m| of(m.provider)).collect()
    }

    /// Opens what there is and makes an engine of it.
    fn begin(&mut self) {
        let folder = self.folders.as_ref().map(Folders::now);
        let (kept, statistics) = Kept::open(folder.as_deref(), &self.book, &self.wall);
        let counted = Counted::new(&self.book, &self.wall);
        if self.number > 0 && self.folders.is_some() {
            self.what_was_said_is_there(&kept);
        }
        for budget in &self.budgets {
            let spent = self.spent(budget);
            counted.count(budget.tenant, &budget.limit, spent);
        }
        let bundle = self.bundles[self.in_force].clone();
        let engine = Engine::new(Parts {
            availability: self.availability(),
            bundle,
            provider: self.vendors.clone(),
            store: kept.clone(),
            statistics,
            limits: Some(counted.clone()),
            finished: None,
            config: self.config.clone(),
        });
        let work: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let begun = work.clone();
        engine.work_in(Arc::new(move |_, what| _ = begun.lock().unwrap().spawn(what)));
        self.life = Some(Life { engine, kept, counted, clients: JoinSet::new(), work });
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask(ask) => {
                let (callers, book) = (self.callers.clone(), self.book.clone());
                let when = (self.number, self.day);
                let life = self.life();
                life.clients.spawn(clients::ask(life.engine.clone(), callers, *ask, book, when));
                tokio::task::yield_now().await;
            }
            Step::Turn => self.vendors.turn(),
            Step::Swap => {
                self.in_force = 1 - self.in_force;
                self.book.say(format!("swap to {}", self.in_force));
                let (bundle, vendors) = (self.bundles[self.in_force].clone(), self.vendors.clone());
                let availability = self.availability();
                self.life().engine.reload(bundle, vendors, availability);
            }
            Step::Keys(gone) => {
                self.book.say(format!("no key of provider {gone}"));
                self.gone = gone;
                let (vendors, availability) = (self.vendors.clone(), self.availability());
                self.life().engine.reach(vendors, availability);
            }
            Step::Clock(by) => {
                // Far from midnight: what is in work then counts for the day in which it began.
                let hour = (self.wall.now() + by).rem_euclid(DAY_MS) / 3_600_000;
                if (4..20).contains(&hour) {
                    self.book.say(format!("clock {by} ms"));
                    self.wall.step(by);
                }
            }
            Step::CatchUp => self.life().kept.catch_up(),
            Step::Word(n) => self.word(n).await,
            Step::Unwritable(n) => {
                self.book.say(format!("unwritable {n}"));
                self.life().kept.unwritable.store(n, std::sync::atomic::Ordering::Relaxed);
            }
            Step::Rest(pause) => self.rest(pause).await,
            Step::Restart => {
                self.life().engine.drain();
                self.rest(Pause::None).await;
                self.book.say("restart");
                let life = self.life.take().unwrap();
                drop(life.engine);
                life.kept.close();
                drop(life.kept);
                if let Some(folders) = &self.folders {
                    folders.remember();
                }
                self.number += 1;
                self.begin();
            }
            // Without a disk nothing outlives the process, so there is nothing to look at after it.
            Step::Kill(torn) if self.folders.is_some() => self.kill(&torn).await,
            Step::Kill(_) => {}
        }
    }

    /// The process dies: what it had in work is gone, and what it wrote is there.
    async fn kill(&mut self, torn: &[u8]) {
        self.book.say("kill");
        let mut life = self.life.take().unwrap();
        life.kept.die();
        life.counted.die();
        if let Some(folders) = &mut self.folders {
            folders.killed(torn);
        }
        life.clients.abort_all();
        while life.clients.join_next().await.is_some() {}
        let mut work = std::mem::take(&mut *life.work.lock().unwrap());
        work.abort_all();
        while work.join_next().await.is_some() {}
        drop(life.engine);
        life.kept.close();
        drop(life.kept);
        let left = self.book.facts().in_flight;
        self.book.must(left == 0, || format!("{left} calls outlive the process"));
        self.number += 1;
        self.begin();
    }

    /// Somebody says something of an answer.
    async fn word(&mut self, n: usize) {
        let given = |r: &&RequestRecord| r.outcome.status == Status::Delivered;
        let of = {
            let facts = self.book.facts();
            let life = |r: &&RequestRecord| {
                let id = &r.outcome.request_id;
                !facts.refused.contains(id) && (self.folders.is_some() || facts.asked[id].life == self.number)
            };
            let all: Vec<&RequestRecord> = facts.records.values().filter(given).filter(life).collect();
            let Some(record) = all.get(n % all.len().max(1)) else { return };
            record.outcome.request_id.clone()
        };
        self.book.say(format!("word on {of}"));
        let feedback = Feedback {
            request_id: of.clone(),
            ts_ms: self.wall.now(),
            score: UnitInterval::clamped(f64::from(u32::try_from(n % 11).unwrap()) / 10.0),
            reason: None,
            source: "test".into(),
            principal: String::new(),
        };
        let told = self.life().engine.feedback(feedback).await;
        self.book.must(told.is_ok(), || format!("a word on {of}: {:?}", told.err()));
    }

    /// Waits for everybody, and looks at everything.
    async fn rest(&mut self, pause: Pause) {
        let life = self.life.as_mut().unwrap();
        let over = timeout(LONGEST, async {
            loop {
                let ended = match life.clients.join_next().await {
                    Some(ended) => ended,
                    None => {
                        let mut work = std::mem::take(&mut *life.work.lock().unwrap());
                        let Some(ended) = work.join_next().await else { break };
                        life.clients = work;
                        ended
                    }
                };
                if let Err(e) = ended {
                    self.book.wrong(format!("somebody fell: {e}"));
                }
            }
        });
        if over.await.is_err() {
            self.book.wrong("somebody waits for ever");
            life.clients.abort_all();
        }
        self.book.say("rest");
        self.nothing_is_left_over();
        self.what_was_billed_is_counted();
        self.everybody_has_one_record();
        self.rules_were_kept();
        match pause {
            Pause::None => {}
            Pause::Minute => {
                sleep(Duration::from_secs(65)).await;
                self.windows_are_empty();
            }
            Pause::Day => {
                self.book.say("the next day");
                self.wall
                    .step(MORNING + (self.day + 1 - MORNING.div_euclid(DAY_MS)) * DAY_MS - self.wall.now());
                self.day += 1;
            }
        }
    }

    /// What limits have to count of a budget.
    fn spent(&self, budget: &Budget) -> u64 {
        let facts = self.book.facts();
        let of_today =
            |r: &&RequestRecord| facts.asked.get(&r.outcome.request_id).is_some_and(|a| a.day == self.day);
        let of = |r: &RequestRecord| -> u64 {
            let counts = |c: &&CallRecord| budget.counts(&r.outcome.tenant, &r.decision.key, &c.model);
            r.run.calls().filter(counts).map(|c| nanos(c.counted().usd)).sum()
        };
        let late = |r: &RequestRecord| -> u64 {
            let paid = facts.late.get(&r.outcome.request_id).into_iter().flatten();
            let counts = |b: &&Billed| budget.counts(&r.outcome.tenant, &r.decision.key, &b.model);
            paid.filter(counts).map(|b| nanos(b.counted().usd)).sum()
        };
        facts.records.values().filter(of_today).map(|r| of(r) + late(r)).sum()
    }

    /// What vendors have billed of it.
    fn billed(&self, budget: &Budget) -> u64 {
        let facts = self.book.facts();
        let of = |b: &&crate::book::Bill| {
            let asked = &facts.asked[&b.request];
            asked.day == self.day && budget.counts(asked.tenant, &asked.key, &b.model)
        };
        facts.bills.iter().filter(of).map(|b| b.usd).sum()
    }

    fn no_budget_is_overspent(&self) {
        for budget in &self.budgets {
            let (billed, most) = (self.billed(budget), budget.limit.ceiling);
            self.book
                .must(billed <= most, || format!("{billed} nano-dollars were spent of {}", budget.limit));
        }
    }

    fn no_limit_on_places_is_passed(&self) {
        let life = self.life.as_ref().unwrap();
        let places = life.counted.held("acme").concurrency;
        self.book.must(places <= 6, || format!("acme holds {places} places of 6"));
        let (now, most) = life.engine.load();
        self.book.must(now <= most, || format!("{now} requests are in work, {most} may be"));
    }

    fn nothing_is_left_over(&self) {
        let life = self.life.as_ref().unwrap();
        let in_flight = self.book.facts().in_flight;
        self.book.must(in_flight == 0, || format!("{in_flight} calls are still under way"));
        let health = life.engine.health();
        self.book.must((health.in_flight, health.waiting) == (0, 0), || format!("at rest: {health:?}"));
        for tenant in TENANTS {
            let held = life.counted.held(tenant);
            self.book.must(held == Amount::default(), || format!("{tenant} holds {held:?} at rest"));
        }
    }

    fn what_was_billed_is_counted(&self) {
        let life = self.life.as_ref().unwrap();
        for budget in &self.budgets {
            let (counted, recorded) = (life.counted.used(budget.tenant, &budget.limit), self.spent(budget));
            let billed = self.billed(budget);
            self.book.must(counted == recorded && recorded >= billed, || {
                format!("{}: {billed} billed, {recorded} recorded, {counted} counted", budget.limit)
            });
        }
        let facts = self.book.facts();
        let mut wrong = Vec::new();
        for (id, record) in &facts.records {
            let bills: Vec<_> = facts.bills.iter().filter(|b| b.request == *id).collect();
            let calls: Vec<&CallRecord> = record.run.calls().collect();
            let late = facts.late.get(id).map_or(&[][..], Vec::as_slice);
            let made = calls.len() + late.iter().map(|b| usize::try_from(b.calls).unwrap()).sum::<usize>();
            let unsettled = record.outcome.is_unsettled();
            let as_many = if unsettled { made >= bills.len() } else { made == bills.len() };
            if !as_many {
                wrong.push(format!("{id}: {} calls were made, {made} are recorded", bills.len()));
            }
            let billed = bills.iter().map(|b| b.usd).sum::<u64>();
            let counted = counted(&calls) + late.iter().map(|b| nanos(b.counted().usd)).sum::<u64>();
            if counted < billed {
                wrong.push(format!("{id}: {billed} were billed, {counted} are counted"));
            }
            // Where vendors told everything, it is recorded as they told it.
            let told = bills.iter().map(|b| b.told);
            let told: Option<Vec<_>> = told.map(|t| t.map(|u| (u.input, u.output))).collect();
            if let Some(mut told) = told.filter(|_| !unsettled && as_many && late.is_empty()) {
                let mut recorded: Vec<_> = calls.iter().map(|c| (c.usage.input, c.usage.output)).collect();
                told.sort_unstable();
                recorded.sort_unstable();
                if told != recorded {
                    wrong.push(format!("{id}: vendors told {told:?}, the record tells {recorded:?}"));
                }
            }
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.book.wrong(what));
    }

    fn everybody_has_one_record(&self) {
        let life = self.life.as_ref().unwrap();
        let mut stored: BTreeMap<String, u32> = BTreeMap::new();
        for s in life.kept.all() {
            *stored.entry(s.record.outcome.request_id).or_default() += 1;
        }
        let facts = self.book.facts();
        let mut wrong = Vec::new();
        for (id, asked) in &facts.asked {
            let record = facts.records.get(id);
            let sure = asked.on_record.as_ref().is_some_and(engine::OnRecord::is_sure);
            if asked.end.is_some() && sure != record.is_some() {
                wrong.push(format!("{id} was to be on record: {sure}; it is: {}", record.is_some()));
            }
            let here = self.folders.is_some() || asked.life == self.number;
            let n = stored.get(id).copied().unwrap_or_default();
            let want = u32::from(record.is_some() && here && !facts.refused.contains(id));
            if n != want {
                wrong.push(format!("{id} is stored {n} times, not {want}"));
            }
            if let (Some(end), Some(record)) = (asked.end, record) {
                let status = record.outcome.status;
                let same = match end {
                    Status::Failed => matches!(status, Status::Failed | Status::Denied),
                    end => status == end,
                };
                if !same && !record.outcome.is_unsettled() {
                    wrong.push(format!("{id} ended {end:?} for its client, {status:?} on record"));
                }
            }
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.book.wrong(what));
    }

    fn rules_were_kept(&self) {
        let facts = self.book.facts();
        let mut wrong = Vec::new();
        for record in facts.records.values().filter(|r| !r.outcome.is_unsettled()) {
            let of = self.bundles.iter().position(|b| **b.hash() == *record.decision.bundle);
            let Some(of) = of else { continue };
            let tenant = record.outcome.tenant.as_str();
            let away: BTreeSet<&str> =
                EXCLUDED[of].iter().filter(|(t, _)| *t == tenant).map(|(_, model)| *model).collect();
            let all = record.decision.excluded.iter().chain(record.decision.unavailable.iter());
            let firm = |e: &&Exclusion| e.workflow.is_none() && FIRM.contains(&&*e.reason);
            let excluded: BTreeSet<&str> = all.filter(firm).map(|e| &*e.model).chain(away).collect();
            for call in record.run.calls().filter(|c| excluded.contains(&*c.model)) {
                wrong.push(format!("{} was called for {}", call.model, record.outcome.request_id));
            }
        }
        drop(facts);
        wrong.into_iter().for_each(|what| self.book.wrong(what));
    }

    fn windows_are_empty(&self) {
        let life = self.life.as_ref().unwrap();
        for caller in self.callers.iter() {
            let all = caller.who.principal.limits.iter();
            for limit in all.filter(|l| l.metric != Metric::Usd) {
                let used = life.counted.used(caller.tenant, limit);
                self.book.must(used == 0, || format!("{used} count of {limit} after a minute of quiet"));
            }
        }
    }

    /// After a restart: all that was written is there once, and what was cut off has got its record.
    fn what_was_said_is_there(&self, kept: &Kept) {
        let mut wrong = Vec::new();
        let mut lines = Vec::new();
        let mut facts = self.book.facts();
        let mut there = BTreeSet::new();
        let mut all = kept.all();
        all.sort_by(|a, b| a.record.outcome.request_id.cmp(&b.record.outcome.request_id));
        for stored in all {
            let record = stored.record;
            let id = record.outcome.request_id.clone();
            if !there.insert(id.clone()) {
                wrong.push(format!("{id} is there twice after a start"));
            }
            let late = record.outcome.account.as_ref().map(|a| a.late.clone()).unwrap_or_default();
            if !late.is_empty() && facts.late.insert(id.clone(), late.clone()).is_none() {
                lines.push(format!("late unsettled {id}: {}", late.len()));
            }
            match facts.records.get(&id).filter(|_| !facts.refused.contains(&id)) {
                Some(was) if was.outcome.status == record.outcome.status && was.run == record.run => {}
                Some(was) => wrong.push(format!("{id} was {:?}, and is {:?}", was.outcome, record.outcome)),
                None if record.outcome.is_unsettled() => {
                    lines.push(format!("record unsettled {id} {}", record.outcome.cost_usd));
                    facts.refused.remove(&id);
                    facts.records.insert(id, record);
                }
                None => wrong.push(format!("{id} has a record that nobody wrote: {:?}", record.outcome)),
            }
        }
        for id in facts.records.keys().filter(|id| !facts.refused.contains(*id) && !there.contains(*id)) {
            wrong.push(format!("{id} was on record, and is not any more"));
        }
        for bill in facts.bills.iter().filter(|b| !there.contains(&b.request)) {
            wrong.push(format!("nothing is left of {}, for which {} was called", bill.request, bill.model));
        }
        drop(facts);
        lines.into_iter().for_each(|line| self.book.say(line));
        wrong.into_iter().for_each(|what| self.book.wrong(what));
    }
}

fn nanos(usd: Usd) -> u64 {
    u64::try_from(usd.nanos()).unwrap()
}

fn counted(calls: &[&CallRecord]) -> u64 {
    calls.iter().map(|c| nanos(c.counted().usd)).sum()
}
