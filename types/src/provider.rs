//! The seam to model providers: one call, answered whole or as a stream.

use crate::adjustment::Adjustment;
use crate::axis::TaskFamily;
use crate::chat::{ChatRequest, Message, ResponseFormat, Tool, ToolChoice};
use crate::completion::{Chunk, Completion, Usage};
use crate::error::Blame;
use crate::matrix::{Model, ModelIx, Provider};
use crate::profile::SubLabel;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// One call of one model.
#[derive(Clone, Debug)]
pub struct Call {
    /// The client's request.
    pub request: Arc<ChatRequest>,
    /// What is different from it.
    pub edits: Edits,
    /// The model to call.
    pub model: Arc<Model>,
    /// Its provider.
    pub provider: Arc<Provider>,
    /// Answer as a stream.
    pub stream: bool,
    /// Time left for the whole call, counted from now; the provider's own timeouts apply as well.
    pub remaining: Duration,
    /// Identifies the request tree and the call within it, for logs and idempotency.
    pub id: String,
    /// What the profiler said of the request. Only simulated providers read it.
    pub family: TaskFamily,
    /// Likewise.
    pub sub_label: Option<SubLabel>,
    /// About how many tokens its input has; `None` = nobody has counted, and the size of its body says.
    pub est_input: Option<u32>,
}

impl Call {
    /// The tools that it defines: those offered, or else the request's.
    #[must_use]
    pub fn tools(&self) -> &[Tool] {
        self.edits.tools.as_ref().map_or(&self.request.tools, |t| t.as_slice())
    }

    /// Which tools must be used. What the request demands is of its own tools.
    #[must_use]
    pub fn tool_choice(&self) -> &ToolChoice {
        match &self.edits.tool_choice {
            Some(choice) => choice,
            None if self.edits.tools.is_some() => &ToolChoice::Unset,
            None => &self.request.tool_choice,
        }
    }

    /// Sequences at which the answer ends.
    #[must_use]
    pub fn stop(&self) -> &[String] {
        self.edits.stop.as_deref().unwrap_or(&self.request.params.stop)
    }

    /// How much the model is to think, as it was written.
    #[must_use]
    pub fn reasoning_effort(&self) -> Option<&str> {
        self.edits.reasoning_effort.as_deref().or(self.request.params.reasoning_effort.as_deref())
    }

    /// What it is asked with, but for what `adjusted` says of it.
    #[must_use]
    pub fn sampling(&self, adjusted: &[Adjustment]) -> Sampling {
        let (edits, params) = (&self.edits, &self.request.params);
        let number = |name: &str| self.request.raw(name).and_then(|raw| serde_json::from_str(raw).ok());
        let mut all = Sampling {
            temperature: edits.temperature.or(params.temperature),
            top_p: edits.top_p.or(params.top_p),
            max_tokens: edits.max_tokens.or(params.max_tokens),
            seed: edits.seed.or(params.seed),
            stop: self.stop().to_vec(),
            presence_penalty: edits.presence_penalty.or_else(|| number("presence_penalty")),
            frequency_penalty: edits.frequency_penalty.or_else(|| number("frequency_penalty")),
            reasoning_effort: self.reasoning_effort().map(str::to_owned),
            logprobs: edits.logprobs.unwrap_or(params.logprobs),
        };
        adjusted.iter().for_each(|a| all.adjust(a));
        all
    }
}

/// How an answer was asked for; `None` = as is usual with the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0..=2.
    pub temperature: Option<f64>,
    /// 0..=1.
    pub top_p: Option<f64>,
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
    /// Seed of the vendor's sampling, as the request says it.
    pub seed: Option<i64>,
    /// Sequences at which it ends.
    pub stop: Vec<String>,
    /// -2..=2.
    pub presence_penalty: Option<f64>,
    /// -2..=2.
    pub frequency_penalty: Option<f64>,
    /// As written: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`.
    pub reasoning_effort: Option<String>,
    /// Log-probabilities were asked for.
    pub logprobs: bool,
}

