//! Chunks on their way from a provider to the client: what is held back, what is let go, what stops them.

use super::Host;
use super::early_abort::EarlyAbort;
use super::stranger;
use crate::budget::Budget;
use crate::node::stream::{Late, Window};
use crate::world::{EffectId, EffectKind, Failure, Moment};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use types::completion::{Accumulator, Choice, grow};
use types::matrix::Model;
use types::provider::{self, Edits};
use types::{Chunk, Completion, Finding};

/// Why chunks stopped flowing before the answer's own end, or at it.
pub(super) enum Stop {
    Upstream(provider::Error),
    /// The run's time is up, whoever was answering by then.
    OutOfTime,
    ClientGone,
    /// It is wrong, whatever else comes.
    Doomed(Box<Finding>),
    /// A check that holds text back could not decide on all of it.
    Unverified,
}

/// The client has left.
pub(super) struct Gone;

/// What of an answer has gone out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Bytes of text and of arguments of tool calls.
    pub(crate) bytes: usize,
    /// Pieces that held any.
    pub(crate) chunks: u32,
    /// When the first of them left, in milliseconds since the run started; `None` = none has.
    pub(crate) first_ms: Option<f64>,
}

impl Sent {
    fn add(&mut self, chunk: &Chunk, now: impl FnOnce() -> f64) {
        let bytes = length(chunk);
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes);
            self.chunks = self.chunks.saturating_add(1);
            self.first_ms.get_or_insert_with(now);
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} chunks had gone out", self.bytes, self.chunks)
    }
}

/// Bytes of text and of arguments of tool calls in a chunk.
fn length(chunk: &Chunk) -> usize {
    let of = |d: &types::completion::Delta| {
        d.text.as_ref().map_or(0, String::len) + d.tool_calls.iter().map(|c| c.arguments.len()).sum::<usize>()
    };
    chunk.choices.iter().map(of).sum()
}

/// How much of an answer must be free to go before a chunk of it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// So many bytes of its text.
    Text(usize),
    /// All of it.
    Whole,
}

/// Most chunks held back: a check that holds more text than this many chunks is not one that streams.
const MOST_HELD: usize = 65_536;

