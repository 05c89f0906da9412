//! Sources as passages that can be asked for the best match of a sentence.

use crate::sources::Source;
use crate::text::blocks::outline;
use crate::text::sentences;
use crate::text::terms::{Kind, Term, terms};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Most passages that are kept; what lies beyond is more than can be looked at.
pub(crate) const MAX_PASSAGES: usize = 20_000;
/// Most answer sentences that are compared.
pub(crate) const MAX_SENTENCES: usize = 500;
/// Longest list of passages that share one term and are still compared; a term of more says nothing.
const MAX_POSTINGS: usize = 2_000;
/// How many sentences before and after one still count as the same passage.
const REACH: usize = 4;
/// A word of no passage weighs as one that stands in the passages this many times less one of all.
const UNKNOWN: f64 = 4.0;
/// How many of the best passages are looked at with their neighbours.
const NEAREST: usize = 8;

/// A sentence of a source.
#[derive(Debug)]
pub(crate) struct Passage {
    /// Position of its source.
    pub(crate) source: usize,
    /// Bytes of the source's text.
    pub(crate) span: Range<usize>,
    keys: HashSet<String>,
}

/// The passages of all sources with what is needed to compare.
#[derive(Debug)]
pub(crate) struct Index<'s> {
    sources: &'s [Source],
    passages: Vec<Passage>,
    postings: HashMap<String, Vec<usize>>,
    /// Terms of the titles of each source: they support every sentence of it.
    heads: Vec<HashSet<String>>,
}

/// How well a sentence is supported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Match {
    /// Position of the passage.
    pub(crate) passage: usize,
    /// Share of the sentence's weight that the passage and its neighbours hold, 0..=1.
    pub(crate) support: f64,
}

impl<'s> Index<'s> {
    /// Reads the sources; `None` if they are more than can be looked at.
    pub(crate) fn new(sources: &'s [Source]) -> Option<Self> {
        let mut index = Index {
            sources,
            passages: Vec::new(),
            postings: HashMap::new(),
            heads: Vec::with_capacity(sources.len()),
        };
        for (source, s) in sources.iter().enumerate() {
            index.heads.push(terms(&s.head).into_iter().map(|t| t.key).collect());
            let outline = outline(&s.text);
            for sentence in sentences::of(&s.text, &outline) {
                index.add(source, sentence.span);
            }
            // Code is evidence too: line by line.
            for code in &outline.code {
                index.add(source, code.body.clone());
            }
            if index.passages.len() > MAX_PASSAGES {
                return None;
            }
        }
        Some(index)
    }

    fn add(&mut self, source: usize, span: Range<usize>) {
        let text = self.sources.get(source).and_then(|s| s.text.get(span.clone())).unwrap_or("");
        let keys: HashSet<String> = terms(text).into_iter().map(|t| t.key).collect();
        let at = self.passages.len();
        for k in &keys {
            self.postings.entry(k.clone()).or_default().push(at);
        }
        self.passages.push(Passage { source, span, keys });
    }

