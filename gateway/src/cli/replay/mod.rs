//! `turnout replay`: the router over recorded outcomes of real models, learning from what it chose alone.

mod half;
mod learn;
mod pack;
mod plot;
mod problems;
mod report;
mod stdio;

pub(super) use learn::{Args as LearnArgs, run as learn};

use super::out::Out;
use super::{GOOD, Outcome, Problem};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use engine::learn::{Limits, Statistics};
use engine::replay::{
    self, Choice, Exploration, Job, Plan, Prepared, Prior, Protocol, Replay, Setting, Table,
};
use indicatif::{ProgressBar, ProgressStyle};
use report::Report;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use types::store::Observer as _;

/// What happens in a protocol, for the help of the command.
const fn about(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Cold => "The whole table, knowing nothing but prices",
        Protocol::Warm => "Prior learned on one half, replayed on the other",
        Protocol::Delay => "Warm, and every outcome arrives 100 requests late",
        Protocol::Lost => "Warm, and 70 % of the outcomes never arrive",
        Protocol::Blocks => "Cold, with the task families one after the other",
        Protocol::Downgrade => "Warm, and three much-used models silently become weak ones at 40 %",
        Protocol::Told => "The same, but the learner is told",
        Protocol::Price => {
            "Warm, and the price of the most used model is four times the list price from the middle on"
        }
    }
}

/// Reads the name of a protocol.
fn protocols() -> impl TypedValueParser<Value = Protocol> {
    let all = Protocol::ALL.iter().map(|p| PossibleValue::new(p.name()).help(about(*p)));
    PossibleValuesParser::new(all).try_map(|name| {
        let named = Protocol::ALL.iter().find(|p| p.name() == name);
        named.copied().ok_or("no such protocol")
    })
}

/// Replay recorded outcomes through the profiler, the policies, the router and the learner
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout replay --pack mix24\n  turnout replay --pack mix24 --protocol warm,delay,lost --seeds 5 --decisions d.jsonl\n  turnout replay --pack mix24 --sweep --svg mix24.svg\n  turnout replay --pack mix24 --off-policy\n  turnout replay --pack mix24 --protocol warm --decisions d.jsonl --write-half half\n  replay.py mix24 --out d.jsonl -- turnout replay --stdio"
)]
pub(super) struct Args {
    /// Folder of the table: queries.jsonl.gz, outcomes.csv.gz, dataset.json
    #[arg(long, value_name = "DIR", required_unless_present = "stdio")]
    pack: Option<PathBuf>,
    /// Speak the line protocol on standard input and output instead; a `--pack` beside it is left to whoever asks
    #[arg(long, conflicts_with_all = ["protocol", "seeds", "lambda", "sweep", "swap", "pool", "shuffle", "hide_task",
        "scenario", "decisions", "svg", "write_half", "off_policy"])]
    stdio: bool,
    /// What happens while it is replayed
    #[arg(long, value_parser = protocols(), value_delimiter = ',', default_values = ["cold", "warm"])]
    protocol: Vec<Protocol>,
    /// Runs, each with a seed of its own, from 1
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Points of success that the reference cost is worth [default: those of the table]
    #[arg(long, value_delimiter = ',', value_name = "X", value_parser = lambda)]
    lambda: Vec<f64>,
    /// Many lambdas from 0 to 1, for the cost-quality curve
    #[arg(long, conflicts_with = "lambda")]
    sweep: bool,
    /// What was learned before (`turnout learn`); warm runs then play the whole table
    #[arg(long, value_name = "FILE")]
    prior: Option<PathBuf>,
    /// Test on the other half: what priors are learned from, and tested on, change places
    #[arg(long)]
    swap: bool,
    /// Only these models, or a pool of the table, and the queries that all of them were run on
    #[arg(long, value_name = "POOL|A,B")]
    pool: Option<String>,
    /// An order of its own for every seed, instead of the table's
    #[arg(long)]
    shuffle: bool,
    /// Do not tell the router the source's task family
    #[arg(long)]
    hide_task: bool,
    /// Events: a JSON list of {"model", "from", "to", "serve_as" | "down" | "price_factor"}
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Where to write one decision a line
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
    /// Where to write the half that warm runs play, as a table of its own: a new folder
    #[arg(long, value_name = "DIR")]
    write_half: Option<PathBuf>,
    /// Where to write the cost-quality plot
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Estimate other lambdas from the log of each run, and compare with the truth
    #[arg(long)]
    off_policy: bool,
    /// Share of choices that are drawn rather than best [default: as shipped]
    #[arg(long, value_name = "X")]
    epsilon: Option<f64>,
    /// Width of the exploration bonus [default: as shipped]
    #[arg(long, value_name = "X")]
    beta: Option<f64>,
    /// Seed of the line protocol
    #[arg(long, default_value_t = 1, requires = "stdio")]
    seed: u64,
}