impl Sampling {
    /// What a vendor was not told, or was told otherwise.
    fn adjust(&mut self, a: &Adjustment) {
        let number = || a.to.as_ref().and_then(serde_json::Value::as_f64);
        match &*a.name {
            "temperature" => self.temperature = number(),
            "top_p" => self.top_p = number(),
            // Its limit holds whatever the limit was called.
            "max_tokens" | "max_completion_tokens" => {}
            "seed" => self.seed = a.to.as_ref().and_then(serde_json::Value::as_i64),
            "stop" if a.to.is_none() => self.stop.clear(),
            // Those of white space alone are left out.
            "stop" => self.stop.retain(|s| !s.trim().is_empty()),
            "presence_penalty" => self.presence_penalty = number(),
            "frequency_penalty" => self.frequency_penalty = number(),
            "reasoning_effort" => self.reasoning_effort = None,
            "logprobs" => self.logprobs = false,
            _ => {}
        }
    }
}

/// How a model is held to the form of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforce {
    /// In the strongest way that the model knows.
    #[default]
    Auto,
    /// By the vendor itself, or by nobody: only models that can be held to it may serve.
    Strict,
    /// By the vendor's JSON mode at most; a schema is told in words.
    JsonMode,
    /// In words alone.
    Prompt,
}

/// What a workflow or a directive changes in the client's request. Empty = the body goes as it came, but
/// for `model` (and `stream`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Other messages.
    pub messages: Option<Vec<Message>>,
    /// Another form of the answer.
    pub response_format: Option<ResponseFormat>,
    /// Another temperature.
    pub temperature: Option<f64>,
    /// Another nucleus.
    pub top_p: Option<f64>,
    /// Another limit on output tokens.
    pub max_tokens: Option<u32>,
    /// Another seed.
    pub seed: Option<i64>,
    /// No tools are offered.
    pub without_tools: bool,
    /// These tools are offered instead of the request's.
    pub tools: Option<Arc<Vec<Tool>>>,
    /// The beginning of the answer, which the model goes on from. The answer comes with it. Only for models of the
    /// ability `prefill`; not empty, and without white space at its end.
    pub prefill: Option<Arc<str>>,
    /// Other sequences at which the answer ends; empty = none.
    pub stop: Option<Vec<String>>,
    /// Another presence penalty, -2..=2.
    pub presence_penalty: Option<f64>,
    /// Another frequency penalty, -2..=2.
    pub frequency_penalty: Option<f64>,
    /// Another effort of thinking, for models that think.
    pub reasoning_effort: Option<Arc<str>>,
    /// Whether log-probabilities are asked for, of models that give them.
    pub logprobs: Option<bool>,
    /// Another demand on which tools are used.
    pub tool_choice: Option<ToolChoice>,
    /// How the model is held to the form.
    pub enforce: Enforce,
}

