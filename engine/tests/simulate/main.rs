//! The engine under seeded traffic and seeded faults, with real stores and limits, scripted vendors and a paused clock;
//! what must always hold is checked after each step and at the end.
//!
//! `SEEDS` says how many seeds are run, `SEED` which one is the first: `SEEDS=1 SEED=17` runs one again. The same seed
//! gives the same run, to the last line of its trace, which a failure shows the end of; `TRACE=1` prints all of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test: what goes wrong is to be seen, with the seed that shows it again"
)]

mod book;
mod clients;
mod days;
mod holds;
mod keeping;
mod traffic;
mod vendor;
mod world;

use std::collections::BTreeSet;

/// How many seeds are run where nobody says.
const SEEDS: u64 = 24;
/// Lines of the trace that a failure shows.
const SHOWN: usize = 60;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
}

/// What the seeds of every day meet, in the words of their traces.
const MET: [&str; 23] = [
    "kill",
    "restart",
    "swap",
    "clock",
    "unwritable",
    "word",
    "leaves",
    "Delivered",
    "Failed(",
    "Cancelled",
    "unsettled",
    "stream_lost",
    "total_timeout",
    "insufficient_quota",
    "rate_limit_exceeded",
    "recalled",
    "late",
    "no key",
    "memory",
    "disk",
    "day ",
    "month ",
    "set right",
];

/// The run of a seed; where something is wrong with it, the end of its trace and how to see it again are printed.
fn check(seed: u64) -> world::Run {
    let run = world::run(seed);
    if std::env::var("TRACE").is_ok() {
        println!("{}", run.trace.join("\n"));
    }
    if !run.problems.is_empty() {
        let from = run.trace.len().saturating_sub(SHOWN);
        println!("seed {seed}, the end of its trace:\n{}", run.trace[from..].join("\n"));
        println!("seed {seed}:\n{}", run.problems.join("\n"));
        println!("again: make simulate SEEDS=1 SEED={seed}");
    }
    run
}

#[test]
fn what_must_always_hold_does_under_faults() {
    let (first, seeds) = (number("SEED", 0), number("SEEDS", SEEDS));
    let (mut wrong, mut met) = (Vec::new(), BTreeSet::new());
    for seed in first..first + seeds {
        let run = check(seed);
        met.extend(MET.into_iter().filter(|what| run.trace.iter().any(|line| line.contains(what))));
        if !run.problems.is_empty() {
            wrong.push(seed);
        }
    }
    assert!(wrong.is_empty(), "seeds that went wrong, of {seeds} from {first}: {wrong:?}");
    if (first, seeds) == (0, SEEDS) {
        let missed: Vec<&str> = MET.into_iter().filter(|what| !met.contains(what)).collect();
        assert!(missed.is_empty(), "no seed meets {missed:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    // One that keeps its records in memory, and one that keeps them on the disk and is killed.
    for seed in [2, 5] {
        let (one, other) = (world::run(seed), world::run(seed));
        if let Some(at) = one.trace.iter().zip(&other.trace).position(|(a, b)| a != b) {
            panic!("seed {seed}, line {at}:\n{}\n{}", one.trace[at], other.trace[at]);
        }
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
        assert!(one.trace.len() > 100, "seed {seed} does hardly anything: {} lines", one.trace.len());
    }
}

/// A judge of an answer that was given is cut off, and the process starts again.
#[test]
fn what_was_cut_off_after_an_answer_counts_the_same_after_a_restart() {
    for seed in [22, 27] {
        assert!(check(seed).problems.is_empty(), "seed {seed}");
    }
}
