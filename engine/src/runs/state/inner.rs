//! How the state of a walk changes: what is written, what goes out, and in which order the walk gets its answers.

use super::super::tape::{Divergence, calls_in, is_cancelled, is_same, words};
use super::{Answered, Asked, Keep, Open, Stage, State, Turn};
use serde_json::{Value, json};
use types::Usd;
use types::runs::{Durability, Record, SideEffect};
use workflows::EffectKind;

impl State {
    /// Writes a record, or finds it written. Gives the time at which it was written before, if it was.
    pub(super) fn push(&mut self, record: Record, durability: Option<Durability>) -> Option<i64> {
        if self.diverged.is_some() {
            return None;
        }
        if let Some(entry) = self.tape.next() {
            if is_same(&entry.record, &record) {
                let ts_ms = entry.ts_ms;
                self.tape.advance();
                return Some(ts_ms);
            }
            let (seq, recorded) = (entry.seq, words(&entry.record));
            self.diverged = Some(Divergence { seq, recorded, found: words(&record) });
            return None;
        }
        self.made = self.made.saturating_add(1);
        if durability != Some(Durability::None) {
            self.fresh.push(record);
        }
        None
    }

    pub(super) fn spend(&mut self, cost: Option<Usd>, tokens: u64, calls: u32) {
        self.spent.usd = self.spent.usd.plus(cost.unwrap_or_default());
        self.spent.tokens = self.spent.tokens.saturating_add(tokens);
        self.spent.calls = self.spent.calls.saturating_add(calls);
    }

    /// Gives the walk the next answer on record.
    pub(super) fn serve(&mut self) -> Turn {
        let Some(entry) = self.tape.next().cloned() else { return Turn::Nothing };
        if let Record::CallResult { effect, result, cost, tokens } = &entry.record
            && !is_cancelled(&entry.record)
            && let Some(open) = self.open.get_mut(effect)
            && matches!(open.stage, Stage::Asked)
        {
            open.stage = Stage::Given(result.clone());
            wake(open);
            self.tape.advance();
            self.spend(*cost, *tokens, calls_in(result));
            return Turn::Given;
        }
        let found = "the run came to rest without it".to_owned();
        let d = Divergence { seq: entry.seq, recorded: words(&entry.record), found };
        self.diverged = Some(d.clone());
        Turn::Diverged(d)
    }

    /// Tells everybody, once, that the record has ended; true if somebody waited for that.
    pub(super) fn wakes_all(&mut self) -> bool {
        if std::mem::replace(&mut self.announced, true) {
            return false;
        }
        self.wake_asked()
    }

    pub(super) fn wake_asked(&mut self) -> bool {
        let asked = self.open.values_mut().filter(|o| matches!(o.stage, Stage::Asked));
        asked.map(wake).count() > 0
    }

    /// Whether an effect may go out now. Otherwise it waits: for the disk, or for a person; or what it asks
    /// is answered already.
    pub(super) fn admit(&mut self, key: &str, keep: Keep) -> bool {
        let Some(open) = self.open.get(key) else { return false };
        let (asked, again) = (open.asked.clone(), open.again);
        let durability = match keep {
            Keep::Record(durability) => durability,
            Keep::Live { .. } if asked.id.kind == EffectKind::Wait => return true,
            Keep::Live { outside }
                if changes_nothing(&asked)
                    && (outside || !matches!(asked.id.kind, EffectKind::Tool | EffectKind::Check)) =>
            {
                self.called.push(key.to_owned());
                return true;
            }
            Keep::Repeat | Keep::Live { .. } => {
                if asked.id.kind != EffectKind::Wait && !self.missing.iter().any(|m| m == key) {
                    self.missing.push(key.to_owned());
                }
                return false;
            }
        };
        let doubtful = again && asked.side_effect == SideEffect::Unsafe;
        match asked.id.kind {
            EffectKind::Gate => {
                self.decide(key, &asked);
                return false;
            }
            EffectKind::Client => {
                self.collect(key, &asked);
                return false;
            }
            EffectKind::Wait => return true,
            EffectKind::Tool if doubtful && !self.settle_doubt(key) => return false,
            EffectKind::Model if again => self.spend(Some(asked.reservation), 0, 1),
            _ => {}
        }
        if again {
            self.push(intent(key, &asked, true), Some(durability));
            let made = self.made;
            if let Some(open) = self.open.get_mut(key) {
                (open.again, open.mark) = (false, made);
            }
        }
        let mark = self.open.get(key).map_or(0, |o| o.mark);
        let first_to_disk = match durability {
            Durability::Sync => true,
            Durability::Async | Durability::Exit => asked.side_effect == SideEffect::Unsafe,
            Durability::None => false,
        };
        if first_to_disk && self.flushed < mark {
            self.wants_flush = true;
            return false;
        }
        true
    }

