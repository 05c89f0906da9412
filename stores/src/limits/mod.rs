//! Counters of rates and budgets.

mod counter;
mod memory;

pub use memory::{Counters, Kept};
