//! What nodes of workflows have put out, kept for the next who asks the same (`workflow-format.md` §16): in memory,
//! bounded, and per tenant unless the workflow says otherwise.

use crate::calls::Calls;
use crate::tools::Toolbox;
use cache::{Bounds, Key, Shelf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::axis::DeterminismNeeds;
use types::directives::Caching;
use types::options::CacheMode;
use workflows::{CacheAsk, Cached};

/// Most results that are kept at once, and bytes of all of them and of one, about.
const BOUNDS: Bounds = Bounds { results: 10_000, bytes: 64 << 20, one: 1 << 20 };

/// All that is kept.
pub(crate) struct Results(Mutex<Shelf<Cached>>);

impl Default for Results {
    fn default() -> Self {
        Results(Mutex::new(Shelf::new(BOUNDS)))
    }
}

impl Results {
    /// The lock is short and never held across a wait.
    fn shelf(&self) -> MutexGuard<'_, Shelf<Cached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key) -> Option<Cached> {
        self.shelf().exact(key, Instant::now().into_std())
    }

    fn put(&self, key: Key, value: Cached, ttl: Duration) {
        let Some(until) = Instant::now().into_std().checked_add(ttl) else { return };
        let bytes = size(&value);
        self.shelf().put(key, cache::Kept { value, until, bytes, asked: None });
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

    #[tokio::test(start_paused = true)]
    async fn results_are_kept_for_their_time_and_by_their_size() {
        let results = Results::default();
        let key: Key = *blake3::hash(b"one").as_bytes();
        results.put(key, cached("a"), Duration::from_secs(60));
        assert_eq!(results.get(&key), Some(cached("a")));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(results.get(&key), None);
        results.put(key, cached(&"x".repeat(BOUNDS.one)), Duration::from_secs(60));
        assert_eq!(results.get(&key), None, "too large");
        results.put(key, cached("a"), Duration::MAX);
        assert_eq!(results.get(&key), None, "no clock goes so far");
    }
}
