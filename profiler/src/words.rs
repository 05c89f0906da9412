//! Words of a text as hashes: stems of what it is about, and how many of them differ.

use std::sync::LazyLock;

/// Words that say nothing of what a text is about.
const STOP: &str = "the and for with from that this you your please have has was were will would could should \
    there which who when where what than then them they their she his her its into using use are can not how \
    does did but any all one out our about also been being more some such only other over very just";

/// Letters that make a stem: enough to join `forecast` and `forecasts`, few enough to join most inflections.
const STEM: usize = 5;

/// Bits of a [`Set`].
const BITS: u64 = 4_096;

/// A set of hashes, by one bit each: exact enough for shares, and of one size.
#[derive(Clone)]
pub(crate) struct Set {
    bits: [u64; 64],
    len: u32,
}

impl Default for Set {
    fn default() -> Self {
        Set { bits: [0; 64], len: 0 }
    }
}

impl Set {
    /// Whether the hash was new.
    pub(crate) fn insert(&mut self, hash: u64) -> bool {
        let bit = hash % BITS;
        let Some(word) = usize::try_from(bit / 64).ok().and_then(|w| self.bits.get_mut(w)) else {
            return false;
        };
        let mask = 1_u64 << (bit % 64);
        let new = *word & mask == 0;
        *word |= mask;
        self.len += u32::from(new);
        new
    }

    /// Adds a stem; `None` is a word without one.
    pub(crate) fn add(&mut self, stem: Option<u64>) {
        if let Some(hash) = stem {
            self.insert(hash);
        }
    }

    /// Share of its members that are in `other`, 0 if it is empty.
    pub(crate) fn overlap(&self, other: &Set) -> f32 {
        if self.len == 0 {
            return 0.0;
        }
        let both: u32 = self.bits.iter().zip(&other.bits).map(|(a, b)| (a & b).count_ones()).sum();
        both as f32 / self.len as f32
    }
}

/// The words of a text.
#[derive(Default)]
pub(crate) struct Words {
    /// Words and numbers.
    pub(crate) all: u32,
    /// Different ones.
    pub(crate) distinct: u32,
    /// `and`s.
    pub(crate) ands: u32,
    /// Stems of what it is about.
    pub(crate) content: Set,
    seen: Set,
    letters: u32,
    content_words: u32,
}

impl Words {
    /// Adds the words of a text.
    pub(crate) fn read(&mut self, text: &str) {
        each(text, |word| {
            self.all = self.all.saturating_add(1);
            self.distinct += u32::from(self.seen.insert(hash_lower(word)));
            self.ands += u32::from(word.eq_ignore_ascii_case(b"and"));
            if let Some(s) = stem(word) {
                self.content.insert(s);
                self.content_words = self.content_words.saturating_add(1);
                self.letters = self.letters.saturating_add(u32::try_from(word.len()).unwrap_or(0));
            }
        });
    }

    /// Mean length of the words of content, in bytes; 0 where there are none.
    pub(crate) fn mean_length(&self) -> f32 {
        if self.content_words == 0 { 0.0 } else { self.letters as f32 / self.content_words as f32 }
    }
}

/// Gives every run of letters, or of digits, to `take`. Bytes beyond ASCII count as letters.
pub(crate) fn each(text: &str, mut take: impl FnMut(&[u8])) {
    let kind = |b: &u8| match b {
        b if b.is_ascii_alphabetic() || !b.is_ascii() => 1_u8,
        b if b.is_ascii_digit() => 2,
        _ => 0,
    };
    for run in text.as_bytes().chunk_by(|a, b| kind(a) == kind(b)) {
        if run.first().is_some_and(|b| kind(b) != 0) {
            take(run);
        }
    }
}

/// The stem of a word of content: its first letters, in lower case; `None` for short words, numbers and words
/// that say nothing.
pub(crate) fn stem(word: &[u8]) -> Option<u64> {
    if word.len() < 3 || word.first().is_none_or(u8::is_ascii_digit) || is_stop(word) {
        return None;
    }
    Some(hash_lower(word.get(..STEM).unwrap_or(word)))
}

/// Hashes of [`STOP`], in order.
static STOPS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut all: Vec<u64> = STOP.split_ascii_whitespace().map(|w| hash(w.as_bytes())).collect();
    all.sort_unstable();
    all
});

fn is_stop(word: &[u8]) -> bool {
    word.len() <= 6 && STOPS.binary_search(&hash_lower(word)).is_ok()
}

/// FNV-1a of the bytes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    fnv(bytes.iter().copied())
}

fn hash_lower(bytes: &[u8]) -> u64 {
    fnv(bytes.iter().map(u8::to_ascii_lowercase))
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    let h = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV mix worst, and they choose the place.
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, all: u32, distinct: u32, about: u32) {
        let mut w = Words::default();
        w.read(text);
        assert_eq!((w.all, w.distinct, w.content.len), (all, distinct, about), "{text:?}");
    }

    #[test]
    fn words_are_counted_and_stemmed() {
        check("", 0, 0, 0);
        check("The forecast, the Forecasts!", 4, 3, 1);
        check("x1 = 22 and 22", 5, 4, 0);
        check("größe Größe", 2, 1, 1);
    }
}
