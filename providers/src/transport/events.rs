//! A streamed answer: bytes to events to chunks, each wait bounded, nothing read ahead of the consumer.

use super::connect::{self, Body};
use super::keys::{Taken, Why};
use super::pace::Pace;
use super::{Limits, Times};
use crate::dialect::{Context, Decoder, Possible, Wire};
use crate::sse::{Framer, TooLarge};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http_body_util::BodyExt as _;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use types::completion::{Chunk, Delta};
use types::provider::{Error, ErrorKind};

/// After the vendor's last event its connection is worth keeping, if the end of the body follows at once.
const LAST_FRAME: Duration = Duration::from_millis(50);

/// How a streamed answer is read.
#[derive(Clone, Copy)]
pub(super) struct Reader {
    pub(super) wire: Wire,
    pub(super) limits: Limits,
    pub(super) times: Times,
    pub(super) possible: Possible,
}

impl Reader {
    /// The chunks of an answer whose head has come.
    pub(super) fn stream(
        self,
        context: Context,
        body: Body,
        key: Taken,
    ) -> BoxStream<'static, Result<Chunk, Error>> {
        let Reader { wire, limits, times, possible } = self;
        let events = Box::new(Events {
            body,
            framer: Framer::new(limits.event),
            decoder: wire.decoder(context),
            ready: VecDeque::new(),
            clock: Clock::new(times),
            pace: Pace::new(times.floor),
            bytes: 0,
            limits,
            possible,
            said: 0,
            over: false,
            failed: None,
            key,
        });
        Box::pin(stream::unfold(events, |mut events| async move {
            let item = events.next().await?;
            Some((item, events))
        }))
    }
}

/// A stream of which something has come, unless the first of it is a refusal that another key may not meet with.
///
/// # Errors
/// The refusal.
pub(super) async fn begun(
    mut stream: BoxStream<'static, Result<Chunk, Error>>,
) -> Result<BoxStream<'static, Result<Chunk, Error>>, Error> {
    let first = match stream.next().await {
        Some(Err(e)) if Why::of(&e).is_some() && super::is_unserved(&e) => return Err(e),
        first => first,
    };
    Ok(Box::pin(stream::iter(first).chain(stream)))
}

struct Events {
    body: Body,
    framer: Framer,
    decoder: Decoder,
    ready: VecDeque<Chunk>,
    clock: Clock,
    pace: Pace,
    bytes: usize,
    limits: Limits,
    possible: Possible,
    /// Bytes that the model wrote so far.
    said: usize,
    /// Nothing more is read: the end was reached, or an error to be given after what is ready.
    over: bool,
    failed: Option<Error>,
    /// In use until the stream ends; told what was used.
    key: Taken,
}

impl Events {
    async fn next(&mut self) -> Option<Result<Chunk, Error>> {
        let mut waiting = false;
        // What came before a failure is given before it.
        while self.ready.is_empty() && !self.over {
            let progress = match self.decode() {
                Ok(true) => continue,
                Ok(false) if self.decoder.ended() => {
                    self.drain().await;
                    self.decoder.finish().map(|()| Progress::End)
                }
                Ok(false) => self.wait(std::mem::replace(&mut waiting, true)).await,
                Err(e) => Err(e),
            };
            match progress {
                Ok(Progress::More) => {}
                Ok(Progress::End) => {
                    self.over = true;
                    self.key.ended();
                }
                Err(e) => {
                    self.over = true;
                    let e = self.possible.judge_failed(e);
                    if let Some(used) = &e.used {
                        self.key.used(used);
                        self.key.ended();
                    }
                    // Of an answer that has begun nobody knows what it has cost.
                    if self.key.failed(&e) && self.clock.first && super::is_unserved(&e) {
                        self.key.unserved(true);
                    }
                    self.failed = Some(e);
                }
            }
        }
        match self.ready.pop_front() {
            Some(mut chunk) => {
                let new = chunk.choices.iter().map(Delta::bytes);
                self.said = new.fold(self.said, usize::saturating_add);
                self.key.said(self.said);
                if let Some(usage) = &mut chunk.usage {
                    *usage = self.possible.judge(*usage, self.said);
                    self.key.used(usage);
                }
                Some(Ok(chunk))
            }
            None => self.failed.take().map(Err),
        }
    }

    /// Decodes the next event of what was read, if a whole one is there. One, and no more: chunks are larger than
    /// what they are made from, and a reader that stalls must not have all of a frame's waiting for it.
    fn decode(&mut self) -> Result<bool, Error> {
        if self.decoder.ended() {
            return Ok(false);
        }
        let Some(event) = self.framer.next().map_err(|e| self.too_large(e))? else { return Ok(false) };
        let result = self.decoder.push(&event, &mut self.ready);
        if self.ready.iter().any(Chunk::has_content) {
            if self.clock.first {
                self.key.accepted();
            }
            self.clock.content();
        }
        self.pace.heard(self.ready.iter());
        result.map(|()| true)
    }