/// An answer.
pub enum Reply {
    /// Whole.
    Whole(Completion),
    /// As a stream. It ends (`None`) only after the vendor's own end of the answer; every other end is an
    /// `Err` as last item. Dropping it aborts the call.
    Stream(BoxStream<'static, Result<Chunk, Error>>),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Whole(c) => f.debug_tuple("Whole").field(c).finish(),
            Reply::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Why a call failed: one kind per way in which callers act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// No connection (name, refusal, TLS, time-out of connecting).
    Connect,
    /// No first event in time.
    FirstTokenTimeout,
    /// A gap between events.
    InterTokenTimeout,
    /// The whole call took too long, or the request's deadline passed.
    TotalTimeout,
    /// 429.
    RateLimited,
    /// 408, 409, 5xx, overloaded.
    Unavailable,
    /// The stream ended before the answer did, or an error event came.
    StreamLost,
    /// The answer is not what the dialect promises.
    Malformed,
    /// The answer or one event is larger than allowed.
    TooLarge,
    /// 400, 404, 422: this request on this model.
    BadRequest,
    /// 401, 403: our key.
    Auth,
    /// 402 or the vendor's word for no credit.
    Quota,
    /// By our own count no key has enough left of the model's free tier: the vendor was not asked.
    FreeTier,
    /// By our own count no key may be used for it now, by its stated limits: the vendor was not asked.
    KeyLimit,
    /// The input does not fit.
    ContextOverflow,
    /// The vendor's filter refused the input.
    ContentFiltered,
    /// We dropped the call: the client left, or its answer was no longer needed.
    Cancelled,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [ErrorKind; 17] = [
        ErrorKind::Connect,
        ErrorKind::FirstTokenTimeout,
        ErrorKind::InterTokenTimeout,
        ErrorKind::TotalTimeout,
        ErrorKind::RateLimited,
        ErrorKind::Unavailable,
        ErrorKind::StreamLost,
        ErrorKind::Malformed,
        ErrorKind::TooLarge,
        ErrorKind::BadRequest,
        ErrorKind::Auth,
        ErrorKind::Quota,
        ErrorKind::FreeTier,
        ErrorKind::KeyLimit,
        ErrorKind::ContextOverflow,
        ErrorKind::ContentFiltered,
        ErrorKind::Cancelled,
    ];

    /// Those of [`ErrorKind::workflow_name`] that another attempt at the same model may mend: what `retry.codes` of
    /// workflow files may name.
    pub const RETRY_NAMES: [&str; 5] = ["rate_limited", "unavailable", "timeout", "stream_lost", "malformed"];

    /// The string used in records, metrics and errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Connect => "connect",
            ErrorKind::FirstTokenTimeout => "first_token_timeout",
            ErrorKind::InterTokenTimeout => "inter_token_timeout",
            ErrorKind::TotalTimeout => "total_timeout",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::StreamLost => "stream_lost",
            ErrorKind::Malformed => "malformed",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::BadRequest => "bad_request",
            ErrorKind::Auth => "auth",
            ErrorKind::Quota => "quota",
            ErrorKind::FreeTier => "free_tier",
            ErrorKind::KeyLimit => "key_limit",
            ErrorKind::ContextOverflow => "context_overflow",
            ErrorKind::ContentFiltered => "content_filtered",
            ErrorKind::Cancelled => "cancelled",
        }
    }

    /// By what workflow files and their tests know it: kinds that mean the same to an author share a name.
    #[must_use]
    pub const fn workflow_name(self) -> &'static str {
        match self {
            ErrorKind::RateLimited | ErrorKind::FreeTier | ErrorKind::KeyLimit => "rate_limited",
            ErrorKind::Connect | ErrorKind::Unavailable => "unavailable",
            ErrorKind::FirstTokenTimeout | ErrorKind::InterTokenTimeout | ErrorKind::TotalTimeout => {
                "timeout"
            }
            ErrorKind::StreamLost => "stream_lost",
            ErrorKind::Malformed | ErrorKind::TooLarge => "malformed",
            ErrorKind::BadRequest => "bad_request",
            ErrorKind::Auth | ErrorKind::Quota => "auth",
            ErrorKind::ContextOverflow => "context_overflow",
            ErrorKind::ContentFiltered => "content_filtered",
            ErrorKind::Cancelled => "cancelled",
        }
    }

    /// The same of those that another attempt at the same model may mend.
    #[must_use]
    pub fn retry_name(self) -> Option<&'static str> {
        Self::RETRY_NAMES.into_iter().find(|name| *name == self.workflow_name())
    }

    /// What happened, for people: goes after the model's name and "failed: ".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            ErrorKind::Connect => "it cannot be reached",
            ErrorKind::FirstTokenTimeout => "no answer began in time",
            ErrorKind::InterTokenTimeout => "the answer stalled",
            ErrorKind::TotalTimeout => "the answer took too long",
            ErrorKind::RateLimited => "it takes no more requests for now",
            ErrorKind::Unavailable => "it is not available",
            ErrorKind::StreamLost => "the answer broke off",
            ErrorKind::Malformed => "what came is not an answer",
            ErrorKind::TooLarge => "the answer is larger than allowed",
            ErrorKind::BadRequest => "it refused the request",
            ErrorKind::Auth => "it does not accept this server's key",
            ErrorKind::Quota => "this server's account there has no credit left",
            ErrorKind::FreeTier => "its free tier is used up for now",
            ErrorKind::KeyLimit => "what this server's keys may use of it is used up for now",
            ErrorKind::ContextOverflow => "the request is longer than the model's context length",
            ErrorKind::ContentFiltered => "its filter refused the request",
            ErrorKind::Cancelled => "the call was dropped",
        }
    }

    /// Whether the same call on the same candidate may succeed a moment later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            ErrorKind::Connect
                | ErrorKind::FirstTokenTimeout
                | ErrorKind::InterTokenTimeout
                | ErrorKind::RateLimited
                | ErrorKind::FreeTier
                | ErrorKind::KeyLimit
                | ErrorKind::Unavailable
                | ErrorKind::StreamLost
                | ErrorKind::Malformed
        )
    }

    /// Whether another candidate may do better. Only a request that every model would refuse is final.
    #[must_use]
    pub const fn another_may_do(self) -> bool {
        !matches!(self, ErrorKind::TotalTimeout | ErrorKind::Cancelled)
    }

    /// Whether it is our own count that says so, and the vendor was not asked.
    #[must_use]
    pub const fn is_unasked(self) -> bool {
        matches!(self, ErrorKind::FreeTier | ErrorKind::KeyLimit)
    }

    /// Whether the breaker counts it: the client's making and our own count never open it.
    #[must_use]
    pub const fn counts_for_breaker(self) -> bool {
        !matches!(
            self,
            ErrorKind::BadRequest
                | ErrorKind::ContextOverflow
                | ErrorKind::ContentFiltered
                | ErrorKind::FreeTier
                | ErrorKind::KeyLimit
                | ErrorKind::Cancelled
        )
    }
}

