//! What the engine gives for a request: an answer whole, or its events as they come.

use crate::error::Error;
use crate::who::Who;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use types::{Chunk, Completion, Usage, Usd, Verdict};

/// Who asks, and since when.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Identifier of the request; unique.
    pub request_id: String,
    /// Whose request.
    pub who: Arc<Who>,
    /// When its head was read.
    pub received: tokio::time::Instant,
    /// Time the client allows from `received`, if it said so.
    pub deadline: Option<std::time::Duration>,
    /// Headers that policies may read, by their lower-case names.
    pub headers: Arc<BTreeMap<String, String>>,
    /// Whether it is going to be on record, which is known once it was decided.
    pub on_record: OnRecord,
}

impl Admission {
    /// A request of which no more is known.
    #[must_use]
    pub fn new(request_id: String, who: Arc<Who>, received: tokio::time::Instant) -> Self {
        let (headers, on_record) = (Arc::default(), OnRecord::default());
        Admission { request_id, who, received, deadline: None, headers, on_record }
    }
}

/// Whether a request is going to be on record under its identifier, however it ends. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct OnRecord(Arc<AtomicBool>);

impl OnRecord {
    /// As far as is known by now.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, sure: bool) {
        self.0.store(sure, Ordering::Relaxed);
    }
}

/// Known before the first byte leaves.
#[derive(Clone, Debug)]
pub struct Head {
    /// Identifier of the request, and of its decision.
    pub request_id: String,
    /// The workflow that runs.
    pub workflow: Arc<str>,
    /// The model that serves, `provider/model`; empty where the head leaves before that is known.
    pub model: Arc<str>,
    /// The model does not exist: its answers are made up in process.
    pub simulated: bool,
    /// Hash of the configuration in force.
    pub bundle: Arc<str>,
    /// Milliseconds of ours so far: everything but the time in which a provider was awaited.
    pub overhead_ms: f64,
    /// Headers that policies add to the answer, and `x-turnout-cache: hit` where no model was asked, for what earlier
    /// requests had been given was kept.
    pub headers: Vec<(String, String)>,
}

/// Known when everything has ended.
#[derive(Clone, Debug)]
pub struct Tail {
    /// What the whole tree used.
    pub usage: Usage,
    /// What the whole tree cost.
    pub cost: Usd,
    /// Every call had a known price.
    pub cost_known: bool,
    /// What the checks said.
    pub verdict: Verdict,
    /// Model calls made.
    pub calls: u32,
    /// The decision, run and outcome, when the request asked for them (`explain`).
    pub explain: Option<Value>,
}

/// What an answer came to, as its headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What the whole tree cost.
    pub cost: Usd,
    /// Every call had a known price.
    pub cost_known: bool,
    /// What the checks said.
    pub verdict: Verdict,
}

impl From<&Tail> for Sum {
    fn from(tail: &Tail) -> Self {
        Sum { cost: tail.cost, cost_known: tail.cost_known, verdict: tail.verdict }
    }
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(Box<Whole>),
    /// Event by event.
    Live(Live),
    /// None yet: its workflow may have to wait for somebody, so that the request is to become a run. Nothing was
    /// called, and nothing is on record.
    AsRun,
}

/// A whole answer. Its record is written.
#[derive(Debug)]
pub struct Whole {
    /// Known before.
    pub head: Head,
    /// Known after.
    pub tail: Tail,
    /// The answer. `raw` is set when the vendor's own body may go out as it came.
    pub completion: Completion,
}

impl Whole {
    /// The same as a stream.
    #[must_use]
    pub fn into_live(self) -> Live {
        let Whole { head, tail, completion } = self;
        let sum = Some(Sum::from(&tail));
        let chunks = crate::live::chunks(&completion).into_iter().map(Event::Chunk);
        let events = stream::iter(chunks.chain([Event::Done(tail)])).boxed();
        Live { head, sum, keep_alive: None, events }
    }
}

/// A streamed answer, past its commit point: the first event is there.
///
/// Dropping it aborts what still runs and records the request as cancelled.
pub struct Live {
    /// Known before.
    pub head: Head,
    /// What it came to, where the run had ended before the first byte was let go.
    pub sum: Option<Sum>,
    /// Quiet time after which a comment goes out; zero = none ever does; `None` = as the server is set up.
    pub keep_alive: Option<std::time::Duration>,
    /// The events. The last one is [`Event::Done`] or [`Event::Failed`]; nothing follows it.
    pub events: BoxStream<'static, Event>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("head", &self.head).finish_non_exhaustive()
    }
}

/// One event of a streamed answer.
#[derive(Debug)]
pub enum Event {
    /// Who serves: only where the head left before it was known, before the first chunk.
    Serves(Arc<str>),
    /// Something for the client.
    Chunk(Chunk),
    /// A clean end. Its record is written.
    Done(Tail),
    /// A failure after the commit point; never followed by a clean end. Its record is written.
    Failed(Error),
}
