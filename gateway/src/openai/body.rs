//! The body of a streamed answer: polls the engine's events, nothing runs beside it; dropping it aborts.

use super::headers;
use super::sse::{Encoder, KEEP_ALIVE};
use crate::error::Failure;
use crate::once::Tape;
use bytes::Bytes;
use engine::{Event, Sum};
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use types::Usd;

/// A streamed answer on its way out.
pub(crate) struct Sse {
    /// `None` once nothing more will come.
    events: Option<BoxStream<'static, Event>>,
    encoder: Encoder,
    keep_alive: Option<(Duration, Pin<Box<Sleep>>)>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    on_end: Option<OnEnd>,
    /// Hears what leaves, where it may be asked for again.
    tape: Option<Tape>,
    telling: Telling,
    trailers: Option<HeaderMap>,
    /// The name of its record.
    decision: Box<str>,
    /// What is held for as long as the answer runs.
    _held: Box<dyn Any + Send>,
}

/// Told once how the stream ended.
pub(crate) type OnEnd = Box<dyn FnOnce(End) + Send>;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With `[DONE]`.
    Done,
    /// With an error event.
    Failed,
    /// The client left.
    Dropped,
}

/// How a client is told what the answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// By the headers already, or not at all.
    Told,
    /// By a comment before `[DONE]`.
    Comment,
    /// By fields behind the body.
    Trailers,
}

/// What a stream needs besides its events.
pub(crate) struct Setup {
    pub(crate) encoder: Encoder,
    /// Quiet time after which a comment goes out; zero = never.
    pub(crate) keep_alive: Duration,
    pub(crate) telling: Telling,
    /// Fires when the server must be gone.
    pub(crate) cut: CancellationToken,
    pub(crate) on_end: OnEnd,
    pub(crate) tape: Option<Tape>,
    /// The name of its record.
    pub(crate) decision: Box<str>,
    pub(crate) held: Box<dyn Any + Send>,
}

impl Sse {
    pub(crate) fn new(events: BoxStream<'static, Event>, setup: Setup) -> Self {
        let quiet = setup.keep_alive;
        Sse {
            events: Some(events),
            encoder: setup.encoder,
            keep_alive: (!quiet.is_zero()).then(|| (quiet, Box::pin(tokio::time::sleep(quiet)))),
            cut: Box::pin(setup.cut.cancelled_owned()),
            on_end: Some(setup.on_end),
            tape: setup.tape,
            telling: setup.telling,
            trailers: None,
            decision: setup.decision,
            _held: setup.held,
        }
    }

    /// Whether more of it may come.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.events.is_some()
    }

    fn end(&mut self, end: End) {
        self.events = None;
        self.tape = None;
        if let Some(f) = self.on_end.take() {
            f(end);
        }
    }

    fn fail(&mut self, failure: &Failure) -> Bytes {
        self.end(End::Failed);
        Encoder::failed(failure)
    }

    /// It has broken off for a reason of ours. Its run is dropped and so on record.
    fn broken(&mut self, failure: Failure) -> Bytes {
        let decision = Some(self.decision.to_string());
        self.fail(&Failure { decision, ..failure })
    }

    /// The next bytes; `None` when the event at hand gives none.
    fn bytes_of(&mut self, event: Option<Event>) -> Option<Bytes> {
        match event {
            Some(Event::Serves(model)) => {
                self.encoder.serves(&model);
                None
            }
            Some(Event::Chunk(chunk)) => {
                let bytes = self.encoder.chunk(&chunk);
                if let (Some(tape), Some(bytes)) = (&mut self.tape, &bytes) {
                    tape.hear(bytes);
                }
                bytes
            }
            Some(Event::Done(tail)) => {
                let bytes = self.encoder.done(&tail);
                let sum = Sum::from(&tail);
                if let Some(mut tape) = self.tape.take() {
                    if self.telling != Telling::Told {
                        // Whoever asks again pays nothing.
                        tape.hear(&Encoder::comment(&Sum { cost: Usd::ZERO, cost_known: true, ..sum }));
                    }
                    tape.hear(&bytes);
                    tape.keep();
                }
                self.end(End::Done);
                Some(match self.telling {
                    Telling::Told => bytes,
                    Telling::Comment => [Encoder::comment(&sum), bytes].concat().into(),
                    Telling::Trailers => {
                        headers::sum(self.trailers.insert(HeaderMap::new()), &sum);
                        bytes
                    }
                })
            }
            Some(Event::Failed(e)) => Some(self.fail(&Failure::from(e))),
            // The engine promises a last event; its absence must not look like a clean end.
            None => Some(self.broken(Failure::internal())),
        }
    }
}

impl Stream for Sse {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(events) = self.events.as_mut() else { return Poll::Ready(None) };
            // A panic below would take the whole connection down with all its other streams.
            let polled = match catch_unwind(AssertUnwindSafe(|| events.poll_next_unpin(cx))) {
                Ok(polled) => polled,
                Err(_) => return Poll::Ready(Some(Ok(self.broken(Failure::internal())))),
            };
            let Poll::Ready(event) = polled else { break };
            if let Some((quiet, sleep)) = &mut self.keep_alive {
                sleep.as_mut().reset(Instant::now() + *quiet);
            }
            if let Some(bytes) = self.bytes_of(event) {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Ok(self.broken(Failure::shutting_down()))));
        }
        if let Some((quiet, sleep)) = &mut self.keep_alive
            && sleep.as_mut().poll(cx).is_ready()
        {
            sleep.as_mut().reset(Instant::now() + *quiet);
            // Registers the waker for the next quiet time.
            let _ = sleep.as_mut().poll(cx);
            return Poll::Ready(Some(Ok(Bytes::from_static(KEEP_ALIVE))));
        }
        Poll::Pending
    }
}

