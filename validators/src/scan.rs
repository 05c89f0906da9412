//! Looking for what must not occur: in a whole text, and in one that grows.
//!
//! A hit at a position depends on the text from two characters before it to one character behind the longest
//! possible match, and on nothing else. So a position is decided once that much is seen, or once the pattern
//! can no longer match there, and both ways of looking find the same.

use crate::finding::{Note, decided, unverified};
use crate::growing::{Growing, Step};
use crate::pattern::{Pattern, TooSlow};
use crate::{Input, MAX_FINDINGS, Promise};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use types::{Finding, Report};

/// Longest match that a window holds back, in bytes.
pub(crate) const MAX_HOLD: usize = 8 * 1024;
/// Bytes of the character behind a match, at most.
const BEHIND: usize = 4;
/// Bytes by which a position in the middle of a character is moved to its beginning, at most.
const INSIDE: usize = 3;
/// Characters before a match that may be looked at.
const BEFORE: usize = 2;
/// Hits before a hit that are compared with it.
const OVERLAPS: usize = 8;
/// Why a search was given up.
pub(crate) const TOO_SLOW: &str = "a pattern takes too long on this text";

/// Whether a match is a hit, and which part of it is to be told or masked. It may look at the two characters
/// before the match and the one behind it.
pub(crate) type Accept = Box<dyn Fn(&str, Range<usize>) -> Option<Range<usize>> + Send + Sync>;

/// What is looked for.
pub(crate) struct Rule {
    /// A name of the rule.
    pub(crate) code: String,
    pub(crate) pattern: Pattern,
    /// Bytes of the longest match that counts in a window.
    pub(crate) longest: usize,
    pub(crate) accept: Accept,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rule").field(&self.code).field(&self.pattern).finish()
    }
}

impl Rule {
    /// A rule of this house, whose pattern is bounded and compiles.
    pub(crate) fn own(
        code: &str,
        source: &str,
        accept: impl Fn(&str, Range<usize>) -> Option<Range<usize>> + Send + Sync + 'static,
    ) -> Self {
        let pattern = Pattern::own(source).expect("the patterns of this house compile: each has a test");
        let longest = pattern.longest().expect("the patterns of this house are bounded: each has a test");
        Rule { code: code.to_owned(), pattern, longest, accept: Box::new(accept) }
    }

    /// The first hit that begins at `from` or later, but before `until`.
    fn hit(&self, text: &str, from: usize, until: usize) -> Result<Option<Range<usize>>, TooSlow> {
        let mut at = from;
        while let Some(found) = self.pattern.find_at(text, at)?.filter(|f| f.start < until) {
            if let Some(part) = (self.accept)(text, found.clone()) {
                return Ok(Some(part));
            }
            at = next(text, found.start);
        }
        Ok(None)
    }
}

/// A hit of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Position of the rule in its list.
    pub(crate) rule: usize,
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
}

/// The position behind the character at `at`.
pub(crate) fn next(text: &str, at: usize) -> usize {
    let c = text.get(at..).and_then(|t| t.chars().next());
    at.saturating_add(c.map_or(1, char::len_utf8))
}

/// The character before `at`.
pub(crate) fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at).and_then(|t| t.chars().next_back())
}

/// The character at `at`.
pub(crate) fn behind(text: &str, at: usize) -> Option<char> {
    text.get(at..).and_then(|t| t.chars().next())
}

/// Every hit of every rule, at most `max` of each, by position.
pub(crate) fn all<R: Borrow<Rule>>(rules: &[R], text: &str, max: usize) -> Result<Vec<Hit>, TooSlow> {
    let mut hits = Vec::new();
    for (position, rule) in rules.iter().enumerate() {
        let mut at = 0;
        for _ in 0..max {
            let Some(span) = rule.borrow().hit(text, at, usize::MAX)? else { break };
            at = span.end.max(next(text, span.start));
            hits.push(Hit { rule: position, span });
        }
    }
    hits.sort_by_key(|h| (h.span.start, std::cmp::Reverse(h.span.end), h.rule));
    // Several rules may stand for one thing: what overlaps a hit of the same name is that hit.
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    let code = |h: &Hit| rules.get(h.rule).map(|r| r.borrow().code.as_str());
    for hit in hits {
        let known = |k: &&Hit| k.span.end > hit.span.start && code(k) == code(&hit);
        if kept.iter().rev().take(OVERLAPS).find(known).is_none() {
            kept.push(hit);
        }
    }
    Ok(kept)
}

/// Makes the note of a hit: the rule, the place in the text, the text of the hit.
pub(crate) type Tell = Arc<dyn Fn(&Rule, Range<usize>, &str) -> Note + Send + Sync>;

/// Rules with what is said of their hits.
#[derive(Clone)]
pub(crate) struct Hunt {
    pub(crate) rules: Arc<[Arc<Rule>]>,
    pub(crate) tell: Tell,
    /// Longest text that is looked at, in bytes.
    pub(crate) max: usize,
}

impl fmt::Debug for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hunt").field(&self.rules).finish()
    }
}

