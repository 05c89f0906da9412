//! Results by what they are found under, bounded in number, bytes and time.

use crate::Question;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A hash of everything that a result depends on.
pub type Key = [u8; 32];

/// Most questions of the same words that one space holds; of more, the oldest are forgotten. They differ in articles,
/// polite phrases and punctuation alone, so that few are enough, and no search looks at more.
const MAX_ALIKE: usize = 16;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most results.
    pub results: usize,
    /// Most bytes of all of them.
    pub bytes: usize,
    /// Most bytes of one; a larger one is not kept.
    pub one: usize,
}

/// A question, and within what others may be found by it: a hash of everything that the result depends on beside it,
/// so of whose it is, what is asked of which model, and how.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The hash of all that.
    pub space: Key,
    /// The question.
    pub question: Question,
}

impl Asked {
    /// Under what questions of the same words in the same space stand.
    fn place(&self) -> Key {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.space);
        hash.update(self.question.words());
        *hash.finalize().as_bytes()
    }
}

/// A result that is to be kept.
#[derive(Clone, Debug)]
pub struct Kept<V> {
    /// The result.
    pub value: V,
    /// Until when it may be had.
    pub until: Instant,
    /// What it takes, about.
    pub bytes: usize,
    /// What it answers, where it may be found by that.
    pub asked: Option<Asked>,
    /// Whose room it takes.
    pub owner: Arc<str>,
}

/// What one owner has on the shelf.
#[derive(Debug, Default)]
struct Owned {
    /// Keys, oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

/// All that is kept; of what is too much, the oldest is forgotten of whoever has most: nobody pushes out what others keep
/// while they keep less.
#[derive(Debug)]
pub struct Shelf<V> {
    bounds: Bounds,
    by_key: HashMap<Key, Kept<V>>,
    /// Keys of results whose questions have the same words in the same space, oldest first.
    alike: HashMap<Key, VecDeque<Key>>,
    /// Nobody stands here without a result.
    owners: HashMap<Arc<str>, Owned>,
    bytes: usize,
}

impl<V: Clone> Shelf<V> {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Shelf { bounds, by_key: HashMap::new(), alike: HashMap::new(), owners: HashMap::new(), bytes: 0 }
    }

    /// How many results there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// What all of them take, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is kept under a key.
    pub fn exact(&mut self, key: &Key, now: Instant) -> Option<V> {
        if self.by_key.get(key)?.until <= now {
            self.remove(key);
            return None;
        }
        self.by_key.get(key).map(|kept| kept.value.clone())
    }

