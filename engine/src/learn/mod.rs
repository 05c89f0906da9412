//! Outcomes to statistics: one writer, fed in the order of the log, publishing immutable snapshots.
//!
//! A request is a point (`point`); what an arm does there is learned by cells that trees cut (`forest`,
//! `cells`), and by a linear part that speaks while the cells have seen little (`ridge`). Models that change
//! are noticed (`detect`), what all arms find hard is told apart from what one does (`ease`), no source can move more than its share (`influence`), and each tenant has a posterior of its
//! own over what is common (`tenants`). What people and judges say comes later (`words`), and the more rarely anybody
//! does, the more it counts (`soft`). Requests read cells and linear parts for many arms at once (`table`, `lines`).

mod cells;
mod counts;
mod detect;
mod ease;
mod forest;
mod influence;
mod latency;
mod learner;
mod lesson;
mod lines;
mod point;
mod publish;
mod ridge;
mod shrinkage;
mod snapshot;
mod soft;
mod state;
mod study;
mod table;
mod tenants;
#[cfg(test)]
mod tests;
mod watch;
mod whole;
mod words;

pub use counts::{Count, Forms, Surprise};
pub use detect::{Aspect, Changes, Way};
pub use latency::Latency;
pub(crate) use learner::ANY_MODEL;
pub use learner::{Learner, Limits, learner};
pub(crate) use point::Point;
pub use snapshot::{ArmStats, Change, ModelStats, Snapshot, Statistics};
pub(crate) use snapshot::{Belief, Located, Seat};
pub use whole::Whole;
