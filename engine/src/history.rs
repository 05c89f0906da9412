//! What came before in a conversation, as far as policies ask: kept in memory, bounded, for ten minutes.

use crate::recent::Recent;
use crate::who::Who;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::Verdict;
use types::chat::{ChatRequest, Message, Role};
use types::options::SDK_RETRY;
use types::outcome::Status;

/// How long something is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// Most conversations that are remembered; of more, those are forgotten that said nothing for longest.
const MAX_CONVERSATIONS: usize = 10_000;
/// Most requests of one conversation.
const MAX_REQUESTS: usize = 32;

/// One request of a conversation.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    /// The whole conversation as it was sent.
    messages: [u8; 16],
    /// How it ended; `None` = it has not.
    ended: Option<(Verdict, bool)>,
}

/// The requests of one conversation, oldest first.
type Requests = Arc<Mutex<VecDeque<Seen>>>;

/// What is remembered of all conversations.
#[derive(Debug)]
pub(crate) struct Memory(Recent<[u8; 16], Requests>);

impl Default for Memory {
    fn default() -> Self {
        Memory(Recent::new(MAX_CONVERSATIONS))
    }
}

fn lock(requests: &Requests) -> MutexGuard<'_, VecDeque<Seen>> {
    // Every write leaves the list consistent.
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which conversation a request continues, and which of its turns it is. Made once of each request, for all who ask: a
/// transcript may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// The session that the request names; without one the conversation is known by who asks (the key, and the `user` it
    /// names) and its messages up to the first of the user's: many people begin alike.
    pub(crate) key: [u8; 16],
    /// The request names its session.
    pub(crate) named: bool,
    /// The messages of the turn before, which are those up to the last answer; `None` = nothing has been answered, or
    /// the session is named.
    pub(crate) before: Option<[u8; 16]>,
    /// All of its messages; of a named session only where what came before is remembered.
    pub(crate) messages: [u8; 16],
    /// The client's library sends it once more by itself.
    of_sdk: bool,
}

impl Conversation {
    /// Of a request as it came. `remembered`: it is told from the other requests of its session, too.
    pub(crate) fn of(who: &Who, request: &ChatRequest, remembered: bool) -> Self {
        let named = request.options.session.is_some();
        let read = (remembered || !named).then(|| Read::of(&request.messages));
        let key = opening(who, request, read.as_ref());
        let (before, messages) = read.map_or((None, key), |read| (read.before, read.all));
        let of_sdk = request.options.tags.contains_key(SDK_RETRY);
        Conversation { key, named, before: before.filter(|_| !named), messages, of_sdk }
    }

    /// As a name.
    pub(crate) fn name(&self) -> String {
        types::encoding::hex(&self.key)
    }
}

/// What tells a conversation from all others.
fn opening(who: &Who, request: &ChatRequest, read: Option<&Read>) -> [u8; 16] {
    let mut opening = blake3::Hasher::new();
    opening.update(who.tenant.id.as_bytes());
    if let Some(session) = &request.options.session {
        opening.update(&[2]);
        opening.update(session.as_bytes());
        return short(&opening);
    }
    for name in [who.key.id.as_str(), request.user.as_deref().unwrap_or_default()] {
        opening.update(&[3]);
        opening.update(name.as_bytes());
    }
    opening.update(&[4]);
    opening.update(read.map_or(&[], |read| &read.opening));
    short(&opening)
}

/// The messages of a request, each read once: they may be long.
struct Read {
    /// Up to the first of the user's; all of them where there is none.
    opening: [u8; 16],
    /// Up to the last answer; `None` = there is none.
    before: Option<[u8; 16]>,
    all: [u8; 16],
}

impl Read {
    fn of(messages: &[Message]) -> Self {
        let last = messages.iter().rposition(|m| m.role == Role::Assistant);
        let (mut opening, mut before, mut so_far) = (None, None, blake3::Hasher::new());
        for (i, message) in messages.iter().enumerate() {
            if Some(i) == last {
                before = Some(short(&so_far));
            }
            add(&mut so_far, message);
            if opening.is_none() && message.role == Role::User {
                opening = Some(short(&so_far));
            }
        }
        let all = short(&so_far);
        Read { opening: opening.unwrap_or(all), before, all }
    }
}

