//! What was of use of late: a map with a bound, whose least recently used entries give way.

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use std::borrow::Borrow;
use std::hash::Hash;
use std::time::Duration;

/// Whatever nobody has asked about for so long is forgotten, whether or not there is room.
const IDLE: Duration = Duration::from_secs(24 * 3_600);

/// A map of so many entries. Copies are the same map; there is no lock around all of it.
pub(crate) struct Recent<K, V>(Cache<K, V>);

impl<K, V> Clone for Recent<K, V> {
    fn clone(&self) -> Self {
        Recent(self.0.clone())
    }
}

impl<K, V> std::fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recent").finish_non_exhaustive()
    }
}

impl<K, V> Recent<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// With room for `most`.
    pub(crate) fn new(most: usize) -> Self {
        let builder =
            Cache::builder().max_capacity(u64::try_from(most).unwrap_or(u64::MAX)).time_to_idle(IDLE);
        Recent(builder.eviction_policy(EvictionPolicy::lru()).build())
    }

    /// What stands there; asking keeps it.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.get(key)
    }

    /// What stands there, or the default, which stands there from now on.
    pub(crate) fn get_or_default(&self, key: K) -> V
    where
        V: Default,
    {
        self.0.get_with(key, V::default)
    }

    /// Puts something there.
    pub(crate) fn put(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// How many stand there, once the least used ones have given way.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_gives_way() {
        let recent = Recent::new(100);
        for i in 0..10_000_u32 {
            recent.put(i, i);
            assert_eq!(recent.get(&0), Some(0), "used all the time: {i}");
            recent.0.run_pending_tasks();
        }
        assert_eq!((recent.0.entry_count(), recent.get(&1), recent.get(&9_999)), (100, None, Some(9_999)));
    }
}
