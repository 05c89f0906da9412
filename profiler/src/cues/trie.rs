//! A trie over token hashes, laid out flat: for most words of a text, one bit says that no cue begins there.

use super::Cue;
use crate::scan::{Scanner, Token};
use std::collections::BTreeMap;

/// Cues hold no more tokens than this.
const DEEPEST: usize = 12;
/// Bits of the filter before the table: a power of two, several times the number of edges.
const FILTER_BITS: usize = 1 << 16;
/// Slots of the table of edges: a power of two, more than their number.
const SLOTS: usize = 1 << 15;
/// The root.
const ROOT: u32 = 0;

/// All cues by their tokens.
#[derive(Debug)]
pub(super) struct Trie {
    /// Whether any edge hashes to that bit.
    filter: Vec<u64>,
    /// Edges: key (node and hash of the word) and where it leads, by the key's low bits, next slot if taken; a
    /// target of 0 is an empty slot, for nothing leads to the root.
    edges: Vec<(u64, u32)>,
    /// Per node: the cues that end there, and the words that may go on from there.
    nodes: Vec<Node>,
    /// The words that may go on at a cue's start, by their first two letters.
    first_stems: BTreeMap<(char, char), Vec<(&'static str, u32)>>,
    /// The same of pairs of lower-case ASCII letters, by their places in the alphabet.
    ascii_stems: Vec<Vec<(&'static str, u32)>>,
}

#[derive(Debug, Default)]
struct Node {
    ends: Vec<u32>,
    /// A last word that may go on: its lower-case beginning and the cue.
    stems: Vec<(&'static str, u32)>,
}

fn key(node: u32, hash: u32) -> u64 {
    (u64::from(node) << 32 | u64::from(hash)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The bit of the filter, and the first slot, of a key: its high bits are mixed best.
const fn places(key: u64) -> (usize, usize) {
    ((key >> 48) as usize % FILTER_BITS, (key >> 40) as usize % SLOTS)
}

impl Trie {
    pub(super) fn build(cues: &[Cue]) -> Self {
        let mut trie = Trie {
            filter: vec![0; FILTER_BITS / 64],
            edges: vec![(0, 0); SLOTS],
            nodes: vec![Node::default()],
            first_stems: BTreeMap::new(),
            ascii_stems: vec![Vec::new(); LETTERS * LETTERS],
        };
        let mut scanner = Scanner::default();
        for (number, cue) in cues.iter().enumerate() {
            scanner.read(cue.words);
            trie.add(u32::try_from(number).unwrap_or(u32::MAX), cue, &scanner.tokens);
        }
        trie
    }

    fn add(&mut self, number: u32, cue: &Cue, tokens: &[Token]) {
        let Some((last, path)) = tokens.get(..tokens.len().min(DEEPEST)).and_then(<[Token]>::split_last)
        else {
            return;
        };
        let at = path.iter().fold(ROOT, |at, token| self.step(at, token.hash));
        if cue.open_end {
            let stem = cue.words.get(last.start as usize..).unwrap_or("");
            if at == ROOT {
                self.add_first_stem(stem, number);
            } else if let Some(node) = self.nodes.get_mut(at as usize) {
                node.stems.push((stem, number));
            }
        } else {
            let end = self.step(at, last.hash);
            if let Some(node) = self.nodes.get_mut(end as usize) {
                node.ends.push(number);
            }
        }
    }

    fn add_first_stem(&mut self, stem: &'static str, number: u32) {
        let Some(pair) = pair(stem) else { return };
        if let Some(list) = place(pair).and_then(|at| self.ascii_stems.get_mut(at)) {
            list.push((stem, number));
            return;
        }
        self.first_stems.entry(pair).or_default().push((stem, number));
    }

    fn step(&mut self, at: u32, hash: u32) -> u32 {
        if let Some(next) = self.next(at, hash) {
            return next;
        }
        let fresh = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(Node::default());
        let key = key(at, hash);
        let (bit, mut slot) = places(key);
        if let Some(word) = self.filter.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
        while self.edges.get(slot).is_some_and(|(_, to)| *to != 0) {
            slot = slot.wrapping_add(1) % SLOTS;
        }
        if let Some(free) = self.edges.get_mut(slot) {
            *free = (key, fresh);
        }
        fresh
    }

    /// Where the word leads from that node.
    fn next(&self, at: u32, hash: u32) -> Option<u32> {
        let key = key(at, hash);
        let (bit, mut slot) = places(key);
        if self.filter.get(bit / 64).is_none_or(|word| word >> (bit % 64) & 1 == 0) {
            return None;
        }
        loop {
            match self.edges.get(slot) {
                None | Some((_, 0)) => return None,
                Some((k, to)) if *k == key => return Some(*to),
                Some(_) => slot = slot.wrapping_add(1) % SLOTS,
            }
        }
    }

    /// Calls `found` with the number of every cue that starts at any token, and whether that token starts a line.
    pub(super) fn walk(&self, text: &str, tokens: &[Token], mut found: impl FnMut(usize, bool)) {
        for (i, first) in tokens.iter().enumerate() {
            let mut at = ROOT;
            for token in tokens.get(i..).unwrap_or(&[]) {
                let node = if at == ROOT { None } else { self.nodes.get(at as usize) };
                for (stem, cue) in node.map_or(&[][..], |n| &n.stems) {
                    if goes_on(text, token, stem) {
                        found(*cue as usize, first.line_start);
                    }
                }
                let Some(next) = self.next(at, token.hash) else { break };
                at = next;
                for cue in self.nodes.get(at as usize).map_or(&[][..], |n| &n.ends) {
                    found(*cue as usize, first.line_start);
                }
            }
            for (stem, cue) in self.stems_at(text, first) {
                if goes_on(text, first, stem) {
                    found(*cue as usize, first.line_start);
                }
            }
        }
    }

    /// Stems that may fit a token, by its first two letters.
    fn stems_at(&self, text: &str, token: &Token) -> &[(&'static str, u32)] {
        let start = token.start as usize;
        let stems = match text.as_bytes().get(start..).and_then(<[u8]>::first_chunk) {
            Some([a @ 0..=0x7F, b @ 0..=0x7F]) => {
                place((char::from(a | 0x20), char::from(b | 0x20))).and_then(|at| self.ascii_stems.get(at))
            }
            Some(_) => pair(text.get(start..).unwrap_or("")).and_then(|p| self.first_stems.get(&p)),
            _ => None,
        };
        stems.map_or(&[], Vec::as_slice)
    }
}

/// Letters of the alphabet.
const LETTERS: usize = 26;

/// The place of a pair of lower-case ASCII letters among all such pairs.
fn place((a, b): (char, char)) -> Option<usize> {
    Some(letter(a)? * LETTERS + letter(b)?)
}

/// The place of a lower-case ASCII letter in the alphabet.
fn letter(c: char) -> Option<usize> {
    c.is_ascii_lowercase().then(|| usize::from(c as u8 - b'a'))
}

/// The first two letters in lower case.
fn pair(word: &str) -> Option<(char, char)> {
    let mut low = word.chars().flat_map(char::to_lowercase);
    Some((low.next()?, low.next()?))
}

/// Whether the token begins with `stem`, in either case.
fn goes_on(text: &str, token: &Token, stem: &str) -> bool {
    let start = token.start as usize;
    let Some(word) = text.get(start..start.saturating_add(usize::from(token.bytes))) else { return false };
    if stem.is_ascii() {
        return word.as_bytes().get(..stem.len()).is_some_and(|w| w.eq_ignore_ascii_case(stem.as_bytes()));
    }
    let mut low = word.chars().flat_map(char::to_lowercase);
    stem.chars().all(|c| low.next() == Some(c))
}
