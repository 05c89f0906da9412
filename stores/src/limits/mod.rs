//! Counters of rates and budgets.

mod ahead;
mod counter;
mod memory;
mod pace;

pub use memory::{Counters, Kept};
