//! A regular expression whose search is linear in the text and bounded in work, and that can tell from where
//! on a growing text is still undecided.

use crate::weight;
use regex_automata::hybrid::dfa::DFA;
use regex_automata::hybrid::regex::{Cache, Regex as Lazy};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input, MatchError, MatchErrorKind};
use std::fmt;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 1024 * 1024;
/// Steps (states of the pattern times bytes of text) that the slow search may take.
const MAX_STEPS: usize = 1 << 28;
/// A search that had to rebuild its automaton so often, at fewer bytes of text than so many per state, gives up.
const REBUILDS: usize = 10;
const BYTES_PER_STATE: usize = 10;

type Caches = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>>;

/// One pattern.
pub(crate) struct Pattern {
    source: String,
    lazy: Arc<Lazy>,
    caches: Caches,
    /// For text beyond ASCII with a pattern that asks for word boundaries, which the automaton cannot do.
    whole: regex::Regex,
    states: usize,
    longest: Option<usize>,
    may_be_empty: bool,
    looks: bool,
    /// Written in this house: searched by the quickest engine, without watching its work.
    own: bool,
}

/// The search would take more work than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.source).finish()
    }
}

impl Pattern {
    /// Compiles a pattern without look-around and back-references; the message says why it is none, or that it takes
    /// more than is left of what may be built together.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let pattern = Self::compile(source)?;
        weight::count(pattern.lazy.forward().get_nfa().memory_usage())?;
        Ok(pattern)
    }

    fn compile(source: &str) -> Result<Self, String> {
        let whole = regex::RegexBuilder::new(source)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|e| e.to_string().lines().last().unwrap_or_default().trim().to_owned())?;
        let automaton = DFA::config()
            .unicode_word_boundary(true)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(REBUILDS))
            .minimum_bytes_per_state(Some(BYTES_PER_STATE));
        let lazy = Lazy::builder()
            .thompson(thompson::Config::new().nfa_size_limit(Some(MAX_COMPILED)))
            .dfa(automaton)
            .build(source)
            .map_err(|_| "it is too large".to_owned())?;
        let lazy = Arc::new(lazy);
        let hir = regex_syntax::parse(source).map_err(|e| e.to_string())?;
        let longest = hir.properties().maximum_len();
        let may_be_empty = hir.properties().minimum_len() == Some(0);
        let looks = !hir.properties().look_set().is_empty();
        let states = lazy.forward().get_nfa().states().len();
        let maker = lazy.clone();
        let caches: Caches = Pool::new(Box::new(move || maker.create_cache()));
        Ok(Pattern {
            source: source.to_owned(),
            lazy,
            caches,
            whole,
            states,
            longest,
            may_be_empty,
            looks,
            own: false,
        })
    }

    /// The same for a pattern of this house, which is known to be harmless.
    pub(crate) fn own(source: &str) -> Result<Self, String> {
        Ok(Pattern { own: true, ..Self::compile(source)? })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Bytes of the longest possible match; `None` if there is no such bound.
    pub(crate) fn longest(&self) -> Option<usize> {
        self.longest
    }

    /// Whether it matches where nothing stands.
    pub(crate) fn may_be_empty(&self) -> bool {
        self.may_be_empty
    }

    /// Whether it asks for places such as `$` or `\b`.
    pub(crate) fn looks(&self) -> bool {
        self.looks
    }

    /// The leftmost match that begins at `at` or later; what stands before `at` is seen by `^` and `\b`.
    pub(crate) fn find_at(&self, text: &str, at: usize) -> Result<Option<Range<usize>>, TooSlow> {
        if at > text.len() {
            return Ok(None);
        }
        if self.own {
            return Ok(self.whole.find_at(text, at).map(|m| m.range()));
        }
        let input = Input::new(text).range(at..);
        let mut cache = self.caches.get();
        let found = self.lazy.try_search(&mut cache, &input).or_else(|e| {
            if is_quit(&e) {
                return Err(e);
            }
            // Earlier searches filled the automaton; from a clean one the outcome depends on this text alone.
            cache.reset(&self.lazy);
            self.lazy.try_search(&mut cache, &input)
        });
        match found {
            Ok(found) => Ok(found.map(|m| m.range())),
            Err(e) if is_quit(&e) && self.states.saturating_mul(text.len()) <= MAX_STEPS => {
                Ok(self.whole.find_at(text, at).map(|m| m.range()))
            }
            Err(_) => Err(TooSlow),
        }
    }

    /// The first position from `from` on at which a match may still begin or grow when more text comes; the
    /// end of the text if there is none.
    pub(crate) fn undecided(&self, text: &str, from: usize) -> usize {
        let mut cache = self.caches.get();
        let (forward, _) = cache.as_parts_mut();
        let starts = text.get(from..).unwrap_or("").char_indices().map(|(i, _)| from.saturating_add(i));
        let dfa = self.lazy.forward();
        let mut open = starts.filter(|at| {
            let input = Input::new(text).range(*at..).anchored(Anchored::Yes);
            let Ok(mut state) = dfa.start_state_forward(forward, &input) else { return true };
            for byte in text.as_bytes().get(*at..).unwrap_or(&[]) {
                match dfa.next_state(forward, state, *byte) {
                    Ok(next) if next.is_dead() => return false,
                    Ok(next) if !next.is_quit() => state = next,
                    // What the automaton cannot tell is undecided.
                    _ => return true,
                }
            }
            true
        });
        open.next().unwrap_or(text.len())
    }
}