    /// Waits for more of the body, once all that came has been heard; `again` where what came was no event yet. The
    /// time that the consumer takes between is not the vendor's.
    async fn wait(&mut self, again: bool) -> Result<Progress, Error> {
        if self.pace.drips() {
            return self.stalled(ErrorKind::InterTokenTimeout);
        }
        let since = if again { Instant::now() } else { self.clock.restart() };
        let progress = self.read().await;
        let waited = since.elapsed();
        self.clock.waited(waited);
        self.pace.waited(waited);
        progress
    }

    /// Waits for one frame of the body.
    async fn read(&mut self) -> Result<Progress, Error> {
        let frame = tokio::select! {
            biased;
            frame = self.body.frame() => frame,
            kind = self.clock.expired() => return self.stalled(kind),
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.take(data),
                Err(_trailers) => Ok(Progress::More),
            },
            Some(Err(e)) => self
                .end()
                .map_err(|_| self.decoder.context().error(ErrorKind::StreamLost, connect::root_cause(&e))),
            None => {
                if let Some(event) = self.framer.finish().map_err(|e| self.too_large(e))? {
                    self.decoder.push_cut(&event, &mut self.ready)?;
                }
                self.end()
            }
        }
    }

    fn take(&mut self, data: Bytes) -> Result<Progress, Error> {
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > self.limits.answer {
            let detail = format!("the answer is larger than {} bytes", self.limits.answer);
            return Err(self.decoder.context().error(ErrorKind::TooLarge, detail));
        }
        self.framer.push(data);
        Ok(Progress::More)
    }

    /// Reads the end of the body, so that the connection can be kept. Late is no failure of the answer.
    async fn drain(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.body.frame().await {} };
        let _ = timeout(LAST_FRAME, rest).await;
    }

    fn end(&self) -> Result<Progress, Error> {
        self.decoder.finish().map(|()| Progress::End)
    }

    fn too_large(&self, _: TooLarge) -> Error {
        let detail = format!("one event is larger than {} bytes", self.limits.event);
        self.decoder.context().error(ErrorKind::TooLarge, detail)
    }

    /// Nothing more comes in time: that is the end of an answer that was whole by then, as where its connection is lost.
    fn stalled(&self, kind: ErrorKind) -> Result<Progress, Error> {
        self.end().map_err(|_| self.timed_out(kind))
    }

    fn timed_out(&self, kind: ErrorKind) -> Error {
        let detail = match kind {
            ErrorKind::FirstTokenTimeout => "nothing of an answer came in time",
            ErrorKind::InterTokenTimeout => "the answer stalled, or came too slowly",
            _ => "the call took longer than it may",
        };
        self.decoder.context().error(kind, detail)
    }
}

enum Progress {
    More,
    End,
}

/// Bounds each wait for content with one timer, which is set anew only when it fires. What comes without content (a
/// ping, a role, an empty text) neither ends the first wait nor lengthens a later one.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    times: Times,
    /// End of the present wait; the first content's until it came.
    due: Instant,
    /// Of the time between content and content, what has not been waited yet.
    left: Duration,
    first: bool,
}

impl Clock {
    fn new(times: Times) -> Self {
        let sleep = Box::pin(sleep_until(times.first.min(times.total)));
        Clock { sleep, times, due: times.first, left: times.gap, first: true }
    }

    /// Content came: it goes to the consumer before anything more is waited for.
    fn content(&mut self) {
        self.first = false;
        self.left = self.times.gap;
    }

    /// The vendor has been waited for.
    fn waited(&mut self, time: Duration) {
        if !self.first || self.due > self.times.first {
            self.left = self.left.saturating_sub(time);
        }
    }

    /// The consumer begins to wait. One that comes after the time of the first content gets a gap's time more,
    /// since nothing was read before it came. Gives the present time.
    fn restart(&mut self) -> Instant {
        let now = Instant::now();
        if !self.first || now >= self.times.first {
            self.due = super::after(now, self.left);
        }
        now
    }

    /// Resolves when the wait has been too long.
    async fn expired(&mut self) -> ErrorKind {
        loop {
            let due = self.due.min(self.times.total);
            if Instant::now() >= due {
                return if self.times.total <= self.due {
                    ErrorKind::TotalTimeout
                } else if self.first {
                    ErrorKind::FirstTokenTimeout
                } else {
                    ErrorKind::InterTokenTimeout
                };
            }
            if self.sleep.deadline() > due || self.sleep.is_elapsed() {
                self.sleep.as_mut().reset(due);
            }
            self.sleep.as_mut().await;
        }
    }
}
