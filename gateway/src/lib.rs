//! The turnout binary: HTTP, command line, configuration, wiring.
//!
//! Takes files, environment and connections; gives answers in OpenAI's shape, and commands for operators.
//! Decides nothing about a request: that is the engine's. [`app::start`] runs a server inside any process.

mod admin;
pub mod app;
mod bundles;
pub mod cli;
mod clock;
pub mod config;
mod control;
mod cors;
pub mod disk;
mod edge;
pub mod error;
mod front;
pub mod hosts;
mod import;
pub mod metrics;
mod notices;
mod once;
mod openai;
mod query;
mod routes;
pub mod runner;
mod services;
pub(crate) mod signing;
pub mod tasks;
pub mod telemetry;
mod usage;
pub mod webhooks;

pub use control::audit::{Figures as AuditFigures, figures as audit_figures};
