//! What nodes of workflows have put out, kept for the next who asks the same: in memory,
//! bounded, and per tenant unless the workflow says otherwise.

use crate::calls::Calls;
use cache::{Asked, Bounds, Key, Question, Shelf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use types::axis::{DeterminismNeeds, SafetyPosture};
use types::chat::ToolCall;
use types::directives::{CacheScope, Caching};
use types::options::CacheMode;
use workflows::{CacheAsk, Cached, NodeKind, Recalled};

/// Most results that are kept at once, and bytes of all of them and of one, about. Where there are more, those of the
/// tenant give way that has most.
const BOUNDS: Bounds = Bounds { results: 10_000, bytes: 64 << 20, one: 1 << 20 };

/// What is kept, and the request that made it; `None` = it is for all tenants, whose requests are not each other's business.
struct Made {
    cached: Cached,
    by: Option<String>,
}

/// All that is kept.
pub(crate) struct Results(Mutex<Shelf<Arc<Made>>>);

impl Default for Results {
    fn default() -> Self {
        Results(Mutex::new(Shelf::new(BOUNDS)))
    }
}

impl Results {
    /// The lock is short and never held across a wait.
    fn shelf(&self) -> MutexGuard<'_, Shelf<Arc<Made>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under a key, else for the most similar question.
    fn get(&self, key: &Key, similar: Option<(&Asked, f64)>) -> Option<Recalled> {
        let now = Instant::now().into_std();
        let (made, similarity) = self.find(key, similar, now)?;
        // A megabyte is copied here, under no lock.
        Some(Recalled { cached: made.cached.clone(), of: made.by.clone(), similarity })
    }

    fn find(
        &self,
        key: &Key,
        similar: Option<(&Asked, f64)>,
        now: std::time::Instant,
    ) -> Option<(Arc<Made>, Option<f64>)> {
        let mut shelf = self.shelf();
        if let Some(made) = shelf.exact(key, now) {
            return Some((made, None));
        }
        let (asked, least) = similar?;
        let (made, similarity) = shelf.similar(asked, least, now)?;
        Some((made, Some(similarity)))
    }

    fn put(&self, key: Key, value: Made, asked: Option<Asked>, (ttl, owner): (Duration, &str)) {
        let Some(until) = Instant::now().into_std().checked_add(ttl) else { return };
        let value = Arc::new(value);
        let bytes = size(&value.cached).saturating_add(asked.as_ref().map_or(0, |a| a.question.bytes()));
        self.shelf().put(key, cache::Kept { value, until, bytes, asked, owner: owner.into() });
    }
}

/// Bytes of a result, about.
fn size(cached: &Cached) -> usize {
    /// What an entry takes beside its texts.
    const FRAME: usize = 512;
    let texts = cached.completions.iter().flat_map(|(c, ..)| &c.choices);
    let texts = texts.map(|c| {
        let of_call = |t: &ToolCall| {
            let beside = t.extra_content.as_ref().map_or(0, written);
            t.arguments.len().saturating_add(t.name.len()).saturating_add(beside)
        };
        let calls: usize = c.tool_calls.iter().map(of_call).sum();
        c.text.len().saturating_add(c.reasoning.len()).saturating_add(calls)
    });
    let extra = cached.completions.iter().filter_map(|(c, ..)| c.extra.as_ref()).map(written);
    let texts = texts.sum::<usize>().saturating_add(extra.sum());
    texts.saturating_add(written(&cached.outputs)).saturating_add(FRAME)
}

/// Bytes of a value as text.
fn written(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
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
    pub(crate) fn recalled(&self, ask: &CacheAsk) -> Option<Recalled> {
        // Who needs the same for the same asks for it with a seed, and not whatever another request was given.
        let strict = self.profile.determinism_needs.value == DeterminismNeeds::Strict;
        if strict || self.is_locked_down() || !self.allowed().0 || !self.may_keep(ask) {
            return None;
        }
        let asked = self.asked(ask);
        let similar = asked.as_ref().zip(ask.similar.as_ref().map(|s| s.least));
        let found = self.kept.as_ref()?.results.get(&self.key(ask, &ask.key)?, similar)?;
        let may =
            |id: &str| self.reach.matrix.find(id).is_some_and(|ix| self.candidates.all().any(|c| c == ix));
        found.cached.completions.iter().all(|(_, model, _)| may(&model.id)).then_some(found)
    }

    /// Keeps what a node has put out.
    pub(crate) fn keep_result(&self, ask: &CacheAsk, cached: Cached) {
        let may = self.allowed().1 && self.may_keep(ask) && !self.is_locked_down();
        if let (true, Some(kept), Some(key)) = (may, &self.kept, self.key(ask, &ask.key)) {
            let most =
                self.ceilings.cache.and_then(|c| c.ttl_ms).map_or(Duration::MAX, Duration::from_millis);
            let by = (!self.is_shared(ask)).then(|| self.request_id.clone());
            kept.results.put(
                key,
                Made { cached, by },
                self.asked(ask),
                (ask.ttl.min(most), &self.tools.tenant),
            );
        }
    }

    /// What is most sensitive is neither kept for later nor answered with what somebody else asked for.
    fn is_locked_down(&self) -> bool {
        self.profile.safety_posture.value == SafetyPosture::LockedDown
    }

    /// Whether the request may have what was kept, and whether what it puts out may be, by rules and by its own word.
    fn allowed(&self) -> (bool, bool) {
        let asked = match self.request.options.cache {
            None | Some(CacheMode::On) => (true, true),
            Some(CacheMode::Off) => (false, false),
            Some(CacheMode::Refresh) => (false, true),
        };
        let ruled = match self.caching() {
            Caching::Exact | Caching::Semantic => (true, true),
            Caching::ReadOnly => (true, false),
            Caching::None => (false, false),
        };
        (asked.0 && ruled.0, asked.1 && ruled.1)
    }

    /// What rules leave of what nodes say.
    fn caching(&self) -> Caching {
        self.ceilings.cache.map_or(Caching::Semantic, |c| c.mode)
    }

    /// The question by which what the node puts out may be found, where rules allow that.
    fn asked(&self, ask: &CacheAsk) -> Option<Asked> {
        let similar = ask.similar.as_ref().filter(|_| self.caching() == Caching::Semantic)?;
        Some(Asked { space: self.key(ask, &similar.space)?, question: Question::of(&similar.question)? })
    }

    /// The widest circle that rules allow.
    fn within(&self) -> CacheScope {
        self.ceilings.cache.map_or(CacheScope::Engine, |c| c.scope)
    }

    /// Who has it for themselves; `None` = rules want it to be an end user's own, and the request names none.
    fn whose(&self, ask: &CacheAsk) -> Option<String> {
        if self.is_shared(ask) {
            return Some(String::new());
        }
        let tenant = &self.tools.tenant;
        let key = || self.asker.who.principal.key_id();
        Some(match self.within() {
            CacheScope::Engine | CacheScope::Tenant => format!("tenant {tenant:?}"),
            CacheScope::Key => format!("tenant {tenant:?} key {:?}", key()),
            CacheScope::User => {
                // As it came: rules that mask it would make one of all users.
                let user = self.asker.request.user.as_deref().filter(|user| !user.is_empty())?;
                format!("tenant {tenant:?} key {:?} user {user:?}", key())
            }
        })
    }

    fn is_shared(&self, ask: &CacheAsk) -> bool {
        ask.shared && self.within() == CacheScope::Engine
    }

    /// What rules say of a call of a tool they say of each one: a kept result would pass them by.
    fn may_keep(&self, ask: &CacheAsk) -> bool {
        ask.kind != NodeKind::Tool || !self.tools.guard.as_ref().is_some_and(|g| g.is_busy())
    }

    /// One of the workflow's own keys with what the request brings that it does not see: whose it is, under which
    /// configuration, what rules allow in every call, and which model is to serve.
    fn key(&self, ask: &CacheAsk, own: &str) -> Option<Key> {
        let first = self.candidates.first().and_then(|ix| self.reach.matrix.model(ix));
        let whose = self.whose(ask)?;
        let caps = format!("{:?} {:?}", self.ceilings.max_tokens, self.ceilings.temperature);
        let bundle = &self.kept.as_ref()?.bundle;
        let mut h = blake3::Hasher::new();
        for part in [own, &whose, bundle, first.map_or("", |m| &*m.id), &caps] {
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
        let made = |text: &str| Made { cached: cached(text), by: Some("r".to_owned()) };
        results.put(key, made("a"), None, (Duration::from_secs(60), "acme"));
        let found = Recalled { cached: cached("a"), of: Some("r".to_owned()), similarity: None };
        assert_eq!(results.get(&key, None), Some(found));
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(results.get(&key, None), None);
        results.put(key, made(&"x".repeat(BOUNDS.one)), None, (Duration::from_secs(60), "acme"));
        assert_eq!(results.get(&key, None), None, "too large");
        results.put(key, made("a"), None, (Duration::MAX, "acme"));
        assert_eq!(results.get(&key, None), None, "no clock goes so far");
    }
}
