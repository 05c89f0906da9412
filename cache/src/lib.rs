//! What was put out before, for who asks the same: to the letter, or in other words.
//!
//! Takes results with the key they were made under and, where it is given, the question they answer; gives them back
//! until their time is over, within the bounds of a [`Shelf`]. It knows nothing of requests, tenants or policies: who
//! may have what is the business of whoever makes the keys. No clock, no network, no chance: the time is passed in.
//!
//! Of two questions their words are compared, not their meanings ([`Question`]).

mod pieces;
mod polite;
mod question;
mod shelf;

pub use question::{MAX_BYTES, Question};
pub use shelf::{Asked, Bounds, Kept, Key, Shelf};
