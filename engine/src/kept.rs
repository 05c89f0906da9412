//! What nodes of workflows have put out, kept for the next who asks the same (`workflow-format.md` §16): in memory,
//! bounded, and per tenant unless the workflow says otherwise.

use crate::calls::Calls;
use crate::tools::Toolbox;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::axis::DeterminismNeeds;
use types::directives::Caching;
use types::options::CacheMode;
use workflows::{CacheAsk, Cached};

/// Most results that are kept at once; of more, the oldest are forgotten.
const MAX_RESULTS: usize = 10_000;
/// Most bytes of all of them, about.
const MAX_BYTES: usize = 64 << 20;
/// Most bytes of one, about; a larger one is not kept.
const MAX_ONE: usize = 1 << 20;

/// A hash of everything that a result depends on.
type Key = [u8; 32];

/// All that is kept.
#[derive(Default)]
pub(crate) struct Results(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    by_key: HashMap<Key, Entry>,
    /// The same keys, oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

struct Entry {
    cached: Cached,
    until: Instant,
    bytes: usize,
}

impl Shelf {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
            self.order.retain(|k| k != key);
        }
    }
}

impl Results {
    fn get(&self, key: &Key) -> Option<Cached> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.by_key.get(key)?.until <= Instant::now() {
            shelf.remove(key);
            return None;
        }
        shelf.by_key.get(key).map(|e| e.cached.clone())
    }

    fn put(&self, key: Key, cached: Cached, ttl: Duration) {
        let bytes = size(&cached);
        let until = Instant::now().checked_add(ttl);
        let Some(until) = until.filter(|_| bytes <= MAX_ONE) else { return };
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.remove(&key);
        shelf.by_key.insert(key, Entry { cached, until, bytes });
        shelf.order.push_back(key);
        shelf.bytes = shelf.bytes.saturating_add(bytes);
        while shelf.order.len() > MAX_RESULTS || shelf.bytes > MAX_BYTES {
            let Some(oldest) = shelf.order.pop_front() else { return };
            if let Some(entry) = shelf.by_key.remove(&oldest) {
                shelf.bytes = shelf.bytes.saturating_sub(entry.bytes);
            }
        }
    }
}

/// Bytes of a result, about.
fn size(cached: &Cached) -> usize {
    /// What an entry takes beside its texts.
    const FRAME: usize = 512;
    let texts = cached.completions.iter().flat_map(|(c, ..)| &c.choices);
    let texts = texts.map(|c| {
        let calls: usize = c.tool_calls.iter().map(|t| t.arguments.len().saturating_add(t.name.len())).sum();
        c.text.len().saturating_add(c.reasoning.len()).saturating_add(calls)
    });
    texts.sum::<usize>().saturating_add(cached.outputs.to_string().len()).saturating_add(FRAME)
}

/// What is kept, as one request reaches it.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) results: Arc<Results>,
    /// Under another configuration the same node may come to something else.
    pub(crate) bundle: Arc<str>,
}

impl Calls {
    /// What a node put out earlier, where this request may have it.
    pub(crate) fn recalled(&self, ask: &CacheAsk) -> Option<Cached> {
        // Who needs the same for the same asks for it with a seed, and not whatever another request was given.
        let strict = self.profile.determinism_needs.value == DeterminismNeeds::Strict;
        if strict || !self.allowed().0 || !self.may_keep(ask) {
            return None;
        }
        let found = self.kept.as_ref()?.results.get(&self.key(ask)?)?;
        let may =
            |id: &str| self.reach.matrix.find(id).is_some_and(|ix| self.candidates.all().any(|c| c == ix));
        found.completions.iter().all(|(_, model, _)| may(&model.id)).then_some(found)
    }

    /// Keeps what a node has put out.
    pub(crate) fn keep_result(&self, ask: &CacheAsk, cached: Cached) {
        let may = self.allowed().1 && self.may_keep(ask);
        if let (true, Some(kept), Some(key)) = (may, &self.kept, self.key(ask)) {
            let most =
                self.ceilings.cache.and_then(|c| c.ttl_ms).map_or(Duration::MAX, Duration::from_millis);
            kept.results.put(key, cached, ask.ttl.min(most));
        }
    }

    /// Whether the request may have what was kept, and whether what it puts out may be, by rules and by its own word.
    fn allowed(&self) -> (bool, bool) {
        let asked = match self.request.options.cache {
            None | Some(CacheMode::On) => (true, true),
            Some(CacheMode::Off) => (false, false),
            Some(CacheMode::Refresh) => (false, true),
        };
        let ruled = match self.ceilings.cache.map(|c| c.mode) {
            None | Some(Caching::Exact) => (true, true),
            Some(Caching::ReadOnly) => (true, false),
            Some(Caching::None) => (false, false),
        };
        (asked.0 && ruled.0, asked.1 && ruled.1)
    }

    /// What rules say of a call of a tool they say of each one: a kept result would pass them by.
    fn may_keep(&self, ask: &CacheAsk) -> bool {
        &*ask.kind != "tool" || !self.tools.guard.as_ref().is_some_and(|g| g.is_busy())
    }

    /// The workflow's own key with what the request brings that it does not see: whose it is, under which
    /// configuration, what rules allow in every call, and which model is to serve.
    fn key(&self, ask: &CacheAsk) -> Option<Key> {
        let Toolbox { tenant, .. } = &self.tools;
        let first = self.candidates.first().and_then(|ix| self.reach.matrix.model(ix));
        let shared = ask.shared && self.ceilings.cache.is_none_or(|c| !c.own);
        let tenant = if shared { String::new() } else { format!("tenant {tenant}") };
        let caps = format!("{:?} {:?}", self.ceilings.max_tokens, self.ceilings.temperature);
        let bundle = &self.kept.as_ref()?.bundle;
        let mut h = blake3::Hasher::new();
        for part in [ask.key.as_str(), &tenant, bundle, first.map_or("", |m| &*m.id), &caps] {
            h.update(&part.len().to_le_bytes());
            h.update(part.as_bytes());
        }
        Some(*h.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cached(text: &str) -> Cached {
        Cached { outcome: "ok".to_owned(), outputs: json!({"text": text}), completions: Vec::new() }
    }

    fn key(n: usize) -> Key {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn results_are_kept_for_their_time() {
        let results = Results::default();
        results.put(key(1), cached("a"), Duration::from_secs(60));
        results.put(key(1), cached("b"), Duration::from_secs(60));
        assert_eq!(results.get(&key(1)), Some(cached("b")));
        assert_eq!(results.get(&key(2)), None);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(results.get(&key(1)), None);
        let shelf = results.0.lock().unwrap();
        assert_eq!((shelf.order.len(), shelf.bytes), (0, 0), "what is over is gone");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let results = Results::default();
        results.put(key(0), cached(&"x".repeat(MAX_ONE)), Duration::from_secs(60));
        assert_eq!(results.get(&key(0)), None, "too large");
        let half = "x".repeat(MAX_ONE / 2);
        let fit = MAX_BYTES / (MAX_ONE / 2);
        (0..=fit).for_each(|n| results.put(key(n), cached(&half), Duration::from_secs(60)));
        assert!(results.0.lock().unwrap().bytes <= MAX_BYTES);
        assert!(results.get(&key(0)).is_none() && results.get(&key(fit)).is_some(), "the oldest goes first");
        (0..=MAX_RESULTS).for_each(|n| results.put(key(n), cached("x"), Duration::from_secs(60)));
        let shelf = results.0.lock().unwrap();
        assert_eq!((shelf.order.len(), shelf.by_key.len()), (MAX_RESULTS, MAX_RESULTS));
    }
}
