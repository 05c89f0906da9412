//! Chat requests with an `Idempotency-Key` run once: who asks again with the same body gets the first answer.
//!
//! The scope of a key is the principal and the route. Answers are kept in memory for a day, up to a bound, and
//! end with the process; work that must outlive it is a run (`Prefer: respond-async`), whose keys are on disk.

mod answers;

use crate::edge::body::{Budget, Share};
use crate::edge::payload::Payload;
use crate::error::Failure;
use crate::routes::runs::expected;
use answers::Answers;
use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use types::control::Principal;
use types::runs::{KEY_KEPT, Key};

/// Says what a client means by "again".
pub(crate) const IDEMPOTENCY: HeaderName = HeaderName::from_static("idempotency-key");
/// `true` on an answer that was not made for this request.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const COST: HeaderName = HeaderName::from_static("x-turnout-cost-usd");
/// Longest key.
const MAX_KEY: usize = 255;
/// Requests that wait for the answer to an equal one, which may take as long as answers take, and for their turn, which
/// comes as soon as one before has been written down.
const MAX_WAITING: usize = 16;
const MAX_IN_TURN: usize = 1_024;
/// After what time a request that could not wait may come again.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes of all answers that are kept, and of one. Beside the body: headers and the entry itself, about.
const ALL_BYTES: usize = 64 << 20;
const FRAME_BYTES: usize = 2_048;
const ONE_BYTES: usize = 8 << 20;
/// Bytes of all answers that are leaving piece by piece and are to be kept when they end.
const LEAVING_BYTES: usize = 64 << 20;

/// The `Idempotency-Key` of a request, if there is one.
///
/// # Errors
/// It stands twice, or is not 1 to 255 visible characters.
pub(crate) fn key(headers: &HeaderMap, route: &str, body: &[u8]) -> Result<Option<Key>, Failure> {
    let mut all = headers.get_all(IDEMPOTENCY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let visible = |t: &&str| (1..=MAX_KEY).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic());
    let text = value.to_str().ok().filter(visible).filter(|_| all.next().is_none());
    let text = text.ok_or_else(|| expected(IDEMPOTENCY.as_str(), "once, 1 to 255 visible characters"))?;
    // What headers ask for is part of the question.
    let mut asked = blake3::Hasher::new();
    let mut own: Vec<_> =
        headers.iter().filter(|(name, _)| name.as_str().starts_with("x-turnout-")).collect();
    own.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in own {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            asked.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    let body = asked.update(body).finalize().to_hex().to_string();
    Ok(Some(Key { route: route.to_owned(), key: text.to_owned(), body }))
}

/// The key came with another body before.
pub(crate) fn reused(before: &str) -> Failure {
    let text = format!("the Idempotency-Key came with another body before, for {before}");
    Failure::new(StatusCode::CONFLICT, "idempotency_key_reused", text).param(IDEMPOTENCY.as_str())
}

/// There is nothing to wait for, or no longer.
fn not_now(code: &str, text: &str) -> Failure {
    let mut failure = Failure::new(StatusCode::CONFLICT, code, text).param(IDEMPOTENCY.as_str());
    (failure.retry, failure.retry_after) = (true, Some(AGAIN));
    failure
}

/// Whose key, and which.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Scope {
    tenant: String,
    caller: Option<String>,
    route: String,
    key: String,
}

/// An answer as it left.
#[derive(Clone, Debug)]
struct Given {
    /// Hash of the body that asked for it.
    asked: Arc<str>,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// A request that is in work, and those that run in its place, one after the other, if it ends without an answer.
struct Working {
    asked: Arc<str>,
    runs: Runner,
    heirs: VecDeque<Runner>,
    /// Held by each of those that wait.
    line: Arc<()>,
}

/// One request among equal ones.
struct Runner {
    /// Closes when it has ended.
    ended: watch::Receiver<()>,
}

impl Runner {
    fn is(&self, ticket: &Ticket) -> bool {
        self.ended.same_channel(&ticket.alive.subscribe())
    }
}

/// What a request gives away to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The first of them keeps what it holds, and runs where there is no answer; the others let go of theirs.
    ForAnAnswer,
    /// All keep what they hold, and run one after the other.
    InTurn,
}

/// Requests that run, and answers that were given.
pub(crate) struct Once {
    working: Mutex<HashMap<Scope, Working>>,
    given: Answers<Scope, Arc<Given>>,
    leaving: Budget,
}