/// Passes chunks on.
pub(super) struct Pump<'a> {
    host: &'a Host,
    sink: &'a Sender<Chunk>,
    all: Accumulator,
    hold: Option<EarlyAbort<'a>>,
    watch: Option<EarlyAbort<'a>>,
    late: Option<Late>,
    model: Arc<Model>,
    deadline: Option<Instant>,
    /// Chunks that wait, each with what it waits for.
    held: VecDeque<(Reach, Chunk)>,
    /// Calls of tools wait for the end of the answer, and what comes behind them does.
    holds_calls: bool,
    /// One has come.
    called: bool,
    released: bool,
    /// The answer's own end has come: it goes out only once everything has been checked.
    closing: bool,
    /// What comes belongs to another answer, that goes on with the first.
    onward: bool,
    /// The pieces in which text that is watched goes out, and how much of it has.
    window: Option<Window>,
    sent: usize,
    out: Sent,
    /// What goes out together is one chunk.
    burst: bool,
    /// How the answer was asked for.
    asked: Arc<Edits>,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        host: &'a Host,
        sink: &'a Sender<Chunk>,
        hold: Option<EarlyAbort<'a>>,
        watch: Option<EarlyAbort<'a>>,
        late: Option<Late>,
        model: Arc<Model>,
    ) -> Self {
        Pump {
            host,
            sink,
            all: Accumulator::default(),
            hold,
            watch,
            late,
            model,
            deadline: host.deadline(),
            held: VecDeque::new(),
            holds_calls: false,
            called: false,
            released: false,
            closing: false,
            onward: false,
            window: None,
            sent: 0,
            out: Sent::default(),
            burst: false,
            asked: Arc::default(),
        }
    }

    /// The same in pieces of some size; with `burst`, what may go out together is one of them.
    pub(super) fn in_pieces(self, window: Option<Window>, burst: bool) -> Self {
        Pump { window, burst, ..self }
    }

    /// The same that lets calls of tools go only with the end of the answer.
    pub(super) fn holding_calls(self, holds_calls: bool) -> Self {
        Pump { holds_calls, ..self }
    }

    /// The same of an answer that was asked for so.
    pub(super) fn asked(self, asked: Arc<Edits>) -> Self {
        Pump { asked, ..self }
    }

    /// What has come so far, not to its end.
    pub(super) fn so_far(&self) -> &Completion {
        self.all.so_far()
    }

    /// What comes from here on is of another call, and goes on with what has come.
    pub(super) fn go_on(&mut self) {
        self.onward = true;
    }

    /// Whether the client has seen anything.
    pub(super) const fn released(&self) -> bool {
        self.released
    }

    pub(super) const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What has come so far.
    pub(super) fn take(&mut self) -> Completion {
        std::mem::take(&mut self.all).finish()
    }

    /// Lets everything go that still waits.
    pub(super) async fn rest(&mut self) -> Result<(), Gone> {
        while let Some((_, chunk)) = self.take_held(Reach::Whole) {
            self.send(chunk).await?;
        }
        Ok(())
    }

    /// What has gone out so far.
    pub(super) const fn out(&self) -> Sent {
        self.out
    }

    async fn send(&mut self, chunk: Chunk) -> Result<(), Gone> {
        let host = self.host;
        self.out.add(&chunk, || host.ms(&Moment { frame: "", what: "first_byte", index: 0, attempt: 1 }));
        self.sink.send(chunk).await.map_err(|_| Gone)
    }

    /// The next piece of what may go out, and what it has waited for.
    fn take_held(&mut self, safe: Reach) -> Option<(Reach, Chunk)> {
        let free = |held: &VecDeque<(Reach, Chunk)>| held.front().is_some_and(|(end, _)| *end <= safe);
        let mut piece = free(&self.held).then(|| self.held.pop_front()).flatten()?;
        while self.burst
            && free(&self.held)
            && let Some((end, next)) = self.held.pop_front()
        {
            match join(&mut piece.1, next) {
                None => piece.0 = end,
                Some(next) => {
                    self.held.push_front((end, next));
                    break;
                }
            }
        }
        Some(piece)
    }

    /// Passes chunks on as they come and as far as they may; a full sink holds the provider back.
    pub(super) async fn pass(
        &mut self,
        head: Vec<Chunk>,
        rest: BoxStream<'static, Result<Chunk, provider::Error>>,
        budget: &Budget,
    ) -> Option<Stop> {
        let (deadline, world) = (self.deadline, self.host.world.clone());
        let flow = self.flow(head, rest, budget);
        let Some(deadline) = deadline else { return flow.await };
        let id = EffectId::new(&Arc::from(""), EffectKind::Wait, 0, 1);
        tokio::select! {
            biased;
            stop = flow => stop,
            () = world.wait(id, deadline) => Some(Stop::OutOfTime),
        }
    }

    async fn flow(
        &mut self,
        head: Vec<Chunk>,
        mut rest: BoxStream<'static, Result<Chunk, provider::Error>>,
        budget: &Budget,
    ) -> Option<Stop> {
        for chunk in head {
            if let Some(stop) = self.take_in(chunk, budget).await {
                return Some(stop);
            }
        }
        // Whoever reads the sink in this same task sees the beginning before more is read.
        tokio::task::yield_now().await;
        while let Some(next) = rest.next().await {
            let chunk = match next {
                Ok(chunk) => chunk,
                Err(e) => return Some(self.broken(e)),
            };
            if let Some(stop) = self.take_in(chunk, budget).await {
                return Some(stop);
            }
        }
        self.close()
    }

    fn broken(&self, error: provider::Error) -> Stop {
        match self.host.told(&Moment { frame: "", what: "broken", index: 0, attempt: 1 }, error) {
            Failure::Provider(e) => Stop::Upstream(e),
            _ => Stop::OutOfTime,
        }
    }

    async fn take_in(&mut self, mut chunk: Chunk, budget: &Budget) -> Option<Stop> {
        if self.onward {
            // To the client it is the same answer: one id, one role, and nothing as another vendor wrote it.
            (chunk.raw, chunk.id) = (None, String::new());
            chunk.choices.iter_mut().for_each(|d| d.role = false);
        }
        self.all.push(&chunk);
        if let Some(found) = self.rejected(&chunk) {
            // Enough has been seen: the call is stopped on purpose, and counts as answered.
            budget.stop();
            return Some(Stop::Doomed(Box::new(found)));
        }
        self.called |= self.holds_calls && chunk.choices.iter().any(|d| !d.tool_calls.is_empty());
        let text = Reach::Text(self.hold.as_ref().map_or(0, EarlyAbort::len));
        let reach = if self.called { Reach::Whole } else { text };
        self.closing |= self.late.is_some() && chunk.choices.iter().any(|d| d.finish_reason.is_some());
        self.held.push_back((reach, chunk));
        // Calls wait however long they are: the most that a vendor may answer bounds them.
        if self.held.len() > MOST_HELD && !self.called {
            return Some(Stop::Unverified);
        }
        self.release().await
    }

    fn rejected(&mut self, chunk: &Chunk) -> Option<Finding> {
        // A call that waits is checked with the whole answer, which can still be mended if nothing of it has been shown.
        if (self.released || !self.holds_calls)
            && let Some(found) = stranger::called(chunk, &self.host.input.request, &self.asked)
        {
            return Some(found);
        }
        if let Some(found) = self.hold.as_mut().and_then(|h| h.push(chunk)) {
            return Some(found);
        }
        let found = self.watch.as_mut().and_then(|w| w.push(chunk))?;
        self.late.is_some_and(|l| l.is_error(&found)).then_some(found)
    }

    /// Lets go what may go. The first to go is what holds content: until then a failure can be hidden.
    async fn release(&mut self) -> Option<Stop> {
        if self.closing || !self.released && self.may_be_calls_alone() {
            return None;
        }
        let safe = Reach::Text(self.hold.as_ref().map_or(usize::MAX, |hold| {
            let Some(window) = self.window else { return hold.safe_up_to() };
            let safe = hold.safe_up_to().min(hold.len().saturating_sub(window.overlap));
            // Not a whole window yet.
            if safe.saturating_sub(self.sent) < window.bytes { self.sent } else { safe }
        }));
        let ready = |(reach, chunk): &(Reach, Chunk)| *reach <= safe && chunk.has_content();
        if !self.released && !self.held.iter().any(ready) {
            return None;
        }
        while let Some((reach, chunk)) = self.take_held(safe) {
            if self.send(chunk).await.is_err() {
                return Some(Stop::ClientGone);
            }
            if let Reach::Text(end) = reach {
                self.sent = end;
            }
            self.released = true;
            if let Some(h) = &mut self.hold {
                h.commit();
            }
        }
        None
    }

    /// Whether nothing is worth showing that cannot be taken back: calls that wait can be mended as long as nothing of
    /// their answer has been shown, and models write blanks before them.
    fn may_be_calls_alone(&self) -> bool {
        let is_blank = |c: &Choice| c.text.trim().is_empty() && c.bytes() == c.text.len();
        self.called || self.holds_calls && self.so_far().choices.iter().all(is_blank)
    }

    /// The answer is whole.
    fn close(&mut self) -> Option<Stop> {
        let Some(hold) = &mut self.hold else { return None };
        let found = hold.finish();
        if !self.released {
            return None;
        }
        if let Some(found) = found {
            return Some(Stop::Doomed(Box::new(found)));
        }
        if hold.safe_up_to() < hold.len() { Some(Stop::Unverified) } else { None }
    }
}

