//! The router over recorded outcomes of real models, learning from what it chose alone; and what the log of one such run
//! says of another configuration (off-policy estimation).
//!
//! Takes a [`Table`] and how it is to be played; gives choices with their propensities, rewards, references to compare them
//! with, and estimates. Calls no model, reads and writes no file, and draws all its chance from the seeds it is given.

mod error;
mod off_policy;
mod plan;
mod play;
mod player;
mod reference;
mod runs;
mod stage;
mod summary;
mod table;

pub use error::Error;
pub use off_policy::{Accuracy, Estimate};
pub use plan::{Event, Plan, Protocol};
pub use play::{Choice, Run, study};
pub use player::{Player, Prepared, plain};
pub use reference::{Corner, References, corners};
pub use runs::{Job, Prior, Replay, Setting, prepare};
pub use stage::{Exploration, Stage};
pub use summary::{Spread, Summary};
pub use table::{Listed, Query, Row, Table, request};
