//! Durable runs: asked for, walked by a worker, written down so that they survive a crash and can be repeated.
//!
//! A run is walked like any request, through a world that records (`world`). Whatever comes from outside is
//! given to the walk one by one and written into the run's journal at that moment (`state`), so that a walk
//! from the journal does the same again, record by record (`tape`), and goes on where it ends. One process
//! owns a run at a time, by a lease (`keeper`).

mod account;
mod again;
mod answers;
mod asked;
mod assemble;
mod beside;
mod bounds;
mod changes;
mod codec;
mod consent;
mod drive;
mod end;
mod forget;
mod gates;
mod judge;
mod keeper;
mod kept;
mod live;
mod made;
mod means;
mod outside;
mod plan;
mod service;
mod state;
mod submission;
mod tape;
#[cfg(test)]
mod tests;
mod version;
mod wait;
mod walk;
mod worker;
mod world;

pub use again::{Overrides, Replay};
pub use answers::{Decided, Settled};
pub use asked::{Question, Tell};
pub use changes::Following;
pub use end::{failed as kept_error, headers};
pub use made::is_judged;
pub use service::{Config, Failure, People, Runs, Setup, Walked, Wish, principal};
pub use submission::Submission;
pub use tape::Divergence;

pub use wait::Stretch;

pub use consent::for_clients;
pub(crate) use consent::{About, Consent};
pub(crate) use gates::names_of;
pub(crate) use made::bound_to_requests;
pub(crate) use service::Service;
