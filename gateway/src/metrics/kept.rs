//! What was made for a key, kept for the next time it is asked for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

/// See the module. Grows with its keys, which come from closed sets.
pub(super) struct Kept<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Kept(RwLock::default())
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    /// What stands for `key`, made now if it is asked for the first time.
    pub(super) fn get(&self, key: K, make: impl FnOnce() -> V) -> V {
        self.get_with(key, |_| make())
    }

    /// The same, made from the key.
    pub(super) fn get_with(&self, key: K, make: impl FnOnce(&K) -> V) -> V {
        // Nothing panics while the lock is held, but what a thread that died had kept is good in any case.
        if let Some(found) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return found.clone();
        }
        let made = make(&key);
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(made).clone()
    }
}
