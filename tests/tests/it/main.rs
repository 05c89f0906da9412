//! The whole house from outside: one file per promise to the user. Needs no network but loopback.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::large_futures,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking, and its tasks end with it"
)]

mod accounts;
mod admin_input;
mod alike;
mod anchors;
mod authoring;
mod bad_input;
mod beside;
mod bundles;
mod callbacks;
mod chapter;
mod choice;
mod coding;
mod commands;
mod config;
mod consents;
mod contracts;
mod control;
mod crash;
mod deadlines;
mod demands;
mod demo;
mod dialects;
mod disconnect;
mod edge;
mod endings;
mod failover;
mod following;
mod forms;
mod free_tier;
mod full_disk;
mod going_back;
mod hedge;
mod http2;
mod idempotency;
mod import;
mod judged_runs;
mod kept;
mod key_limits;
mod key_pool;
mod keys;
mod learning;
mod library;
mod limits;
mod limits_together;
mod live_chains;
mod metrics;
mod money;
mod notices;
mod operator;
mod options;
mod overload;
mod parts;
mod per_request;
mod planned;
mod policies;
mod policy_diff;
mod policy_tests;
mod refusals;
mod rehearsal;
mod repair;
mod replay;
mod response_rules;
mod retention;
mod retries;
mod run_errors;
mod run_rules;
mod runs;
mod scopes;
mod sdk;
mod secrecy;
mod signed;
mod strangers;
mod streaming;
mod tenant_rules;
mod tool_loop;
mod tool_streams;
mod tools;
mod truth;
mod usage;
mod variables;
mod vendor_faults;
mod verbs;
mod went_back;
mod wire;
mod workflows;

/// Rules under which no choice falls by chance: the best arm is always asked first.
const NO_CHANCE: &str = "version: 1\nexploration:\n  epsilon: 0\n";