fn is_quit(e: &MatchError) -> bool {
    matches!(e.kind(), MatchErrorKind::Quit { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, text: &str, found: Option<(usize, usize)>, undecided: usize) {
        let p = Pattern::new(source).unwrap();
        assert_eq!(p.find_at(text, 0).unwrap().map(|r| (r.start, r.end)), found, "{source} {text}");
        assert_eq!(p.undecided(text, 0), undecided, "{source} {text}");
    }

    #[test]
    fn matches_and_what_may_still_match() {
        check("abc", "xxab", None, 2);
        check("abc", "xxabd", None, 5);
        check("abc", "abc", Some((0, 3)), 0);
        // The automaton tells a match one byte late, and needs one more to know that it is final.
        check("abc", "abcd", Some((0, 3)), 0);
        check("abc", "abcde", Some((0, 3)), 5);
        check("\\d{3,5}", "a1234", Some((1, 5)), 1);
        check("\\d{3,5}", "a12345 -1", Some((1, 6)), 8);
        check("(?m)^b", "a\nb cd", Some((2, 3)), 6);
        check("\\Ab", "ab", None, 2);
        // A word boundary beyond ASCII is more than the automaton knows; the match is right all the same.
        check("é\\b", "aé é", Some((1, 3)), 1);
    }

    #[test]
    fn the_longest_match_is_known_where_there_is_one() {
        for (source, longest) in [("a{2,7}", Some(7)), ("é|ab", Some(2)), ("a+", None), ("\\bab$", Some(2))]
        {
            assert_eq!(Pattern::new(source).unwrap().longest(), longest, "{source}");
        }
    }

    #[test]
    fn patterns_beyond_the_bounds_are_refused() {
        for source in ["(", "(?=a)", "a{1000}{1000}{1000}"] {
            assert!(Pattern::new(source).is_err(), "{source}");
        }
    }

    #[test]
    fn a_search_that_blows_up_gives_up() {
        // Every position differs in which of the last hundreds of bytes were an `a`: no automaton keeps up.
        let p = Pattern::new("[ab]*a[ab]{900}c").unwrap();
        let mut seed = 1_u64;
        let text: String = (0..400_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if seed >> 63 == 0 { 'a' } else { 'b' }
            })
            .collect();
        assert_eq!(p.find_at(&text, 0), Err(TooSlow));
    }
}
