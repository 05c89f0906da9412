//! The only room that knows vendors' wire formats.
//!
//! Takes a [`types::provider::Call`], gives a [`types::provider::Reply`]: [`Fleet`] finds the provider of
//! the model, its dialect writes the request in the vendor's form, the transport sends it and tells how far
//! it came, and the dialect reads the answer back. [`matrix`] reads which providers and models there are.
//! It never chooses a model, tries again only with another key where a vendor refuses or fails one, and never reads the
//! environment by itself.

pub mod matrix;
pub mod recorded;
pub mod simulated;

mod dialect;
mod fleet;
mod lenient;
mod prefill;
mod secrets;
mod sse;
mod transport;

pub use fleet::{Config, Fleet, FreeUse};
pub use transport::{Counting, KeyState, Outgoing, Rest, Standing};
