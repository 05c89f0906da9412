//! The loop closed in process: decide, call, feed back, learn, decide otherwise. Fixed seeds, paused time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod ceilings;
mod choice;
mod each;
mod errands;
mod house;
mod records;
mod streams;
