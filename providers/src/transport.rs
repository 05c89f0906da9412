//! Carries one call to a vendor over HTTP and tells how far it came: no connection, no first event, a gap,
//! a cut, a whole answer.
//!
//! Nothing is spawned here, and nothing is tried twice but with another key: dropping the future, or the stream it gives, drops
//! the connection and so aborts the call at the vendor. Client headers never get here; only what is built
//! below goes out.

use crate::FreeUse;
use crate::dialect::{Context, Possible, Wire};
use crate::prefill::Prefill;
use crate::secrets::Secrets;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};
use types::adjustment::Adjustment;
use types::matrix::{Model, Tier};
use types::provider::{Call, Error, ErrorKind, Quota, Reply};

mod connect;
mod events;
mod keys;
mod outgoing;
mod pace;
mod plain;
mod quota;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use connect::{HttpClient, Tls};
pub(crate) use keys::{Accounts, unix_ms};
pub use keys::{Counting, KeyState, Rest, Standing};
pub use outgoing::Outgoing;
use quota::DayUsed;
pub(crate) use quota::is_reset;
pub(crate) use settings::{Problem, Settings};

use connect::Body;
use keys::{KeyPool, Most, NoKey, Taken, Tried, Wanted};

/// An error body is read so far; the rest tells nothing new.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Few whole answers take longer: a key from which nothing came by then is silent.
const LONG_ANSWER: Duration = Duration::from_secs(60);

/// So often one call that failed goes on with another key. More would multiply the load of a vendor that is down.
const MAX_FAILED: u32 = 2;

/// Bounds on what a vendor may send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) answer: usize,
    pub(crate) event: usize,
}

/// The connection pool, keys and addresses of one provider.
#[derive(Debug)]
pub(crate) struct Client {
    settings: Settings,
    wire: Wire,
    http: HttpClient,
    keys: Arc<KeyPool>,
    secrets: Arc<Secrets>,
    limits: Limits,
    /// Address of every call, where the dialect has only one.
    fixed: Option<Uri>,
}