impl Default for Once {
    fn default() -> Self {
        let given = Answers::new(ALL_BYTES, KEY_KEPT);
        Once { working: Mutex::default(), given, leaving: Budget::new(LEAVING_BYTES, ONE_BYTES) }
    }
}

/// What becomes of a request with a key.
pub(crate) enum Turn<H> {
    /// It is the first: it runs, with what it holds.
    First(Ticket, H),
    /// It was answered before.
    Again(Response<Payload>),
}

impl Once {
    /// Waits while an equal request is in work, until then at most. `held`: what the request needs to run.
    ///
    /// # Errors
    /// 409: the key came with another body; too many wait; it ended without an answer, or goes on.
    pub(crate) async fn turn<H>(
        self: &Arc<Self>,
        of: &Principal,
        key: Key,
        (waiting, until): (Waiting, Instant),
        held: H,
    ) -> Result<Turn<H>, Failure> {
        let caller = of.key.as_ref().map(|k| k.id.clone());
        let scope = Scope { tenant: of.tenant.id.clone(), caller, route: key.route, key: key.key };
        let asked: Arc<str> = key.body.into();
        let (heir, _line) = match self.claim(&scope, &asked, waiting)? {
            Claim::Given(given) => return Ok(Turn::Again(given.again())),
            Claim::First(ticket) => return Ok(Turn::First(ticket, held)),
            Claim::Heir(ticket, line) => (Some((ticket, held)), line),
            Claim::Wait(line) => {
                // Now, and not when the other one has ended.
                drop(held);
                (None, line)
            }
        };
        loop {
            let mut ended = match self.look(&scope, &asked, heir.as_ref().map(|(ticket, _)| ticket))? {
                Look::Given(given) => return Ok(Turn::Again(given.again())),
                Look::Wait(ended) => ended,
                Look::Own => break,
            };
            // Nothing is ever sent: it closes.
            if timeout_at(until, ended.changed()).await.is_err() {
                let text = "an equal request is in work for longer than this one may take";
                return Err(not_now("idempotency_key_in_work", text));
            }
        }
        heir.map(|(ticket, held)| Turn::First(ticket, held)).ok_or_else(|| {
            let text = "the equal request for which this one waited ended without an answer; send it again";
            not_now("idempotency_key_unanswered", text)
        })
    }

    fn claim(self: &Arc<Self>, scope: &Scope, asked: &Arc<str>, waiting: Waiting) -> Result<Claim, Failure> {
        let (alive, ended) = watch::channel(());
        // Before the lock, so that it outlives it: a ticket that is dropped takes the same one.
        let ticket = Ticket { once: self.clone(), scope: scope.clone(), asked: asked.clone(), alive };
        let runner = Runner { ended };
        let mut working = self.working();
        if let Some(given) = self.given(scope, asked)? {
            return Ok(Claim::Given(given));
        }
        match working.entry(scope.clone()) {
            Entry::Occupied(mut e) => {
                let at_work = e.get_mut();
                if at_work.asked != *asked {
                    return Err(reused("a request that is in work"));
                }
                let most = match waiting {
                    Waiting::ForAnAnswer => MAX_WAITING,
                    Waiting::InTurn => MAX_IN_TURN,
                };
                if Arc::strong_count(&at_work.line) > most {
                    let text = format!("{most} equal requests wait for one that is in work");
                    return Err(not_now("idempotency_key_in_work", &text));
                }
                let line = at_work.line.clone();
                if waiting == Waiting::ForAnAnswer && !at_work.heirs.is_empty() {
                    return Ok(Claim::Wait(line));
                }
                at_work.heirs.push_back(runner);
                Ok(Claim::Heir(ticket, line))
            }
            Entry::Vacant(e) => {
                let line = Arc::default();
                e.insert(Working { asked: asked.clone(), runs: runner, heirs: VecDeque::new(), line });
                Ok(Claim::First(ticket))
            }
        }
    }

    /// How things stand for one that waits.
    fn look(&self, scope: &Scope, asked: &Arc<str>, own: Option<&Ticket>) -> Result<Look, Failure> {
        let working = self.working();
        if let Some(given) = self.given(scope, asked)? {
            return Ok(Look::Given(given));
        }
        match working.get(scope) {
            Some(w) if w.asked != *asked => Err(reused("a request that is in work")),
            Some(w) if !own.is_some_and(|ticket| w.runs.is(ticket)) => Ok(Look::Wait(w.runs.ended.clone())),
            _ => Ok(Look::Own),
        }
    }

