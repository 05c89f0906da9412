//! Durable runs: SQLite in a folder ([`Runs`]), or memory ([`RunsMemory`]).
//!
//! What an operation does is written once, in `ops`, over the narrow [`table::Table`]; how a run may change
//! is pure, in `rules`. A store brings tables, atomicity and durability.

mod clock;
mod memory;
mod ops;
mod rules;
mod sqlite;
mod table;

pub use clock::Clock;
pub use memory::RunsMemory;
pub use sqlite::Runs;
