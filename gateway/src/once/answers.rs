//! Answers that were given, bounded in bytes and time: of what is too much, the oldest is forgotten of whoever has most,
//! so that nobody pushes out what others keep while they keep less.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After so long those are looked for that are over, whoever they are.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Values by key, each somebody's.
pub(super) struct Answers<K, V> {
    most: usize,
    keep: Duration,
    all: Mutex<All<K, V>>,
}

struct All<K, V> {
    values: HashMap<K, Kept<V>>,
    /// Nobody stands here without a value.
    owners: BTreeMap<String, Owned<K>>,
    bytes: usize,
    swept: Instant,
}

struct Kept<V> {
    value: V,
    owner: String,
    bytes: usize,
    since: Instant,
}

/// What one owner has.
struct Owned<K> {
    /// Oldest first.
    order: VecDeque<K>,
    bytes: usize,
}

impl<K: Clone + Eq + Hash, V: Clone> Answers<K, V> {
    /// At most so many bytes together, each for so long.
    pub(super) fn new(most: usize, keep: Duration) -> Self {
        let (values, owners) = (HashMap::new(), BTreeMap::new());
        Answers { most, keep, all: Mutex::new(All { values, owners, bytes: 0, swept: Instant::now() }) }
    }

    /// The lock is short and never held across a wait.
    fn all(&self) -> MutexGuard<'_, All<K, V>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands under a key, if its time is not over.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let all = self.all();
        let kept = all.values.get(key).filter(|kept| kept.since.elapsed() < self.keep)?;
        Some(kept.value.clone())
    }

    /// Keeps a value of so many bytes, in the place of what stood under its key.
    pub(super) fn put(&self, key: K, owner: &str, value: V, bytes: usize) {
        let now = Instant::now();
        let mut all = self.all();
        all.remove(&key);
        if now.saturating_duration_since(all.swept) >= SWEEP {
            all.swept = now;
            all.sweep(now, self.keep);
        }
        let owned =
            all.owners.entry(owner.to_owned()).or_insert_with(|| Owned { order: VecDeque::new(), bytes: 0 });
        owned.order.push_back(key.clone());
        owned.bytes = owned.bytes.saturating_add(bytes);
        all.bytes = all.bytes.saturating_add(bytes);
        all.values.insert(key, Kept { value, owner: owner.to_owned(), bytes, since: now });
        while all.bytes > self.most {
            let first = all.owners.values().max_by_key(|owned| owned.bytes);
            let Some(oldest) = first.and_then(|owned| owned.order.front().cloned()) else { break };
            all.remove(&oldest);
        }
    }
}

impl<K: Clone + Eq + Hash, V> All<K, V> {
    fn sweep(&mut self, now: Instant, keep: Duration) {
        let over = |kept: &Kept<V>| now.saturating_duration_since(kept.since) >= keep;
        let past: Vec<K> =
            self.values.iter().filter(|(_, kept)| over(kept)).map(|(k, _)| k.clone()).collect();
        past.iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: &K) {
        let Some(kept) = self.values.remove(key) else { return };
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        let Some(owned) = self.owners.get_mut(&kept.owner) else { return };
        owned.bytes = owned.bytes.saturating_sub(kept.bytes);
        if owned.order.front() == Some(key) {
            owned.order.pop_front();
        } else {
            owned.order.retain(|k| k != key);
        }
        if owned.order.is_empty() {
            self.owners.remove(&kept.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test(start_paused = true)]
    async fn who_keeps_most_gives_way() {
        let answers = Answers::new(100, DAY);
        answers.put(0, "small", "first", 10);
        (1..=50).for_each(|n| answers.put(n, "large", "one of many", 10));
        assert_eq!(
            (answers.get(&0), answers.get(&41), answers.get(&42)),
            (Some("first"), None, Some("one of many"))
        );
        // Both have half at last.
        (100..150).for_each(|n| answers.put(n, "small", "more", 10));
        let all = answers.all();
        let bytes = |name: &str| all.owners.get(name).map(|owned| owned.bytes);
        assert_eq!((bytes("large"), bytes("small"), all.bytes), (Some(50), Some(50), 100));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_not_found_and_not_kept() {
        let answers = Answers::new(100, DAY);
        answers.put(1, "one", "a", 10);
        answers.put(1, "one", "b", 20);
        assert_eq!((answers.get(&1), answers.all().bytes), (Some("b"), 20));
        tokio::time::advance(DAY).await;
        assert_eq!(answers.get(&1), None);
        answers.put(2, "two", "c", 5);
        let all = answers.all();
        assert_eq!((all.values.len(), all.owners.len(), all.bytes), (1, 1, 5));
    }
}
