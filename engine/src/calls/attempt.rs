//! One attempt at one model: its answer whole, or a stream that has begun to say something.

use super::choices::Choices;
use super::money::estimate;
use super::open::{End, LATE, Open};
use super::{Calls, tracked};
use crate::breaker::Answering;
use futures_util::stream::{BoxStream, StreamExt};
use tokio::time::{Instant, timeout_at};
use types::matrix::Model;
use types::provider::{Call, Error, ErrorKind, Reply};
use types::{Chunk, Completion, Usage};
use workflows::{Generated, Served};

impl Calls {
    /// Makes the call, as far as its whole answer or its first content.
    pub(super) async fn attempt(
        &self,
        call: Call,
        mut open: Open,
        answering: Option<Answering>,
        deadline: Instant,
    ) -> Result<Generated, Error> {
        let model = call.model.clone();
        let (region, params) = (call.provider.region.clone(), call.sampling(&open.adjusted));
        let mut served = Served { region, params, ttft_ms: None };
        let late = || Error::new(ErrorKind::TotalTimeout, &model, LATE);
        let reply = match timeout_at(deadline, self.reach.provider.call(call)).await {
            Ok(reply) => reply,
            Err(_) => Err(late()),
        };
        let failed = |open: &mut Open, e: Error| {
            open.close(&End::unanswered(&e, false));
            Err(e)
        };
        let mut choices = Choices::asked(self.request.params.n);
        match reply {
            Ok(Reply::Whole(c)) if c.choices.is_empty() => {
                let e = Error::new(ErrorKind::Malformed, &model, "the answer holds no choice");
                failed(&mut open, e.with_used(Some(c.usage)))
            }
            Ok(Reply::Whole(completion)) => {
                let mut completion = completion;
                choices.cut_whole(&mut completion);
                open.adjusted.extend(choices.fewer());
                let completion = Self::settle_whole(&mut open, completion);
                Ok(Generated::Whole { completion, model, served })
            }
            Ok(Reply::Stream(stream)) => {
                let begun =
                    timeout_at(deadline, commit(stream, &model, &mut open.so_far, &mut choices)).await;
                match begun.unwrap_or_else(|_| Err(late())) {
                    Ok((head, rest)) => {
                        served.ttft_ms = Some(open.started.elapsed().as_secs_f64() * 1e3);
                        let rest = tracked::track(open, &head, rest, (answering, choices));
                        Ok(Generated::Stream { model, served, head, rest })
                    }
                    Err(e) => {
                        open.close(&End { usage: open.so_far, ..End::unanswered(&e, false) });
                        Err(e)
                    }
                }
            }
            Err(e) => failed(&mut open, e),
        }
    }

    fn settle_whole(open: &mut Open, mut completion: Completion) -> Completion {
        let bytes = completion.bytes();
        let told = completion.usage;
        let model = completion.model.clone();
        open.close(&End {
            error: None,
            cut: false,
            usage: Some(told),
            output_bytes: bytes,
            first_content: None,
            reported_model: &model,
        });
        completion.usage = told.completed(estimate(true, open.est, bytes));
        completion
    }
}

/// Most events held back while waiting for the first content; of more, only what they say of usage is kept.
const MAX_HEAD: usize = 64;

type Committed = (Vec<Chunk>, BoxStream<'static, Result<Chunk, Error>>);

/// Waits for the first live content: until then a failure can be hidden behind another candidate. `so_far` is what
/// was reported by then.
async fn commit(
    mut stream: BoxStream<'static, Result<Chunk, Error>>,
    model: &Model,
    so_far: &mut Option<Usage>,
    choices: &mut Choices,
) -> Result<Committed, Error> {
    let mut head = Vec::with_capacity(2);
    loop {
        let full = head.len() >= MAX_HEAD;
        match stream.next().await {
            Some(Ok(mut chunk)) => {
                if !choices.cut(&mut chunk) {
                    continue;
                }
                *so_far = chunk.usage.or(*so_far);
                let live = chunk.has_content();
                match head.last_mut() {
                    Some(last) if !live && full => {
                        if chunk.usage.is_some() {
                            *last = chunk;
                        }
                    }
                    _ => head.push(chunk),
                }
                if live {
                    return Ok((head, stream));
                }
            }
            Some(Err(e)) => return Err(e),
            None => return Err(Error::new(ErrorKind::Malformed, model, "the stream ended without content")),
        }
    }
}
