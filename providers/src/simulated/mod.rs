//! Answers made up in process, deterministic from a seed: for the demo, and for tests of everything above.
//!
//! An answer depends on the provider's seed, the model's id, the request (its body and edited messages) and
//! the id of the call, and on nothing else: the same four give the same answer after the same time, and
//! another attempt draws anew. Every answer says what it is: `system_fingerprint` is `simulated`, and prose
//! starts with a mark such as `[simulated: good answer]`.

mod answer;
mod contract;
mod draw;
mod instance;
mod pattern;
mod prose;
mod script;
pub(crate) mod wire;

pub(crate) use answer::tokens;
pub(crate) use contract::question;

use futures_util::future::{BoxFuture, FutureExt};
use script::Script;
use types::provider::{Call, ChatProvider, Error, Reply};

/// What `system_fingerprint` says in every answer.
pub const FINGERPRINT: &str = "simulated";

/// Start of every answer in prose that counts as a success.
pub const GOOD_MARK: &str = "[simulated: good answer]";

/// Start of every answer in prose that counts as a failure of the model's abilities.
pub const WRONG_MARK: &str = "[simulated: wrong answer]";

/// Answers for every model whose provider's dialect is `simulated`. Holds no state.
///
/// Waiting is done on tokio's clock, so a paused clock makes a call instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Simulated;

impl ChatProvider for Simulated {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        async move {
            match script::write(&call)? {
                Script::Whole { after, result } => {
                    tokio::time::sleep(after).await;
                    result.map(Reply::Whole)
                }
                Script::Stream(steps) => script::play(steps).await,
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