    /// The answer that was given. Asked for under the lock: a request that ends is kept before it is no longer in work.
    fn given(&self, scope: &Scope, asked: &Arc<str>) -> Result<Option<Arc<Given>>, Failure> {
        match self.given.get(scope) {
            Some(given) if given.asked != *asked => Err(reused("an answer that was given")),
            given => Ok(given),
        }
    }

    fn working(&self) -> MutexGuard<'_, HashMap<Scope, Working>> {
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has ended: the next of its heirs runs, if it has any.
    fn leave(&self, ticket: &Ticket) {
        let mut working = self.working();
        let Entry::Occupied(mut e) = working.entry(ticket.scope.clone()) else { return };
        let at_work = e.get_mut();
        if !at_work.runs.is(ticket) {
            at_work.heirs.retain(|heir| !heir.is(ticket));
            return;
        }
        match at_work.heirs.pop_front() {
            Some(heir) => at_work.runs = heir,
            None => drop(e.remove()),
        }
    }
}

/// What a request finds.
enum Claim {
    Given(Arc<Given>),
    First(Ticket),
    /// It may have to run later on.
    Heir(Ticket, Arc<()>),
    Wait(Arc<()>),
}

/// What one that waits finds.
enum Look {
    Given(Arc<Given>),
    Wait(watch::Receiver<()>),
    /// Its own turn, or nobody's.
    Own,
}

/// The right to run. Dropped without an answer, the request never was: whoever waits for it runs instead.
pub(crate) struct Ticket {
    once: Arc<Once>,
    scope: Scope,
    asked: Arc<str>,
    /// Closing it wakes who waits.
    alive: watch::Sender<()>,
}

impl Ticket {
    /// Keeps what whoever asks again will get; a very large answer is not kept.
    pub(crate) fn keep(self, status: StatusCode, headers: HeaderMap, body: Bytes) {
        if body.len() <= ONE_BYTES {
            let given = Given { asked: self.asked.clone(), status, headers, body };
            let bytes = given.body.len().saturating_add(FRAME_BYTES);
            self.once.given.put(self.scope.clone(), &self.scope.tenant, Arc::new(given), bytes);
        }
    }

