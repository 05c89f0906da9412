//! The loop: admit, profile, decide, run, settle, assess, learn.
//!
//! Takes a canonical request and who asks; gives an answer, whole or as events, and a record of how it was
//! decided and how it turned out. Knows no HTTP server and no database: providers and stores are seams.

pub mod answer;
pub mod error;

pub use answer::{Admission, Answer, Event, Head, Live, Tail, Whole};
pub use error::{Error, Kind};