fn add(to: &mut blake3::Hasher, message: &Message) {
    to.update(message.role.as_str().as_bytes());
    message.content.texts().for_each(|t| {
        to.update(&[0]);
        to.update(t.as_bytes());
    });
    to.update(&[1]);
}

fn short(h: &blake3::Hasher) -> [u8; 16] {
    let mut out = [0; 16];
    h.finalize_xof().fill(&mut out);
    out
}

impl Memory {
    /// What came before a request, which is not noted.
    pub(crate) fn before(&self, turn: Conversation) -> policies::History {
        let now = Instant::now();
        let requests = self.0.get(&turn.key).unwrap_or_default();
        let seen = lock(&requests);
        history(seen.iter().filter(|s| now.saturating_duration_since(s.at) <= MEMORY), turn)
    }

    /// Notes a request and tells what came before it.
    pub(crate) fn begins(&self, turn: Conversation) -> policies::History {
        let now = Instant::now();
        let requests = self.0.get_or_default(turn.key);
        let mut seen = lock(&requests);
        while seen.front().is_some_and(|s| now.saturating_duration_since(s.at) > MEMORY)
            || seen.len() >= MAX_REQUESTS
        {
            seen.pop_front();
        }
        let history = history(seen.iter(), turn);
        seen.push_back(Seen { at: now, messages: turn.messages, ended: None });
        history
    }

    /// Takes back that a request came, which has not ended.
    pub(crate) fn forgets(&self, turn: Conversation) {
        let Some(requests) = self.0.get(&turn.key) else { return };
        let mut seen = lock(&requests);
        if let Some(at) = seen.iter().rposition(|s| s.messages == turn.messages && s.ended.is_none()) {
            seen.remove(at);
        }
    }

    /// Notes how a request ended.
    pub(crate) fn ends(&self, turn: Conversation, verdict: Verdict, status: Status) {
        let Some(requests) = self.0.get(&turn.key) else { return };
        let mut seen = lock(&requests);
        let open = seen.iter_mut().rev().find(|s| s.messages == turn.messages && s.ended.is_none());
        if let Some(open) = open {
            open.ended = Some((verdict, status == Status::Failed));
        }
    }
}

