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
            let whole = hash(word.text);
            self.all = self.all.saturating_add(1);
            self.distinct += u32::from(self.seen.insert(whole));
            self.ands += u32::from(word.text.eq_ignore_ascii_case(b"and"));
            if let Some(stem) = word.stem(whole) {
                self.content.insert(stem);
                self.content_words = self.content_words.saturating_add(1);
                self.letters = self.letters.saturating_add(word.bytes());
            }
        });
    }

    /// Mean length of the words of content, in bytes; 0 where there are none.
    pub(crate) fn mean_length(&self) -> f32 {
        if self.content_words == 0 { 0.0 } else { self.letters as f32 / self.content_words as f32 }
    }
}

/// A run of letters or of digits.
struct Word<'a> {
    text: &'a [u8],
    digits: bool,
}

impl Word<'_> {
    fn bytes(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    /// The stem of a word of content, as a hash of its first letters; `None` for short words, numbers and words
    /// that say nothing. `whole` is the hash of the word.
    fn stem(&self, whole: u64) -> Option<u64> {
        let length = self.text.len();
        if length < 3 || self.digits || length <= LONGEST_STOP && STOPS.has(whole) {
            return None;
        }
        Some(self.text.get(..STEM).map_or(whole, hash))
    }
}

/// Gives the stem of every word of content to `take`.
pub(crate) fn stems(text: &str, mut take: impl FnMut(u64)) {
    each(text, |word| {
        if let Some(stem) = word.stem(hash(word.text)) {
            take(stem);
        }
    });
}

const BLANK: u8 = 0;
const LETTER: u8 = 1;
const DIGIT: u8 = 2;

/// What a byte is. Bytes beyond ASCII count as letters.
static KINDS: [u8; 256] = {
    let mut table = [BLANK; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        #[expect(clippy::indexing_slicing, reason = "a constant table filled at compile time")]
        {
            table[i] = match byte {
                b if b.is_ascii_alphabetic() || !b.is_ascii() => LETTER,
                b if b.is_ascii_digit() => DIGIT,
                _ => BLANK,
            };
        }
        i += 1;
    }
    table
};

fn kind(byte: u8) -> u8 {
    KINDS.get(usize::from(byte)).copied().unwrap_or(BLANK)
}

/// Gives every run of letters, or of digits, to `take`.
fn each(text: &str, mut take: impl FnMut(&Word<'_>)) {
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let of = kind(*first);
        if of == BLANK {
            rest = after;
            continue;
        }
        let length = after.iter().position(|b| kind(*b) != of).map_or(rest.len(), |n| n.saturating_add(1));
        let (text, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        take(&Word { text, digits: of == DIGIT });
        rest = after;
    }
}

/// Slots of the table of [`STOP`]: a power of two, several times their number.
const SLOTS: usize = 512;

/// The hashes of [`STOP`], each at the place that its low bits say, or the next that was free; 0 = free.
struct Stops([u64; SLOTS]);

impl Stops {
    fn has(&self, hash: u64) -> bool {
        let at = |slot: usize| self.0.get(slot % SLOTS).copied().unwrap_or(0);
        let mut slot = hash as usize;
        loop {
            match at(slot) {
                0 => return false,
                h if h == hash => return true,
                _ => slot = slot.wrapping_add(1),
            }
        }
    }
}

static STOPS: LazyLock<Stops> = LazyLock::new(|| {
    let mut all = [0; SLOTS];
    for hash in STOP.split_ascii_whitespace().map(|w| hash(w.as_bytes())) {
        let slots = (0..SLOTS).map(|i| (hash as usize).wrapping_add(i) % SLOTS);
        let mut free = slots.filter(|slot| all.get(*slot) == Some(&0));
        if let Some(slot) = free.next().and_then(|slot| all.get_mut(slot)) {
            *slot = hash;
        }
    }
    Stops(all)
});

/// Bytes of the longest of [`STOP`].
const LONGEST_STOP: usize = 6;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// Hash of some bytes, in which ASCII letters of either case are the same: eight bytes a step.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step =
        |hash: u64, word: u64| (hash ^ lower(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (eights, rest) = bytes.as_chunks::<8>();
    let all = eights.iter().fold(OFFSET, |h, eight| step(h, u64::from_le_bytes(*eight)));
    // A bit above the rest tells its length.
    let last = rest.iter().rev().fold(1_u64, |word, b| word << 8 | u64::from(*b));
    let hash = step(all, last).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ (hash >> 32)).max(1)
}

/// Eight bytes with their ASCII capitals in lower case.
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let above_z = low + (0x7f - b'Z' as u64) * EACH;
    let capitals = (from_a ^ above_z) & !word & (0x80 * EACH);
    word | (capitals >> 2)
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
        check("Straßen strassen", 2, 2, 2);
        check("internationalisation INTERNATIONALISATION internationalisations", 3, 2, 1);
    }

    #[test]
    fn capitals_alone_are_folded() {
        for byte in 0..=u8::MAX {
            let folded = lower(u64::from_le_bytes([byte; 8])).to_le_bytes();
            assert_eq!(folded, [byte.to_ascii_lowercase(); 8], "{byte}");
        }
        assert_ne!(hash(b"a"), hash(b"a\0"));
        assert_ne!(hash(b"12345678"), hash(b"1234567812345678"));
        assert!(STOP.split_ascii_whitespace().all(|w| STOPS.has(hash(w.to_uppercase().as_bytes()))));
        assert!(!STOPS.has(hash(b"forecast")));
    }
}
