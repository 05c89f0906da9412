//! What one walk of a run has asked, been answered and written: the heart of recording and repeating.
//!
//! The walk is made to do the same again by two rules. Everything that comes from outside reaches it one by
//! one, each only once the walk has come to rest after the one before ([`Shared::turn`]); and each such
//! arrival is written down at the moment in which the walk gets it. So the journal is the walk's whole
//! history in one line, and a repetition has to produce that line record by record.

mod flag;
mod inner;
mod people;
mod terms;
mod told;

use super::tape::{Divergence, Tape, words};
use flag::Flag;
use inner::intent;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake as _, Waker};
use std::time::Duration;
pub(super) use terms::{Answered, Asked, Idle, Keep, Start, Turn};
use tokio::time::Instant;
use types::runs::{Durability, Posted, Record, SideEffect, Spent};
use workflows::{EffectKind, Moment};

/// An effect that the walk has asked for and not let go of.
#[derive(Debug)]
struct Open {
    asked: Asked,
    stage: Stage,
    /// Its question stands in the journal already, from an earlier ownership.
    again: bool,
    /// Records that must be on the disk before it goes out.
    mark: u64,
    /// Unix milliseconds at which it was first asked.
    since_ms: i64,
    /// Wakes whoever waits for it.
    waker: Option<Waker>,
}

/// How far an effect has come.
#[derive(Debug)]
enum Stage {
    /// It is not known yet whether it is served from the record or goes out.
    Asked,
    /// It went out.
    Running,
    /// Answered; the walk has not got it yet. The second part orders what was on record before.
    Done(Answered, Option<u64>),
    /// The walk has it.
    Given(Value),
}

struct State {
    /// What is on record, as far as it has come again.
    tape: Tape,
    /// Records that the keeper has not taken yet.
    fresh: Vec<Record>,
    /// Records made so far by this walk, and how many of them are on the disk.
    made: u64,
    flushed: u64,
    /// An effect waits for the disk before it goes out.
    wants_flush: bool,
    /// Effects by their keys.
    open: BTreeMap<String, Open>,
    /// Keys of those that are answered and wait for their turn, as they came.
    done: VecDeque<String>,
    /// Taken from `done` and written, but not on the disk yet.
    giving: Option<(String, u64)>,
    /// Whoever waited for the end of the record has been told of it.
    announced: bool,
    spent: Spent,
    /// What people and clients have told the run, by the key of what it answers.
    posts: BTreeMap<String, Value>,
    /// The time by the store's clock, in Unix milliseconds.
    now_ms: i64,
    diverged: Option<Divergence>,
    /// What a repetition would have asked.
    missing: Vec<String>,
    /// What a repetition that calls has asked.
    called: Vec<String>,
    /// The walk was dropped.
    closed: bool,
    /// The answer is out: effects pass without a record.
    through: bool,
}

/// The state of one walk; shared by the wrapper around the outside and the driver.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) flag: Arc<Flag>,
    base: Instant,
    keep: Keep,
}