impl Client {
    /// A pool without connections yet. What is counted for ever is counted on from that of `before`.
    pub(crate) fn new(
        (settings, wire): (Settings, Wire),
        http: HttpClient,
        limits: Limits,
        (accounts, counting): (&Accounts, Option<&Counting>),
        before: Option<&Client>,
    ) -> Self {
        let turns = before.map_or_else(Arc::default, |c| c.keys.turns().clone());
        let keys = Arc::new(KeyPool::new(&settings, wire, turns, accounts, counting));
        let fixed = wire.fixed_path().and_then(|path| settings.address(path, None));
        let secrets = Arc::new(settings.secrets());
        Client { settings, wire, http, keys, secrets, limits, fixed }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the call's model will not see as it was written.
    pub(crate) fn adjustments(&self, call: &Call) -> Vec<Adjustment> {
        self.wire.adjustments(call)
    }

    /// Makes the call.
    ///
    /// # Errors
    /// One kind per phase it may end in, or what the vendor's answer means.
    pub(crate) async fn call(self: Arc<Self>, mut call: Call) -> Result<Reply, Error> {
        let started = Instant::now();
        call.stream &= call.model.abilities.streaming;
        let encoded = self.wire.encode(&call)?;
        let possible = Possible::of(&call, encoded.body.len());
        let context = Context::of(&call).keeping(Arc::clone(&self.secrets));
        let timeouts = call.provider.timeouts;
        let total = after(started, timeouts.total.min(call.remaining));
        let times = Times {
            // A whole answer has no first token: its head comes when all of it is there.
            first: if call.stream { after(started, timeouts.first_token) } else { total },
            gap: timeouts.inter_token,
            total,
            floor: timeouts.min_tokens_per_second,
        };
        let streamed = call.stream;
        let prefill = Prefill::of(&call, self.wire);
        let uri = match &self.fixed {
            Some(uri) => Some(uri.clone()),
            None => self.settings.address(&encoded.path, encoded.query),
        };
        let uri =
            uri.ok_or_else(|| context.error(ErrorKind::BadRequest, "the model's name makes no address"))?;
        let (model, est_input) = (Arc::clone(&call.model), call.est_input);
        let most = most(&call, encoded.body.len());
        drop(call);

        let sending = Sending {
            model: &model,
            // Corrected by what the vendor reports. A body says less: an image in it is larger than it counts.
            tokens: est_input
                .map_or_else(|| u64::try_from(encoded.body.len() / 4).unwrap_or(u64::MAX), u64::from),
            uri: &uri,
            body: encoded.body,
            most,
            began: started,
            patience: if streamed { timeouts.first_token } else { timeouts.total.min(LONG_ANSWER) },
            times,
        };
        let reader = events::Reader { wire: self.wire, limits: self.limits, times, possible };
        let mut through = Through::default();
        loop {
            let (mut key, head) = self.send(&context, &sending, &mut through).await?;
            refuse_compressed(&context, head.headers())?;
            if streamed && !is_json(head.headers()) {
                let stream = reader.stream(context.clone(), head.into_body(), key);
                let stream = match self.keys.has_others() {
                    true => events::begun(stream).await,
                    false => Ok(stream),
                };
                match stream {
                    Ok(stream) => {
                        return Ok(Reply::Stream(match prefill {
                            Some(prefill) => prefill.stream(stream),
                            None => stream,
                        }));
                    }
                    Err(refused) => through.goes_on(refused)?,
                }
                continue;
            }
            let body = match timeout_at(times.total, collect(head.into_body(), self.limits.answer)).await {
                Ok(body) => body.map_err(|e| e.into_error(&context))?,
                Err(_) => return Err(times.expired(&context)),
            };
            let decoded = self.wire.decode(&context, &body).map_err(|e| possible.judge_failed(e));
            let mut completion = match decoded {
                Ok(completion) => completion,
                Err(e) => {
                    if let Some(used) = &e.used {
                        key.used(used);
                        key.ended();
                    }
                    through.after(&mut key, e)?;
                    continue;
                }
            };
            key.accepted();
            completion.usage = possible.judge(completion.usage, completion.bytes());
            if let Some(prefill) = prefill {
                prefill.whole(&mut completion);
            }
            key.used(&completion.usage);
            key.said(completion.bytes());
            key.ended();
            return Ok(Reply::Whole(completion));
        }
    }

    /// Sends the request with one key after another until the vendor answers one, or the fault is none of the
    /// keys'. Where no answer came nobody knows whether the call is billed: whether it is made again is for those to
    /// say who keep account of it.
    async fn send(
        &self,
        context: &Context,
        sending: &Sending<'_>,
        through: &mut Through,
    ) -> Result<(Taken, Response<Body>), Error> {
        let Sending { model, tokens, most, began, patience, times, .. } = *sending;
        loop {
            let wanted = Wanted { model, tokens, began, patience, sound: through.failed > 0 };
            let mut key = match self.keys.claim(wanted, most, &mut through.tried).await {
                Ok(key) => key,
                Err(why) => {
                    let free = self.settings.is_free() && !self.keys.has_limits();
                    return Err(through.last.take().unwrap_or_else(|| out_of_keys(context, why, free)));
                }
            };
            let mut request = Request::new(Full::new(sending.body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = sending.uri.clone();
            *request.headers_mut() = key.headers();
            let head = match timeout_at(times.first.min(times.total), self.http.request(request)).await {
                Ok(Ok(head)) => head,
                Ok(Err(e)) => {
                    let error = connect::failure(context, &e);
                    if error.kind == ErrorKind::Connect
                        || error.kind == ErrorKind::Unavailable && !error.unanswered
                    {
                        key.unserved(false);
                    }
                    key.failed(&error);
                    return Err(error);
                }
                // The key finds out by itself how long it was waited for.
                Err(_) => return Err(times.expired_before_first(context)),
            };
            key.told(head.headers());
            if head.status().is_success() {
                return Ok((key, head));
            }
            let error = self.refused(context, head, &times).await;
            through.after(&mut key, error)?;
        }
    }

    /// What is left of a model's free tier over all keys.
    pub(crate) fn quota(&self, model: &Model) -> Option<Quota> {
        self.keys.headroom(model, Instant::now())
    }

    /// How each key stands.
    pub(crate) fn key_states(&self) -> Vec<KeyState> {
        self.keys.states(Instant::now())
    }

    /// How often a call went on with another key.
    pub(crate) fn turns(&self) -> u64 {
        self.keys.turns().load(Relaxed)
    }

    /// What was used of free tiers since the vendor's day began.
    pub(crate) fn days(&self, now: i64) -> Vec<FreeUse> {
        let own = |(key, model, used): (String, Arc<str>, DayUsed)| FreeUse {
            provider: self.settings.id().to_owned(),
            key,
            model: model.to_string(),
            day_ends_ms: used.ends,
            requests: used.requests,
            tokens: used.tokens,
            closed_until_ms: used.closed_until,
        };
        self.keys.days(now).into_iter().map(own).collect()
    }

    /// Goes on from what was used before, of a model or of all together (`None`).
    pub(crate) fn resume(&self, model: Option<&Model>, before: &FreeUse, now: i64) {
        let used = DayUsed {
            ends: before.day_ends_ms,
            requests: before.requests,
            tokens: before.tokens,
            closed_until: before.closed_until_ms,
        };
        self.keys.resume(&before.key, model, &used, now);
    }

    /// Why the vendor refused, as far as its answer says within the time.
    async fn refused(&self, context: &Context, head: Response<Body>, times: &Times) -> Error {
        let (head, body) = head.into_parts();
        let body = timeout_at(times.first.min(times.total), collect(body, MAX_ERROR_BODY)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        self.wire.classify(context, head.status.as_u16(), &head.headers, &body, SystemTime::now())
    }
}

/// What a call may use, with a body of so many bytes.
fn most(call: &Call, body: usize) -> Most {
    let (params, model) = (&call.request.params, &call.model);
    let said = call.edits.max_tokens.or(params.max_tokens);
    let input = call.est_input.unwrap_or_else(|| u32::try_from(body / 4).unwrap_or(u32::MAX));
    let output = said.unwrap_or(model.max_output_tokens).saturating_mul(params.n.max(1));
    let usage = call.request.most_usage((input, 0), output).of(&call.provider);
    let (free, thinks) = (call.provider.tier == Tier::Free, model.abilities.reasoning);
    Most { usage, is_said: said.is_some(), price: model.price, free, thinks }
}

fn out_of_keys(context: &Context, why: NoKey, free: bool) -> Error {
    match why {
        NoKey::Tried => context.error(ErrorKind::Auth, "no key is left"),
        NoKey::UsedUp(wait) => {
            let (kind, detail) = match free {
                true => (ErrorKind::FreeTier, "the free tier is used up on every key"),
                false => (ErrorKind::KeyLimit, "every key is at its limit"),
            };
            let mut e = context.error(kind, detail);
            e.retry_after = Some(wait);
            e
        }
    }
}

/// A request as it goes out with any key.
struct Sending<'a> {
    model: &'a Model,
    tokens: u64,
    /// What it may use, as limits of single keys count it.
    most: Most,
    uri: &'a Uri,
    body: Bytes,
    began: Instant,
    patience: Duration,
    times: Times,
}

/// The keys that a call has come past, and what the vendor said of them.
#[derive(Default)]
struct Through {
    tried: Tried,
    last: Option<Error>,
    /// How often it failed in a way that may be the vendor's and no key's.
    failed: u32,
}

impl Through {
    /// What comes of a refusal or failure with that key.
    ///
    /// # Errors
    /// The call ends there.
    fn after(&mut self, key: &mut Taken, error: Error) -> Result<(), Error> {
        if is_unserved(&error) {
            key.unserved(true);
        }
        if key.failed(&error) { self.goes_on(error) } else { Err(error) }
    }

    /// Whether the call goes on with another key: past all that the vendor does not take, past few that fail, which may be
    /// all that it has, and not where it may be at work still.
    ///
    /// # Errors
    /// It does not.
    fn goes_on(&mut self, error: Error) -> Result<(), Error> {
        if !is_unserved(&error) {
            return Err(error);
        }
        self.failed = self.failed.saturating_add(u32::from(error.kind == ErrorKind::Unavailable));
        self.told(error);
        match self.last.take_if(|_| self.failed > MAX_FAILED) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Of several refusals the one that ends soonest tells the client most.
    fn told(&mut self, error: Error) {
        if self.last.as_ref().is_none_or(|last| rank(&error) < rank(last)) {
            self.last = Some(error);
        }
    }
}

/// Refusals of keys, the least lasting first.
fn rank(e: &Error) -> (u8, Duration) {
    let kind = match e.kind {
        ErrorKind::RateLimited => 0,
        ErrorKind::Quota => 2,
        ErrorKind::Auth => 3,
        ErrorKind::BadRequest => 4,
        _ => 1,
    };
    (kind, e.retry_after.unwrap_or_default())
}

/// Whether the vendor has not done the work, as far as it says: it has said why, and counted no tokens. What a gateway
/// did not wait for may be under way behind it, and be billed; so may what came as an answer that nobody can read.
fn is_unserved(e: &Error) -> bool {
    let is_served = matches!(e.kind, ErrorKind::FirstTokenTimeout | ErrorKind::Malformed);
    !is_served && e.used.is_none() && !e.is_given_up()
}

/// When the phases of one call end.
#[derive(Clone, Copy, Debug)]
struct Times {
    first: Instant,
    gap: Duration,
    total: Instant,
    /// Tokens per second.
    floor: f64,
}

impl Times {
    fn expired_before_first(&self, context: &Context) -> Error {
        if self.total <= self.first {
            return self.expired(context);
        }
        context.error(ErrorKind::FirstTokenTimeout, "no answer began in time")
    }

    fn expired(&self, context: &Context) -> Error {
        context.error(ErrorKind::TotalTimeout, "the call took longer than it may")
    }
}

/// An hour stands for times that cannot be told.
fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or_else(|| start + Duration::from_secs(3600))
}

/// Why a body could not be read whole.
enum BodyError {
    TooLarge(usize),
    Lost(hyper::Error),
}

impl BodyError {
    fn into_error(self, context: &Context) -> Error {
        match self {
            BodyError::TooLarge(limit) => {
                context.error(ErrorKind::TooLarge, format!("the answer is larger than {limit} bytes"))
            }
            BodyError::Lost(e) => context.error(ErrorKind::StreamLost, connect::root_cause(&e)),
        }
    }
}

/// The whole body: without a copy when it comes in one piece, which answers of ordinary size do.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().exact().and_then(|n| usize::try_from(n).ok());
    if declared.is_some_and(|n| n > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Lost)?.into_data() else { continue };
        if first.len().max(all.len()).saturating_add(data.len()) > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(declared.unwrap_or_else(|| first.len().saturating_mul(4)));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().get(..16).is_some_and(|t| t.eq_ignore_ascii_case(b"application/json")))
}

fn refuse_compressed(context: &Context, headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(context.error(ErrorKind::Malformed, "the answer is compressed, which was not accepted"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) use settings::tests::provider as test_provider;