/// λ of a sweep.
const SWEEP: [f64; 9] = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0];

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    let exploration = Exploration { epsilon: args.epsilon, beta: args.beta };
    let prior = args.prior.as_deref().map(state).transpose()?;
    let Some(dir) = args.pack.as_ref().filter(|_| !args.stdio) else {
        let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
        stdio::speak(input, output, prior.as_deref(), args.seed, exploration).map_err(Problem)?;
        return Ok(GOOD);
    };
    let (table, left_out) = pack::open(dir, args.pool.as_deref()).map_err(Problem)?;
    left_out.iter().for_each(|line| out.note(line));
    if let Some(to) = &args.write_half {
        half::write(dir, &table, args.swap, to).map_err(Problem)?;
    }
    let house = House::new(args, &table, prior, exploration)?;
    let report = if args.off_policy { house.off_policy()? } else { house.replay()? };
    if let Some(path) = &args.svg {
        write(path, plot::svg(&report.plots).as_bytes())?;
    }
    report.show(out);
    Ok(GOOD)
}

/// The queries of a table, profiled.
fn prepared(table: &Table, hide_task: bool) -> Result<Vec<Prepared>, Problem> {
    let bar = progress(table.queries.len(), "profiling");
    let seen = replay::prepare(table, hide_task, || bar.inc(1)).map_err(told)?;
    bar.finish_and_clear();
    Ok(seen)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands behind `map_err`")]
fn told(e: replay::Error) -> Problem {
    Problem(e.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|e| Problem(format!("{}: {e}", path.display())))
}

/// What was learned before, which a learner can take up.
fn state(path: &Path) -> Result<Vec<u8>, Problem> {
    let bytes = read(path)?;
    learned(path, &bytes)?;
    Ok(bytes)
}

/// The learner that a file holds the state of, with the handle to what it knows.
fn learned(path: &Path, bytes: &[u8]) -> Result<Statistics, Problem> {
    let (mut learner, statistics) = engine::learner(Limits::default());
    let found =
        |e: String| format!("{}: {e}; expected a file that `turnout learn --out` wrote", path.display());
    learner.restore(bytes).map_err(|e| Problem(found(e)))?;
    Ok(statistics)
}

/// λ as an argument: 0 to 100, as in `routing_rules.yaml`.
fn lambda(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|x| (0.0..=100.0).contains(x));
    number.ok_or_else(|| "expected a number from 0 to 100".to_owned())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    std::fs::write(path, bytes).map_err(|e| Problem(format!("{}: {e}", path.display())))
}

/// A table that is ready, and what is asked of it.
struct House<'a> {
    args: &'a Args,
    table: &'a Table,
    replay: Replay<'a>,
    lambdas: Vec<f64>,
}

impl<'a> House<'a> {
    fn new(
        args: &'a Args,
        table: &'a Table,
        prior: Option<Vec<u8>>,
        exploration: Exploration,
    ) -> Result<Self, Problem> {
        let seen = prepared(table, args.hide_task)?;
        let events = |path: &PathBuf| {
            let text = String::from_utf8_lossy(&read(path)?).into_owned();
            Plan::read(&text, table).map_err(|e| Problem(format!("{}: {e}", path.display())))
        };
        let events = args.scenario.as_ref().map(events).transpose()?;
        let setting = Setting { exploration, swap: args.swap, shuffled: args.shuffle, events };
        let prior = match prior {
            Some(prior) => Prior::Learned(prior),
            None if args.protocol.iter().any(|p| p.is_warm()) && !args.off_policy => Prior::Half,
            None => Prior::Nothing,
        };
        let bar = progress(0, "learning the prior");
        let replay = Replay::new(table, seen, prior, setting).map_err(told)?;
        bar.finish_and_clear();
        let lambdas = match (args.sweep, args.lambda.is_empty()) {
            (true, _) => SWEEP.to_vec(),
            (false, true) => table.lambdas.clone(),
            (false, false) => args.lambda.clone(),
        };
        Ok(House { args, table, replay, lambdas })
    }