impl HttpBody for Sse {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.as_mut().poll_next(cx).map(|next| match next {
            Some(piece) => Some(piece.map(Frame::data)),
            None => self.trailers.take().map(|fields| Ok(Frame::trailers(fields))),
        })
    }
}

impl Drop for Sse {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::head;
    use super::*;
    use engine::Tail;
    use futures_util::stream;
    use std::sync::{Arc, Mutex};
    use types::{Chunk, Usage, Usd, Verdict, completion::Delta};

    fn chunk() -> Event {
        let delta = Delta { text: Some("x".into()), ..Delta::default() };
        Event::Chunk(Chunk { choices: vec![delta], ..Chunk::default() })
    }

    fn done() -> Event {
        Event::Done(Tail {
            usage: Usage::default(),
            cost: Usd::ZERO,
            cost_known: true,
            verdict: Verdict::None,
            calls: 1,
            explain: None,
        })
    }

    fn body(
        events: BoxStream<'static, Event>,
        cut: &CancellationToken,
    ) -> (Sse, Arc<Mutex<Vec<&'static str>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let ends = log.clone();
        let on_end = Box::new(move |end: End| {
            ends.lock().unwrap().push(match end {
                End::Done => "done",
                End::Failed => "failed",
                End::Dropped => "dropped",
            });
        });
        let setup = Setup {
            encoder: Encoder::new(&head(), false, 0),
            keep_alive: Duration::from_secs(15),
            telling: Telling::Told,
            cut: cut.clone(),
            on_end,
            tape: None,
            decision: "req_1".into(),
            held: Box::new(()),
        };
        (Sse::new(events, setup), log)
    }

    async fn all(sse: Sse) -> String {
        let parts: Vec<_> = sse.map(|b| b.unwrap().to_vec()).collect().await;
        String::from_utf8(parts.concat()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn ends_are_honest() {
        let cut = CancellationToken::new();
        let cases: [(Vec<Event>, bool, &str); 4] = [
            (vec![chunk(), done()], true, "done"),
            (vec![chunk(), Event::Failed(engine::Kind::Deadline.into())], false, "failed"),
            (vec![chunk()], false, "failed"),
            (vec![done(), chunk()], true, "done"),
        ];
        for (events, clean, end) in cases {
            let (sse, log) = body(stream::iter(events).boxed(), &cut);
            let text = all(sse).await;
            assert_eq!(text.matches("[DONE]").count(), usize::from(clean), "{text}");
            assert_eq!(text.contains("\"error\""), !clean, "{text}");
            assert_eq!(*log.lock().unwrap(), [end]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_came_to_is_told_once_and_only_at_a_clean_end() {
        use http_body_util::BodyExt;
        let cut = CancellationToken::new();
        let lost = || vec![chunk(), Event::Failed(engine::Kind::Deadline.into())];
        for (telling, events, comment, trailers) in [
            (Telling::Told, vec![chunk(), done()], false, false),
            (Telling::Comment, vec![chunk(), done()], true, false),
            (Telling::Trailers, vec![chunk(), done()], false, true),
            (Telling::Comment, lost(), false, false),
            (Telling::Trailers, lost(), false, false),
        ] {
            let mut sse = body(stream::iter(events).boxed(), &cut).0;
            sse.telling = telling;
            let all = BodyExt::collect(sse).await.unwrap();
            let fields = all.trailers().cloned();
            let text = String::from_utf8(all.to_bytes().to_vec()).unwrap();
            let said = text.contains("\n\n: turnout verdict=none cost_usd=0\n\ndata: [DONE]\n\n");
            assert_eq!((said, fields.is_some()), (comment, trailers), "{telling:?}: {text}");
            assert_eq!(text.contains("turnout"), comment, "{text}");
            assert!(
                fields.is_none_or(|f| f["x-turnout-verdict"] == "none" && f["x-turnout-cost-usd"] == "0")
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn comments_only_while_idle_and_an_error_at_the_cut() {
        let cut = CancellationToken::new();
        let (mut sse, log) = body(stream::iter([chunk()]).chain(stream::pending()).boxed(), &cut);
        assert!(sse.next().await.unwrap().unwrap().starts_with(b"data: {"));
        let before = Instant::now();
        assert_eq!(sse.next().await.unwrap().unwrap(), KEEP_ALIVE);
        assert_eq!(sse.next().await.unwrap().unwrap(), KEEP_ALIVE);
        assert!(before.elapsed() >= Duration::from_secs(30));
        cut.cancel();
        let rest = all(sse).await;
        assert!(rest.contains("shutting_down") && !rest.contains("[DONE]"), "{rest}");
        assert!(rest.contains(r#""decision":"req_1""#), "{rest}");
        assert_eq!(*log.lock().unwrap(), ["failed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_event_and_a_drop_is_noted() {
        let cut = CancellationToken::new();
        let (sse, _) = body(stream::poll_fn(|_| -> Poll<Option<Event>> { panic!("odd") }).boxed(), &cut);
        let text = all(sse).await;
        assert!(text.contains("internal_error") && text.contains(r#""decision":"req_1""#), "{text}");
        let (sse, log) = body(stream::pending().boxed(), &cut);
        drop(sse);
        assert_eq!(*log.lock().unwrap(), ["dropped"]);
    }
}