/// What the requests of a conversation that came before tell of one that comes now.
fn history<'a>(
    seen: impl DoubleEndedIterator<Item = &'a Seen> + Clone,
    turn: Conversation,
) -> policies::History {
    let again = seen.clone().filter(|s| s.messages == turn.messages).count();
    let newest = seen.clone().next_back();
    policies::History {
        client_retry: u32::try_from(again).unwrap_or(u32::MAX),
        // A library asks again where nobody has seen an answer.
        regenerated: !turn.of_sdk
            && newest.is_some_and(|s| s.messages == turn.messages && s.ended.is_some_and(|e| !e.1)),
        last_verdict: match newest.and_then(|s| s.ended).map(|(verdict, _)| verdict) {
            Some(Verdict::Passed) => policies::LastVerdict::Passed,
            Some(Verdict::Failed) => policies::LastVerdict::Failed,
            Some(Verdict::Unverified) => policies::LastVerdict::Unverified,
            Some(Verdict::None) | None => policies::LastVerdict::None,
        },
        failures_10m: u32::try_from(seen.filter(|s| s.ended.is_some_and(|e| e.1)).count())
            .unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policies::LastVerdict;
    use serde_json::json;

    fn turn(texts: &[(&str, &str)], session: Option<&str>) -> Conversation {
        turn_of("k", None, texts, session)
    }

    fn turn_of(key: &str, user: Option<&str>, texts: &[(&str, &str)], session: Option<&str>) -> Conversation {
        let messages: Vec<_> = texts.iter().map(|(r, t)| json!({"role": r, "content": t})).collect();
        let mut body = json!({"model": "auto", "messages": messages});
        if let Some(s) = session {
            body["routing"] = json!({"session": s});
        }
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        Conversation::of(&Who::gone("acme", key), &ChatRequest::from_value(&body).unwrap(), true)
    }

    #[test]
    fn people_who_begin_alike_are_told_apart() {
        let hello: &[(&str, &str)] = &[("user", "hello")];
        let all = [("a", None), ("b", None), ("a", Some("ann")), ("a", Some("bob")), ("b", Some("ann"))];
        let turns = all.map(|(key, user)| turn_of(key, user, hello, None).name());
        let different: std::collections::BTreeSet<_> = turns.iter().collect();
        assert_eq!(different.len(), all.len());
        // A session is one wherever it goes on.
        let talk = |key| turn_of(key, None, hello, Some("talk"));
        assert_eq!(talk("a"), talk("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_again_is_known_for_ten_minutes() {
        let m = Memory::default();
        let first = turn(&[("user", "hi")], None);
        assert_eq!(m.begins(first).client_retry, 0);
        assert_eq!(
            (m.before(first).client_retry, m.before(first).client_retry),
            (1, 1),
            "a look leaves no trace"
        );
        m.ends(first, Verdict::Failed, Status::Delivered);
        let again = m.begins(first);
        assert_eq!(
            (again.client_retry, again.regenerated, again.last_verdict),
            (1, true, LastVerdict::Failed)
        );
        let by_library = m.before(Conversation { of_sdk: true, ..first });
        assert_eq!(
            (by_library.client_retry, by_library.regenerated),
            (2, false),
            "nobody had seen an answer"
        );
        m.ends(first, Verdict::None, Status::Failed);
        let later = m.begins(turn(&[("user", "hi"), ("assistant", "yes"), ("user", "more")], None));
        assert_eq!((later.client_retry, later.failures_10m, later.regenerated), (0, 1, false));
        let newest =
            turn(&[("user", "hi"), ("assistant", "yes"), ("user", "more"), ("user", "please")], None);
        m.begins(newest);
        m.forgets(newest);
        m.forgets(first);
        assert_eq!((m.begins(newest).client_retry, m.before(first).client_retry), (0, 2), "ended is ended");
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(m.begins(first), policies::History::default());
    }

    #[test]
    fn a_conversation_is_known_by_who_asks_and_how_it_begins() {
        let (rules, hi, yes, more) =
            (("system", "be kind"), ("user", "hi"), ("assistant", "yes"), ("user", "more"));
        let first = turn(&[rules, hi], None);
        let second = turn(&[rules, hi, yes, more], None);
        assert_eq!((first.key, Some(first.messages), first.before), (second.key, second.before, None));
        assert_ne!(first.messages, second.messages);
        let others = [
            turn(&[hi], None),
            turn(&[rules, more], None),
            turn(&[rules], None),
            turn_of("l", None, &[rules, hi], None),
        ];
        assert!(others.iter().all(|other| other.key != first.key));
        // A session that has a name needs no turn before it to be known by.
        let session = turn(&[rules, hi, yes, more], Some("s"));
        assert_eq!((session.before, session.messages), (None, second.messages));
    }

    #[test]
    fn a_session_is_a_conversation_whatever_it_begins_with() {
        let m = Memory::default();
        let (a, b) = (turn(&[("user", "one")], Some("s")), turn(&[("user", "two")], Some("s")));
        m.begins(a);
        m.ends(a, Verdict::Passed, Status::Delivered);
        assert_eq!(m.begins(b).last_verdict, LastVerdict::Passed);
        assert_eq!(m.begins(turn(&[("user", "one")], Some("t"))), policies::History::default());
    }

    #[test]
    fn memory_is_bounded() {
        let m = Memory::default();
        for i in 0..MAX_CONVERSATIONS + 50 {
            m.begins(turn(&[("user", "x")], Some(&format!("s{i}"))));
        }
        assert_eq!(m.0.count(), MAX_CONVERSATIONS as u64);
    }
}
