//! The edge: from a listening socket to requests, with a bound and a deadline on everything a client does.
//!
//! Takes a listener and gives requests to the front; knows no routes and no engine.

pub(crate) mod accept;
mod beside;
pub(crate) mod body;
mod connection;
pub(crate) mod framing;
pub(crate) mod gate;
pub(crate) mod host;
mod io;
pub(crate) mod json;
pub(crate) mod payload;
pub(crate) mod peer;
pub(crate) mod request_id;
mod streams;
pub(crate) mod turned_away;