    /// Keeps what calls were made for and the request itself is at fault for; any other failure may pass, and who
    /// tries again must not find it here.
    pub(crate) fn fail(self, failure: &Failure) {
        let may_pass = failure.retry
            || failure.status.is_server_error()
            || matches!(failure.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if !may_pass && failure.metadata.contains_key("attempts") {
            let mut headers = HeaderMap::new();
            failure.headers(&mut headers);
            self.keep(failure.status, headers, Bytes::from(failure.body().to_string()));
        }
    }

    /// For an answer that leaves piece by piece.
    pub(crate) fn tape(self, headers: HeaderMap) -> Tape {
        let room = self.once.leaving.share(None);
        Tape { ticket: self, headers, heard: Some(Heard { bytes: BytesMut::new(), room }) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.once.leave(self);
    }
}

/// What left so far of an answer that leaves piece by piece. Kept when it ends well: one that broke off, or whose
/// client left, is none.
pub(crate) struct Tape {
    ticket: Ticket,
    headers: HeaderMap,
    /// `None` = a part was left out, so that the answer cannot be kept.
    heard: Option<Heard>,
}

/// The pieces so far, and the room that was made for them.
struct Heard {
    bytes: BytesMut,
    room: Share,
}

impl Tape {
    /// Takes in a piece. What has become too large to be kept, or finds no room among the others, is let go of.
    pub(crate) fn hear(&mut self, piece: &Bytes) {
        let Some(Heard { bytes, room }) = &mut self.heard else { return };
        let all = bytes.len().saturating_add(piece.len());
        if all <= ONE_BYTES && room.try_extend(all) {
            bytes.extend_from_slice(piece);
        } else {
            self.heard = None;
        }
    }

    pub(crate) fn keep(self) {
        if let Some(heard) = self.heard {
            self.ticket.keep(StatusCode::OK, self.headers, heard.bytes.freeze());
        }
    }
}

impl Given {
    fn again(&self) -> Response<Payload> {
        let mut response = Response::new(Payload::from(self.body.clone()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        // The first answer was paid for; this one is not, which is known before a stream has ended, too.
        headers.insert(COST, HeaderValue::from_static("0"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    fn asked(text: &str, body: &str) -> Key {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY, HeaderValue::from_str(text).unwrap())]);
        key(&headers, "/v1/chat/completions", body.as_bytes()).unwrap().unwrap()
    }

    async fn turn(once: &Arc<Once>, text: &str, body: &str) -> Result<Turn<()>, Failure> {
        let waiting = (Waiting::ForAnAnswer, Instant::now() + Duration::from_secs(60));
        once.turn(&engine::Who::open().principal, asked(text, body), waiting, ()).await
    }

    async fn first(once: &Arc<Once>, text: &str, body: &str) -> Ticket {
        match turn(once, text, body).await {
            Ok(Turn::First(ticket, ())) => ticket,
            Ok(Turn::Again(_)) => panic!("it was answered before"),
            Err(f) => panic!("{}", f.message),
        }
    }

    async fn again(once: &Arc<Once>, text: &str, body: &str) -> String {
        use http_body_util::BodyExt as _;
        match turn(once, text, body).await {
            Ok(Turn::Again(r)) => {
                assert_eq!(r.headers().get(REPLAYED).unwrap(), "true");
                String::from_utf8(r.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
            }
            _ => panic!("not answered before"),
        }
    }

    #[tokio::test]
    async fn the_first_runs_and_the_others_get_its_answer() {
        let once = Arc::new(Once::default());
        let ticket = first(&once, "k", "{}").await;
        let mut waits = std::pin::pin!(again(&once, "k", "{}"));
        let early = tokio::time::timeout(Duration::from_millis(20), waits.as_mut()).await;
        assert!(early.is_err(), "an equal request does not wait for the first");
        ticket.keep(StatusCode::OK, HeaderMap::new(), Bytes::from("answer"));
        assert_eq!(waits.await, "answer");
        assert_eq!(again(&once, "k", "{}").await, "answer");
        first(&once, "other", "{}").await;
    }

    #[tokio::test]
    async fn another_body_is_refused_while_it_runs_and_afterwards() {
        let once = Arc::new(Once::default());
        let refused = |once: Arc<Once>| async move {
            match turn(&once, "k", "{\"a\":1}").await {
                Err(f) => assert_eq!((f.status.as_u16(), f.code.as_str()), (409, "idempotency_key_reused")),
                Ok(_) => panic!("taken"),
            }
        };
        let ticket = first(&once, "k", "{}").await;
        refused(once.clone()).await;
        ticket.keep(StatusCode::OK, HeaderMap::new(), Bytes::from("answer"));
        refused(once).await;
    }

    type Waits = BoxFuture<'static, Result<Turn<Arc<()>>, String>>;

    /// Asks while holding something.
    fn ask(once: &Arc<Once>, waiting: Waiting, held: &Arc<()>) -> Waits {
        let (once, held, who) = (once.clone(), held.clone(), engine::Who::open());
        let waiting = (waiting, Instant::now() + Duration::from_secs(60));
        let asks = async move {
            once.turn(&who.principal, asked("k", "{}"), waiting, held).await.map_err(|f| f.code)
        };
        asks.boxed()
    }

    /// Likewise, and waits by now.
    fn wait(once: &Arc<Once>, waiting: Waiting, held: &Arc<()>) -> Waits {
        let mut waits = ask(once, waiting, held);
        assert!((&mut waits).now_or_never().is_none(), "it does not wait");
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_that_wait_for_an_answer_one_keeps_what_it_holds() {
        let once = Arc::new(Once::default());
        let held = Arc::new(());
        let ticket = first(&once, "k", "{}").await;
        let mut line: Vec<_> = (0..MAX_WAITING).map(|_| wait(&once, Waiting::ForAnAnswer, &held)).collect();
        assert_eq!(Arc::strong_count(&held), 2, "who waits keeps what it holds");
        let beyond = ask(&once, Waiting::ForAnAnswer, &held).await;
        assert_eq!(beyond.err().as_deref(), Some("idempotency_key_in_work"));
        // The first ends without an answer: the heir runs, and answers all others.
        drop(ticket);
        let Ok(Turn::First(heir, _)) = line.remove(0).await else { panic!("the heir does not run") };
        heir.keep(StatusCode::OK, HeaderMap::new(), Bytes::from("answer"));
        for other in line {
            assert!(matches!(other.await, Ok(Turn::Again(_))));
        }
        assert!(once.working().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_or_for_nothing() {
        let once = Arc::new(Once::default());
        let held = Arc::new(());
        let ticket = first(&once, "k", "{}").await;
        let late = ask(&once, Waiting::ForAnAnswer, &held).await;
        assert_eq!(late.err().as_deref(), Some("idempotency_key_in_work"), "it waits beyond its time");
        let heir = wait(&once, Waiting::ForAnAnswer, &held);
        let other = wait(&once, Waiting::ForAnAnswer, &held);
        drop(heir);
        drop(ticket);
        assert_eq!(other.await.err().as_deref(), Some("idempotency_key_unanswered"));
        assert!(once.working().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_run_in_turn_all_run() {
        let once = Arc::new(Once::default());
        let held = Arc::new(());
        let ticket = first(&once, "k", "{}").await;
        let line: Vec<_> = (0..2 * MAX_WAITING).map(|_| wait(&once, Waiting::InTurn, &held)).collect();
        drop(ticket);
        for one in line {
            assert!(matches!(one.await, Ok(Turn::First(..))), "it was not its turn");
        }
        assert!(once.working().is_empty());
    }

    #[tokio::test]
    async fn what_never_came_to_an_end_never_was() {
        let once = Arc::new(Once::default());
        drop(first(&once, "k", "{}").await);
        let mut tape = first(&once, "k", "{}").await.tape(HeaderMap::new());
        tape.hear(&Bytes::from("half"));
        drop(tape);
        first(&once, "k", "{}").await.fail(&Failure::busy("queue_full", "full", Duration::from_secs(1)));
        let mut tape = first(&once, "k", "{}").await.tape(HeaderMap::new());
        tape.hear(&Bytes::from("all"));
        tape.keep();
        assert_eq!(again(&once, "k", "{}").await, "all");
    }

    #[tokio::test]
    async fn an_answer_beyond_the_bound_is_not_kept() {
        let once = Arc::new(Once::default());
        let large = Bytes::from(vec![b'x'; ONE_BYTES + 1]);
        first(&once, "k", "{}").await.keep(StatusCode::OK, HeaderMap::new(), large);
        first(&once, "k", "{}").await;
    }

    #[tokio::test]
    async fn answers_that_leave_piece_by_piece_share_their_room_and_give_it_back() {
        let once = Arc::new(Once::default());
        let free = || once.leaving.state().1;
        let all = free();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let half = ONE_BYTES / 2 / piece.len();
        let fit = LEAVING_BYTES / (ONE_BYTES / 2);
        let mut tapes = Vec::new();
        for i in 0..=fit {
            let mut tape = first(&once, &format!("k{i}"), "{}").await.tape(HeaderMap::new());
            (0..half).for_each(|_| tape.hear(&piece));
            tapes.push(tape);
        }
        assert_eq!(free(), 0);
        // One that has become too large holds nothing on to its end.
        (0..=half).for_each(|_| tapes[0].hear(&piece));
        assert_eq!(free(), ONE_BYTES / 2);
        tapes.pop().unwrap().keep();
        first(&once, &format!("k{fit}"), "{}").await;
        tapes.pop().unwrap().keep();
        assert_eq!(again(&once, &format!("k{}", fit - 1), "{}").await.len(), ONE_BYTES / 2);
        drop(tapes);
        assert_eq!(free(), all);
    }

    #[test]
    fn keys_are_visible_characters_and_stand_once() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for v in values {
                headers.append(IDEMPOTENCY, HeaderValue::from_bytes(v).unwrap());
            }
            key(&headers, "/x", b"").map(|k| k.is_some())
        };
        assert!(!of(&[]).unwrap() && of(&[b"a-1"]).unwrap());
        for wrong in [&[b"".as_slice()][..], &[b"a b"], &[b"a", b"a"], &[&[b'x'; 256]], &["ä".as_bytes()]] {
            assert_eq!(of(wrong).unwrap_err().param.as_deref(), Some("idempotency-key"));
        }
    }
}