impl Shared {
    /// A walk over what is recorded. Its clock goes on where the record ends: time in which nobody walked is
    /// not the run's.
    pub(super) fn new(tape: Tape, keep: Keep) -> Arc<Self> {
        let now = Instant::now();
        let base = now.checked_sub(Duration::from_nanos(tape.latest_nanos())).unwrap_or(now);
        Arc::new(Shared {
            state: Mutex::new(State {
                spent: tape.spent_before(),
                tape,
                fresh: Vec::new(),
                made: 0,
                flushed: 0,
                wants_flush: false,
                open: BTreeMap::new(),
                done: VecDeque::new(),
                giving: None,
                announced: false,
                posts: BTreeMap::new(),
                now_ms: 0,
                diverged: None,
                missing: Vec::new(),
                called: Vec::new(),
                closed: false,
                through: false,
            }),
            flag: Flag::woken(),
            base,
            keep,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state consistent, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start of the run on tokio's clock.
    pub(super) const fn base(&self) -> Instant {
        self.base
    }

    fn durability(&self) -> Option<Durability> {
        self.keep.durability()
    }

    /// Something is asked. Gives the key under which it is known, or `None` where nothing is recorded any more.
    pub(super) fn ask(&self, asked: Asked) -> Option<String> {
        let key = asked.id.to_string();
        let mut s = self.lock();
        if s.through {
            return None;
        }
        let before = match asked.id.kind {
            EffectKind::Wait => None,
            _ => s.push(intent(&key, &asked, false), self.durability()),
        };
        let (mark, since_ms) = (s.made, before.unwrap_or(s.now_ms));
        // What an earlier walk, or the run that this one forks, has sent and heard no more of may have happened too.
        let lost = asked.side_effect == SideEffect::Unsafe && s.tape.is_lost(&key, &asked.digest);
        let again = before.is_some() || lost;
        s.open.insert(key.clone(), Open { asked, stage: Stage::Asked, again, mark, since_ms, waker: None });
        Some(key)
    }

    /// Waits until it is known whether an effect is served or goes out.
    pub(super) fn poll_start(&self, key: &str, cx: &Context<'_>) -> Poll<Start> {
        let mut s = self.lock();
        let s = &mut *s;
        let Some(open) = s.open.get_mut(key) else { return Poll::Pending };
        if let Stage::Given(value) = &mut open.stage {
            return Poll::Ready(Start::Served(value.take()));
        }
        open.waker = Some(cx.waker().clone());
        if s.closed || s.diverged.is_some() || !s.tape.is_over() || !matches!(open.stage, Stage::Asked) {
            return Poll::Pending;
        }
        if let Some(pooled) = s.tape.take_pooled(key, &open.asked.digest) {
            if let Record::CallResult { result, cost, tokens, .. } = pooled.record {
                open.stage = Stage::Done(Answered { result, cost, tokens, calls: 0 }, Some(pooled.seq));
                s.done.push_back(key.to_owned());
            }
            return Poll::Pending;
        }
        if s.admit(key, self.keep) {
            if let Some(open) = s.open.get_mut(key) {
                open.stage = Stage::Running;
            }
            return Poll::Ready(Start::Live);
        }
        Poll::Pending
    }

    /// An effect that went out came back.
    pub(super) fn done(&self, key: &str, answered: Answered) {
        let mut s = self.lock();
        if let Some(open) = s.open.get_mut(key)
            && matches!(open.stage, Stage::Running)
        {
            open.stage = Stage::Done(answered, None);
            s.done.push_back(key.to_owned());
        }
    }

    /// Waits until the walk may have the answer.
    pub(super) fn poll_given(&self, key: &str, cx: &Context<'_>) -> Poll<Value> {
        let mut s = self.lock();
        let Some(open) = s.open.get_mut(key) else { return Poll::Pending };
        if let Stage::Given(value) = &mut open.stage {
            return Poll::Ready(value.take());
        }
        open.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The walk lets go of an effect: it has its answer, or does not need it any more. `cost` is what an
    /// unfinished one used up. Gives what is on record of that, where the walk did the same before.
    pub(super) fn let_go(&self, key: &str, used: &Answered) -> Option<Value> {
        let mut s = self.lock();
        let open = s.open.remove(key)?;
        if matches!(open.stage, Stage::Given(_)) {
            return None;
        }
        s.done.retain(|k| k != key);
        if s.giving.as_ref().is_some_and(|(k, _)| k == key) {
            // It is written down as answered, and so it will be when this is repeated.
            s.giving = None;
            return None;
        }
        if s.closed || s.through || open.asked.id.kind == EffectKind::Wait {
            return None;
        }
        let recorded = match s.tape.next().map(|e| &e.record) {
            Some(Record::CallResult { result, .. }) => Some(result.clone()),
            _ => None,
        };
        let result = match used.calls {
            0 => json!({"cancelled": true}),
            _ => json!({"cancelled": true, "calls": used.result}),
        };
        s.spend(used.cost, used.tokens, used.calls);
        let record =
            Record::CallResult { effect: key.to_owned(), result, cost: used.cost, tokens: used.tokens };
        let again = s.push(record, self.durability());
        recorded.filter(|_| again.is_some())
    }

    /// The time, as it was told then or as it is now.
    pub(super) fn time(&self, moment: &Moment<'_>) -> Instant {
        let mut s = self.lock();
        if s.through || s.closed {
            return Instant::now();
        }
        let recorded = match s.tape.next().map(|e| &e.record) {
            Some(Record::Time { nanos, .. }) => Some(*nanos),
            _ => None,
        };
        let since = Instant::now().saturating_duration_since(self.base);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let record = Record::Time {
            frame: moment.frame.to_owned(),
            what: moment.what.to_owned(),
            index: moment.index,
            attempt: moment.attempt,
            nanos,
        };
        let again = s.push(record, self.durability());
        let nanos = recorded.filter(|_| again.is_some()).unwrap_or(nanos);
        self.base.checked_add(Duration::from_nanos(nanos)).unwrap_or(self.base)
    }

    /// The walk has come to rest: what comes next.
    pub(super) fn turn(&self) -> Turn {
        let mut s = self.lock();
        let s = &mut *s;
        if let Some(d) = &s.diverged {
            return Turn::Diverged(d.clone());
        }
        if !s.tape.is_over() {
            return s.serve();
        }
        if s.wakes_all() {
            return Turn::Given;
        }
        if let Some((key, mark)) = s.giving.take() {
            if s.flushed < mark {
                s.giving = Some((key, mark));
                return Turn::Flush;
            }
            s.give(&key);
            return Turn::Given;
        }
        if s.wants_flush && s.flushed < s.made {
            return Turn::Flush;
        }
        s.wants_flush = false;
        if let Some(key) = s.next_done() {
            return s.write_and_give(key, self.keep);
        }
        let stands_still =
            self.keep == Keep::Repeat || matches!(self.keep, Keep::Live { .. }) && !s.is_under_way();
        if !s.missing.is_empty() && stands_still {
            return Turn::Missing;
        }
        s.idle().map_or(Turn::Nothing, Turn::Idle)
    }

    /// Records that are not on the disk yet, with the mark to give to [`Shared::flushed`].
    pub(super) fn take_fresh(&self) -> (Vec<Record>, u64) {
        let mut s = self.lock();
        (std::mem::take(&mut s.fresh), s.made)
    }

    /// Everything up to a mark is on the disk.
    pub(super) fn flushed(&self, mark: u64) {
        let mut s = self.lock();
        s.flushed = s.flushed.max(mark);
        s.wake_asked();
    }

    /// What was told from outside so far, and the time by the store's clock.
    pub(super) fn told(&self, posts: Vec<Posted>, now_ms: i64) {
        let mut s = self.lock();
        s.now_ms = now_ms;
        s.posts.extend(posts.into_iter().map(|p| (p.key, p.body)));
        s.wake_asked();
    }

    /// What it used so far.
    pub(super) fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// What a repetition that calls has asked for.
    pub(super) fn called(&self) -> Vec<String> {
        self.lock().called.clone()
    }

    /// What a repetition would have asked for, and did not.
    pub(super) fn missing(&self) -> Vec<String> {
        self.lock().missing.clone()
    }

    /// How far a repetition came: the next sequence number.
    pub(super) fn seq(&self) -> u64 {
        self.lock().tape.seq()
    }

    /// Whether everything recorded has come again.
    #[cfg(test)]
    pub(super) fn is_over(&self) -> bool {
        self.lock().tape.is_over()
    }

    /// Whether a walk that has ended did something else than was recorded, or less.
    pub(super) fn diverged_at_end(&self) -> Option<Divergence> {
        let mut s = self.lock();
        if s.diverged.is_none()
            && let Some(entry) = s.tape.next()
        {
            let (seq, recorded) = (entry.seq, words(&entry.record));
            s.diverged = Some(Divergence { seq, recorded, found: "the end of the run".to_owned() });
        }
        s.diverged.clone()
    }

    /// The walk is dropped: nothing that follows is recorded.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// The answer is out: whatever is still asked passes without a record.
    pub(super) fn pass_through(&self) {
        self.lock().through = true;
    }

    /// What is read from the record cannot be understood.
    pub(super) fn unreadable(&self, effect: &str, why: &str) {
        let mut s = self.lock();
        let seq = s.tape.seq();
        s.diverged.get_or_insert_with(|| Divergence {
            seq,
            recorded: format!("call_result {effect}"),
            found: why.to_owned(),
        });
        self.flag.wake_by_ref();
    }
}
