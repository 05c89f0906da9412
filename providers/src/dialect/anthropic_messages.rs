//! Anthropic messages.
//!
//! What the dialect lacks and how it is made up for:
//! - A schema (`response_format: json_schema` with an object at its root) becomes a tool that the model must
//!   call, and its arguments become the text of the answer. Where that is impossible (the client has tools of
//!   its own, or asks for `thinking`, or the root is no object), and for `json_object`, an instruction at the end of
//!   the system prompt asks for it; the validators see whether it was heeded.
//! - `max_tokens` is required: the model's own limit stands in.
//! - `temperature` reaches from 0 to 1 and is cut there; vendors refuse it together with `top_p`, so then it
//!   goes alone.
//! - `n`, `seed`, log-probabilities and penalties do not exist: `n > 1` is refused, the rest is left out, as the
//!   record tells ([`adjust`]).
//! - `reasoning_effort` is said in the words that the model's row names by a tag; a body may carry the vendor's own
//!   `thinking`, `output_config` and `top_k`, which go through where the vendor takes them ([`thinking`]). Signed
//!   thoughts reach the client as `thinking_blocks` of the message, and the vendor again where the client sends them back.
//! - Results of tools belong behind their calls, in one turn: they are put there, and a call without one gets a word
//!   that says so. Identifiers of other vendors' calls are replaced where this one refuses them.

mod decode;
mod encode;
mod stream;
mod thinking;

pub(super) use decode::decode;
pub(super) use encode::{adjust, encode, uses_answer_tool};
pub(super) use stream::Stream;

pub(super) const PATH: &str = "/messages";

/// `anthropic-version`.
pub(super) const VERSION: &str = "2023-06-01";

/// Name of the tool whose arguments are the answer.
const ANSWER_TOOL: &str = "turnout_answer";
