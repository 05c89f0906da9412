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
pub mod http2;
pub mod openapi;
pub mod service;
pub mod vendor;

use std::time::Duration;

/// The machine's clock, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}

/// Waits until the machine's clock is past that moment, Unix milliseconds.
pub async fn past(moment_ms: u64) {
    tokio::time::sleep(Duration::from_millis((moment_ms + 50).saturating_sub(now_ms()))).await;
}

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
