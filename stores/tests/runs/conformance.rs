//! The suite: each case against a fresh store of each kind. A further store adds its `make` here.

use crate::cases::CASES;
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use stores::{Clock, Runs, RunsMemory};
use types::runs::RunStore;

/// A store under test.
pub(crate) struct Subject {
    pub(crate) store: Arc<dyn RunStore>,
    /// Lets the store's time pass.
    pub(crate) pass: Box<dyn Fn(Duration)>,
    /// The store's time, Unix milliseconds.
    pub(crate) now_ms: Box<dyn Fn() -> i64>,
    /// Whatever has to live as long as the store.
    _keep: Box<dyn Any>,
}

impl Subject {
    fn new(store: Arc<dyn RunStore>, clock: Clock, keep: Box<dyn Any>) -> Self {
        let also = clock.clone();
        Subject {
            store,
            pass: Box::new(move |time| clock.pass(time)),
            now_ms: Box::new(move || also.now_ms()),
            _keep: keep,
        }
    }
}

/// Some time in 2026.
const START_MS: i64 = 1_795_219_200_000;

fn memory() -> Subject {
    let clock = Clock::manual(START_MS);
    Subject::new(Arc::new(RunsMemory::new(clock.clone(), 10_000)), clock, Box::new(()))
}

fn sqlite() -> Subject {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(START_MS));
    let store = Runs::open(dir.path(), clock.clone()).unwrap();
    Subject::new(Arc::new(store), clock, Box::new(dir))
}

fn check(make: fn() -> Subject) {
    for (name, case) in CASES {
        let subject = make();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&subject)));
        assert!(result.is_ok(), "case: {name}");
    }
}

#[test]
fn memory_conforms() {
    check(memory);
}

#[test]
fn sqlite_conforms() {
    check(sqlite);
}
