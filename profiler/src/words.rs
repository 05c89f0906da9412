//! Words of a text as hashes: stems of what it is about, and how many of them differ.

use std::sync::LazyLock;

/// Words that say nothing of what a text is about.
const STOP: &str = "the and for with from that this you your please have has was were will would could should \
    there which who when where what than then them they their she his her its into using use are can not how \
    does did but any all one out our about also been being more some such only other over very just";

/// Letters that make a stem: enough to join `forecast` and `forecasts`, few enough to join most inflections.
const STEM: u32 = 5;

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

    /// Whether the hash, or another of the same bit, is in it.
    fn may_have(&self, hash: u64) -> bool {
        let bit = hash % BITS;
        let word = usize::try_from(bit / 64).ok().and_then(|w| self.bits.get(w));
        word.is_some_and(|w| w >> (bit % 64) & 1 == 1)
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
        each_hashed(text, |word| {
            self.all = self.all.saturating_add(1);
            self.distinct += u32::from(self.seen.insert(word.whole));
            self.ands += u32::from(word.whole == AND);
            if let Some(s) = word.stem() {
                self.content.insert(s);
                self.content_words = self.content_words.saturating_add(1);
                self.letters = self.letters.saturating_add(word.bytes);
            }
        });
    }

    /// Mean length of the words of content, in bytes; 0 where there are none.
    pub(crate) fn mean_length(&self) -> f32 {
        if self.content_words == 0 { 0.0 } else { self.letters as f32 / self.content_words as f32 }
    }
}

/// A run of letters or of digits, by its hashes in lower case.
struct Word {
    whole: u64,
    /// Of its first [`STEM`] bytes.
    start: u64,
    bytes: u32,
    digits: bool,
}

impl Word {
    /// The stem of a word of content: its first letters; `None` for short words, numbers and words that say
    /// nothing.
    fn stem(&self) -> Option<u64> {
        (self.bytes >= 3 && !self.digits && !self.is_stop()).then_some(self.start)
    }

    fn is_stop(&self) -> bool {
        self.bytes <= LONGEST_STOP && STOPS.has(self.whole)
    }
}

/// Gives the stem of every word of content to `take`.
pub(crate) fn stems(text: &str, mut take: impl FnMut(u64)) {
    each_hashed(text, |word| {
        if let Some(stem) = word.stem() {
            take(stem);
        }
    });
}

const BLANK: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;

/// What a byte is, and itself in lower case. Bytes beyond ASCII count as letters.
static BYTES: [(u8, u8); 256] = {
    let mut table = [(BLANK, 0); 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        let kind = match byte {
            b if b.is_ascii_alphabetic() || !b.is_ascii() => LETTER,
            b if b.is_ascii_digit() => DIGIT,
            _ => BLANK,
        };
        #[expect(clippy::indexing_slicing, reason = "a constant table filled at compile time")]
        {
            table[i] = (kind, byte.to_ascii_lowercase());
        }
        i += 1;
    }
    table
};

/// Gives every run of letters, or of digits, to `take`; each byte is looked at once.
fn each_hashed(text: &str, mut take: impl FnMut(&Word)) {
    let (mut of, mut hash, mut start, mut bytes) = (BLANK, OFFSET, OFFSET, 0_u32);
    let mut end = |of: u8, hash: u64, start: u64, bytes: u32| {
        let start = if bytes > STEM { start } else { hash };
        take(&Word { whole: finish(hash), start: finish(start), bytes, digits: of == DIGIT });
    };
    for b in text.bytes() {
        let (kind, low) = BYTES.get(usize::from(b)).copied().unwrap_or((BLANK, 0));
        if kind != of {
            if of != BLANK {
                end(of, hash, start, bytes);
            }
            (of, hash, bytes) = (kind, OFFSET, 0);
        }
        if kind != BLANK {
            hash = step(hash, low);
            bytes = bytes.saturating_add(1);
            if bytes == STEM {
                start = hash;
            }
        }
    }
    if of != BLANK {
        end(of, hash, start, bytes);
    }
}

/// The hashes of [`STOP`].
struct Stops {
    /// Most words are told by this already.
    some: Set,
    /// In order.
    all: Vec<u64>,
}

impl Stops {
    fn has(&self, hash: u64) -> bool {
        self.some.may_have(hash) && self.all.binary_search(&hash).is_ok()
    }
}

static STOPS: LazyLock<Stops> = LazyLock::new(|| {
    let mut all: Vec<u64> = STOP.split_ascii_whitespace().map(|w| hash(w.as_bytes())).collect();
    all.sort_unstable();
    let mut some = Set::default();
    for hash in &all {
        some.insert(*hash);
    }
    Stops { some, all }
});

/// Bytes of the longest of [`STOP`].
const LONGEST_STOP: u32 = 6;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of `and`.
const AND: u64 = finish(step(step(step(OFFSET, b'a'), b'n'), b'd'));

/// FNV-1a.
const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3)
}

/// The low bits of FNV mix worst, and they choose the place.
const fn finish(hash: u64) -> u64 {
    hash ^ (hash >> 32)
}

/// FNV-1a of the bytes.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    finish(bytes.iter().fold(OFFSET, |h, b| step(h, *b)))
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
