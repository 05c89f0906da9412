//! Hashed n-grams of the edges of a request's texts: words, pairs of words, and how lines and texts begin.

use crate::scan::{Kind, Token};

/// Buckets that n-grams are hashed into: a power of two.
pub(crate) const BUCKETS: usize = 1 << 13;

/// Tokens of one piece that are looked at.
const LONGEST: usize = 400;
/// What marks a word as the first of its line or of its text.
const LINE: u32 = 0x51ed_270b;
const TEXT: u32 = 0x7f4a_7c15;
/// What stands for every number.
const NUMBER: u32 = 0x2545_f491;

/// Takes n-grams.
pub(crate) trait Sink {
    /// The piece of text whose n-grams come next, and its tokens.
    fn piece(&mut self, _text: &str, _tokens: &[Token]) {}

    /// An n-gram that was not seen before in this request: how much its place counts, 0..=1, and which token of the
    /// piece ends it.
    fn gram(&mut self, bucket: usize, weight: f32, gram: Gram);
}

/// Which n-gram of a piece: what it is made of, and the number of its last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gram {
    /// A word.
    Word(usize),
    /// The first word of a line.
    LineStart(usize),
    /// Two tokens in a row.
    Pair(usize),
    /// The first token of a text.
    TextStart(usize),
}

/// Takes none.
#[cfg(test)]
pub(crate) struct Nowhere;

#[cfg(test)]
impl Sink for Nowhere {
    fn gram(&mut self, _: usize, _: f32, _: Gram) {}
}

/// Keeps them all.
impl Sink for Vec<(u32, f32)> {
    fn gram(&mut self, bucket: usize, weight: f32, _: Gram) {
        self.push((u32::try_from(bucket).unwrap_or(0), weight));
    }
}

/// Which buckets a request has filled.
pub(crate) struct Seen([u64; BUCKETS / 64]);

impl Default for Seen {
    fn default() -> Self {
        Seen([0; BUCKETS / 64])
    }
}

impl Seen {
    /// Whether this is the first time.
    fn first(&mut self, bucket: usize) -> bool {
        let Some(word) = self.0.get_mut(bucket / 64) else { return false };
        let bit = 1_u64 << (bucket % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Gives the n-grams of a piece of text to `sink`, each bucket once in a request; `first` says that the piece
/// starts its text.
pub(crate) fn visit(tokens: &[Token], weight: f32, first: bool, seen: &mut Seen, sink: &mut impl Sink) {
    let mut give = |hash: u32, gram: Gram| {
        let bucket = hash as usize % BUCKETS;
        if seen.first(bucket) {
            sink.gram(bucket, weight, gram);
        }
    };
    let mut before = 0;
    for (i, token) in tokens.iter().take(LONGEST).enumerate() {
        let hash = if token.kind == Kind::Number { NUMBER } else { token.hash };
        if token.kind != Kind::Sign {
            give(mix(hash, 0), Gram::Word(i));
            if token.line_start {
                give(mix(hash, LINE), Gram::LineStart(i));
            }
        }
        if i > 0 {
            give(mix(hash, before), Gram::Pair(i));
        } else if first {
            give(mix(hash, TEXT), Gram::TextStart(i));
        }
        before = hash;
    }
}

const fn mix(a: u32, b: u32) -> u32 {
    let h = (a ^ b.rotate_left(13)).wrapping_mul(0x9E37_79B1);
    (h ^ (h >> 15)).wrapping_mul(0x85EB_CA77) >> 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    fn of(text: &str, first: bool) -> Vec<(u32, f32)> {
        let mut scanner = Scanner::default();
        scanner.read(text);
        let mut out = Vec::new();
        visit(&scanner.tokens, 1.0, first, &mut Seen::default(), &mut out);
        out
    }

    #[test]
    fn each_bucket_comes_once() {
        let n = of("one two", false).len();
        // Two words, one pair, one line start.
        assert_eq!(n, 4);
        assert_eq!(of("one two one two one two", false).len(), n + 1, "only the pair `two one` is new");
        assert_eq!(of("one two", true).len(), n + 1, "the first word of a text");
    }

    #[test]
    fn numbers_are_alike() {
        assert_eq!(of("in 12 days", false), of("in 4711 days", false));
        assert!(of("", true).is_empty());
    }
}