/// Adds a chunk to the one before it; gives it back where a client could not tell what it adds: pieces of tool calls.
fn join(first: &mut Chunk, next: Chunk) -> Option<Chunk> {
    let calls = |c: &Chunk| c.choices.iter().any(|d| !d.tool_calls.is_empty());
    if calls(first) || calls(&next) {
        return Some(next);
    }
    let add = |to: &mut Option<String>, more: Option<String>| match (to.as_mut(), more) {
        (Some(text), Some(more)) => text.push_str(&more),
        (None, more) => *to = more,
        (Some(_), None) => {}
    };
    // As the vendor wrote it, it was two.
    first.raw = None;
    first.usage = next.usage.or(first.usage);
    first.asked |= next.asked;
    match (&mut first.extra, next.extra) {
        (Some(all), Some(more)) => {
            let all = Arc::make_mut(all);
            more.iter().for_each(|(name, value)| {
                all.entry(name).or_insert_with(|| value.clone());
            });
        }
        (all, more) => *all = all.take().or(more),
    }
    for d in next.choices {
        let Some(mine) = first.choices.iter_mut().find(|m| m.index == d.index) else {
            first.choices.push(d);
            continue;
        };
        mine.role |= d.role;
        add(&mut mine.text, d.text);
        add(&mut mine.reasoning, d.reasoning);
        add(&mut mine.refusal, d.refusal);
        mine.finish_reason = d.finish_reason.or(mine.finish_reason.take());
        grow(&mut mine.logprobs, d.logprobs);
        grow(&mut mine.beside, d.beside);
    }
    None
}