    pub(super) fn answer(&mut self, key: &str, result: Value) {
        if let Some(open) = self.open.get_mut(key) {
            open.stage = Stage::Done(Answered { result, ..Answered::default() }, None);
            self.done.push_back(key.to_owned());
        }
    }

    /// What was answered before this walk comes in the order of then, and before what is new.
    pub(super) fn next_done(&mut self) -> Option<String> {
        let order = |key: &String| match self.open.get(key).map(|o| &o.stage) {
            Some(Stage::Done(_, Some(seq))) => *seq,
            _ => u64::MAX,
        };
        let first = self.done.iter().enumerate().min_by_key(|(i, key)| (order(key), *i)).map(|(i, _)| i)?;
        self.done.remove(first)
    }

    pub(super) fn write_and_give(&mut self, key: String, keep: Keep) -> Turn {
        let Some(Open { stage: Stage::Done(answered, before), .. }) = self.open.get(&key) else {
            return Turn::Given;
        };
        let (answered, before) = (answered.clone(), *before);
        let mut result = answered.result;
        match (before, result.as_object_mut()) {
            // It was paid for when it was first answered.
            (Some(seq), Some(object)) => {
                object.insert("from".to_owned(), json!(seq));
            }
            _ => self.spend(answered.cost, answered.tokens, answered.calls),
        }
        let (cost, tokens) = (answered.cost, answered.tokens);
        let durability = keep.durability();
        self.push(Record::CallResult { effect: key.clone(), result, cost, tokens }, durability);
        if durability == Some(Durability::Sync) {
            self.giving = Some((key, self.made));
            return Turn::Flush;
        }
        self.give(&key);
        Turn::Given
    }

    pub(super) fn give(&mut self, key: &str) {
        if let Some(open) = self.open.get_mut(key)
            && let Stage::Done(answered, _) = &mut open.stage
        {
            open.stage = Stage::Given(answered.result.take());
            wake(open);
        }
    }

    /// Whether something ends by itself that the walk waits for.
    pub(super) fn is_under_way(&self) -> bool {
        let under_way = |o: &Open| match o.asked.id.kind {
            // A pause between attempts ends by itself; a time limit is no reason to stay.
            EffectKind::Wait => o.asked.id.index == PAUSE && !o.asked.id.frame.is_empty(),
            _ => matches!(o.stage, Stage::Running),
        };
        self.open.values().any(under_way)
    }
}

/// Whether asking changes nothing but what is left of a budget.
fn changes_nothing(asked: &Asked) -> bool {
    match asked.id.kind {
        EffectKind::Model | EffectKind::Check | EffectKind::Cache => true,
        EffectKind::Tool => asked.side_effect == SideEffect::None,
        EffectKind::Gate | EffectKind::Client | EffectKind::Wait => false,
    }
}

/// Index of the wait that is a pause between two attempts of a node (`workflows::World::wait`).
const PAUSE: u32 = 1;

pub(super) fn intent(key: &str, asked: &Asked, maybe_billed_twice: bool) -> Record {
    Record::CallIntent {
        effect: key.to_owned(),
        purpose: asked.purpose.clone(),
        digest: asked.digest.clone(),
        reservation: asked.reservation,
        side_effect: asked.side_effect,
        maybe_billed_twice,
    }
}

fn wake(open: &mut Open) {
    if let Some(waker) = open.waker.take() {
        waker.wake();
    }
}
