//! The public face: chat completions in OpenAI's shape, in both directions.
//!
//! Takes a head and a body and gives a request; takes an answer and gives bytes. Knows nothing of sockets.

pub(crate) mod body;
pub(crate) mod egress;
pub(crate) mod headers;
pub(crate) mod ingress;
mod object;
pub(crate) mod sse;
#[cfg(test)]
mod testing;
mod wire;