    /// What is kept of the most similar question of the same space, and how similar it is; of several, the newest.
    /// None below `least` (0..=1) is found, and none at or above it missed.
    pub fn similar(&mut self, asked: &Asked, least: f64, now: Instant) -> Option<(V, f64)> {
        let place = asked.place();
        let over = |key: &Key| self.by_key.get(key).is_some_and(|kept| kept.until <= now);
        let past: Vec<Key> = self.alike.get(&place)?.iter().copied().filter(over).collect();
        past.iter().for_each(|key| self.remove(key));
        let found = self.alike.get(&place)?.iter().filter_map(|key| {
            let kept = self.by_key.get(key)?;
            let own = kept.asked.as_ref()?;
            let similarity = asked.question.similarity(&own.question)?;
            (similarity >= least).then_some((&kept.value, similarity))
        });
        // The last of several that are equal is the newest.
        found.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(value, s)| (value.clone(), s))
    }

    /// Keeps a result, in the place of what was kept under the same key.
    pub fn put(&mut self, key: Key, kept: Kept<V>) {
        if kept.bytes > self.bounds.one {
            return;
        }
        self.remove(&key);
        if let Some(place) = kept.asked.as_ref().map(Asked::place) {
            let alike = self.alike.entry(place).or_default();
            alike.push_back(key);
            let oldest = if alike.len() > MAX_ALIKE { alike.front().copied() } else { None };
            if let Some(oldest) = oldest {
                self.remove(&oldest);
            }
        }
        self.bytes = self.bytes.saturating_add(kept.bytes);
        let owned = self.owners.entry(kept.owner.clone()).or_default();
        owned.order.push_back(key);
        owned.bytes = owned.bytes.saturating_add(kept.bytes);
        self.by_key.insert(key, kept);
        while self.by_key.len() > self.bounds.results {
            self.evict(|owned| owned.order.len());
        }
        while self.bytes > self.bounds.bytes {
            self.evict(|owned| owned.bytes);
        }
    }

    /// Forgets the oldest of whoever has most.
    fn evict(&mut self, most: impl Fn(&Owned) -> usize) {
        // By name where several have as much, so that the same comes of the same.
        let first = self.owners.iter().max_by_key(|(name, owned)| (most(owned), (*name).clone()));
        if let Some(oldest) = first.and_then(|(_, owned)| owned.order.front().copied()) {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        let Some(kept) = self.by_key.remove(key) else { return };
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        if let Some(owned) = self.owners.get_mut(&kept.owner) {
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
        if let Some(place) = kept.asked.as_ref().map(Asked::place)
            && let Some(alike) = self.alike.get_mut(&place)
        {
            alike.retain(|k| k != key);
            if alike.is_empty() {
                self.alike.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const BOUNDS: Bounds = Bounds { results: 100, bytes: 1_000, one: 100 };

    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do: no time passes but what is added to it"
    )]
    fn some_moment() -> Instant {
        Instant::now()
    }

    fn key(n: usize) -> Key {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    fn asked(space: usize, text: &str) -> Asked {
        Asked { space: key(space), question: Question::of(text).unwrap() }
    }

    fn kept(value: usize, until: Instant, asked: Option<Asked>) -> Kept<usize> {
        Kept { value, until, bytes: 10, asked, owner: "one".into() }
    }

    fn keys(shelf: &Shelf<usize>) -> usize {
        shelf.owners.values().map(|owned| owned.order.len()).sum()
    }

    #[test]
    fn who_keeps_most_gives_way() {
        let now = some_moment();
        let until = now + Duration::from_secs(60);
        let of =
            |owner: &str, n: usize, bytes: usize| Kept { bytes, owner: owner.into(), ..kept(n, until, None) };
        let mut shelf = Shelf::new(BOUNDS);
        shelf.put(key(0), of("small", 0, 1));
        (1..=300).for_each(|n| shelf.put(key(n), of("large", n, 1)));
        assert_eq!((shelf.len(), shelf.exact(&key(0), now)), (100, Some(0)), "by number");
        assert_eq!((shelf.exact(&key(201), now), shelf.exact(&key(202), now)), (None, Some(202)));
        (301..=400).for_each(|n| shelf.put(key(n), of("large", n, 100)));
        assert_eq!((shelf.bytes(), shelf.exact(&key(0), now)), (901, Some(0)), "by bytes");
        // Both have half at last.
        (401..=500).for_each(|n| shelf.put(key(n), of("small", n, 100)));
        let bytes = |name: &str| shelf.owners.get(name).map(|owned| owned.bytes);
        assert_eq!((bytes("large"), bytes("small"), shelf.bytes()), (Some(500), Some(500), 1_000));
    }

    #[test]
    fn results_are_kept_for_their_time() {
        let now = some_moment();
        let until = now + Duration::from_secs(60);
        let mut shelf = Shelf::new(BOUNDS);
        shelf.put(key(1), kept(1, until, Some(asked(0, "one?"))));
        shelf.put(key(1), kept(2, until, Some(asked(0, "one?"))));
        assert_eq!((shelf.exact(&key(1), now), shelf.exact(&key(2), now)), (Some(2), None));
        assert_eq!(shelf.similar(&asked(0, "One"), 0.97, now), Some((2, 1.0)));
        assert_eq!(shelf.similar(&asked(0, "One"), 0.97, until), None);
        assert_eq!(shelf.exact(&key(1), until), None);
        assert!(shelf.is_empty() && shelf.owners.is_empty() && shelf.alike.is_empty() && shelf.bytes() == 0);
    }

    #[test]
    fn the_most_similar_of_the_same_space_is_found() {
        let now = some_moment();
        let until = now + Duration::from_secs(60);
        let mut shelf = Shelf::new(BOUNDS);
        for (n, text) in [
            (1, "what is the capital of france"),
            (2, "hi, what's capital of France?"),
            (3, "what is the capital of spain"),
        ] {
            shelf.put(key(n), kept(n, until, Some(asked(0, text))));
        }
        let mut find = |space, text, least| shelf.similar(&asked(space, text), least, now).map(|(n, _)| n);
        assert_eq!(find(0, "What is the capital of France?", 0.97), Some(1));
        assert_eq!(find(0, "What is capital of France?", 0.97), Some(2));
        assert_eq!(find(0, "What is a capital of France?", 0.97), None);
        assert_eq!(find(1, "What is the capital of France?", 0.0), None, "another space");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let now = some_moment();
        let until = now + Duration::from_secs(60);
        let mut shelf = Shelf::new(BOUNDS);
        shelf.put(key(0), Kept { bytes: 101, ..kept(0, until, None) });
        assert!(shelf.is_empty(), "too large");
        (0..=100)
            .for_each(|n| shelf.put(key(n), Kept { bytes: 1, ..kept(n, until, Some(asked(n, "a thing"))) }));
        assert_eq!((shelf.len(), keys(&shelf), shelf.alike.len(), shelf.bytes()), (100, 100, 100, 100));
        assert_eq!((shelf.exact(&key(0), now), shelf.exact(&key(100), now)), (None, Some(100)));
        (200..=210).for_each(|n| shelf.put(key(n), Kept { bytes: 100, ..kept(n, until, None) }));
        assert_eq!((shelf.len(), shelf.alike.len(), shelf.bytes()), (10, 0, 1_000));
        // Of the same words few are enough.
        let mut shelf = Shelf::new(BOUNDS);
        (0..50).for_each(|n| shelf.put(key(n), kept(n, until, Some(asked(0, "the thing")))));
        assert_eq!((shelf.len(), keys(&shelf)), (MAX_ALIKE, MAX_ALIKE));
        assert_eq!(shelf.similar(&asked(0, "The thing!"), 1.0, now), Some((49, 1.0)));
    }
}
