//! Google `generateContent` and `streamGenerateContent`.
//!
//! What the dialect lacks and how it is made up for:
//! - Schemas are a subset of JSON Schema: [`schema`] rewrites what can be rewritten and drops the rest, so a schema
//!   is a help to the model here and the validators have the last word.
//! - Answers of most models name no identifiers of tool calls: they are made from the answer's id. Calls and results
//!   are told with them, each result in the place of its call, as many as there were calls.
//! - Of tools and a form of the answer it takes one only (2.5 and before): beside tools, words ask for the form.
//! - Newer models refuse a history of tool calls without the signatures of the thoughts behind them. They go to the client
//!   beside the calls (`extra_content.google.thought_signature`) and come back with them; where a history has none, models
//!   with the tag `thought_signatures` get what the vendor documents for histories made elsewhere.
//! - `reasoning_effort` becomes a thinking budget, in the steps of the vendor's own compatible endpoint.

mod decode;
mod encode;
mod schema;

pub(super) use decode::{Stream, decode};
pub(super) use encode::{adjust, encode};
