//! OpenAI chat completions, and every vendor compatible with them: the house's own form, so bytes pass
//! through wherever nothing must change.

mod alike;
mod decode;
mod encode;
mod stream;

pub(super) use decode::decode;
pub(super) use encode::encode;
pub(super) use stream::Stream;

pub(super) const PATH: &str = "/chat/completions";