/// By what clients know a request that is longer than the model takes.
pub const CONTEXT_LENGTH_EXCEEDED: &str = "context_length_exceeded";

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{model}: {}: {detail}", kind.as_str())]
pub struct Error {
    /// What kind.
    pub kind: ErrorKind,
    /// HTTP status of the vendor, if there was one.
    pub status: Option<u16>,
    /// `provider/model`.
    pub model: String,
    /// For logs and records: at most 500 characters, no key, no prompt.
    pub detail: String,
    /// The vendor's `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The vendor says that a day's quota is used up, and does not say for how long in a `Retry-After`.
    pub daily: bool,
    /// The vendor says that it has no such model, or none for this key.
    pub no_model: bool,
    /// The connection was lost when the request had gone out and nothing of an answer had come.
    pub unanswered: bool,
    /// What the vendor finds fault with, if it says.
    pub fault: Option<Box<Fault>>,
    /// What the vendor counted for a call whose answer is none; `None` = nothing was told with the failure.
    pub used: Option<Box<Usage>>,
}

/// What a vendor finds fault with, in its own words. Names only: neither texts of the request nor keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The member of the request.
    pub param: Option<String>,
    /// The vendor's code.
    pub code: Option<String>,
}

impl Error {
    /// A failure of a call.
    #[must_use]
    pub fn new(kind: ErrorKind, model: &Model, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((cut, _)) = detail.char_indices().nth(500) {
            detail.truncate(cut);
        }
        let model = model.id.to_string();
        Error {
            kind,
            status: None,
            model,
            detail,
            retry_after: None,
            daily: false,
            no_model: false,
            unanswered: false,
            fault: None,
            used: None,
        }
    }

    /// The failure of a call for which the vendor counted tokens all the same.
    #[must_use]
    pub fn with_used(mut self, used: Option<Usage>) -> Self {
        self.used = used.and_then(Usage::reported).map(Box::new).or(self.used);
        self
    }

    /// Whether the vendor may be at work still, though the call has ended: a gateway before it did not wait for it, or the
    /// connection was lost. It may bill such a call.
    #[must_use]
    pub const fn is_given_up(&self) -> bool {
        self.unanswered || matches!(self.status, Some(408 | 499 | 504))
    }

