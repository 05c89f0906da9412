//! Tests of the whole house: scripted vendors ([`vendor`]), a raw HTTP client ([`client`]), a folder per test
//! ([`folder`]), and the harness that starts turnout in front of them ([`house`]). Test code only: it fails
//! by panicking, and starts its own tasks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its tasks end with it"
)]

pub mod admin;
pub mod client;
pub mod folder;
pub mod house;
pub mod openapi;
pub mod service;
pub mod vendor;

use std::time::Duration;

/// Waits until `ready` holds, looking every few milliseconds; false when `limit` has passed first.
pub async fn eventually(limit: Duration, ready: impl Fn() -> bool) -> bool {
    let end = tokio::time::Instant::now() + limit;
    while !ready() {
        if tokio::time::Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
