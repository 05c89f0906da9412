//! What every store of durable runs promises, asked of each of them, and what a killed process leaves behind.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests may fail like tests"
)]

mod cases;
mod conformance;
mod crash;
mod samples;
mod sqlite;
