//! Answers from a table of recorded outcomes, so that routing runs over real results without calling anyone.
//!
//! A request is answered if its last user message is a recorded prompt and the model was run on it; the text
//! of the answer is one line of JSON that names the query and the recorded quality, which a test client
//! sends back as feedback. Tokens are those recorded.

pub mod file;
mod pack;
mod snippet;

use crate::simulated::wire;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream;
use pack::{Pack, Row};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use types::completion::{Choice, Completion, FinishReason, Usage};
use types::provider::{Call, ChatProvider, Error, ErrorKind, Reply};

pub use snippet::matrix_for;

/// What `system_fingerprint` says in every answer.
pub const FINGERPRINT: &str = "recorded";

/// Answers for every model of one outcome table.
#[derive(Clone, Debug)]
pub struct Recorded {
    pack: Arc<Pack>,
    waits: bool,
}

impl Recorded {
    /// Reads a folder with `queries.jsonl.gz` and `outcomes.csv.gz`, in the format of the routing packs.
    /// Everything is held in memory.
    ///
    /// # Errors
    /// The file, the line, and what is wrong with it.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, String> {
        Ok(Recorded { pack: Arc::new(Pack::open(dir.as_ref())?), waits: false })
    }

    /// Whether a call takes as long as was recorded (where it was). Off unless set.
    #[must_use]
    pub fn waiting(mut self, waits: bool) -> Self {
        self.waits = waits;
        self
    }

    /// Queries and outcomes in the table.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        self.pack.size()
    }
}

impl ChatProvider for Recorded {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        let (pack, waits) = (Arc::clone(&self.pack), self.waits);
        async move {
            let (completion, latency) = answer(&pack, &call)?;
            if waits {
                wait(&call, latency).await?;
            }
            Ok(if call.stream {
                let chunks = wire::chunks(&completion, FINGERPRINT);
                Reply::Stream(stream::iter(chunks.into_iter().map(Ok)).boxed())
            } else {
                Reply::Whole(wire::with_raw(completion, FINGERPRINT))
            })
        }
        .boxed()
    }
}

async fn wait(call: &Call, latency: Duration) -> Result<(), Error> {
    let most = call.remaining.min(call.provider.timeouts.total);
    tokio::time::sleep(latency.min(most)).await;
    if latency > most {
        let detail = "the recorded call took longer than there is time";
        return Err(Error::new(ErrorKind::TotalTimeout, &call.model, detail));
    }
    Ok(())
}

fn answer(pack: &Pack, call: &Call) -> Result<(Completion, Duration), Error> {
    let refuse = |detail: String| Error::new(ErrorKind::BadRequest, &call.model, detail);
    let question = crate::simulated::question(call);
    let offered: Vec<&str> = call.request.tools.iter().map(|t| t.name.as_str()).collect();
    let Some(query) = pack.query(&question, &offered) else {
        return Err(refuse("the last user message is not a recorded prompt".to_owned()));
    };
    let name = &call.model.upstream_name;
    let Some(row) = pack.outcome(query, name) else {
        return Err(refuse(format!("`{name}` was not run on query {}", query.id)));
    };
    let text =
        json!({"recorded": true, "query_id": query.id, "model": name, "quality": row.quality}).to_string();
    let completion = Completion {
        id: format!("chatcmpl-rec-{}", query.id),
        created: 0,
        model: call.model.id.to_string(),
        usage: usage(&row, call, &question, &text),
        choices: vec![Choice { text, finish_reason: Some(FinishReason::Stop), ..Choice::default() }],
        ..Completion::default()
    };
    let latency = row.latency_s.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
    Ok((completion, latency))
}

/// Tokens as recorded. Where only the cost was, the output is what the rest of the cost buys at the model's
/// price; where nothing was, bytes by four.
fn usage(row: &Row, call: &Call, question: &str, text: &str) -> Usage {
    let estimated = row.input_tokens.is_none() || row.output_tokens.is_none();
    let input = row.input_tokens.unwrap_or_else(|| crate::simulated::tokens(question));
    let bought = || {
        let price = call.model.price.filter(|p| p.output > 0.0)?;
        let left = row.cost_usd? * 1e6 - f64::from(input) * price.input;
        // `as` saturates, and a cost below that of the input leaves no output.
        Some((left / price.output).round().max(0.0) as u32)
    };
    let output = row.output_tokens.or_else(bought).unwrap_or_else(|| crate::simulated::tokens(text));
    Usage { input, output, estimated, ..Usage::default() }
}

#[cfg(test)]
mod tests;