    fn replay(&self) -> Result<Report, Problem> {
        let mut report = Report::new(self.table);
        let create = |path: &PathBuf| {
            std::fs::File::create(path).map_err(|e| Problem(format!("{}: {e}", path.display())))
        };
        let mut decisions = self.args.decisions.as_ref().map(create).transpose()?;
        for protocol in self.args.protocol.iter().copied() {
            let stream = self.replay.stream(protocol);
            let mut served = std::borrow::Cow::Borrowed(self.table);
            for lambda in self.lambdas.iter().copied() {
                let plan = self.replay.plan(protocol, lambda).map_err(told)?;
                let jobs: Vec<Job> =
                    (1..=self.args.seeds).map(|seed| Job { protocol, lambda, seed }).collect();
                let what = format!("{} lambda {lambda}", protocol.name());
                let bar = progress(stream.len().saturating_mul(jobs.len()), &what);
                let runs = side_by_side(&jobs, |job| self.replay.play(*job, &plan, &|| bar.inc(1)));
                bar.finish_and_clear();
                let runs: Vec<Vec<Choice>> = runs.into_iter().collect::<Result<_, _>>().map_err(told)?;
                served = self.replay.served(protocol, &plan);
                report.add(self.replay.summary((protocol, lambda), &served, &runs));
                for (job, made) in jobs.iter().zip(&runs) {
                    if let Some(file) = &mut decisions {
                        self.note(file, *job, made)?;
                    }
                }
            }
            report.draw(&served, protocol, &stream);
        }
        Ok(report)
    }

    /// Writes decisions as the scoring script reads them.
    fn note(&self, file: &mut std::fs::File, job: Job, made: &[Choice]) -> Result<(), Problem> {
        let mut text = String::new();
        let setting = format!("{} lambda={} seed={}", job.protocol.name(), job.lambda, job.seed);
        for m in made {
            let query = self.table.queries.get(m.query).map(|q| q.id.as_str());
            let model = self.table.models.get(m.model).map(|m| m.name.as_str());
            let line = serde_json::json!({"query_id": query, "model": model, "setting": setting,
                "propensity": m.propensity, "quality": m.quality, "cost_usd": m.cost});
            text.push_str(&format!("{line}\n"));
        }
        Ok(file.write_all(text.as_bytes())?)
    }

    fn off_policy(&self) -> Result<Report, Problem> {
        let jobs: Vec<(f64, u64)> =
            self.lambdas.iter().flat_map(|l| (1..=self.args.seeds).map(move |s| (*l, s))).collect();
        let bar = progress(self.table.queries.len().saturating_mul(jobs.len()), "logging and estimating");
        let runs = side_by_side(&jobs, |job| self.replay.estimate(*job, &self.lambdas, &|| bar.inc(1)));
        bar.finish_and_clear();
        let mut report = Report::new(self.table);
        for estimates in runs {
            report.estimates.extend(estimates.map_err(told)?);
        }
        Ok(report)
    }
}

/// Does all jobs on as many threads as there are processors; results in the order of the jobs.
fn side_by_side<J: Sync, T: Send>(jobs: &[J], work: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, job)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(i).map(|j| (i, j))
                } {
                    let result = work(job);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, r)| r).collect()
}

fn progress(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    // The template is a constant that is tested by being used; without it the bar is plain.
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lambda_is_a_number_that_prices_can_be_multiplied_by() {
        assert_eq!((lambda("0.2"), lambda("0"), lambda("100")), (Ok(0.2), Ok(0.0), Ok(100.0)));
        for text in ["nan", "inf", "-1", "1e9", "", "much"] {
            assert_eq!(lambda(text), Err("expected a number from 0 to 100".to_owned()), "{text}");
        }
    }

    #[test]
    fn a_state_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wrong.prior");
        std::fs::write(&path, "no state").unwrap();
        let Err(Problem(told)) = state(&path) else { panic!("it was taken") };
        assert!(told.contains("wrong.prior: ") && told.contains("turnout learn --out"), "{told}");
    }
}
