//! Nouns shared by two or more rooms, and the seams between the rooms.
//!
//! Takes and gives nothing by itself: every other crate of the house may use this one, and it uses none
//! of them. It does no I/O, reads no clock and draws no random numbers.

pub mod adjustment;
pub mod alike;
pub mod axis;
pub mod begun;
pub mod calendar;
pub mod chat;
pub mod clock;
pub mod completion;
pub mod control;
pub mod credential;
pub mod decision;
pub mod diagnostic;
pub mod directives;
pub mod doc;
pub mod encoding;
pub mod error;
pub mod expr;
pub mod features;
pub mod foreign;
pub mod limits;
pub mod matrix;
pub mod options;
pub mod outcome;
pub mod printable;
pub mod privacy;
pub mod profile;
pub mod provider;
pub mod repair;
pub mod run;
pub mod runner;
pub mod runs;
pub mod store;
pub mod units;
pub mod usage;

pub use axis::Axis;
pub use chat::ChatRequest;
pub use clock::Clock;
pub use completion::{Chunk, Completion, FinishReason, ServiceTier, Usage};
pub use decision::Decision;
pub use diagnostic::{Diagnostic, Severity};
pub use directives::Directives;
pub use error::Blame;
pub use features::Features;
pub use matrix::{Matrix, ModelIx};
pub use options::Options;
pub use outcome::Outcome;
pub use profile::WorkloadProfile;
pub use provider::ChatProvider;
pub use run::{Finding, Report, Run, Verdict};
pub use units::{UnitInterval, Usd};