    /// The text of a passage.
    pub(crate) fn text(&self, passage: usize) -> &'s str {
        let p = self.passages.get(passage);
        p.and_then(|p| self.sources.get(p.source)?.text.get(p.span.clone())).unwrap_or("")
    }

    /// Whether any source holds the term.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.postings.contains_key(key) || self.heads.iter().any(|h| h.contains(key))
    }

    /// What a term is worth: rarer is more, and names and numbers are more than words.
    ///
    /// `w = kind · ln(1 + N / (1 + df))`, N passages, df of them with the term. A word that no passage has is
    /// more often another word for the same than something made up, so it weighs as little as a common one; a
    /// name or number that no passage has weighs double.
    pub(crate) fn weight(&self, term: &Term) -> f64 {
        let n = count(self.passages.len());
        let df = self.postings.get(&term.key).map_or(0, Vec::len);
        let known = df > 0 || self.knows(&term.key);
        let kind = match (term.kind, known) {
            (Kind::Word, true) => 1.0,
            (Kind::Word, false) => return (1.0 + UNKNOWN).ln(),
            (Kind::Name, true) => 1.5,
            (Kind::Number, true) => 2.0,
            (Kind::Name, false) => 3.0,
            (Kind::Number, false) => 4.0,
        };
        kind * (1.0 + n / (1.0 + count(df))).ln()
    }

    /// The passages that hold most of the terms themselves, best first.
    pub(crate) fn nearest(&self, terms: &[Term], most: usize) -> Vec<usize> {
        self.ranked(&self.weights(terms)).into_iter().take(most).collect()
    }

    /// The passage that supports the terms best; neighbouring sentences of the same source help it. Granted
    /// terms, such as those of the question, need no support: they count only where they have it.
    pub(crate) fn best(&self, terms: &[Term], granted: &HashSet<String>) -> Option<Match> {
        let weights = self.weights(terms);
        let mut best: Option<Match> = None;
        // Only the most promising passages are worth a look at their neighbours.
        for passage in self.ranked(&weights).into_iter().take(NEAREST) {
            let support = self.support(passage, &weights, granted);
            // Of equals the first one: it holds more of the terms itself.
            if best.is_none_or(|b| support > b.support) {
                best = Some(Match { passage, support });
            }
        }
        best
    }

    fn weights<'t>(&self, terms: &'t [Term]) -> HashMap<&'t str, f64> {
        let mut weights: HashMap<&str, f64> = HashMap::new();
        for t in terms {
            let w = weights.entry(&t.key).or_insert(0.0);
            *w = w.max(self.weight(t));
        }
        weights
    }

    /// Passages by the weight of the terms they hold themselves, best first.
    fn ranked(&self, weights: &HashMap<&str, f64>) -> Vec<usize> {
        let mut scores: HashMap<usize, f64> = HashMap::new();
        for (key, w) in weights {
            let Some(list) = self.postings.get(*key).filter(|l| l.len() <= MAX_POSTINGS) else { continue };
            for p in list {
                *scores.entry(*p).or_insert(0.0) += w;
            }
        }
        let mut ranked: Vec<(usize, f64)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().map(|(p, _)| p).collect()
    }

    /// Share of the weight of the terms that the passage, its neighbours or the title of its source hold.
    fn support(&self, passage: usize, weights: &HashMap<&str, f64>, granted: &HashSet<String>) -> f64 {
        let source = self.passages.get(passage).map(|p| p.source);
        let from = passage.saturating_sub(REACH);
        let near: Vec<&Passage> = (from..=passage.saturating_add(REACH))
            .filter_map(|p| self.passages.get(p))
            .filter(|p| Some(p.source) == source)
            .collect();
        let head = source.and_then(|s| self.heads.get(s));
        let (mut held, mut lacking) = (0.0, 0.0);
        for (key, w) in weights {
            if near.iter().any(|p| p.keys.contains(*key)) || head.is_some_and(|h| h.contains(*key)) {
                held += w;
            } else if !granted.contains(*key) {
                lacking += w;
            }
        }
        held / (held + lacking).max(f64::MIN_POSITIVE)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of passages are far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sources: &[&str], sentence: &str, want: Option<&str>, support: Range<f64>) {
        let sources: Vec<Source> =
            sources.iter().map(|t| Source { text: (*t).to_owned(), ..Source::default() }).collect();
        let index = Index::new(&sources).unwrap();
        let best = index.best(&terms(sentence), &HashSet::new());
        assert_eq!(best.map(|m| index.text(m.passage)), want, "{sentence}");
        if let Some(m) = best {
            assert!(support.contains(&m.support), "{sentence}: {}", m.support);
        }
    }

    #[test]
    fn the_best_passage_is_found() {
        let sources =
            ["The Eiffel Tower is in Paris. It was built in 1889.", "Berlin is the capital of Germany."];
        check(&sources, "Paris has the Eiffel Tower.", Some("The Eiffel Tower is in Paris."), 0.99..1.01);
        check(&sources, "The tower was built in 1889.", Some("It was built in 1889."), 0.99..1.01);
        check(
            &sources,
            "The capital of Germany is Bonn.",
            Some("Berlin is the capital of Germany."),
            0.3..0.7,
        );
        check(&sources, "Bananas are yellow.", None, 0.0..0.0);
        check(&[], "Anything.", None, 0.0..0.0);
    }

    #[test]
    fn titles_support_their_source() {
        let sources =
            [Source { head: "Speed Racer".into(), text: "The car is fast.".into(), ..Source::default() }];
        let index = Index::new(&sources).unwrap();
        assert!(index.best(&terms("Speed Racer has a fast car"), &HashSet::new()).unwrap().support > 0.99);
        assert!(index.knows("racer") || index.knows("rac"), "titles are known");
    }
}
