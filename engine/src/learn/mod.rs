//! Outcomes to statistics: one writer, fed in the order of the log, publishing immutable snapshots.

mod counts;
mod learner;
mod snapshot;

pub use counts::Count;
pub(crate) use learner::ANY_MODEL;
pub use learner::{Learner, Limits, learner};
pub use snapshot::{ArmStats, Latency, ModelStats, Snapshot, Statistics};