impl Hunt {
    /// The hits in every choice of an answer; without a verdict where a search gives up.
    pub(crate) fn findings(&self, input: &Input<'_>) -> Result<Vec<Finding>, String> {
        let choices = &input.completion.choices;
        let mut findings = Vec::new();
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > self.max {
                return Err(too_long(self.max));
            }
            for hit in all(&self.rules, &choice.text, MAX_FINDINGS).map_err(|TooSlow| TOO_SLOW)? {
                let Some(rule) = self.rules.get(hit.rule) else { continue };
                let matched = choice.text.get(hit.span.clone()).unwrap_or("");
                let note = (self.tell)(rule, hit.span, matched);
                findings.push(note.choice(position, choices.len()).into_finding());
            }
        }
        Ok(findings)
    }

    /// The same as a report.
    pub(crate) fn report(&self, input: &Input<'_>) -> Report {
        self.findings(input).map_or_else(unverified, decided)
    }

    /// What a window holds back at most: the longest match and the character behind it; the end where some
    /// match has no such bound.
    pub(crate) fn promise(&self) -> Promise {
        let longest = self.rules.iter().map(|r| r.longest).max().unwrap_or(0);
        if longest <= MAX_HOLD {
            Promise::Window(longest.saturating_add(BEHIND + INSIDE))
        } else {
            Promise::End
        }
    }

    /// The window over one growing text.
    pub(crate) fn open(&self) -> Box<dyn Growing> {
        let decided = vec![0; self.rules.len()];
        Box::new(Window { hunt: self.clone(), text: String::new(), dropped: 0, decided })
    }
}

fn too_long(max: usize) -> String {
    format!("the text is longer than {max} bytes")
}

/// A growing text in which the rules look for hits.
struct Window {
    hunt: Hunt,
    /// The text from shortly before what is undecided.
    text: String,
    /// Bytes of the text before that.
    dropped: usize,
    /// Per rule, how far it has decided, counted in `text`.
    decided: Vec<usize>,
}

impl Window {
    fn advance(&mut self, ended: bool) -> Result<Option<Hit>, TooSlow> {
        let length = self.text.len();
        for (position, (rule, decided)) in self.hunt.rules.iter().zip(&mut self.decided).enumerate() {
            let until = if ended {
                length.saturating_add(1)
            } else {
                // Further back, a whole match and the character behind it are seen.
                let seen = length.saturating_sub(rule.longest.saturating_add(BEHIND));
                rule.pattern.undecided(&self.text, floor(&self.text, seen).max(*decided))
            };
            if let Some(span) = rule.hit(&self.text, *decided, until)? {
                return Ok(Some(Hit { rule: position, span }));
            }
            *decided = until.min(length);
        }
        Ok(None)
    }

    /// Forgets what is decided, but for the characters that may be looked back at.
    fn forget(&mut self) {
        let decided = self.decided.iter().copied().min().unwrap_or(self.text.len());
        let seen = self.text.get(..decided).unwrap_or("");
        let keep = seen.char_indices().rev().nth(BEFORE.saturating_sub(1)).map_or(0, |(i, _)| i);
        self.text.drain(..keep);
        self.dropped = self.dropped.saturating_add(keep);
        for d in &mut self.decided {
            *d = d.saturating_sub(keep);
        }
    }

    fn finding(&self, hit: &Hit) -> Option<Box<Finding>> {
        let rule = self.hunt.rules.get(hit.rule)?;
        let matched = self.text.get(hit.span.clone()).unwrap_or("");
        let place = |at: usize| at.saturating_add(self.dropped);
        let span = place(hit.span.start)..place(hit.span.end);
        Some(Box::new((self.hunt.tell)(rule, span, matched).into_finding()))
    }
}

/// The nearest character boundary at or before `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

impl Growing for Window {
    fn push(&mut self, delta: &str) -> Step {
        self.text.push_str(delta);
        if self.dropped.saturating_add(self.text.len()) > self.hunt.max {
            return Step::Unverified(too_long(self.hunt.max).into());
        }
        match self.advance(false).map(|hit| hit.and_then(|h| self.finding(&h))) {
            Err(TooSlow) => Step::Unverified(TOO_SLOW.into()),
            Ok(Some(finding)) => Step::Reject(finding),
            Ok(None) => {
                self.forget();
                let decided = self.decided.iter().copied().min().unwrap_or(self.text.len());
                Step::Continue { safe_up_to: self.dropped.saturating_add(decided) }
            }
        }
    }

    fn finish(&mut self) -> Option<Box<Finding>> {
        // A search that gives up here is told as unverified by the check of the whole text.
        let hit = self.advance(true).ok()??;
        self.finding(&hit)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! The law of windows (scenario 16), for every check that has one.

    use crate::testing::{answer, request};
    use crate::{Check, Input, Watch};
    use serde_json::json;
    use std::sync::Arc;

    /// Pushes the text in the given pieces. What is released while it grows never reaches a hit; the window
    /// rejects exactly where the check of the whole fails; never is more held back than promised.
    pub(crate) fn window(check: &Arc<dyn Check>, text: &str, pieces: &[usize]) {
        let r = request(json!({}));
        let crate::Promise::Window(hold) = check.promise(&r) else { panic!("{check:?} promises no window") };
        let report = check.check(&Input::new(&answer(text), &r));
        let first = report.findings.iter().map(|f| f.span.unwrap().0).min();
        let mut watch = Watch::open(std::slice::from_ref(check), &r);
        let mut rejected = None;
        let (mut at, mut sizes) = (0, pieces.iter().cycle());
        while at < text.len() && rejected.is_none() {
            let size = *sizes.next().unwrap_or(&1);
            let end =
                (at + size.max(1)..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
            rejected = watch.push(&text[at..end]);
            at = end;
            let released = watch.safe_up_to();
            assert!(text.is_char_boundary(released) && released <= at);
            assert!(rejected.is_some() || released + hold >= at, "{released} of {at} with a hold of {hold}");
            if let Some(first) = first {
                assert!(released <= first, "released {released} of {text:?}, the hit begins at {first}");
            }
        }
        let rejected = rejected.or_else(|| watch.finish());
        assert_eq!(rejected.is_some(), first.is_some(), "{text:?} in {pieces:?}: {rejected:?} {report:?}");
        if rejected.is_none() {
            assert_eq!(watch.safe_up_to(), text.len());
        }
    }
}
