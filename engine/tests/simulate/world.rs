//! The lives of an engine in one run: it is begun, put to work, changed, stopped and killed.

use crate::book::Book;
use crate::clients;
use crate::days::{DAY_MS, Periods, periods};
use crate::keeping::{Counted, Folders, Kept, Wall};
use crate::traffic::{self, Budget, Caller, Pause, Plan, Step};
use crate::vendor::Vendors;
use engine::{Bundle, Config, Engine, Outside, Parts};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use types::UnitInterval;
use types::matrix::Availability;
use types::outcome::{Feedback, Status};
use types::store::RequestRecord;

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
pub(crate) struct Life {
    pub(crate) engine: Engine,
    pub(crate) kept: Arc<Kept>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) clients: JoinSet<()>,
    /// What goes on after answers.
    pub(crate) work: Arc<Mutex<JoinSet<()>>>,
}

pub(crate) struct World {
    pub(crate) book: Arc<Book>,
    pub(crate) wall: Arc<Wall>,
    pub(crate) vendors: Arc<Vendors>,
    pub(crate) bundles: [Arc<Bundle>; 2],
    pub(crate) in_force: usize,
    /// The provider whose key is gone; one that there is not = none is.
    pub(crate) gone: usize,
    pub(crate) callers: Arc<Vec<Caller>>,
    pub(crate) budgets: Vec<Budget>,
    pub(crate) steps: Vec<(Duration, Step)>,
    pub(crate) folders: Option<Folders>,
    pub(crate) config: Config,
    /// The day and the month that budgets count for.
    pub(crate) periods: Periods,
    /// How often the clock was wrong, by the place of the window and the number of its day or month.
    pub(crate) twice: BTreeMap<(usize, i64), u64>,
    /// By how much the clock is wrong.
    pub(crate) ahead: Option<i64>,
    /// Of the engine.
    pub(crate) number: u32,
    pub(crate) life: Option<Life>,
}

impl World {
    fn new(seed: u64, plan: Plan) -> World {
        let book = Book::new();
        let Plan { disk, callers, budgets, max_inflight, begins, steps } = plan;
        let begins = MORNING + begins * DAY_MS;
        book.say(format!("seed {seed}, {}", if disk { "disk" } else { "memory" }));
        World {
            vendors: Vendors::new(&book, seed),
            wall: Wall::at(begins),
            bundles: traffic::bundles(),
            in_force: 0,
            gone: usize::MAX,
            callers: Arc::new(callers),
            budgets,
            steps,
            folders: disk.then(Folders::new),
            config: Config { max_inflight, queue: 8, seed: Some(seed), ..Config::default() },
            periods: periods(begins),
            twice: BTreeMap::new(),
            ahead: None,
            number: 0,
            life: None,
            book,
        }
    }

    async fn all(&mut self) {
        self.begin();
        for (wait, step) in std::mem::take(&mut self.steps) {
            sleep(wait).await;
            self.turn();
            self.step(step).await;
            self.turn();
            self.no_budget_is_overspent();
            self.no_request_costs_more_than_it_may();
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
        // Which day it was that a clock opened too early, nobody remembers.
        self.turn_to(|_| true);
        let folder = self.folders.as_ref().map(Folders::now);
        let (kept, statistics) = Kept::open(folder.as_deref(), &self.book);
        let counted = Counted::new(&self.book, &self.wall);
        if self.number > 0 && self.folders.is_some() {
            self.what_was_said_is_there(&kept);
        }
        for budget in &self.budgets {
            let spent = self.spent(budget);
            counted.count(budget.tenant, &budget.limit, spent);
        }
        let bundle = self.bundles[self.in_force].clone();
        let work: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let begun = work.clone();
        let engine = Engine::new(Parts {
            availability: self.availability(),
            bundle,
            provider: self.vendors.clone(),
            store: kept.clone(),
            statistics,
            limits: Some(counted.clone()),
            finished: None,
            background: Some(Arc::new(move |_, what| _ = begun.lock().unwrap().spawn(what))),
            outside: Outside::default(),
            redaction_key: [7; 32],
            clock: self.wall.clock(),
            config: self.config.clone(),
        });
        self.life = Some(Life { engine, kept, counted, clients: JoinSet::new(), work });
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask(ask) => {
                let (callers, book) = (self.callers.clone(), self.book.clone());
                let when = (self.number, self.periods);
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
                self.set_right();
                self.book.say(format!("clock {by} ms"));
                self.wall.step(by);
            }
            Step::Evening(before) => {
                self.set_right();
                let by = DAY_MS - self.wall.now().rem_euclid(DAY_MS) - before;
                self.book.say(format!("{before} ms to midnight"));
                self.wall.step(by);
            }
            // Of a clock that is wrong in two ways at once counters know one alone.
            Step::Ahead(_) if periods(self.wall.now()) != self.periods => {}
            Step::Ahead(days) => {
                self.set_right();
                self.book.say(format!("the clock is {days} days ahead"));
                self.wall.step(days * DAY_MS);
                self.ahead = Some(days * DAY_MS);
            }
            Step::Right => self.set_right(),
            Step::CatchUp => self.life().kept.catch_up(),
            Step::Word(n) => {
                // To a clock that is ahead all answers are old.
                self.set_right();
                self.word(n).await;
            }
            Step::Unwritable(n) => {
                self.book.say(format!("unwritable {n}"));
                self.life().kept.unwritable.store(n, std::sync::atomic::Ordering::Relaxed);
            }
            Step::Rest(pause) => self.rest(pause).await,
            Step::Restart => {
                self.set_right();
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
        self.set_right();
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
        self.turn();
        self.nothing_is_left_over();
        self.what_was_billed_is_counted();
        self.everybody_has_one_record();
        self.rules_were_kept();
        self.book.facts().asked.values_mut().for_each(|asked| asked.rested = true);
        match pause {
            Pause::None => {}
            Pause::Minute => {
                sleep(Duration::from_secs(65)).await;
                self.windows_are_empty();
            }
            Pause::Day => {
                self.set_right();
                self.book.say("the next day");
                let morning = (self.periods[0] + 1) * DAY_MS + MORNING.rem_euclid(DAY_MS);
                self.wall.step(morning - self.wall.now());
            }
        }
    }
}
