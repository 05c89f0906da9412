//! The only room that knows databases: takes records of requests and feedback, and finds them again.
//!
//! Takes [`types::store::Record`]s, gives [`types::store::Stored`] ones, and tells one
//! [`types::store::Observer`] of each record once, in the order of the log. Two stores pass the same
//! conformance suite: [`Store`] (SQLite in a directory, survives a killed process) and [`Memory`] (for tests
//! and for running without data). Neither decides anything about a request, and neither keeps a caller
//! waiting for a database: [`Store`]'s `append` is one `write` to a file, [`Memory`]'s a push to a queue.
//!
//! # What is promised
//!
//! - What `append` acknowledged survives `kill -9`; a power cut may cost the last 100 ms.
//! - Every record is observed once. The observer's state and the position in the log are committed in one
//!   transaction; an observer that gives no state is told everything again after a restart.
//! - A record whose time is over is erased, from the files too: what stays of it are the figures of its outcome.
//! - Feedback is joined to its request whenever either arrives, and earlier words are kept.

mod archive;
pub mod control;
mod database;
mod full;
pub mod limits;
mod lock;
mod memory;
mod mover;
mod progress;
mod reader;
mod record;
mod runs;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod samples;
mod spool;
mod store;
mod sweep;
mod telling;
mod used;
mod words;

pub use memory::Memory;
pub use runs::{Clock, Runs, RunsMemory};
pub use spool::Recovery;
pub use store::{Config, Stats, Store};
pub use types::store::Error;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whether or not a thread died holding the lock: every guarded state here is whole between any
/// two statements that can panic, so that one dead thread does not take the others with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