    /// The member at fault, where the request itself is.
    #[must_use]
    pub fn public_param(&self) -> Option<&str> {
        self.told()?.param.as_deref()
    }

    /// What a client may tell the failure by, where the request itself is at fault: what OpenAI calls it, whatever the
    /// vendor does, or else the vendor's own code.
    #[must_use]
    pub fn public_code(&self) -> Option<&str> {
        match self.kind {
            ErrorKind::ContextOverflow => Some(CONTEXT_LENGTH_EXCEEDED),
            _ => self.told()?.code.as_deref(),
        }
    }

    fn told(&self) -> Option<&Fault> {
        self.fault.as_deref().filter(|_| self.finds_fault_with_request())
    }

    /// Whether the request is at fault, and not our entry of the model, say, which the vendor does not know.
    #[must_use]
    pub fn finds_fault_with_request(&self) -> bool {
        self.blame() == Blame::Client
            && (self.kind != ErrorKind::BadRequest || matches!(self.status, None | Some(400 | 413 | 422)))
    }

    /// Who can do something about it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self.kind {
            ErrorKind::BadRequest | ErrorKind::ContextOverflow | ErrorKind::ContentFiltered => Blame::Client,
            ErrorKind::RateLimited | ErrorKind::Quota | ErrorKind::FreeTier | ErrorKind::KeyLimit => {
                Blame::Capacity
            }
            _ => Blame::Upstream,
        }
    }

    /// Whether trying again may help.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        self.kind.retryable()
    }

    /// What the client may read. The vendor's own words are told only where the request is at fault, for then
    /// nobody else can put it right; keys and quoted values are out of [`Error::detail`] already.
    #[must_use]
    pub fn public_message(&self) -> String {
        let Error { model, kind, detail, .. } = self;
        let words = kind.words();
        match self.blame() {
            Blame::Client if !detail.is_empty() => format!("{model} failed: {words} ({detail})"),
            _ => format!("{model} failed: {words}"),
        }
    }
}

/// Something that answers calls: HTTP vendors, simulated and recorded models, scripted ones in tests.
pub trait ChatProvider: Send + Sync {
    /// Makes the call. Dropping the future, or the stream it gives, aborts it.
    ///
    /// With `call.stream` the reply may still be [`Reply::Whole`] when the model cannot stream.
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>>;

    /// The parameters of a call that its model will not see as they were written.
    fn adjustments(&self, _call: &Call) -> Vec<Adjustment> {
        Vec::new()
    }

    /// What the limits of keys leave of a model over all keys, by our own count or the vendor's word; `None` = none are known.
    fn quota(&self, _model: ModelIx) -> Option<Quota> {
        None
    }
}

/// What the limits of keys leave of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// Share of the tightest limit that is left, 0..=1, as the mean over all keys.
    pub ratio: f64,
    /// How long until a call fits; zero = now.
    pub wait: Duration,
    /// Why it does not fit now; of no meaning where it does.
    pub why: Short,
}

/// Why there is no room for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Short {
    /// By our own count, or in the vendor's own word, its free tier is used up.
    UsedUp,
    /// By our own count every key is at its stated limit.
    Limited,
    /// The vendor has said 429 of every key, and when to come again.
    Throttled,
}

impl Short {
    /// What is said of the model.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Short::UsedUp => "free tier used up; fits again",
            Short::Limited => "the limits of its keys are reached; fits again",
            Short::Throttled => "throttled by its vendor; takes calls again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_in_records_and_what_may_be_tried_again_one_in_files() {
        let mut names: Vec<&str> = ErrorKind::ALL.iter().map(|k| k.as_str()).collect();
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(
                kind.retry_name(),
                Some(kind.workflow_name()).filter(|n| ErrorKind::RETRY_NAMES.contains(n))
            );
            assert!(!kind.retryable() || kind.retry_name().is_some(), "{kind:?}");
        }
        for name in ErrorKind::RETRY_NAMES {
            assert!(ErrorKind::ALL.iter().any(|k| k.workflow_name() == name), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }
}
